package replicator

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	// cleaned returns the log of the present leader, and its epoch, if only Kafka's log cleaner removes records from its middle; else nil. Its
	// fetch returns errLeaderMoved if another broker leads the partition.
	cleaned(ctx context.Context) (replaySource, int32)
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
	matching := newReconciler(source, tail, known)
	err := readSource(ctx, source, matching)
	var doubt *match.DoubtError
	if errors.As(err, &doubt) && doubt.From < doubt.To {
		if again, sure := replayCleaned(ctx, source, tail, known); again != nil {
			matching, err = again, sure
		}
	}
	var lost *sourceLostError
	switch {
	case errors.As(err, &lost):
		return settlement{}, truncatedError(known, matching, lost)
	case errors.As(err, &doubt):
		return settlement{}, differsError(known, matching, doubt)
	case err != nil:
		return settlement{}, err
	}
	end := matching.End()
	return settlement{end.Segments, end.Next, end.LeaderEpoch}, nil
}

func newReconciler(source replaySource, tail *match.Tail, known tailKnowledge) *match.Reconciler {
	rules := source.rules()
	matching := match.NewReconciler(tail, known.acked, known.leaderEpoch)
	matching.Provenance, matching.MayLeaveOut = rules.marks, rules.leavesOut
	return matching
}

// readings is how often the source is read at most until it is twice the same.
const readings = 4

// replayCleaned replays with the order in which the source's log cleaner works, if it is known that nothing else decides what the source still
// has: one leader's log, which is the same when it is read twice. Otherwise it returns nil. The error is that of readSource.
func replayCleaned(ctx context.Context, source replaySource, tail *match.Tail, known tailKnowledge) (*match.Reconciler, error) {
	log, epoch := source.cleaned(ctx)
	if log == nil {
		return nil, nil //nolint:nilnil // documented
	}
	var before *match.Reconciler
	for range readings {
		matching := newReconciler(source, tail, known)
		matching.Cleaned = epoch
		err := readSource(ctx, log, matching)
		var doubt *match.DoubtError
		switch {
		case errors.Is(err, errLeaderMoved):
			return nil, nil //nolint:nilnil // documented
		case err != nil && !errors.As(err, &doubt):
			return matching, err
		case before != nil && before.Read() == matching.Read():
			return matching, err
		}
		before = matching
	}
	return nil, nil //nolint:nilnil // documented
}

// readSource reads the source until the end of the tail is known. It retries failed fetches. The error is a *sourceLostError, a
// *[match.DoubtError], [match.ErrHashes], or says why a batch cannot be decoded.
func readSource(ctx context.Context, source replaySource, matching *match.Reconciler) error {
	var quiet time.Time // since when the source has nothing at Next
	for attempt := 0; matching.End() == nil; attempt++ {
		before := matching.Next
		err := replayOnce(ctx, source, matching, &quiet)
		switch {
		case errors.Is(err, errSourceNotReady):
			if err := client.Sleep(ctx, client.Backoff(attempt)); err != nil {
				return err
			}
		case err != nil:
			return err
		}
		if matching.Next > before {
			attempt, quiet = 0, time.Time{}
		}
	}
	return nil
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
	case errors.Is(err, errLeaderMoved):
		return err
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
	e := &unsettledError{kind: policy.Unmatched, from: doubt.From, to: doubt.To, detail: "the end of the copy does not match the source: " + doubt.Error()}
	if doubt.From < doubt.To { // it certainly has nothing behind that
		e.fallback = settlement{doubt.Segments, doubt.To, -1}
	} else {
		certain := matching.Partial()
		e.fallback = settlement{certain.Segments, certain.Next, certain.LeaderEpoch}
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
	only int32 // the leader epoch that a fetch may have, -1 for any
}

// errLeaderMoved means that another broker leads the source partition.
var errLeaderMoved = errors.New("the source partition has another leader")

func (s partitionSource) fetch(ctx context.Context, offset int64, leaderEpoch int32) (*kmsg.FetchResponseTopicPartition, error) {
	f, p := s.flow, s.copy
	if s.hasMoved() {
		return nil, errLeaderMoved
	}
	rp, err := f.fetchOne(ctx, p, offset, leaderEpoch, f.isolation)
	if s.hasMoved() { // a fetch names the epoch, so the leader of that one has answered
		return nil, errLeaderMoved
	}
	if err != nil {
		f.log.Debug("replay fetch failed, retrying", "topic", p.topic.source, "partition", p.number, "err", err)
		f.refreshSource(ctx)
		return nil, err
	}
	lost, err := f.checkSource(ctx, p, rp, offset, leaderEpoch)
	if lost != nil {
		return nil, lost
	}
	return rp, err
}

func (s partitionSource) readableEnd(rp *kmsg.FetchResponseTopicPartition) int64 {
	return s.flow.readableEnd(rp)
}

func (s partitionSource) hasMoved() bool {
	s.copy.mu.Lock()
	defer s.copy.mu.Unlock()
	return s.only >= 0 && s.only != s.copy.sourceLeaderEpoch
}

// cleaned asks the leader whether it is a broker of Kafka, as others clean in another order. Records of aborted transactions may only be among
// those that are gone if they were not copied.
func (s partitionSource) cleaned(ctx context.Context) (replaySource, int32) {
	p := s.copy
	p.mu.Lock()
	leader, epoch := p.sourceLeader, p.sourceLeaderEpoch
	p.mu.Unlock()
	if leader < 0 || epoch < 0 || s.flow.isolation != wire.ReadCommitted {
		return nil, -1
	}
	request := kmsg.NewPtrApiVersionsRequest()
	request.ClientSoftwareName, request.ClientSoftwareVersion = "milena", "1" // without a name it is refused
	response, err := request.RequestWith(ctx, s.flow.source.Broker(int(leader)))
	if err != nil || !isKafka(response) {
		return nil, -1
	}
	s.only = epoch
	return s, epoch
}

// isKafka reports whether a broker has the feature that all of Kafka have since 3.3 with KRaft, and no others need.
func isKafka(versions *kmsg.ApiVersionsResponse) bool {
	return slices.ContainsFunc(versions.SupportedFeatures, func(f kmsg.ApiVersionsResponseSupportedFeature) bool { return f.Name == "metadata.version" })
}

func (s partitionSource) rules() replayRules {
	f, topic := s.flow, s.copy.topic.source
	anomalies := f.live().anomalies
	s.copy.mu.Lock()
	acked := s.copy.acked
	s.copy.mu.Unlock()
	return replayRules{
		Rules:      f.batchRules(s.copy.topic),
		marks:      f.writers.provenance(),
		leavesOut:  f.controls.skipped(s.copy.source(), acked) || anomalies.Decide(topic, policy.RecordRefused) == policy.Skip || anomalies.Decide(topic, policy.RecordTooLarge) == policy.Skip,
		settleTime: settleTime,
	}
}
