package replicator_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// While the control topic cannot be read, a process that starts copies nothing, because something may be paused. It says so, and goes on by itself.
func TestStartWaitsVisiblyForTheControlTopic(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.CreateTopic("bills", 1)
	c.Source.Produce("orders", 1, 10, "first")
	c.Source.Produce("bills", 1, 10, "first")
	c.SubmitWithin(0, replicatortest.NewDecision(control.Pause, control.OfTopic("orders")))
	offline := c.Target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch, kmsg.ListOffsets}, Topic: control.TopicName("a-b"), Err: kerr.LeaderNotAvailable, Count: -1})
	flow := c.Start()
	s := flow.Until("it says what it waits for", func(s replicator.Status) bool { return s.Control.Problem != "" })
	const want = "waiting for topic milena.a-b.control of cluster b, which says what is paused"
	if !strings.Contains(s.Control.Problem, want) || len(s.NotReady) == 0 || !strings.Contains(s.NotReady[0], want) {
		t.Errorf("the problem is %q, and it is not ready because of %q", s.Control.Problem, s.NotReady)
	}
	if flow.Metric("milena_controllable") != 0 || flow.Metric("milena_ready") != 0 {
		t.Error("the metrics say that all is well")
	}
	if len(s.Partitions) > 0 {
		t.Errorf("partitions are begun: %+v", s.Partitions)
	}
	offline.Remove()
	flow.UntilCopied("bills")
	p := untilPaused(flow, "orders", 0)
	if p.Acked > 0 {
		t.Errorf("a paused partition was copied up to %d", p.Acked)
	}
	flow.Until("it can be controlled", func(s replicator.Status) bool { return s.Control.Problem == "" && s.Ready })
	if flow.Metric("milena_controllable") != 1 {
		t.Error("the metric says that it cannot be controlled")
	}
}

// Starts, stops and takeovers are in the control topic: few records, however many shards there are, and the same ones for restarts that follow closely.
func TestEventsOfAnInstance(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Instance = "node"
	c.Source.CreateTopic("orders", 1)
	event := func(what control.EventKind) *control.Event { return c.ControlState().LastEvent("node", what) }
	for n := range 2 {
		flow := c.Start()
		flow.UntilReady()
		replicatortest.Eventually(t, "the start and all takeovers are noted", func() (bool, string) {
			e, taken := event(control.Start), event(control.Takeover)
			return e != nil && e.Count == n+1 && taken != nil && taken.Count == 64*(n+1), fmt.Sprintf("%+v, %+v", e, taken)
		})
		flow.Stop()
	}
	for what, n := range map[control.EventKind]int{control.Start: 2, control.Stop: 2, control.Takeover: 128} {
		e := event(what)
		if e == nil || e.Count != n || e.Latest().Before(e.When) || time.Since(e.When) > time.Hour {
			t.Errorf("%s: %+v", what, e)
		}
	}
	if n := len(c.ControlState().Events()); n != 3 {
		t.Errorf("%d events", n)
	}
}

// An event that somebody else has to tell is noted too, and a storm of them is one record.
func TestStormOfEvents(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	flow := c.Start()
	flow.UntilReady()
	replicatortest.Eventually(t, "the start is noted", func() (bool, string) { return len(c.ControlState().Events()) > 0, "" })
	written := c.Target.EndOffsets(control.TopicName("a-b"))[0]
	for range 1000 {
		flow.NoteEvent(control.Reload, "", "throttled topics changed")
	}
	flow.Stop()
	found := 0
	for _, e := range c.ControlState().Events() {
		if e.What == control.Reload {
			found += e.Count
		}
	}
	if now := c.Target.EndOffsets(control.TopicName("a-b"))[0]; found != 1000 || now-written > 6 {
		t.Errorf("%d events in %d records", found, now-written)
	}
}

// A broker that has just started may not know the control topic yet. What is paused is not copied because of that.
func TestStartDoesNotBelieveOneBroker(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 10, "first")
	c.SubmitWithin(0, replicatortest.NewDecision(control.Pause, control.OfTopic("orders")))
	ours := func(r kmsg.Request) bool { return len(r.(*kmsg.MetadataRequest).Topics) == 1 } // the others are about all topics
	c.Target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: control.TopicName("a-b"), Err: kerr.UnknownTopicOrPartition, Count: 1, When: ours})
	flow := c.Start()
	if p := untilPaused(flow, "orders", 0); p.Acked > 0 {
		t.Errorf("a paused partition was copied up to %d", p.Acked)
	}
}
