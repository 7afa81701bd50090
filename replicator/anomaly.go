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

// maxRefusals is how often the target may refuse the same batch before it is an anomaly: a payload that was damaged on the way comes
// out right when it is fetched again.
const maxRefusals = 3

var errNotNow = errors.New("the source can't answer for this partition now")

// checkSource looks at an answer for loss on the source. Nil and nil: the records may be used. An error: ask again later.
func (f *Flow) checkSource(ctx context.Context, p *partition, rp *kmsg.FetchResponseTopicPartition, offset int64) (*sourceLostError, error) {
	switch wire.ClassifyFetch(rp.ErrorCode) {
	case wire.Fetched:
	case wire.OutOfRange:
		return f.sourceOutOfRange(ctx, p, offset)
	case wire.Moved, wire.Gone:
		f.refreshSource(ctx) // a recreated topic shows there by its new id
		return nil, errNotNow
	case wire.Denied:
		f.warn("source fetch", "topic", p.topic.source, "err", fmt.Errorf("%w; grant READ on topic %s of cluster %s", kerr.ErrorForCode(rp.ErrorCode), p.topic.source, f.config.Source))
		return nil, errNotNow
	case wire.RetryLater:
		f.warn("source fetch", "topic", p.topic.source, "partition", p.number, "err", kerr.ErrorForCode(rp.ErrorCode))
		return nil, errNotNow
	}
	p.mu.Lock()
	p.cursor.within()
	p.mu.Unlock()
	if d := rp.DivergingEpoch; d.EndOffset >= 0 && d.EndOffset < offset {
		return &sourceLostError{
			kind: policy.Truncated, from: d.EndOffset, to: offset,
			detail: fmt.Sprintf("source %s was truncated: offsets %d to %d were copied and are no longer in its log (unclean leader election); leader epoch %d ends at %d", p, d.EndOffset, offset-1, d.Epoch, d.EndOffset),
		}, nil
	}
	return nil, nil //nolint:nilnil // neither lost nor in the way
}

// sourceOutOfRange tells retention from truncation. The broker's answer holds no offsets then, so they are asked for.
func (f *Flow) sourceOutOfRange(ctx context.Context, p *partition, offset int64) (*sourceLostError, error) {
	start, end, err := wire.Bounds(ctx, f.source, p.leaderOnSource(), p.source())
	switch {
	case err != nil:
		f.refreshSource(ctx)
		return nil, err
	case offset < start:
		return &sourceLostError{
			kind: policy.RetentionGap, from: offset, to: start,
			detail: fmt.Sprintf("source %s begins at offset %d: offsets %d to %d were deleted before they were copied", p, start, offset, start-1),
		}, nil
	case offset > end && p.beyondEnd() < settleTime:
		return nil, errNotNow
	case offset > end:
		return &sourceLostError{
			kind: policy.Truncated, from: end, to: offset,
			detail: fmt.Sprintf("source %s ends at offset %d: offsets %d to %d were copied and are no longer in its log (unclean leader election)", p, end, end, offset-1),
		}, nil
	}
	return nil, errNotNow // a replica that is behind: the range is right at the leader
}

// settleTime is how long an offset must lie beyond a source's end before that counts as a truncation: a new leader may know a lower
// high watermark for a moment.
const settleTime = 2 * time.Second

// beyondEnd says for how long the offset that is asked for has been beyond the end.
func (p *partition) beyondEnd() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cursor.beyond()
}

// loseSource lets policy decide about records that the source lost. What was fetched before is still produced.
func (f *Flow) loseSource(p *partition, lost *sourceLostError) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f.raiseLocked(p, lost.kind, lost.from, lost.to, lost.detail) == policy.Halt {
		return
	}
	if lost.kind == policy.RetentionGap {
		if err := p.dropLocked(lost.to, -1); err != nil {
			f.haltLocked(p, policy.RetentionGap, lost.from, lost.to, err.Error())
		}
	} else {
		// The map cannot go back over offsets that now hold other records: a new map begins where the source's log was cut. The
		// take-over reads the journal again, so that the old map's chunks are deleted.
		p.progress.rewind(lost.from)
		p.doubtLocked()
		f.requestTakeover(p.shard)
	}
}

// raisePrepare lets policy decide about a batch that cannot be prepared.
func (f *Flow) raisePrepare(p *partition, e *prepareError) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cursor.corrupt() < maxRefusals && e.kind == policy.RecordRefused {
		p.cursor.delay(refreshEvery) // bytes that were damaged on the way are right the next time
		return
	}
	p.cursor.readAgain()
	if e.to <= p.next {
		f.haltLocked(p, e.kind, e.from, e.to, e.Error()) // it is not known where the next batch begins
		return
	}
	if f.raiseLocked(p, e.kind, e.from, e.to, e.Error()) == policy.Skip {
		if err := p.dropLocked(e.to, p.fromEpoch); err != nil {
			f.haltLocked(p, e.kind, e.from, e.to, err.Error())
		}
	}
}

// rebuildProblem says which anomaly a batch is that cannot be rebuilt.
func rebuildProblem(h recordbatch.Header, err error) *prepareError {
	var large *recordbatch.RecordTooLargeError
	if errors.As(err, &large) {
		return &prepareError{
			policy.RecordTooLarge, large.Offset, large.Offset + 1,
			fmt.Errorf("record at source offset %d makes a batch of %d bytes, the target's max.message.bytes is %d", large.Offset, large.Size, large.Max),
		}
	}
	return &prepareError{policy.RecordRefused, h.BaseOffset, h.NextOffset(), fmt.Errorf("batch at source offset %d: %w", h.BaseOffset, err)}
}

// refusedLocked lets policy decide about the batch at acked, which the target refused again and again. It says whether the partition goes on.
func (f *Flow) refusedLocked(p *partition) bool {
	detail := fmt.Sprintf("the target refused the batch at source offset %d %d times: %s", p.acked, p.refused, p.refusal)
	skip := f.raiseLocked(p, policy.RecordRefused, p.acked, p.acked+1, detail) == policy.Skip
	p.outbox.decide(skip)
	return skip
}

// halt stops a partition whatever policy says of the kind.
func (f *Flow) halt(p *partition, kind policy.Kind, detail string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f.haltLocked(p, kind, p.acked, p.acked, detail)
}

func (f *Flow) raise(p *partition, kind policy.Kind, from, to int64, detail string) policy.Action {
	p.mu.Lock()
	defer p.mu.Unlock()
	return f.raiseLocked(p, kind, from, to, detail)
}

// raiseLocked makes an anomaly visible everywhere and does what policy says: a counter, one log line, the status page and the gap ledger
// of the journal. The partition's lock is held.
func (f *Flow) raiseLocked(p *partition, kind policy.Kind, from, to int64, detail string) policy.Action {
	action := f.anomalies.Decide(kind)
	f.noteLocked(p, kind, action, from, to, detail)
	return action
}

// haltLocked halts whatever policy says of the kind: there is no way on.
func (f *Flow) haltLocked(p *partition, kind policy.Kind, from, to int64, detail string) {
	f.noteLocked(p, kind, policy.Halt, from, to, detail)
}

func (f *Flow) noteLocked(p *partition, kind policy.Kind, action policy.Action, from, to int64, detail string) {
	f.metrics.anomalies.WithLabelValues(p.topic.source, string(kind), string(action)).Inc()
	attrs := append(p.logAttrs(), "kind", kind, "action", action, "from", from, "to", to, "detail", detail, "hint", kind.Hint())
	if action == policy.Halt {
		f.log.Error("anomaly: partition halted", attrs...)
		p.haltLocked(&anomaly{kind: kind, from: from, to: to, detail: detail, since: time.Now()})
	} else {
		f.log.Warn("anomaly: going on as configured", attrs...)
	}
	p.progress.addGap(offsets.Gap{Kind: string(kind), Action: string(action), From: from, To: to, At: time.Now(), Detail: detail})
}
