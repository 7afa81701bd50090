package replicator

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/match"
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// settlement says which source records the log tail of a copy holds, and where the copy continues. It is the third step of a takeover, and
// all that the step needs to know is in progress, in the tail, and in the source.
type settlement struct {
	segments    []offsets.Segment
	next        int64
	leaderEpoch int32
}

// unsettledError is an anomaly: the tail does not settle what is behind the last acknowledged record. If policy skips it, the copy continues with
// the fallback, or with a new map if the source was truncated below it.
type unsettledError struct {
	kind     policy.Kind
	from, to int64 // source offsets
	detail   string
	fallback settlement
	rewind   bool
}

func (e *unsettledError) Error() string { return e.detail }

// settle finds out which records behind the last acknowledged one the target has, and adds them to the map. It reports whether the partition
// continues.
func (r *recovery) settle(ctx context.Context, t *copyTail) (bool, error) {
	f, p := r.flow, t.copy
	p.mu.Lock()
	known := p.progress.tailKnowledge()
	p.mu.Unlock()
	found, err := r.findSettlement(ctx, t, known)
	var doubt *unsettledError
	switch {
	case errors.As(err, &doubt):
		if !r.acceptDoubt(p, doubt) {
			return false, nil
		}
		found = doubt.fallback
	case err != nil:
		return false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.isRecoveredByLocked(r) {
		return false, nil
	}
	f.metrics.reconciled.Add(float64(t.own.Batches()))
	f.reportDeletedLocked(t, found)
	err = p.progress.settle(found.segments, found.next, found.leaderEpoch)
	p.cursor.reset(p.acked, p.doneEpoch)
	return err == nil, err
}

// findSettlement is settle without any change. If the batches are not sufficient, the records of the tail are read.
func (r *recovery) findSettlement(ctx context.Context, t *copyTail, known tailKnowledge) (settlement, error) {
	source := partitionSource{r.flow, t.copy, -1}
	r.noteTarget(t, known)
	found, err := settle(ctx, source, t.own, t.markerOffset(), r.fenceStep(t), known)
	if !errors.Is(err, match.ErrHashes) {
		return found, err
	}
	again := *t.logTail
	again.until, again.end, again.done, again.logStart = t.markerOffset(), 0, false, 0
	t.copy.mu.Lock()
	reread := r.newCopyTail(t.copy, &again)
	t.copy.mu.Unlock()
	reread.own.Hash()
	if err := r.flow.readTails(ctx, []*logTail{&again}, func(*logTail) {}); err != nil {
		return settlement{}, err
	}
	if again.err != nil {
		return settlement{}, again.err
	}
	t.own, t.logStart = reread.own, max(t.logStart, again.logStart)
	r.noteTarget(t, known)
	return settle(ctx, source, t.own, t.markerOffset(), r.fenceStep(t), known)
}

// noteTarget tells the tail what the target may have deleted. Nothing in it was written before the partition was journaled, so until
// delete.retention.ms after that the target's log cleaner removes no tombstone of it. Half of it leaves time for clocks that differ.
func (r *recovery) noteTarget(t *copyTail, known tailKnowledge) {
	t.own.LogStart = t.logStart
	t.own.KeepsNewest = !t.own.Shared && len(t.foreign)+len(t.stale) == 0 && time.Since(known.restored) < t.copy.topic.getLimits().DeleteRetention/2
}

// fenceStep returns the marker of the fence, and by how much a fence raises the epoch: by one, and by one more if its end did so (KIP-890).
func (r *recovery) fenceStep(t *copyTail) fenced {
	if r.flow.claims() { // no claim writes a marker, so none can be missing, however often the epoch was raised
		return fenced{marker: r.mark, step: math.MaxInt16}
	}
	return fenced{marker: marker{r.mark.producerID, t.sealed}, step: 1 + t.sealed - r.mark.epoch}
}

// fenced is the marker at the end of a log tail, with its epoch, and by how much one fence raises the epoch.
type fenced struct {
	marker
	step int16
}

// settle settles a tail that ends at the target offset of the marker. The error is an *unsettledError, or [match.ErrHashes].
func settle(ctx context.Context, source replaySource, tail *match.Tail, end int64, mark fenced, known tailKnowledge) (settlement, error) {
	err := tail.Close(end, mark.producerID, mark.epoch, mark.step)
	var count *match.CountError
	if err != nil && !errors.As(err, &count) {
		return settlement{}, err
	}
	var found settlement
	if known.continued {
		found, err = settleSent(tail, count, known)
	} else {
		found, err = replay(ctx, source, tail, known) // content tells the number of records, or that remains in doubt
	}
	if gaps := tail.Gaps(); len(gaps) > 0 && err == nil {
		return settlement{}, gapError(known, found, gaps)
	}
	return found, err
}

// gapError is the anomaly of records that the target refused although it wrote others behind them.
func gapError(known tailKnowledge, found settlement, gaps []match.Gap) *unsettledError {
	from, _ := found.around(gaps[0], known.acked)
	_, to := found.around(gaps[len(gaps)-1], known.acked)
	return &unsettledError{kind: policy.Unmatched, from: from, to: to, fallback: found, detail: gapText(gaps)}
}

// around returns between which source offsets the records of a gap are missing, if the settlement begins at one.
func (s settlement) around(gap match.Gap, begin int64) (from, to int64) {
	from = begin
	for _, segment := range s.segments {
		if segment.TargetEnd() > gap.Target {
			return from, segment.Source
		}
		from = segment.SourceEnd()
	}
	return from, s.next
}

// settleSent settles what this process has sent itself, without the source: it knows the records of each batch, and the tail how many of them
// were written.
func settleSent(tail *match.Tail, count *match.CountError, known tailKnowledge) (settlement, error) {
	least, most := tail.Records(), tail.Records()
	if count != nil {
		least, most = count.AtLeast, count.AtMost
	}
	landed, ends, sum := 0, 0, int64(0)
	for n := 0; n <= len(known.unsettled); n++ {
		if n > 0 {
			sum += int64(known.unsettled[n-1].count)
		}
		if least <= sum && sum <= most {
			landed, ends = n, ends+1
		}
	}
	found := settlement{next: known.acked, leaderEpoch: known.leaderEpoch}
	var runs []recordbatch.Run
	for _, b := range known.unsettled[:landed] {
		runs = append(runs, b.runs...)
		found.next, found.leaderEpoch = b.next, b.leaderEpoch
	}
	found.segments, _ = tail.Known(runs)
	if ends == 1 {
		return found, nil
	}
	doubt := &unsettledError{kind: policy.Unmatched, from: known.acked, to: found.next, fallback: found}
	if doubt.detail = fmt.Sprintf("the target holds %d records behind the last acknowledged one, which are not those that were sent", tail.Records()); count != nil {
		doubt.detail = count.Error()
	}
	return settlement{}, doubt
}

// acceptDoubt raises the anomaly of a tail that is not settled. It reports whether policy continues with the fallback.
func (r *recovery) acceptDoubt(p *partition, doubt *unsettledError) bool {
	f := r.flow
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.isRecoveredByLocked(r) || f.raiseLocked(p, doubt.kind, doubt.from, doubt.to, doubt.detail) == policy.Halt {
		return false
	}
	if !doubt.rewind {
		return true
	}
	// A map cannot go back over offsets that hold other records now, see raiseSourceLost.
	p.progress.rewind(doubt.from)
	p.doubtLocked()
	f.requestTakeover(p.shard)
	return false
}

// reportDeletedLocked reports records that were copied, and that the target deleted before they were journaled. They are not copied again. The
// partition's lock is held.
func (f *Flow) reportDeletedLocked(t *copyTail, found settlement) {
	n := t.own.Cut()
	if t.logStart <= t.from || n == 0 {
		return
	}
	p, to := t.copy, found.next
	if len(found.segments) > 0 {
		to = found.segments[0].Source
	}
	f.reportAnomalyLocked(p, policy.CopyDeleted, policy.Skip, p.acked, to,
		fmt.Sprintf("target %s begins at offset %d: it deleted the copies of %d records, from source offset %d on, before they were journaled; they are not copied again", t.partition, t.logStart, n, p.acked))
}
