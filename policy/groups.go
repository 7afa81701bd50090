package policy

import (
	"errors"
	"regexp"
	"strings"

	"github.com/milena-kafka/milena/config"
)

// Refusal says why a group's translated offset was not committed on the target. The zero Refusal means that it may be
// committed.
type Refusal string

// The refusals. They are metric labels and part of the status, so they never change meaning.
const (
	// RefusedActive means that the group has members on the target: its own consumers commit its offsets.
	RefusedActive Refusal = "active"
	// RefusedAhead means that the group's committed offset on the target is ahead of the translated one: a commit by hand
	// moves no group backwards.
	RefusedAhead Refusal = "ahead"
	// RefusedOwn means that the group's committed offset on the target is not one that milena put there: consumers or a
	// person committed it.
	RefusedOwn Refusal = "own"
	// RefusedNotPut means that the group is to be moved back to its home, but milena has not put it where it consumed: its
	// line does not lead back.
	RefusedNotPut Refusal = "not_put"
	// RefusedKind means that the group's protocol is not that of consumers: a commit would create a group of another
	// kind.
	RefusedKind Refusal = "kind"
	// RefusedNotCopied means that the flow does not copy the topic, or has not copied it yet.
	RefusedNotCopied Refusal = "not_copied"
	// RefusedBeforeStart means that the offset is before the first record that the flow copied, while the target
	// holds older records.
	RefusedBeforeStart Refusal = "before_start"
	// RefusedRecovering means that the partition's map is not known at the moment.
	RefusedRecovering Refusal = "recovering"
	// RefusedRecreated means that the topic was deleted and created again on either side: the map describes the
	// earlier one.
	RefusedRecreated Refusal = "recreated"
	// RefusedRights means that milena lacks permissions on the group.
	RefusedRights Refusal = "rights"
	// RefusedMetadata means that the metadata of a committed offset is longer than the target accepts.
	RefusedMetadata Refusal = "metadata"
	// RefusedFailed means that a request failed. The next group sync retries.
	RefusedFailed Refusal = "failed"
)

// Refusals returns all refusals.
func Refusals() []Refusal {
	return []Refusal{
		RefusedActive, RefusedAhead, RefusedOwn, RefusedNotPut, RefusedKind, RefusedNotCopied, RefusedBeforeStart, RefusedRecovering, RefusedRecreated,
		RefusedRights, RefusedMetadata, RefusedFailed,
	}
}

// Explain returns the refusal as the rest of a sentence that starts with the group's name.
func (r Refusal) Explain() string {
	switch r {
	case RefusedActive:
		return "has members there, which commit their own offsets"
	case RefusedAhead:
		return "is ahead there already, and no group is moved backwards"
	case RefusedOwn:
		return "stands there where its own consumers or a person put it, and milena moves only what it put itself; to let it follow the source again, stop its consumers there and say milena groups adopt GROUP"
	case RefusedNotPut:
		return "has committed offsets in copies in which milena did not put it, so that nothing says that it came from its home"
	case RefusedKind:
		return "is not a consumer group"
	case RefusedNotCopied:
		return "has committed offsets in topics that are not copied"
	case RefusedBeforeStart:
		return "is before the first record whose copy milena knows, and the target holds older ones; if MirrorMaker 2 wrote them, see run --rebuild-map"
	case RefusedRecovering:
		return "has committed offsets in partitions that are being recovered"
	case RefusedRecreated:
		return "has committed offsets in a topic that was deleted and created again, or whose records were truncated"
	case RefusedRights:
		return "cannot be read or written: grant READ on the group to milena's user"
	case RefusedMetadata:
		return "has metadata with its committed offset that is longer than the target accepts: raise offset.metadata.max.bytes in its brokers' server.properties, or shorten what the consumers commit"
	case RefusedFailed:
		return "could not be read or written, retrying"
	default:
		return "is in sync"
	}
}

// ByTarget reports whether the target refuses the group until somebody changes rights or configs there.
func (r Refusal) ByTarget() bool { return r == RefusedRights || r == RefusedMetadata }

// Groups holds which consumer groups of one flow are translated. It is immutable.
type Groups struct {
	include, exclude, back []*regexp.Regexp
	lists                  []list // as they were written
}

// NewGroups compiles the group selection of one flow. The error lists every pattern that does not compile.
func NewGroups(f config.Flow) (*Groups, error) {
	include, includeErr := compileList("groups", f.Groups)
	exclude, excludeErr := compileList("groups_exclude", f.GroupsExclude)
	back, backErr := compileList("groups_back", f.GroupsBack)
	if err := errors.Join(includeErr, excludeErr, backErr); err != nil {
		return nil, err
	}
	return &Groups{include, exclude, back, groupLists(f)}, nil
}

// DrillGroups begins the names of the groups that a drill creates on the target of a flow, and deletes again: milena-drill.FLOW.ID.GROUP. No flow translates
// them.
const DrillGroups = "milena-drill."

// Selected reports whether the flow translates a group of the source.
func (g *Groups) Selected(group string) bool {
	return !strings.HasPrefix(group, DrillGroups) && !matchesAny(g.exclude, group) && matchesAny(g.include, group)
}

// Back reports whether a selected group is moved back to its home on the flow's target after it consumed copies on the
// source.
func (g *Groups) Back(group string) bool { return matchesAny(g.back, group) && g.Selected(group) }

// Translatable reports whether a group of this protocol commits offsets as consumers do. A group that only ever
// committed without members has no protocol.
func Translatable(protocol string) bool { return protocol == "" || protocol == "consumer" }

// ExplainProtocol returns why a group of a protocol that is not translatable is not followed, as the rest of a sentence that
// starts with the group's name.
func ExplainProtocol(protocol string) string {
	switch protocol {
	case "share":
		return "is a share group (KIP-932): the brokers keep a state for each record and no committed offset, so there is nothing to translate; set share.auto.offset.reset of the group on the target before its consumers start there"
	case "streams":
		return "is a Streams group (KIP-1071): its offsets belong to the state of the application, which is not copied together with them; let the application build its state anew on the target"
	case "connect":
		return "consists of Connect workers, which commit no offsets in it"
	default:
		return "has the protocol " + protocol + ", and only consumers commit offsets that can be translated"
	}
}

// TargetGroup is the state of a group on the target.
type TargetGroup struct {
	// Protocol and State are empty if the group does not exist there.
	Protocol, State string
	// Committed is the group's committed offset in the partition, -1 if it has none.
	Committed int64
	// Put says that milena put it there.
	Put bool
}

// Follow reports whether the group sync may commit a translated offset on the target: where none is committed, and where
// milena itself put the one that is, forward or backward. False with an empty refusal means that there is nothing to do. An
// offset that milena did not put is refused even if it is the translated one: whoever put it may rely on it.
func (t TargetGroup) Follow(translated int64) (bool, Refusal) {
	why := t.notInactive()
	switch {
	case t.Committed == translated && (why != "" || t.Put):
		return false, ""
	case why != "":
		return false, why
	case t.Committed >= 0 && !t.Put:
		return false, RefusedOwn
	default:
		return true, ""
	}
}

// Commit reports whether a person may commit a translated offset on the target: forward only, whoever put the one before.
// False with an empty refusal means that the offset is committed already.
func (t TargetGroup) Commit(translated int64) (bool, Refusal) {
	why := t.notInactive()
	switch {
	case t.Committed == translated:
		return false, ""
	case why != "":
		return false, why
	case t.Committed > translated:
		return false, RefusedAhead
	default:
		return true, ""
	}
}

// notInactive returns why nobody but the group itself may commit its offsets. The broker refuses a commit to a group with
// members (UNKNOWN_MEMBER_ID), so a group that becomes active in the meantime is not moved.
func (t TargetGroup) notInactive() Refusal {
	switch {
	case !Translatable(t.Protocol):
		return RefusedKind
	case t.State != "" && t.State != "Empty" && t.State != "Dead":
		return RefusedActive
	default:
		return ""
	}
}
