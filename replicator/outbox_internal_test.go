package replicator

import (
	"math"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/replicator/topics"
	"github.com/milena-kafka/milena/replicator/wire"
)

// A sequence that the broker does not expect is an OUT_OF_ORDER_SEQUENCE_NUMBER, so the wrap must be the broker's: 2^31-1 is followed by 0.
func TestSequenceWrapsLikeTheBrokers(t *testing.T) {
	for _, c := range []struct {
		sequence int32
		count    int
		want     int32
	}{
		{0, 1, 1},
		{41, 500, 541},
		{math.MaxInt32 - 1, 1, math.MaxInt32},
		{math.MaxInt32, 1, 0},
		{math.MaxInt32 - 9, 15, 5},
		{math.MaxInt32, math.MaxInt32, math.MaxInt32 - 1},
	} {
		if got := nextSequence(c.sequence, c.count); got != c.want {
			t.Errorf("%d records behind sequence %d: next is %d, want %d", c.count, c.sequence, got, c.want)
		}
	}
}

// Whatever happens after the stop has closed the outbox of a partition: nothing more is queued or sent, what is in flight is counted until its
// outcome is known, and no bytes are held for what was discarded.
func TestNothingIsSentAfterClose(t *testing.T) {
	const start, queued = 1000, 3
	for name, happens := range map[string]func(f *Flow, p *partition, s sentBatch){
		"it is acknowledged": func(f *Flow, _ *partition, s sentBatch) {
			rp := kmsg.NewProduceResponseTopicPartition()
			rp.BaseOffset = start
			if err := f.handleAnswer(s, &rp, time.Now()); err != nil {
				t.Fatal(err)
			}
		},
		"it is refused":            func(f *Flow, _ *partition, s sentBatch) { answerTo(t, f, s, kerr.NotEnoughReplicas) },
		"it is too large":          func(f *Flow, _ *partition, s sentBatch) { answerTo(t, f, s, kerr.MessageTooLarge) },
		"its outcome is not known": func(f *Flow, _ *partition, s sentBatch) { f.doubtAll([]sentBatch{s}) },
		"it is taken over": func(f *Flow, p *partition, s sentBatch) {
			f.doubtAll([]sentBatch{s})
			r := &recovery{flow: f, shard: p.shard}
			p.beginRecovery(r)
			p.startReplicating(r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := testFlow(t)
			p := replicatingPartition(f, start)
			p.outbox.assign(new(account))
			f.topology.put(p)
			f.budget.add(1 << 10)
			slab := newSlab(f.budget, 1<<10, nil)
			for n := range int64(queued) {
				p.ticketOfFetch().apply(func() { f.applyFetchedLocked(p, fetched(batchOf(t, start+n, 1)), time.Now(), slab) })
			}
			slab.drop()
			s, late := p.sent(), p.ticketOfFetch()
			f.closeOutboxes()
			if n := f.pending.Load(); n != 1 || len(p.queue) != 1 {
				t.Errorf("%d batches are in flight, %d in the queue, want 1", n, len(p.queue))
			}
			happens(f, p, s)
			fetch := func() { f.applyFetchedLocked(p, fetched(batchOf(t, p.next, 1)), time.Now(), newSlab(f.budget, 0, nil)) }
			late.apply(fetch)
			p.ticketOfFetch().apply(fetch)
			if n := f.pending.Load(); n != 0 || p.sendableLocked() || len(p.queue) > 0 {
				t.Errorf("%d batches are in flight, %d in the queue", n, len(p.queue))
			}
			if held, bytes := f.budget.held(), p.account.bytes.Load(); held != 0 || bytes != 0 || p.queuedBytes != 0 {
				t.Errorf("%d bytes are held, %d of the broker, %d in the queue", held, bytes, p.queuedBytes)
			}
		})
	}
}

// A broker that has forgotten the producer meanwhile would accept the second batch although it refuses the first one.
func TestFirstBatchAfterAPauseIsInFlightAlone(t *testing.T) {
	for _, test := range []struct {
		pause time.Duration
		alone bool
	}{{0, false}, {longestPause, false}, {longestPause + time.Millisecond, true}, {24 * time.Hour, true}} {
		t.Run(test.pause.String(), func(t *testing.T) {
			f := testFlow(t)
			p := replicatingPartition(f, 1000)
			slab := newSlab(f.budget, 1<<10, nil)
			for n := range int64(6) {
				p.ticketOfFetch().apply(func() { f.applyFetchedLocked(p, fetched(batchOf(t, 1000+n, 1)), time.Now(), slab) })
			}
			now, lane := time.Now(), p.targetLane
			p.outbox.stampNext(lane, now)
			if p.outbox.hasNext(lane) {
				t.Error("the first batch after a fence is not alone")
			}
			p.outbox.popSent(now)
			now = now.Add(test.pause)
			p.outbox.stampNext(lane, now)
			if p.outbox.hasNext(lane) == test.alone {
				t.Errorf("alone after the pause: %v", !test.alone)
			}
			p.outbox.popSent(now)
			p.outbox.stampNext(lane, now)
			p.outbox.stampNext(lane, now.Add(time.Hour)) // others are in flight, so it is no pause
			if !p.outbox.hasNext(lane) {
				t.Error("a batch is alone although the one before it was acknowledged")
			}
		})
	}
}

// What waits for some replicas fills half of the budget. Partitions of the same broker with other replicas are still fetched.
func TestReplicasHaveTheirOwnPartOfTheBudget(t *testing.T) {
	f := testFlow(t)
	for i := range f.produceLines {
		f.produceLines[i] = wire.NewLines(wire.Access{})
	}
	stuck, busy := replicatingPartition(f, 0), replicatingPartition(f, 0)
	for set, p := range map[uint64]*partition{1: stuck, 2: busy} {
		copied := topics.Partition{Leader: 1, ReplicaSet: set}
		lane := f.ensureTargetBroker(copied, "orders", 0)
		p.setTargetLocked(copied, lane.targetLane, lane.account)
	}
	for range int(f.budget.limit / partitionBytes / 2) {
		stuck.enqueueLocked(prepared{batch: make([]byte, partitionBytes), slab: newOwnSlab(f.budget, partitionBytes)})
	}
	now, free := time.Now(), f.budget.free()
	if ok, _ := stuck.fetchableLocked(now, free, f.budget.limit); ok {
		t.Error("more is fetched of the partition whose queue is full")
	}
	if ok, _ := busy.fetchableLocked(now, free, f.budget.limit); !ok {
		t.Error("its neighbour is not fetched")
	}
}
