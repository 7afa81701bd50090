package replicator_test

import (
	"bytes"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// The host slept for a day. Another process may have taken over in the meantime, and the target may have forgotten about it. So nothing is
// written before a fence has confirmed that this process is still the owner.
func TestNothingIsWrittenAfterASleepBeforeAFence(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	var slept, sinceBoot atomic.Int64
	sinceBoot.Store(int64(time.Hour))
	c.BootTime = func() time.Duration { return time.Duration(sinceBoot.Load() + slept.Load()) }
	c.Source.CreateTopic("orders", 2)
	c.Source.Produce("orders", 2, 20, "before")
	var fenced, early, written atomic.Int64 // since the host slept
	c.Target.Observe(func(_ string, request kmsg.Request) {
		if slept.Load() == 0 {
			return
		}
		switch r := request.(type) {
		case *kmsg.InitProducerIDRequest:
			fenced.Add(1)
		case *kmsg.ProduceRequest:
			if info := c.Target.TopicInfo("a.orders"); !names(r, info.TopicID) {
				return
			}
			if written.Add(1); fenced.Load() == 0 {
				early.Add(1)
			}
		}
	})
	flow := c.Start(replicatortest.FastJournal, replicatortest.OneInstance)
	flow.UntilReady()
	flow.UntilJournaled("orders")
	slept.Store(int64(24 * time.Hour))
	c.Source.Produce("orders", 2, 20, "after")
	flow.UntilCopied("orders")
	if early.Load() > 0 || written.Load() == 0 {
		t.Errorf("%d of %d produce requests were sent before the fence", early.Load(), written.Load())
	}
	flow.Stop()
	c.Verify("orders", "a.orders", 2)
}

// The clock jumps by an hour, again and again, while everything is in flight, and topic ids appear and disappear meanwhile. Each time a fence
// confirms the lease, and nothing is lost or written twice.
func TestClockJumpsUnderLoad(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 2)
	var sinceBoot atomic.Int64
	c.BootTime = func() time.Duration { return time.Duration(sinceBoot.Add(int64(time.Microsecond))) }
	c.Source.HideTopicIDs()
	c.Source.CreateTopic("orders", 6)
	stop := c.Source.Load("orders", 6)
	flow := c.Start(replicatortest.FastTopics, replicatortest.FastJournal)
	flow.UntilReady()
	for jump := range 6 {
		flow.UntilProgress("orders", 200)
		sinceBoot.Add(int64(time.Hour))
		if jump%2 == 0 {
			c.Source.ShowTopicIDs()
		} else {
			c.Source.HideTopicIDs()
		}
	}
	flow.UntilProgress("orders", 200)
	stop()
	flow.UntilCopied("orders")
	if n := flow.Metric("milena_anomalies_total"); n > 0 {
		t.Errorf("%v anomalies", n)
	}
	flow.Stop()
	c.Verify("orders", "a.orders", 6)
}

// names reports whether a produce request writes to a topic.
func names(r *kmsg.ProduceRequest, id [16]byte) bool {
	for _, topic := range r.Topics {
		if bytes.Equal(topic.TopicID[:], id[:]) {
			return true
		}
	}
	return false
}
