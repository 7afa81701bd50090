package config

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Validate finds everything that can't work, as far as that shows without a network and without opening a file. The error
// is an *Error. Load and Parse have done it already; it is here for a Config that a program built.
func (c *Config) Validate() error { return errorOf(c.problems()) }

// complaints collects problems in the order in which they are found. Lines are added by who knows them.
type complaints []Problem

func (c *complaints) add(path, format string, args ...any) {
	*c = append(*c, Problem{Path: path, Text: fmt.Sprintf(format, args...)})
}

// oneOf complains unless value is one of the allowed ones.
func (c *complaints) oneOf(path, value string, allowed ...string) {
	if slices.Contains(allowed, value) {
		return
	}
	c.add(path, "%q is not known; use %s", value, choice(allowed))
}

// choice lists words as a person does.
func choice(words []string) string {
	last := len(words) - 1
	if last < 1 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// atLeast complains about a duration below its bound and says why the bound is there.
func (c *complaints) atLeast(path string, d, bound time.Duration, why string) {
	if d < bound {
		c.add(path, "%v is too short; use at least %v, %s", d, bound, why)
	}
}

func (c *Config) problems() []Problem {
	var found complaints
	for _, alias := range slices.Sorted(maps.Keys(c.Clusters)) {
		cluster := c.Clusters[alias]
		cluster.validate(alias, &found)
	}
	switch {
	case len(c.Clusters) == 0:
		found.add("clusters", "no clusters; name at least a source and a target here")
	case len(c.Flows) == 0:
		found.add("flows", "no flows; say here which cluster is copied to which, as in [{source: a, target: b}]")
	}
	for i := range c.Flows {
		c.validateFlow(i, &found)
	}
	validateTogether(c, &found)
	c.validateProcess(&found)
	return found
}

func (c *Config) validateProcess(found *complaints) {
	if c.HTTP.Listen != "" {
		if why := checkAddress(c.HTTP.Listen, 0); why != "" {
			found.add("http.listen", "%q %s; write host:port such as 127.0.0.1:9644, or \"\" for no HTTP", c.HTTP.Listen, why)
		}
	}
	found.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	found.oneOf("log.format", c.Log.Format, "auto", "text", "json")
	if c.Buffer < 4*MiB {
		found.add("buffer", "%v is too small; use at least %v, so that a fetch of each broker fits", c.Buffer, 4*MiB)
	}
	found.atLeast("shutdown_timeout", c.ShutdownTimeout, time.Second, "so that batches in flight can be answered")
}

// names is what Kafka allows in the names of topics; aliases and flows become parts of them.
var names = regexp.MustCompile(`^[a-zA-Z0-9._-]+$`)

const (
	maxTopicName = 249 // Kafka's own limit
	// A flow's name stands between "milena." and ".journal" in a topic's name.
	maxFlowName = maxTopicName - len("milena.") - len(".journal")
)

// checkName says why a name can't be (a part of) a topic's name, or "".
func checkName(name string, limit int) string {
	switch {
	case name == "":
		return "is empty"
	case len(name) > limit:
		return fmt.Sprintf("has %d characters, and Kafka allows %d here", len(name), limit)
	case !names.MatchString(name):
		return "has a character that Kafka does not allow in names; use letters, digits, dot, dash and underscore"
	case name == "." || name == "..":
		return "is reserved"
	default:
		return ""
	}
}

// checkAddress says why text is not host:port, or "". A port below lowest is refused: 0 means "any free one" to a listener
// and nothing to a client.
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

func (c *Cluster) validate(alias string, found *complaints) {
	path := "clusters." + alias
	// The alias is a part of topic names when naming is prefix, and a label everywhere.
	if why := checkName(alias, maxTopicName); why != "" {
		found.add(path, "the alias %q %s", alias, why)
	}
	if len(c.Brokers) == 0 {
		found.add(path+".brokers", "no brokers; write at least one host:port")
	}
	for i, b := range c.Brokers {
		if why := checkAddress(b, 1); why != "" {
			found.add(fmt.Sprintf("%s.brokers[%d]", path, i), "%q %s; write host:port such as kafka-1:9092", b, why)
		}
	}
	if c.ClientID == "" {
		found.add(path+".client_id", "is empty; remove the key to be called milena")
	}
	if c.TLS != nil {
		c.TLS.validate(path+".tls", found)
	}
	if c.SASL != nil {
		c.SASL.validate(path+".sasl", found)
	}
}

func (s *SASL) validate(path string, found *complaints) {
	found.oneOf(path+".mechanism", s.Mechanism, MechanismPlain, MechanismScramSHA256, MechanismScramSHA512)
	if s.Username == "" {
		found.add(path+".username", "is missing or empty")
	}
	switch {
	case s.Password == "" && s.PasswordFile == "":
		found.add(path+".password", "is missing; write password: ${NAME} or password_file: PATH")
	case s.Password != "" && s.PasswordFile != "":
		found.add(path, "password and password_file are both written; keep one")
	}
}

// compile builds a regular expression that matches whole names, or says why it can't. The pattern is compiled alone too:
// "a)|(b" would be valid inside the parentheses that are put around it.
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
		text += "; there is no looking ahead or back, use topics and topics_exclude together"
	case se.Code == syntax.ErrMissingRepeatArgument:
		text += "; any number of any character is written .*"
	}
	return text
}
