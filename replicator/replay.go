package replicator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/match"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/wire"
)

// replaySource is the source of a partition whose tail is settled.
type replaySource interface {
	// fetch returns what the source has at an offset. The error is a *sourceLostError, or the fetch must be retried.
	fetch(ctx context.Context, offset int64, leaderEpoch int32) (*kmsg.FetchResponseTopicPartition, error)
	// readableEnd returns the end of the readable log in a response.
	readableEnd(rp *kmsg.FetchResponseTopicPartition) int64
	// rules say how the batches of the source are copied.
	rules() replayRules
}

// replayRules say how the batches of the source are copied.
type replayRules struct {
	recordbatch.Rules
	marks *recordbatch.Provenance
	// leavesOut says that policy leaves out records that the target refuses.
	leavesOut bool
	// settleTime is how long the end of the source must be the same before it counts, see the constant of that name.
	settleTime time.Duration
}

// replay reads the source from the last acknowledged record on, until it is known which of its records the tail holds. It retries failed fetches.
// The error is an *unsettledError, [match.ErrHashes], or says why a batch cannot be decoded.
func replay(ctx context.Context, source replaySource, tail *match.Tail, known tailKnowledge) (settlement, error) {
	rules := source.rules()
	matching := match.NewReconciler(tail, known.acked, known.leaderEpoch)
	matching.Provenance, matching.MayLeaveOut = rules.marks, rules.leavesOut
	var quiet time.Time // since when the source has nothing at Next
	for attempt := 0; matching.End() == nil; attempt++ {
		before := matching.Next
		err := replayOnce(ctx, source, matching, &quiet)
		var lost *sourceLostError
		var doubt *match.DoubtError
		switch {
		case errors.As(err, &lost):
			return settlement{}, truncatedError(known, matching, lost)
		case errors.As(err, &doubt):
			return settlement{}, differsError(known, matching, doubt)
		case errors.Is(err, errSourceNotReady):
			if err := client.Sleep(ctx, client.Backoff(attempt)); err != nil {
				return settlement{}, err
			}
		case err != nil:
			return settlement{}, err
		}
		if matching.Next > before {
			attempt, quiet = 0, time.Time{}
		}
	}
	end := matching.End()
	return settlement{end.Segments, end.Next, end.LeaderEpoch}, nil
}

// replayOnce fetches once and matches the batches. It returns errSourceNotReady if it must be called again later.
func replayOnce(ctx context.Context, source replaySource, matching *match.Reconciler, quiet *time.Time) error {
	rp, err := source.fetch(ctx, matching.Next, matching.LeaderEpoch)
	var lost *sourceLostError
	switch {
	case errors.As(err, &lost) && lost.kind == policy.RetentionGap:
		matching.Lost(lost.to) // copied or not, the tail tells
		return nil
	case errors.As(err, &lost):
		return lost
	case err != nil:
		return errSourceNotReady
	}
	before, rules := matching.Next, source.rules()
	if err := matchResponse(rp, rules, matching); err != nil {
		return err
	}
	end := source.readableEnd(rp)
	if matching.Next > before || matching.Next < end {
		return nil
	}
	if quiet.IsZero() {
		*quiet = time.Now()
	}
	if time.Since(*quiet) < rules.settleTime {
		return errSourceNotReady
	}
	ok, err := matching.EndOfSource(end)
	if err != nil || ok {
		return err
	}
	return &sourceLostError{kind: policy.Truncated, from: end, to: end, detail: fmt.Sprintf("the source ends at offset %d, but the target has more records of it: the source lost records (unclean leader election?)", end)}
}

// matchResponse matches the batches of one fetch response.
func matchResponse(rp *kmsg.FetchResponseTopicPartition, rules replayRules, matching *match.Reconciler) error {
	aborted := wire.AbortedOf(rp)
	for batch, err := range recordbatch.Each(rp.RecordBatches) {
		if err != nil {
			return err
		}
		rules.Wanted = matching.Next
		route, reason, err := recordbatch.Admit(batch.Bytes, batch.Header, &aborted, rules.Rules)
		if err != nil {
			return err
		}
		if err := matching.Match(batch, route, reason); err != nil || matching.End() != nil {
			return err
		}
	}
	return nil
}

// truncatedError is the anomaly of a source that no longer has what was copied. Below the last acknowledged record, the map must begin anew.
func truncatedError(known tailKnowledge, matching *match.Reconciler, lost *sourceLostError) error {
	certain := matching.Partial()
	return &unsettledError{
		kind: lost.kind, from: lost.from, to: lost.to, detail: lost.Error(),
		fallback: settlement{certain.Segments, certain.Next, certain.LeaderEpoch}, rewind: lost.from < known.acked || lost.from < certain.Next,
	}
}

// differsError is the anomaly of a source whose records are not those of the tail, or may be those of the tail in more than one way. If the source
// has a newer leader epoch there, it was truncated and has grown again.
func differsError(known tailKnowledge, matching *match.Reconciler, doubt *match.DoubtError) error {
	certain := matching.Partial()
	e := &unsettledError{
		kind: policy.Unmatched, from: doubt.From, to: doubt.To, detail: "the end of the copy does not match the source: " + doubt.Error(),
		fallback: settlement{certain.Segments, certain.Next, certain.LeaderEpoch},
	}
	if doubt.To > certain.Next {
		e.fallback.next, e.fallback.leaderEpoch = doubt.To, -1
	}
	if doubt.From == doubt.To && known.leaderEpoch >= 0 && doubt.LeaderEpoch > known.leaderEpoch {
		e.kind = policy.Truncated
	}
	return e
}

// partitionSource is the source of a partition.
type partitionSource struct {
	flow *Flow
	copy *partition
}

func (s partitionSource) fetch(ctx context.Context, offset int64, leaderEpoch int32) (*kmsg.FetchResponseTopicPartition, error) {
	f, p := s.flow, s.copy
	rp, err := f.fetchOne(ctx, p, offset, leaderEpoch, f.isolation)
	if err != nil {
		f.log.Debug("replay fetch failed, retrying", "topic", p.topic.source, "partition", p.number, "err", err)
		f.refreshSource(ctx)
		return nil, err
	}
	lost, err := f.checkSource(ctx, p, rp, offset)
	if lost != nil {
		return nil, lost
	}
	return rp, err
}

func (s partitionSource) readableEnd(rp *kmsg.FetchResponseTopicPartition) int64 {
	return s.flow.readableEnd(rp)
}

func (s partitionSource) rules() replayRules {
	f, topic := s.flow, s.copy.topic.source
	return replayRules{
		Rules:      f.batchRules(s.copy.topic),
		marks:      f.writers.provenance(),
		leavesOut:  f.anomalies.Decide(topic, policy.RecordRefused) == policy.Skip || f.anomalies.Decide(topic, policy.RecordTooLarge) == policy.Skip,
		settleTime: settleTime,
	}
}
