package policy

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"github.com/milena-kafka/milena/config"
)

// TopicConfig is one entry of a DescribeConfigs answer for a topic.
type TopicConfig struct {
	Name  string
	Value string
	// Dynamic says that the value is set on the topic itself (DYNAMIC_TOPIC_CONFIG); else it comes from the broker or
	// from Kafka's defaults and says nothing about the topic.
	Dynamic bool
	// Sensitive values are not sent by brokers; Value is empty.
	Sensitive bool
}

// ConfigChange is one difference to be altered on the target topic.
type ConfigChange struct {
	Name string
	// From is the target's effective value before the change.
	From string
	// To is the value to set; empty if Delete.
	To string
	// Delete removes the topic's own value, so that the target's default applies.
	Delete bool
}

// ConfigFilter says which topic configs are copied. The zero value holds only milena's own rules, and leaves defaults to
// the target. It is immutable.
type ConfigFilter struct {
	exclude  []*regexp.Regexp
	defaults bool // of the source are set on the target
}

// NewConfigFilter compiles the expressions of configs_exclude, which match whole config names.
func NewConfigFilter(f config.Flow) (ConfigFilter, error) {
	exclude, err := compileList("configs_exclude", f.ConfigsExclude)
	if err != nil {
		return ConfigFilter{}, err
	}
	return ConfigFilter{exclude: exclude, defaults: f.UseDefaultsFrom == config.DefaultsFromSource}, nil
}

// sets says whether a value of the source is to be set on the target topic itself.
func (f ConfigFilter) sets(c TopicConfig) bool { return c.Dynamic || f.defaults }

// Excludes says whether a config of this name is left alone on the target: neither set nor deleted.
func (f ConfigFilter) Excludes(name string) bool {
	switch {
	case name == "compression.type":
		// Batches arrive with the source's codec. Any value but `producer`, Kafka's default, makes the target's brokers
		// decompress and rebuild each batch whose codec differs, at their cost and possibly beyond max.message.bytes.
		return true
	case strings.HasSuffix(name, ".replication.throttled.replicas"):
		// Lists of the source's partitions and brokers; on the target they would name others.
		return true
	}
	return matchesAny(f.exclude, name)
}

// CreateConfigs are the configs that a new target topic gets: what is set on the source topic itself. Defaults stay with
// each cluster, unless use_defaults_from is source (KIP-894): then it is all values in force, those that come from the
// source's brokers included, whose server.properties MirrorMaker 2 leaves out. A topic must be born with them (KAFKA-12254: a compacted
// topic that begins as a deleted one loses data).
func CreateConfigs(source []TopicConfig, filter ConfigFilter) map[string]string {
	configs := map[string]string{}
	for _, c := range source {
		if filter.sets(c) && !c.Sensitive && !filter.Excludes(c.Name) {
			configs[c.Name] = c.Value
		}
	}
	return configs
}

// DiffConfigs is what must be altered on the target topic so that it follows the source topic, sorted by name; nothing
// if it does already. A value set on the source is set on the target. A value set on the target only is deleted if the
// source knows the key and has its default, as MirrorMaker 2 does: who wants another retention on the target names it in
// configs_exclude; with use_defaults_from: source it gets the source's value instead. Keys that the target does not know are left out, because brokers refuse all changes of a topic for
// one unknown key; UnknownConfigs names them.
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
		case filter.sets(s) && (!t.Dynamic || t.Value != s.Value):
			changes = append(changes, ConfigChange{Name: s.Name, From: t.Value, To: s.Value})
		case !filter.sets(s) && t.Dynamic:
			changes = append(changes, ConfigChange{Name: s.Name, From: t.Value, Delete: true})
		}
	}
	slices.SortFunc(changes, func(a, b ConfigChange) int { return cmp.Compare(a.Name, b.Name) })
	return changes
}

// UnknownConfigs are the names that are set on the source topic, would be copied, and are not among the names that the
// target knows: configs of another vendor or of another Kafka version. Sorted.
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
