package fleet

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/membership"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// groupTest has a flow that copied topic orders of 8 partitions, with 10 records each, and stopped. Each shard has one partition.
type groupTest struct {
	*testing.T
	*replicatortest.Clusters
	clusters client.Clusters
}

func newGroupTest(t *testing.T) *groupTest {
	t.Helper()
	test := &groupTest{T: t, Clusters: replicatortest.NewClusters(t, 1)}
	change := func(f *config.Flow) { f.Shards, f.Heartbeats = 8, false }
	c := test.Config(change)
	test.clusters = client.Clusters{Flow: c.Flows[0], Source: c.Clusters["a"], Target: c.Clusters["b"], Log: slog.New(slog.DiscardHandler)}
	test.Source.CreateTopic("orders", 8)
	test.Source.Produce("orders", 8, 10, "first")
	f := test.Start(change)
	f.UntilCopied("orders")
	f.Stop()
	return test
}

func (test *groupTest) read(describe describer) Report {
	test.Helper()
	r, err := read(test.Context(), test.clusters, describe)
	if err != nil {
		test.Fatal(err)
	}
	return r
}

// join adds a member to the flow's group.
func (test *groupTest) join(instance string) {
	test.Helper()
	cl, err := kgo.NewClient(
		kgo.SeedBrokers(test.Target.ListenAddrs()...), kgo.ConsumerGroup(membership.GroupName("a-b")), kgo.InstanceID(instance),
		kgo.ConsumeTopics(offsets.JournalTopic("a-b")), kgo.DisableAutoCommit(), kgo.HeartbeatInterval(20*time.Millisecond),
	)
	if err != nil {
		test.Fatal(err)
	}
	test.Cleanup(cl.Close)
}

// The members of the group are the instances. The journal adds when they started.
func TestReport_group(t *testing.T) {
	t.Parallel()
	test := newGroupTest(t)
	test.Source.Produce("orders", 8, 1, "second")
	since := time.UnixMilli(1000).UTC()
	owner := &offsets.Owner{Instance: "one", Host: "host-1", Version: "v1", Since: since, Confirmed: since.Add(time.Hour)}
	test.Target.Write(&kgo.Record{Topic: offsets.JournalTopic("a-b"), Partition: 3, Key: owner.AppendKey(nil), Value: owner.AppendValue(nil)})
	test.join("one")
	test.join("two")
	var r Report
	replicatortest.Eventually(t, "both have their shards", func() (bool, string) {
		r = test.read(describe)
		return r.Mode == ModeGroup && len(r.Instances) == 2 && len(r.Instances[0].Shards) == 4 && len(r.Instances[1].Shards) == 4, ""
	})
	if !r.IsHealthy() || r.LagRecords == nil || *r.LagRecords != 8 {
		t.Errorf("%+v", r)
	}
	one, two := r.Instances[0], r.Instances[1]
	if one.ID != "one" || one.Host != "host-1" || !one.Since.Equal(since) || !one.Confirmed.Equal(since.Add(time.Hour)) {
		t.Errorf("%+v", one)
	}
	if two.ID != "two" || !strings.HasPrefix(two.Host, "127.0.0.1") || !two.Since.IsZero() || two.Partitions != 4 || two.LagRecords == nil || *two.LagRecords != 4 {
		t.Errorf("%+v", two)
	}
	for _, p := range r.Partitions {
		want := "one"
		if slices.Contains(two.Shards, p.Shard) {
			want = "two"
		}
		if p.Instance != want {
			t.Errorf("%s-%d of shard %d belongs to %q", p.Topic, p.Partition, p.Shard, p.Instance)
		}
	}
}

// Shards that no member has are without an owner. If the group cannot be described, or while it rebalances, that is not known.
func TestReport_ownersUnknown(t *testing.T) {
	t.Parallel()
	test := newGroupTest(t)
	some := membership.Group{State: "Stable", Instances: []membership.Instance{{ID: "one", Shards: []int32{0, 1, 2, 3, 4, 9}}, {ID: "two", Shards: []int32{6}}, {ID: "three"}}}
	r := test.read(func(context.Context, *kgo.Client, string) (membership.Group, error) { return some, nil })
	if r.Mode != ModeGroup || !slices.Equal(r.ShardsWithoutOwner, []int32{5, 7}) || r.IsHealthy() || r.Instances[0].Partitions != 5 {
		t.Errorf("two shards without an owner: %+v", r)
	}
	if three := r.Instances[2]; three.Shards == nil || three.LagRecords == nil || *three.LagRecords != 0 {
		t.Errorf("an instance without shards has no lag: %+v", three)
	}

	r = test.read(func(context.Context, *kgo.Client, string) (membership.Group, error) {
		return membership.Group{}, errors.New("refused")
	})
	if r.Mode != ModeUnknown || r.ShardsWithoutOwner != nil || r.IsHealthy() || !strings.Contains(strings.Join(r.Problems, "\n"), "which instances run: cluster b") {
		t.Errorf("a group that cannot be described: %+v", r)
	}

	rebalancing := membership.Group{State: "PreparingRebalance", Instances: []membership.Instance{{ID: "one"}}}
	r = test.read(func(context.Context, *kgo.Client, string) (membership.Group, error) { return rebalancing, nil })
	if r.Mode != ModeGroup || len(r.Instances) != 1 || r.Instances[0].Shards != nil || r.Instances[0].LagRecords != nil || r.ShardsWithoutOwner != nil || r.IsHealthy() {
		t.Errorf("a group that rebalances: %+v", r)
	}
	asked := 0
	r = test.read(func(context.Context, *kgo.Client, string) (membership.Group, error) {
		if asked++; asked == 1 {
			return rebalancing, nil
		}
		return some, nil
	})
	if asked != 2 || len(r.ShardsWithoutOwner) != 2 || len(r.Problems) != 0 {
		t.Errorf("asked %d times: %+v", asked, r)
	}
}

// A journal partition that a newer milena wrote costs the knowledge of that shard only. A partition whose state was deleted is not listed.
func TestReport_unreadableShard(t *testing.T) {
	t.Parallel()
	test := newGroupTest(t)
	state := &offsets.PartitionState{Topic: "orders"}
	shard := offsets.ShardOf("orders", 0, 8)
	test.Target.Write(&kgo.Record{Topic: offsets.JournalTopic("a-b"), Partition: shard, Key: state.AppendKey(nil), Value: []byte{0, 9}})
	deleted := &offsets.Tombstone{Kind: offsets.KindPartition, Topic: "orders", Partition: 1}
	test.Target.Write(&kgo.Record{Topic: offsets.JournalTopic("a-b"), Partition: offsets.ShardOf("orders", 1, 8), Key: deleted.AppendKey(nil)})
	r := test.read(describe)
	if len(r.Problems) != 1 || r.LagUnknown != 2 || r.LagRecords == nil || *r.LagRecords != 0 || r.IsHealthy() {
		t.Errorf("%+v", r)
	}
	if p := r.Partitions[0]; p.Listed || p.Journaled != nil || p.LagRecords != nil || !strings.HasPrefix(p.Why, "not known: the journal of shard ") {
		t.Errorf("%+v", p)
	}
	if p := r.Partitions[1]; p.Listed || p.LagRecords != nil || p.Why != "not begun: the journal does not list it yet" {
		t.Errorf("%+v", p)
	}
}

// A topic that was deleted and created again has nothing to do with what the journal says of the first one.
func TestReport_recreatedSource(t *testing.T) {
	t.Parallel()
	test := newGroupTest(t)
	test.Source.RecreateTopic("orders", 8)
	r := test.read(describe)
	if p := r.Partitions[0]; !p.Listed || p.LagRecords != nil || !strings.Contains(p.Why, "an earlier topic of that name") || r.LagUnknown != 8 {
		t.Errorf("%+v", p)
	}
}

// The newest entry of the ledger says whether a partition is halted, if its copy has not passed it.
func TestHaltOf(t *testing.T) {
	t.Parallel()
	gap := func(kind policy.Kind, action policy.Action, from, to int64) offsets.Gap {
		return offsets.Gap{Kind: string(kind), Action: string(action), From: from, To: to}
	}
	for name, test := range map[string]struct {
		end    int64
		gaps   []offsets.Gap
		halted bool
	}{
		"no gap":                            {10, nil, false},
		"before the records":                {10, []offsets.Gap{gap(policy.RecordTooLarge, policy.Halt, 10, 11)}, true},
		"behind the records":                {11, []offsets.Gap{gap(policy.RecordTooLarge, policy.Halt, 10, 11)}, false},
		"no records":                        {10, []offsets.Gap{gap(policy.ForeignWrite, policy.Halt, 10, 10)}, true},
		"no records, and copied since":      {12, []offsets.Gap{gap(policy.ForeignWrite, policy.Halt, 10, 10)}, false},
		"records that were copied before":   {10, []offsets.Gap{gap(policy.Truncated, policy.Halt, 7, 10)}, true},
		"copied before, and more since":     {11, []offsets.Gap{gap(policy.Truncated, policy.Halt, 7, 10)}, false},
		"skipped later":                     {10, []offsets.Gap{gap(policy.ForeignWrite, policy.Halt, 10, 10), gap(policy.ForeignWrite, policy.Skip, 10, 10)}, false},
		"skipped earlier":                   {10, []offsets.Gap{gap(policy.ForeignWrite, policy.Skip, 10, 10), gap(policy.RecordTooLarge, policy.Halt, 10, 11)}, true},
		"offsets that are not known":        {10, []offsets.Gap{gap(policy.Unmatched, policy.Halt, -1, -1)}, true},
		"merged gaps with different action": {10, []offsets.Gap{gap(policy.ForeignWrite, offsets.MixedGaps, 10, 10)}, false},
	} {
		halt := haltOf(&offsets.PartitionState{End: offsets.Pair{Source: test.end}, Gaps: test.gaps})
		if (halt != nil) != test.halted {
			t.Errorf("%s: %+v", name, halt)
		}
	}
}

// Records of an open transaction cannot be read yet, so they are no lag. With read_uncommitted they are.
func TestReport_openTransaction(t *testing.T) {
	t.Parallel()
	test := newGroupTest(t)
	tx := test.Source.Transactions("tx")
	tx.Begin()
	tx.Write(&kgo.Record{Topic: "orders", Partition: 2}, &kgo.Record{Topic: "orders", Partition: 2})
	if r := test.read(describe); *r.LagRecords != 0 || *r.Partitions[2].SourceEnd != 10 {
		t.Errorf("read committed: lag %d, end %d", *r.LagRecords, *r.Partitions[2].SourceEnd)
	}
	test.clusters.Flow.Isolation = config.ReadUncommitted
	if r := test.read(describe); *r.LagRecords != 2 || *r.Partitions[2].SourceEnd != 12 {
		t.Errorf("read uncommitted: lag %d, end %d", *r.LagRecords, *r.Partitions[2].SourceEnd)
	}
	tx.End(kgo.TryAbort)
}
