package policy

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/milena-kafka/milena/config"
)

// TopicConfig is one entry of a DescribeConfigs response for a topic.
type TopicConfig struct {
	Name  string
	Value string
	// Dynamic is set if the value is set on the topic itself (DYNAMIC_TOPIC_CONFIG). Otherwise it comes from the
	// broker or from Kafka's defaults and says nothing about the topic.
	Dynamic bool
	// Sensitive values are not sent by brokers: Value is empty.
	Sensitive bool
}

// ConfigChange is one change of a target topic's config.
type ConfigChange struct {
	Name string
	// From is the target's effective value before the change.
	From string
	// To is the value to set. It is empty if Delete is set.
	To string
	// Delete removes the topic's own value, so that the target's default applies.
	Delete bool
}

// ConfigFilter decides which topic configs are copied. The zero value applies only milena's own rules, and leaves
// defaults to the target. It is immutable.
type ConfigFilter struct {
	exclude  []*regexp.Regexp
	defaults bool // whether the source's defaults are set on the target
}

// NewConfigFilter compiles the expressions of configs_exclude, which match whole config names. The error lists every
// pattern that does not compile.
func NewConfigFilter(f config.Flow) (ConfigFilter, error) {
	exclude, err := compileList("configs_exclude", f.ConfigsExclude)
	if err != nil {
		return ConfigFilter{}, err
	}
	return ConfigFilter{exclude: exclude, defaults: f.UseDefaultsFrom == config.DefaultsFromSource}, nil
}

// sets reports whether a value of the source is set on the target topic itself.
func (f ConfigFilter) sets(c TopicConfig) bool { return c.Dynamic || f.defaults }

// Excludes reports whether a config is left alone on the target: neither set nor deleted.
func (f ConfigFilter) Excludes(name string) bool {
	switch {
	case name == "compression.type":
		// Batches arrive with the source's codec. Any value other than `producer`, Kafka's default, makes the target's brokers
		// decompress and rebuild each batch whose codec differs, which costs CPU and may exceed max.message.bytes.
		return true
	case isTimestampLimit(name):
		// The limit says which records a topic accepts from now on, not which ones it holds. With the source's limit, a copy would refuse
		// the source's older records.
		return true
	case name == RecordFormat:
		// It describes the source's log. In a format before 0.11 a copy could hold neither the batches of an idempotent producer nor
		// the marker of a fence.
		return true
	case strings.HasSuffix(name, ".replication.throttled.replicas"):
		// Lists of partitions and brokers of the source, which mean other ones on the target.
		return true
	}
	return matchesAny(f.exclude, name)
}

// CreateConfigs returns the configs that a new target topic is created with: those that are set on the source topic
// itself. Defaults stay those of each cluster, unless use_defaults_from is source (KIP-894): then it is all values in
// force, including those from the source brokers' server.properties, which MirrorMaker 2 leaves out. A topic must be
// created with its configs (KAFKA-12254: a compacted topic that starts as a deleted one loses data).
//
// Limits of timestamps are the widest instead, where the default of the target's brokers is narrower: the copy must accept
// whatever the source holds. The argument known has the configs that the target knows with their defaults, empty where that
// is unknown.
func CreateConfigs(source []TopicConfig, known map[string]string, filter ConfigFilter) map[string]string {
	configs := widestTimestamps(known)
	for _, c := range source {
		if filter.sets(c) && !c.Sensitive && !filter.Excludes(c.Name) {
			configs[c.Name] = c.Value
		}
	}
	return configs
}

const maxMessageBytes = "max.message.bytes"

// RecordFormat is the config with the record format of a topic, which exists until Kafka 3.9.
const RecordFormat = "message.format.version"

// IsOldFormat reports whether a message.format.version is below 0.11, the first one with idempotent producers.
func IsOldFormat(version string) bool {
	return strings.HasPrefix(version, "0.8") || strings.HasPrefix(version, "0.9") || strings.HasPrefix(version, "0.10")
}

// larger reports whether a number is larger than another one, or one of them is not a number.
func larger(a, b string) bool {
	x, xErr := strconv.ParseInt(a, 10, 64)
	y, yErr := strconv.ParseInt(b, 10, 64)
	return xErr != nil || yErr != nil || x > y
}

// The limits of record timestamps that a topic accepts.
const (
	timestampBefore     = "message.timestamp.before.max.ms"     // KIP-937
	timestampAfter      = "message.timestamp.after.max.ms"      // KIP-937; an hour by default since Kafka 4.0
	timestampDifference = "message.timestamp.difference.max.ms" // until Kafka 3.9
	widestTimestamp     = "9223372036854775807"
)

func isTimestampLimit(name string) bool {
	return name == timestampBefore || name == timestampAfter || name == timestampDifference
}

// widestTimestamps returns the limits of timestamps that must be set on a topic so that it accepts all of them.
func widestTimestamps(known map[string]string) map[string]string {
	limits := map[string]string{}
	_, newer := known[timestampBefore]
	for _, name := range []string{timestampBefore, timestampAfter, timestampDifference} {
		if value, ok := known[name]; ok && value != widestTimestamp && (name != timestampDifference || !newer) {
			limits[name] = widestTimestamp
		}
	}
	return limits
}

// DiffConfigs returns the changes that make the target topic follow the source topic, sorted by name, or nothing if
// it already does. A value that is set on the source is set on the target. A value that is set on the target only is
// deleted if the source knows the key and has its default, as in MirrorMaker 2; with the config
// "use_defaults_from: source", the target gets the source's value instead. To keep another retention on the target,
// list the key in configs_exclude. A max.message.bytes is raised only, never lowered or deleted. A message.format.version in which the target
// topic cannot be a copy is deleted. Keys that the target does not know are left out, because brokers refuse all changes of a topic for one
// unknown key; UnknownConfigs returns them.
func DiffConfigs(source, target []TopicConfig, filter ConfigFilter) []ConfigChange {
	known := make(map[string]TopicConfig, len(target))
	for _, c := range target {
		known[c.Name] = c
	}
	var changes []ConfigChange
	for _, s := range source {
		t, ok := known[s.Name]
		if !ok || s.Sensitive || t.Sensitive || filter.Excludes(s.Name) {
			continue
		}
		switch {
		case s.Name == maxMessageBytes && (!filter.sets(s) || !larger(s.Value, t.Value)):
			// The copy must accept the batches that the source holds, some of which may be older than its limit. An operator raises the
			// target's limit for a record that is too large, which the source's topic may have by the default of its brokers.
		case filter.sets(s) && (!t.Dynamic || t.Value != s.Value):
			changes = append(changes, ConfigChange{Name: s.Name, From: t.Value, To: s.Value})
		case !filter.sets(s) && t.Dynamic:
			changes = append(changes, ConfigChange{Name: s.Name, From: t.Value, Delete: true})
		}
	}
	if t := known[RecordFormat]; t.Dynamic && IsOldFormat(t.Value) && !matchesAny(filter.exclude, RecordFormat) {
		changes = append(changes, ConfigChange{Name: RecordFormat, From: t.Value, Delete: true})
	}
	slices.SortFunc(changes, func(a, b ConfigChange) int { return cmp.Compare(a.Name, b.Name) })
	return changes
}

// UnknownConfigs returns the names, sorted, that are set on the source topic, would be copied, and that the target
// does not know: configs of another vendor or of another Kafka version.
func UnknownConfigs(source []TopicConfig, known map[string]bool, filter ConfigFilter) []string {
	var unknown []string
	for _, c := range source {
		if c.Dynamic && !c.Sensitive && !filter.Excludes(c.Name) && !known[c.Name] {
			unknown = append(unknown, c.Name)
		}
	}
	slices.Sort(unknown)
	return unknown
}
