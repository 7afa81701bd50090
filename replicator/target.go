package replicator

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/wire"
)

const (
	// ProduceConnections is how many requests may be under way to one target broker, each on a connection of its own: a broker works at one request of
	// a connection at a time, the wait for its replicas included.
	produceConnections = 2
	// MaxProduceBytes bounds one request; a single batch may be larger.
	maxProduceBytes = 4 << 20
)

// targetBroker is one broker of the target and the partitions that have something to send to it.
type targetBroker struct {
	flow *Flow
	id   int32
	wake chan struct{} // as many places as connections

	mu    sync.Mutex
	ready []*partition
	pace  client.Pace // of its requests
}

// sent is one partition in a produce request.
type sent struct {
	partition  *partition
	generation int
	batch      []byte
}

// schedule puts a partition that has a batch to send on the ready list of its target's leader, once.
func (f *Flow) schedule(p *partition) {
	p.mu.Lock()
	if p.state != replicating && p.state != halted || !p.outbox.sendable() {
		p.mu.Unlock()
		return
	}
	b := f.targetBroker(p.targetLeader)
	if b == nil { // no leader: the next refresh schedules again
		p.mu.Unlock()
		f.refreshTargetSoon()
		return
	}
	p.outbox.schedule()
	p.mu.Unlock()
	b.mu.Lock()
	b.ready = append(b.ready, p)
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// scheduleAfter sends again what was certainly refused.
func (f *Flow) scheduleAfter(p *partition, d time.Duration) {
	time.AfterFunc(d, func() { f.schedule(p) })
}

// send sends one request after the other on one connection until ctx ends.
func (b *targetBroker) send(ctx context.Context, w wire.Producer) {
	f := b.flow
	for {
		request, list := b.take()
		if len(list) == 0 {
			select {
			case <-ctx.Done():
				return
			case <-b.wake:
				continue
			}
		}
		if f.lease.wait(ctx) != nil {
			return // what was taken is reconciled at the next start
		}
		response, err := w.Produce(ctx, b.id, request.ProduceRequest)
		if err != nil {
			f.metrics.retries.WithLabelValues("produce").Inc()
			f.warn("target produce", "broker", b.id, "err", f.options.TargetError(err))
			f.doubtAll(list)
			f.refreshTargetSoon()
			continue
		}
		b.mu.Lock()
		b.pace.Answered(response.ThrottleMillis)
		b.mu.Unlock()
		if err := b.accept(list, response); err != nil {
			f.fail(err)
			return
		}
	}
}

// take builds a request of the batches at the heads of ready partitions: one batch per partition, as Kafka demands, many partitions.
func (b *targetBroker) take() (*wire.ProduceRequest, []sent) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.ready) == 0 {
		return nil, nil
	}
	request := wire.NewProduceRequest(produceTimeout)
	list := make([]sent, 0, len(b.ready))
	bytes, n, limit := 0, 0, b.pace.Of(maxProduceBytes)
	for _, p := range b.ready {
		if bytes >= limit {
			break
		}
		n++
		if s, ok := b.takeHead(p); ok {
			request.Add(p.remote(), p.topic.targetID, s.batch)
			list = append(list, s)
			bytes += len(s.batch)
		}
	}
	rest := copy(b.ready, b.ready[n:])
	clear(b.ready[rest:])
	b.ready = b.ready[:rest]
	if rest > 0 {
		select {
		case b.wake <- struct{}{}:
		default:
		}
	}
	return request, list
}

// takeHead stamps the batch at the head of the queue with the partition's producer, epoch and sequence.
func (b *targetBroker) takeHead(p *partition) (sent, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.outbox.unschedule()
	if p.state != replicating && p.state != halted || !p.outbox.sendable() {
		return sent{}, false
	}
	if p.targetLeader != b.id {
		b.flow.scheduleAfter(p, 0) // the leader moved while it stood here
		return sent{}, false
	}
	return sent{p, p.generation, p.outbox.send()}, true
}

// accept obeys the outcome of each partition. A partition that the answer does not name is in doubt.
func (b *targetBroker) accept(list []sent, response *kmsg.ProduceResponse) error {
	f := b.flow
	answers := wire.IndexProduce(response)
	now := time.Now()
	for _, s := range list {
		p := s.partition
		answer := answers.Of(p.remote(), p.topic.targetID)
		if answer == nil {
			f.doubtAll([]sent{s})
			continue
		}
		if err := f.obey(s, answer, now); err != nil {
			return err
		}
	}
	return nil
}

// obey acts on the answer about one batch. What came too late, after the partition was reset, is ignored: the fence decides about it.
func (f *Flow) obey(s sent, answer *kmsg.ProduceResponseTopicPartition, now time.Time) error {
	p := s.partition
	p.mu.Lock()
	if p.generation != s.generation {
		p.mu.Unlock()
		return nil
	}
	next, err := f.judgeLocked(s, answer, now)
	p.mu.Unlock()
	if err != nil {
		return &fatalError{err} // the map refuses to go backwards: a broken invariant
	}
	f.conclude(p, next, now)
	return nil
}

// consequence is what has to be done about an answer when the partition's lock is given back.
type consequence struct {
	acked     *prepared // it was written; its bytes are free
	schedule  bool      // there is more to send
	wake      bool      // the source may be fetched again
	later     bool      // the same batch is sent again after a pause
	takeover  bool      // the partition is in doubt
	allFenced bool      // and so is the rest of its shard
}

// judgeLocked changes the partition as the answer demands. The partition's lock is held.
func (f *Flow) judgeLocked(s sent, answer *kmsg.ProduceResponseTopicPartition, now time.Time) (consequence, error) {
	p := s.partition
	verdict := wire.ClassifyProduce(answer.ErrorCode)
	if verdict == wire.Acked {
		return f.ackedLocked(p, answer.BaseOffset, now)
	}
	code := kerr.ErrorForCode(answer.ErrorCode)
	f.metrics.produceErrors.WithLabelValues(verdict.String()).Inc()
	switch verdict {
	case wire.Refused, wire.Unplaced, wire.Unauthorized:
		p.outbox.returned()
		f.warn("target refuses batches for now", "topic", p.topic.target, "partition", p.number, "err", code)
		return consequence{later: true}, nil
	case wire.Oversized:
		p.outbox.learnLimit(len(s.batch)) // read again and split below what was refused
		p.resetLocked()
	case wire.Unacceptable:
		p.outbox.refuse(sentenceOf(code, answer.ErrorMessage))
		p.resetLocked()
		if p.refused >= maxRefusals {
			f.refusedLocked(p)
		}
	case wire.Acked, wire.Doubtful, wire.Fenced:
		if answer.ErrorCode == kerr.UnknownServerError.Code { // 4.x answers so for compressed garbage with a right CRC
			p.outbox.refuse(code.Error())
		}
		f.log.Info("doubt", append(p.logAttrs(), "err", code)...)
		p.doubtLocked()
		return consequence{takeover: true, allFenced: verdict == wire.Fenced}, nil
	}
	return consequence{wake: true}, nil
}

// sentenceOf is an error code with the broker's own words.
func sentenceOf(code error, message *string) string {
	if message == nil {
		return code.Error()
	}
	return code.Error() + ": " + *message
}

// ackedLocked extends the map, unless the target put the batch where it should not be: then somebody else wrote, and the tail must be read.
// The partition's lock is held.
func (f *Flow) ackedLocked(p *partition, base int64, now time.Time) (consequence, error) {
	if !f.writers.accepts(p.targetEnd, base) {
		f.log.Warn("batch landed at an unexpected offset", append(p.logAttrs(), "target_offset", base, "expected", p.targetEnd)...)
		p.doubtLocked()
		return consequence{takeover: true}, nil
	}
	wasFull := p.queuedBytes >= 2*partitionBytes
	b, err := p.ackLocked(base, now)
	return consequence{acked: &b, schedule: len(p.queue) > 0, wake: wasFull && p.queuedBytes < 2*partitionBytes}, err
}

// conclude does what an answer demands. No lock is held.
func (f *Flow) conclude(p *partition, c consequence, now time.Time) {
	if c.acked != nil {
		c.acked.slab.release()
		p.topic.metrics.acked(*c.acked, now)
	}
	if c.later {
		f.refreshTarget(f.hard)
		f.scheduleAfter(p, longPoll)
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
	if c.wake {
		f.wakeSource(p)
	}
}

// doubtAll sends partitions whose request has no answer back to their shards.
func (f *Flow) doubtAll(list []sent) {
	for _, s := range list {
		p := s.partition
		p.mu.Lock()
		stale := p.generation != s.generation
		if !stale {
			p.doubtLocked()
		}
		p.mu.Unlock()
		if !stale {
			f.metrics.doubts.Inc()
			f.requestTakeover(p.shard)
		}
	}
}
