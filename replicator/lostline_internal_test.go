package replicator

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/replicator/topics"
	"github.com/milena-kafka/milena/replicator/wire"
)

// scriptedSender is a sender whose connections the test loses. As the contract says, there is no other one before all requests of the lost one have
// ended.
type scriptedSender struct {
	connecting chan struct{} // at each Connect
	open       chan struct{} // one for each Connect that may return
	requests   chan scriptedRequest
}

// scriptedRequest is a request in flight.
type scriptedRequest struct {
	*wire.ProduceRequest
	done func(*kmsg.ProduceResponse, error)
}

func (s *scriptedSender) Connect(ctx context.Context, _ int32) (wire.Connection, error) {
	s.connecting <- struct{}{}
	select {
	case <-s.open:
		return s, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *scriptedSender) Send(_ context.Context, request *wire.ProduceRequest, done func(*kmsg.ProduceResponse, error)) error {
	s.requests <- scriptedRequest{request, done}
	return nil
}

// next lets the lane send its next request.
func (s *scriptedSender) next() scriptedRequest {
	<-s.connecting
	s.open <- struct{}{}
	return <-s.requests
}

// acked answers a request that has one batch.
func (r scriptedRequest) acked(offset int64) {
	response := kmsg.NewPtrProduceResponse()
	response.Version = r.GetVersion()
	topic := kmsg.NewProduceResponseTopic()
	topic.Topic, topic.TopicID = r.Topics[0].Topic, r.Topics[0].TopicID
	part := kmsg.NewProduceResponseTopicPartition()
	part.Partition, part.BaseOffset = r.Topics[0].Partitions[0].Partition, offset
	topic.Partitions = append(topic.Partitions, part)
	response.Topics = append(response.Topics, topic)
	r.done(response, nil)
}

// A connection is lost with the requests of two partitions, whose ends are told one after the other. When the first one is told, the lane may send again,
// and the second partition has a batch that waits. It must not be sent: it follows one that is lost.
func TestNoBatchFollowsOneThatWasLostWithItsConnection(t *testing.T) {
	f := testFlow(t)
	f.lease = newLease(time.Hour, newClock(bootTime(), time.Now).now)
	f.lease.confirm(f.lease.now())
	for i := range f.produceLines {
		f.produceLines[i] = wire.NewLines(wire.Access{})
	}
	first, second := replicatingPartition(f, 0), replicatingPartition(f, 0)
	second.number = 1
	copied := topics.Partition{Leader: 1, ReplicaSet: 1}
	lane := f.ensureTargetBroker(copied, "a.orders", 0)
	slab := newSlab(f.budget, 1<<20, nil)
	arrive := func(p *partition, offset int64) {
		p.ticketOfFetch().apply(func() { f.applyFetchedLocked(p, fetched(batchOf(t, offset, 1)), time.Now(), slab) })
		f.schedule(p)
	}
	for _, p := range []*partition{first, second} {
		p.setTargetLocked(copied, lane.targetLane, lane.account)
	}
	sender := &scriptedSender{make(chan struct{}), make(chan struct{}), make(chan scriptedRequest)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		lane.send(ctx, sender)
		close(ended)
	}()
	for _, p := range []*partition{first, second} { // from now on several batches may be in flight
		arrive(p, 0)
		sender.next().acked(0)
	}

	arrive(first, 1)
	lostFirst := sender.next()
	arrive(second, 1)
	lostSecond := sender.next()
	lost := errors.New("the connection is lost")
	lostFirst.done(nil, lost)
	arrive(second, 2)
	<-sender.connecting
	lostSecond.done(nil, lost)
	sender.open <- struct{}{}
	for range 2 { // the first is taken once the lane has nothing to send
		select {
		case r := <-sender.requests:
			t.Fatalf("partition %d sends what follows a batch that was lost", r.Topics[0].Partitions[0].Partition)
		case lane.wake <- struct{}{}:
		}
	}
	for _, p := range []*partition{first, second} {
		p.mu.Lock()
		if p.state != waiting || len(p.queue) > 0 || len(p.unsettled) != 1 {
			t.Errorf("partition %d is %s, with %d batches to send and %d without a known outcome", p.number, p.state, len(p.queue), len(p.unsettled))
		}
		p.mu.Unlock()
	}
	cancel()
	<-ended
}
