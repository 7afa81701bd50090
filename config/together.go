package config

import (
	"fmt"
	"slices"
	"strings"
)

// validateTogether checks what no flow does wrong for itself: two of them with one name, two that write one topic, and
// records that would never come to rest.
func validateTogether(c *Config, found *complaints) {
	flows := make([]selection, len(c.Flows))
	for i := range c.Flows {
		flows[i] = newSelection(&c.Flows[i])
	}
	for i, f := range flows {
		for j, earlier := range flows[:i] {
			if f.Name == earlier.Name && f.Name != "" {
				found.add(fmt.Sprintf("flows[%d]", i), "has the name %q like flows[%d]; give one of them another name", f.Name, j)
				continue
			}
			if f.Target != earlier.Target || f.Target == "" {
				continue
			}
			if topic := collide(earlier, f); topic != "" {
				found.add(fmt.Sprintf("flows[%d]", i),
					"writes %s on %q, and so does flows[%d]; a target topic has one writer, so change topics or naming",
					topic, f.Target, j)
			}
		}
	}
	for i, f := range flows {
		// With provenance a topic is copied both ways. Were its ACLs as well, what is revoked on one side would come back from the other.
		for j, earlier := range flows[:i] {
			both := f.ACLs && earlier.ACLs && f.Provenance && earlier.Provenance
			if both && f.Source == earlier.Target && f.Target == earlier.Source {
				found.add(fmt.Sprintf("flows[%d].acls", i),
					"goes both ways together with flows[%d]: an ACL that is revoked on one side would come back from the other; keep acls: true in one of them", j)
			}
		}
		if ring := identityRing(flows, i); ring != nil {
			found.add(fmt.Sprintf("flows[%d].naming", i),
				"identity closes the ring %s: records would circulate for ever; use prefix in one of its flows, or provenance: true in all of them",
				strings.Join(ring, " -> "))
		}
		for _, topic := range flows[i].known() {
			if flows[i].Naming != NamingRename {
				continue
			}
			if ring := renameRing(flows, i, topic); ring != nil {
				found.add(fmt.Sprintf("flows[%d].rename.%s", i, topic),
					"closes the ring %s: records would circulate for ever; take the topic out of one of its flows",
					strings.Join(ring, " -> "))
			}
		}
	}
}

// collide names a topic that both flows to one target would write, or is "". Only topics that the config spells out and
// patterns that both have can be compared; what else overlaps is found when the topics are known.
func collide(a, b selection) string {
	for _, pair := range [][2]selection{{a, b}, {b, a}} {
		for _, topic := range pair[0].known() {
			name, ok := pair[0].target(topic)
			if !ok {
				continue
			}
			if _, ok := pair[1].source(name); ok {
				return fmt.Sprintf("%q", name)
			}
		}
	}
	// Prefix names of two sources differ; identity names don't, and two prefix flows of one source have equal names.
	same := a.Naming == b.Naming && a.Naming != NamingRename
	if same && a.Naming == NamingPrefix {
		same = a.Source == b.Source && a.Separator == b.Separator
	}
	if !same {
		return ""
	}
	for _, p := range a.Topics {
		if slices.Contains(b.Topics, p) {
			return fmt.Sprintf("the topics that match %q", p)
		}
	}
	return ""
}

// identityRing is the way of clusters along identity flows that ends where flow i begins, or nil. Only the last flow of a
// ring in the order of the file reports it, so each is told once. The topics of its flows may be disjoint today: a pattern
// that is widened later would still fill both clusters within minutes, and nobody would see why. A ring whose flows all
// keep provenance is none: a record stops before the cluster it has been on.
func identityRing(flows []selection, i int) []string {
	if flows[i].Naming != NamingIdentity || flows[i].Source == flows[i].Target {
		return nil
	}
	type place struct {
		cluster string
		forgets bool // one flow of the way keeps no provenance
	}
	begin := place{flows[i].Target, !flows[i].Provenance}
	seen := map[place]bool{begin: true}
	var find func(at place) []string
	find = func(at place) []string {
		if at.cluster == flows[i].Source {
			if at.forgets {
				return []string{at.cluster}
			}
			return nil
		}
		for _, f := range flows[:i] {
			to := place{f.Target, at.forgets || !f.Provenance}
			if f.Naming != NamingIdentity || f.Source != at.cluster || seen[to] {
				continue
			}
			seen[to] = true
			if rest := find(to); rest != nil {
				return append([]string{at.cluster}, rest...)
			}
		}
		return nil
	}
	way := find(begin)
	if way == nil {
		return nil
	}
	return append([]string{flows[i].Source}, way...)
}

// renameRing follows one renamed topic through all flows that keep names finite and is the way it takes if it comes back
// to where it began. A prefix makes a name longer each time, and flows refuse a prefix that is there already.
func renameRing(flows []selection, i int, topic string) []string {
	type place struct{ cluster, topic string }
	begin := place{flows[i].Source, topic}
	seen := map[place]bool{}
	var find func(at place) []string
	find = func(at place) []string {
		for j, f := range flows {
			// A ring is told by the last of its renaming flows only.
			if f.Source != at.cluster || f.Naming == NamingPrefix || (j > i && f.Naming == NamingRename) {
				continue
			}
			name, ok := f.target(at.topic)
			if !ok {
				continue
			}
			to := place{f.Target, name}
			if to == begin {
				return []string{fmt.Sprintf("%s/%s", to.cluster, to.topic)}
			}
			if seen[to] {
				continue
			}
			seen[to] = true
			if rest := find(to); rest != nil {
				return append([]string{fmt.Sprintf("%s/%s", to.cluster, to.topic)}, rest...)
			}
		}
		return nil
	}
	name, _ := flows[i].target(topic)
	seen[begin] = true
	first := place{flows[i].Target, name}
	if first == begin {
		return nil // source and target are the same: told already
	}
	rest := find(first)
	if rest == nil {
		return nil
	}
	return append([]string{begin.cluster + "/" + begin.topic, first.cluster + "/" + first.topic}, rest...)
}
