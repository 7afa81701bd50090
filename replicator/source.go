package replicator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/wire"
)

const (
	// LongPoll is how long the broker may keep a fetch that finds nothing. It limits how long a partition that is not in the request must wait
	// for the next one.
	longPoll = 500 * time.Millisecond
	// PollPartitions is how many partitions of a loop lengthen longPoll once, and longestPoll is its limit. To ask for many partitions that have nothing
	// costs milliseconds.
	pollPartitions = 2000
	longestPoll    = 2 * time.Second
	// ShortPoll is used while a partition is left out of the request because its queue is full, as it will have room within milliseconds. It
	// doubles, up to longPoll, as long as no partition of the loop gets room.
	shortPoll = 5 * time.Millisecond
	// PartitionBytes limits the bytes of one partition in a response, on a line without delay.
	partitionBytes = 1 << 20
)

const (
	// SourceLoops limits how many loops fetch from one broker over a long line, each with its own session and connection. A connection carries no more
	// than its socket buffers per round trip, and a record that just missed an answer waits for the round trip of the next one: the fewer partitions
	// share a loop, the fewer records do.
	sourceLoops = 8
	// NearLoops limits them on a short line. Several are faster for many partitions, because a broker with new records of one partition checks all
	// partitions of the session before it responds.
	nearLoops = 4
	// LoopPartitions is the number of partitions per loop, up to nearLoops.
	loopPartitions = 250
)

// sourceLoop identifies one of the fetch loops of a broker.
type sourceLoop struct{ broker, number int32 }

// sourceBroker is a broker of the source, and the partitions that one loop fetches from it.
type sourceBroker struct {
	sourceLoop
	flow   *Flow
	lines  fetchLines
	wake   chan struct{} // a partition may have become fetchable
	bounds boundsChecks

	// Used by the loop only:
	session wire.Session
	asked   time.Time     // when the request in flight was begun: what it answers is at least that new
	pace    client.Pace   // of its requests
	short   time.Duration // the next short poll
	behind  int           // partitions in the last plan that have more than was fetched, as far as is known

	pulse    pulse
	appetite appetite
	reserved atomic.Int64 // bytes that the request in flight may return, 0 if there is none

	mu         sync.Mutex
	partitions []*partition // in the order of the next full request: those with records in the last response are at the end
}

// fetchLines fetch, and know how long the way to a broker and back takes.
type fetchLines interface {
	wire.Fetcher
	RoundTrip(broker int32) time.Duration
}

// fetchPlan is one fetch request: the partitions on the wire, and the tickets of our partitions. Both lists have the same order.
type fetchPlan struct {
	wanted    []wire.FetchPartition
	requested []fetchTicket
}

// wakeUp ends the wait of the loop, now or before it waits again.
func (b *sourceBroker) wakeUp() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// loop fetches until ctx ends. It never cancels a request in flight, because that would close the connection and fail everything on it. So
// a stop waits for the response.
func (b *sourceBroker) loop(ctx context.Context) {
	f := b.flow
	defer f.pulses.watch(&b.pulse, fmt.Sprintf("fetches from source broker %d", b.broker))()
	var plan fetchPlan
	for failures := 0; ctx.Err() == nil; {
		trip := b.lines.RoundTrip(b.broker)
		share, err := b.reserve(ctx, trip)
		if err != nil {
			return
		}
		select {
		case <-b.wake: // a partition may have got room
			b.short = shortPoll
		default:
		}
		began := time.Now()
		b.asked = began
		poll, retry := b.planFetch(&plan, began, share, aheadOf(trip))
		planned := time.Since(began)
		if len(plan.requested) == 0 {
			f.budget.add(-share)
			b.reserved.Store(0)
			b.idle(ctx, retry)
			continue
		}
		response, err := b.fetch(f.hard, plan.wanted, share, poll) //nolint:contextcheck // never cancelled by the signal
		b.reserved.Store(0)
		if err != nil {
			f.budget.add(-share)
			b.endFetches(plan.requested)
		}
		switch {
		case ctx.Err() != nil:
			return // records that arrive after the signal are fetched again at the next start
		case errors.Is(err, wire.ErrSessionLost): // the next request opens a new session
		case err != nil:
			failures++
			f.troubles.set(b.broker, err)
			b.backOff(ctx, failures, err)
		default:
			if failures > 0 {
				f.troubles.set(b.broker, nil)
			}
			failures = 0
			b.pace.Answered(response.ThrottleMillis)
			began, held := time.Now(), response.Held()
			b.appetite.fed(held, share)
			b.handleResponse(&plan, response, share)
			if held < share/trickle {
				b.rest(ctx, planned+time.Since(began))
			}
		}
	}
}

// Trickle is the part of its limit below which a response is small. RestMost limits the pause after one.
const (
	trickle  = 8
	restMost = 10 * time.Millisecond
)

// rest waits after a small response, so that the loop works for a fifth of the time at most. A broker answers as soon as it has one record, and to ask
// for and to look through the answer for many partitions costs milliseconds. With few partitions it costs nothing, and there is no pause.
func (b *sourceBroker) rest(ctx context.Context, work time.Duration) {
	if pause := min(4*work, restMost); pause >= time.Millisecond {
		_ = client.Sleep(ctx, pause) // the loop checks ctx
	}
}

// backOff waits after a failed request.
func (b *sourceBroker) backOff(ctx context.Context, failures int, err error) {
	f := b.flow
	f.metrics.retries.WithLabelValues("fetch").Inc()
	f.warn("source fetch failed, retrying", "broker", b.broker, "err", f.options.SourceError(err))
	f.refreshSourceSoon()
	b.pulse.rest()
	defer b.pulse.work()
	_ = client.Sleep(ctx, client.Backoff(failures)) // the loop checks ctx
}

// idle waits until a partition may have become fetchable. A loop whose partitions have moved, or wait for long, leaves the budget to the others.
func (b *sourceBroker) idle(ctx context.Context, retry time.Duration) {
	b.pulse.rest()
	defer b.pulse.work()
	t := time.NewTimer(retry)
	defer t.Stop()
	select {
	case <-b.wake:
		b.short = shortPoll
	case <-t.C:
		b.appetite.forget()
	case <-ctx.Done():
	}
}

// planFetch fills the plan with the partitions that may be fetched now, for a response of at most share bytes, which are reserved, over a way that holds
// ahead bytes of a partition. The more partitions are behind, the fewer bytes each gets, so that they advance together. Poll is how long the broker may
// wait for records, retry how long to wait if there is no such partition.
func (b *sourceBroker) planFetch(plan *fetchPlan, now time.Time, share, ahead int64) (poll, retry time.Duration) {
	maxBytes := int32(min(ahead, max(share/powerOfTwo(int64(b.behind)), partitionBytes))) //nolint:gosec // ahead is far below 2 GiB
	free := b.flow.budget.free() + share
	b.mu.Lock()
	defer b.mu.Unlock()
	plan.wanted, plan.requested = plan.wanted[:0], plan.requested[:0]
	poll, retry = longPollOf(len(b.partitions)), longPoll
	b.behind = 0
	anyFull := false
	for _, p := range b.partitions {
		p.mu.Lock()
		if p.sourceLeader != b.broker || p.sourceLoop != b.sourceLoop {
			p.mu.Unlock()
			continue
		}
		ok, full := p.fetchableLocked(now, free, 2*max(ahead, p.account.getAhead()))
		if ok {
			if p.sourceEnd != p.next {
				b.behind++
			}
			p.cursor.beginFetch()
			plan.wanted = append(plan.wanted, wire.FetchPartition{
				TopicPartition: p.source(),
				FetchOffset: wire.FetchOffset{
					TopicID: p.requestIDs.source, Offset: p.next, LeaderEpoch: p.sourceLeaderEpoch, LastEpoch: p.cursor.lastEpoch(), MaxBytes: p.fetchSizeLocked(maxBytes),
				},
			})
			plan.requested = append(plan.requested, fetchTicket{p.ticketLocked(), p.next})
		} else if after := p.fetchAfter.Sub(now); after > 0 {
			retry = min(retry, after)
		} else if after := p.throttleWait(now); after > 0 && p.state == replicating && p.pause == nil {
			retry = min(retry, after)
			poll = min(poll, max(after, shortPoll)) // the next request has it
		}
		anyFull = anyFull || full
		p.mu.Unlock()
	}
	if anyFull {
		poll = min(poll, max(b.short, shortPoll))
		b.short = min(2*poll, longPoll)
	}
	return poll, retry
}

// longPollOf is longPoll for a number of partitions.
func longPollOf(partitions int) time.Duration {
	return min(longPoll*time.Duration(1+partitions/pollPartitions), longestPoll)
}

// endFetches marks the partitions of a failed request as no longer in flight.
func (b *sourceBroker) endFetches(list []fetchTicket) {
	for _, r := range list {
		r.partition.mu.Lock()
		r.partition.cursor.endFetch()
		r.partition.mu.Unlock()
	}
}

// fetch sends a fetch request in the loop's session. Partitions that the response does not contain have no news.
func (b *sourceBroker) fetch(ctx context.Context, wanted []wire.FetchPartition, bytes int64, wait time.Duration) (*wire.FetchResponse, error) {
	request := wire.NewFetchRequest(wait, int32(bytes), b.flow.isolation)
	b.session.Request(request, wanted)
	b.pulse.rest()
	response, err := b.lines.Fetch(ctx, b.broker, request)
	b.pulse.work()
	if err != nil {
		b.session.Drop() // it is unknown whether the broker received the request
		return nil, err
	}
	return response, b.session.Answered(response.FetchResponse)
}

// handleResponse processes a fetch response, partition by partition. Its bytes stay in the budget until its last batch is done.
func (b *sourceBroker) handleResponse(plan *fetchPlan, response *wire.FetchResponse, reserved int64) {
	f := b.flow
	answer, held := wire.IndexFetch(response.FetchResponse), response.Held()
	f.budget.add(held - reserved)
	s := newSlab(f.budget, held, response.Release)
	now := time.Now()
	served := make(map[*partition]bool)
	var queued []*partition
	for i, r := range plan.requested {
		wanted := &plan.wanted[i]
		rp := answer.Of(wanted.TopicPartition, wanted.TopicID)
		if rp != nil && len(rp.RecordBatches) > 0 {
			served[r.partition] = true
		}
		if b.handlePartition(r, rp, now, s) {
			queued = append(queued, r.partition)
		}
	}
	f.schedule(queued...)
	s.drop()
	b.rotate(served)
}

// rotate moves the served partitions to the end. A broker fills a response in the order of the request, so the first partitions could
// starve the others.
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

// handlePartition processes the part about one partition of a fetch response that arrived now, nil if there is none. It reports whether there is a
// batch to send.
func (b *sourceBroker) handlePartition(t fetchTicket, rp *kmsg.FetchResponseTopicPartition, now time.Time, s *slab) (queued bool) {
	f, p := b.flow, t.partition
	outcome := wire.Fetched
	if rp != nil {
		outcome = wire.ClassifyFetch(rp.ErrorCode)
	}
	if outcome == wire.OutOfRange {
		b.checkBounds(t) // it counts as being fetched until the bounds are known
		return false
	}
	p.mu.Lock()
	p.cursor.endFetch()
	if rp == nil {
		p.cursor.confirmFetched(now)
		p.seeLocked(b.asked)
		p.growProbeLocked() // a response omits a partition if no batch of it fits
	}
	p.mu.Unlock()
	if rp == nil {
		return false
	}
	t.apply(func() { queued = f.applyFetchedLocked(p, rp, b.asked, s) })
	if outcome == wire.Moved || outcome == wire.Gone {
		f.refreshSourceSoon() // a recreated topic has a new id in the metadata
	}
	return queued
}

// applyFetchedLocked queues the fetched batches of a partition, which were asked for at a time, or raises an anomaly. It reports whether there is a batch
// to send. The partition's lock is held.
func (f *Flow) applyFetchedLocked(p *partition, rp *kmsg.FetchResponseTopicPartition, asked time.Time, s *slab) (queued bool) {
	if err := f.fetchError(p, rp); err != nil {
		p.cursor.delay(2 * refreshEvery)
		return false
	}
	p.cursor.markWithin()
	lost := divergence(p, rp, p.next, p.fromEpoch)
	if lost == nil {
		lost = epochRegression(p, rp)
	}
	if lost != nil {
		f.raiseSourceLostLocked(p, p.recreatedLocked(lost, max(rp.LogStartOffset, 0), rp.HighWatermark))
		return false
	}
	end := f.readableEnd(rp)
	now := time.Now()
	p.takeThrottled(len(rp.RecordBatches), now)
	p.cursor.setSourceEnd(end, rp.HighWatermark-end, now)
	p.seeLocked(asked)
	p.notePauseLocked(now, rp.HighWatermark)
	if len(rp.RecordBatches) == 0 {
		p.growProbeLocked()
	}
	if problem := f.prepare(p, rp, s); problem != nil {
		f.raisePrepareErrorLocked(p, problem)
	}
	return p.sendableLocked()
}

// prepareError is the anomaly of a batch that cannot be prepared. It concerns the source offsets [from, to).
type prepareError struct {
	kind     policy.Kind
	from, to int64
	err      error
}

func (e *prepareError) Error() string { return e.err.Error() }

// batchRules are the rules by which batches of a topic are copied, as far as config and target topic decide.
func (f *Flow) batchRules(t *topicLink) recordbatch.Rules {
	limits := t.getLimits()
	return recordbatch.Rules{MaxBytes: limits.MaxMessageBytes, TargetLogAppendTime: limits.LogAppendTime, Provenance: f.config.Provenance}
}

// prepare queues the fetched batches of a partition: forwarded unchanged, rebuilt, or dropped. The partition's lock is held. It may be held
// while batches are rebuilt, because that keeps their order, and nothing else needs the partition in the meantime.
func (f *Flow) prepare(p *partition, rp *kmsg.FetchResponseTopicPartition, s *slab) *prepareError {
	aborted := wire.AbortedOf(rp)
	rules := f.batchRules(p.topic)
	rules.MaxBytes = p.outbox.limit(rules.MaxBytes)
	now := time.Now()
	for batch, err := range recordbatch.Each(rp.RecordBatches) {
		if p.hold.isHeldBack() && len(p.queue) > 0 {
			break // one batch is enough to find out whether the target accepts it now
		}
		if err != nil {
			return &prepareError{policy.RecordRefused, p.next, p.next, fmt.Errorf("the source's bytes at offset %d are not a record batch: %w", p.next, err)}
		}
		h := batch.Header
		if !f.checkHoleLocked(p, h) {
			return nil
		}
		rules.Wanted, rules.MaxRecords = p.next, p.outbox.maxRecords(p.next)
		route, reason, err := recordbatch.Admit(batch.Bytes, h, &aborted, rules)
		if err != nil {
			return &prepareError{policy.RecordRefused, h.BaseOffset, h.NextOffset(), fmt.Errorf("batch at source offset %d: %w", h.BaseOffset, err)}
		}
		if route != recordbatch.RouteDrop {
			f.metrics.observeAge(h.MaxTimestamp, now)
		}
		if problem := f.route(p, batch.Bytes, h, route, reason, rules, s); problem != nil {
			return problem
		}
	}
	return nil
}

// route queues or drops one batch by its route. The partition's lock is held.
func (f *Flow) route(p *partition, batch []byte, h recordbatch.Header, route recordbatch.Route, reason recordbatch.Reason, rules recordbatch.Rules, s *slab) *prepareError {
	if route != recordbatch.RouteForward { // which is counted when it is sent: until then it may be merged
		p.topic.metrics.countRoute(route, reason)
	}
	switch route {
	case recordbatch.RouteDrop:
		if h.NextOffset() <= p.next {
			return nil // below the fetch offset
		}
		if err := p.dropLocked(h.NextOffset(), h.LeaderEpoch); err != nil {
			return &prepareError{policy.RecordRefused, h.BaseOffset, h.NextOffset(), err}
		}
	case recordbatch.RouteForward:
		if p.hold.isHeldBack() {
			batch, s = bytes.Clone(batch), newOwnSlab(f.budget, len(batch))
		} else {
			s.hold(len(batch))
		}
		p.enqueueLocked(prepared{
			batch: batch, from: p.next, count: h.Count, runs: []recordbatch.Run{{Source: h.BaseOffset, Count: h.Count}},
			next: h.NextOffset(), leaderEpoch: h.LeaderEpoch, maxTimestamp: h.MaxTimestamp, slab: s, forwarded: true,
		})
	case recordbatch.RouteRebuild:
		return f.rebuild(p, batch, h, rules)
	}
	return nil
}

// rebuild queues the batches that replace one that cannot be forwarded unchanged. The partition's lock is held.
func (f *Flow) rebuild(p *partition, batch []byte, h recordbatch.Header, rules recordbatch.Rules) *prepareError {
	parts, skipped, err := recordbatch.Rebuild(batch, recordbatch.RebuildRules{
		From: rules.Wanted, MaxBytes: rules.MaxBytes, MaxRecords: rules.MaxRecords, SkipTooLarge: func(offset int64) bool { return f.decide(p, policy.RecordTooLarge, offset) == policy.Skip },
		Provenance: f.writers.provenance(),
	})
	if err != nil {
		return rebuildError(h, err)
	}
	for _, offset := range skipped {
		f.raiseLocked(p, policy.RecordTooLarge, offset, offset+1, fmt.Sprintf("record at source offset %d is larger than the target's max.message.bytes of %d", offset, rules.MaxBytes))
	}
	if len(parts)+len(skipped) == 0 && rules.Provenance {
		p.topic.metrics.countRoute(recordbatch.RouteDrop, recordbatch.ReasonCycle)
	}
	for _, part := range parts {
		p.enqueueLocked(prepared{
			batch: part.Batch, from: p.next, count: part.Count, runs: part.Runs, next: part.Next, leaderEpoch: h.LeaderEpoch,
			maxTimestamp: part.MaxTimestamp, slab: newOwnSlab(f.budget, len(part.Batch)),
		})
	}
	if err := p.dropRestLocked(h.NextOffset(), h.LeaderEpoch); err != nil {
		return &prepareError{policy.RecordRefused, h.BaseOffset, h.NextOffset(), err}
	}
	return nil
}

// fetchOne fetches one partition from an offset, for a replay or a scan.
func (f *Flow) fetchOne(ctx context.Context, p *partition, offset int64, epoch int32, isolation int8) (*kmsg.FetchResponseTopicPartition, error) {
	p.mu.Lock()
	if p.epochRefused {
		epoch = -1
	}
	leader, leaderEpoch, gone, id := p.sourceLeader, p.sourceLeaderEpoch, p.sourceGone, p.requestIDs.source
	p.mu.Unlock()
	if leader < 0 || gone {
		return nil, fmt.Errorf("source %s has no leader", p)
	}
	wanted := wire.FetchPartition{
		TopicPartition: p.source(),
		FetchOffset:    wire.FetchOffset{TopicID: id, Offset: offset, LeaderEpoch: leaderEpoch, LastEpoch: epoch, MaxBytes: 4 << 20},
	}
	var response *wire.FetchResponse
	for throttled := true; throttled; { // with a response without partitions, a broker throttles a client that exceeds a quota (KIP-219)
		request := wire.NewFetchRequest(100*time.Millisecond, wire.MaxFetchBytes, isolation)
		request.Add(wanted)
		var err error
		if response, err = f.sourceWire.Fetch(ctx, leader, request); err != nil {
			return nil, err
		}
		throttled = response.ThrottleMillis > 0 && len(response.Topics) == 0 && response.ErrorCode == 0
	}
	if rp := wire.IndexFetch(response.FetchResponse).Of(wanted.TopicPartition, wanted.TopicID); rp != nil {
		return rp, nil
	}
	return nil, fmt.Errorf("source %s: the response does not contain the partition (%w)", p, kerr.ErrorForCode(response.ErrorCode))
}
