package policy

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/milena-kafka/milena/config"
)

// Reason says why a source topic is not copied. The zero Reason means that it is copied.
type Reason string

// The reasons. They are metric labels and part of the output of `milena check`, so they never change meaning.
const (
	// ReasonInternal is an internal topic of Kafka, Kafka Connect, MirrorMaker 2 or milena.
	ReasonInternal Reason = "internal"
	// ReasonExcluded is a topic that topics_exclude matches.
	ReasonExcluded Reason = "excluded"
	// ReasonNotSelected is a topic that no expression of topics matches.
	ReasonNotSelected Reason = "not_selected"
	// ReasonCycle is a topic that comes from the target, directly or through other clusters.
	ReasonCycle Reason = "cycle"
	// ReasonNotRenamed is a topic that is not in the table of a rename flow.
	ReasonNotRenamed Reason = "not_renamed"
	// ReasonNameTooLong is a topic whose target name exceeds Kafka's 249 characters.
	ReasonNameTooLong Reason = "name_too_long"
)

// Explain returns the reason as the rest of a sentence that starts with the topic's name.
func (r Reason) Explain() string {
	switch r {
	case ReasonInternal:
		return "is an internal topic of Kafka, Connect, MirrorMaker 2 or milena"
	case ReasonExcluded:
		return "matches topics_exclude"
	case ReasonNotSelected:
		return "matches no expression of topics"
	case ReasonCycle:
		return "comes from the target cluster, so copying it back would create a cycle"
	case ReasonNotRenamed:
		return "is not in the rename table"
	case ReasonNameTooLong:
		return "would have a target name of more than 249 characters; use a shorter alias, identity naming or a rename table"
	default:
		return "is copied"
	}
}

// maxTopicLength is Kafka's Topic.MAX_NAME_LENGTH: a partition's directory name has to fit in 255 bytes.
const maxTopicLength = 249

// heartbeatsTopic is the name that MirrorMaker 2 and its Java client expect literally, whatever the separator.
const heartbeatsTopic = "heartbeats"

// Topics decides which topics of one flow are copied and what their names on the target are. It is immutable.
type Topics struct {
	include, exclude []*regexp.Regexp
	naming           string
	prefix           string // source alias and separator
	targetHop        string // separator, target alias, separator: names that contain it form a cycle
	separator        string
	rename           map[string]string // source name -> target name
	renamed          map[string]string // target name -> source name
	lists            []list            // as they were written
}

// NewTopics compiles the topic selection and naming of one flow. The aliases are those of the flow's clusters; they
// are not read from f so that a caller may resolve them first. The error lists all problems.
func NewTopics(f config.Flow, sourceAlias, targetAlias string) (*Topics, error) {
	include, includeErr := compileList("topics", f.Topics)
	exclude, excludeErr := compileList("topics_exclude", f.TopicsExclude)
	t := &Topics{
		include:   include,
		exclude:   exclude,
		lists:     topicLists(f),
		naming:    f.Naming,
		separator: f.Separator,
		prefix:    sourceAlias + f.Separator,
		targetHop: f.Separator + targetAlias + f.Separator,
	}
	errs := []error{includeErr, excludeErr}
	switch f.Naming {
	case config.NamingPrefix, config.NamingIdentity:
		// Identity naming needs the prefix too: `heartbeats` gets it, or the heartbeats of two clusters would mix.
		switch {
		case sourceAlias == "" || targetAlias == "":
			errs = append(errs, errors.New("source, target: both aliases are required"))
		case f.Separator == "" || !legalTopicChars(f.Separator):
			errs = append(errs, fmt.Errorf("separator: %q cannot be part of a topic name; use `.`, `-`, `_` or letters and digits", f.Separator))
		case !legalTopicChars(sourceAlias):
			errs = append(errs, fmt.Errorf("source: alias %q cannot be part of a topic name; use letters, digits, `.`, `_` and `-`", sourceAlias))
		}
	case config.NamingRename:
		errs = append(errs, t.setRename(f.Rename))
	default:
		errs = append(errs, fmt.Errorf("naming: %q is not prefix, identity or rename", f.Naming))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return t, nil
}

// setRename checks the table: every target name is valid and belongs to one source topic.
func (t *Topics) setRename(table map[string]string) error {
	var errs []error
	if len(table) == 0 {
		errs = append(errs, errors.New("rename: the table is empty, so nothing would be copied"))
	}
	t.rename, t.renamed = maps.Clone(table), make(map[string]string, len(table))
	for _, source := range slices.Sorted(maps.Keys(table)) {
		target := table[source]
		if err := checkTopicName(target); err != nil {
			errs = append(errs, fmt.Errorf("rename.%s: %w", source, err))
		}
		if IsInternal(target, t.separator) {
			errs = append(errs, fmt.Errorf("rename.%s: target name %q is that of an internal topic", source, target))
		}
		if other, taken := t.renamed[target]; taken {
			errs = append(errs, fmt.Errorf("rename.%s: target name %q is used for %s already; two source topics in one target topic could not be told apart", source, target, other))
		}
		t.renamed[target] = source
	}
	return errors.Join(errs...)
}

// Target returns the name of a source topic on the target with an empty reason, or the reason why it is not copied.
func (t *Topics) Target(source string) (target string, reason Reason) {
	switch {
	case IsInternal(source, t.separator):
		return "", ReasonInternal
	case t.naming == config.NamingRename && t.rename[source] == "":
		return "", ReasonNotRenamed
	case matchesAny(t.exclude, source):
		return "", ReasonExcluded
	case !t.selected(source):
		return "", ReasonNotSelected
	case t.isCycle(source):
		return "", ReasonCycle
	}
	target = t.name(source)
	switch {
	case len(target) > maxTopicLength:
		return "", ReasonNameTooLong
	case IsInternal(target, t.separator):
		// The source topic `checkpoints.internal` is harmless, but Java clients would read `A.checkpoints.internal`.
		return "", ReasonInternal
	}
	return target, ""
}

// Source returns the source topic whose remote topic has this name. The ok result is false if the flow copies nothing to it.
func (t *Topics) Source(target string) (source string, ok bool) {
	switch t.naming {
	case config.NamingRename:
		source, ok = t.renamed[target]
	case config.NamingIdentity:
		source, ok = target, true
		if target == t.prefix+heartbeatsTopic {
			source = heartbeatsTopic
		}
	default:
		source, ok = strings.CutPrefix(target, t.prefix)
	}
	if !ok || source == "" {
		return "", false
	}
	if back, reason := t.Target(source); reason != "" || back != target {
		return "", false
	}
	return source, true
}

// Collision is a group of source topics of which only one can be copied.
type Collision struct {
	// Sources are the topics, sorted; always two or more.
	Sources []string
	// Targets are their names on the target, sorted, without duplicates: one name if all would be copied into one
	// topic, several if Kafka forbids having these names together.
	Targets []string
}

// Explain returns the collision as a sentence.
func (c Collision) Explain() string {
	sources := strings.Join(c.Sources, ", ")
	if len(c.Targets) == 1 {
		return fmt.Sprintf("topics %s would all be copied into %s; exclude all but one", sources, c.Targets[0])
	}
	return fmt.Sprintf("topics %s would be copied to %s, which have the same name in Kafka's metrics, so brokers refuse to have them together; exclude all but one or use a rename table",
		sources, strings.Join(c.Targets, ", "))
}

// Collisions finds the source topics whose names on the target are the same, or differ only in '.' and '_': Kafka's
// metrics write both as '_', so brokers refuse the second such topic (INVALID_TOPIC_EXCEPTION). Topics that are not
// copied are ignored. The result is sorted by its first source topic.
func (t *Topics) Collisions(sources []string) []Collision {
	groups := map[string]map[string]string{} // name with '_' for '.' -> source -> target
	for _, source := range sources {
		target, reason := t.Target(source)
		if reason != "" {
			continue
		}
		key := strings.ReplaceAll(target, ".", "_")
		if groups[key] == nil {
			groups[key] = map[string]string{}
		}
		groups[key][source] = target
	}
	var collisions []Collision
	for _, group := range groups {
		if len(group) < 2 {
			continue
		}
		targets := slices.Sorted(maps.Values(group))
		collisions = append(collisions, Collision{
			Sources: slices.Sorted(maps.Keys(group)),
			Targets: slices.Compact(targets),
		})
	}
	slices.SortFunc(collisions, func(a, b Collision) int { return strings.Compare(a.Sources[0], b.Sources[0]) })
	return collisions
}

// selected reports whether the flow selects the topic. In a rename flow without a topics list, the table is the list.
func (t *Topics) selected(source string) bool {
	if t.naming == config.NamingRename {
		return len(t.include) == 0 || matchesAny(t.include, source)
	}
	return t.isHeartbeats(source) || matchesAny(t.include, source)
}

// isHeartbeats follows MirrorMaker 2's isHeartbeatsTopic under prefix naming: the name after all hops is
// `heartbeats`. Under identity naming MirrorMaker 2 renames every topic that ends in "heartbeats", including a user's
// device-heartbeats; here only the exact name counts.
func (t *Topics) isHeartbeats(source string) bool {
	if t.naming == config.NamingPrefix && strings.HasSuffix(source, t.separator+heartbeatsTopic) {
		return true
	}
	return source == heartbeatsTopic
}

// isCycle reports whether the target's alias is one of the topic's hops. Every part of the name in front of a
// separator is a hop. The aliases of clusters beyond this flow are not known here, so in `orders.dr.v1`, which no
// flow created, dr counts as a hop too, as in MirrorMaker 2. A topic that is refused with a reason is noticed; a
// cycle would fill two clusters.
func (t *Topics) isCycle(source string) bool {
	switch t.naming {
	case config.NamingPrefix:
	case config.NamingIdentity:
		// Identity names have no hops, except those of heartbeats.
		if !strings.HasSuffix(source, t.separator+heartbeatsTopic) {
			return false
		}
	default:
		return false
	}
	return strings.Contains(t.separator+source, t.targetHop)
}

func (t *Topics) name(source string) string {
	switch {
	case t.naming == config.NamingRename:
		return t.rename[source]
	case t.naming == config.NamingIdentity && source != heartbeatsTopic:
		return source
	default:
		return t.prefix + source
	}
}
