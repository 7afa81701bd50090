package replicator

import (
	"context"
	"fmt"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
)

// restoreHalfLocked restores a partition of a half of a pair, if it is not to be restored as any other: what is to copy again continues behind what the other
// half has copied. The partition's lock is held, here and in the next methods.
func (r *recovery) restoreHalfLocked(p *partition, l *offsets.Restored) (done bool, err error) {
	switch pending := r.shard.isPending(l); {
	case !pending:
		return false, nil
	case r.standing == nil: // it became pending since; the next takeover reads who may copy
		p.doubtLocked()
		r.flow.requestTakeover(r.shard)
		return true, nil
	}
	if err := r.beginHalfLocked(p, l); err != nil {
		return true, err
	}
	if p.state == recovering && p.offsets != nil {
		p.progress.setAfter(r.shard.after())
	}
	return true, nil
}

// beginHalfLocked begins a partition, or begins it again, behind what the other half has copied.
func (r *recovery) beginHalfLocked(p *partition, l *offsets.Restored) error {
	other := r.otherOf(p)
	if l == nil || l.State == nil {
		r.beginNewLocked(p, l)
	} else {
		if err := r.restoreMapLocked(p, l); err != nil {
			return err
		}
		if r.isRecreatedLocked(p, l.State) {
			return nil
		}
		p.progress.learnIDs(p.topic.getIDs())
	}
	if other == nil {
		if l == nil || l.State == nil || p.topic.source != p.topic.target {
			return nil // nothing of it was copied in the other direction; its own log tail is read as that of any other
		}
		return p.progress.reverse(offsets.NewMap(p.targetEnd, p.acked)) // as if the other half had copied nothing since
	}
	if why := r.contradicts(p, other); why != "" {
		r.flow.haltLocked(p, policy.TargetNotEmpty, p.acked, p.acked, why)
		return nil
	}
	m, err := r.standing.other.Map(offsets.TopicPartition{Topic: p.topic.target, Partition: p.number})
	if err != nil {
		r.flow.haltLocked(p, policy.TargetNotEmpty, p.acked, p.acked, fmt.Sprintf("where the copy of flow %s ended cannot be said: %v", r.flow.pair.other.Name, err))
		return nil
	}
	if l == nil || l.State == nil {
		target, source := m.Start()
		p.beginMapLocked(originReversed, source, target)
	}
	if err := p.progress.reverse(m); err != nil {
		r.flow.haltLocked(p, policy.TargetNotEmpty, p.acked, p.acked, fmt.Sprintf("the maps of this flow and of flow %s contradict each other: %v", r.flow.pair.other.Name, err))
		return nil
	}
	p.cursor.reset(p.acked, -1)
	p.cursor.noteFetch(r.standing.since)
	return nil
}

// otherOf returns what the other half knows of the copy of a partition, nil if it has copied nothing of it.
func (r *recovery) otherOf(p *partition) *offsets.PartitionState {
	if r.standing.other == nil || p.topic.source != p.topic.target { // heartbeats have another name on each side
		return nil
	}
	return r.standing.other.State(offsets.TopicPartition{Topic: p.topic.target, Partition: p.number})
}

// isRecreatedLocked raises the anomaly of a topic that was created again since the journal was written. It does not matter what the policy is: what the
// other half has copied since is not known then.
func (r *recovery) isRecreatedLocked(p *partition, state *offsets.PartitionState) bool {
	var side string
	ids := p.topic.getIDs()
	switch {
	case offsets.IsAnotherTopic(state.TargetTopicID, ids.target):
		side = r.flow.config.Target
	case offsets.IsAnotherTopic(state.SourceTopicID, ids.source):
		side = r.flow.config.Source
	default:
		return false
	}
	r.flow.haltLocked(p, policy.Recreated, p.acked, p.acked, fmt.Sprintf("topic %s was deleted and created again on cluster %s since the flow was stopped", p.topic.source, side))
	return true
}

// contradicts says why what the other half copied says nothing about these topics, empty if it does.
func (r *recovery) contradicts(p *partition, other *offsets.PartitionState) string {
	ids, f := p.topic.getIDs(), r.flow
	switch {
	case other.SourceClusterID != "" && other.SourceClusterID != f.targetID():
		return fmt.Sprintf("flow %s copied from cluster %s, and cluster %s is now %s", f.pair.other.Name, other.SourceClusterID, f.config.Target, f.targetID())
	case offsets.IsAnotherTopic(other.SourceTopicID, ids.target):
		return fmt.Sprintf("topic %s was deleted and created again on cluster %s since flow %s copied it", p.topic.target, f.config.Target, f.pair.other.Name)
	case offsets.IsAnotherTopic(other.TargetTopicID, ids.source):
		return fmt.Sprintf("topic %s was deleted and created again on cluster %s since flow %s copied it", p.topic.source, f.config.Source, f.pair.other.Name)
	}
	return ""
}

// isReversed reports whether the map continues with what was copied in the other direction, and is not journaled yet.
func (p *partition) isReversed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.origin == originReversed && p.stage == mapOpen
}

// finishReversed lets a partition continue behind what its target has and the source does not: what was written there and never copied. That stays.
func (r *recovery) finishReversed(p *partition, t *copyTail) error {
	f := r.flow
	if n := len(t.stale) + t.own.Batches(); n > 0 { // nothing was written by this flow since it came to rest
		f.halt(p, policy.ForeignWrite, fmt.Sprintf("target %s holds %s of this flow behind the end at which it came to rest", t.partition, counted(n, "batch")))
		return nil
	}
	if len(t.foreign) > 0 {
		p.mu.Lock()
		if p.isRecoveredByLocked(r) {
			f.reportAnomalyLocked(p, policy.ForeignWrite, policy.Skip, p.acked, p.acked, fmt.Sprintf(
				"target %s has %s in target offsets %d to %d that were never copied to cluster %s; they stay where they are, and the copy continues behind them",
				t.partition, counted(len(t.foreign), "batch"), t.foreign[0], t.end, f.config.Source))
		}
		p.mu.Unlock()
	}
	return r.completeAt(p, max(t.end, t.from))
}

// isStoppedHalf reports whether the flow is a half of a pair and stopped, so that clients of the target may have begun to write there.
func (r *recovery) isStoppedHalf() bool { return r.standing != nil && r.standing.stopped }

// finishStopped recovers a partition of a half that is stopped, whose target has records of others by now. They must be behind all of the copy: the end of
// the copy is where they begin.
func (r *recovery) finishStopped(ctx context.Context, p *partition, t *copyTail) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if !p.setEndScan(cancel) {
		return nil
	}
	ok, err := r.settle(ctx, t)
	if err != nil || !ok {
		return p.unlessRetired(err)
	}
	p.mu.Lock()
	end := p.targetEnd
	p.mu.Unlock()
	if t.foreign[0] < end && !r.allowsForeign(t) {
		return nil
	}
	return r.completeAt(p, max(end, t.foreign[0]))
}
