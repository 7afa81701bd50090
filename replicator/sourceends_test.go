package replicator_test

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// A source that is gone has no lag of 0: nobody knows its end. Status, metrics and readiness say so, and recover with it.
func TestSourceIsGoneWhileTheFlowRuns(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 2)
	c.Source.Produce("orders", 2, 10, "before")
	flow := c.Start()
	flow.UntilCopied("orders")
	flow.UntilReady()
	if n := flow.Metric("milena_lag_unknown_partitions"); n != 0 {
		t.Errorf("the lag of %v partitions is not known while all is well", n)
	}
	c.Source.Cut()
	s := flow.Until("not ready, and no lag is known", func(s replicator.Status) bool { return !s.Ready && s.LagRecords == nil && s.LagUnknown >= 2 })
	for _, p := range replicatortest.Partitions(s, "orders") {
		if p.LagRecords != nil || p.LagSeconds != nil || p.SourceSeen.IsZero() || *p.SourceEnd != 10 {
			t.Errorf("the status of a partition whose source is gone: %+v", p)
		}
	}
	if !strings.Contains(strings.Join(s.NotReady, "\n"), "connection refused") {
		t.Errorf("the reason is not the source's: %q", s.NotReady)
	}
	if n := flow.Metric("milena_lag_unknown_partitions"); n < 2 {
		t.Errorf("milena_lag_unknown_partitions is %v", n)
	}
	families, err := flow.Metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if name := family.GetName(); strings.HasPrefix(name, "milena_lag_") && name != "milena_lag_unknown_partitions" {
			t.Errorf("%s has %d series, though no lag is known", name, len(family.GetMetric()))
		}
	}
	c.Source.Restore()
	flow.UntilReady()
	c.Source.Produce("orders", 2, 10, "after")
	flow.UntilCopied("orders")
	flow.Stop()
	c.Verify("orders", "a.orders", 2)
}

// A target that is gone is no reason not to know the lag, and the flow is not ready.
func TestTargetIsGoneWhileTheFlowRuns(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 10, "before")
	flow := c.Start()
	flow.UntilCopied("orders")
	flow.UntilReady()
	c.Target.Cut()
	c.Source.Produce("orders", 1, 5, "after")
	s := flow.Until("not ready, and the lag is known", func(s replicator.Status) bool {
		p := replicatortest.Partitions(s, "orders")[0]
		return !s.Ready && s.LagUnknown == 0 && p.LagRecords != nil && *p.LagRecords == 5
	})
	if len(s.NotReady) == 0 || flow.Metric("milena_ready") != 0 {
		t.Errorf("not ready because of %q, and milena_ready is %v", s.NotReady, flow.Metric("milena_ready"))
	}
	c.Target.Restore()
	flow.UntilReady()
	flow.UntilCopied("orders")
	flow.Stop()
	c.Verify("orders", "a.orders", 1)
}

// The lag of a halted partition, which is not fetched, grows all the same.
func TestLagOfAHaltedPartitionIsKnown(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 10, "before")
	c.Target.CreateTopic("a.orders", 1)
	c.Target.Produce("a.orders", 1, 1, "foreign")
	flow := c.Start()
	flow.UntilHaltedBy("target_not_empty", "orders", 0)
	c.Source.Produce("orders", 1, 15, "after")
	flow.UntilPartitions("the lag is that of all records", "orders", 1, func(p replicator.PartitionStatus) bool {
		return p.LagRecords != nil && *p.LagRecords == 25
	})
}

// A transaction that does not end keeps the records behind it from being read: that is no lag, and it is visible.
func TestOpenTransactionIsVisible(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	flow := c.Start(func(f *config.Flow) { f.Isolation = "read_committed" })
	flow.UntilReady()
	x := c.Source.Transactions("hangs")
	x.Begin()
	x.Write(&kgo.Record{Topic: "orders", Value: []byte("open")})
	c.Source.Produce("orders", 1, 7, "behind")
	flow.UntilPartitions("eight records wait for the transaction", "orders", 1, func(p replicator.PartitionStatus) bool {
		return p.OpenTransactionRecords != nil && *p.OpenTransactionRecords == 8 && *p.LagRecords == 0
	})
	if n := flow.Metric("milena_open_transaction_records", "topic", "orders"); n != 8 {
		t.Errorf("milena_open_transaction_records is %v, want 8", n)
	}
	x.End(kgo.TryCommit)
	flow.UntilCopied("orders")
	flow.UntilPartitions("none waits", "orders", 1, func(p replicator.PartitionStatus) bool { return *p.OpenTransactionRecords == 0 })
}
