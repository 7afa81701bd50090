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

// replay reads the source from the last known offset on and matches it with our batches in the tail. It says whether the partition continues.
func (r *recovery) replay(ctx context.Context, p *partition, t *tail) (bool, error) {
	f := r.flow
	a := &match.Reconciler{Own: p.own, Next: p.acked, LeaderEpoch: p.doneEpoch, Searching: t.logStart > t.from, Provenance: f.writers.provenance()}
	err := f.walkSource(ctx, p, a)
	var mismatch *match.MismatchError
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
	f.metrics.reconciled.Add(float64(len(p.own)))
	err = p.progress.reconcile(a.Segments(), a.Next, a.LeaderEpoch)
	p.cursor.reset(p.acked, p.doneEpoch)
	return err == nil, err
}

// alignedAfterLoss goes on behind a loss on the source when policy skips it. The tail's batches stay out of the map.
func (f *Flow) alignedAfterLoss(p *partition, a *match.Reconciler, lost *sourceLostError) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == halted {
		return false
	}
	p.progress.skipTo(max(a.Next, lost.to))
	p.cursor.reset(p.acked, -1)
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
func (f *Flow) walkSource(ctx context.Context, p *partition, a *match.Reconciler) error {
	for attempt := 0; !a.Done(); attempt++ {
		rp, err := f.fetchOne(ctx, p, a.Next, a.LeaderEpoch, f.isolation)
		if err != nil {
			f.log.Debug("source walk", "topic", p.topic.source, "partition", p.number, "err", err)
			f.refreshSource(ctx)
			if err := client.Sleep(ctx, client.Backoff(attempt)); err != nil {
				return err
			}
			continue
		}
		if lost, err := f.checkSource(ctx, p, rp, a.Next); err != nil || lost != nil {
			if lost != nil {
				return lost
			}
			if err := client.Sleep(ctx, client.Backoff(attempt)); err != nil {
				return err
			}
			continue
		}
		before := a.Next
		if err := f.alignResponse(p, rp, a); err != nil {
			return err
		}
		if a.Next > before {
			attempt = 0
		} else if end := f.readableEnd(rp); a.Next >= end && a.Searching {
			return &match.MismatchError{
				Source: a.Next, Target: a.Own[0].Offset,
				Detail: "the target's retention deleted the beginning of what was not journalled yet, and what is left of it cannot be found on the source by its bytes",
			}
		} else if a.Next >= end {
			return &sourceLostError{
				kind: policy.Truncated, from: a.Next, to: a.Next,
				detail: fmt.Sprintf("source %s ends at offset %d, but the target holds %d more batches of it: the source lost records", p, end, len(a.Own)),
			}
		}
	}
	return nil
}

// alignResponse feeds one fetch response to the aligner.
func (f *Flow) alignResponse(p *partition, rp *kmsg.FetchResponseTopicPartition, a *match.Reconciler) error {
	aborted := wire.AbortedOf(rp)
	limits := p.topic.getLimits()
	for batch, err := range recordbatch.Each(rp.RecordBatches) {
		if err != nil {
			return err
		}
		h := batch.Header
		if h.Magic == 2 && h.NextOffset() <= a.Next {
			continue
		}
		lane, _, err := recordbatch.Admit(batch.Bytes, h, &aborted, recordbatch.Rules{Wanted: a.Next, MaxBytes: limits.MaxMessageBytes, TargetLogAppendTime: limits.LogAppendTime, Provenance: f.config.Provenance})
		if err != nil {
			return err
		}
		if err := a.Match(batch, lane); err != nil {
			return err
		}
		if a.Done() {
			break
		}
	}
	return nil
}
