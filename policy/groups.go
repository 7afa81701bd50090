package policy

import (
	"errors"
	"regexp"

	"github.com/milena-kafka/milena/config"
)

// Refusal says why a position of a consumer group was not committed on the target. The zero Refusal means that nothing
// stands against it.
type Refusal string

// The refusals. They are labels of metrics and words of the status, so they never change meaning.
const (
	// RefusedActive is a group that has members on the target: its own consumers say where it is.
	RefusedActive Refusal = "active"
	// RefusedAhead is a group that stands further on the target than the source's position: it is never moved backwards.
	RefusedAhead Refusal = "ahead"
	// RefusedKind is a group whose protocol is not that of consumers: committing would make a group of another kind.
	RefusedKind Refusal = "kind"
	// RefusedNotCopied is a position in a topic that the flow does not copy, or not yet.
	RefusedNotCopied Refusal = "not_copied"
	// RefusedBeforeStart is a position before the first record that the flow copied, while the copy holds older records.
	RefusedBeforeStart Refusal = "before_start"
	// RefusedRecovering is a position in a partition whose map is not known at the moment.
	RefusedRecovering Refusal = "recovering"
	// RefusedRecreated is a position in a topic that was deleted and made again on either side: the map speaks of the earlier one.
	RefusedRecreated Refusal = "recreated"
	// RefusedRights is missing rights on the group.
	RefusedRights Refusal = "rights"
	// RefusedFailed is a request that failed; the next look tries again.
	RefusedFailed Refusal = "failed"
)

// Explain is the refusal as the end of a sentence that begins with the group's name.
func (r Refusal) Explain() string {
	switch r {
	case RefusedActive:
		return "has members there, which say themselves where it is"
	case RefusedAhead:
		return "stands further there already, and no group is moved backwards"
	case RefusedKind:
		return "is not a group of consumers"
	case RefusedNotCopied:
		return "has positions in topics that are not copied"
	case RefusedBeforeStart:
		return "stands before the first record whose copy milena knows, and the target holds older ones; if MirrorMaker 2 wrote them, see run --rebuild-map"
	case RefusedRecovering:
		return "has positions in partitions that are being recovered"
	case RefusedRecreated:
		return "has positions in a topic that was deleted and made again, or whose records were taken back"
	case RefusedRights:
		return "may not be read or written: grant READ on the group to milena's user"
	case RefusedFailed:
		return "could not be read or written; it is tried again"
	default:
		return "is in place"
	}
}

// Groups knows which consumer groups of one flow are translated. It is immutable.
type Groups struct {
	include, exclude []*regexp.Regexp
}

// NewGroups compiles the selection of one flow.
func NewGroups(f config.Flow) (*Groups, error) {
	include, includeErr := compileList("groups", f.Groups)
	exclude, excludeErr := compileList("groups_exclude", f.GroupsExclude)
	if err := errors.Join(includeErr, excludeErr); err != nil {
		return nil, err
	}
	return &Groups{include, exclude}, nil
}

// Selected says whether the flow looks after a group of the source.
func (g *Groups) Selected(group string) bool {
	return !matchesAny(g.exclude, group) && matchesAny(g.include, group)
}

// Translatable says whether a group of this protocol commits offsets as consumers do. Groups that only ever committed
// without members have no protocol.
func Translatable(protocol string) bool { return protocol == "" || protocol == "consumer" }

// TargetGroup is what the target says of a group.
type TargetGroup struct {
	// Protocol and State are empty for a group that does not exist there.
	Protocol, State string
	// Committed is the group's own position in the partition, -1 if it has none.
	Committed int64
}

// Commit says whether a translated position may be committed on the target. An empty refusal with false means that the
// group is there already. A group without members may be moved forward and nothing else: a group with members is also
// refused by the broker itself (UNKNOWN_MEMBER_ID), so that one that becomes active meanwhile is not moved.
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
