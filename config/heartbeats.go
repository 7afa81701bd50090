package config

import (
	"fmt"
	"regexp"
	"slices"
)

// assignHeartbeats lets one flow of each pair of clusters write and copy heartbeats: `heartbeats` needs no selection, so several
// flows with disjoint topics would all write its one copy. The first flow in the file has them that can. It returns a note for
// each other flow. The argument line finds the line of a path.
func (c *Config) assignHeartbeats(line func(path string) int) []Note {
	type pair struct{ source, target string }
	writer, copier := map[pair]int{}, map[pair]int{}
	for _, owns := range []func(selection) bool{selection.namesHeartbeats, func(selection) bool { return true }} {
		for i := range c.Flows {
			f := &c.Flows[i]
			p := pair{f.Source, f.Target}
			if _, taken := writer[p]; !taken && f.Heartbeats {
				writer[p] = i
			}
			if _, taken := copier[p]; !taken && f.Naming != NamingRename && owns(newSelection(f)) {
				copier[p] = i
			}
		}
	}
	var notes []Note
	for i := range c.Flows {
		f := &c.Flows[i]
		p, path, said := pair{f.Source, f.Target}, fmt.Sprintf("flows[%d]", i), false
		note := func(owner int) {
			if !said {
				notes = append(notes, Note{Key: path, Line: line(path), Reason: fmt.Sprintf("leaves heartbeats to flow %s, which has the same clusters", c.Flows[owner].Name)})
			}
			said = true
		}
		if owner := writer[p]; f.Heartbeats && owner != i {
			f.Heartbeats = false
			note(owner)
		}
		if owner := copier[p]; f.Naming != NamingRename && owner != i {
			pattern := "heartbeats"
			if f.Naming == NamingPrefix {
				pattern = "(.*" + regexp.QuoteMeta(f.Separator) + ")?heartbeats"
			}
			f.TopicsExclude = append(slices.Clip(f.TopicsExclude), pattern)
			note(owner)
		}
	}
	return notes
}

// namesHeartbeats reports whether the flow names the topic literally.
func (s selection) namesHeartbeats() bool { return slices.Contains(s.literalTopics(), "heartbeats") }
