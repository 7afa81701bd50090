package replicator

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/match"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/wire"
)

// replay matches our batches in the log tail with the source, from the last acknowledged offset on, and adds them to the map. It reports
// whether the partition continues.
func (r *recovery) replay(ctx context.Context, p *partition, t *logTail) (bool, error) {
	f := r.flow
	matching := &match.Reconciler{Own: p.own, Next: p.acked, LeaderEpoch: p.doneEpoch, Searching: t.logStart > t.from, Provenance: f.writers.provenance()}
	err := f.replaySource(ctx, p, matching)
	var mismatch *match.MismatchError
	var lost *sourceLostError
	switch {
	case errors.As(err, &lost):
		f.raise(p, lost.kind, lost.from, lost.to, lost.Error())
		return f.skipLostRecords(p, matching, lost), nil
	case errors.As(err, &mismatch):
		f.halt(p, policy.ForeignWrite, "the end of the copy does not match the source: "+mismatch.Error()) // to continue would duplicate it
		return false, nil
	case err != nil:
		return false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	f.metrics.reconciled.Add(float64(len(p.own)))
	err = p.progress.reconcile(matching.Segments(), matching.Next, matching.LeaderEpoch)
	p.cursor.reset(p.acked, p.doneEpoch)
	return err == nil, err
}

// skipLostRecords continues behind the records that the source lost, unless policy has halted the partition. The batches of the log tail
// stay out of the map.
func (f *Flow) skipLostRecords(p *partition, matching *match.Reconciler, lost *sourceLostError) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == halted {
		return false
	}
	p.progress.skipTo(max(matching.Next, lost.to))
	p.cursor.reset(p.acked, -1)
	return true
}

// sourceLostError means that the source no longer has the records [from, to).
type sourceLostError struct {
	kind     policy.Kind
	from, to int64
	detail   string
}

func (e *sourceLostError) Error() string { return e.detail }

// replaySource reads the source until every batch of the log tail is matched. It retries failed fetches. The error is a *sourceLostError, a
// *match.MismatchError, or says why a batch cannot be decoded.
func (f *Flow) replaySource(ctx context.Context, p *partition, matching *match.Reconciler) error {
	for attempt := 0; !matching.Done(); attempt++ {
		rp, err := f.fetchReplay(ctx, p, matching)
		var lost *sourceLostError
		if errors.As(err, &lost) {
			return lost
		}
		if err != nil {
			if err := client.Sleep(ctx, client.Backoff(attempt)); err != nil {
				return err
			}
			continue
		}
		before := matching.Next
		if err := f.matchResponse(p, rp, matching); err != nil {
			return err
		}
		if matching.Next > before {
			attempt = 0
		} else if end := f.readableEnd(rp); matching.Next >= end {
			return unmatchedError(p, matching, end)
		}
	}
	return nil
}

// fetchReplay fetches the next source batches of a replay. The error is a *sourceLostError, or the fetch must be retried.
func (f *Flow) fetchReplay(ctx context.Context, p *partition, matching *match.Reconciler) (*kmsg.FetchResponseTopicPartition, error) {
	rp, err := f.fetchOne(ctx, p, matching.Next, matching.LeaderEpoch, f.isolation)
	if err != nil {
		f.log.Debug("replay fetch failed, retrying", "topic", p.topic.source, "partition", p.number, "err", err)
		f.refreshSource(ctx)
		return nil, err
	}
	lost, err := f.checkSource(ctx, p, rp, matching.Next)
	if lost != nil {
		return nil, lost
	}
	return rp, err
}

// unmatchedError says why batches of the log tail are still unmatched at the end of the source: retention of the target deleted the
// beginning of the tail, or the source lost records.
func unmatchedError(p *partition, matching *match.Reconciler, end int64) error {
	if matching.Searching {
		return &match.MismatchError{
			Source: matching.Next, Target: matching.Own[0].Offset,
			Detail: "the target's retention deleted the beginning of what was not journaled yet, and what is left of it cannot be found on the source by its bytes",
		}
	}
	return &sourceLostError{
		kind: policy.Truncated, from: matching.Next, to: matching.Next,
		detail: fmt.Sprintf("source %s ends at offset %d, but the target has %d more batches of it: the source lost records", p, end, len(matching.Own)),
	}
}

// matchResponse matches the batches of one fetch response.
func (f *Flow) matchResponse(p *partition, rp *kmsg.FetchResponseTopicPartition, matching *match.Reconciler) error {
	aborted := wire.AbortedOf(rp)
	limits := p.topic.getLimits()
	for batch, err := range recordbatch.Each(rp.RecordBatches) {
		if err != nil {
			return err
		}
		h := batch.Header
		if h.Magic == 2 && h.NextOffset() <= matching.Next {
			continue
		}
		route, _, err := recordbatch.Admit(batch.Bytes, h, &aborted, recordbatch.Rules{
			Wanted: matching.Next, MaxBytes: limits.MaxMessageBytes, TargetLogAppendTime: limits.LogAppendTime, Provenance: f.config.Provenance,
		})
		if err != nil {
			return err
		}
		if err := matching.Match(batch, route); err != nil {
			return err
		}
		if matching.Done() {
			break
		}
	}
	return nil
}
