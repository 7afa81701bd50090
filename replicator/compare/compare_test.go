package compare_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/compare"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// MirrorMaker 2 copies correctly while milena compares: nothing differs, and milena writes nothing to either cluster.
func TestCompareOfACorrectCopyFindsNothingAndWritesNothing(t *testing.T) {
	t.Parallel()
	s := newComparedClusters(t)
	s.mm.CreateTopic("orders", 3)
	s.mm.CreateTopic("empty", 1)
	s.Source.Produce("orders", 3, 40, "early")
	for part := range int32(3) {
		s.mm.Copy("orders", part, s.sourceRecords("orders", part))
	}
	r := s.compare(t, nil)
	r.untilEqual(120)
	s.Source.Produce("orders", 3, 30, "late")
	r.Until("MirrorMaker 2 lags", func(c *compare.Report) bool {
		behind := 0
		for _, p := range c.Partitions {
			if p.LagRecords == 30 && p.Milena == 70 && *p.Mirrored == 40 && *p.LagSeconds > 0 {
				behind++
			}
		}
		return behind == 3
	})
	for part := range int32(3) {
		s.mm.Copy("orders", part, s.sourceRecords("orders", part)[40:])
	}
	before := []map[string]string{s.Source.State(), s.Target.State()}
	r.untilEqual(210)
	end := r.end()
	differences(t, end)
	for _, p := range end.Partitions {
		if p.LagRecords != 0 || *p.LagSeconds != 0 {
			t.Errorf("%s-%d: a lag of %d records, %v s, though all is copied", p.Topic, p.Partition, p.LagRecords, *p.LagSeconds)
		}
	}
	for i, cluster := range []*replicatortest.Cluster{s.Source, s.Target} {
		if after := cluster.State(); !maps.Equal(before[i], after) {
			t.Errorf("before %v, after %v", before[i], after)
		}
	}
}

// MirrorMaker 2 restarts and duplicates some records, leaves out others, and another producer writes into the copy.
func TestCompareCountsPerPartition(t *testing.T) {
	t.Parallel()
	s := newComparedClusters(t)
	s.mm.CreateTopic("orders", 4)
	s.Source.Produce("orders", 4, 100, "early")
	list := make([][]*kgo.Record, 4)
	for part := range int32(4) {
		list[part] = s.sourceRecords("orders", part)
		s.mm.Copy("orders", part, list[part][:50])
	}
	r := s.compare(t, nil)
	r.untilEqual(200)
	s.mm.Copy("orders", 0, list[0][30:]) // 20 again
	s.mm.Copy("orders", 1, list[1][57:]) // 7 left out
	s.mm.Copy("orders", 2, []*kgo.Record{{Value: []byte("foreign"), Timestamp: time.Now()}})
	s.mm.Copy("orders", 2, list[2][50:])
	s.mm.Copy("orders", 3, list[3][50:])
	r.untilEqual(393)
	end := r.end()
	differences(t, end, "orders-0: 20 records duplicated on the target", "orders-1: 7 records before MirrorMaker 2's offset not on the target",
		"orders-2: 1 record of a.orders-2 not on the source")
	for n, want := range []compare.Counts{{Equal: 100, Duplicates: 20}, {Equal: 93, NotOnTarget: 7}, {Equal: 100, NotOnSource: 1}, {Equal: 100}} {
		if got := end.Partitions[n].Counts; got != want {
			t.Errorf("orders-%d: %+v, want %+v", n, got, want)
		}
	}
	if worst := end.Worst(3); slices.ContainsFunc(worst, func(p compare.Partition) bool { return !p.Differs }) {
		t.Errorf("the worst are not those that differ: %+v", worst)
	}
}

// The comparison begins at the newest offset-sync that is right.
func TestCompareBeginsAtTheNewestSync(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		sync  offsets.OffsetSync
		all   bool
		equal int64
	}{
		{"that is right", offsets.OffsetSync{Topic: "orders", Source: 80, Target: 80}, false, 20},
		{"that is wrong", offsets.OffsetSync{Topic: "orders", Source: 80, Target: 77}, false, 100},
		{"unless all records are compared", offsets.OffsetSync{Topic: "orders", Source: 80, Target: 80}, true, 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newComparedClusters(t)
			s.mm.CreateTopic("orders", 1)
			s.Source.Produce("orders", 1, 100, "early")
			s.mm.Copy("orders", 0, s.sourceRecords("orders", 0))
			s.mm.SyncOffsets(c.sync)
			s.whole = c.all
			r := s.compare(t, nil)
			r.untilEqual(c.equal)
			differences(t, r.end())
		})
	}
}

// A MirrorMaker 2 without connector offsets starts again before the place where the comparison began. What it copies again is found on the
// source and counted as duplicates.
func TestCompareFindsDuplicatesOfEarlierRecords(t *testing.T) {
	t.Parallel()
	s := newComparedClusters(t)
	s.mm.CreateTopic("orders", 1)
	for _, tag := range []string{"first", "second", "third"} { // batches with timestamps of their own
		s.Source.Produce("orders", 1, 30, tag)
	}
	s.transaction("orders", "committed", kgo.TryCommit, 5)
	records := s.sourceRecords("orders", 0)
	s.mm.Copy("orders", 0, records)
	s.mm.SyncOffsets(offsets.OffsetSync{Topic: "orders", Source: 80, Target: 80})
	r := s.compare(t, nil)
	r.untilEqual(15)
	s.mm.Copy("orders", 0, records)
	s.mm.Copy("orders", 0, []*kgo.Record{{Value: []byte("foreign"), Timestamp: records[0].Timestamp}})
	s.Source.Produce("orders", 1, 10, "late")
	s.mm.Copy("orders", 0, s.sourceRecords("orders", 0)[len(records):])
	r.untilEqual(25)
	end := r.end()
	differences(t, end, "orders-0: 95 records duplicated on the target", "orders-0: 1 record of a.orders-0 not on the source")
	if p := end.Partitions[0]; p.LagRecords != 0 || p.Milena != p.SourceEnd {
		t.Errorf("MirrorMaker 2 lags by %d, milena is at %d of %d", p.LagRecords, p.Milena, p.SourceEnd)
	}
}

// Where the target's brokers set the timestamps, records are matched by everything else.
func TestCompareOfACopyWithBrokerTimestamps(t *testing.T) {
	t.Parallel()
	s := newComparedClusters(t)
	s.mm.CreateTopic("orders", 1)
	s.Target.SetTopicConfig("a.orders", "message.timestamp.type", "LogAppendTime")
	s.Source.Produce("orders", 1, 30, "early")
	s.mm.Copy("orders", 0, s.sourceRecords("orders", 0))
	r := s.compare(t, func(o *client.Clusters) {
		o.Flow.ConfigsExclude = nil // which excludes the timestamp type by default; here it is reported
	})
	r.untilEqual(30)
	s.Source.Produce("orders", 1, 30, "late")
	s.mm.Copy("orders", 0, s.sourceRecords("orders", 0)[30:])
	r.untilEqual(60)
	differences(t, r.end(), "topic orders: milena would change a config of a.orders")
}

// An aborted transaction is copied by a MirrorMaker 2 that reads uncommitted, and left out by one that reads committed.
func TestCompareReportsAbortedTransactions(t *testing.T) {
	t.Parallel()
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
			t.Parallel()
			s := newComparedClusters(t)
			s.mm.CreateTopic("orders", 1)
			s.Source.Produce("orders", 1, 20, "early")
			s.mm.Copy("orders", 0, s.sourceRecords("orders", 0))
			r := s.compare(t, func(o *client.Clusters) { o.Flow.Isolation = c.isolation })
			r.untilEqual(20)
			s.transaction("orders", "aborted", kgo.TryAbort, 10)
			s.transaction("orders", "committed", kgo.TryCommit, 10)
			records := s.sourceRecords("orders", 0)[20:]
			if !c.copied {
				records = slices.DeleteFunc(records, func(r *kgo.Record) bool { return strings.HasPrefix(string(r.Value), "aborted") })
			}
			at := s.mm.Copy("orders", 0, records)
			end := r.untilEqual(20 + int64(len(at)))
			if p := end.Partitions[0]; p.LagRecords != 0 || p.Milena != p.SourceEnd {
				t.Errorf("MirrorMaker 2 lags by %d, milena is at %d of %d", p.LagRecords, p.Milena, p.SourceEnd)
			}
			differences(t, r.end(), c.want...)
		})
	}
}

// Topics that MirrorMaker 2 has not created yet, or created differently, are reported; those it creates meanwhile are compared.
func TestCompareReportsTopicsThatDifferFromThePlan(t *testing.T) {
	t.Parallel()
	s := newComparedClusters(t)
	s.mm.CreateTopic("orders", 1)
	s.Source.Produce("orders", 1, 5, "early")
	s.mm.Copy("orders", 0, s.sourceRecords("orders", 0))
	s.Source.CreateTopic("absent", 2)
	s.mm.CreateTopic("small", 1)
	s.Source.AddPartitions("small", 2)
	s.Source.SetTopicConfig("orders", "retention.ms", "604800001")
	s.mm.CreateTopic("secret", 1)
	s.mm.CommitConnectorOffset("secret", 3)
	exclude := func(o *client.Clusters) { o.Flow.TopicsExclude = []string{"secret"} }
	r := s.compare(t, exclude)
	r.untilEqual(5)
	end := r.end()
	differences(t, end, "topic absent: MirrorMaker 2 has not created a.absent yet; milena would create it with 2 partitions",
		"topic orders: milena would change a config of a.orders: retention.ms", "topic small: a.small has fewer partitions than the 2 of the source",
		"topic secret: MirrorMaker 2 has copied it, milena would not: secret")

	later := s.compare(t, exclude)
	later.untilEqual(5)
	s.Target.CreateTopic("a.absent", 2)
	s.Source.Produce("absent", 2, 10, "now")
	for part := range int32(2) {
		s.mm.Copy("absent", part, s.sourceRecords("absent", part))
	}
	later.untilEqual(25)
	if end := later.end(); slices.ContainsFunc(end.Differences, func(d string) bool { return strings.Contains(d, "absent") }) {
		t.Errorf("differences: %q", end.Differences)
	}
}

// A checkpoint of MirrorMaker 2 is compared with the exact translation.
func TestCompareReportsCheckpointsThatAreBehind(t *testing.T) {
	t.Parallel()
	s := newComparedClusters(t)
	s.mm.CreateTopic("orders", 1)
	s.Source.Produce("orders", 1, 50, "early")
	s.mm.Copy("orders", 0, []*kgo.Record{{Value: []byte("before"), Timestamp: time.UnixMilli(1)}})
	s.mm.Copy("orders", 0, s.sourceRecords("orders", 0))
	s.mm.WriteCheckpoint(offsets.Checkpoint{Group: "billing", Topic: "a.orders", Source: 40, Target: 29})
	r := s.compare(t, nil)
	r.untilEqual(50)
	want := compare.Group{Group: "billing", Topic: "orders", Committed: 40, Mirrored: 29, Exact: 41, Reread: 12}
	if end := r.end(); len(end.Groups) != 1 || end.Groups[0] != want {
		t.Errorf("groups %+v, want %+v", end.Groups, want)
	}
}

// A comparison that matched no record reports that, and so does one that ended before it compared anything.
func TestCompareReportsThatNothingMatched(t *testing.T) {
	t.Parallel()
	s := newComparedClusters(t)
	s.mm.CreateTopic("orders", 1)
	s.Source.Produce("orders", 1, 10, "early")
	r := s.compare(t, nil)
	r.Until("it has begun", func(c *compare.Report) bool { return len(c.Partitions) == 1 })
	differences(t, r.end(), "no record of the source was found on the target: is MirrorMaker 2 running")

	c := s.comparer(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Run(ctx); err == nil || !strings.Contains(err.Error(), "nothing was compared") {
		t.Errorf("the comparison ended with: %v", err)
	}
}

// comparedClusters are two clusters between which a MirrorMaker 2 copies, and milena may only read.
type comparedClusters struct {
	*replicatortest.Clusters
	mm    *replicatortest.MirrorMaker
	whole bool // compare each copy from its beginning
}

func newComparedClusters(t *testing.T) *comparedClusters {
	t.Helper()
	c := replicatortest.NewClusters(t, 2)
	c.RequireReadOnly("milena")
	return &comparedClusters{c, c.MirrorMaker(), false}
}

// sourceRecords are all records of a partition of the source, those of aborted transactions too.
func (s *comparedClusters) sourceRecords(topic string, partition int32) []*kgo.Record {
	return s.Source.UncommittedRecords(topic, partition+1)[partition]
}

// transaction writes n records to the source in one transaction and ends it.
func (s *comparedClusters) transaction(topic, tag string, how kgo.TransactionEndTry, n int) {
	var records []*kgo.Record
	for i := range n {
		records = append(records, &kgo.Record{Value: fmt.Appendf(nil, "%s-%d", tag, i)})
	}
	s.Source.Transactions(tag).WriteCopies(topic, records, how)
}

// comparison is a running comparison.
type comparison struct {
	*replicatortest.Running[*compare.Report]
}

// compare starts a comparison.
func (s *comparedClusters) compare(t *testing.T, change func(*client.Clusters)) *comparison {
	t.Helper()
	c := s.comparer(t, change)
	return &comparison{replicatortest.Run(t, c.Run, c.Report)}
}

func (s *comparedClusters) comparer(t *testing.T, change func(*client.Clusters)) *compare.Comparison {
	t.Helper()
	parsed := s.Config()
	flow := parsed.Flows[0]
	o := client.Clusters{
		Flow: flow, Source: parsed.Clusters[flow.Source], Target: parsed.Clusters[flow.Target],
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	if change != nil {
		change(&o)
	}
	c, err := compare.New(o, s.whole)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// untilEqual waits until that many records are equal.
func (c *comparison) untilEqual(records int64) *compare.Report {
	return c.Until(fmt.Sprintf("%d records are equal", records), func(s *compare.Report) bool { return s.Records.Equal == records })
}

// end stops the comparison and returns its result.
func (c *comparison) end() *compare.Report {
	c.Stop()
	return c.Status()
}

// differences fails unless the report has exactly these differences, each given by a part of its sentence, in this order.
func differences(t *testing.T, s *compare.Report, parts ...string) {
	t.Helper()
	ok := len(s.Differences) == len(parts)
	for i := range min(len(parts), len(s.Differences)) {
		ok = ok && strings.Contains(s.Differences[i], parts[i])
	}
	if !ok {
		t.Errorf("differences:\n%s\nwant:\n%s", strings.Join(s.Differences, "\n"), strings.Join(parts, "\n"))
	}
}
