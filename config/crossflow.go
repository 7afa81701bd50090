package config

import (
	"fmt"
	"slices"
	"strings"
)

// validateTogether checks what depends on several flows.
func validateTogether(c *Config, found *problemList) {
	flows := make([]selection, len(c.Flows))
	for i := range c.Flows {
		flows[i] = newSelection(&c.Flows[i])
	}
	for i := range flows {
		checkNameAndTargetTopics(flows, i, found)
	}
	for i := range flows {
		checkACLsOneWay(flows, i, found)
		checkPair(flows, i, found)
		checkIdentityCycle(flows, i, found)
		checkRenameCycles(flows, i, found)
	}
}

// checkNameAndTargetTopics reports earlier flows that have the name of flow i, or write one of its target topics.
func checkNameAndTargetTopics(flows []selection, i int, found *problemList) {
	f := flows[i]
	for j, earlier := range flows[:i] {
		if f.Name == earlier.Name && f.Name != "" {
			found.add(fmt.Sprintf("flows[%d]", i), "has the same name %q as flows[%d]; rename one of them", f.Name, j)
			continue
		}
		if f.Target != earlier.Target || f.Target == "" {
			continue
		}
		if topic := sharedTarget(earlier, f); topic != "" {
			found.add(fmt.Sprintf("flows[%d]", i),
				"writes %s on %q, and so does flows[%d]; only one flow may write a target topic, so change topics or naming",
				topic, f.Target, j)
		}
	}
}

// checkACLsOneWay reports ACLs that are copied in both directions. With provenance a topic can be copied both ways. If its
// ACLs were too, an ACL that is revoked on one side would come back from the other.
func checkACLsOneWay(flows []selection, i int, found *problemList) {
	f := flows[i]
	for j, earlier := range flows[:i] {
		both := f.ACLs && earlier.ACLs && f.Provenance && earlier.Provenance
		if both && f.Source == earlier.Target && f.Target == earlier.Source {
			found.add(fmt.Sprintf("flows[%d].acls", i),
				"is true in both directions, here and in flows[%d]: an ACL that is revoked on one side would come back from the other; keep acls: true in one of them", j)
		}
	}
}

// checkIdentityCycle reports a cycle of identity flows that flow i closes.
func checkIdentityCycle(flows []selection, i int, found *problemList) {
	cycle, common := identityCycle(flows, i)
	if cycle == nil {
		return
	}
	aliases := []string{cycle[0].Source}
	for _, f := range cycle {
		aliases = append(aliases, f.Target)
	}
	found.add(fmt.Sprintf("flows[%d].naming", i),
		"identity closes the replication cycle %s for %s: records would loop endlessly; let no topic be selected all the way round, use prefix in one of its flows, or provenance: true in all of them%s",
		strings.Join(aliases, " -> "), common, pairHint(cycle))
}

// pairHint is the way out for two flows only.
func pairHint(cycle []selection) string {
	if len(cycle) != 2 {
		return ""
	}
	return "; or, if one of the two at a time is to copy, reverse_of in the one that is the way back"
}

// checkRenameCycles reports the topics of rename flow i that other flows bring back.
func checkRenameCycles(flows []selection, i int, found *problemList) {
	if flows[i].Naming != NamingRename {
		return
	}
	for _, topic := range flows[i].literalTopics() {
		if cycle := renameCycle(flows, i, topic); cycle != nil {
			found.add(fmt.Sprintf("flows[%d].rename.%s", i, topic),
				"closes the replication cycle %s: records would loop endlessly; remove the topic from one of its flows",
				strings.Join(cycle, " -> "))
		}
	}
}

// sharedTarget describes the topics that two flows to one target would both write, or returns "". It compares the topics
// that the config spells out with everything, and patterns with patterns where both flows name topics alike. Other overlaps
// are found once the topics are known.
func sharedTarget(a, b selection) string {
	for _, order := range [][2]selection{{a, b}, {b, a}} {
		for _, topic := range order[0].literalTopics() {
			name, ok := order[0].target(topic)
			if !ok {
				continue
			}
			if _, ok := order[1].source(name); ok {
				return fmt.Sprintf("%q", name)
			}
		}
	}
	// Prefix names of two sources differ. Identity names do not, and two prefix flows of one source give equal names.
	same := a.Naming == b.Naming && a.Naming != NamingRename
	if same && a.Naming == NamingPrefix {
		same = a.Source == b.Source && a.Separator == b.Separator
	}
	if !same {
		return ""
	}
	return commonTopics([]selection{a, b})
}

// identityCycle returns the flows of a cycle of identity flows that flow i closes, and the topics that would go round in it. Only the last flow
// of a cycle, in the order of the file, reports it, so each is reported once. A cycle whose flows all have provenance is fine: a record stops
// before the cluster it comes from.
func identityCycle(flows []selection, i int) (cycle []selection, common string) {
	if flows[i].Naming != NamingIdentity || flows[i].Source == flows[i].Target {
		return nil, ""
	}
	var extend func(path []selection, length int) bool
	extend = func(path []selection, length int) bool {
		at := path[len(path)-1].Target
		if at == path[0].Source {
			tracked := !slices.ContainsFunc(path, func(f selection) bool { return !f.Provenance })
			if !tracked && !isPair(path) {
				cycle, common = slices.Clone(path), commonTopics(path)
			}
			return common != ""
		}
		for _, f := range flows[:i] {
			back := slices.ContainsFunc(path[1:], func(earlier selection) bool { return earlier.Source == f.Target })
			if f.Naming == NamingIdentity && f.Source == at && f.Target != at && !back && len(path) < length && extend(append(slices.Clip(path), f), length) {
				return true
			}
		}
		return false
	}
	for length := 2; length <= i+1; length++ { // short cycles first, which are easier to understand
		if extend([]selection{flows[i]}, length) {
			return cycle, common
		}
	}
	return nil, ""
}

// renameCycle follows one renamed topic through all flows that keep names finite. It returns the path if the topic
// comes back to where it started, or nil. Prefix flows are left out: a prefix makes a name longer each time, and a
// flow refuses a name that has its prefix already.
func renameCycle(flows []selection, i int, topic string) []string {
	type node struct{ cluster, topic string }
	begin := node{flows[i].Source, topic}
	seen := map[node]bool{}
	var find func(at node) []string
	find = func(at node) []string {
		for j, f := range flows {
			// Only the last renaming flow of a cycle reports it.
			if f.Source != at.cluster || f.Naming == NamingPrefix || (j > i && f.Naming == NamingRename) {
				continue
			}
			name, ok := f.target(at.topic)
			if !ok {
				continue
			}
			to := node{f.Target, name}
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
	first := node{flows[i].Target, name}
	if first == begin {
		return nil // source and target are the same, which is reported elsewhere
	}
	rest := find(first)
	if rest == nil {
		return nil
	}
	return append([]string{begin.cluster + "/" + begin.topic, first.cluster + "/" + first.topic}, rest...)
}
