package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Note says why a key of a config file has no effect, has another one than in MirrorMaker 2, or should be renamed.
type Note struct {
	Key string
	// Line counts from 1. It is 0 for a default of MirrorMaker 2 that is not in the file.
	Line   int
	Reason string
}

// String formats the note as "key (line N): reason".
func (n Note) String() string {
	where := "its default"
	if n.Line > 0 {
		where = fmt.Sprintf("line %d", n.Line)
	}
	return fmt.Sprintf("%s (%s): %s", n.Key, where, n.Reason)
}

// The Java classes that milena has an equivalent of. Any other class is code that milena cannot run.
const (
	defaultPolicy         = "org.apache.kafka.connect.mirror.DefaultReplicationPolicy"
	identityPolicy        = "org.apache.kafka.connect.mirror.IdentityReplicationPolicy"
	defaultTopicFilter    = "org.apache.kafka.connect.mirror.DefaultTopicFilter"
	defaultGroupFilter    = "org.apache.kafka.connect.mirror.DefaultGroupFilter"
	defaultPropertyFilter = "org.apache.kafka.connect.mirror.DefaultConfigPropertyFilter"
	forwardingAdmin       = "org.apache.kafka.clients.admin.ForwardingAdmin"
	byteArrayConverter    = "org.apache.kafka.connect.converters.ByteArrayConverter"
)

// longest bounds an interval, which MirrorMaker 2 reads as any number of seconds. It can be written as a duration.
const longest = 100 * 365 * 24 * time.Hour

// isProperties recognizes an mm2.properties file: by its name, by a property `clusters`, or, if that is missing, by a
// property of a flow. A milena.yaml has the mappings `clusters:` and `flows:`, which read as properties are empty or
// start with a YAML indicator.
func isProperties(name string, data []byte) bool {
	if strings.HasSuffix(name, ".properties") {
		return true
	}
	properties, _ := parseProperties(data)
	flow := false
	for _, p := range properties {
		switch {
		case p.key == "flows" && p.separator == ':':
			return false
		case p.key == "clusters" && p.separator == '=':
			return true
		case p.key == "clusters":
			return p.value != "" && !strings.ContainsAny(p.value[:1], "{[&*!|>#\"'")
		case strings.Contains(p.key, "->") && p.separator == '=':
			flow = true
		}
	}
	return flow
}

// mm2 reads one mm2.properties file.
type mm2 struct {
	resolver
	// order is the file without the entries that later ones replace.
	order []*property
	props map[string]*property
	// aliases are those of `clusters`, in that order.
	aliases []string
	// used are the properties that the Config was built from. The others get a note or a problem.
	used  map[*property]bool
	notes []Note
	// origins are the properties that the paths of the Config came from.
	origins map[string]*property
	// secrets is what convert writes for a secret, by its path.
	secrets map[string]string
}

// parseMM2 turns an mm2.properties file into a File, with the precedence of MirrorMaker 2's dedicated mode.
func parseMM2(name string, data []byte, env func(string) (string, bool)) (*File, error) {
	properties, bad := parseProperties(data)
	return readMM2(name, foreign{properties: properties, problems: bad}, env)
}

// foreign is a file in the form of an mm2.properties.
type foreign struct {
	properties []property
	problems   []Problem
	notes      []Note
	classes    map[string]string // of config providers that need not be listed, by name
}

func readMM2(name string, file foreign, env func(string) (string, bool)) (*File, error) {
	properties := file.properties
	if len(properties) == 0 && len(file.problems) > 0 { // nothing else can be said
		for i := range file.problems {
			file.problems[i].File = name
		}
		return nil, errorOf(file.problems)
	}
	m := &mm2{
		props: make(map[string]*property), used: make(map[*property]bool), origins: make(map[string]*property),
		secrets: make(map[string]string), notes: file.notes,
	}
	m.resolver = newResolver(env, m.props)
	m.problems = file.problems
	maps.Copy(m.classes, file.classes)
	for i := range properties {
		p := &properties[i]
		if earlier := m.props[p.key]; earlier != nil {
			m.note(earlier, fmt.Sprintf("is set again in line %d, which wins", p.line))
			m.order = slices.DeleteFunc(m.order, func(o *property) bool { return o == earlier })
		}
		m.props[p.key] = p
		m.order = append(m.order, p)
	}
	m.providers()
	c := m.config()
	if len(m.aliases) > 0 {
		for _, p := range m.order {
			if !m.used[p] {
				m.explainUnused(p)
			}
		}
	}
	if len(m.problems) == 0 && len(c.Flows) == 0 {
		m.bad(m.origins["clusters"], "has no flow between the clusters; enable one, such as %s->%s.enabled = true",
			m.aliases[0], m.aliases[len(m.aliases)-1])
	}
	problems := m.problems
	if len(problems) == 0 { // problems that follow from others are not reported
		problems = m.translate(c.problems())
	}
	for i := range problems {
		problems[i].File = name
	}
	if err := errorOf(unique(problems)); err != nil {
		return nil, err
	}
	slices.SortStableFunc(m.notes, func(a, b Note) int { return a.Line - b.Line })
	return &File{Config: c, Notes: m.notes, IsMM2: true, name: name, origins: m.origins, secrets: m.secrets}, nil
}

// unique removes duplicates: one property may apply to several flows.
func unique(problems []Problem) []Problem {
	seen := make(map[Problem]bool)
	return slices.DeleteFunc(problems, func(p Problem) bool {
		again := seen[p]
		seen[p] = true
		return again
	})
}

// translate replaces the paths of a Config by the properties that they came from.
func (m *mm2) translate(found []Problem) []Problem {
	for i, problem := range found {
		for path := problem.Path; path != ""; path = parent(path) {
			p := m.origins[path]
			if p == nil {
				continue
			}
			text := strings.ReplaceAll(problem.Text, "provenance: true in", "provenance: true, a key of milena.yaml, in")
			text = strings.ReplaceAll(text, "reverse_of in", "reverse_of, a key of milena.yaml, in")
			if shown := m.shown(p); !strings.Contains(text, shown) {
				text = shown + ": " + text
			}
			found[i] = Problem{Line: p.line, Path: p.name(), Text: text}
			break
		}
	}
	return found
}

func (m *mm2) note(p *property, reason string) {
	m.used[p] = true
	m.notes = append(m.notes, Note{Key: p.name(), Line: p.line, Reason: reason})
}

// first returns the first of keys that is set, or nil. It marks all of them as used: the others are overridden on
// purpose.
func (m *mm2) first(keys ...string) *property {
	var found *property
	for _, key := range keys {
		if p := m.props[key]; p != nil {
			m.used[p] = true
			if found == nil {
				found = p
			}
		}
	}
	return found
}

// config builds the Config: clusters and enabled flows.
func (m *mm2) config() *Config {
	c := Default()
	c.Clusters = make(map[string]Cluster)
	list := m.first("clusters")
	if list == nil {
		m.problem(1, "clusters", "is missing; list the aliases of all clusters, such as clusters = a, b")
		return &c
	}
	if strings.Contains(list.value, "${") {
		m.bad(list, "has a variable, which MirrorMaker 2 does not replace here; list the aliases")
		return &c
	}
	m.origins["clusters"] = list
	m.aliases = splitList(list.value)
	if len(m.aliases) == 0 {
		m.bad(list, "has no cluster; list the aliases of all clusters, such as clusters = a, b")
		return &c
	}
	for i, alias := range m.aliases {
		if strings.Contains(alias, "->") || slices.Contains(m.aliases[:i], alias) {
			m.bad(list, "has the alias %q twice, or with -> in it; give each cluster a unique alias", alias)
		}
	}
	enabled := m.enabledFlows()
	needed := make(map[string]bool)
	for i, e := range enabled {
		needed[e.source], needed[e.target] = true, true
		r := flowReader{
			mm2: m, Flow: mm2Flow(e.source, e.target), prefix: e.source + "->" + e.target + ".", path: fmt.Sprintf("flows[%d]", i),
		}
		m.origins[r.path] = e.property
		r.read()
		c.Flows = append(c.Flows, r.Flow)
	}
	for _, alias := range m.aliases {
		if needed[alias] || m.props[alias+".bootstrap.servers"] != nil {
			c.Clusters[alias] = m.cluster(alias)
		}
	}
	return &c
}

// enabledFlow is one direction that the file enables.
type enabledFlow struct {
	source, target string
	*property
}

// enabledFlows are the directions with `a->b.enabled = true`, in the order of the file. MirrorMaker 2 reads
// everything but "true" as false, even "true" followed by a space. Here that is an error, because somebody expects
// that flow to run.
func (m *mm2) enabledFlows() []enabledFlow {
	var enabled []enabledFlow
	for _, p := range m.order {
		source, target, key := m.flowOf(p.key)
		if key != "enabled" || source == target || !m.known(source) || !m.known(target) {
			continue // explainUnused reports what is wrong with the aliases
		}
		m.used[p] = true
		switch strings.ToLower(p.value) {
		case "true":
			enabled = append(enabled, enabledFlow{source, target, p})
		case "false":
		default:
			m.bad(p, "is neither true nor false; nothing may follow the word, not even a space or a comment")
		}
	}
	return enabled
}

func (m *mm2) known(alias string) bool { return slices.Contains(m.aliases, alias) }

// flowOf splits a key such as a->b.topics. Aliases may contain dots, so known aliases are tried first.
func (m *mm2) flowOf(key string) (source, target, rest string) {
	source, after, ok := strings.Cut(key, "->")
	if !ok {
		return "", "", ""
	}
	for _, alias := range m.aliases {
		if found, ok := strings.CutPrefix(after, alias+"."); ok && len(alias) > len(target) {
			target, rest = alias, found
		}
	}
	if target == "" {
		target, rest, _ = strings.Cut(after, ".")
	}
	return source, target, rest
}

// splitList splits a Kafka LIST at commas, trims white space, and leaves out empty items.
func splitList(value string) []string {
	items := []string{}
	for item := range strings.SplitSeq(value, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

// mm2Flow is the Flow that MirrorMaker 2 runs between two clusters if no other key is set. Intervals are milena's: those of
// MirrorMaker 2, ten minutes for new topics, say what its requests cost and not what a user wants.
func mm2Flow(source, target string) Flow {
	f := DefaultFlow(source, target)
	f.Isolation = ReadUncommitted // the default of every Kafka consumer
	f.ReplicationFactor = 2
	f.ACLs, f.ACLsLiteral = true, true
	f.GroupsSync = false
	f.OffsetSyncs = OffsetSyncsSource
	f.MigrateFrom = connectOffsetsTopic(source)
	return f
}
