package fleet_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/fleet"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

func clustersOf(c *config.Config) client.Clusters {
	flow := c.Flows[0]
	return client.Clusters{Flow: flow, Source: c.Clusters[flow.Source], Target: c.Clusters[flow.Target], Log: slog.New(slog.DiscardHandler)}
}

// fewShards keeps the journal small: every report of a test reads all of it.
func fewShards(f *config.Flow) { f.Shards = 8 }

func read(t *testing.T, c client.Clusters) fleet.Report {
	t.Helper()
	report, err := fleet.Read(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// find returns a partition of a report.
func find(t *testing.T, r fleet.Report, topic string, partition int32) fleet.Partition {
	t.Helper()
	for _, p := range r.Partitions {
		if p.Topic == topic && p.Partition == partition {
			return p
		}
	}
	t.Fatalf("the report does not have %s-%d: %+v", topic, partition, r.Partitions)
	return fleet.Partition{}
}

// wantSame compares a report with the status of the one instance that runs the flow.
func wantSame(t *testing.T, r fleet.Report, s replicator.Status) {
	t.Helper()
	if r.LagUnknown != s.LagUnknown || len(r.Partitions) != len(s.Partitions) || r.LagRecords == nil || *r.LagRecords != *s.LagRecords {
		t.Errorf("lag %v, unknown for %d of %d; the status has %v, %d of %d", r.LagRecords, r.LagUnknown, len(r.Partitions), s.LagRecords, s.LagUnknown, len(s.Partitions))
	}
	for _, want := range s.Partitions {
		got := find(t, r, want.Topic, want.Partition)
		same := got.TargetTopic == want.TargetTopic && got.Shard == want.Shard && got.Listed == want.Begun &&
			got.Journaled != nil && *got.Journaled == want.Journaled && got.SourceEnd != nil && *got.SourceEnd == *want.SourceEnd &&
			got.LagRecords != nil && *got.LagRecords == *want.LagRecords && (got.Halted == nil) == (want.Anomaly == nil)
		if !same {
			t.Errorf("%+v; the status has %+v", got, want)
		}
	}
}

// One process outside a group owns all shards. At rest, the report says of its partitions what the process says itself.
func TestReport_oneInstance(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 2)
	c.Source.CreateTopic("orders", 3)
	c.Source.CreateTopic("empty", 1)
	c.Source.Produce("orders", 3, 30, "first")
	changes := []func(*config.Flow){fewShards, replicatortest.FastJournal, replicatortest.OneInstance, func(f *config.Flow) { f.Heartbeats = false }}
	clusters := clustersOf(c.Config(changes...))

	before := read(t, clusters)
	if p := find(t, before, "orders", 0); before.Mode != fleet.ModeStopped || before.Shards != 0 || p.Listed || p.LagRecords != nil || p.Shard != -1 || before.IsHealthy() {
		t.Errorf("before the flow ran: %+v", before)
	}
	if before.LagRecords != nil || before.LagUnknown != 4 {
		t.Errorf("before the flow ran, the lag is %v, unknown for %d", before.LagRecords, before.LagUnknown)
	}

	f := c.Start(changes...)
	f.UntilReady()
	f.UntilJournaled("orders")
	f.UntilPartitions("the source confirms", "orders", 3, func(p replicator.PartitionStatus) bool { return p.LagRecords != nil && *p.LagRecords == 0 })
	r := read(t, clusters)
	wantSame(t, r, f.Status())
	if !r.IsHealthy() || r.Mode != fleet.ModeOne || len(r.Instances) != 1 || r.Shards != 8 || len(r.ShardsWithoutOwner) != 0 {
		t.Errorf("the flow is ready: %+v", r)
	}
	if r.SourceClusterID != "source-cluster" || r.TargetClusterID != "target-cluster" {
		t.Errorf("cluster ids %q and %q", r.SourceClusterID, r.TargetClusterID)
	}
	one := r.Instances[0]
	if len(one.Shards) != 8 || one.Partitions != 4 || one.LagRecords == nil || *one.LagRecords != 0 || one.Host == "" || one.Since.IsZero() || one.ID == "" {
		t.Errorf("the instance: %+v", one)
	}
	if age := r.At.Sub(r.JournaledAt); age < -time.Second || age > 10*time.Second {
		t.Errorf("the journal is %v old", age)
	}

	f.Stop()
	c.Source.Produce("orders", 3, 6, "second")
	behind := read(t, clusters)
	if behind.LagRecords == nil || *behind.LagRecords != 18 || behind.LagUnknown != 0 {
		t.Errorf("6 records behind in each partition: the lag is %v, unknown for %d", behind.LagRecords, behind.LagUnknown)
	}
	stopped := clusters
	stopped.Flow.Lease = time.Nanosecond // the owner record of before is as old as any
	if r := read(t, stopped); r.Mode != fleet.ModeStopped || len(r.Instances) != 0 || len(r.ShardsWithoutOwner) != 8 || r.IsHealthy() {
		t.Errorf("the flow is stopped: %+v", r)
	}
}

// A halted partition is in the report with what halted it, and the others are not. Once the decision is made, it is not halted any more.
func TestReport_halted(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 2)
	c.Source.Produce("orders", 2, 20, "first")
	f := c.Start(fewShards, replicatortest.FastJournal)
	f.UntilCopied("orders")
	f.UntilJournaled("orders")
	f.Stop()
	c.Source.Produce("orders", 2, 20, "second")
	c.Source.DeleteRecords("orders", 0, c.Source.EndOffsets("orders")[0]-3)

	f = c.Start(fewShards, replicatortest.FastJournal)
	anomaly := f.UntilHaltedBy("retention_gap", "orders", 0)
	clusters := clustersOf(c.Config(fewShards))
	var r fleet.Report
	replicatortest.Eventually(t, "the report shows the halted partition", func() (bool, string) {
		r = read(t, clusters)
		return find(t, r, "orders", 0).Halted != nil, ""
	})
	halt := find(t, r, "orders", 0).Halted
	if halt.Kind != anomaly.Kind || halt.Detail != anomaly.Detail || halt.Hint != anomaly.Hint || halt.From != anomaly.From || halt.To != anomaly.To {
		t.Errorf("%+v; the status has %+v", halt, anomaly)
	}
	if other := find(t, r, "orders", 1); other.Halted != nil {
		t.Errorf("the other partition: %+v", other.Halted)
	}
	if r.IsHealthy() {
		t.Error("a flow with a halted partition is healthy")
	}
	f.Stop()

	f = c.Start(fewShards, replicatortest.FastJournal, replicatortest.OnAnomaly("retention_gap", "skip"))
	f.UntilCopied("orders")
	f.UntilJournaled("orders")
	if p := find(t, read(t, clusters), "orders", 0); p.Halted != nil || p.LagRecords == nil || *p.LagRecords != 0 {
		t.Errorf("after the decision to skip: %+v", p)
	}
}

// What people paused is in the report, which is as healthy as without.
func TestReport_paused(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 2)
	c.Source.Produce("orders", 2, 20, "first")
	f := c.Start(fewShards, replicatortest.FastJournal)
	f.UntilCopied("orders")
	f.UntilJournaled("orders")
	id := c.Decide(control.Done, control.Pause, replicatortest.TP("orders", 1)).Decisions[0].ID
	r := read(t, clustersOf(c.Config(fewShards)))
	if len(r.InForce) != 1 || r.InForce[0].ID != id || find(t, r, "orders", 1).Paused != id || find(t, r, "orders", 0).Paused != "" {
		t.Errorf("%+v", r)
	}
	if strings.Contains(strings.Join(r.Problems, " "), "paused") {
		t.Errorf("%q", r.Problems)
	}
}

// Without the source, everything but its topics and the lag is known.
func TestReport_sourceDark(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 2)
	c.Source.CreateTopic("secret", 1)
	c.Source.Produce("orders", 2, 10, "first")
	f := c.Start(fewShards, replicatortest.FastJournal, replicatortest.OneInstance)
	f.UntilCopied("orders")
	f.UntilCopied("secret")
	f.UntilJournaled("orders")
	clusters := clustersOf(c.Config(fewShards, func(f *config.Flow) { f.TopicsExclude = append(f.TopicsExclude, "secret") }))
	c.Source.Close()

	r := read(t, clusters)
	if r.LagRecords != nil || r.LagUnknown != len(r.Partitions) || len(r.Problems) != 1 || r.IsHealthy() {
		t.Errorf("the lag is %v, unknown for %d; %v", r.LagRecords, r.LagUnknown, r.Problems)
	}
	if p := find(t, r, "orders", 1); !p.Listed || p.Journaled == nil || *p.Journaled != 10 || p.LagRecords != nil || p.SourceEnd != nil || p.TargetTopic != "a.orders" {
		t.Errorf("orders-1: %+v", p)
	}
	for _, p := range r.Partitions {
		if p.Topic == "secret" {
			t.Errorf("the config does not select %+v", p)
		}
	}
	if i := r.Instances; r.Mode != fleet.ModeOne || len(i) != 1 || len(i[0].Shards) != 8 || i[0].LagRecords != nil || i[0].LagUnknown != i[0].Partitions {
		t.Errorf("instances: %+v", r.Instances)
	}
}

// Without the target there is no report, and the error says what to check.
func TestReport_targetDown(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	clusters := clustersOf(c.Config(fewShards))
	c.Target.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := fleet.Read(ctx, clusters)
	if want := "connection refused (list topics"; err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "; check that the broker runs") {
		t.Errorf("got %v", err)
	}
}

// What a failover would lose is known without the source: nothing, while it was in step; and if it gets records that an instance still sees and the target
// refuses, how many these are, and since when.
func TestReport_rpo(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 2)
	c.Source.Produce("orders", 2, 30, "first")
	changes := []func(*config.Flow){fewShards, replicatortest.FastJournal, func(f *config.Flow) { f.Heartbeats = false }}
	clusters := clustersOf(c.Config(changes...))
	if before := read(t, clusters); before.RPO.Unknown != 2 || !before.RPO.CompleteUpTo.IsZero() {
		t.Errorf("before the flow ran: %+v", before.RPO)
	}
	f := c.Start(changes...)
	f.UntilCopied("orders")
	f.Until("the copy is complete", func(s replicator.Status) bool { return !s.RPO.CompleteUpTo.IsZero() && s.RPO.MissingRecords == 0 })

	c.Decide(control.Done, control.Pause, replicatortest.TP("orders", 1))
	paused := time.Now()
	c.Source.Produce("orders", 2, 30, "second")
	f.UntilAcked("orders", 90)
	f.Until("the source end of the paused partition is listed", func(s replicator.Status) bool { return s.RPO.MissingRecords == 30 })
	f.Stop()
	c.Source.Cut()
	r := read(t, clusters)
	if p := find(t, r, "orders", 1); r.RPO.MissingRecords != 30 || r.RPO.Unknown != 0 || p.MissingRecords == nil || *p.MissingRecords != 30 || p.SourceEnd != nil {
		t.Errorf("without its source: %+v, %+v", r.RPO, p)
	}
	if list := r.RPO.Topics; len(list) != 1 || list[0].Topic != "orders" || list[0].MissingRecords != 30 || len(list[0].Behind) != 1 || list[0].Behind[0].Partition != 1 {
		t.Errorf("by topic: %+v", list)
	}
	if at := r.RPO.CompleteUpTo; at.IsZero() || at.After(paused) || !r.RPO.SeenAt.After(paused) {
		t.Errorf("complete up to %v, and the partition was paused at %v; the source was seen at %v", at, paused, r.RPO.SeenAt)
	}

	c.Source.Restore()
	f = c.Start(changes...)
	f.UntilReady()
	f.Until("a new process knows it too", func(s replicator.Status) bool {
		return s.RPO.MissingRecords == 30 && s.RPO.CompleteUpTo.Equal(r.RPO.CompleteUpTo)
	})
	c.Decide(control.Done, control.Resume, replicatortest.TP("orders", 1))
	f.UntilCopied("orders")
	f.Until("the copy is complete again", func(s replicator.Status) bool { return s.RPO.MissingRecords == 0 && s.RPO.CompleteUpTo.After(paused) })
}

// A topic that is not selected any more stays complete up to when it left: whoever selects it again sees what it lacks since then, and so does a process
// that begins with it.
func TestReport_rpoOfATopicThatLeft(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.CreateTopic("stays", 1)
	c.Source.Produce("orders", 1, 30, "first")
	changes := []func(*config.Flow){func(f *config.Flow) { f.Shards = 1 }, replicatortest.FastJournal, func(f *config.Flow) { f.Heartbeats = false }}
	clusters := clustersOf(c.Config(changes...))
	f := c.Start(changes...)
	f.UntilCopied("orders")
	if err := f.Reconfigure(func(f *config.Flow) { f.Topics = []string{"stays"} }); err != nil {
		t.Fatal(err)
	}
	f.Until("the topic has left", func(s replicator.Status) bool { return len(replicatortest.Partitions(s, "orders")) == 0 })
	left := time.Now()
	c.Source.Produce("orders", 1, 30, "second")
	f.Until("the others are complete", func(s replicator.Status) bool { return s.RPO.CompleteUpTo.After(left.Add(time.Second)) })
	f.Stop()
	if r := read(t, clusters); r.RPO.MissingRecords != 30 || r.RPO.CompleteUpTo.IsZero() || r.RPO.CompleteUpTo.After(left) {
		t.Errorf("with its source: %+v, and the topic left at %v", r.RPO, left)
	}
	c.Source.Cut()
	if r := read(t, clusters); r.RPO.CompleteUpTo.IsZero() || r.RPO.CompleteUpTo.After(left) || r.RPO.SeenAt.After(left) {
		t.Errorf("without its source: %+v, and the topic left at %v", r.RPO, left)
	}
}
