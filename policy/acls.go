package policy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/milena-kafka/milena/config"
)

// ACL is one binding of a topic resource: who may or may not do what with which topics. Operations have Kafka's names.
type ACL struct {
	// Name is the topic's name, `*` for all topics, or the beginning of names if Prefixed (KIP-290).
	Name     string
	Prefixed bool
	// Principal and Host are as in Kafka: User:alice, User:*; * for any host.
	Principal, Host string
	Operation       string
	// Deny takes away instead of granting; brokers let it win.
	Deny bool
}

// String is the binding as a clause: "ALLOW READ to User:alice on topic orders".
func (a ACL) String() string {
	permission, on, from := "ALLOW", "topic "+a.Name, ""
	if a.Deny {
		permission = "DENY"
	}
	switch {
	case a.Prefixed:
		on = "topics that begin with " + a.Name
	case a.everything():
		on = "all topics"
	}
	if a.Host != "*" {
		from = " from " + a.Host
	}
	return fmt.Sprintf("%s %s to %s%s on %s", permission, a.Operation, a.Principal, from, on)
}

func (a ACL) everything() bool { return !a.Prefixed && a.Name == "*" }

// grantsWrite says whether it lets somebody write records.
func (a ACL) grantsWrite() bool { return !a.Deny && (a.Operation == "WRITE" || a.Operation == "ALL") }

// overlaps says whether there can be a topic that both patterns cover.
func (a ACL) overlaps(b ACL) bool {
	switch {
	case a.everything() || b.everything():
		return true
	case a.Prefixed && b.Prefixed:
		return strings.HasPrefix(a.Name, b.Name) || strings.HasPrefix(b.Name, a.Name)
	case a.Prefixed:
		return strings.HasPrefix(b.Name, a.Name)
	case b.Prefixed:
		return strings.HasPrefix(a.Name, b.Name)
	default:
		return a.Name == b.Name
	}
}

// ACLState is what both clusters say at one moment.
type ACLState struct {
	// Source and Target are all bindings of topic resources.
	Source, Target []ACL
	// Copied are the topics that are copied: names on the target by names on the source.
	Copied map[string]string
	// TargetTopics are all topics of the target, copies or not.
	TargetTopics []string
	// Remove says that deletions are asked for.
	Remove bool
}

// ACLDiff is what makes the target's bindings follow the source's.
type ACLDiff struct {
	// Create and Delete are bindings of the target, sorted. Delete is empty unless it was asked for.
	Create, Delete []ACL
	// InStep is how many bindings are on the target as they should be.
	InStep int
	// Notes are sentences about bindings that could not be carried over as they are. Sorted.
	Notes []string
}

// DiffACLs finds the bindings that the copies lack, by MirrorMaker 2's rules: ALLOW WRITE is left out, for records come from the source
// alone, ALLOW ALL becomes ALLOW READ, everything else keeps its operation, principal and host. An ALLOW arrives when it covers a
// topic that is copied, a DENY at once, and what is granted on the target is never more than the copies of what is granted on the source:
//
//   - a topic's name becomes the copy's name;
//   - a prefix, and `*`, get the source's alias in front where copies have it, for nothing else has such names;
//   - under identity naming a prefix stays while it covers copies only, else it becomes a binding for each copied topic that it covers;
//     `*`, and under a rename table every prefix, always do so.
//
// With Remove, Delete are bindings that this flow could have made and that no binding of the source stands for. Whether it did make them
// is not recorded, so the following are left alone: what names more than the flow's copies; ALLOW of WRITE and ALL; and all bindings of a
// principal that may write to the same copies, which milena's own user must. A source without any binding deletes nothing: its authorizer
// is more likely to be new than its last user gone.
func (t *Topics) DiffACLs(state ACLState) ACLDiff {
	m := t.newACLMapper(state)
	kept, have := map[ACL]bool{}, map[ACL]bool{}
	for _, a := range state.Target {
		have[a] = true
	}
	var diff ACLDiff
	for _, a := range state.Source {
		for _, image := range m.images(a) {
			if kept[image] {
				continue
			}
			kept[image] = true
			switch {
			case have[image]:
				diff.InStep++
			case m.coversCopy(image), image.Deny && !m.coversOther(image): // a DENY must be there before the topic is
				diff.Create = append(diff.Create, image)
			}
		}
	}
	if state.Remove && len(state.Source) > 0 {
		writers := map[string][]ACL{}
		for _, a := range state.Target {
			if a.grantsWrite() {
				writers[a.Principal] = append(writers[a.Principal], a)
			}
		}
		for _, a := range state.Target {
			if !kept[a] && m.couldBeOurs(a) && !slices.ContainsFunc(writers[a.Principal], a.overlaps) {
				diff.Delete = append(diff.Delete, a)
			}
		}
	}
	slices.SortFunc(diff.Create, compareACLs)
	slices.SortFunc(diff.Delete, compareACLs)
	diff.Notes = slices.Sorted(maps.Values(m.notes))
	return diff
}

func compareACLs(a, b ACL) int {
	deny := func(a ACL) int {
		if a.Deny {
			return 0 // first: between two requests nobody has more than at the end
		}
		return 1
	}
	return cmp.Or(cmp.Compare(deny(a), deny(b)), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Principal, b.Principal),
		cmp.Compare(a.Operation, b.Operation), cmp.Compare(a.String(), b.String()))
}

// aclMapper finds what bindings of the source are on the target, in one state of both.
type aclMapper struct {
	*Topics
	copied  map[string]string
	sources []string // copied topics, sorted
	copies  []string // the same on the target, sorted
	others  []string // topics of the target that are no copies, sorted
	notes   map[string]string
}

func (t *Topics) newACLMapper(state ACLState) *aclMapper {
	m := &aclMapper{
		Topics: t, copied: state.Copied, notes: map[string]string{},
		sources: slices.Sorted(maps.Keys(state.Copied)), copies: slices.Sorted(maps.Values(state.Copied)),
	}
	for _, name := range state.TargetTopics {
		if _, ok := slices.BinarySearch(m.copies, name); !ok {
			m.others = append(m.others, name)
		}
	}
	slices.Sort(m.others)
	return m
}

// beginningWith are the names of a sorted list that have the prefix.
func beginningWith(sorted []string, prefix string) []string {
	from, _ := slices.BinarySearch(sorted, prefix)
	to := from
	for to < len(sorted) && strings.HasPrefix(sorted[to], prefix) {
		to++
	}
	return sorted[from:to:to] // who appends makes a copy
}

// images are the bindings on the target that a binding of the source stands for, whether or not there are topics for them now.
func (m *aclMapper) images(a ACL) []ACL {
	switch {
	case a.Deny:
	case a.Operation == "WRITE":
		return nil
	case a.Operation == "ALL":
		a.Operation = "READ"
	}
	switch {
	case a.everything() && m.naming == config.NamingPrefix:
		a.Name, a.Prefixed = m.prefix, true
	case a.everything():
		return m.oneByOne(a, m.sources)
	case a.Prefixed && m.naming == config.NamingPrefix:
		a.Name = m.prefix + a.Name
	case a.Prefixed:
		covered := beginningWith(m.sources, a.Name)
		if m.staysPrefixed(a, covered) {
			return []ACL{a}
		}
		return m.oneByOne(a, covered)
	default:
		name, reason := m.Target(a.Name)
		if reason != "" || m.copied[a.Name] != name && m.coversCopy(ACL{Name: name}) {
			return nil // not copied, or the name of another topic's copy: under identity, heartbeats come to a name that exists here
		}
		a.Name = name
	}
	return []ACL{a}
}

func (m *aclMapper) oneByOne(a ACL, topics []string) []ACL {
	images := make([]ACL, len(topics))
	for i, topic := range topics {
		images[i] = a
		images[i].Name, images[i].Prefixed = m.copied[topic], false
	}
	return images
}

// staysPrefixed says whether the same prefix on the target covers the copies of the same topics, and nothing else.
func (m *aclMapper) staysPrefixed(a ACL, covered []string) bool {
	if m.naming != config.NamingIdentity {
		return false // a rename table names every topic that there will be, so there is nothing that a prefix would do better
	}
	other := beginningWith(m.others, a.Name)
	// heartbeats have the alias in front under identity too, so they come and go.
	for _, pair := range [][2][]string{{covered, m.copies}, {beginningWith(m.copies, a.Name), covered}} {
		for _, topic := range pair[0] {
			if _, ok := slices.BinarySearch(pair[1], topic); !ok {
				other = append(other, topic)
			}
		}
	}
	if len(other) > 0 && len(covered) > 0 {
		m.notes[a.Name] = fmt.Sprintf("ACLs on topics that begin with %s are copied as ACLs on each of the %d copied ones: there that beginning means other topics too, such as %s",
			a.Name, len(covered), other[0])
	}
	return len(other) == 0
}

func (m *aclMapper) coversCopy(a ACL) bool {
	if a.Prefixed {
		return len(beginningWith(m.copies, a.Name)) > 0
	}
	_, ok := slices.BinarySearch(m.copies, a.Name)
	return ok
}

// coversOther says whether it covers a topic of the target that is none of the flow's business.
func (m *aclMapper) coversOther(a ACL) bool {
	if m.naming == config.NamingPrefix {
		return false // what has the source's alias in front is the flow's business
	}
	if a.Prefixed {
		return len(beginningWith(m.others, a.Name)) > 0
	}
	_, ok := slices.BinarySearch(m.others, a.Name)
	return ok
}

// couldBeOurs says whether a binding of the target is one that this flow makes for some binding of the source.
func (m *aclMapper) couldBeOurs(a ACL) bool {
	switch {
	case a.grantsWrite(), a.everything():
		return false
	case m.naming == config.NamingPrefix && a.Prefixed:
		return strings.HasPrefix(a.Name, m.prefix)
	case m.naming == config.NamingPrefix:
		_, ok := m.Source(a.Name) // also where the source topic is gone: its copy stays, and so does its name
		return ok
	case a.Prefixed:
		return m.naming == config.NamingIdentity && m.coversCopy(a) && !m.coversOther(a)
	default:
		return m.coversCopy(a)
	}
}
