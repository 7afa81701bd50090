package replicator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/wire"
)

const (
	// TargetLanes is the number of lanes to one target broker, each with a connection. A broker works at the requests of a connection one at a time,
	// including the wait for its replicas, so a replica that hangs holds up what shares a connection with its partitions. Partitions with different
	// replicas therefore have different lanes, as far as there are lanes.
	targetLanes = laneGroups * lanesOfGroup
	// LaneGroups is how many sets of replicas have lanes of their own. LanesOfGroup is how many lanes the partitions of a set have at most, when a
	// connection over a long line does not carry all: its socket buffers are 100 KiB by default on Kafka's side, per round trip.
	laneGroups, lanesOfGroup = 4, 16
	// MaxProduceBytes limits the size of one request. A single batch may be larger. More would not be faster, as many requests are in flight.
	maxProduceBytes = 1 << 20
)

// targetLane identifies one of the lanes to a target broker.
type targetLane struct{ broker, number int32 }

// targetBroker is a lane to a broker of the target, and the partitions that have a batch to send on it.
type targetBroker struct {
	targetLane
	flow    *Flow
	trip    func(broker int32) time.Duration // round-trip time, 0 if it is unknown
	account *account                         // of what is queued for it, and for other lanes with the same replicas
	wake    chan struct{}                    // there may be something to send
	mute    client.Mute                      // of its connection
	pulse   pulse

	mu     sync.Mutex
	ready  []*partition
	pace   client.Pace // of its requests
	window window
	shared bool          // several partitions had a batch to send at the last request
	holds  time.Time     // since when there is something to send, and too much is in flight or being written; zero if that is not so
	held   time.Duration // for how long that was so
}

// sentBatch is a batch in a produce request.
type sentBatch struct {
	ticket
	topicID  [16]byte // by which the request names the target topic
	batch    []byte   // until it is written
	slab     *slab    // held until then
	sequence int32
}

// schedule adds partitions that have a batch to send to the ready lists of their lanes, unless they are already there. Those that become ready at the
// same time share requests.
func (f *Flow) schedule(list ...*partition) {
	var woken []*targetBroker
	for _, p := range list {
		if b := f.addReady(p); b != nil && !slices.Contains(woken, b) {
			woken = append(woken, b)
		}
	}
	for _, b := range woken {
		b.wakeUp()
	}
}

// addReady adds a partition to the ready list of its lane, which it returns. It returns nil if there is nothing to do.
func (f *Flow) addReady(p *partition) *targetBroker {
	p.mu.Lock()
	if p.state != replicating && p.state != halted || !p.sendableLocked() {
		p.mu.Unlock()
		return nil
	}
	b := f.targetBroker(p.targetLane)
	if b == nil { // no leader: the next refresh of metadata schedules the partition
		p.mu.Unlock()
		f.refreshTargetSoon()
		return nil
	}
	p.outbox.markScheduled()
	p.mu.Unlock() // the lock of a lane is taken before that of a partition
	b.mu.Lock()
	b.ready = append(b.ready, p)
	b.mu.Unlock()
	return b
}

// load returns what the lane has carried and held back.
func (b *targetBroker) load() laneLoad {
	trip := b.trip(b.broker)
	b.mu.Lock()
	defer b.mu.Unlock()
	held := b.held
	if !b.holds.IsZero() {
		held += time.Since(b.holds)
	}
	return laneLoad{trip, b.window.delivered, held, b.shared}
}

// wakeUp lets the lane look for ready partitions.
func (b *targetBroker) wakeUp() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// scheduleAfter schedules a partition after a pause.
func (f *Flow) scheduleAfter(p *partition, d time.Duration) {
	time.AfterFunc(d, func() { f.schedule(p) })
}

// send produces until ctx ends. It does not wait for responses: the connection takes as much as the way to the broker holds.
//
// What is sent is chosen when the connection is there, and sent on no other one. A batch that was chosen before the end of an earlier connection is
// known may be one behind a batch that was lost with it: on the next connection it would arrive without that one, and a broker that has forgotten the
// producer would write it.
func (b *targetBroker) send(ctx context.Context, w wire.Sender) {
	f := b.flow
	defer f.pulses.watch(&b.pulse, fmt.Sprintf("sends to target broker %d", b.broker))()
	for {
		b.pulse.rest()
		if b.mute.Wait(ctx) != nil {
			return
		}
		b.pulse.work()
		if !b.maySend() {
			if !b.awaitWake(ctx) {
				return
			}
			continue
		}
		b.pulse.rest()
		connection, err := w.Connect(ctx, b.broker)
		if f.lease.wait(ctx) != nil {
			return
		}
		b.pulse.work()
		// Only now: while the lease was expired, a takeover may have decided about the batches that were the first ones before.
		request, list, sent := b.nextRequest()
		if len(list) == 0 {
			if !b.awaitWake(ctx) {
				return
			}
			continue
		}
		written := make([]*slab, len(list))
		for i := range list {
			written[i] = list[i].slab
		}
		if err == nil {
			b.pulse.rest() // the broker may take nothing more from its socket
			err = connection.Send(ctx, request, func(response *kmsg.ProduceResponse, err error) { b.finish(list, sent, response, err) })
		}
		b.pulse.work()
		for _, s := range written { // the list may be done with already
			s.drop()
		}
		if err != nil {
			b.finish(list, sent, nil, err)
		}
	}
}

// awaitWake waits until there may be something to send. It returns false when ctx ends.
func (b *targetBroker) awaitWake(ctx context.Context) bool {
	b.pulse.rest()
	select {
	case <-ctx.Done():
		return false
	case <-b.wake:
		return true
	}
}

// finish ends a request, with its response or without. Requests end in the order in which they were sent.
func (b *targetBroker) finish(list []sentBatch, sent flight, response *kmsg.ProduceResponse, err error) {
	f, trip := b.flow, b.trip(b.broker)
	b.mu.Lock()
	if err != nil {
		b.window.lost(sent)
	} else {
		b.window.end(sent, trip, time.Now())
		b.mute.Answered(response.ThrottleMillis)
		b.pace.Answered(response.ThrottleMillis)
	}
	b.account.setAhead(aheadOf(trip))
	waiting := len(b.ready) > 0 && b.maySendLocked(trip)
	b.mu.Unlock()
	switch {
	case err != nil:
		f.metrics.retries.WithLabelValues("produce").Inc()
		f.warn("produce request failed, reconciling", "broker", b.broker, "err", f.options.TargetError(err))
		f.doubtAll(list)
		f.refreshTargetSoon()
	default:
		if err := b.handleResponse(list, response); err != nil {
			f.fail(err)
		}
	}
	if waiting {
		b.wakeUp()
	}
}

// nextRequest builds a request of the next batches of ready partitions. A request may have many partitions, but Kafka accepts only one
// batch of each. It returns none while too much is in flight.
func (b *targetBroker) nextRequest() (*wire.ProduceRequest, []sentBatch, flight) {
	ready, limit := b.takeReady()
	if len(ready) == 0 {
		return nil, nil, flight{}
	}
	request := wire.NewProduceRequest(produceTimeout)
	list := make([]sentBatch, 0, len(ready))
	var again []*partition
	bytes, n := 0, 0
	for _, p := range ready {
		if bytes >= limit {
			break
		}
		n++
		s, ok, more := b.nextBatch(p)
		if ok {
			request.Add(p.remote(), s.topicID, s.batch)
			list = append(list, s)
			bytes += len(s.batch)
		}
		if more {
			again = append(again, p)
		}
	}
	request.Permit = func() error { return permitBatches(list) }
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ready = slices.Concat(ready[n:], b.ready, again)
	if len(b.ready) > 0 {
		b.wakeUp()
	}
	if len(list) == 0 {
		return nil, nil, flight{}
	}
	b.shared = len(ready) > 1
	b.holdLocked() // until it is written
	return request, list, b.window.send(int64(bytes), time.Now())
}

// maySendLocked reports whether the next request may be sent. While a quota demands long waits, one is in flight at a time. The lock is held.
func (b *targetBroker) maySendLocked(trip time.Duration) bool {
	return b.window.isOpen(trip) && (b.window.inFlight == 0 || !b.pace.IsSlow())
}

// maySend reports whether there is something to send, and the next request may be sent.
func (b *targetBroker) maySend() bool {
	trip := b.trip(b.broker)
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.maySendLocked(trip) {
		b.holdLocked()
		return false
	}
	b.unholdLocked()
	return len(b.ready) > 0
}

// takeReady takes the ready partitions, if a request may be sent, and returns the maximum size in bytes of the request.
func (b *targetBroker) takeReady() (ready []*partition, limit int) {
	trip := b.trip(b.broker)
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.maySendLocked(trip) {
		b.holdLocked()
		return nil, 0
	}
	b.unholdLocked()
	ready, b.ready = b.ready, nil
	return ready, b.pace.Of(b.window.request(trip))
}

// holdLocked records that what is ready has to wait. The lock is held, here and in the next function.
func (b *targetBroker) holdLocked() {
	if len(b.ready) > 0 && b.holds.IsZero() {
		b.holds = time.Now()
	}
}

// unholdLocked records that it has not.
func (b *targetBroker) unholdLocked() {
	if !b.holds.IsZero() {
		b.held += time.Since(b.holds)
		b.holds = time.Time{}
	}
}

// nextBatch returns the next batch of a ready partition, stamped with producer id, epoch and sequence, and whether there are more, which leaves the
// partition scheduled. It returns false if the partition has nothing to send on this lane.
func (b *targetBroker) nextBatch(p *partition) (s sentBatch, ok, more bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.outbox.clearScheduled()
	if p.state != replicating && p.state != halted || !p.sendableLocked() {
		return sentBatch{}, false, false
	}
	if p.targetLane != b.targetLane {
		b.flow.scheduleAfter(p, 0) // the leader has moved in the meantime
		return sentBatch{}, false, false
	}
	b.flow.mergeNextLocked(p)
	next := p.outbox.stampNext(b.targetLane, time.Now())
	next.slab.keep()
	if next.forwarded {
		p.topic.metrics.forwarded.Inc()
	}
	if more = p.sendableLocked(); more {
		p.outbox.markScheduled()
	}
	return sentBatch{p.ticketLocked(), p.requestIDs.target, next.batch, next.slab, next.sequence}, true, more
}

// handleResponse processes a produce response, partition by partition. If the response does not contain a partition, the outcome of its
// batch is unknown. An error is fatal.
func (b *targetBroker) handleResponse(list []sentBatch, response *kmsg.ProduceResponse) error {
	f := b.flow
	answers := wire.IndexProduce(response)
	now := time.Now()
	for _, s := range list {
		p := s.partition
		answer := answers.Of(p.remote(), s.topicID)
		if answer == nil {
			f.doubtAll([]sentBatch{s})
			continue
		}
		if err := f.handleAnswer(s, answer, now); err != nil {
			return err
		}
	}
	return nil
}

// handleAnswer processes the response for one batch. It ignores a response that arrives after the partition was reset, because the takeover
// reads what was written.
func (f *Flow) handleAnswer(s sentBatch, answer *kmsg.ProduceResponseTopicPartition, now time.Time) error {
	var next followUp
	var err error
	applied := s.apply(func() { next, err = f.applyAnswerLocked(s, answer, now) })
	if err != nil {
		return &fatalError{err} // the map cannot go backwards: an invariant is broken
	}
	if applied {
		f.doFollowUp(s.partition, next, now)
	}
	return nil
}

// followUp is what must be done after a response for a batch, when the partition's lock is released.
type followUp struct {
	acked     *prepared // the batch was written, and its bytes are returned to the budget
	account   *account  // of the lane that it was queued for
	schedule  bool      // there are more batches to send
	wake      bool      // the partition may be fetched again
	refused   bool      // for a reason that metadata may explain
	takeover  bool      // the outcome is unknown
	allFenced bool      // and all partitions of the shard need a new epoch
}

// applyAnswerLocked changes the state of the partition by the response for a batch. The partition's lock is held.
func (f *Flow) applyAnswerLocked(s sentBatch, answer *kmsg.ProduceResponseTopicPartition, now time.Time) (followUp, error) {
	p := s.partition
	outcome := wire.ClassifyProduce(answer.ErrorCode)
	awaited := p.refused != nil
	switch {
	case !p.outbox.isNext(s.sequence):
		return f.doubtAnswerLocked(p, answer, false), nil // no batch that is in flight has this turn: the log tells what was written
	case outcome == wire.Acked && !awaited:
		return f.ackedLocked(p, answer.BaseOffset, now)
	}
	f.noteErrorLocked(p, answer, outcome, now)
	switch {
	case awaited && outcome.IsNotWritten() && outcome != wire.Fenced:
		if !p.outbox.refuseNext() {
			return followUp{}, nil
		}
	case awaited || outcome == wire.Doubtful || outcome == wire.Fenced || outcome == wire.Unordered:
		return f.doubtAnswerLocked(p, answer, outcome == wire.Fenced), nil
	case p.outbox.awaitOthers(outcome, answer):
		return followUp{}, nil
	}
	return f.refusedLocked(p), nil
}

// noteErrorLocked counts an error, and notes what it says about the replicas of the copy.
func (f *Flow) noteErrorLocked(p *partition, answer *kmsg.ProduceResponseTopicPartition, outcome wire.Outcome, now time.Time) {
	if outcome == wire.Acked {
		return
	}
	code := kerr.ErrorForCode(answer.ErrorCode)
	if errors.Is(code, kerr.NotEnoughReplicas) || errors.Is(code, kerr.NotEnoughReplicasAfterAppend) {
		p.starveLocked(now)
	}
	if errors.Is(code, kerr.RequestTimedOut) { // a replica does not follow: it may leave the replicas in sync, which metadata shows a moment later
		p.outside.after = now.Add(f.options.Pauses.Starved)
	}
	f.metrics.produceErrors.WithLabelValues(outcome.String()).Inc()
}

// doubtAnswerLocked lets a takeover find out what was written.
func (f *Flow) doubtAnswerLocked(p *partition, answer *kmsg.ProduceResponseTopicPartition, fenced bool) followUp {
	if answer.ErrorCode == kerr.UnknownServerError.Code && p.refused == nil { // the response of Kafka 4.x to a corrupt compressed payload with a valid CRC
		f.refuseLocked(p, answer, maxUnexplained)
	}
	attrs := append(p.logAttrs(), "err", kerr.ErrorForCode(answer.ErrorCode))
	if p.refused != nil { // if the target wrote this batch nevertheless, nothing else says why there is a gap
		attrs = append(attrs, "refused_before", refusalText(p.refused.answer))
	}
	f.log.Info("outcome of a batch is unknown, reconciling", attrs...)
	p.doubtLocked()
	return followUp{takeover: true, allFenced: fenced}
}

// refusedLocked decides what follows once it is certain that no batch in flight was written, because the target refused the first one.
func (f *Flow) refusedLocked(p *partition) followUp {
	outcome, answer := p.refused.outcome, p.refused.answer
	switch outcome {
	case wire.Oversized:
		p.outbox.learnLimit(p.queue[0].size) // it is fetched again and split into smaller batches
		p.outbox.markNotWritten()
		p.resetLocked()
	case wire.Unacceptable:
		f.refuseLocked(p, answer, maxRefusals)
		p.outbox.markNotWritten()
		p.resetLocked()
		f.decideRefusalLocked(p)
	case wire.Refused, wire.Unplaced, wire.Unauthorized:
		why := refusalText(answer)
		if outcome == wire.Unauthorized {
			why = fmt.Sprintf("%s; grant WRITE on topic %s of cluster %s", why, p.topic.target, f.config.Target)
		}
		f.warn("target refused a batch, retrying", "topic", p.topic.target, "partition", p.number, "err", why)
		p.holdBackLocked(why, time.Now())
		return followUp{refused: true}
	case wire.Acked, wire.Doubtful, wire.Fenced, wire.Unordered: // none of these is awaited
	}
	return followUp{wake: true}
}

// ackedLocked adds an acknowledged batch to the map. If the target appended it at an unexpected offset, another producer has written to the
// topic, and a takeover must read the log tail. The partition's lock is held.
func (f *Flow) ackedLocked(p *partition, base int64, now time.Time) (followUp, error) {
	if !f.writers.allowsOffset(p.targetEnd, base) {
		f.log.Warn("batch was appended at an unexpected offset, reconciling", append(p.logAttrs(), "target_offset", base, "expected", p.targetEnd)...)
		p.doubtLocked()
		return followUp{takeover: true}, nil
	}
	wasHeld := p.hold.isHeldBack()
	b, err := p.ackLocked(base, now)
	wake := p.outbox.unblock()
	return followUp{acked: &b, account: p.account, schedule: p.sendableLocked(), wake: wasHeld || wake}, err
}

// doFollowUp does what a response requires, without a lock.
func (f *Flow) doFollowUp(p *partition, c followUp, now time.Time) {
	wakeAll := false
	if c.acked != nil {
		c.acked.slab.release(c.acked.size)
		p.topic.metrics.countAcked(*c.acked, now)
		wakeAll = c.account.unblock(f.budget.free())
	}
	if c.refused {
		f.refreshTargetSoon()
	}
	if c.takeover {
		f.metrics.doubts.Inc()
		if c.allFenced {
			p.shard.doubtMembers()
		}
		f.refreshTargetSoon()
		f.requestTakeover(p.shard)
	}
	if c.schedule {
		f.schedule(p)
	}
	switch {
	case wakeAll:
		f.wakeSources()
	case c.wake:
		f.wakeSource(p)
	}
}

// doubtAll requests takeovers for the partitions of a request without a response, because the outcome of their batches is unknown.
func (f *Flow) doubtAll(list []sentBatch) {
	for _, s := range list {
		if s.apply(s.partition.doubtLocked) {
			f.metrics.doubts.Inc()
			f.requestTakeover(s.partition.shard)
		}
	}
}
