package replicator_test

import (
	"testing"

	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// Topic ids appear on both sides while the flow runs, as when inter.broker.protocol.version is raised, then disappear and appear again. The
// topics stay the same topics.
func TestTopicIDsAppearAndDisappear(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 2)
	c.Source.HideTopicIDs()
	c.Target.HideTopicIDs()
	c.Source.CreateTopic("orders", 6)
	c.Source.CreateTopic("payments", 2)
	stop := c.Source.Load("orders", 6)
	flow := c.Start(replicatortest.FastTopics)
	flow.UntilReady()
	flow.UntilProgress("orders", 200)
	for _, change := range []struct {
		what string
		do   func()
	}{
		{"the source has ids", c.Source.ShowTopicIDs},
		{"the target has ids", c.Target.ShowTopicIDs},
		{"the source has none again", c.Source.HideTopicIDs},
		{"the target has none again", c.Target.HideTopicIDs},
		{"both have ids", func() { c.Source.ShowTopicIDs(); c.Target.ShowTopicIDs() }},
	} {
		change.do()
		flow.UntilTopicSyncs(2)
		flow.UntilProgress("orders", 200)
		c.Source.Produce("payments", 2, 10, change.what)
		flow.UntilCopied("payments")
	}
	stop()
	flow.UntilCopied("orders")
	flow.UntilJournaled("orders")
	if n := flow.Metric("milena_anomalies_total"); n > 0 {
		t.Errorf("%v anomalies", n)
	}
	flow.Stop()

	// The journal has the ids by now, so a topic that is recreated is another one.
	c.Source.RecreateTopic("payments", 2)
	c.Source.Produce("payments", 2, 100, "another topic")
	flow = c.Start()
	flow.UntilHaltedBy("recreated", "payments", 0)
	flow.UntilCopied("orders")
	flow.Stop()
	c.Verify("orders", "a.orders", 6)
}

// A flow that begins without topic ids, ends, and goes on with them; and the other way.
func TestTopicIDsChangeBetweenStarts(t *testing.T) {
	for name, before := range map[string]func(*replicatortest.Cluster){
		"appear":    (*replicatortest.Cluster).HideTopicIDs,
		"disappear": (*replicatortest.Cluster).ShowTopicIDs,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := replicatortest.NewClusters(t, 1)
			clusters := []*replicatortest.Cluster{c.Source, c.Target}
			for _, cluster := range clusters {
				before(cluster)
			}
			c.Source.CreateTopic("orders", 3)
			flow := c.Start()
			for round := range 2 {
				c.Source.Produce("orders", 3, 20, name)
				flow.UntilCopied("orders")
				flow.Stop()
				for _, cluster := range clusters {
					if name == "appear" {
						cluster.ShowTopicIDs()
					} else {
						cluster.HideTopicIDs()
					}
				}
				if round == 0 {
					flow = c.Start()
				}
			}
			c.Verify("orders", "a.orders", 3)
			if n := flow.Metric("milena_anomalies_total"); n > 0 {
				t.Errorf("%v anomalies", n)
			}
		})
	}
}

// The journal of a flow that began without ids gets the ids when they are known, whatever else happens to a topic: one that gets no records
// afterwards is told from a topic that was recreated, too.
func TestJournalLearnsTheIDsOfAQuietTopic(t *testing.T) {
	for _, side := range []string{"source", "target"} {
		t.Run(side, func(t *testing.T) {
			t.Parallel()
			c := replicatortest.NewClusters(t, 1)
			c.Source.HideTopicIDs()
			c.Target.HideTopicIDs()
			c.Source.CreateTopic("orders", 1)
			c.Source.Produce("orders", 1, 20, "old")
			flow := c.Start()
			flow.UntilJournaled("orders")
			flow.Stop()
			c.Source.ShowTopicIDs()
			c.Target.ShowTopicIDs()
			flow = c.Start()
			flow.UntilReady()
			flow.UntilTopicSyncs(1)
			flow.Stop() // writes the journal
			kind := "recreated"
			if side == "source" {
				c.Source.RecreateTopic("orders", 1)
				c.Source.Produce("orders", 1, 40, "new")
			} else {
				kind = "target_recreated"
				c.Target.RecreateTopic("a.orders", 1)
			}
			flow = c.Start()
			flow.UntilHaltedBy(kind, "orders", 0)
			flow.Stop()
		})
	}
}
