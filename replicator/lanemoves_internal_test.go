package replicator

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/replicator/topics"
	"github.com/milena-kafka/milena/replicator/wire"
)

// laneRequest is a produce request in flight on a lane.
type laneRequest struct {
	list []sentBatch
	sent flight
}

// However often a partition moves to another lane while batches are in flight, and whichever lane the broker answers first: it reads them in the order
// of their sequences, and the partition never stands still.
func TestNoMoveToAnotherLaneChangesTheOrder(t *testing.T) {
	const lanes, steps = 4, 4000
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	draw := rand.New(rand.NewPCG(seed, 1))
	f := testFlow(t)
	for i := range f.produceLines {
		f.produceLines[i] = wire.NewLines(wire.Access{})
	}
	p := replicatingPartition(f, 0)
	copied := topics.Partition{Leader: 1, ReplicaSet: 1}
	f.topology.targetLanes.of(1).lanes = lanes
	var brokers []*targetBroker
	for number := int32(0); len(brokers) < lanes; number++ {
		if b := f.ensureTargetBroker(copied, p.topic.target, number); !slices.Contains(brokers, b) {
			brokers = append(brokers, b)
		}
	}
	move := func() {
		b := brokers[draw.IntN(lanes)]
		p.mu.Lock()
		p.setTargetLocked(copied, b.targetLane, b.account)
		p.mu.Unlock()
		f.schedule(p) // as followLeaders does
	}
	inFlight := make(map[*targetBroker][]laneRequest)
	slab := newSlab(f.budget, 1<<20, nil)
	fetchedTo, written, sequence, most := int64(0), int64(0), int32(0), 0
	send := func(b *targetBroker) {
		if _, list, sent := b.nextRequest(); len(list) > 0 {
			for _, s := range list {
				s.slab.drop()
			}
			inFlight[b] = append(inFlight[b], laneRequest{list, sent})
			most = max(most, len(inFlight[b]))
		}
	}
	answer := func(b *targetBroker) {
		if len(inFlight[b]) == 0 {
			return
		}
		r := inFlight[b][0]
		inFlight[b] = inFlight[b][1:]
		b.mu.Lock()
		b.window.end(r.sent, 0, time.Now())
		b.mu.Unlock()
		for _, s := range r.list {
			if s.sequence != sequence {
				t.Fatalf("the broker reads sequence %d, want %d", s.sequence, sequence)
			}
			rp := kmsg.NewProduceResponseTopicPartition()
			rp.BaseOffset = written
			if err := f.handleAnswer(s, &rp, time.Now()); err != nil {
				t.Fatal(err)
			}
			written, sequence = written+2, nextSequence(sequence, 2)
		}
	}
	move()
	for range steps {
		b := brokers[draw.IntN(lanes)]
		if draw.IntN(2) == 0 {
			b = f.targetBroker(p.targetLane)
		}
		switch draw.IntN(40) {
		case 0, 1:
			move()
		case 2:
			p.mu.Lock()
			p.confirmedAt -= 2 * longestPause.Milliseconds()
			p.mu.Unlock()
		case 3, 4, 5, 6, 7, 8, 9:
			p.ticketOfFetch().apply(func() { f.applyFetchedLocked(p, fetched(batchOf(t, fetchedTo, 2)), time.Now(), slab) })
			fetchedTo += 2
			f.schedule(p)
		case 10, 11, 12, 13, 14, 15, 16, 17, 18:
			answer(b)
		default:
			send(b)
		}
	}
	for end := time.Now().Add(10 * time.Second); written < fetchedTo && time.Now().Before(end); time.Sleep(time.Millisecond) {
		for _, b := range brokers {
			send(b)
			answer(b)
		}
	}
	if written != fetchedTo || p.state != replicating {
		t.Errorf("%d records of %d are written, state %v", written, fetchedTo, p.state)
	}
	if most < 2 {
		t.Errorf("at most %d batches were in flight", most)
	}
}
