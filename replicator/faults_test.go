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
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// No record is missing or duplicated after produce errors, under load and repeatedly.
func TestTargetAnswersProduceWithAnError(t *testing.T) {
	tests := []struct {
		err     *kerr.Error
		outcome string
	}{
		{kerr.RequestTimedOut, "doubtful"},              // the batch may be written
		{kerr.NotEnoughReplicasAfterAppend, "doubtful"}, // the batch is written
		{kerr.NotEnoughReplicas, "refused"},
		{kerr.NotLeaderForPartition, "doubtful"},
		{kerr.KafkaStorageError, "doubtful"},
		{kerr.OutOfOrderSequenceNumber, "unordered"},
		{kerr.CorruptMessage, "unacceptable"},
		{kerr.TopicAuthorizationFailed, "unauthorized"},
		{kerr.MessageTooLarge, "oversized"},
	}
	for _, test := range tests {
		t.Run(test.err.Message, func(t *testing.T) {
			t.Parallel()
			c := replicatortest.NewClusters(t, 1)
			c.ShortPauses()
			c.Source.CreateTopic("orders", 2)
			c.Source.Produce("orders", 2, 50, "before")
			flow := c.Start(replicatortest.FastTopics)
			flow.UntilAcked("orders", 100)
			stop := c.Source.Load("orders", 2)
			flow.UntilProgress("orders", 20)
			fault := c.Target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "a.orders", Err: test.err, Count: 2})
			if err := fault.Wait(t.Context(), 2); err != nil {
				t.Fatal(err)
			}
			flow.UntilProgress("orders", 20)
			stop()
			flow.UntilCopied("orders")
			if n := flow.Metric("milena_produce_errors_total", "outcome", test.outcome); n < 2 {
				t.Errorf("%v produce errors are counted as %s, at least 2 were given", n, test.outcome)
			}
			flow.Stop()
			c.Verify("orders", "a.orders", 2)
		})
	}
}

// After a closed connection, the batch may have been written or not.
func TestConnectionClosesInsteadOfAResponse(t *testing.T) {
	tests := []struct {
		name, topic string
		how         replicatortest.Spoil
	}{
		{"after the batch was written", "a.orders", replicatortest.DropResponse},
		{"before the batch was written", "a.orders", replicatortest.DropRequest},
		{"after the journal was written", "milena.a-b.journal", replicatortest.DropResponse},
		{"before the journal was written", "milena.a-b.journal", replicatortest.DropRequest},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := replicatortest.NewClusters(t, 1)
			c.Source.CreateTopic("orders", 2)
			c.Source.Produce("orders", 2, 50, "before")
			flow := c.Start()
			flow.UntilReady() // the takeovers at the start write the journal too
			flow.UntilAcked("orders", 100)
			stop := c.Source.Load("orders", 2)
			for range 3 {
				replicatortest.Await(t, "the request is spoiled", c.Target.SpoilTopic(kmsg.Produce, test.topic, test.how, 1))
				flow.UntilProgress("orders", 30)
			}
			stop()
			flow.UntilCopied("orders")
			if n, want := flow.Metric("milena_takeovers_total", "result", "done"), float64(flow.Config.Shards+3); n < want {
				t.Errorf("%v takeovers, want %v: one of each shard at the start, and three after lost answers", n, want)
			}
			flow.Stop()
			c.Verify("orders", "a.orders", 2)
			flow = c.Start() // the journal is good for another start
			c.Source.Produce("orders", 2, 10, "after")
			flow.UntilCopied("orders")
			c.Verify("orders", "a.orders", 2)
		})
	}
}

func TestSourceAnswersFetchWithAnError(t *testing.T) {
	for _, e := range []*kerr.Error{kerr.NotLeaderForPartition, kerr.KafkaStorageError, kerr.UnknownServerError, kerr.UnknownTopicID, kerr.OffsetOutOfRange, kerr.TopicAuthorizationFailed, kerr.FencedLeaderEpoch} {
		t.Run(e.Message, func(t *testing.T) {
			t.Parallel()
			c := replicatortest.NewClusters(t, 1)
			c.Source.CreateTopic("orders", 2)
			flow := c.Start()
			stop := c.Source.Load("orders", 2)
			flow.UntilProgress("orders", 50)
			fault := c.Source.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: "orders", Err: e, Count: 3})
			if err := fault.Wait(t.Context(), 3); err != nil {
				t.Fatal(err)
			}
			flow.UntilProgress("orders", 50)
			stop()
			flow.UntilCopied("orders")
			c.Verify("orders", "a.orders", 2)
		})
	}
}

// aloneInItsShard gives each partition of these tests its own shard. Kfake fences a producer id on all its partitions as soon as it
// responds to InitProducerId. A real broker fences a partition only when the marker is written there, so the others of the shard are not
// affected.
func aloneInItsShard(f *config.Flow) { f.Shards = 61 }

// Fencing one partition must not end the flow for the others of its shard, although the broker refuses their batches meanwhile.
func TestFenceWhileNeighboursAreProduced(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.ShortPauses()
	c.Source.CreateTopic("orders", 4)
	flow := c.Start(replicatortest.FastTopics, func(f *config.Flow) { f.Shards = 1 }) // all partitions in the shard
	stop := c.Source.Load("orders", 4)
	for range 5 {
		flow.UntilProgress("orders", 50)
		if err := c.Target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "a.orders", Err: kerr.RequestTimedOut}).Wait(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	flow.UntilCopied("orders")
	c.Verify("orders", "a.orders", 4)
}

func TestLeadersMoveOnBothSides(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 3)
	c.Source.CreateTopic("orders", 6)
	flow := c.Start(aloneInItsShard)
	stop := c.Source.Load("orders", 6)
	for range 6 {
		flow.UntilProgress("orders", 100)
		c.Source.ShufflePartitionLeaders()
		c.Target.ShufflePartitionLeaders()
		c.Target.RehashCoordinators()
	}
	flow.UntilProgress("orders", 100)
	stop()
	flow.UntilCopied("orders")
	flow.Stop()
	c.Verify("orders", "a.orders", 6)
}

// mishaps cause failures at random.
type mishaps struct {
	clusters *replicatortest.Clusters
	draw     *rand.Rand
	faults   []*kfake.FaultHandle // installed, but perhaps not all triggered
}

// next causes one failure and describes it.
func (m *mishaps) next() string {
	c, draw := m.clusters, m.draw
	pick := func(errs ...*kerr.Error) *kerr.Error { return errs[draw.IntN(len(errs))] }
	fault := func(c *replicatortest.Cluster, f kfake.Fault) string {
		f.Count = 1 + draw.IntN(3)
		m.faults = append(m.faults, c.Fault(f))
		return fmt.Sprintf("%v answers %s %d times", f.Keys, f.Err.Message, f.Count)
	}
	spoiled := func(c *replicatortest.Cluster, key kmsg.Key) string {
		how := replicatortest.Spoil(draw.IntN(2))
		c.Spoil(key, nil, how, 1)
		return fmt.Sprintf("one %s loses its %s", key.Name(), [...]string{"answer", "request"}[how])
	}
	switch draw.IntN(9) {
	case 0, 1:
		return fault(c.Target, kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: pick(kerr.RequestTimedOut, kerr.NotEnoughReplicasAfterAppend, kerr.NotEnoughReplicas,
			kerr.NotLeaderForPartition, kerr.KafkaStorageError, kerr.OutOfOrderSequenceNumber, kerr.UnknownTopicOrPartition)})
	case 2:
		return fault(c.Source, kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: pick(kerr.NotLeaderForPartition, kerr.UnknownServerError, kerr.ReplicaNotAvailable, kerr.OffsetOutOfRange)})
	case 3:
		return fault(c.Target, kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: pick(kerr.NotLeaderForPartition, kerr.UnknownServerError, kerr.UnknownTopicID)})
	case 4:
		return fault(c.Target, kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID, kmsg.EndTxn}, Err: pick(kerr.CoordinatorLoadInProgress, kerr.NotCoordinator, kerr.ConcurrentTransactions, kerr.CoordinatorNotAvailable)})
	case 5:
		return spoiled(c.Target, kmsg.Produce)
	case 6:
		return spoiled(c.Target, [...]kmsg.Key{kmsg.Fetch, kmsg.AddPartitionsToTxn, kmsg.EndTxn}[draw.IntN(3)])
	case 7:
		return spoiled(c.Source, kmsg.Fetch)
	default:
		c.Source.ShufflePartitionLeaders()
		c.Target.ShufflePartitionLeaders()
		return "the leaders move"
	}
}

func TestThirtyMishapsUnderLoad(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	c := replicatortest.NewClusters(t, 2)
	c.ShortPauses()
	m := &mishaps{clusters: c, draw: rand.New(rand.NewPCG(seed, 0))}
	c.Source.CreateTopic("orders", 4)
	c.Source.CreateTopic("bills", 1)
	flow := c.Start(aloneInItsShard)
	stopOrders, stopBills := c.Source.Load("orders", 4), c.Source.Load("bills", 1)
	for n := range 30 {
		flow.UntilProgress("orders", 20)
		t.Logf("%d: %s", n, m.next())
	}
	stopOrders()
	stopBills()
	flow.UntilCopied("orders")
	flow.UntilCopied("bills")
	flow.Stop()
	for _, f := range m.faults {
		f.Remove() // what is left must not hit Verify
	}
	c.Verify("orders", "a.orders", 4)
	c.Verify("bills", "a.bills", 1)
	flow = c.Start(aloneInItsShard)
	c.Source.Produce("orders", 4, 10, "after")
	flow.UntilCopied("orders")
	c.Verify("orders", "a.orders", 4)
}
