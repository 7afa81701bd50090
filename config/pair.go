package config

import (
	"fmt"
	"slices"
)

// PairOf returns the other half of the pair that a flow is of, among the flows in the other direction: the flow that it is the way back of, or the way
// back of it. It returns nil if there is none.
func PairOf(f Flow, others []Flow) *Flow {
	for i, other := range others {
		if other.Source == f.Target && other.Target == f.Source && (f.ReverseOf == other.Name || other.ReverseOf == f.Name) {
			return &others[i]
		}
	}
	return nil
}

// isPair reports whether a cycle has two flows, of which one at most is active.
func isPair(cycle []selection) bool {
	return len(cycle) == 2 && PairOf(*cycle[0].Flow, []Flow{*cycle[1].Flow}) != nil
}

// checkPair reports why flow i cannot be the way back that its reverse_of says.
func checkPair(flows []selection, i int, found *problemList) {
	back, path := flows[i].Flow, fmt.Sprintf("flows[%d].reverse_of", i)
	if back.ReverseOf == "" {
		return
	}
	at := slices.IndexFunc(flows, func(f selection) bool { return f.Name == back.ReverseOf })
	if at < 0 || at == i {
		found.add(path, "no other flow has the name %q; use the name of the flow that this one is the way back of", back.ReverseOf)
		return
	}
	forth := flows[at].Flow
	for j, other := range flows[:i] {
		if other.ReverseOf == back.ReverseOf {
			found.add(path, "flow %s has a way back already, flows[%d]; a flow has one", forth.Name, j)
		}
	}
	if forth.Source != back.Target || forth.Target != back.Source {
		found.add(path, "flow %s copies from %s to %s; the way back copies from %s to %s", forth.Name, forth.Source, forth.Target, forth.Target, forth.Source)
	}
	if forth.ReverseOf != "" {
		found.add(path, "flow %s is a way back itself; only one of the two has reverse_of", forth.Name)
	}
	for _, half := range []*Flow{forth, back} {
		if half.Naming != NamingIdentity || half.Provenance {
			found.add(path, "flow %s must have naming: identity, and no provenance; with prefixes both directions may be active, and need no reverse_of", half.Name)
		}
		if half.Fence != FenceTransactions || half.Instances != InstancesMany {
			found.add(path, "flow %s must have fence: transactions and instances: many, so that it is certain that a flow that is stopped writes nothing more", half.Name)
		}
		if half.Start != StartEarliest {
			found.add(path, "flow %s must have start: earliest: what is in a topic that only one cluster has would not be copied", half.Name)
		}
	}
	if forth.Shards != back.Shards {
		found.add(path, "flow %s has %d shards and this one %d; give both the same number", forth.Name, forth.Shards, back.Shards)
	}
	if back.MigrateFrom != "" {
		found.add(path, "a way back continues what the other flow copied, and migrates nothing; remove migrate_from")
	}
}
