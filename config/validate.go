package config

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Validate reports everything that cannot work, as far as this is known without network access and without opening a
// file. The error is an *Error. Load and Parse call it; call it for a Config that a program built.
func (c *Config) Validate() error { return errorOf(c.problems()) }

// problemList collects problems in the order in which they are found. The caller adds lines.
type problemList []Problem

func (c *problemList) add(path, format string, args ...any) {
	*c = append(*c, Problem{Path: path, Text: fmt.Sprintf(format, args...)})
}

// oneOf adds a problem unless value is allowed.
func (c *problemList) oneOf(path, value string, allowed ...string) {
	if slices.Contains(allowed, value) {
		return
	}
	c.add(path, "%q is not a valid value; use %s", value, choice(allowed))
}

// choice joins words as "a, b or c".
func choice(words []string) string {
	last := len(words) - 1
	if last < 1 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// atLeast adds a problem if a duration is below its lower bound. The message includes the reason for the bound.
func (c *problemList) atLeast(path string, d, bound time.Duration, why string) {
	if d < bound {
		c.add(path, "%v is too short; use at least %v, %s", d, bound, why)
	}
}

func (c *Config) problems() []Problem {
	var found problemList
	for _, alias := range slices.Sorted(maps.Keys(c.Clusters)) {
		cluster := c.Clusters[alias]
		cluster.validate(alias, &found)
	}
	switch {
	case len(c.Clusters) == 0:
		found.add("clusters", "no clusters; add at least a source and a target")
	case len(c.Flows) == 0:
		found.add("flows", "no flows; add one for each direction, such as [{source: a, target: b}]")
	}
	for i := range c.Flows {
		c.validateFlow(i, &found)
	}
	validateTogether(c, &found)
	c.validateProcess(&found)
	return found
}

func (c *Config) validateProcess(found *problemList) {
	c.HTTP.validate(found)
	found.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	found.oneOf("log.format", c.Log.Format, "auto", "text", "json")
	c.OTel.validate(found)
	found.oneOf("metrics.partitions", c.Metrics.Partitions, SeriesAll, SeriesLagging, SeriesNone)
	if c.Buffer < 4*MiB {
		found.add("buffer", "%v is too small; use at least %v, so that a fetch from each broker fits", c.Buffer, 4*MiB)
	}
	if why := checkName(c.Instance, maxTopicName); c.Instance != "" && why != "" {
		found.add("instance", "the id %q %s", c.Instance, why)
	}
	found.atLeast("shutdown_timeout", c.ShutdownTimeout, time.Second, "so that batches in flight can be acknowledged")
}

func (o OTel) validate(found *problemList) {
	if o.Endpoint == "" {
		return
	}
	u, err := url.Parse(o.Endpoint)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "":
		found.add("otel.endpoint", "this is not the URL of a receiver; use one such as http://collector:4318")
	case u.User != nil:
		found.add("otel.endpoint", "the URL has a password, which the log would show; set OTEL_EXPORTER_OTLP_HEADERS instead")
	}
}

// names is the pattern of characters that Kafka allows in topic names. Aliases and flow names become parts of topic
// names.
var names = regexp.MustCompile(`^[a-zA-Z0-9._-]+$`)

const (
	maxTopicName = 249 // Kafka's own limit
	// A flow's name is between "milena." and ".journal" in the name of its journal topic.
	maxFlowName = maxTopicName - len("milena.") - len(".journal")
)

// checkName says why a name cannot be a topic name or a part of one, or returns "".
func checkName(name string, limit int) string {
	switch {
	case name == "":
		return "is empty"
	case len(name) > limit:
		return fmt.Sprintf("has %d characters; Kafka allows %d here", len(name), limit)
	case !names.MatchString(name):
		return "has a character that Kafka does not allow in topic names; use letters, digits, dot, dash and underscore"
	case name == "." || name == "..":
		return "is reserved"
	default:
		return ""
	}
}

// checkAddress says why text is not host:port, or returns "". A port below lowest is refused: port 0 means "any free
// port" to a listener and nothing to a client.
func checkAddress(text string, lowest int) string {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		why := err.Error()
		if ae := (*net.AddrError)(nil); errors.As(err, &ae) {
			why = ae.Err
		}
		return "is not an address: " + why
	}
	if host == "" && lowest > 0 {
		return "has no host"
	}
	if n, err := strconv.Atoi(port); err != nil || n < lowest || n > 65535 {
		return fmt.Sprintf("has no port between %d and 65535", lowest)
	}
	return ""
}

func (c *Cluster) validate(alias string, found *problemList) {
	path := "clusters." + alias
	// The alias is part of topic names with prefix naming, and a label everywhere.
	if why := checkName(alias, maxTopicName); why != "" {
		found.add(path, "the alias %q %s", alias, why)
	}
	if len(c.Brokers) == 0 {
		found.add(path+".brokers", "no brokers; add at least one host:port")
	}
	for i, b := range c.Brokers {
		if why := checkAddress(b, 1); why != "" {
			found.add(fmt.Sprintf("%s.brokers[%d]", path, i), "%q %s; use host:port such as kafka-1:9092", b, why)
		}
	}
	if c.ClientID == "" {
		found.add(path+".client_id", "is empty; remove the key to use the default, milena")
	}
	if c.TLS != nil {
		c.TLS.validate(path+".tls", found)
	}
	if c.SASL != nil {
		c.SASL.validate(path+".sasl", found)
	}
}

// compile returns a regular expression that matches whole names, or why it cannot. The pattern is also compiled
// alone: "a)|(b" would be valid inside the parentheses that are put around it.
func compile(pattern string) (*regexp.Regexp, string) {
	if _, err := regexp.Compile(pattern); err != nil {
		return nil, badPattern(pattern, err)
	}
	re, err := regexp.Compile("^(?:" + pattern + ")$")
	if err != nil {
		return nil, badPattern(pattern, err)
	}
	return re, ""
}

func badPattern(pattern string, err error) string {
	se := (*syntax.Error)(nil)
	if !errors.As(err, &se) {
		return fmt.Sprintf("the regular expression %q is not valid: %v", pattern, err)
	}
	text := fmt.Sprintf("the regular expression %q is not valid: %s", pattern, se.Code)
	if at := strings.Index(pattern, se.Expr); at >= 0 && se.Expr != "" && se.Expr != pattern {
		text += fmt.Sprintf(" at character %d: %q", at+1, se.Expr)
	}
	switch {
	case strings.HasPrefix(se.Expr, "(?!") || strings.HasPrefix(se.Expr, "(?=") || strings.HasPrefix(se.Expr, "(?<"):
		text += "; lookahead and lookbehind are not supported, use topics and topics_exclude together"
	case se.Code == syntax.ErrMissingRepeatArgument:
		text += "; use .* for any number of any character"
	}
	return text
}
