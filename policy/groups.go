package policy

import (
	"errors"
	"regexp"

	"github.com/milena-kafka/milena/config"
)

// Refusal says why a group's translated offset was not committed on the target. The zero Refusal means that it may be
// committed.
type Refusal string

// The refusals. They are metric labels and part of the status, so they never change meaning.
const (
	// RefusedActive means that the group has members on the target: its own consumers commit its offsets.
	RefusedActive Refusal = "active"
	// RefusedAhead means that the group's committed offset on the target is ahead of the translated one: it is never
	// moved backwards.
	RefusedAhead Refusal = "ahead"
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
	// RefusedFailed means that a request failed. The next group sync retries.
	RefusedFailed Refusal = "failed"
)

// Explain returns the refusal as the rest of a sentence that starts with the group's name.
func (r Refusal) Explain() string {
	switch r {
	case RefusedActive:
		return "has members there, which commit their own offsets"
	case RefusedAhead:
		return "is ahead there already, and no group is moved backwards"
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
	case RefusedFailed:
		return "could not be read or written, retrying"
	default:
		return "is in sync"
	}
}

// Groups holds which consumer groups of one flow are translated. It is immutable.
type Groups struct {
	include, exclude []*regexp.Regexp
}

// NewGroups compiles the group selection of one flow. The error lists every pattern that does not compile.
func NewGroups(f config.Flow) (*Groups, error) {
	include, includeErr := compileList("groups", f.Groups)
	exclude, excludeErr := compileList("groups_exclude", f.GroupsExclude)
	if err := errors.Join(includeErr, excludeErr); err != nil {
		return nil, err
	}
	return &Groups{include, exclude}, nil
}

// Selected reports whether the flow translates a group of the source.
func (g *Groups) Selected(group string) bool {
	return !matchesAny(g.exclude, group) && matchesAny(g.include, group)
}

// Translatable reports whether a group of this protocol commits offsets as consumers do. A group that only ever
// committed without members has no protocol.
func Translatable(protocol string) bool { return protocol == "" || protocol == "consumer" }

// TargetGroup is the state of a group on the target.
type TargetGroup struct {
	// Protocol and State are empty if the group does not exist there.
	Protocol, State string
	// Committed is the group's committed offset in the partition, -1 if it has none.
	Committed int64
}

// Commit reports whether a translated offset may be committed on the target. False with an empty refusal means that
// the offset is committed already. A group without members is moved forward only. The broker refuses a commit to a
// group with members (UNKNOWN_MEMBER_ID), so a group that becomes active in the meantime is not moved.
func (t TargetGroup) Commit(translated int64) (bool, Refusal) {
	switch {
	case t.Committed == translated:
		return false, ""
	case !Translatable(t.Protocol):
		return false, RefusedKind
	case t.State != "" && t.State != "Empty" && t.State != "Dead":
		return false, RefusedActive
	case t.Committed > translated:
		return false, RefusedAhead
	default:
		return true, ""
	}
}
