package groups

import (
	"errors"
	"fmt"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
)

// position is a committed offset of a group in one partition, on its way to the other cluster: source is where it was read, target is where
// it is committed.
type position struct {
	part // what is remembered of it

	group, metadata string

	source       offsets.TopicPartition
	sourceOffset int64
	target       offsets.TopicPartition
	targetOffset int64

	// reverse is the flow that put the group in a topic that this flow's target is the home of, nil for a topic that this flow copies.
	reverse *reverseFlow
	// handed are other positions that count as put by milena, because the reverse flow vouches for them; see lineage.go.
	handed []int64

	refusal policy.Refusal // why it is not committed, empty if it is
	detail  string         // for humans, with a refusal
	// idle says that there is nothing to do, because nobody has consumed since the reverse flow put the group there.
	idle bool
	// unfinished says that the next sync must look again even if the source still has the same offset.
	unfinished bool
	// adopted says that whatever is committed on the target counts as put by milena.
	adopted bool
	// unpublished says that its checkpoint could not be written, so that it is not committed yet.
	unpublished bool
}

func (p *position) refuse(why policy.Refusal, detail string) { p.refusal, p.detail = why, detail }

// translated sets the result of a translation.
func (p *position) translated(target int64, err error) {
	var early *offsets.BeforeStartError
	switch {
	case err == nil:
		p.targetOffset = target
	case errors.Is(err, ErrRecovering):
		p.refuse(policy.RefusedRecovering, fmt.Sprintf("%s: %v", p.source, err))
	case errors.Is(err, ErrRewritten):
		p.refuse(policy.RefusedRecreated, fmt.Sprintf("%s: %v", p.source, err))
	case errors.As(err, &early):
		p.refuse(policy.RefusedBeforeStart, fmt.Sprintf("%s: %v", p.source, err))
	default:
		p.refuse(policy.RefusedFailed, fmt.Sprintf("%s: %v", p.source, err))
	}
}

// settled reports whether there is nothing to do while the source has the same offset. A refusal that the target or the copy may end without
// the source is not.
func (p *position) settled() bool {
	if p.unfinished || p.unpublished || p.unnoted {
		return false
	}
	switch p.refusal {
	case "", policy.RefusedOwn, policy.RefusedNotPut, policy.RefusedKind, policy.RefusedBeforeStart, policy.RefusedRights:
		return true
	case policy.RefusedActive, policy.RefusedAhead, policy.RefusedNotCopied, policy.RefusedRecovering, policy.RefusedRecreated,
		policy.RefusedMetadata, policy.RefusedFailed:
	}
	return false
}

// notRefused returns the positions that may still be committed.
func notRefused(positions []*position) []*position {
	var list []*position
	for _, p := range positions {
		if p.refusal == "" && !p.idle {
			list = append(list, p)
		}
	}
	return list
}
