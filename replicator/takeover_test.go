package replicator_test

import (
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

func TestSecondInstanceTakesOver(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 2)
	c.Source.CreateTopic("orders", 6)
	stop := c.Source.Load("orders", 6)
	first := c.Start()
	first.UntilReady()
	first.UntilProgress("orders", 100)
	second := c.Start()
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
