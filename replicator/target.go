package replicator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/wire"
)

const (
	// LaneConnections is the number of connections of a lane, with one request in flight on each. A broker processes the requests of a
	// connection one at a time, including the wait for its replicas.
	laneConnections = 2
	// TargetLanes is the number of lanes to one target broker. A request is answered when all its partitions are replicated, so a replica that
	// hangs holds up what shares a request or a connection with its partitions. Partitions with different replicas therefore have different
	// lanes, as far as there are lanes.
	targetLanes = 4
	// MaxProduceBytes limits the size of one request. A single batch may be larger.
	maxProduceBytes = 4 << 20
)

// targetLane identifies one of the lanes to a target broker.
type targetLane struct{ broker, number int32 }

// targetBroker is a lane to a broker of the target, and the partitions that have a batch to send on it.
type targetBroker struct {
	targetLane
	flow    *Flow
	account *account      // of what is queued for it
	wake    chan struct{} // has room for one wake-up per connection

	mu    sync.Mutex
	ready []*partition
	pace  client.Pace // of its requests
}

// sentBatch is a batch in a produce request.
type sentBatch struct {
	ticket
	topicID [16]byte // by which the request names the target topic
	batch   []byte
}

// schedule adds a partition that has a batch to send to the ready list of its leader, unless it is already there.
func (f *Flow) schedule(p *partition) {
	p.mu.Lock()
	if p.state != replicating && p.state != halted || !p.outbox.sendable() {
		p.mu.Unlock()
		return
	}
	b := f.targetBroker(p.targetLane)
	if b == nil { // no leader: the next refresh of metadata schedules the partition
		p.mu.Unlock()
		f.refreshTargetSoon()
		return
	}
	p.outbox.markScheduled()
	p.mu.Unlock()
	b.mu.Lock()
	b.ready = append(b.ready, p)
	b.mu.Unlock()
	b.wakeUp()
}

// wakeUp lets one waiting connection look for ready partitions.
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

// send produces on one connection, one request after the other, until ctx ends.
func (b *targetBroker) send(ctx context.Context, w wire.Producer) {
	f := b.flow
	var mute client.Mute
	for {
		if mute.Wait(ctx) != nil || f.lease.wait(ctx) != nil {
			return
		}
		// Only now: while the lease was expired, a takeover may have decided about the batches that were the first ones before.
		request, list := b.nextRequest()
		if len(list) == 0 {
			select {
			case <-ctx.Done():
				return
			case <-b.wake:
				continue
			}
		}
		response, err := w.Produce(ctx, b.broker, request)
		if err != nil {
			f.metrics.retries.WithLabelValues("produce").Inc()
			f.warn("produce request failed, reconciling", "broker", b.broker, "err", f.options.TargetError(err))
			f.doubtAll(list)
			f.refreshTargetSoon()
			continue
		}
		mute.Answered(response.ThrottleMillis)
		b.mu.Lock()
		b.pace.Answered(response.ThrottleMillis)
		b.mu.Unlock()
		if err := b.handleResponse(list, response); err != nil {
			f.fail(err)
			return
		}
	}
}

// nextRequest builds a request of the first batches of ready partitions. A request may have many partitions, but Kafka accepts only one
// batch of each.
func (b *targetBroker) nextRequest() (*wire.ProduceRequest, []sentBatch) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.ready) == 0 {
		return nil, nil
	}
	request := wire.NewProduceRequest(produceTimeout)
	list := make([]sentBatch, 0, len(b.ready))
	bytes, n, limit := 0, 0, b.pace.Of(maxProduceBytes)
	for _, p := range b.ready {
		if bytes >= limit {
			break
		}
		n++
		if s, ok := b.nextBatch(p); ok {
			request.Add(p.remote(), s.topicID, s.batch)
			list = append(list, s)
			bytes += len(s.batch)
		}
	}
	rest := copy(b.ready, b.ready[n:])
	clear(b.ready[rest:])
	b.ready = b.ready[:rest]
	if rest > 0 {
		b.wakeUp()
	}
	return request, list
}

// nextBatch returns the first batch of a ready partition, stamped with producer id, epoch and sequence. It returns false if the partition
// has nothing to send to this broker.
func (b *targetBroker) nextBatch(p *partition) (sentBatch, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.outbox.clearScheduled()
	if p.state != replicating && p.state != halted || !p.outbox.sendable() {
		return sentBatch{}, false
	}
	if p.targetLane != b.targetLane {
		b.flow.scheduleAfter(p, 0) // the leader has moved in the meantime
		return sentBatch{}, false
	}
	return sentBatch{p.ticketLocked(), p.requestIDs.target, p.outbox.stampHead()}, true
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
	schedule  bool      // there are more batches to send
	wake      bool      // the partition may be fetched again
	wakeAll   bool      // all partitions of its lane may
	refused   bool      // for a reason that metadata may explain
	takeover  bool      // the outcome is unknown
	allFenced bool      // and all partitions of the shard need a new epoch
}

// applyAnswerLocked changes the state of the partition by the response for a batch. The partition's lock is held.
func (f *Flow) applyAnswerLocked(s sentBatch, answer *kmsg.ProduceResponseTopicPartition, now time.Time) (followUp, error) {
	p := s.partition
	verdict := wire.ClassifyProduce(answer.ErrorCode)
	if verdict == wire.Acked {
		return f.ackedLocked(p, answer.BaseOffset, now)
	}
	code := kerr.ErrorForCode(answer.ErrorCode)
	if errors.Is(code, kerr.NotEnoughReplicas) || errors.Is(code, kerr.NotEnoughReplicasAfterAppend) {
		p.starveLocked(now)
	}
	if errors.Is(code, kerr.RequestTimedOut) { // a replica does not follow: it may leave the replicas in sync, which metadata shows a moment later
		p.outside.after = now.Add(f.options.Pauses.Starved)
	}
	f.metrics.produceErrors.WithLabelValues(verdict.String()).Inc()
	switch verdict {
	case wire.Refused, wire.Unplaced, wire.Unauthorized:
		why := refusalText(answer)
		if verdict == wire.Unauthorized {
			why = fmt.Sprintf("%s; grant WRITE on topic %s of cluster %s", why, p.topic.target, f.config.Target)
		}
		f.warn("target refused a batch, retrying", "topic", p.topic.target, "partition", p.number, "err", why)
		p.holdBackLocked(why, now)
		return followUp{refused: true}, nil
	case wire.Oversized:
		p.outbox.markNotWritten()
		p.outbox.learnLimit(len(s.batch)) // it is fetched again and split into smaller batches
		p.resetLocked()
	case wire.Unacceptable:
		p.outbox.markNotWritten()
		f.refuseLocked(s, answer, maxRefusals)
		p.resetLocked()
		f.decideRefusalLocked(p)
	case wire.Acked, wire.Doubtful, wire.Fenced:
		if answer.ErrorCode == kerr.UnknownServerError.Code { // the response of Kafka 4.x to a corrupt compressed payload with a valid CRC
			f.refuseLocked(s, answer, maxUnexplained)
		}
		f.log.Info("outcome of a batch is unknown, reconciling", append(p.logAttrs(), "err", code)...)
		p.doubtLocked()
		return followUp{takeover: true, allFenced: verdict == wire.Fenced}, nil
	}
	return followUp{wake: true}, nil
}

// ackedLocked adds an acknowledged batch to the map. If the target appended it at an unexpected offset, another producer has written to the
// topic, and a takeover must read the log tail. The partition's lock is held.
func (f *Flow) ackedLocked(p *partition, base int64, now time.Time) (followUp, error) {
	if !f.writers.allowsOffset(p.targetEnd, base) {
		f.log.Warn("batch was appended at an unexpected offset, reconciling", append(p.logAttrs(), "target_offset", base, "expected", p.targetEnd)...)
		p.doubtLocked()
		return followUp{takeover: true}, nil
	}
	part := f.targetPart()
	wasHeld, wasFull, allFull := p.hold.isHeldBack(), p.isFullLocked(part), p.account.isFull(part)
	b, err := p.ackLocked(base, now)
	return followUp{
		acked: &b, schedule: len(p.queue) > 0, wake: wasHeld || wasFull && !p.isFullLocked(part), wakeAll: allFull && !p.account.isFull(part),
	}, err
}

// doFollowUp does what a response requires, without a lock.
func (f *Flow) doFollowUp(p *partition, c followUp, now time.Time) {
	if c.acked != nil {
		c.acked.slab.release(c.acked.size)
		p.topic.metrics.countAcked(*c.acked, now)
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
	case c.wakeAll:
		f.wakeSources()
	case c.wake:
		f.wakeSource(p)
	}
}

// targetPart returns the part of the budget that may be queued for one lane. Whatever hangs, something is left for the others.
func (f *Flow) targetPart() int64 {
	t := &f.topology
	t.brokersMu.RLock()
	defer t.brokersMu.RUnlock()
	return f.budget.limit / int64(len(t.targetBrokers)+1)
}

// compactQueues lets the queues hold no more memory than their batches need. It is called while the budget is short: a batch that waits
// for a slow broker must not hold the whole response that it came in.
func (f *Flow) compactQueues() {
	for _, p := range f.partitions() {
		p.mu.Lock()
		p.outbox.compact(f.budget)
		p.mu.Unlock()
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
