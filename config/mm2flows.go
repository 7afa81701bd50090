package config

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// flowReader reads the keys of one flow.
type flowReader struct {
	*mm2
	Flow
	prefix string // "a->b."
	path   string // "flows[0]"
}

// get returns a key of MirrorMaker 2's connectors: that of this flow, or else that of all flows. It records the
// origin of the field.
func (r *flowReader) get(field, key string) *property {
	p := r.first(r.prefix+key, key)
	if p != nil {
		r.origins[r.path+"."+field] = p
	}
	return p
}

func (r *flowReader) read() {
	r.selection(&r.Topics, &r.TopicsExclude, "topics", topicCharacters)
	r.selection(&r.Groups, &r.GroupsExclude, "groups", groupCharacters)
	if p := r.list("configs_exclude", "config.properties.exclude", "config.properties.blacklist"); p != nil {
		if found, ok := r.patterns(p, topicCharacters); ok && len(found.rewritten) > 0 {
			r.bad(p, "the pattern %q has a lookaround, which cannot be rewritten here; list the names", found.rewritten[0])
		} else if ok {
			r.ConfigsExclude = found.include
		}
	}
	r.policy()
	r.consumer()
	r.replicationFactor()
	r.syncs()
	r.defaults()
	r.groups()
	r.offsetSyncs()
	r.migrateFrom()
	r.refuseClasses()
}

// selection reads a list of regular expressions and its excludes.
func (r *flowReader) selection(list, exclude *[]string, key, characters string) {
	p, not := r.get(key, key), r.list(key+"_exclude", key+".exclude", key+".blacklist")
	included, ok := r.patterns(p, characters)
	excluded, okay := r.patterns(not, characters)
	if !ok || !okay {
		return
	}
	if p != nil {
		*list = append([]string{}, included.include...)
	}
	if key == "topics" && len(*list) == 0 {
		r.bad(p, "selects no topic; use .* for all topics, or %senabled = false", r.prefix)
		return
	}
	if not != nil {
		*exclude = append([]string{}, excluded.include...)
	}
	if len(excluded.rewritten) > 0 {
		r.keepOnly(list, exclude, key, not, excluded)
	}
	if len(included.exclude) == 0 {
		return
	}
	*exclude = unduplicated(append(*exclude, included.exclude...))
	if at := r.path + "." + key + "_exclude"; r.origins[at] == nil {
		r.origins[at] = p
	}
	r.noteOnce(p, fmt.Sprintf("has a lookaround, which becomes an exclude: %s %q, %s_exclude %q", key, *list, key, included.exclude))
}

// keepOnly reads excludes with a lookaround. Everything but x is excluded with (?!x).*, so x is what to select.
func (r *flowReader) keepOnly(list, exclude *[]string, key string, p *property, excluded javaList) {
	all := func(list []string) bool { return len(list) == 1 && list[0] == ".*" }
	if !all(*list) || !all(excluded.include) {
		r.bad(p, "the pattern %q leaves out all but some names of a part of them; write those to select into %s", excluded.rewritten[0], key)
		return
	}
	*list, *exclude = excluded.exclude, []string{}
	r.origins[r.path+"."+key] = p
	r.noteOnce(p, fmt.Sprintf("has a lookaround, so that it leaves out all but %[2]q, which becomes %[1]s; %[1]s_exclude is empty", key, *list))
}

// list returns a list by its current name or by its name before Kafka 2.7.
func (r *flowReader) list(field, key, legacy string) *property {
	p, old := r.get(field, key), r.first(r.prefix+legacy, legacy)
	switch {
	case old != nil && p != nil:
		r.noteOnce(old, "is not used, because "+p.key+" is set too")
	case old != nil:
		r.noteOnce(old, "is read as "+key+", its name since Kafka 2.7; MirrorMaker 2 of Kafka 4 ignores it")
		r.origins[r.path+"."+field] = old
		return old
	}
	return p
}

// patterns reads the regular expressions of a list, which may be nil. If ok is false, the problem has been reported.
func (r *flowReader) patterns(p *property, characters string) (list javaList, ok bool) {
	if p == nil {
		return list, true
	}
	value, ok := r.value(p)
	if !ok {
		return list, false
	}
	if strings.Contains(value, " #") {
		r.bad(p, "contains a #: a comment must be on a separate line, or it is part of the value")
		return list, false
	}
	list, problems := readJavaList(splitList(value), characters)
	for _, problem := range problems {
		r.bad(p, "%s", problem)
	}
	return list, len(problems) == 0
}

func (m *mm2) noteOnce(p *property, reason string) {
	if n := (Note{Key: p.name(), Line: p.line, Reason: reason}); !slices.Contains(m.notes, n) {
		m.note(p, reason)
	}
}

// boolean reads a Kafka BOOLEAN: true or false in any case, surrounded by white space.
func (m *mm2) boolean(p *property) bool {
	value, ok := m.value(p)
	if !ok {
		return false
	}
	switch strings.ToLower(strings.TrimSpace(value)) {
	case "true":
		return true
	case "false":
	default:
		m.bad(p, "is neither true nor false; a comment must be on a separate line")
	}
	return false
}

// syncs reads KEY.enabled and KEY.interval.seconds of each sync that has an interval of its own. There is no key for the deletion
// of ACLs: MirrorMaker 2 never deletes them.
func (r *flowReader) syncs() {
	for _, s := range []struct {
		key      string
		enabled  *bool
		interval *time.Duration
		fields   [2]string
	}{
		{"refresh.topics", &r.TopicsRefresh, &r.TopicsInterval, [2]string{"topics_refresh", "topics_interval"}},
		{"sync.topic.configs", &r.ConfigsSync, &r.ConfigsInterval, [2]string{"configs_sync", "configs_interval"}},
		{"sync.topic.acls", &r.ACLs, &r.ACLsInterval, [2]string{"acls", "acls_interval"}},
		{"emit.heartbeats", &r.Heartbeats, &r.HeartbeatsInterval, [2]string{"heartbeats", "heartbeats_interval"}},
	} {
		r.enabled(s.enabled, s.fields[0], s.key)
		if p := r.get(s.fields[1], s.key+".interval.seconds"); p != nil {
			r.seconds(p, s.interval)
		}
	}
}

// enabled reads KEY.enabled.
func (r *flowReader) enabled(on *bool, field, key string) {
	if p := r.get(field, key+".enabled"); p != nil {
		*on = r.boolean(p)
	}
}

func (r *flowReader) seconds(p *property, d *time.Duration) {
	value, ok := r.value(p)
	if !ok {
		return
	}
	n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
	switch {
	case err != nil:
		r.bad(p, "is not a whole number of seconds; a comment must be on a separate line")
	case n < 1:
		r.bad(p, "is not a positive number of seconds; to switch it off, set %s = false",
			strings.Replace(p.key, ".interval.seconds", ".enabled", 1))
	default:
		*d = time.Duration(min(n, int64(longest/time.Second))) * time.Second
	}
}

// policy reads the naming of topics.
func (r *flowReader) policy() {
	if p := r.get("naming", "replication.policy.class"); p != nil {
		value, ok := r.value(p)
		switch class := strings.TrimSpace(value); {
		case !ok || class == defaultPolicy:
		case class == identityPolicy:
			r.Naming = NamingIdentity
		case seemsToKeepNames(class):
			r.bad(p, "is Java code, which milena cannot run; if it keeps the names of topics, as its own name says, write replication.policy.class = %s", identityPolicy)
		default:
			r.bad(p, "is Java code, which milena cannot run; use %s for names prefixed with the source's alias or %s for the same names, "+
				"or list other names in a milena.yaml with naming: rename", defaultPolicy, identityPolicy)
		}
	}
	separator := r.get("separator", "replication.policy.separator")
	if separator != nil {
		if value, ok := r.value(separator); ok {
			r.Separator = value
		}
		if strings.TrimSpace(r.Separator) == "" {
			r.bad(separator, "means that topics keep their names, for which Kafka 3.0 and later has a policy; remove the key, and write replication.policy.class = %s", identityPolicy)
		} else if !names.MatchString(r.Separator) {
			r.bad(separator, "is not allowed in a topic name; use letters, digits, dot, dash and underscore, without trailing spaces")
		}
	}
	const internal = "replication.policy.internal.topic.separator.enabled"
	p := r.get("internal_separator", internal)
	if p == nil || r.boolean(p) {
		return
	}
	if separator == nil {
		r.noteOnce(p, "has an effect only together with replication.policy.separator")
		return
	}
	r.InternalSeparator = "."
}

// seemsToKeepNames reports whether the name of somebody's replication policy says that it adds no prefix.
func seemsToKeepNames(class string) bool {
	class = strings.ToLower(class[strings.LastIndexByte(class, '.')+1:])
	for _, word := range []string{"identity", "prefixless", "noprefix", "withoutprefix", "noalias", "aliasless", "samename", "custommm2replicationpolicy", "renameless", "unprefixed"} {
		if strings.Contains(class, word) {
			return true
		}
	}
	return false
}

// consumer reads the settings that MirrorMaker 2 passes to the consumer of records.
func (r *flowReader) consumer() {
	find := func(field, key string) *property {
		p := r.first(r.prefix+"source.consumer."+key, r.Source+".consumer."+key, r.prefix+"consumer."+key)
		if p != nil {
			r.origins[r.path+"."+field] = p
		}
		return p
	}
	if p := find("start", "auto.offset.reset"); p != nil {
		if value, ok := r.value(p); ok {
			r.Start = strings.ToLower(strings.TrimSpace(value))
			if r.Start != StartEarliest && r.Start != StartLatest {
				r.bad(p, "is not supported; use earliest or latest")
			}
		}
	}
	if p := find("isolation", "isolation.level"); p != nil {
		if value, ok := r.value(p); ok {
			r.Isolation = strings.ToLower(strings.TrimSpace(value))
			if r.Isolation != ReadCommitted && r.Isolation != ReadUncommitted {
				r.bad(p, "is not a valid value; use read_committed or read_uncommitted")
			}
		}
	}
}

func (r *flowReader) replicationFactor() {
	p := r.get("replication_factor", "replication.factor")
	if p == nil {
		return
	}
	value, ok := r.value(p)
	if !ok {
		return
	}
	n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 32)
	switch {
	case err != nil || n < -1 || n == 0 || n > math.MaxInt16:
		r.bad(p, "is not a valid number of replicas; use 1 or more, or -1 for the target's default")
	default:
		r.ReplicationFactor = int16(n)
	}
}

// defaults reads use.defaults.from. The key belongs to the filter and not to the connectors, so it applies to one
// flow only: MirrorMaker 2 drops it at the top of the file (KIP-894).
func (r *flowReader) defaults() {
	p := r.first(r.prefix + "use.defaults.from")
	if p == nil {
		return
	}
	r.origins[r.path+".use_defaults_from"] = p
	value, ok := r.value(p)
	if !ok {
		return
	}
	switch value = strings.TrimSpace(value); value {
	case DefaultsFromTarget, DefaultsFromSource:
		r.UseDefaultsFrom = value
	default:
		r.bad(p, "is not a valid value; use source or target")
	}
}

// groups reads the keys of checkpoints and of commits on the target. One sync does both here, so the shorter interval of those that
// are on is used.
func (r *flowReader) groups() {
	r.enabled(&r.GroupsRefresh, "groups_refresh", "refresh.groups")
	r.enabled(&r.Checkpoints, "checkpoints", "emit.checkpoints")
	r.enabled(&r.GroupsSync, "groups_sync", "sync.group.offsets")
	if !r.Checkpoints { // no checkpoint connector, and nothing else commits
		if p := r.origins[r.path+".checkpoints"]; r.GroupsSync {
			r.origins[r.path+".groups_sync"] = p
		}
		r.GroupsSync = false
	}
	var shortest time.Duration
	for _, s := range []struct {
		key string
		on  bool
	}{{"emit.checkpoints", r.Checkpoints}, {"sync.group.offsets", r.GroupsSync}} {
		key := s.key + ".interval.seconds"
		p := r.first(r.prefix+key, key)
		if p == nil {
			continue
		}
		d := r.GroupsInterval
		if r.seconds(p, &d); s.on && (shortest == 0 || d < shortest) {
			shortest, r.origins[r.path+".groups_interval"] = d, p
		}
	}
	if shortest > 0 {
		r.GroupsInterval = shortest
	}
}

func (r *flowReader) offsetSyncs() {
	if p := r.get("offset_syncs", "offset-syncs.topic.location"); p != nil {
		if value, ok := r.value(p); ok {
			r.OffsetSyncs = strings.TrimSpace(value)
			if r.OffsetSyncs != OffsetSyncsSource && r.OffsetSyncs != OffsetSyncsTarget {
				r.bad(p, "is not a valid value; use source or target")
			}
		}
	}
	if p := r.first(r.prefix+"emit.offset-syncs.enabled", "emit.offset-syncs.enabled"); p != nil && !r.boolean(p) {
		r.origins[r.path+".offset_syncs"] = p
		r.OffsetSyncs = OffsetSyncsOff
	}
}

// refuseClasses reports settings that would change what is copied and that milena does not support.
func (r *flowReader) refuseClasses() {
	for _, class := range []struct{ key, same, instead string }{
		{"topic.filter.class", defaultTopicFilter, "use topics and topics.exclude"},
		{"group.filter.class", defaultGroupFilter, "use groups and groups.exclude"},
		{"config.property.filter.class", defaultPropertyFilter, "use config.properties.exclude"},
		{"forwarding.admin.class", forwardingAdmin, "milena creates topics through Kafka's protocol"},
		{"key.converter", byteArrayConverter, "milena copies bytes as they are; convert them downstream"},
		{"value.converter", byteArrayConverter, "milena copies bytes as they are; convert them downstream"},
		{"header.converter", byteArrayConverter, "milena copies bytes as they are; convert them downstream"},
	} {
		if p := r.first(r.prefix+class.key, class.key, r.Target+"."+class.key); p != nil {
			if value, ok := r.value(p); ok && strings.TrimSpace(value) != class.same {
				r.bad(p, "is Java code, which milena cannot run; remove the key: %s", class.instead)
			}
		}
	}
	for _, key := range []string{"transforms", "predicates"} {
		if p := r.first(r.prefix+key, key); p != nil && strings.TrimSpace(p.value) != "" {
			r.bad(p, "would change records, and milena copies them as they are; remove the key and transform records downstream")
		}
	}
	if p := r.first(r.prefix+"heartbeats.replication.enabled", "heartbeats.replication.enabled"); p != nil && !r.boolean(p) {
		r.bad(p, "is not supported: a topic named heartbeats is always copied; remove the key, and set emit.heartbeats.enabled = false so that there is none")
	}
	for key, alias := range map[string]string{"source.cluster.alias": r.Source, "target.cluster.alias": r.Target} {
		p := r.first(r.prefix+key, key)
		switch {
		case p == nil || strings.TrimSpace(p.value) == alias:
		case strings.TrimSpace(p.value) == "":
			r.bad(p, "means that topics keep their names; remove the key, and write replication.policy.class = %s", identityPolicy)
		default:
			r.bad(p, "differs from the alias %s of the flow; use that alias in clusters, and remove the key", alias)
		}
	}
}
