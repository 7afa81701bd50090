package replicator_test

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// A throttled topic gets hardly anything through, its neighbour everything, and once the throttle ends nothing is missing.
func TestThrottleOfATopic(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.CreateTopic("bills", 1)
	flow := c.Start()
	flow.UntilCopied("orders")
	rate := func(d *control.Decision) { d.Rate = 1 }
	c.Decide(control.Done, control.Throttle, control.OfTopic("orders"), rate)
	c.Source.Write(&kgo.Record{Topic: "orders", Value: make([]byte, 30_000)})
	flow.UntilCopied("orders") // which has to be paid for hours
	for range 29 {
		c.Source.Write(&kgo.Record{Topic: "orders", Value: make([]byte, 30_000)})
	}
	c.Source.Produce("bills", 1, 100, "free")
	flow.UntilCopied("bills")
	c.VerifyNewTopic(flow, "more")
	flow.Until("the lag is known", func(s replicator.Status) bool {
		p := replicatortest.Partitions(s, "orders")[0]
		return p.LagRecords != nil && *p.SourceEnd == 30
	})
	if p := replicatortest.Partitions(flow.Status(), "orders")[0]; p.Acked > 1 {
		t.Errorf("%d records of 30 kB came through at 1 byte/s", p.Acked)
	}
	if force := flow.Status().Control.InForce; len(force) != 1 || force[0].BytesPerSecond != 1 || force[0].What != control.Throttle {
		t.Errorf("in force: %+v", force)
	}
	c.Decide(control.Done, control.Throttle, control.OfTopic("orders"))
	flow.UntilCopied("orders")
	flow.Stop()
	c.Verify("orders", "a.orders", 1)
}

// A position that somebody else put is not moved, until a person says that it counts as put by milena.
func TestAdoptionOfAGroup(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 20, "first")
	flow := c.Start(func(f *config.Flow) { f.GroupsInterval, f.GroupsSync = 100*time.Millisecond, true })
	flow.UntilCopied("orders")
	c.Target.Commit("billing", "a.orders", 0, 5)
	c.Source.Commit("billing", "orders", 0, 10)
	flow.Until("the position of others is left alone", func(s replicator.Status) bool {
		return s.Groups != nil && len(s.Groups.Refusals) == 1 && s.Groups.Refusals[0].Reason == "own"
	})
	c.Decide(control.Done, control.Adopt, control.Scope{Kind: control.Group, Group: "billing"})
	want := c.TargetOffset("orders", 0, 10)
	c.Target.AwaitCommitted("billing", "a.orders", 0, want)
	c.Source.Commit("billing", "orders", 0, 4) // back, too
	want = c.TargetOffset("orders", 0, 4)
	c.Target.AwaitCommitted("billing", "a.orders", 0, want)
	s := c.Decide(control.Done, control.Adopt, control.Scope{Kind: control.Group, Group: "nobody"})
	if d := s.Outcomes[0].Detail; d != "group nobody is not one that the flow follows" {
		t.Errorf("%q", d)
	}
}

// While the sync of groups is paused, an adoption is refused at once, and has no effect later.
func TestAdoptionWhileGroupsArePaused(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 20, "first")
	flow := c.Start(func(f *config.Flow) { f.GroupsInterval, f.GroupsSync = 100*time.Millisecond, true })
	flow.UntilCopied("orders")
	groups, billing := control.Scope{Kind: control.Groups}, control.Scope{Kind: control.Group, Group: "billing"}
	c.Decide(control.Done, control.Pause, groups)
	s := c.Decide(control.Refused, control.Adopt, billing)
	if d := s.Outcomes[0].Detail; !strings.Contains(d, "because alice paused that (a test)") || !strings.Contains(d, "milena resume --groups") {
		t.Errorf("%q", d)
	}
	c.Target.Commit("billing", "a.orders", 0, 5)
	c.Source.Commit("billing", "orders", 0, 10)
	c.Decide(control.Done, control.Resume, groups)
	flow.Until("the position of others is left alone", func(s replicator.Status) bool {
		return s.Groups != nil && len(s.Groups.Refusals) == 1 && s.Groups.Refusals[0].Reason == "own"
	})
	c.Decide(control.Done, control.Adopt, billing)
	c.Target.AwaitCommitted("billing", "a.orders", 0, c.TargetOffset("orders", 0, 10))
}
