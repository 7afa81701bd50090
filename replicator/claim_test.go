package replicator_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// clustersWithoutTransactions are two clusters of which the target is asked for no transaction.
func clustersWithoutTransactions(t *testing.T, brokers int) *replicatortest.Clusters {
	t.Helper()
	c := replicatortest.NewClusters(t, brokers)
	c.ShortPauses()
	c.Target.Observe(func(_ string, request kmsg.Request) {
		switch r := request.(type) {
		case *kmsg.AddPartitionsToTxnRequest, *kmsg.EndTxnRequest:
			t.Errorf("the target got a request of kind %d", r.Key())
		case *kmsg.InitProducerIDRequest:
			if r.TransactionalID != nil {
				t.Errorf("the target was asked for transactional id %s", *r.TransactionalID)
			}
		}
	})
	return c
}

// Instances come and go, and one dies with what it copied not journaled. The group and the lease are all that keeps them apart.
func TestInstancesShareAFlowWithoutTransactions(t *testing.T) {
	t.Parallel()
	c := clustersWithoutTransactions(t, 2)
	c.ShutdownTimeout = time.Second
	c.Source.CreateTopic("orders", 20)
	stop := c.Source.Load("orders", 20)
	flows := replicatortest.Flows{c.Start(replicatortest.WithoutTransactions)}
	flows.UntilShared(64)
	for range 2 {
		flows = append(flows, c.Start(replicatortest.WithoutTransactions))
		flows.UntilShared(1)
		flows.UntilProgress(200)
	}
	journal := c.Target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: offsets.JournalTopic("a-b"), Err: kerr.NotEnoughReplicas, Count: -1})
	flows.UntilProgress(200)
	flows[0].Cancel()
	_ = flows[0].Wait() // it could not journal
	journal.Remove()
	for flows = flows[1:]; ; flows = flows[1:] {
		flows.UntilShared(1)
		flows.UntilProgress(200)
		if len(flows) == 1 {
			break
		}
		flows[0].Stop()
	}
	stop()
	flows.UntilCopied("orders")
	if n := flows[0].Metric("milena_anomalies_total"); n > 0 {
		t.Errorf("%v anomalies", n)
	}
	flows.Stop()
	c.Verify("orders", "a.orders", 20)
}

func TestThirtyMishapsWithoutTransactions(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	c := clustersWithoutTransactions(t, 2)
	m := &mishaps{clusters: c, draw: rand.New(rand.NewPCG(seed, 0))}
	c.Source.CreateTopic("orders", 4)
	flow := c.Start(aloneInItsShard, replicatortest.WithoutTransactions)
	stop := c.Source.Load("orders", 4)
	for n := range 30 {
		flow.UntilProgress("orders", 20)
		t.Logf("%d: %s", n, m.next())
	}
	stop()
	flow.UntilCopied("orders")
	flow.Stop()
	for _, f := range m.faults {
		f.Remove() // what is left must not hit Verify
	}
	c.Verify("orders", "a.orders", 4)
}

// All partitions are in one shard, and one of them is in doubt again and again. Each doubt raises the epoch of the shard.
func TestDoubtsWithoutTransactions(t *testing.T) {
	t.Parallel()
	c := clustersWithoutTransactions(t, 1)
	c.Source.CreateTopic("orders", 4)
	flow := c.Start(replicatortest.FastTopics, replicatortest.WithoutTransactions, func(f *config.Flow) { f.Shards = 1 })
	stop := c.Source.Load("orders", 4)
	for range 5 {
		flow.UntilProgress("orders", 50)
		replicatortest.Await(t, "an answer is lost", c.Target.SpoilTopic(kmsg.Produce, "a.orders", replicatortest.DropResponse, 1))
		flow.UntilProgress("orders", 50)
		replicatortest.Await(t, "a request is lost", c.Target.SpoilTopic(kmsg.Produce, "a.orders", replicatortest.DropRequest, 1))
	}
	stop()
	flow.UntilCopied("orders")
	flow.Stop()
	c.Verify("orders", "a.orders", 4)
}

// Other producers write to the copies all the time, so their logs are never quiet. Those writes are no reason to wait: they are not of an earlier owner.
func TestTakeoverOfBusySharedTopicsWithoutTransactions(t *testing.T) {
	t.Parallel()
	c := clustersWithoutTransactions(t, 1)
	c.Pauses.Quiet = time.Second // no load pauses for so long
	c.Source.CreateTopic("orders", 2)
	c.Target.CreateTopic("a.orders", 2)
	c.Source.Produce("orders", 2, 20, "first")
	others := c.Target.Load("a.orders", 2)
	shared := func(f *config.Flow) { f.Provenance = true }
	flow := c.Start(replicatortest.WithoutTransactions, shared)
	flow.UntilCopied("orders")
	flow.Stop()
	c.Source.Produce("orders", 2, 20, "second")
	flow = c.Start(replicatortest.WithoutTransactions, shared)
	flow.UntilCopied("orders")
	flow.Stop()
	others()
	for part, copied := range c.Target.Records("a.orders", 2) {
		ours := 0
		for _, r := range copied {
			if !strings.HasPrefix(string(r.Value), "load-") {
				ours++
			}
		}
		if ours != 40 {
			t.Errorf("partition %d has %d copied records, want 40", part, ours)
		}
	}
}
