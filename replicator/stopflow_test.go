package replicator_test

import (
	"strings"
	"testing"

	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// A flow is stopped under load. It does nothing, also after a restart: it copies nothing and creates no topic. It goes on where it was once it is started.
func TestStopOfAFlow(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 2)
	load := c.Source.Load("orders", 2)
	flow := c.Start(replicatortest.FastJournal, replicatortest.FastTopics)
	flow.UntilProgress("orders", 200)
	s := c.Decide(control.Done, control.FailOver, control.Scope{Kind: control.Flow})
	if d := s.Outcomes[0].Detail; !strings.HasSuffix(d, "nothing is in flight") {
		t.Errorf("the answer is %q", d)
	}
	journaled := replicatortest.Partitions(flow.Status(), "orders")
	for _, p := range journaled {
		if p.Journaled != p.Acked {
			t.Errorf("orders-%d is copied up to %d, and the journal says %d", p.Partition, p.Acked, p.Journaled)
		}
	}
	copies := c.Target.Records("a.orders", 2)
	c.Source.CreateTopic("late", 1)
	flow.Stop()
	flow = c.Start(replicatortest.FastJournal, replicatortest.FastTopics)
	flow.UntilTopicSyncs(3)
	status := flow.Status()
	if !status.Ready || len(status.Control.InForce) != 1 || status.Control.InForce[0].What != control.FailOver {
		t.Errorf("ready: %v, %v, in force: %+v", status.Ready, status.NotReady, status.Control.InForce)
	}
	if now := c.Target.Records("a.orders", 2); len(now[0]) != len(copies[0]) || len(now[1]) != len(copies[1]) {
		t.Errorf("the copies have %d and %d records, and had %d and %d when the flow was stopped", len(now[0]), len(now[1]), len(copies[0]), len(copies[1]))
	}
	if c.Target.TopicInfo("a.late") != nil {
		t.Error("a stopped flow created a topic")
	}
	c.Decide(control.Done, control.StartFlow, control.Scope{Kind: control.Flow})
	load()
	flow.UntilCopied("orders")
	flow.UntilCopied("late")
	flow.Stop()
	c.Verify("orders", "a.orders", 2)
}
