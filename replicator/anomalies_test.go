package replicator_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

func TestRecreatedTopicHalts(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 20, "old")
	flow := c.Start()
	flow.UntilCopied("orders")
	old := c.Target.Texts("a.orders", 1)[0]
	c.Source.RecreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 20, "new")
	flow.UntilHaltedBy("recreated", "orders", 0)
	c.VerifyNewTopic(flow, "bills")
	replicatortest.MustEqual(t, "the copy", old, c.Target.Texts("a.orders", 1)[0])
	flow.Stop()
	flow = c.Start() // still halted after a restart
	flow.UntilHaltedBy("recreated", "orders", 0)
	replicatortest.MustEqual(t, "the copy", old, c.Target.Texts("a.orders", 1)[0])
}

func TestRecreatedTopicIsCopiedBehindTheOldOne(t *testing.T) {
	for name, live := range map[string]bool{"while the flow runs": true, "while the flow is stopped": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := replicatortest.NewClusters(t, 1)
			c.Source.CreateTopic("orders", 2)
			c.Source.Produce("orders", 2, 20, "old")
			flow := c.Start(replicatortest.OnAnomaly("recreated", "restart"))
			flow.UntilCopied("orders")
			old := c.Source.Texts("orders", 2)
			if !live {
				flow.Stop()
			}
			c.Source.RecreateTopic("orders", 2)
			c.Source.Produce("orders", 2, 30, "new")
			if !live {
				flow = c.Start(replicatortest.OnAnomaly("recreated", "restart"))
			}
			flow.UntilReady()
			flow.UntilPartitions("the new topic is copied", "orders", 2, func(p replicator.PartitionStatus) bool { return p.TargetEnd >= 50 })
			fresh, got := c.Source.Texts("orders", 2), c.Target.Texts("a.orders", 2)
			for part := range int32(2) {
				replicatortest.MustEqual(t, fmt.Sprintf("the copy of partition %d", part), append(old[part], fresh[part]...), got[part])
			}
			if n := flow.Metric("milena_anomalies_total", "kind", "recreated", "action", "restart"); n == 0 {
				t.Error("the restart is not counted")
			}
			flow.Stop()
			flow = c.Start() // the new generation is journaled: no halt, no duplicates
			c.Source.Produce("orders", 2, 5, "later")
			flow.UntilCopied("orders")
			fresh, got = c.Source.Texts("orders", 2), c.Target.Texts("a.orders", 2)
			for part := range int32(2) {
				replicatortest.MustEqual(t, fmt.Sprintf("the copy of partition %d after a restart", part), append(old[part], fresh[part]...), got[part])
			}
		})
	}
}

// An action for some topics concerns no other one.
func TestRetentionGapIsSkippedByTopic(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	for _, topic := range []string{"logs-eu", "orders"} {
		c.Source.CreateTopic(topic, 1)
		c.Source.Produce(topic, 1, 20, "copied")
	}
	flow := c.Start()
	for _, topic := range []string{"logs-eu", "orders"} {
		flow.UntilCopied(topic)
	}
	flow.Stop()
	for _, topic := range []string{"logs-eu", "orders"} {
		c.Source.Produce(topic, 1, 20, "later")
		c.Source.DeleteRecords(topic, 0, 30)
	}
	flow = c.Start(func(f *config.Flow) {
		f.AnomaliesByTopic = []config.TopicAnomalies{{Topics: []string{"logs-.*"}, Anomalies: map[string]string{"retention_gap": "skip"}}}
	})
	flow.UntilHaltedBy("retention_gap", "orders", 0)
	flow.UntilCopied("logs-eu")
}

// The source deletes records while the flow is stopped. The gap halts the partition at first, then is skipped as configured.
func TestRetentionGapHaltsAndIsSkipped(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 2)
	c.Source.Produce("orders", 2, 20, "copied")
	flow := c.Start()
	flow.UntilCopied("orders")
	flow.Stop()
	c.Source.Produce("orders", 2, 20, "later")
	source := c.Source.Texts("orders", 2)
	c.Source.DeleteRecords("orders", 0, 30)
	flow = c.Start()
	a := flow.UntilHaltedBy("retention_gap", "orders", 0)
	if a.From != 20 || a.To != 30 {
		t.Errorf("the reported gap is %d to %d, want 20 to 30", a.From, a.To)
	}
	flow.Until("partition 1 is copied", func(s replicator.Status) bool { return replicatortest.Partitions(s, "orders")[1].Acked == 40 })
	flow.Stop()
	flow = c.Start(replicatortest.OnAnomaly("retention_gap", "skip"))
	flow.UntilCopied("orders")
	got := c.Target.Texts("a.orders", 2)
	replicatortest.MustEqual(t, "partition 0 without its gap", append(source[0][:20:20], source[0][30:]...), got[0])
	replicatortest.MustEqual(t, "partition 1", source[1], got[1])
	if n := flow.Metric("milena_anomalies_total", "kind", "retention_gap", "action", "skip"); n != 1 {
		t.Errorf("%v skipped gaps are counted", n)
	}
}

func TestTargetTopicThatHoldsRecordsHalts(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 10, "ours")
	c.Target.CreateTopic("a.orders", 1)
	c.Target.Produce("a.orders", 1, 1, "foreign")
	flow := c.Start()
	flow.UntilHaltedBy("target_not_empty", "orders", 0)
	c.VerifyNewTopic(flow, "bills")
	flow.Stop()
	before := c.Target.Texts("a.orders", 1)[0]
	flow = c.Start(replicatortest.OnAnomaly("target_not_empty", "skip"))
	flow.UntilCopied("orders")
	replicatortest.MustEqual(t, "the copy behind what was there", append(before, c.Source.Texts("orders", 1)[0]...), c.Target.Texts("a.orders", 1)[0])
}

// A restart does not resolve the anomaly: the partition halts again, and nothing is appended to the target topic.
func TestTargetTopicThatHoldsRecordsHaltsAgainAfterARestart(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 10, "ours")
	c.Target.CreateTopic("a.orders", 1)
	c.Target.Produce("a.orders", 1, 1, "foreign")
	before := c.Target.Texts("a.orders", 1)[0]
	for n := range 2 {
		flow := c.Start()
		flow.UntilHaltedBy("target_not_empty", "orders", 0)
		c.VerifyNewTopic(flow, fmt.Sprintf("bills-%d", n))
		flow.Stop()
	}
	replicatortest.MustEqual(t, "the target topic", before, c.Target.Texts("a.orders", 1)[0])
}

func TestForeignWriteHalts(t *testing.T) {
	for name, live := range map[string]bool{"while the flow runs": true, "while the flow is stopped": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := replicatortest.NewClusters(t, 1)
			c.Source.CreateTopic("orders", 1)
			c.Source.Produce("orders", 1, 10, "before")
			flow := c.Start()
			flow.UntilCopied("orders")
			if !live {
				flow.Stop()
			}
			c.Target.Produce("a.orders", 1, 1, "foreign")
			c.Source.Produce("orders", 1, 10, "after")
			if !live {
				flow = c.Start()
			}
			flow.UntilHaltedBy("foreign_write", "orders", 0)
			c.VerifyNewTopic(flow, "bills")
			flow.Stop()
			flow = c.Start() // still halted after a restart
			flow.UntilHaltedBy("foreign_write", "orders", 0)
			flow.Stop()
			flow = c.Start(replicatortest.OnAnomaly("foreign_write", "skip"))
			flow.UntilCopied("orders")
			got := c.Target.Texts("a.orders", 1)[0]
			ours := slices.DeleteFunc(slices.Clone(got), func(s string) bool { return bytes.Contains([]byte(s), []byte("foreign")) })
			if len(got) != len(ours)+1 {
				t.Errorf("%d foreign records in the copy, one was written", len(got)-len(ours))
			}
			replicatortest.MustEqual(t, "the copy around the foreign record", c.Source.Texts("orders", 1)[0], ours)
		})
	}
}

func TestTargetTopicIsRecreated(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 10, "before")
	flow := c.Start()
	flow.UntilCopied("orders")
	flow.Stop()
	c.Target.DeleteTopic("a.orders")
	flow = c.Start()
	flow.UntilHaltedBy("target_recreated", "orders", 0)
	flow.Stop()
	flow = c.Start(replicatortest.OnAnomaly("target_recreated", "restart"))
	flow.UntilCopied("orders")
	c.Target.Client.PurgeTopicsFromClient("a.orders")
	c.Verify("orders", "a.orders", 1)
}

// If one record of a batch is larger than the target accepts, all others are copied, and the anomaly names that record.
func TestRecordLargerThanTheTargetAccepts(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Target.CreateTopic("a.orders", 1, "max.message.bytes", "2000")
	var records []*kgo.Record
	for i := range 30 {
		value := make([]byte, 200)
		if i == 20 {
			value = make([]byte, 5000)
		}
		rand.Read(value) // nothing that compresses
		records = append(records, &kgo.Record{Topic: "orders", Key: fmt.Appendf(nil, "%d", i), Value: fmt.Appendf(nil, "%x", value)})
	}
	c.Source.Write(records...)
	source := c.Source.Texts("orders", 1)[0]
	flow := c.Start(keepMessageLimit)
	if a := flow.UntilHaltedBy("record_too_large", "orders", 0); a.From != 20 || a.To != 21 {
		t.Errorf("the reported record is at %d to %d, want 20 to 21", a.From, a.To)
	}
	flow.Stop()
	flow = c.Start(keepMessageLimit, replicatortest.OnAnomaly("record_too_large", "skip"))
	flow.UntilCopied("orders")
	replicatortest.MustEqual(t, "the copy without the large record", append(source[:20:20], source[21:]...), c.Target.Texts("a.orders", 1)[0])
}

// keepMessageLimit excludes the limit from config sync, which would set it to that of the source.
func keepMessageLimit(f *config.Flow) {
	f.ConfigsExclude = append(f.ConfigsExclude, `max\.message\.bytes`)
}

// The limit shrinks after the flow has read it. The flow learns the new limit from the refusal.
func TestLimitOfTheTargetShrinks(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	flow := c.Start(keepMessageLimit, func(f *config.Flow) {
		f.ConfigsInterval = time.Hour // a config sync would read the new limit
	})
	c.Source.Produce("orders", 1, 10, "before")
	flow.UntilCopied("orders")
	c.Target.SetTopicConfig("a.orders", "max.message.bytes", "1500")
	c.Source.Produce("orders", 1, 400, "after") // one batch
	flow.UntilCopied("orders")
	c.Verify("orders", "a.orders", 1)
}

// A batch that the target refuses permanently is an anomaly. The other partition is copied.
func TestRefusedBatchHalts(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.ShortPauses()
	c.Source.CreateTopic("orders", 2)
	c.Source.Produce("orders", 2, 10, "before")
	c.Target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "a.orders", Partitions: []int32{1}, Err: kerr.InvalidRecord, Count: -1})
	flow := c.Start()
	flow.UntilHaltedBy("record_refused", "orders", 1)
	flow.Until("partition 0 is copied", func(s replicator.Status) bool { return replicatortest.Partitions(s, "orders")[0].Acked == 10 })
	c.VerifyNewTopic(flow, "bills")
}
