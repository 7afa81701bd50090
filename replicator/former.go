package replicator

import (
	"fmt"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/match"
)

// formerCopy is the journaled end of the copy of a source topic that was deleted and created again. What was written behind it is not settled, as there
// is no source to settle it with, and the new topic is copied behind it. But it is read: where the copy lacks records between others, that is told.
type formerCopy struct {
	acked    int64             // source offset of the old topic
	end      int64             // target offset
	producer *offsets.Producer // what the first batch behind it carries, nil if unknown
}

// noteFormerLocked notes the copy of a source topic that was deleted and created again, before its map is replaced. The partition's lock is held, here
// and in the next method.
func (p *partition) noteFormerLocked(state *offsets.PartitionState) {
	ids := p.topic.getIDs()
	if !offsets.IsAnotherTopic(state.SourceTopicID, ids.source) || offsets.IsAnotherTopic(state.TargetTopicID, ids.target) {
		return
	}
	p.topic.setFormer(p.number, &formerCopy{p.acked, p.targetEnd, p.progress.firstProducer()})
}

// formerLocked returns the copy that was noted, until the start of the new map is journaled; nil if there is none.
func (p *partition) formerLocked() *formerCopy {
	if p.stage == mapDurable {
		return nil
	}
	return p.topic.getFormer(p.number)
}

func (t *topicLink) setFormer(partition int32, c *formerCopy) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.former == nil {
		t.former = make(map[int32]*formerCopy)
	}
	t.former[partition] = c
}

func (t *topicLink) getFormer(partition int32) *formerCopy {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.former[partition]
}

// reportFormer reports the records that the copy of a deleted topic lacks although it has some that followed them. Nobody can copy them any more, so
// there is nothing to decide.
func (r *recovery) reportFormer(t *copyTail) {
	gaps := t.own.Gaps()
	if t.former == nil || len(gaps) == 0 {
		return
	}
	p := t.copy
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isRecoveredByLocked(r) {
		r.flow.reportAnomalyLocked(p, policy.Unmatched, policy.Skip, t.former.acked, t.former.acked,
			gapText(gaps)+"; the source topic was deleted and created again since, so they cannot be copied any more")
	}
}

// gapText says which records are missing because the target refused or never got them although it wrote others behind them.
func gapText(gaps []match.Gap) string {
	count := int64(0)
	for _, gap := range gaps {
		count += gap.Count
	}
	return fmt.Sprintf(
		"the target wrote the batch at target offset %d although it had refused records that were sent before it, because it had forgotten the producer in between; records that are missing: %d; what follows them is there",
		gaps[0].Target, count)
}
