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
	flow := c.Start()
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

// names reports whether a produce request writes to a topic.
func names(r *kmsg.ProduceRequest, id [16]byte) bool {
	for _, topic := range r.Topics {
		if bytes.Equal(topic.TopicID[:], id[:]) {
			return true
		}
	}
	return false
}
