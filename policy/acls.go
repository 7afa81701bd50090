package policy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/milena-kafka/milena/config"
)

// ACL is one ACL binding of a topic resource: a principal's permission for an operation on topics. Operations have
// Kafka's names.
type ACL struct {
	// Name is the topic's name, `*` for all topics, or a prefix of names if Prefixed is set (KIP-290).
	Name     string
	Prefixed bool
	// Principal and Host are as in Kafka: User:alice or User:*, and * for any host.
	Principal, Host string
	Operation       string
	// Deny denies the operation instead of allowing it. Brokers let DENY win.
	Deny bool
}

// String formats the binding as "ALLOW READ to User:alice on topic orders".
func (a ACL) String() string {
	permission, on, from := "ALLOW", "topic "+a.Name, ""
	if a.Deny {
		permission = "DENY"
	}
	switch {
	case a.Prefixed:
		on = "topics with prefix " + a.Name
	case a.allTopics():
		on = "all topics"
	}
	if a.Host != "*" {
		from = " from " + a.Host
	}
	return fmt.Sprintf("%s %s to %s%s on %s", permission, a.Operation, a.Principal, from, on)
}

func (a ACL) allTopics() bool { return !a.Prefixed && a.Name == "*" }

// grantsWrite reports whether the binding allows writing records.
func (a ACL) grantsWrite() bool { return !a.Deny && (a.Operation == "WRITE" || a.Operation == "ALL") }

// administers reports whether the binding is about changing or deleting a topic.
func (a ACL) administers() bool {
	return a.Operation == "DELETE" || a.Operation == "ALTER" || a.Operation == "ALTER_CONFIGS"
}

// overlaps reports whether a topic can exist that both bindings cover.
func (a ACL) overlaps(b ACL) bool {
	switch {
	case a.allTopics() || b.allTopics():
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

// ACLState is the state of both clusters at one moment.
type ACLState struct {
	// Source and Target are all bindings of topic resources.
	Source, Target []ACL
	// Copied maps the source topics that are copied to their remote topics.
	Copied map[string]string
	// TargetTopics are all topics of the target, remote or not.
	TargetTopics []string
	// Remove enables deletions.
	Remove bool
	// Literal leaves out what is allowed on prefixes and on all topics. Admin copies the operations that change or delete a topic.
	Literal, Admin bool
}

// ACLDiff is the difference between the target's bindings and what the source's bindings ask for.
type ACLDiff struct {
	// Create and Delete are bindings of the target, sorted. Delete is empty unless deletions are enabled.
	Create, Delete []ACL
	// InStep counts the bindings of the target that are as they should be.
	InStep int
	// Notes are sentences about bindings that could not be copied as they are, sorted.
	Notes []string
}

// DiffACLs finds the bindings that the remote topics lack, by MirrorMaker 2's rules: ALLOW WRITE is left out, because
// records come from the source only. ALLOW ALL becomes ALLOW READ. ALLOW of DELETE, ALTER and ALTER_CONFIGS is left out unless
// the state says Admin: who manages a topic need not manage its copy. Every other binding keeps its operation, principal
// and host. An ALLOW is created once it covers a topic that is copied, a DENY at once. The target never allows more
// than what the source allows on the copied topics:
//
//   - a topic's name becomes the name of the remote topic;
//   - with prefix naming, a prefix and `*` get the source's alias in front, because only remote topics have such
//     names;
//   - with identity naming, a prefix is kept as long as it covers only remote topics, otherwise it becomes one
//     binding for each copied topic that it covers. `*`, and with a rename table every prefix, always become one
//     binding per topic.
//
// With Remove, Delete holds the bindings that this flow could have created and that no binding of the source maps to.
// Whether the flow did create them is not recorded, so some are left alone: those that cover more than the flow's
// remote topics; ALLOW of WRITE and ALL; and all bindings of a principal that may write to the same remote topics, as
// milena's own user must. A source without any binding deletes nothing: its authorizer is more likely to be new than
// its last user to be gone.
func (t *Topics) DiffACLs(state ACLState) ACLDiff {
	m := t.newACLMapper(state)
	desired, existing := map[ACL]bool{}, map[ACL]bool{}
	for _, a := range state.Target {
		existing[a] = true
	}
	var diff ACLDiff
	for _, a := range state.Source {
		for _, mapped := range m.mapACL(a) {
			if desired[mapped] {
				continue
			}
			desired[mapped] = true
			switch {
			case existing[mapped]:
				diff.InStep++
			case m.coversCopy(mapped), mapped.Deny && !m.coversOther(mapped): // a DENY must exist before the topic does
				diff.Create = append(diff.Create, mapped)
			}
		}
	}
	if state.Remove && len(state.Source) > 0 {
		diff.Delete = m.deletions(state.Target, desired)
	}
	slices.SortFunc(diff.Create, compareACLs)
	slices.SortFunc(diff.Delete, compareACLs)
	diff.Notes = slices.Sorted(maps.Values(m.notes))
	return diff
}

// deletions returns the bindings of the target that this flow could have created, that are not desired, and whose
// principal may not write to the topics that they cover.
func (m *aclMapper) deletions(target []ACL, desired map[ACL]bool) []ACL {
	writers := map[string][]ACL{}
	for _, a := range target {
		if a.grantsWrite() {
			writers[a.Principal] = append(writers[a.Principal], a)
		}
	}
	var obsolete []ACL
	for _, a := range target {
		if !desired[a] && m.couldBeOurs(a) && !slices.ContainsFunc(writers[a.Principal], a.overlaps) {
			obsolete = append(obsolete, a)
		}
	}
	return obsolete
}

// compareACLs orders bindings: DENY first, then by name, principal and operation.
func compareACLs(a, b ACL) int {
	deny := func(a ACL) int {
		if a.Deny {
			return 0 // first, so that between two requests nothing is allowed that is not allowed at the end
		}
		return 1
	}
	return cmp.Or(cmp.Compare(deny(a), deny(b)), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Principal, b.Principal),
		cmp.Compare(a.Operation, b.Operation), cmp.Compare(a.String(), b.String()))
}

// aclMapper maps bindings of the source to bindings of the target, for one state of both.
type aclMapper struct {
	*Topics
	literal, admin bool
	copied         map[string]string
	sources        []string // copied topics, sorted
	copies         []string // their remote topics, sorted
	others         []string // the other topics of the target, sorted
	notes          map[string]string
}

func (t *Topics) newACLMapper(state ACLState) *aclMapper {
	m := &aclMapper{
		Topics: t, literal: state.Literal, admin: state.Admin, copied: state.Copied, notes: map[string]string{},
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

// withPrefix returns the names of a sorted list that have the prefix.
func withPrefix(sorted []string, prefix string) []string {
	from, _ := slices.BinarySearch(sorted, prefix)
	to := from
	for to < len(sorted) && strings.HasPrefix(sorted[to], prefix) {
		to++
	}
	return sorted[from:to:to] // so that an append does not overwrite the list
}

// mapACL returns the bindings on the target that a binding of the source maps to, whether or not they cover a topic
// now.
func (m *aclMapper) mapACL(a ACL) []ACL {
	switch {
	case a.Deny:
	case a.Operation == "WRITE", a.administers() && !m.admin:
		return nil
	case m.literal && (a.Prefixed || a.allTopics()):
		return nil // a denial is copied all the same, or the copies of single topics would allow what the source denies
	case a.Operation == "ALL":
		a.Operation = "READ"
	}
	switch {
	case a.allTopics() && m.naming == config.NamingPrefix:
		a.Name, a.Prefixed = m.prefix, true
	case a.allTopics():
		return m.perTopic(a, m.sources)
	case a.Prefixed && m.naming == config.NamingPrefix:
		a.Name = m.prefix + a.Name
	case a.Prefixed:
		covered := withPrefix(m.sources, a.Name)
		if m.staysPrefixed(a, covered) {
			return []ACL{a}
		}
		return m.perTopic(a, covered)
	default:
		name, reason := m.Target(a.Name)
		if reason != "" || m.copied[a.Name] != name && m.coversCopy(ACL{Name: name}) {
			return nil // not copied, or another topic's remote topic has the name: with identity naming, heartbeats get a name that can exist here
		}
		a.Name = name
	}
	return []ACL{a}
}

func (m *aclMapper) perTopic(a ACL, topics []string) []ACL {
	mapped := make([]ACL, len(topics))
	for i, topic := range topics {
		mapped[i] = a
		mapped[i].Name, mapped[i].Prefixed = m.copied[topic], false
	}
	return mapped
}

// staysPrefixed reports whether the same prefix on the target covers the remote topics of the same topics, and
// nothing else.
func (m *aclMapper) staysPrefixed(a ACL, covered []string) bool {
	if m.naming != config.NamingIdentity {
		return false // a rename table lists all topics there will ever be, so a prefix has no advantage
	}
	other := withPrefix(m.others, a.Name)
	// With identity naming, heartbeats still get the alias in front, so they can leave the prefix or enter it.
	for _, sets := range [][2][]string{{covered, m.copies}, {withPrefix(m.copies, a.Name), covered}} {
		for _, topic := range sets[0] {
			if _, ok := slices.BinarySearch(sets[1], topic); !ok {
				other = append(other, topic)
			}
		}
	}
	if len(other) > 0 && len(covered) > 0 {
		m.notes[a.Name] = fmt.Sprintf("ACLs on topics with prefix %s are copied as ACLs on each of the %d copied topics: on the target the prefix covers other topics too, such as %s",
			a.Name, len(covered), other[0])
	}
	return len(other) == 0
}

// coversCopy reports whether the binding covers a remote topic of the flow.
func (m *aclMapper) coversCopy(a ACL) bool {
	if a.Prefixed {
		return len(withPrefix(m.copies, a.Name)) > 0
	}
	_, ok := slices.BinarySearch(m.copies, a.Name)
	return ok
}

// coversOther reports whether the binding covers a topic of the target that does not belong to the flow.
func (m *aclMapper) coversOther(a ACL) bool {
	if m.naming == config.NamingPrefix {
		return false // every topic with the source's alias in front belongs to the flow
	}
	if a.Prefixed {
		return len(withPrefix(m.others, a.Name)) > 0
	}
	_, ok := slices.BinarySearch(m.others, a.Name)
	return ok
}

// couldBeOurs reports whether this flow could have created a binding of the target.
func (m *aclMapper) couldBeOurs(a ACL) bool {
	switch {
	case a.grantsWrite(), a.allTopics():
		return false
	case m.naming == config.NamingPrefix && a.Prefixed:
		return strings.HasPrefix(a.Name, m.prefix)
	case m.naming == config.NamingPrefix:
		_, ok := m.Source(a.Name) // also if the source topic is gone: its remote topic is kept
		return ok
	case a.Prefixed:
		return m.naming == config.NamingIdentity && m.coversCopy(a) && !m.coversOther(a)
	default:
		return m.coversCopy(a)
	}
}
