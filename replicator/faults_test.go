package replicator_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
)

// Whatever the target answers, under load and more than once: nothing is missing and nothing is twice.
func TestTargetAnswersProduceWithAnError(t *testing.T) {
	tests := []struct {
		err     *kerr.Error
		outcome string
	}{
		{kerr.RequestTimedOut, "doubtful"},              // written all the same
		{kerr.NotEnoughReplicasAfterAppend, "doubtful"}, // written all the same
		{kerr.NotEnoughReplicas, "refused"},
		{kerr.NotLeaderForPartition, "doubtful"},
		{kerr.KafkaStorageError, "doubtful"},
		{kerr.OutOfOrderSequenceNumber, "doubtful"},
		{kerr.CorruptMessage, "unacceptable"},
		{kerr.TopicAuthorizationFailed, "unauthorized"},
		{kerr.MessageTooLarge, "oversized"},
	}
	for _, test := range tests {
		t.Run(test.err.Message, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, 1)
			p.createTopic("orders", 2)
			p.produce("orders", 2, 50, "before")
			r := p.start(nil)
			r.caughtUp("orders", 100)
			stop := p.load("orders", 2)
			r.progress(20)
			fault := p.target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "a.orders", Err: test.err, Count: 2})
			if err := fault.Wait(t.Context(), 2); err != nil {
				t.Fatal(err)
			}
			r.progress(20)
			stop()
			p.settled(r, "orders")
			if n := r.metric("milena_produce_errors_total", "outcome", test.outcome); n < 2 {
				t.Errorf("%v produce errors are counted as %s, at least 2 were given", n, test.outcome)
			}
			if err := r.stopped(); err != nil {
				t.Fatal(err)
			}
			p.verify("orders", "a.orders", 2)
		})
	}
}

// A connection that closes says nothing about what was written: one time the batch is there, one time it is not.
func TestConnectionClosesInsteadOfAnAnswer(t *testing.T) {
	tests := []struct {
		name string
		what string
		how  spoil
	}{
		{"after the batch was written", "a.orders", loseAnswer},
		{"before the batch was written", "a.orders", loseRequest},
		{"after the journal was written", "milena.a-b.journal", loseAnswer},
		{"before the journal was written", "milena.a-b.journal", loseRequest},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, 1)
			p.createTopic("orders", 2)
			p.produce("orders", 2, 50, "before")
			r := p.start(nil)
			r.caughtUp("orders", 100)
			stop := p.load("orders", 2)
			id := p.target.TopicInfo(test.what).TopicID
			for range 3 {
				await(t, "the trap springs", p.targetTrap.set(kmsg.Produce, id[:], test.how, 1))
				r.progress(30)
			}
			stop()
			p.settled(r, "orders")
			if n := r.metric("milena_takeovers_total", "result", "done"); n < 4+3 {
				t.Errorf("%v take-overs: 4 shards were begun with and 3 doubts followed", n)
			}
			if err := r.stopped(); err != nil {
				t.Fatal(err)
			}
			p.verify("orders", "a.orders", 2)
			r = p.start(nil) // and the journal that came of it is good for another start
			p.produce("orders", 2, 10, "after")
			p.settled(r, "orders")
			p.verify("orders", "a.orders", 2)
		})
	}
}

func TestSourceAnswersFetchWithAnError(t *testing.T) {
	for _, e := range []*kerr.Error{kerr.NotLeaderForPartition, kerr.KafkaStorageError, kerr.UnknownServerError, kerr.UnknownTopicID, kerr.OffsetOutOfRange, kerr.TopicAuthorizationFailed, kerr.FencedLeaderEpoch} {
		t.Run(e.Message, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, 1)
			p.createTopic("orders", 2)
			r := p.start(nil)
			stop := p.load("orders", 2)
			r.progress(50)
			fault := p.source.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: "orders", Err: e, Count: 3})
			if err := fault.Wait(t.Context(), 3); err != nil {
				t.Fatal(err)
			}
			r.progress(50)
			stop()
			p.settled(r, "orders")
			p.verify("orders", "a.orders", 2)
		})
	}
}

// aloneInItsShard gives each partition a shard of its own. Kfake fences a producer id on all its partitions as soon as InitProducerId is
// answered; a broker does so only where the fence's marker stands, so there the others of a shard go on.
func aloneInItsShard(f *config.Flow) { f.Shards = 61 }

// One partition's fence must not end the flow for its neighbours in the shard, also where the broker refuses them meanwhile.
func TestFenceWhileNeighboursAreProduced(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 4)
	r := p.start(func(f *config.Flow) { f.Shards = 1 })
	stop := p.load("orders", 4)
	for range 5 {
		r.progress(50)
		if err := p.target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "a.orders", Err: kerr.RequestTimedOut}).Wait(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	p.settled(r, "orders")
	p.verify("orders", "a.orders", 4)
}

func TestLeadersMoveOnBothSides(t *testing.T) {
	t.Parallel()
	p := newPair(t, 3)
	p.createTopic("orders", 6)
	r := p.start(aloneInItsShard)
	stop := p.load("orders", 6)
	for range 6 {
		r.progress(100)
		p.source.ShufflePartitionLeaders()
		p.target.ShufflePartitionLeaders()
		p.target.RehashCoordinators()
	}
	r.progress(100)
	stop()
	p.settled(r, "orders")
	if err := r.stopped(); err != nil {
		t.Fatal(err)
	}
	p.verify("orders", "a.orders", 6)
}

// mishap is one thing that can go wrong; which one is drawn.
func (p *pair) mishap(draw *rand.Rand) string {
	pick := func(errs ...*kerr.Error) *kerr.Error { return errs[draw.IntN(len(errs))] }
	fault := func(c *kfake.Cluster, f kfake.Fault) string {
		f.Count = 1 + draw.IntN(3)
		p.faults = append(p.faults, c.Fault(f))
		return fmt.Sprintf("%v answers %s %d times", f.Keys, f.Err.Message, f.Count)
	}
	spoiled := func(tr *trap, key kmsg.Key) string {
		how := spoil(draw.IntN(2))
		tr.set(key, nil, how, 1)
		return fmt.Sprintf("one %s loses its %s", key.Name(), [...]string{"answer", "request"}[how])
	}
	switch draw.IntN(9) {
	case 0, 1:
		return fault(p.target, kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: pick(kerr.RequestTimedOut, kerr.NotEnoughReplicasAfterAppend, kerr.NotEnoughReplicas,
			kerr.NotLeaderForPartition, kerr.KafkaStorageError, kerr.OutOfOrderSequenceNumber, kerr.UnknownTopicOrPartition)})
	case 2:
		return fault(p.source, kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: pick(kerr.NotLeaderForPartition, kerr.UnknownServerError, kerr.ReplicaNotAvailable, kerr.OffsetOutOfRange)})
	case 3:
		return fault(p.target, kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: pick(kerr.NotLeaderForPartition, kerr.UnknownServerError, kerr.UnknownTopicID)})
	case 4:
		return fault(p.target, kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID, kmsg.EndTxn}, Err: pick(kerr.CoordinatorLoadInProgress, kerr.NotCoordinator, kerr.ConcurrentTransactions, kerr.CoordinatorNotAvailable)})
	case 5:
		return spoiled(p.targetTrap, kmsg.Produce)
	case 6:
		return spoiled(p.targetTrap, [...]kmsg.Key{kmsg.Fetch, kmsg.AddPartitionsToTxn, kmsg.EndTxn}[draw.IntN(3)])
	case 7:
		return spoiled(p.sourceTrap, kmsg.Fetch)
	default:
		p.source.ShufflePartitionLeaders()
		p.target.ShufflePartitionLeaders()
		return "the leaders move"
	}
}

func TestThirtyMishapsUnderLoad(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	draw := rand.New(rand.NewPCG(seed, 0))
	p := newPair(t, 2)
	p.createTopic("orders", 4)
	p.createTopic("bills", 1)
	r := p.start(aloneInItsShard)
	stopOrders, stopBills := p.load("orders", 4), p.load("bills", 1)
	for n := range 30 {
		r.progress(20)
		t.Logf("%d: %s", n, p.mishap(draw))
	}
	stopOrders()
	stopBills()
	p.settled(r, "orders")
	p.settled(r, "bills")
	if err := r.stopped(); err != nil {
		t.Fatal(err)
	}
	for _, f := range p.faults {
		f.Remove() // what the flow did not meet must not hit the verifier
	}
	p.verify("orders", "a.orders", 4)
	p.verify("bills", "a.bills", 1)
	r = p.start(aloneInItsShard)
	p.produce("orders", 4, 10, "after")
	p.settled(r, "orders")
	p.verify("orders", "a.orders", 4)
}
