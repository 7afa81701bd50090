package replicator_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// mirror is a MirrorMaker 2 that copies partition 0 of topic orders.
type mirror struct {
	*replicatortest.MirrorMaker
	c       *replicatortest.Clusters
	noSyncs bool          // it writes no offset-syncs
	records []*kgo.Record // of the source, as they were when it began
	texts   []string      // likewise
}

// newMirror starts two clusters with n records in topic orders, and a MirrorMaker 2 that has copied nothing yet.
func newMirror(t *testing.T, n int) (*replicatortest.Clusters, *mirror) {
	t.Helper()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, n, "old")
	return c, mirrorOf(c)
}

// mirrorOf is a MirrorMaker 2 that has created topic a.orders and copied nothing yet.
func mirrorOf(c *replicatortest.Clusters) *mirror {
	m := &mirror{MirrorMaker: c.MirrorMaker(), c: c, records: c.Source.Records("orders", 1)[0], texts: c.Source.Texts("orders", 1)[0]}
	m.CreateInternalTopics()
	c.Target.CreateTopic("a.orders", 1)
	return m
}

// copy copies source records [from, to) by their index in the log, and writes an offset-sync for the first of them.
func (m *mirror) copy(from, to int) {
	at := m.Copy("orders", 0, m.records[from:to])
	if !m.noSyncs {
		m.SyncOffsets(offsets.OffsetSync{Topic: "orders", Source: m.records[from].Offset, Target: at[0]})
	}
}

// commit writes the connector offset: the source offset of the last record that was acknowledged.
func (m *mirror) commit(last int64) { m.CommitConnectorOffset("orders", last) }

// writeForeign writes three records of another producer into the copy.
func (m *mirror) writeForeign() { m.c.Target.Produce("a.orders", 1, 3, "foreign") }

// Whatever connector offsets and offset-syncs MirrorMaker 2 left, the flow continues where its copy ends.
func TestMigrationContinuesTheCopyOfMirrorMaker(t *testing.T) {
	for _, tt := range []struct {
		name string
		left func(*mirror) // what it did with the 100 records of orders-0
		// want are the ranges of source records on the target at the end.
		want [][2]int
	}{
		{"stopped cleanly", func(m *mirror) { m.copy(0, 60); m.commit(59) }, [][2]int{{0, 100}}},
		{"killed, the connector offset is behind", func(m *mirror) { m.copy(0, 60); m.commit(20) }, [][2]int{{0, 100}}},
		{"killed before its first commit", func(m *mirror) { m.copy(0, 60) }, [][2]int{{0, 100}}},
		{"no syncs either", func(m *mirror) { m.noSyncs = true; m.copy(0, 60) }, [][2]int{{0, 100}}},
		{"it had copied everything", func(m *mirror) { m.copy(0, 100); m.commit(99) }, [][2]int{{0, 100}}},
		{"nothing was copied", func(*mirror) {}, [][2]int{{0, 100}}},
		{"killed twice, with duplicates in the copy", func(m *mirror) {
			m.copy(0, 60)
			m.commit(29)
			m.copy(30, 45)
		}, [][2]int{{0, 60}, {30, 45}, {60, 100}}},
		{"the same without syncs", func(m *mirror) {
			m.noSyncs = true
			m.copy(0, 60)
			m.commit(29)
			m.copy(30, 45)
		}, [][2]int{{0, 60}, {30, 45}, {60, 100}}},
		{"the copy's retention deleted what is old", func(m *mirror) {
			m.copy(0, 60)
			m.commit(40)
			m.c.Target.DeleteRecords("a.orders", 0, 50)
		}, [][2]int{{50, 100}}},
		{"the copy's retention deleted everything", func(m *mirror) {
			m.copy(0, 60)
			m.commit(59)
			m.c.Target.DeleteRecords("a.orders", 0, 60)
		}, [][2]int{{60, 100}}},
		{"the source's retention deleted what is old", func(m *mirror) {
			m.copy(0, 60)
			m.commit(40)
			m.c.Source.DeleteRecords("orders", 0, 50)
		}, [][2]int{{0, 100}}},
		{"both did, up to where it stopped", func(m *mirror) {
			m.noSyncs = true
			m.copy(0, 60)
			m.commit(59)
			m.c.Source.DeleteRecords("orders", 0, 60)
		}, [][2]int{{0, 100}}},
	} {
		for _, rebuild := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, rebuild %v", tt.name, rebuild), func(t *testing.T) {
				t.Parallel()
				c, m := newMirror(t, 100)
				tt.left(m)
				c.RebuildMap = rebuild
				flow := c.Start(replicatortest.MigrateFromMirrorMaker)
				flow.UntilCopied("orders")
				var want []string
				for _, part := range tt.want {
					want = append(want, m.texts[part[0]:part[1]]...)
				}
				replicatortest.MustEqual(t, "the copy", want, c.Target.Texts("a.orders", 1)[0])
				c.Source.Produce("orders", 1, 10, "new")
				flow.UntilCopied("orders")
				flow.Stop()
				flow = c.Start(replicatortest.MigrateFromMirrorMaker) // from the journal
				c.Source.Produce("orders", 1, 10, "newer")
				flow.UntilCopied("orders")
				if got := c.Target.Texts("a.orders", 1)[0]; len(got) != len(want)+20 {
					t.Errorf("%d records on the target, want %d", len(got), len(want)+20)
				}
			})
		}
	}
}

// What contradicts MirrorMaker 2's connector offsets halts the partition, with an explanation, and nothing is written.
func TestMigrationHaltsOnContradictions(t *testing.T) {
	for _, tt := range []struct {
		name, kind, says string
		left             func(*mirror)
	}{
		{"the target topic was recreated", "target_recreated", "copied orders-0 up to source offset 60, but target topic a.orders has no records", func(m *mirror) { m.commit(59) }},
		{"the source topic was recreated", "recreated", "stopped at source offset 501, but source orders-0 ends at 100", func(m *mirror) {
			m.commit(500)
			m.writeForeign()
		}},
		{"foreign records", "target_not_empty", "none of which is among the", func(m *mirror) {
			m.commit(59)
			m.writeForeign()
		}},
		{"foreign records, and no connector offset", "target_not_empty", "none of which is among the", func(m *mirror) { m.writeForeign() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, m := newMirror(t, 100)
			tt.left(m)
			before := c.Target.Texts("a.orders", 1)[0]
			flow := c.Start(replicatortest.MigrateFromMirrorMaker)
			a := flow.UntilHaltedBy(tt.kind, "orders", 0)
			if !strings.Contains(a.Detail, tt.says) {
				t.Errorf("it says %q, want %q", a.Detail, tt.says)
			}
			replicatortest.MustEqual(t, "the copy", before, c.Target.Texts("a.orders", 1)[0])
		})
	}
}

// Where the target's brokers set the timestamps, records are matched by everything else. These records differ only in their order.
func TestMigrationOfACopyWithLogAppendTime(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 300 {
		r := &kgo.Record{Topic: "orders", Value: fmt.Appendf(nil, "state %d", random.IntN(3)), Timestamp: time.UnixMilli(1_700_000_000_000 + int64(i))}
		c.Source.Write(r)
	}
	m := mirrorOf(c)
	c.Target.SetTopicConfig("a.orders", "message.timestamp.type", "LogAppendTime")
	m.copy(0, 120)
	m.commit(80)
	m.copy(81, 200)
	flow := c.Start(replicatortest.MigrateFromMirrorMaker)
	flow.UntilCopied("orders")
	got, want := c.Target.Records("a.orders", 1)[0], append(append(m.records[:120:120], m.records[81:200]...), m.records[200:]...)
	if len(got) != len(want) {
		t.Fatalf("%d records on the target, want %d", len(got), len(want))
	}
	for i := range got {
		if string(got[i].Value) != string(want[i].Value) {
			t.Fatalf("record %d is %q, want %q", i, got[i].Value, want[i].Value)
		}
	}
}

// A MirrorMaker 2 in exactly-once mode leaves markers and aborted records on the target. They are matched with no record of the source, even
// where all records are equal.
func TestMigrationOfACopyInTransactions(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	for range 100 {
		r := &kgo.Record{Topic: "orders", Value: []byte("tick"), Timestamp: time.UnixMilli(1_700_000_000_000)}
		c.Source.Write(r)
	}
	m := mirrorOf(c)
	m.copyInTransactions(0, 60, 10)
	flow := c.Start(replicatortest.MigrateFromMirrorMaker)
	flow.UntilCopied("orders")
	if n := len(c.Target.Records("a.orders", 1)[0]); n != 100 {
		t.Errorf("%d committed records on the target, want 100", n)
	}
}

// Topics that are deleted while their copies are matched do not hold up the migration of others.
func TestDeletedTopicsHoldUpNoMigration(t *testing.T) {
	t.Parallel()
	c, m := newMirror(t, 10)
	m.copy(0, 5)
	var gone []string
	var fetched []*kfake.FaultHandle
	for i := range 4 { // as many as are matched at a time
		name := fmt.Sprintf("gone-%d", i)
		gone = append(gone, name)
		c.Source.CreateTopic(name, 1)
		c.Source.Produce(name, 1, 10, "old")
		c.Target.CreateTopic("a."+name, 1)
		c.Target.Write(&kgo.Record{Topic: "a." + name, Value: []byte("a copy")})
		fetched = append(fetched, c.Source.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: name, Err: kerr.NotLeaderForPartition, Count: -1}))
	}
	flow := c.Start(replicatortest.MigrateFromMirrorMaker)
	for i, name := range gone {
		if err := fetched[i].Wait(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		c.Source.DeleteTopic(name)
	}
	flow.UntilCopied("orders")
	c.Source.CreateTopic("later", 1)
	c.Source.Produce("later", 1, 5, "new")
	flow.UntilCopied("later")
}

// The map begins at the sync point where matching began. It does not cover what was copied before, not even a duplicate of it that follows.
func TestAMigratedMapBeginsAtTheSyncPoint(t *testing.T) {
	t.Parallel()
	c, m := newMirror(t, 100)
	m.copy(0, 30)
	m.copy(30, 60)
	m.copy(20, 40) // after a kill
	flow := c.Start(replicatortest.MigrateFromMirrorMaker)
	flow.UntilCopied("orders")
	flow.Stop()
	states, err := offsets.NewJournal(c.Target.Client, offsets.JournalTopic("a-b"), offsets.JournalOptions{}).States(t.Context())
	at := slices.IndexFunc(states, func(s *offsets.PartitionState) bool { return s.Topic == "orders" }) // heartbeats may be there too
	if err != nil || at < 0 {
		t.Fatal(states, err)
	}
	if want := (offsets.Pair{Source: 30, Target: 30}); states[at].Start != want {
		t.Errorf("the map begins at %+v, want %+v: source offset 25 is at target offset 25, not at 30", states[at].Start, want)
	}
}

// A connector offset beyond the records of the copy, which lost none, is one of an earlier topic of that name.
func TestAConnectorOffsetThatTheCopyContradictsIsIgnored(t *testing.T) {
	t.Parallel()
	c, m := newMirror(t, 100)
	m.copy(0, 60)
	m.commit(79)
	m.writeForeign()
	flow := c.Start(replicatortest.MigrateFromMirrorMaker)
	flow.UntilCopied("orders")
	got := c.Target.Texts("a.orders", 1)[0]
	replicatortest.MustEqual(t, "the copy", m.texts, append(got[:60:60], got[63:]...))
}

// After an abort, a producer writes the same records again, with the same timestamps if it copies them from its input. MirrorMaker 2 copied
// the committed records.
func TestAnAbortedRecordIsNotMatchedWithTheCommittedOne(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 10, "before")
	var input []*kgo.Record
	for i := range 5 {
		input = append(input, &kgo.Record{Value: fmt.Appendf(nil, "passed on %d", i), Timestamp: time.UnixMilli(1_700_000_000_000)})
	}
	writer := c.Source.Transactions("streams-app")
	writer.WriteCopies("orders", input, kgo.TryAbort)
	writer.WriteCopies("orders", input, kgo.TryCommit)
	m := mirrorOf(c)
	m.copy(0, 15)
	flow := c.Start(replicatortest.MigrateFromMirrorMaker)
	flow.UntilCopied("orders")
	replicatortest.MustEqual(t, "the copy", m.texts, c.Target.Texts("a.orders", 1)[0])
}

// A slow link to the target makes matching slow, not endless.
func TestMigrationOverASlowLink(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 10, "old")
	mirrorOf(c).copy(0, 5)
	c.Target.SpoilTopic(kmsg.Fetch, "a.orders", replicatortest.SlowResponse, 1000)
	flow := c.Start(replicatortest.MigrateFromMirrorMaker)
	flow.UntilCopied("orders")
	c.Target.SpoilTopic(kmsg.Fetch, "a.orders", replicatortest.SlowResponse, 0)
	c.Verify("orders", "a.orders", 1)
}

// copyInTransactions copies in transactions of the given number of records, after an offset-sync for the first one. It is killed in the last
// transaction, half of which is written.
func (m *mirror) copyInTransactions(from, to, each int) {
	producer := m.c.Target.Transactions("a-mm2-MirrorSourceConnector-0")
	m.SyncOffsets(offsets.OffsetSync{Topic: "orders", Source: m.records[from].Offset})
	for ; from < to; from += each {
		producer.WriteCopies("a.orders", m.records[from:from+each], kgo.TryCommit)
	}
	producer.WriteCopies("a.orders", m.records[to:to+each/2], kgo.TryAbort)
}

// A group behind the beginning of the map is translated by MirrorMaker 2's offset-syncs, never too far. From the beginning of the map on,
// translation is exact.
func TestGroupsAreSyncedAfterAMigration(t *testing.T) {
	t.Parallel()
	c, m := newMirror(t, 100)
	m.copy(0, 20)
	m.copy(20, 40)
	m.copy(40, 60)
	for group, at := range map[string]int64{"at a sync": 20, "after a sync": 25, "at the beginning": 0, "in the map": 50} {
		c.Source.Commit(group, "orders", 0, at)
	}
	flow := c.Start(replicatortest.MigrateFromMirrorMaker, replicatortest.FastGroups)
	flow.UntilCopied("orders")
	want := map[string]int64{"at a sync": 20, "after a sync": 21, "at the beginning": 0, "in the map": 50}
	var got map[string]int64
	flow.Until("the groups are on the target", func(replicator.Status) bool {
		got = map[string]int64{}
		for group := range want {
			if o, ok := c.Target.Admin.FetchManyOffsets(t.Context(), group)[group].Fetched.Lookup("a.orders", 0); ok {
				got[group] = o.At
			}
		}
		return len(got) == len(want)
	})
	if !maps.Equal(want, got) {
		t.Errorf("%v, want %v", got, want)
	}
}

// A MirrorMaker 2 in a Connect cluster is detected by its heartbeats. The flow waits until they stop.
func TestMigrationWaitsForTheEndOfHeartbeats(t *testing.T) {
	t.Parallel()
	c, _ := newMirror(t, 10)
	c.Target.CreateTopic(offsets.HeartbeatsTopic, 1)
	beating, end := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(beating)
		for {
			select {
			case <-end:
				return
			case <-time.After(50 * time.Millisecond):
				h := offsets.Heartbeat{Source: "a", Target: "b", At: time.Now()}
				c.Target.Client.Produce(t.Context(), &kgo.Record{Topic: offsets.HeartbeatsTopic, Key: h.AppendKey(nil), Value: h.AppendValue(nil)}, nil)
			}
		}
	}()
	flow := c.Start(replicatortest.MigrateFromMirrorMaker)
	flow.Until("it waits and says why", func(s replicator.Status) bool {
		return len(s.NotReady) > 0 && strings.Contains(strings.Join(s.NotReady, " "), "heartbeats of a -> b arrive on cluster b")
	})
	close(end)
	<-beating
	flow.UntilCopied("orders")
}
