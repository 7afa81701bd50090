package replicator_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// crash is a flow from a to b whose journal no longer takes writes, so that it ends as if it were killed.
type crash struct {
	*replicatortest.Clusters
	flow  *replicatortest.Flow
	fault *kfake.FaultHandle
}

// beginCrash starts a flow, and lets its journal fail once the topic's first records are journaled. Until its end nothing fences the shard: with kfake,
// which has one epoch per producer, the copy would get a new epoch too. So there is no new heartbeats topic, and the journal is refused for a reason
// that leaves no doubt, however often it is tried.
func beginCrash(t *testing.T, topic string, configs ...string) *crash {
	t.Helper()
	c := &crash{Clusters: replicatortest.NewClusters(t, 1)}
	c.ShutdownTimeout = time.Second // the journal cannot be written at the end
	c.Instance = "node"             // as a process that is started again
	c.Source.CreateTopic(topic, 1, configs...)
	c.Source.Produce(topic, 1, 10, "journaled")
	c.flow = c.Start(replicatortest.FastJournal, func(f *config.Flow) { f.Heartbeats = false })
	c.flow.UntilCopied(topic)
	c.flow.UntilJournaled(topic)
	c.fault = c.Target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: offsets.JournalTopic("a-b"), Err: kerr.TopicAuthorizationFailed, Count: -1})
	return c
}

// kill ends the flow with what was copied since not journaled.
func (c *crash) kill(t *testing.T) {
	t.Helper()
	c.flow.Cancel()
	_ = c.flow.Wait() // it could not journal
	c.fault.Remove()
}

// mustCopy starts the flow again and checks that the copy of the one partition has these records in the end, and that no anomaly was seen but the
// given ones.
func (c *crash) mustCopy(t *testing.T, topic string, want []string, anomalies ...string) {
	t.Helper()
	c.flow = c.Start()
	c.flow.UntilCopied(topic)
	replicatortest.MustEqual(t, "the copy", want, c.Target.Texts("a."+topic, 1)[0])
	for _, kind := range []string{"retention_gap", "foreign_write", "truncated", "unmatched", "copy_deleted"} {
		n := c.flow.Metric("milena_anomalies_total", "kind", kind)
		if seen := n > 0; seen != slices.Contains(anomalies, kind) {
			t.Errorf("%v anomalies of kind %s", n, kind)
		}
	}
}

// exactMap checks that each record that both sides have is where the journal says.
func (c *crash) exactMap(t *testing.T, topic string) {
	t.Helper()
	c.flow.UntilJournaled(topic)
	journal := offsets.NewJournal(c.Target.Client, offsets.JournalTopic("a-b"), offsets.JournalOptions{})
	at := make(map[string]int64)
	for _, r := range c.Target.Records("a."+topic, 1)[0] {
		at[string(r.Value)] = r.Offset
	}
	for _, r := range c.Source.Records(topic, 1)[0] {
		want, ok := at[string(r.Value)]
		if !ok {
			continue
		}
		if got, err := journal.Forward(t.Context(), topic, 0, r.Offset); got.Target != want || !got.Exact || err != nil {
			t.Errorf("source offset %d is at target offset %d, the map says %+v, %v", r.Offset, want, got, err)
		}
	}
}

// The source deletes records that were copied and not journaled: that is no gap.
func TestSourceDeletesWhatWasCopiedBeforeItWasJournaled(t *testing.T) {
	t.Parallel()
	for _, deleted := range []int64{15, 30} {
		t.Run(fmt.Sprint(deleted), func(t *testing.T) {
			t.Parallel()
			c := beginCrash(t, "orders")
			for i := range 20 {
				c.Source.Produce("orders", 1, 1, fmt.Sprintf("tail-%d", i))
			}
			c.flow.UntilCopied("orders")
			c.kill(t)
			want := c.Source.Texts("orders", 1)[0]
			c.Source.Produce("orders", 1, 5, "later")
			want = append(want, c.Source.Texts("orders", 1)[0][30:]...)
			c.Source.DeleteRecords("orders", 0, deleted)
			c.mustCopy(t, "orders", want)
			c.exactMap(t, "orders")
		})
	}
}

// The target deletes records that were copied and not journaled: they are not copied again, and the ledger says so.
func TestTargetDeletesWhatWasCopiedBeforeItWasJournaled(t *testing.T) {
	t.Parallel()
	for _, left := range []int64{0, 7} {
		t.Run(fmt.Sprint(left), func(t *testing.T) {
			t.Parallel()
			c := beginCrash(t, "orders")
			for range 20 {
				c.Source.Produce("orders", 1, 1, "equal") // only their place tells them apart
				c.flow.UntilCopied("orders")              // in a batch of its own: the log is going to begin behind some
			}
			c.kill(t)
			end := c.Target.EndOffsets("a.orders")[0]
			c.Target.DeleteRecords("a.orders", 0, end-left)
			c.Source.Produce("orders", 1, 5, "later")
			source := c.Source.Texts("orders", 1)[0]
			c.mustCopy(t, "orders", source[30-left:], "copy_deleted")
			c.flow.UntilJournaled("orders")
			states, err := offsets.NewJournal(c.Target.Client, offsets.JournalTopic("a-b"), offsets.JournalOptions{}).States(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(states, func(s *offsets.PartitionState) bool { return s.Topic == "orders" })
			gaps := states[i].Gaps
			if len(gaps) != 1 || gaps[0].Kind != "copy_deleted" || gaps[0].From != 10 || gaps[0].To != 30-left {
				t.Errorf("the gap ledger says %+v", gaps)
			}
		})
	}
}

// The source compacts what was copied and not journaled.
func TestSourceCompactsWhatWasCopiedBeforeItWasJournaled(t *testing.T) {
	t.Parallel()
	c := beginCrash(t, "orders", "cleanup.policy", "compact")
	c.Source.Produce("orders", 1, 40, "twice")
	for range 3 {
		c.Source.Produce("orders", 1, 10, "again")
	}
	c.flow.UntilCopied("orders")
	c.kill(t)
	want := c.Source.Texts("orders", 1)[0]
	c.Source.Produce("orders", 1, 40, "twice")
	c.Source.Produce("orders", 1, 1, "last") // the last batch is never compacted
	c.Source.Compact()
	compacted := c.Source.Texts("orders", 1)[0]
	if len(compacted) >= len(want) {
		t.Fatalf("nothing was compacted: %d records", len(compacted))
	}
	c.mustCopy(t, "orders", append(want, compacted[len(compacted)-41:]...))
	c.exactMap(t, "orders")
}

// The outcome of a batch is unknown, and before the takeover the source deletes its records. Identity tells whether it was written.
func TestDoubtIsSettledWithoutTheSource(t *testing.T) {
	for name, how := range map[string]replicatortest.Spoil{"written": replicatortest.DropResponse, "lost": replicatortest.DropRequest} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := beginCrash(t, "orders")
			c.fault.Remove()
			late := c.Target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.ConcurrentTransactions, Count: -1})
			spoiled := c.Target.SpoilTopic(kmsg.Produce, "a.orders", how, 1)
			c.Source.Produce("orders", 1, 20, "doubtful")
			want := c.Source.Texts("orders", 1)[0]
			replicatortest.Await(t, "the batch is produced", spoiled)
			c.flow.Until("the partition waits", func(s replicator.Status) bool { return replicatortest.Partitions(s, "orders")[0].State == "waiting" })
			c.Source.DeleteRecords("orders", 0, 30)
			if how == replicatortest.DropRequest {
				want = want[:10]
			}
			late.Remove()
			if how == replicatortest.DropRequest { // these records are gone before they were copied, which must be told
				a := c.flow.UntilHaltedBy("retention_gap", "orders", 0)
				if a.From != 10 || a.To != 30 {
					t.Errorf("the gap is %d to %d, want 10 to 30", a.From, a.To)
				}
			} else {
				c.flow.UntilCopied("orders")
			}
			replicatortest.MustEqual(t, "the copy", want, c.Target.Texts("a.orders", 1)[0])
		})
	}
}

// The source was truncated below what is journaled, and has grown again. With skip, what it holds now is copied from there on, also if the copy
// has more records than the journal.
func TestTruncatedSourceIsCopiedFromWhereItWasTruncated(t *testing.T) {
	t.Parallel()
	c := beginCrash(t, "orders")
	c.Source.Produce("orders", 1, 5, "tail")
	c.flow.UntilCopied("orders")
	c.kill(t)
	want := c.Source.Texts("orders", 1)[0]
	want = append(want, want[6:]...) // the source's log is the same again; kfake cannot truncate it, so one answer says that it was
	truncated := make(chan struct{})
	id := c.Source.TopicInfo("orders").TopicID
	c.Source.ControlKey(int16(kmsg.Fetch), func(request kmsg.Request) (kmsg.Response, error, bool) {
		r := request.(*kmsg.FetchRequest)
		if len(r.Topics) != 1 || r.Topics[0].TopicID != id || len(r.Topics[0].Partitions) != 1 || r.Topics[0].Partitions[0].FetchOffset != 10 {
			c.Source.KeepControl()
			return nil, nil, false
		}
		defer close(truncated)
		response := r.ResponseKind().(*kmsg.FetchResponse)
		topic, partition := kmsg.NewFetchResponseTopic(), kmsg.NewFetchResponseTopicPartition()
		topic.TopicID = id
		partition.HighWatermark, partition.LastStableOffset = 15, 15
		partition.DivergingEpoch.Epoch, partition.DivergingEpoch.EndOffset = 0, 6
		topic.Partitions = append(topic.Partitions, partition)
		response.Topics = append(response.Topics, topic)
		return response, nil, true
	})
	c.flow = c.Start(replicatortest.OnAnomaly("truncated", "skip"))
	replicatortest.Await(t, "the truncation is told", truncated)
	c.flow.UntilCopied("orders")
	replicatortest.MustEqual(t, "the copy", want, c.Target.Texts("a.orders", 1)[0])
	c.flow.UntilJournaled("orders")
	states, err := offsets.NewJournal(c.Target.Client, offsets.JournalTopic("a-b"), offsets.JournalOptions{}).States(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range states {
		if s.Topic == "orders" && (len(s.Gaps) != 1 || s.Gaps[0].Kind != "truncated" || s.Gaps[0].From != 6) {
			t.Errorf("the gap ledger says %+v", s.Gaps)
		}
	}
}
