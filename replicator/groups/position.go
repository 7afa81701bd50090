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
	group, metadata string

	source       offsets.TopicPartition
	sourceOffset int64
	target       offsets.TopicPartition
	targetOffset int64

	refusal policy.Refusal // why it is not committed, empty if it is
	detail  string         // for humans, with a refusal
}

// groupPartition identifies the committed offset of a group in one partition.
type groupPartition struct {
	group string
	offsets.TopicPartition
}

// key identifies the position by its target.
func (p *position) key() groupPartition { return groupPartition{p.group, p.target} }

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

// notRefused returns the positions that are still to be committed.
func notRefused(positions []*position) []*position {
	var list []*position
	for _, p := range positions {
		if p.refusal == "" {
			list = append(list, p)
		}
	}
	return list
}
