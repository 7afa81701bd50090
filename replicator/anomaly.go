package replicator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/wire"
)

// errSourceNotReady means that a fetch must be retried later.
var errSourceNotReady = errors.New("the source cannot serve this partition now")

// anomaly is why a partition is halted. It concerns the offsets [from, to).
type anomaly struct {
	kind     policy.Kind
	from, to int64
	detail   string
	since    time.Time
}

// state describes the anomaly of a partition for the status, nil if there is none.
func (a *anomaly) state(p *partition) *AnomalyState {
	if a == nil {
		return nil
	}
	return &AnomalyState{Kind: string(a.kind), Detail: a.detail, Hint: a.kind.Hint(p.where()), From: a.from, To: a.to, Since: a.since}
}

// where is the partition as the commands of hints name it.
func (p *partition) where() policy.Place {
	return policy.Place{Topic: p.topic.source, Partition: p.number, Target: p.topic.target}
}

// checkSource checks the response to a fetch at an offset for records that the source lost since the last fetch, whose last batch had this leader
// epoch. If it returns nil and nil, the records may be used. An error means that the fetch must be retried later.
func (f *Flow) checkSource(ctx context.Context, p *partition, rp *kmsg.FetchResponseTopicPartition, offset int64, epoch int32) (*sourceLostError, error) {
	switch wire.ClassifyFetch(rp.ErrorCode) {
	case wire.OutOfRange:
		start, end, err := wire.Bounds(ctx, f.source, p.leaderOnSource(), p.source())
		if err != nil {
			f.refreshSource(ctx)
			return nil, err
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		return f.outOfBoundsLocked(p, offset, start, end)
	case wire.Moved, wire.Gone:
		f.refreshSource(ctx) // a recreated topic has a new id in the metadata
	case wire.Fetched, wire.Denied, wire.RetryLater:
	}
	if err := f.fetchError(p, rp); err != nil {
		return nil, err
	}
	return divergence(p, rp, offset, epoch), nil
}

// fetchError returns nil if the records of a fetch response may be used, or else that they must be fetched again later.
func (f *Flow) fetchError(p *partition, rp *kmsg.FetchResponseTopicPartition) error {
	code := kerr.ErrorForCode(rp.ErrorCode)
	switch wire.ClassifyFetch(rp.ErrorCode) {
	case wire.Fetched:
		return nil
	case wire.OutOfRange, wire.Moved, wire.Gone:
	case wire.Denied:
		f.warn("source fetch failed, retrying", "topic", p.topic.source, "err", fmt.Errorf("%w; grant READ on topic %s of cluster %s", code, p.topic.source, f.config.Source))
	case wire.RetryLater:
		f.warn("source fetch failed, retrying", "topic", p.topic.source, "partition", p.number, "err", code)
	}
	return errSourceNotReady
}

// divergence returns what the source lost if its log diverges from what was fetched before an offset (KIP-320), which ended with a leader epoch, else
// nil. A log that has only older epochs there may be longer nevertheless.
func divergence(p *partition, rp *kmsg.FetchResponseTopicPartition, offset int64, epoch int32) *sourceLostError {
	d := rp.DivergingEpoch
	switch {
	case d.EndOffset < 0:
		return nil
	case d.EndOffset >= offset && d.Epoch >= epoch:
		return nil
	case d.EndOffset >= offset:
		return anotherLog(p, offset, epoch, d.Epoch)
	}
	return &sourceLostError{
		kind: policy.Truncated, from: d.EndOffset, to: offset,
		detail: fmt.Sprintf("source %s was truncated: offsets %d to %d were copied and are no longer in its log (unclean leader election); leader epoch %d ends at %d", p, d.EndOffset, offset-1, d.Epoch, d.EndOffset),
	}
}

// outOfBoundsLocked distinguishes retention from truncation. A fetch response with OFFSET_OUT_OF_RANGE has no log start or end, so both were
// requested with ListOffsets. The partition's lock is held.
func (f *Flow) outOfBoundsLocked(p *partition, offset, start, end int64) (*sourceLostError, error) {
	switch {
	case offset < start:
		return &sourceLostError{
			kind: policy.RetentionGap, from: offset, to: start,
			detail: fmt.Sprintf("source %s begins at offset %d: offsets %d to %d were deleted before they were copied", p, start, offset, start-1),
		}, nil
	case offset > end && p.cursor.markBeyond() < settleTime:
		return nil, errSourceNotReady
	case offset > end:
		return &sourceLostError{
			kind: policy.Truncated, from: end, to: offset,
			detail: fmt.Sprintf("source %s ends at offset %d: offsets %d to %d were copied and are no longer in its log (unclean leader election, or, before Kafka 2.8, a topic that was deleted and created again)", p, end, end, offset-1),
		}, nil
	}
	if p.cursor.refuseEpoch() {
		// Either the broker keeps no epochs, or its log is another one than what was copied. Without the epoch, the next batch shows which.
		f.log.Info("the source does not know the leader epoch of what was copied last, fetching without it",
			append(p.logAttrs(), "source_offset", offset, "leader_epoch", p.fromEpoch)...)
		return nil, errSourceNotReady
	}
	refused := fmt.Sprintf("source %s refuses offset %d as out of range, although its log has offsets %d to %d", p, offset, start, end)
	f.warn("source fetch failed, retrying", "topic", p.topic.source, "partition", p.number, "err", errors.New(refused))
	if p.cursor.markRefused() < refusedTime { // perhaps the leader has just changed
		return nil, errSourceNotReady
	}
	return &sourceLostError{kind: policy.Truncated, from: offset, to: offset, detail: refused}, nil
}

// recreatedLocked returns what is lost as the whole topic, if the topic has no id that would tell (before Kafka 2.8), and the loss shows that it was
// deleted and created again: leader epochs never decrease, and the log of one leader never shrinks. An unclean election, the other cause, begins a
// new epoch. The new log has the offsets [start, end). The partition's lock is held.
func (p *partition) recreatedLocked(lost *sourceLostError, start, end int64) *sourceLostError {
	switch {
	case lost.kind != policy.Truncated || p.requestIDs.source != [16]byte{} || p.fromEpoch < 0:
		return lost
	case p.sourceLeaderEpoch < 0 || p.sourceLeaderEpoch > p.fromEpoch: // brokers before 2.1 do not tell it
		return lost
	case p.sourceLeaderEpoch == p.fromEpoch && end >= p.next:
		return lost
	}
	return &sourceLostError{
		kind: policy.Recreated, from: start, to: end,
		detail: fmt.Sprintf("source topic %s was deleted and created again: %s has leader epoch %d and offsets %d to %d, and the old one had leader epoch %d at the end of what was copied, source offset %d",
			p.topic.source, p, p.sourceLeaderEpoch, start, end-1, p.fromEpoch, p.next),
	}
}

// refusedTime is how long the source must refuse an offset of its own log before that is an anomaly.
const refusedTime = 30 * time.Second

// epochRegression returns that the source's log is another one if its batch at next has an older leader epoch than the batch before: epochs
// never decrease in a log. That shows what a broker cannot tell, if it keeps no epochs or has no topic ids. The partition's lock is held.
func epochRegression(p *partition, rp *kmsg.FetchResponseTopicPartition) *sourceLostError {
	for batch, err := range recordbatch.Each(rp.RecordBatches) {
		if epoch := batch.LeaderEpoch; err == nil && epoch >= 0 && epoch < p.fromEpoch {
			return anotherLog(p, p.next, p.fromEpoch, epoch)
		}
		break
	}
	return nil
}

// anotherLog returns that the log of the source has records of an older leader epoch at an offset up to which another log was copied.
func anotherLog(p *partition, offset int64, epoch, older int32) *sourceLostError {
	return &sourceLostError{
		kind: policy.Truncated, from: offset, to: offset,
		detail: fmt.Sprintf("source %s has another log than the one that was copied up to offset %d: that had leader epoch %d there, and this one has %d (unclean leader election, or the topic was deleted and created again)",
			p, offset, epoch, older),
	}
}

// settleTime is how long the fetch offset must be beyond the end of the source before that counts as truncation. A new leader may know
// only a lower high watermark for a moment.
const settleTime = 2 * time.Second

// raiseSourceLostLocked raises the anomaly of records that the source lost, and does what policy says. Batches fetched before are still
// produced. The partition's lock is held.
func (f *Flow) raiseSourceLostLocked(p *partition, lost *sourceLostError) {
	from, to := lost.from, lost.to
	if lost.kind == policy.Recreated {
		from, to = p.acked, p.acked
	}
	action := f.raiseLocked(p, lost.kind, from, to, lost.detail)
	switch {
	case action == policy.Halt:
	case lost.kind == policy.RetentionGap:
		if err := p.dropLocked(lost.to, -1); err != nil {
			f.haltLocked(p, policy.RetentionGap, lost.from, lost.to, err.Error())
		}
	case lost.kind == policy.Recreated && action == policy.Skip:
		f.rewindLocked(p, lost.to)
	default:
		f.rewindLocked(p, lost.from)
	}
}

// rewindLocked begins a new map at an offset of the source. A map cannot go back over offsets that hold other records now. The takeover reads the
// journal again, so that the chunks of the old map are deleted.
func (f *Flow) rewindLocked(p *partition, source int64) {
	p.progress.rewind(source)
	p.doubtLocked()
	f.requestTakeover(p.shard)
}

// raisePrepareErrorLocked raises the anomaly of a batch that cannot be prepared, and does what policy says. The partition's lock is held.
func (f *Flow) raisePrepareErrorLocked(p *partition, e *prepareError) {
	if p.cursor.countUnreadable() < maxRefusals && e.kind == policy.RecordRefused {
		p.cursor.delay(refreshEvery) // a batch that was corrupted in transit is intact in the next fetch
		return
	}
	p.cursor.resetUnreadable()
	if e.to <= p.next {
		f.haltLocked(p, e.kind, e.from, e.to, e.Error()) // where the next batch begins is unknown, so there is nothing to skip to
		return
	}
	if f.raiseLocked(p, e.kind, e.from, e.to, e.Error()) == policy.Skip {
		if err := p.dropLocked(e.to, p.fromEpoch); err != nil {
			f.haltLocked(p, e.kind, e.from, e.to, err.Error())
		}
	}
}

// rebuildError returns the anomaly of a batch that cannot be rebuilt.
func rebuildError(h recordbatch.Header, err error) *prepareError {
	var large *recordbatch.RecordTooLargeError
	if errors.As(err, &large) {
		return &prepareError{
			policy.RecordTooLarge, large.Offset, large.Offset + 1,
			fmt.Errorf("record at source offset %d needs a batch of %d bytes, but max.message.bytes of the target topic is %d", large.Offset, large.Size, large.Max),
		}
	}
	return &prepareError{policy.RecordRefused, h.BaseOffset, h.NextOffset(), fmt.Errorf("batch at source offset %d: %w", h.BaseOffset, err)}
}

// halt halts a partition, whatever policy says about the kind.
func (f *Flow) halt(p *partition, kind policy.Kind, detail string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f.haltLocked(p, kind, p.acked, p.acked, detail)
}

// raise is like raiseLocked, but takes the partition's lock.
func (f *Flow) raise(p *partition, kind policy.Kind, from, to int64, detail string) policy.Action {
	p.mu.Lock()
	defer p.mu.Unlock()
	return f.raiseLocked(p, kind, from, to, detail)
}

// raiseLocked reports an anomaly and halts the partition if policy says so. For every other action, which it returns, the caller does the
// rest. The partition's lock is held.
func (f *Flow) raiseLocked(p *partition, kind policy.Kind, from, to int64, detail string) policy.Action {
	action := f.decide(p, kind, from)
	f.reportAnomalyLocked(p, kind, action, from, to, detail)
	return action
}

// haltLocked halts a partition, whatever policy says about the kind, because it cannot continue. The partition's lock is held.
func (f *Flow) haltLocked(p *partition, kind policy.Kind, from, to int64, detail string) {
	f.reportAnomalyLocked(p, kind, policy.Halt, from, to, detail)
}

// reportAnomalyLocked reports an anomaly in the metrics, the log and the gap ledger of the journal. If the action is to halt, it halts the
// partition, which the status shows. The partition's lock is held.
func (f *Flow) reportAnomalyLocked(p *partition, kind policy.Kind, action policy.Action, from, to int64, detail string) {
	f.metrics.anomalies.WithLabelValues(p.topic.source, string(kind), string(action)).Inc()
	attrs := append(p.logAttrs(), "kind", kind, "action", action, "from", from, "to", to, "detail", detail, "hint", kind.Hint(p.where()))
	if action == policy.Halt {
		f.log.Error("anomaly: partition halted", attrs...)
		p.setHaltedLocked(&anomaly{kind: kind, from: from, to: to, detail: detail, since: time.Now()})
	} else {
		f.log.Warn("anomaly: continuing as configured", attrs...)
	}
	p.progress.addGap(offsets.Gap{Kind: string(kind), Action: string(action), From: from, To: to, At: time.Now(), Detail: detail})
}

// sourceLostError means that the source no longer has the records [from, to).
type sourceLostError struct {
	kind     policy.Kind
	from, to int64
	detail   string
}

func (e *sourceLostError) Error() string { return e.detail }
