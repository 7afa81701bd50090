package replicator_test

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/compare"
)

// MirrorMaker 2 copies well while milena looks on: nothing differs, and neither cluster has anything of milena's.
func TestComparisonOfTwinsFindsNothingAndWritesNothing(t *testing.T) {
	s := newShadowed(t)
	s.createBoth("orders", 3)
	s.createBoth("empty", 1)
	s.produce("orders", 3, 40, "early")
	for part := range int32(3) {
		s.mirror("orders", part, s.sourceRecords("orders", part))
	}
	r := s.compare(nil)
	r.equal(120)
	s.produce("orders", 3, 30, "late")
	r.until("MirrorMaker 2 lags", func(c *compare.Report) bool {
		behind := 0
		for _, p := range c.Partitions {
			if p.LagRecords == 30 && p.Milena == 70 && *p.Mirrored == 40 && *p.LagSeconds > 0 {
				behind++
			}
		}
		return behind == 3
	})
	for part := range int32(3) {
		s.mirror("orders", part, s.sourceRecords("orders", part)[40:])
	}
	before := []map[string]string{clusterState(t, s.sourceAdm), clusterState(t, s.targetAdm)}
	r.equal(210)
	end := r.end()
	differences(t, end)
	for _, p := range end.Partitions {
		if p.LagRecords != 0 || *p.LagSeconds != 0 {
			t.Errorf("%s-%d: a lag of %d records, %v s, though all is copied", p.Topic, p.Partition, p.LagRecords, *p.LagSeconds)
		}
	}
	for i, adm := range []*kadm.Client{s.sourceAdm, s.targetAdm} {
		if after := clusterState(t, adm); !maps.Equal(before[i], after) {
			t.Errorf("before %v, after %v", before[i], after)
		}
	}
}

// MirrorMaker 2 is restarted and copies a stretch again, leaves some records out, and somebody else writes into the copy.
func TestComparisonCountsPerPartition(t *testing.T) {
	s := newShadowed(t)
	s.createBoth("orders", 4)
	s.produce("orders", 4, 100, "early")
	list := make([][]*kgo.Record, 4)
	for part := range int32(4) {
		list[part] = s.sourceRecords("orders", part)
		s.mirror("orders", part, list[part][:50])
	}
	r := s.compare(nil)
	r.equal(200)
	s.mirror("orders", 0, list[0][30:]) // 20 again
	s.mirror("orders", 1, list[1][57:]) // 7 left out
	s.mirror("orders", 2, []*kgo.Record{{Value: []byte("somebody else's"), Timestamp: time.Now()}})
	s.mirror("orders", 2, list[2][50:])
	s.mirror("orders", 3, list[3][50:])
	r.equal(393)
	end := r.end()
	differences(t, end, "orders-0: 20 records twice on the target", "orders-1: 7 records before MirrorMaker 2's position not on the target",
		"orders-2: 1 record of a.orders-2 not on the source")
	for n, want := range []compare.ComparedRecords{{Equal: 100, Twice: 20}, {Equal: 93, NotOnTarget: 7}, {Equal: 100, NotOnSource: 1}, {Equal: 100}} {
		if got := end.Partitions[n].ComparedRecords; got != want {
			t.Errorf("orders-%d: %+v, want %+v", n, got, want)
		}
	}
	if worst := end.Worst(3); slices.ContainsFunc(worst, func(p compare.PartitionComparison) bool { return !p.Differs }) {
		t.Errorf("the worst are not those that differ: %+v", worst)
	}
}

// The comparison begins at the newest offset-sync, and at one more if that does not hold.
func TestComparisonBeginsAtTheNewestSync(t *testing.T) {
	for _, c := range []struct {
		name  string
		sync  offsets.OffsetSync
		all   bool
		equal int64
	}{
		{"that holds", offsets.OffsetSync{Topic: "orders", Source: 80, Target: 80}, false, 20},
		{"that does not hold", offsets.OffsetSync{Topic: "orders", Source: 80, Target: 77}, false, 100},
		{"unless all is asked for", offsets.OffsetSync{Topic: "orders", Source: 80, Target: 80}, true, 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newShadowed(t)
			s.createBoth("orders", 1)
			s.produce("orders", 1, 100, "early")
			s.mirror("orders", 0, s.sourceRecords("orders", 0))
			s.sync(c.sync)
			s.whole = c.all
			r := s.compare(nil)
			r.equal(c.equal)
			differences(t, r.end())
		})
	}
}

// A MirrorMaker 2 that had noted no position begins again before the place where the comparison began. What it copies again is on the source
// all the same.
func TestComparisonKnowsOldRecordsThatAreCopiedAgain(t *testing.T) {
	s := newShadowed(t)
	s.createBoth("orders", 1)
	for _, tag := range []string{"first", "second", "third"} { // batches with timestamps of their own
		s.produce("orders", 1, 30, tag)
	}
	s.transaction("orders", "committed", kgo.TryCommit, 5)
	records := s.sourceRecords("orders", 0)
	s.mirror("orders", 0, records)
	s.sync(offsets.OffsetSync{Topic: "orders", Source: 80, Target: 80})
	r := s.compare(nil)
	r.equal(15)
	s.mirror("orders", 0, records)
	s.mirror("orders", 0, []*kgo.Record{{Value: []byte("somebody else's"), Timestamp: records[0].Timestamp}})
	s.produce("orders", 1, 10, "late")
	s.mirror("orders", 0, s.sourceRecords("orders", 0)[len(records):])
	r.equal(25)
	end := r.end()
	differences(t, end, "orders-0: 95 records twice on the target", "orders-0: 1 record of a.orders-0 not on the source")
	if p := end.Partitions[0]; p.LagRecords != 0 || p.Milena != p.SourceEnd {
		t.Errorf("MirrorMaker 2 lags by %d, milena is at %d of %d", p.LagRecords, p.Milena, p.SourceEnd)
	}
}

// Where the copy has its brokers' timestamps, the records are told apart by the rest.
func TestComparisonOfACopyWithTheBrokersClock(t *testing.T) {
	s := newShadowed(t)
	s.createBoth("orders", 1)
	its := "LogAppendTime"
	if _, err := s.targetAdm.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "message.timestamp.type", Value: &its}}, "a.orders"); err != nil {
		t.Fatal(err)
	}
	s.produce("orders", 1, 30, "early")
	s.mirror("orders", 0, s.sourceRecords("orders", 0))
	r := s.compare(nil)
	r.equal(30)
	s.produce("orders", 1, 30, "late")
	s.mirror("orders", 0, s.sourceRecords("orders", 0)[30:])
	r.equal(60)
	differences(t, r.end(), "topic orders: milena would change a config of a.orders")
}

// An aborted transaction is copied by a MirrorMaker 2 that reads uncommitted, and left out by one that reads committed.
func TestComparisonTellsOfAbortedTransactions(t *testing.T) {
	for _, c := range []struct {
		name, isolation string
		copied          bool
		want            []string
	}{
		{"copied, and milena would not", "read_committed", true, []string{"orders-0: 10 records of aborted transactions on the target: milena would leave them out"}},
		{"copied by both", "read_uncommitted", true, nil},
		{"left out, and milena would not", "read_uncommitted", false, []string{"orders-0: 10 records of aborted transactions not on the target: milena would copy them"}},
		{"left out by both", "read_committed", false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newShadowed(t)
			s.createBoth("orders", 1)
			s.produce("orders", 1, 20, "early")
			s.mirror("orders", 0, s.sourceRecords("orders", 0))
			r := s.compare(func(o *client.Clusters) { o.Flow.Isolation = c.isolation })
			r.equal(20)
			s.transaction("orders", "aborted", kgo.TryAbort, 10)
			s.transaction("orders", "committed", kgo.TryCommit, 10)
			records := s.sourceRecords("orders", 0)[20:]
			if !c.copied {
				records = slices.DeleteFunc(records, func(r *kgo.Record) bool { return strings.HasPrefix(string(r.Value), "aborted") })
			}
			at := s.mirror("orders", 0, records)
			end := r.equal(20 + int64(len(at)))
			if p := end.Partitions[0]; p.LagRecords != 0 || p.Milena != p.SourceEnd {
				t.Errorf("MirrorMaker 2 lags by %d, milena is at %d of %d", p.LagRecords, p.Milena, p.SourceEnd)
			}
			differences(t, r.end(), c.want...)
		})
	}
}

// What MirrorMaker 2 has not made yet, or has made otherwise, is said; and what it makes meanwhile is compared.
func TestComparisonHoldsTopicsAgainstThePlan(t *testing.T) {
	s := newShadowed(t)
	s.createBoth("orders", 1)
	s.produce("orders", 1, 5, "early")
	s.mirror("orders", 0, s.sourceRecords("orders", 0))
	s.createTopic("absent", 2)
	s.createBoth("small", 1)
	if _, err := s.sourceAdm.UpdatePartitions(t.Context(), 2, "small"); err != nil {
		t.Fatal(err)
	}
	week := "604800001"
	if _, err := s.sourceAdm.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: &week}}, "orders"); err != nil {
		t.Fatal(err)
	}
	s.createBoth("secret", 1)
	s.position("secret", 3)
	exclude := func(o *client.Clusters) { o.Flow.TopicsExclude = []string{"secret"} }
	r := s.compare(exclude)
	r.equal(5)
	end := r.end()
	differences(t, end, "topic absent: MirrorMaker 2 has not made a.absent yet; milena would make it with 2 partitions",
		"topic orders: milena would change a config of a.orders: retention.ms", "topic small: a.small has fewer partitions than the 2 of the source",
		"topic secret: MirrorMaker 2 has copied it, milena would not: secret")

	later := s.compare(exclude)
	later.equal(5)
	if _, err := s.targetAdm.CreateTopic(t.Context(), 2, 1, nil, "a.absent"); err != nil {
		t.Fatal(err)
	}
	s.produce("absent", 2, 10, "now")
	for part := range int32(2) {
		s.mirror("absent", part, s.sourceRecords("absent", part))
	}
	later.equal(25)
	if end := later.end(); slices.ContainsFunc(end.Differences, func(d string) bool { return strings.Contains(d, "absent") }) {
		t.Errorf("differences: %q", end.Differences)
	}
}

// A checkpoint of MirrorMaker 2 stands beside the exact translation.
func TestComparisonHoldsCheckpointsAgainstThePairs(t *testing.T) {
	s := newShadowed(t)
	s.createBoth("orders", 1)
	s.produce("orders", 1, 50, "early")
	s.mirror("orders", 0, []*kgo.Record{{Value: []byte("before"), Timestamp: time.UnixMilli(1)}})
	s.mirror("orders", 0, s.sourceRecords("orders", 0))
	topic := offsets.Names{}.Checkpoints("a")
	if _, err := s.targetAdm.CreateTopic(t.Context(), 1, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	checkpoint := offsets.Checkpoint{Group: "billing", Topic: "a.orders", Source: 40, Target: 29}
	if err := s.targetCl.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Key: checkpoint.AppendKey(nil), Value: checkpoint.AppendValue(nil)}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	r := s.compare(nil)
	r.equal(50)
	want := compare.GroupComparison{Group: "billing", Topic: "orders", Committed: 40, Mirrored: 29, Exact: 41, ReadAgain: 12}
	if end := r.end(); len(end.Groups) != 1 || end.Groups[0] != want {
		t.Errorf("groups %+v, want %+v", end.Groups, want)
	}
}

// Who ends the comparison before it has seen anything isn't told that nothing differs, and neither is who compares with an empty copy.
func TestComparisonOfNothingIsNoProof(t *testing.T) {
	s := newShadowed(t)
	s.createBoth("orders", 1)
	s.produce("orders", 1, 10, "early")
	r := s.compare(nil)
	r.until("it has begun", func(c *compare.Report) bool { return len(c.Partitions) == 1 })
	differences(t, r.end(), "no record of the source was found on the target: is MirrorMaker 2 running")

	c, err := compare.New(client.Clusters{
		Flow: config.DefaultFlow("a", "b"), Source: config.Cluster{Brokers: s.source.ListenAddrs()}, Target: config.Cluster{Brokers: s.target.ListenAddrs()},
		Log: slog.New(slog.DiscardHandler),
	}, false)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Run(ctx); err == nil || !strings.Contains(err.Error(), "nothing was compared") {
		t.Errorf("the comparison ended with: %v", err)
	}
}
