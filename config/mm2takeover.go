package config

import "strings"

// positionsTopic is where MirrorMaker 2 in dedicated mode keeps its positions, on the target.
func positionsTopic(source string) string { return "mm2-offsets." + source + ".internal" }

// takeOver reads the name of the topic with MirrorMaker 2's positions: the connector's own, which it has only if it is named, or the
// worker's, where a key for all clusters wins over that of the target.
func (r *flowReader) takeOver() {
	p := r.first(r.prefix+"offsets.storage.topic", "offset.storage.topic", r.Target+".offset.storage.topic")
	if p == nil {
		return
	}
	r.origins[r.path+".take_over"] = p
	if value, ok := r.value(p); ok {
		r.TakeOver = strings.TrimSpace(value)
	}
}
