package replicator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/wire"
)

const (
	// LongPoll is how long the source may keep a fetch that finds nothing. It bounds how late a partition that was left out comes back.
	longPoll = 500 * time.Millisecond
	// ShortPoll is used while a partition is left out because the target is behind: its turn comes in milliseconds.
	shortPoll = 5 * time.Millisecond
	// PartitionBytes is what one partition may fill of one answer; its queue is topped up until twice that.
	partitionBytes = 1 << 20
)

const (
	// SourceLoops is how many loops may fetch from one broker, each in a session and on a connection of its own. A broker that has news of
	// one partition looks at all partitions of the session before it answers.
	sourceLoops = 4
	// LoopPartitions is from how many partitions on it takes another loop.
	loopPartitions = 250
)

// sourceLoop names one of the loops of a broker.
type sourceLoop struct{ broker, number int32 }

// sourceBroker is one broker of the source and the partitions that one loop fetches from it.
type sourceBroker struct {
	sourceLoop
	flow    *Flow
	wire    wire.Fetcher
	wake    chan struct{} // something may have become fetchable
	session wire.Session  // the loop's own, as is the pace of its requests
	pace    client.Pace

	mu         sync.Mutex
	partitions []*partition // in the order of the next full request: whoever was served last stands at the end
}

// fetchRound is one request of a loop: what it asks for, and of which partition at which generation. Both lists are in the same order.
type fetchRound struct {
	wanted []wire.FetchPartition
	asked  []asked
}

// asked is what an answer must fit.
type asked struct {
	partition  *partition
	generation int
}

func (b *sourceBroker) poke() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// loop fetches until ctx ends. A request in flight is never cancelled: that would close the connection and fail
// everything on it, so a stop waits for the poll to end.
func (b *sourceBroker) loop(ctx context.Context) {
	f := b.flow
	var round fetchRound
	for attempt := 0; ctx.Err() == nil; {
		share := int64(b.pace.Of(int(f.fetchShare())))
		if f.budget.reserve(ctx, share) != nil {
			return
		}
		var behind bool
		var retry time.Duration
		behind, retry = b.pick(&round, time.Now(), int32(min(share, partitionBytes)))
		if len(round.asked) == 0 {
			f.budget.add(-share)
			b.idle(ctx, retry)
			continue
		}
		wait := longPoll
		if behind {
			wait = shortPoll
		}
		response, err := b.fetch(f.hard, round.wanted, share, wait) //nolint:contextcheck // never cancelled by the signal
		if err != nil {
			f.budget.add(-share)
			b.unask(round.asked)
			if ctx.Err() != nil {
				return // the stop has cut the poll
			}
			if errors.Is(err, wire.ErrSessionLost) {
				continue
			}
			attempt++
			f.metrics.retries.WithLabelValues("fetch").Inc()
			f.warn("source fetch", "broker", b.broker, "err", f.options.SourceError(err))
			f.refreshSource(ctx)
			if client.Sleep(ctx, client.Backoff(attempt)) != nil {
				return
			}
			continue
		}
		if ctx.Err() != nil {
			return // what came after the stop is fetched again at the next start
		}
		attempt = 0
		b.pace.Answered(response.ThrottleMillis)
		b.accept(&round, response, share)
	}
}

// idle waits until something may be fetched again.
func (b *sourceBroker) idle(ctx context.Context, retry time.Duration) {
	t := time.NewTimer(retry)
	defer t.Stop()
	select {
	case <-b.wake:
	case <-t.C:
	case <-ctx.Done():
	}
}

// pick fills in what to ask for. Behind says that a partition was left out because its queue is full.
func (b *sourceBroker) pick(round *fetchRound, now time.Time, maxBytes int32) (behind bool, retry time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	round.wanted, round.asked = round.wanted[:0], round.asked[:0]
	retry = longPoll
	for _, p := range b.partitions {
		p.mu.Lock()
		if p.sourceLeader != b.broker || p.sourceLoop != b.sourceLoop {
			p.mu.Unlock()
			continue
		}
		ok, full := p.fetchableLocked(now, 2*partitionBytes)
		if ok {
			p.cursor.ask()
			round.wanted = append(round.wanted, wire.FetchPartition{
				TopicPartition: p.source(),
				FetchOffset: wire.FetchOffset{
					TopicID: p.topic.sourceID, Offset: p.next, LeaderEpoch: p.sourceLeaderEpoch, LastEpoch: p.fromEpoch, MaxBytes: maxBytes,
				},
			})
			round.asked = append(round.asked, asked{p, p.generation})
		} else if after := p.fetchAfter.Sub(now); after > 0 {
			retry = min(retry, after)
		}
		behind = behind || full
		p.mu.Unlock()
	}
	return behind, retry
}

func (b *sourceBroker) unask(asks []asked) {
	for _, a := range asks {
		a.partition.mu.Lock()
		a.partition.cursor.answered()
		a.partition.mu.Unlock()
	}
}

// fetch asks for records of the partitions. What the answer does not name has no news.
func (b *sourceBroker) fetch(ctx context.Context, wanted []wire.FetchPartition, bytes int64, wait time.Duration) (*kmsg.FetchResponse, error) {
	request := wire.NewFetchRequest(wait, int32(bytes), b.flow.isolation)
	b.session.Request(request, wanted)
	response, err := b.wire.Fetch(ctx, b.broker, request.FetchRequest)
	if err != nil {
		b.session.Drop() // the broker may have seen the request or not
		return nil, err
	}
	return response, b.session.Answered(response)
}

// accept hands each partition its part of the answer. The answer's bytes stay in the budget until the last batch of it is done.
func (b *sourceBroker) accept(round *fetchRound, response *kmsg.FetchResponse, reserved int64) {
	f := b.flow
	answer := wire.IndexFetch(response)
	f.budget.add(answer.Bytes - reserved)
	s := newSlab(f.budget, answer.Bytes)
	served := make(map[*partition]bool)
	for i, a := range round.asked {
		p, wanted := a.partition, &round.wanted[i]
		rp := answer.Of(wanted.TopicPartition, wanted.TopicID)
		p.mu.Lock()
		p.cursor.answered()
		current := rp != nil && p.generation == a.generation && p.next == wanted.Offset && p.state == replicating
		p.mu.Unlock()
		if !current {
			continue
		}
		if len(rp.RecordBatches) > 0 {
			served[p] = true
		}
		f.acceptPartition(p, rp, s)
	}
	s.release()
	b.rotate(served)
}

// rotate moves what was served to the end: a broker fills an answer in the order of the request, so the first could starve the rest.
func (b *sourceBroker) rotate(served map[*partition]bool) {
	if len(served) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	rest := make([]*partition, 0, len(b.partitions))
	var last []*partition
	for _, p := range b.partitions {
		if served[p] {
			last = append(last, p)
		} else {
			rest = append(rest, p)
		}
	}
	b.partitions = append(rest, last...)
}

// acceptPartition turns one partition's answer into queued batches, or into an anomaly.
func (f *Flow) acceptPartition(p *partition, rp *kmsg.FetchResponseTopicPartition, s *slab) {
	lost, err := f.checkSource(f.hard, p, rp, p.peekNext())
	if err != nil {
		p.delayFetch(2 * refreshEvery)
		return
	}
	if lost != nil {
		f.loseSource(p, lost)
		return
	}
	p.mu.Lock()
	p.cursor.sourceEnds(f.readableEnd(rp))
	problem := f.prepare(p, rp, s)
	queued := len(p.queue) > 0 && !p.inFlight
	p.mu.Unlock()
	if problem != nil {
		f.raisePrepare(p, problem)
	}
	if queued {
		f.schedule(p)
	}
}

// readableEnd is the end of what this flow may read: the last stable offset under read_committed (KIP-98), else the high watermark.
func (f *Flow) readableEnd(rp *kmsg.FetchResponseTopicPartition) int64 {
	if f.isolation == 1 && rp.LastStableOffset >= 0 {
		return rp.LastStableOffset
	}
	return rp.HighWatermark
}

// prepareError says which batch stopped a partition.
type prepareError struct {
	kind     policy.Kind
	from, to int64
	err      error
}

func (e *prepareError) Error() string { return e.err.Error() }

// prepare admits batch by batch: forward as it is, rebuild, or drop. The partition's lock is held; rebuilding under it is right, because order is all
// that this lock protects and nobody else needs the partition meanwhile.
func (f *Flow) prepare(p *partition, rp *kmsg.FetchResponseTopicPartition, s *slab) *prepareError {
	aborted := wire.AbortedOf(rp)
	limits := p.topic.getLimits()
	rules := recordbatch.Rules{MaxBytes: limits.MaxMessageBytes, TargetLogAppendTime: limits.LogAppendTime, Provenance: f.config.Provenance}
	if p.maxBytes > 0 && (rules.MaxBytes == 0 || p.maxBytes < rules.MaxBytes) {
		rules.MaxBytes = p.maxBytes
	}
	now := time.Now()
	for batch, err := range recordbatch.Each(rp.RecordBatches) {
		if err != nil {
			return &prepareError{policy.RecordRefused, p.next, p.next, fmt.Errorf("the source's bytes at offset %d are no batch: %w", p.next, err)}
		}
		h := batch.Header
		rules.Wanted = p.next
		lane, reason, err := recordbatch.Admit(batch.Bytes, h, &aborted, rules)
		if err != nil {
			return &prepareError{policy.RecordRefused, h.BaseOffset, h.NextOffset(), fmt.Errorf("batch at source offset %d: %w", h.BaseOffset, err)}
		}
		if lane != recordbatch.RouteDrop {
			f.metrics.read(h.MaxTimestamp, now)
		}
		if problem := f.route(p, batch.Bytes, h, lane, reason, rules, s); problem != nil {
			return problem
		}
	}
	return nil
}

// route queues one batch by its lane. The partition's lock is held.
func (f *Flow) route(p *partition, batch []byte, h recordbatch.Header, lane recordbatch.Route, reason recordbatch.Reason, rules recordbatch.Rules, s *slab) *prepareError {
	p.topic.metrics.lane(lane, reason)
	if lane != recordbatch.RouteDrop && p.outbox.skip() {
		lane = recordbatch.RouteDrop
	}
	switch lane {
	case recordbatch.RouteDrop:
		if h.NextOffset() <= p.next {
			return nil // a batch that lies below where we asked
		}
		if err := p.dropLocked(h.NextOffset(), h.LeaderEpoch); err != nil {
			return &prepareError{policy.RecordRefused, h.BaseOffset, h.NextOffset(), err}
		}
	case recordbatch.RouteForward:
		s.hold()
		p.enqueueLocked(prepared{
			batch: batch, count: h.Count, runs: []recordbatch.Run{{Source: h.BaseOffset, Count: h.Count}},
			next: h.NextOffset(), leaderEpoch: h.LeaderEpoch, maxTimestamp: h.MaxTimestamp, slab: s,
		})
	case recordbatch.RouteRebuild:
		return f.rebuild(p, batch, h, rules)
	}
	return nil
}

// rebuild queues what a batch becomes when it cannot pass as it is. The partition's lock is held.
func (f *Flow) rebuild(p *partition, batch []byte, h recordbatch.Header, rules recordbatch.Rules) *prepareError {
	parts, skipped, err := recordbatch.Rebuild(batch, recordbatch.RebuildRules{
		From: rules.Wanted, MaxBytes: rules.MaxBytes, SkipTooLarge: f.anomalies.Decide(policy.RecordTooLarge) == policy.Skip,
		Provenance: f.writers.provenance(),
	})
	if err != nil {
		return rebuildProblem(h, err)
	}
	for _, offset := range skipped {
		f.raiseLocked(p, policy.RecordTooLarge, offset, offset+1, fmt.Sprintf("record at source offset %d is larger than the target's max.message.bytes of %d", offset, rules.MaxBytes))
	}
	if len(parts)+len(skipped) == 0 && rules.Provenance {
		p.topic.metrics.lane(recordbatch.RouteDrop, recordbatch.ReasonCycle)
	}
	for _, part := range parts {
		f.budget.add(int64(len(part.Batch)))
		p.enqueueLocked(prepared{
			batch: part.Batch, count: part.Count, runs: part.Runs, next: part.Next, leaderEpoch: h.LeaderEpoch,
			maxTimestamp: part.MaxTimestamp, slab: newSlab(f.budget, int64(len(part.Batch))),
		})
	}
	if err := p.moveLocked(h.NextOffset(), h.LeaderEpoch); err != nil {
		return &prepareError{policy.RecordRefused, h.BaseOffset, h.NextOffset(), err}
	}
	return nil
}

// fetchOne asks for one partition from one offset, for the walk of a recovery.
func (f *Flow) fetchOne(ctx context.Context, p *partition, offset int64, epoch int32, isolation int8) (*kmsg.FetchResponseTopicPartition, error) {
	p.mu.Lock()
	leader, leaderEpoch, gone := p.sourceLeader, p.sourceLeaderEpoch, p.sourceGone
	p.mu.Unlock()
	if leader < 0 || gone {
		return nil, fmt.Errorf("source %s has no leader", p)
	}
	wanted := wire.FetchPartition{
		TopicPartition: p.source(),
		FetchOffset:    wire.FetchOffset{TopicID: p.topic.sourceID, Offset: offset, LeaderEpoch: leaderEpoch, LastEpoch: epoch, MaxBytes: 4 << 20},
	}
	request := wire.NewFetchRequest(100*time.Millisecond, wire.MaxFetchBytes, isolation)
	request.Add(wanted)
	response, err := f.sourceWire.Fetch(ctx, leader, request.FetchRequest)
	if err != nil {
		return nil, err
	}
	if rp := wire.IndexFetch(response).Of(wanted.TopicPartition, wanted.TopicID); rp != nil {
		return rp, nil
	}
	return nil, fmt.Errorf("source %s: the answer does not name the partition (%w)", p, kerr.ErrorForCode(response.ErrorCode))
}
