package replicator

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/wire"
)

// align walks the source from the last known edge and pairs it with the batches of ours in the tail. It says whether the partition goes on.
func (r *recovery) align(ctx context.Context, p *partition, t *tail) (bool, error) {
	f := r.flow
	a := &aligner{own: p.own, next: p.acked, leaderEpoch: p.doneEpoch, searching: t.logStart > t.from, provenance: f.provenance()}
	err := f.walkSource(ctx, p, a)
	var mismatch *misalignedError
	var lost *sourceLostError
	switch {
	case errors.As(err, &lost):
		f.raise(p, lost.kind, lost.from, lost.to, lost.Error())
		return f.alignedAfterLoss(p, a, lost), nil
	case errors.As(err, &mismatch):
		f.halt(p, policy.ForeignWrite, "the copy's tail cannot be aligned: "+mismatch.Error()) // to go on would copy the tail twice
		return false, nil
	case err != nil:
		return false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, run := range a.runs {
		if err := p.offsets.Append(run.source, run.target, int64(run.count)); err != nil {
			return false, err
		}
	}
	p.acked, p.next, p.doneEpoch, p.fromEpoch = a.next, a.next, a.leaderEpoch, a.leaderEpoch
	if n := len(a.runs); n > 0 {
		p.targetEnd = a.runs[n-1].target + int64(a.runs[n-1].count)
	}
	f.metrics.reconciled.Add(float64(len(p.own)))
	return true, p.offsets.Advance(p.acked, p.targetEnd)
}

// alignedAfterLoss goes on behind a loss on the source when policy skips it. The tail's batches stay out of the map.
func (f *Flow) alignedAfterLoss(p *partition, a *aligner, lost *sourceLostError) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == halted {
		return false
	}
	p.acked = max(a.next, lost.to)
	p.next, p.doneEpoch, p.fromEpoch = p.acked, -1, -1
	return true
}

// sourceLostError says that the source no longer holds what is asked for.
type sourceLostError struct {
	kind     policy.Kind
	from, to int64
	detail   string
}

func (e *sourceLostError) Error() string { return e.detail }

// walkSource feeds source batches to the aligner until every batch of the tail is paired.
func (f *Flow) walkSource(ctx context.Context, p *partition, a *aligner) error {
	for attempt := 0; !a.done(); attempt++ {
		rp, err := f.fetchOne(ctx, p, a.next, a.leaderEpoch, f.isolation)
		if err != nil {
			f.log.Debug("source walk", "topic", p.topic.source, "partition", p.number, "err", err)
			f.refreshSource(ctx)
			if err := client.Sleep(ctx, client.Backoff(attempt)); err != nil {
				return err
			}
			continue
		}
		if lost, err := f.checkSource(ctx, p, rp, a.next); err != nil || lost != nil {
			if lost != nil {
				return lost
			}
			if err := client.Sleep(ctx, client.Backoff(attempt)); err != nil {
				return err
			}
			continue
		}
		before := a.next
		if err := f.alignResponse(p, rp, a); err != nil {
			return err
		}
		if a.next > before {
			attempt = 0
		} else if end := f.readableEnd(rp); a.next >= end && a.searching {
			return &misalignedError{
				source: a.next, target: a.own[0].offset,
				detail: "the target's retention deleted the beginning of what was not journalled yet, and what is left of it cannot be found on the source by its bytes",
			}
		} else if a.next >= end {
			return &sourceLostError{
				kind: policy.Truncated, from: a.next, to: a.next,
				detail: fmt.Sprintf("source %s ends at offset %d, but the target holds %d more batches of it: the source lost records", p, end, len(a.own)),
			}
		}
	}
	return nil
}

// alignResponse feeds one fetch response to the aligner.
func (f *Flow) alignResponse(p *partition, rp *kmsg.FetchResponseTopicPartition, a *aligner) error {
	aborted := wire.AbortedOf(rp)
	limits := p.topic.getLimits()
	for batch, err := range recordbatch.Each(rp.RecordBatches) {
		if err != nil {
			return err
		}
		h := batch.Header
		if h.Magic == 2 && h.NextOffset() <= a.next {
			continue
		}
		lane, _, err := recordbatch.Admit(batch.Bytes, h, &aborted, recordbatch.Rules{Wanted: a.next, MaxBytes: limits.MaxMessageBytes, TargetLogAppendTime: limits.LogAppendTime, Provenance: f.config.Provenance})
		if err != nil {
			return err
		}
		if err := a.accept(h, batch.Bytes, lane); err != nil {
			return err
		}
		if a.done() {
			break
		}
	}
	return nil
}
