package replicator_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// A process that begins with a halted partition has copied nothing of it. How old the records behind the halt are, it asks the source.
func TestTimeToLossIsKnownOfAHaltedPartition(t *testing.T) {
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
	c.Source.DeleteRecords("orders", 0, 15)

	flow = c.Start(replicatortest.FastJournal)
	flow.UntilHaltedBy("retention_gap", "orders", 0)
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
