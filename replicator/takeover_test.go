package replicator_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

func TestSecondInstanceTakesOver(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 2)
	c.Source.CreateTopic("orders", 6)
	stop := c.Source.Load("orders", 6)
	first := c.Start(replicatortest.OneInstance)
	first.UntilReady()
	first.UntilProgress("orders", 100)
	second := c.Start(replicatortest.OneInstance)
	var fenced *replicator.FencedError
	if err := first.Wait(); !errors.As(err, &fenced) {
		t.Fatalf("the first instance ended with %v, not with a FencedError", err)
	}
	if fenced.Flow != "a-b" {
		t.Errorf("the error names flow %q", fenced.Flow)
	}
	second.UntilProgress("orders", 100)
	stop()
	second.UntilCopied("orders")
	second.Stop()
	c.Verify("orders", "a.orders", 6)
}

// The answer to a fence is lost, the coordinator moves, and the new one refuses the repetition: it does not remember the previous epoch. Nobody has
// taken over, as the journal shows, so the flow goes on.
func TestNewerEpochWithoutAnotherOwner(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 6)
	flow := c.Start(replicatortest.OneInstance)
	c.Source.Produce("orders", 6, 10, "before")
	flow.UntilCopied("orders")
	flow.UntilReady()
	other := slices.IndexFunc(replicatortest.Partitions(flow.Status(), "orders"), func(p replicator.PartitionStatus) bool { return p.Shard > 0 })
	fault := c.Target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.ProducerFenced, Count: 1})
	lost := c.Target.SpoilTopic(kmsg.Produce, "a.orders", replicatortest.DropResponse, 1)
	c.Source.Write(&kgo.Record{Topic: "orders", Partition: int32(other), Value: []byte("doubted")})
	replicatortest.Await(t, "the answer of a produce request is lost", lost)
	flow.UntilLogged("the coordinator raised the epoch of a shard that no other instance owns")
	fault.Remove()
	c.Source.Produce("orders", 6, 10, "after")
	flow.UntilCopied("orders")
	flow.Stop()
	c.Verify("orders", "a.orders", 6)
}

// The marker of a fence is deleted before the takeover reads it, and nothing else will write one. The takeover fences again, and finds an offset gone
// that it knows nothing of: it may have been that marker or a record. A person decides.
func TestDeletedMarkerIsWrittenAgain(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.ShortPauses()
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 10, "before")
	flow := c.Start()
	flow.UntilCopied("orders")
	flow.UntilJournaled("orders")
	flow.Stop()
	read := c.Target.SpoilTopic(kmsg.Fetch, "a.orders", replicatortest.DropRequest, 1)
	flow = c.Start()
	replicatortest.Await(t, "the takeover reads the copy", read)
	c.Target.SpoilTopic(kmsg.Fetch, "a.orders", replicatortest.DropRequest, 1000)
	c.Target.DeleteRecords("a.orders", 0, c.Target.EndOffsets("a.orders")[0])
	c.Source.Produce("orders", 1, 10, "after") // or nothing would be missing
	c.Target.Spoil(kmsg.Fetch, nil, replicatortest.DropRequest, 0)
	flow.UntilLogged("the marker of a fence is missing, fencing again")
	flow.UntilHaltedBy("unmatched", "orders", 0)
	flow.Stop()
}

func TestStopAndStartUnderLoad(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 4)
	stop := c.Source.Load("orders", 4)
	for range 4 {
		flow := c.Start()
		flow.UntilProgress("orders", 100)
		flow.Stop()
	}
	flow := c.Start()
	stop()
	flow.UntilCopied("orders")
	flow.Stop()
	c.Verify("orders", "a.orders", 4)
}

// No response arrives before the shutdown timeout. The next start finds out which of the batches in flight were written.
func TestStopWithBatchesWithoutAResponse(t *testing.T) {
	for name, how := range map[string]replicatortest.Spoil{"written": replicatortest.NeverRespond, "lost": replicatortest.DropRequest} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := replicatortest.NewClusters(t, 1)
			c.ShutdownTimeout = time.Second // the test waits for it
			c.Source.CreateTopic("orders", 2)
			stop := c.Source.Load("orders", 2)
			flow := c.Start()
			flow.UntilProgress("orders", 50)
			replicatortest.Await(t, "a produce request arrives", c.Target.SpoilTopic(kmsg.Produce, "a.orders", how, 1))
			flow.Cancel()
			if err := flow.Wait(); err != nil {
				t.Logf("the stop returned %v", err)
			}
			flow = c.Start()
			flow.UntilProgress("orders", 50)
			stop()
			flow.UntilCopied("orders")
			flow.Stop()
			c.Verify("orders", "a.orders", 2)
		})
	}
}

// A flow that is restarted without new records on the source writes no records to its remote topics.
func TestIdleRestartsWriteNoRecord(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 3)
	c.Source.Produce("orders", 3, 20, "only")
	for range 3 {
		flow := c.Start()
		flow.UntilCopied("orders")
		flow.UntilReady()
		flow.Stop()
	}
	c.Verify("orders", "a.orders", 3)
}
