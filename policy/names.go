package policy

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// IsInternal reports whether a topic is an internal topic, which no flow may copy: Kafka's (`__*`), those of
// MirrorMaker 2 and its Connect workers by the rules of Kafka 4.0 (KIP-1074; before it, every user topic that ended
// in "internal" was internal), and milena's journals, control topics and exports. The separator is that of MirrorMaker 2 on these clusters. Names
// with '.' are always recognized, because KIP-949 lets internal topics keep '.', and Connect's topics always have it.
func IsInternal(topic, separator string) bool {
	if strings.HasPrefix(topic, "__") || strings.HasPrefix(topic, ".") {
		return true
	}
	for _, own := range []string{".journal", ".control"} {
		if strings.HasPrefix(topic, "milena.") && strings.HasSuffix(topic, own) && len(topic) > len("milena.")+len(own) {
			return true
		}
	}
	if IsExport(topic) {
		return true
	}
	for _, s := range []string{".", separator} {
		if s == "" {
			continue
		}
		// mm2-offset-syncs.<alias>.internal and Connect's mm2-(offsets|status|configs).<alias>.internal.
		if strings.HasPrefix(topic, "mm2") && strings.HasSuffix(topic, s+"internal") {
			return true
		}
		// <alias>.checkpoints.internal.
		if strings.HasSuffix(topic, s+"checkpoints"+s+"internal") {
			return true
		}
	}
	return false
}

// ExportTopic returns the name of the topic to which the records of a topic are exported that a flow has not copied.
func ExportTopic(flow, topic string) string { return "milena." + flow + ".diverged." + topic }

// IsExport reports whether a name is one of ExportTopic.
func IsExport(topic string) bool {
	of, own := strings.CutPrefix(topic, "milena.")
	flow, name, export := strings.Cut(of, ".diverged.")
	return own && export && flow != "" && name != ""
}

// checkTopicName applies Kafka's Topic.validate.
func checkTopicName(name string) error {
	switch {
	case name == "":
		return errors.New("target name is empty")
	case name == "." || name == "..":
		return fmt.Errorf("target name %q is not allowed by Kafka", name)
	case len(name) > maxTopicLength:
		return fmt.Errorf("target name %q has %d characters; Kafka allows %d", name, len(name), maxTopicLength)
	case !legalTopicChars(name):
		return fmt.Errorf("target name %q may only have letters, digits, `.`, `_` and `-`", name)
	}
	return nil
}

func legalTopicChars(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// compileList compiles expressions that match whole names, as Java's Matcher.matches does in MirrorMaker 2. Without
// the group, `a|b` would match every name that starts with a.
func compileList(key string, expressions []string) ([]*regexp.Regexp, error) {
	var errs []error
	compiled := make([]*regexp.Regexp, 0, len(expressions))
	for i, expression := range expressions {
		// Alone first: `a)(b` must be an error, not two groups.
		if _, err := regexp.Compile(expression); err != nil {
			errs = append(errs, fmt.Errorf("%s[%d]: %q is not a regular expression: %w", key, i, expression, err))
			continue
		}
		re, err := regexp.Compile("^(?:" + expression + ")$")
		if err != nil {
			errs = append(errs, fmt.Errorf("%s[%d]: %q is not a regular expression: %w", key, i, expression, err))
			continue
		}
		compiled = append(compiled, re)
	}
	return compiled, errors.Join(errs...)
}

func matchesAny(list []*regexp.Regexp, name string) bool {
	for _, re := range list {
		if re.MatchString(name) {
			return true
		}
	}
	return false
}
