package groups

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
)

// readElsewhere reads what the journal says of the copies that other processes have, as far as positions need it. Each partition of the journal
// is read forward once per sync, however many positions there are.
func (p *pass) readElsewhere(ctx context.Context, positions []*position) {
	var needed []offsets.TopicPartition
	for _, q := range positions {
		if q.reverse == nil && p.deps.Host.Elsewhere(q.source) {
			needed = append(needed, q.source)
		}
	}
	if len(needed) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	p.reading.Prepare(ctx, needed)
}

// readTimeout limits how long a journal that does not answer delays the positions that do not need it. What was read before is not read again.
const readTimeout = 10 * time.Second

// translateElsewhere translates a position in a copy that another process has, as translate does for one of this process. What the journal says
// is up to a journal interval old.
func (p *pass) translateElsewhere(ctx context.Context, q *position) {
	state, err := p.reading.State(ctx, q.source)
	var unknown *offsets.NotReplicatedError
	switch {
	case errors.As(err, &unknown):
		q.refuse(policy.RefusedNotCopied, fmt.Sprintf("%s is not copied yet", q.source))
		return
	case err != nil:
		q.translated(0, err)
		return
	case !p.now.describedBy(state, q):
		q.refuse(policy.RefusedRecreated, fmt.Sprintf("%s or %s was recreated: it is not the topic that the journal describes", q.source, q.target))
		return
	case isRewritten(state):
		q.translated(0, ErrRewritten)
		return
	}
	to, err := p.forwardElsewhere(ctx, q)
	if err == nil && q.unfinished && (q.placed && to < q.put || q.checkpointed && to < q.checkpoint.target) {
		q.idle = true // the journal is behind: to the end that it has the group would go backwards
		return
	}
	q.translated(to, err)
	p.vouch(q)
}

// describedBy reports whether the topics of a position are the ones that the journal describes.
func (v views) describedBy(state *offsets.PartitionState, p *position) bool {
	if state.SourceClusterID != "" && state.SourceClusterID != v.source.ClusterID || state.TargetTopic != p.target.Topic {
		return false
	}
	return v.source.Has(p.source.Topic, state.SourceTopicID) && v.target.Has(p.target.Topic, state.TargetTopicID)
}

// isRewritten reports whether a partition is halted because one of its logs is not the one that the journal describes. The gap ledger also has
// what is over: policy has decided otherwise since, or the copy has gone on.
func isRewritten(state *offsets.PartitionState) bool {
	for _, g := range slices.Backward(state.Gaps) {
		if IsRewritten(policy.Kind(g.Kind)) {
			return g.Action == string(policy.Halt) && state.End.Source <= g.To
		}
	}
	return false
}

// forwardElsewhere translates with the journal, then with MirrorMaker 2's offset-syncs if the offset is from before the migration.
func (p *pass) forwardElsewhere(ctx context.Context, q *position) (int64, error) {
	t, err := p.reading.Forward(ctx, q.source, q.sourceOffset)
	var late *offsets.NotCopiedError
	q.unfinished = errors.As(err, &late) // it moves on with the copy
	t, err = t.UpToEnd(err)
	var early *offsets.BeforeStartError
	if !errors.As(err, &early) {
		return t.Target, err
	}
	to, err := p.bounds.continueAt(ctx, q.target, early)
	if !errors.As(err, &early) || p.deps.Migration == nil {
		return to, err
	}
	migrated, ok := p.deps.Migration.Forward(ctx, q.source, q.sourceOffset)
	if !ok {
		return to, err
	}
	return min(migrated, early.Begin.Target), nil
}
