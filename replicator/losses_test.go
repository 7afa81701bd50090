package replicator_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// A process that has copied nothing of a partition since it began asks the source how old the records are that it has to copy.
func TestTimeToLossIsKnownBeforeTheFirstRecord(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1, "retention.ms", "86400000")
	write := func() {
		for i := range 10 {
			c.Source.Write(&kgo.Record{Topic: "orders", Key: fmt.Append(nil, i), Timestamp: time.Now().Add(-20 * time.Hour)})
		}
	}
	write()
	flow := c.Start(replicatortest.FastJournal)
	flow.UntilCopied("orders")
	flow.UntilJournaled("orders")
	flow.Stop()
	write()
	c.Target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "a.orders", Err: kerr.NotEnoughReplicas, Count: -1})

	flow = c.Start(replicatortest.FastJournal)
	replicatortest.Eventually(t, "the time to loss is known", func() (bool, string) {
		families, err := flow.Metrics.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "milena_topic_time_to_loss_seconds" && len(f.GetMetric()) == 1 {
				left := time.Duration(f.GetMetric()[0].GetGauge().GetValue()) * time.Second
				if left < 3*time.Hour+50*time.Minute || left > 4*time.Hour {
					t.Fatalf("records of 20 hours are lost in %v, with a retention of 24 hours", left)
				}
				return true, ""
			}
		}
		return false, "no series"
	})
}

// A partition that is halted by a retention gap has lost what is in the gap. It is at risk again once the records behind the gap are old.
func TestTimeToLossIsAboutTheRecordsBehindAGap(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1, "retention.ms", "86400000")
	write := func(age time.Duration) {
		for i := range 10 {
			c.Source.Write(&kgo.Record{Topic: "orders", Key: fmt.Append(nil, i), Timestamp: time.Now().Add(-age)})
		}
	}
	write(0)
	flow := c.Start(replicatortest.FastJournal)
	flow.UntilCopied("orders")
	flow.UntilJournaled("orders")
	flow.Stop()
	write(0)
	write(20 * time.Hour)
	c.Source.DeleteRecords("orders", 0, 20)
	flow = c.Start(replicatortest.FastJournal)
	flow.UntilHaltedBy("retention_gap", "orders", 0)
	replicatortest.Eventually(t, "the time to loss is known", func() (bool, string) {
		left := flow.Metric("milena_topic_time_to_loss_seconds", "topic", "orders")
		return left > 3.8*3600 && left <= 4*3600, fmt.Sprint(left)
	})
}
