package replicator_test

import (
	"math"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// The journal notes what the first batch behind its end carries: the producer that fenced the partition, at the sequence behind the records
// that it wrote since.
func TestJournalNotesTheProducerAtItsEnd(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 2)
	var before map[int32]offsets.Producer
	for round := range 2 {
		c.Source.Produce("orders", 2, 50, "more")
		flow := c.Start()
		flow.UntilCopied("orders")
		flow.Stop()
		states, err := offsets.NewJournal(c.Target.Client, offsets.JournalTopic("a-b"), offsets.JournalOptions{}).States(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		noted := make(map[int32]offsets.Producer)
		for _, s := range states {
			if s.Topic == "orders" && s.Producer != nil {
				noted[s.Partition] = *s.Producer
			}
		}
		for number, records := range c.Target.Records("a.orders", 2) {
			last := records[len(records)-1]
			want := offsets.Producer{ID: last.ProducerID, Epoch: last.ProducerEpoch}
			for _, r := range records {
				if r.ProducerID == want.ID && r.ProducerEpoch == want.Epoch {
					want.Sequence++
				}
			}
			if noted[number] != want {
				t.Errorf("start %d, partition %d: the journal notes %+v, the log says %+v", round, number, noted[number], want)
			}
			if noted[number] == before[number] {
				t.Errorf("start %d, partition %d: the producer is that of the earlier start", round, number)
			}
		}
		before = noted
	}
}

// The drain of a clean stop may run into its deadline, because a batch gets no response. What was acknowledged is journaled all the same.
func TestStopJournalsAfterADrainThatTookTooLong(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.ShutdownTimeout = time.Second // the test waits for it
	c.Source.CreateTopic("orders", 1)
	stop := c.Source.Load("orders", 1)
	flow := c.Start(func(f *config.Flow) {
		f.JournalInterval, f.Lease = time.Hour, 4*time.Hour // only the start and the stop journal
	})
	flow.UntilProgress("orders", 50)
	replicatortest.Await(t, "a produce request arrives", c.Target.SpoilTopic(kmsg.Produce, "a.orders", replicatortest.NeverRespond, 1))
	stop()
	flow.Cancel()
	if err := flow.Wait(); err != nil {
		t.Fatal(err)
	}
	acked := replicatortest.Partitions(flow.Status(), "orders")[0].Acked
	states, err := offsets.NewJournal(c.Target.Client, offsets.JournalTopic("a-b"), offsets.JournalOptions{}).States(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range states {
		if s.Topic == "orders" && s.End.Source != acked {
			t.Errorf("the journal ends at %d, %d are acknowledged", s.End.Source, acked)
		}
	}
	if acked < 50 {
		t.Errorf("only %d are acknowledged", acked)
	}
	flow = c.Start()
	flow.UntilCopied("orders")
	flow.Stop()
	c.Verify("orders", "a.orders", 1)
}

// A coordinator gives a transactional id 2^15 epochs per producer id, then another producer id. Markers with the new one do not stop writes
// with the old one, so every partition of the shard changes to the new one, also those that nothing happens to.
func TestNewProducerIDReachesEveryPartitionOfTheShard(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("quiet", 2)
	c.Source.CreateTopic("orders", 2)
	before := c.Target.UseEpochs("milena.a-b.0", math.MaxInt16-30)
	c.Source.Produce("quiet", 2, 20, "early")
	stop := c.Source.Load("orders", 2)
	flow := c.Start(func(f *config.Flow) { f.Shards = 1 })
	flow.UntilCopied("quiet")
	newest := func(topic string) (id int64) {
		c.Source.Produce(topic, 2, 1, "now")
		flow.UntilCopied(topic)
		for _, records := range c.Target.Records("a."+topic, 2) {
			id = records[len(records)-1].ProducerID
		}
		return id
	}
	if id := newest("quiet"); id != before {
		t.Fatalf("the flow writes with producer id %d, not with %d", id, before)
	}
	for id := before; id == before; id = newest("quiet") {
		replicatortest.Await(t, "a produce request arrives", c.Target.SpoilTopic(kmsg.Produce, "a.orders", replicatortest.DropResponse, 1))
		flow.UntilProgress("orders", 50)
	}
	stop()
	flow.UntilCopied("orders")
	ids := make(map[int64]bool)
	for _, topic := range []string{"orders", "quiet"} {
		ids[newest(topic)] = true
	}
	if len(ids) != 1 || ids[before] {
		t.Errorf("the last records were written with producer ids %v", ids)
	}
	flow.Stop()
	flow = c.Start(func(f *config.Flow) { f.Shards = 1 }) // knows the records of both ids as its own
	c.Source.Produce("quiet", 2, 20, "late")
	flow.UntilCopied("quiet")
	flow.Stop()
	c.Verify("orders", "a.orders", 2)
	c.Verify("quiet", "a.quiet", 2)
}
