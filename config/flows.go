package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// ReverseOf returns the flows in the other direction, between the same clusters.
func (c *Config) ReverseOf(f Flow) []Flow {
	var list []Flow
	for _, other := range c.Flows {
		if other.Source == f.Target && other.Target == f.Source {
			list = append(list, other)
		}
	}
	return list
}

// validateFlow checks what depends on one flow alone.
func (c *Config) validateFlow(i int, found *problemList) {
	f, path := &c.Flows[i], fmt.Sprintf("flows[%d]", i)
	c.validateSourceAndTarget(f, path, found)
	// The name is part of the journal topic's name and of transactional ids. It has no default without source and target.
	if why := checkName(f.Name, maxFlowName); why != "" && f.Source != "" && f.Target != "" {
		found.add(path+".name", "the name %q %s", f.Name, why)
	}
	if len(f.Topics) == 0 && f.Naming != NamingRename {
		found.add(path+".topics", "no topics; use [\".*\"] for all of them")
	}
	for key, list := range map[string][]string{
		"topics": f.Topics, "topics_exclude": f.TopicsExclude, "configs_exclude": f.ConfigsExclude,
		"groups": f.Groups, "groups_exclude": f.GroupsExclude, "groups_back": f.GroupsBack,
	} {
		for j, pattern := range list {
			if _, why := compile(pattern); why != "" {
				found.add(fmt.Sprintf("%s.%s[%d]", path, key, j), "%s%s", why, withoutLookaround(key, pattern))
			}
		}
	}
	f.validateNaming(path, found)
	found.oneOf(path+".start", f.Start, StartEarliest, StartLatest)
	found.oneOf(path+".instances", f.Instances, InstancesMany, InstancesOne)
	found.oneOf(path+".fence", f.Fence, FenceTransactions, FenceLease)
	if f.Fence == FenceLease && f.Instances == InstancesOne {
		found.add(path+".fence", "lease needs the group of the instances, which says who may write; remove instances: one, also for a single process")
	}
	found.oneOf(path+".isolation", f.Isolation, ReadCommitted, ReadUncommitted)
	if why := checkName(f.MigrateFrom, maxTopicName); f.MigrateFrom != "" && f.MigrateFrom != connectOffsetsTopic(f.Source) && why != "" {
		found.add(path+".migrate_from", "the topic name %q %s", f.MigrateFrom, why)
	}
	found.oneOf(path+".use_defaults_from", f.UseDefaultsFrom, DefaultsFromTarget, DefaultsFromSource)
	for key, on := range map[string]bool{"acls_delete": f.ACLsDelete, "acls_admin": f.ACLsAdmin} {
		if on && !f.ACLs {
			found.add(path+"."+key, "has no effect without acls: true; set that, or remove %s", key)
		}
	}
	found.oneOf(path+".offset_syncs", f.OffsetSyncs, OffsetSyncsTarget, OffsetSyncsSource, OffsetSyncsOff)
	validateAnomalies(f.Anomalies, path+".anomalies", found)
	f.validateAnomaliesByTopic(path+".anomalies_by_topic", found)
	f.validateNumbers(path, found)
}

// withoutLookaround says what selects the same as a pattern with a lookaround, if that is known.
func withoutLookaround(key, pattern string) string {
	list, problems := readJavaList([]string{pattern}, groupCharacters)
	if key != "topics" && key != "groups" || len(problems) > 0 || len(list.rewritten) == 0 {
		return ""
	}
	return fmt.Sprintf(": %s %q, %s_exclude %q", key, list.include, key, list.exclude)
}

func (c *Config) validateSourceAndTarget(f *Flow, path string, found *problemList) {
	for _, end := range []struct{ key, alias string }{{"source", f.Source}, {"target", f.Target}} {
		_, known := c.Clusters[end.alias]
		switch {
		case end.alias == "":
			found.add(path+"."+end.key, "is missing; set it to the alias of a cluster")
		case !known && len(c.Clusters) > 0:
			aliases := slices.Sorted(maps.Keys(c.Clusters))
			found.add(path+"."+end.key, "no cluster has the alias %q; use %s", end.alias, choice(aliases))
		}
	}
	if f.Source == "" || f.Target == "" {
		return
	}
	if f.Source == f.Target {
		found.add(path+".target", "is %q, the same as source; a flow copies from one cluster to another", f.Target)
		return
	}
	// Cluster ids are compared once both clusters are reached. The same address can be refused here.
	for _, b := range c.Clusters[f.Source].Brokers {
		if slices.Contains(c.Clusters[f.Target].Brokers, b) {
			found.add(path, "%q and %q are the same cluster: both have broker %s", f.Source, f.Target, b)
		}
	}
}

func (f *Flow) validateNaming(path string, found *problemList) {
	found.oneOf(path+".naming", f.Naming, NamingPrefix, NamingIdentity, NamingRename)
	if f.Naming == NamingPrefix && strings.TrimSpace(f.Separator) == "" {
		found.add(path+".separator", "is empty; to keep the names of topics, write naming: identity, and remove the key")
	} else if f.Naming == NamingPrefix && !names.MatchString(f.Separator) {
		found.add(path+".separator", "%q is not allowed in a topic name; use letters, digits, dot, dash and underscore", f.Separator)
	}
	if f.InternalSeparator != "" && !names.MatchString(f.InternalSeparator) {
		found.add(path+".internal_separator", "%q is not allowed in a topic name; use letters, digits, dot, dash and underscore", f.InternalSeparator)
	}
	if f.Naming == NamingRename && len(f.Rename) == 0 {
		found.add(path+".rename", "is missing; naming: rename needs a table of source topics to target topics")
	}
	if f.Naming != NamingRename && len(f.Rename) > 0 {
		found.add(path+".rename", "has no effect without naming: rename; set that, or remove the table")
	}
	from := make(map[string]string)
	for _, source := range slices.Sorted(maps.Keys(f.Rename)) {
		target, at := f.Rename[source], path+".rename."+source
		if why := checkName(source, maxTopicName); why != "" {
			found.add(at, "the source topic %q %s", source, why)
		}
		if why := checkName(target, maxTopicName); why != "" {
			found.add(at, "the target topic %q %s", target, why)
		}
		if first, ok := from[target]; ok {
			found.add(at, "%q and %q are both renamed to %q; their records would mix", first, source, target)
		}
		from[target] = source
	}
}

func (f *Flow) validateAnomaliesByTopic(path string, found *problemList) {
	for i, item := range f.AnomaliesByTopic {
		at := fmt.Sprintf("%s[%d]", path, i)
		if len(item.Topics) == 0 {
			found.add(at+".topics", "no topics; list regular expressions of the topics that these actions are for")
		}
		for j, pattern := range item.Topics {
			if _, why := compile(pattern); why != "" {
				found.add(fmt.Sprintf("%s.topics[%d]", at, j), "%s", why)
			}
		}
		if len(item.Anomalies) == 0 {
			found.add(at+".anomalies", "no actions; set one for each kind that these topics need, such as {retention_gap: skip}")
		}
		validateAnomalies(item.Anomalies, at+".anomalies", found)
	}
}

func validateAnomalies(chosen map[string]string, path string, found *problemList) {
	for _, kind := range slices.Sorted(maps.Keys(chosen)) {
		at, actions := path+"."+kind, AnomalyActions(kind)
		if actions == nil {
			text := "unknown anomaly kind"
			if near := Nearest(kind, AnomalyKinds()); near != "" {
				text += fmt.Sprintf("; did you mean %q?", near)
			} else {
				text += "; the kinds are " + strings.Join(AnomalyKinds(), ", ")
			}
			found.add(at, "%s", text)
			continue
		}
		found.oneOf(at, chosen[kind], actions...)
	}
}

func (f *Flow) validateNumbers(path string, found *problemList) {
	if f.ReplicationFactor < -1 {
		found.add(path+".replication_factor", "%d is negative; use 0 for that of each source topic, or -1 for the default of the target's brokers", f.ReplicationFactor)
	}
	if f.Shards < 1 || f.Shards > 1024 {
		found.add(path+".shards", "%d is not between 1 and 1024, the allowed number of partitions of the journal topic", f.Shards)
	}
	if f.Verify.Rate < 0 || f.Verify.Rate > 0 && f.Verify.Rate < 64*KiB {
		found.add(path+".verify.rate", "%v is below 64KiB, which would take too long; write 0B to turn it off", f.Verify.Rate)
	}
	for key, objective := range map[string]*time.Duration{"rpo": f.RPO, "rto": f.RTO} {
		if objective != nil && *objective <= 0 {
			found.add(path+"."+key, "%v is not above 0s; write an objective such as 30s, or remove %s for none", *objective, key)
		}
	}
	found.atLeast(path+".topics_interval", f.TopicsInterval, 100*time.Millisecond, "because each sync requests the metadata of all topics")
	found.atLeast(path+".configs_interval", f.ConfigsInterval, time.Second, "because each sync requests the configs of all topics")
	found.atLeast(path+".acls_interval", f.ACLsInterval, time.Second, "because each sync requests the ACLs of all topics from both clusters")
	found.atLeast(path+".groups_interval", f.GroupsInterval, 100*time.Millisecond, "because each sync requests all groups from both clusters")
	found.atLeast(path+".heartbeats_interval", f.HeartbeatsInterval, 100*time.Millisecond, "because each heartbeat is a record; heartbeats: false turns them off")
	found.atLeast(path+".journal_interval", f.JournalInterval, 100*time.Millisecond, "because each journal write is a request to the target")
	found.atLeast(path+".lease", f.Lease, 3*time.Second, "so that a short pause does not stop a healthy owner")
}

// selection is a flow with its topic patterns compiled. Patterns that do not compile are left out; they are reported
// elsewhere.
type selection struct {
	*Flow
	include, exclude []*regexp.Regexp
}

func newSelection(f *Flow) selection {
	s := selection{Flow: f}
	for _, p := range f.Topics {
		if re, _ := compile(p); re != nil {
			s.include = append(s.include, re)
		}
	}
	for _, p := range f.TopicsExclude {
		if re, _ := compile(p); re != nil {
			s.exclude = append(s.exclude, re)
		}
	}
	return s
}

// target returns the name of a source topic on the target. The ok result reports whether the flow copies the topic.
func (s selection) target(topic string) (name string, ok bool) {
	if s.Naming == NamingRename {
		name, ok = s.Rename[topic]
		return name, ok
	}
	matches := func(re *regexp.Regexp) bool { return re.MatchString(topic) }
	if !slices.ContainsFunc(s.include, matches) || slices.ContainsFunc(s.exclude, matches) {
		return "", false
	}
	if s.Naming == NamingPrefix {
		return s.Source + s.Separator + topic, true
	}
	return topic, true
}

// source returns the one source topic that would be copied to a target topic.
func (s selection) source(name string) (topic string, ok bool) {
	switch s.Naming {
	case NamingRename:
		for source, target := range s.Rename {
			if target == name {
				return source, true
			}
		}
		return "", false
	case NamingPrefix:
		if topic, ok = strings.CutPrefix(name, s.Source+s.Separator); !ok {
			return "", false
		}
	default:
		topic = name
	}
	_, ok = s.target(topic)
	return topic, ok
}

// literalTopics returns the source topics that the config spells out: those of the rename table, and patterns that
// look like a topic name.
func (s selection) literalTopics() []string {
	if s.Naming == NamingRename {
		return slices.Sorted(maps.Keys(s.Rename))
	}
	var topics []string
	for _, p := range s.Topics {
		if checkName(p, maxTopicName) == "" {
			topics = append(topics, p)
		}
	}
	return topics
}
