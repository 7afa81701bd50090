package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// liveKeys says of every key whether a running milena can take another value for it. A key decides about all keys below it.
//
// Not live is what connections, the names of topics on the target, the journal or the ownership of shards depend on.
var liveKeys = map[string]bool{ //nolint:gochecknoglobals // a table
	"clusters":         false,
	"http":             false,
	"log.level":        true,
	"log.format":       false,
	"metrics":          true,
	"otel":             false,
	"buffer":           true,
	"shutdown_timeout": true,
	"instance":         false,

	"flows.name":                false,
	"flows.source":              false,
	"flows.target":              false,
	"flows.topics":              true,
	"flows.topics_exclude":      true,
	"flows.naming":              false,
	"flows.separator":           false,
	"flows.rename":              true, // but not another target for a topic that has one
	"flows.start":               true,
	"flows.isolation":           false,
	"flows.replication_factor":  true,
	"flows.configs_exclude":     true,
	"flows.use_defaults_from":   true,
	"flows.topics_refresh":      true,
	"flows.topics_interval":     true,
	"flows.configs_sync":        true,
	"flows.configs_interval":    true,
	"flows.acls":                true,
	"flows.acls_literal":        true,
	"flows.acls_admin":          true,
	"flows.acls_delete":         true,
	"flows.acls_interval":       true,
	"flows.shards":              false,
	"flows.instances":           false,
	"flows.fence":               false,
	"flows.journal_interval":    false,
	"flows.lease":               false,
	"flows.groups":              true,
	"flows.groups_exclude":      true,
	"flows.groups_refresh":      true,
	"flows.checkpoints":         true,
	"flows.groups_sync":         true,
	"flows.groups_back":         true,
	"flows.groups_interval":     true,
	"flows.heartbeats":          true,
	"flows.heartbeats_interval": true,
	"flows.offset_syncs":        false,
	"flows.internal_separator":  false,
	"flows.provenance":          false,
	"flows.reverse_of":          false,
	"flows.merge":               true,
	"flows.migrate_from":        false,
	"flows.anomalies":           true,
	"flows.anomalies_by_topic":  true,
	"flows.verify":              true,
	"flows.rpo":                 true,
	"flows.rto":                 true,
}

// Change is a difference between two configs.
type Change struct {
	// Path is the path of the value in the second config, such as flows[0].topics. A value that the second config leaves out has the path that it
	// would have.
	Path string
	// Line is where the file of the second config has the value, or what it is left out of. It is 0 if that is not known.
	Line int
	// Flow is the name of the flow that the key belongs to, empty for a key outside of flows.
	Flow string
	// Live says that a running milena can take the new value.
	Live bool

	text string
}

// String names the key and its flow. It contains no value, which may be secret.
func (c Change) String() string { return c.text }

// LiveKeys returns the table of the keys that a running milena can or cannot take another value for. A key decides about all keys below it.
func LiveKeys() map[string]bool { return maps.Clone(liveKeys) }

// IsLive reports whether a running milena can take another value for a key of a flow, such as topics.
func IsLive(flowKey string) bool { return isLive("flows." + flowKey) }

func isLive(key string) bool {
	for ; key != ""; key = key[:max(0, strings.LastIndexByte(key, '.'))] {
		if live, ok := liveKeys[key]; ok {
			return live
		}
	}
	return false
}

// Changes returns what differs between two files for a process that runs the given flows of each. A flow keeps its identity by its name: a flow of
// another name is another flow. Clusters count only if a flow uses them that runs before and after.
func Changes(before, after *File, flowsBefore, flowsAfter []Flow) []Change {
	c := comparison{file: after}
	for i := range c.file.Config.Flows {
		c.flow(i, flowsBefore, flowsAfter)
	}
	for i := range flowsBefore {
		if f := &flowsBefore[i]; byName(flowsAfter, f.Name) == nil {
			c.add(Change{Path: "flows", Flow: f.Name, Live: true, text: "flow " + f.Name + " removed"})
		}
	}
	used := make(map[string]bool)
	for _, f := range flowsAfter {
		if byName(flowsBefore, f.Name) != nil {
			used[f.Source], used[f.Target] = true, true
		}
	}
	for _, alias := range slices.Sorted(maps.Keys(used)) {
		one, known := before.Config.Clusters[alias]
		if other, still := after.Config.Clusters[alias]; known && still {
			c.compare(reflect.ValueOf(one), reflect.ValueOf(other), "clusters", "clusters."+alias)
		}
	}
	c.process(before.Config, after.Config)
	return c.changes
}

// FlowChanges returns the keys of a flow that differ, such as topics, without what is below them.
func FlowChanges(before, after Flow) (keys []string) {
	one, other := reflect.ValueOf(before), reflect.ValueOf(after)
	for i := range one.NumField() {
		if !isSame(one.Field(i), other.Field(i)) {
			keys = append(keys, one.Type().Field(i).Tag.Get("koanf"))
		}
	}
	return keys
}

// Refuse returns an *Error that names each change that is not live, nil if all are.
func Refuse(file *File, changes []Change) error {
	var problems []Problem
	for _, c := range changes {
		if !c.Live {
			problems = append(problems, Problem{File: file.name, Line: c.Line, Path: c.Path, Text: "cannot change while milena runs; restart milena, or undo the change"})
		}
	}
	return errorOf(problems)
}

// Refusal returns an *Error about one path of the file.
func Refusal(file *File, path, text string) error {
	return errorOf([]Problem{{File: file.name, Line: file.line(path), Path: path, Text: text}})
}

func byName(flows []Flow, name string) *Flow {
	for i := range flows {
		if flows[i].Name == name {
			return &flows[i]
		}
	}
	return nil
}

// comparison collects changes.
type comparison struct {
	file    *File // after
	name    string
	changes []Change
}

func (c *comparison) add(change Change) {
	change.Line = c.file.line(change.Path)
	c.changes = append(c.changes, change)
}

// flow compares a flow of the file, if it runs, with that of its name before.
func (c *comparison) flow(i int, before, after []Flow) {
	f, path := &c.file.Config.Flows[i], fmt.Sprintf("flows[%d]", i)
	if byName(after, f.Name) == nil {
		return
	}
	c.name = f.Name
	defer func() { c.name = "" }()
	if old := byName(before, f.Name); old != nil {
		c.compare(reflect.ValueOf(*old), reflect.ValueOf(*f), "flows", path)
	} else {
		c.add(Change{Path: path, Flow: f.Name, Live: true, text: "flow " + f.Name + " added"})
	}
}

// process compares what concerns the whole process.
func (c *comparison) process(before, after *Config) {
	one, other := reflect.ValueOf(*before), reflect.ValueOf(*after)
	for i := range one.NumField() {
		if key := one.Type().Field(i).Tag.Get("koanf"); key != "clusters" && key != "flows" {
			c.compare(one.Field(i), other.Field(i), key, key)
		}
	}
}

// compare finds the lowest keys that differ. The key is that of the table, the path that of the file.
func (c *comparison) compare(one, other reflect.Value, key, path string) {
	if isSame(one, other) {
		return
	}
	if one.Kind() == reflect.Pointer && !one.IsNil() && !other.IsNil() {
		one, other = one.Elem(), other.Elem()
	}
	switch {
	case one.Kind() == reflect.Struct:
		for i := range one.NumField() {
			name := one.Type().Field(i).Tag.Get("koanf")
			c.compare(one.Field(i), other.Field(i), key+"."+name, path+"."+name)
		}
	case one.Type() == reflect.TypeFor[map[string]string]():
		c.compareMaps(one, other, key, path)
	default:
		c.differs(path, isLive(key))
	}
}

func (c *comparison) compareMaps(one, other reflect.Value, key, path string) {
	items := make(map[string]bool)
	for _, m := range []reflect.Value{one, other} {
		for _, item := range m.MapKeys() {
			items[item.String()] = true
		}
	}
	for _, item := range slices.Sorted(maps.Keys(items)) {
		was, is := one.MapIndex(reflect.ValueOf(item)), other.MapIndex(reflect.ValueOf(item))
		switch {
		case was.IsValid() != is.IsValid():
			c.differs(path+"."+item, isLive(key))
		case was.String() != is.String():
			c.differs(path+"."+item, isLive(key) && key != "flows.rename") // the copy of a topic would be another topic
		}
	}
}

func (c *comparison) differs(path string, live bool) {
	text := path
	if c.name != "" {
		text = "flow " + c.name + ": " + path[strings.IndexByte(path, '.')+1:]
	}
	c.add(Change{Path: path, Flow: c.name, Live: live, text: text})
}

// isSame reports whether two values are the same. A list or a mapping without items is the same as none.
func isSame(one, other reflect.Value) bool {
	if k := one.Kind(); (k == reflect.Slice || k == reflect.Map) && one.Len() == 0 && other.Len() == 0 {
		return true
	}
	return reflect.DeepEqual(one.Interface(), other.Interface())
}

// line returns the line of a path, or of its nearest parent that is in the file, 0 if neither is known.
func (f *File) line(path string) int {
	for ; path != ""; path = parent(path) {
		if line, ok := f.lines[path]; ok {
			return line
		}
		if p := f.origins[path]; p != nil {
			return p.line
		}
	}
	return 0
}
