package config

import "strings"

// connectOffsetsTopic is the topic on the target that holds the connector offsets of a MirrorMaker 2 in dedicated
// mode.
func connectOffsetsTopic(source string) string { return "mm2-offsets." + source + ".internal" }

// migrateFrom reads the name of that topic. A connector's own offsets topic wins. Otherwise it is the worker's topic, where
// a key for all clusters wins over that of the target.
func (r *flowReader) migrateFrom() {
	p := r.first(r.prefix+"offsets.storage.topic", "offset.storage.topic", r.Target+".offset.storage.topic")
	if p == nil {
		return
	}
	r.origins[r.path+".migrate_from"] = p
	if value, ok := r.value(p); ok {
		r.MigrateFrom = strings.TrimSpace(value)
	}
}
