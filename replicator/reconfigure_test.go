package replicator_test

import (
	"testing"
	"time"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// selects sets the topics that a flow selects.
func selects(topics ...string) func(*config.Flow) {
	return func(f *config.Flow) { f.Topics = topics }
}

// reconfigure changes the config of a running flow.
func reconfigure(t *testing.T, flow *replicatortest.Flow, changes ...func(*config.Flow)) {
	t.Helper()
	if err := flow.Reconfigure(changes...); err != nil {
		t.Fatal(err)
	}
}

// One topic leaves the flow, one joins it, and one stays. The one that has left comes back and goes on where it was.
func TestTopicsChangeWhileAFlowRuns(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	slow := func(f *config.Flow) { f.TopicsInterval = time.Hour } // so only the reload can be the cause
	for _, topic := range []string{"stays", "leaves", "joins"} {
		c.Source.CreateTopic(topic, 2)
		c.Source.Produce(topic, 2, 50, "one")
	}
	flow := c.Start(slow, selects("stays", "leaves"))
	flow.UntilCopied("stays")
	flow.UntilCopied("leaves")
	before := flow.Metric("milena_records_total", "topic", "stays")

	reconfigure(t, flow, selects("stays", "joins"))
	flow.Until("the topic has left", func(s replicator.Status) bool { return len(replicatortest.Partitions(s, "leaves")) == 0 })
	for _, topic := range []string{"stays", "leaves", "joins"} {
		c.Source.Produce(topic, 2, 50, "two")
	}
	flow.UntilCopied("stays")
	flow.UntilCopied("joins")
	flow.UntilReady()
	if n := len(c.Target.Texts("a.leaves", 2)[0]); n != 50 {
		t.Errorf("a topic that is not selected has %d records in partition 0, want the 50 of before", n)
	}
	if lag := flow.Metric("milena_lag_records", "topic", "leaves"); lag != 0 {
		t.Errorf("a topic that is not selected has a lag of %v", lag)
	}
	if now := flow.Metric("milena_records_total", "topic", "stays"); now != before+100 {
		t.Errorf("%v records of the topic that stays were counted before and %v after 100 more", before, now)
	}

	reconfigure(t, flow, selects(".*"))
	flow.UntilCopied("leaves")
	for _, topic := range []string{"stays", "leaves", "joins"} {
		c.Verify(topic, "a."+topic, 2)
	}
	flow.Stop()
	flow = c.Start()
	flow.UntilCopied("leaves")
	c.Verify("leaves", "a.leaves", 2)
}

// A topic leaves while much of it is in flight, again and again. Nothing is lost and nothing is written twice.
func TestTopicsLeaveUnderLoad(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 4)
	flow := c.Start(selects("orders"))
	flow.UntilReady()
	for range 5 {
		c.Source.Produce("orders", 4, 400, "word")
		reconfigure(t, flow, selects("other"))
		c.Source.Produce("orders", 4, 10, "word")
		flow.Until("the topic has left", func(s replicator.Status) bool { return len(replicatortest.Partitions(s, "orders")) == 0 })
		reconfigure(t, flow, selects("orders"))
		flow.UntilProgress("orders", 1)
	}
	flow.UntilCopied("orders")
	c.Verify("orders", "a.orders", 4)
}

// A topic that leaves and is selected again before it has left.
func TestATopicIsSelectedAgainAtOnce(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 4)
	flow := c.Start()
	flow.UntilReady()
	for range 10 {
		c.Source.Produce("orders", 4, 100, "word")
		reconfigure(t, flow, selects("other"))
		reconfigure(t, flow, selects("orders"))
	}
	flow.UntilCopied("orders")
	flow.UntilReady()
	c.Verify("orders", "a.orders", 4)
}

// A partition is halted, and policy changes to skip. It goes on, as after a restart; one that is halted by something else does not.
func TestAPolicyDecidesAboutWhatIsHalted(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	for _, topic := range []string{"orders", "bills"} {
		c.Source.CreateTopic(topic, 1)
		c.Source.Produce(topic, 1, 20, "old")
	}
	flow := c.Start()
	flow.UntilCopied("orders")
	flow.UntilCopied("bills")
	for _, topic := range []string{"orders", "bills"} {
		c.Source.RecreateTopic(topic, 1)
		c.Source.Produce(topic, 1, 30, "new")
		flow.UntilHaltedBy("recreated", topic, 0)
	}
	restart := func(f *config.Flow) {
		f.AnomaliesByTopic = []config.TopicAnomalies{{Topics: []string{"orders"}, Anomalies: map[string]string{"recreated": "restart"}}}
	}
	reconfigure(t, flow, restart)
	flow.UntilPartitions("the new topic is copied", "orders", 1, func(p replicator.PartitionStatus) bool { return p.TargetEnd >= 50 })
	flow.UntilHalted("bills", 0)
	if n := len(c.Target.Texts("a.bills", 1)[0]); n != 20 {
		t.Errorf("the topic whose policy did not change has %d records", n)
	}
}

// With start: latest, a topic that exists and is selected anew starts at its end, and one that is created later at its beginning.
func TestStartLatestAppliesToTopicsThatAreSelectedAnew(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	latest := func(f *config.Flow) { f.Start = config.StartLatest }
	for _, topic := range []string{"first", "second"} {
		c.Source.CreateTopic(topic, 1)
		c.Source.Produce(topic, 1, 20, "old")
	}
	flow := c.Start(latest, selects("first"))
	flow.UntilReady()
	reconfigure(t, flow, selects(".*"))
	flow.UntilPartitions("the topic is there", "second", 1, func(p replicator.PartitionStatus) bool { return p.State == "replicating" })
	c.Source.CreateTopic("third", 1)
	c.Source.Produce("third", 1, 5, "new")
	c.Source.Produce("second", 1, 5, "new")
	flow.UntilCopied("third")
	flow.UntilCopied("second")
	if second, third := len(c.Target.Texts("a.second", 1)[0]), len(c.Target.Texts("a.third", 1)[0]); second != 5 || third != 5 {
		t.Errorf("%d records of the topic that was there and %d of the new one were copied, want 5 each", second, third)
	}
}

// Groups that are selected anew are synced, with the interval of the reload. Nothing of the copies changes.
func TestGroupsChangeWhileAFlowRuns(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 50, "one")
	c.Source.Commit("apps", "orders", 0, 30)
	flow := c.Start(func(f *config.Flow) { f.Groups, f.GroupsInterval = []string{"none"}, time.Hour })
	flow.UntilCopied("orders")
	reconfigure(t, flow, func(f *config.Flow) { f.Groups, f.GroupsInterval = []string{"apps"}, 200*time.Millisecond })
	flow.Until("the group is synced", func(s replicator.Status) bool {
		return s.Groups != nil && s.Groups.Groups == 1 && s.Groups.Positions == 1
	})
	c.Verify("orders", "a.orders", 1)
}

// An objective is added, changed and removed while the copy goes on, and is missed while a partition lacks what the source had before it.
func TestObjectivesChangeWhileAFlowRuns(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 50, "one")
	flow := c.Start()
	flow.UntilCopied("orders")
	objectives := func(rpo, rto time.Duration) func(*config.Flow) {
		return func(f *config.Flow) { f.RPO, f.RTO = &rpo, &rto }
	}
	reconfigure(t, flow, objectives(time.Hour, time.Minute))
	flow.Until("the objective is met", func(s replicator.Status) bool {
		return s.RPO.ObjectiveSeconds == 3600 && !s.RPO.ObjectiveMissed && s.RTOObjectiveSeconds == 60
	})
	c.Decide(control.Done, control.Pause, replicatortest.TP("orders", 0))
	c.Source.Produce("orders", 1, 30, "two")
	reconfigure(t, flow, objectives(time.Millisecond, time.Minute))
	flow.Until("the objective is missed by a topic", func(s replicator.Status) bool {
		return s.RPO.ObjectiveMissed && len(s.RPO.Topics) == 1 && s.RPO.Topics[0].Topic == "orders" && s.RPO.Topics[0].MissingRecords == 30 && len(s.RPO.Topics[0].Behind) == 1
	})
	reconfigure(t, flow, func(f *config.Flow) { f.RPO, f.RTO = nil, nil })
	flow.Until("there is no objective", func(s replicator.Status) bool {
		return s.RPO.ObjectiveSeconds == 0 && !s.RPO.ObjectiveMissed && s.RTOObjectiveSeconds == 0
	})
}

// Settings of the process take effect, and a key that cannot change leaves the flow as it is.
func TestAFlowRefusesWhatCannotChange(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	flow := c.Start(selects("orders"))
	flow.UntilReady()
	err := flow.Reconfigure(selects("other"), func(f *config.Flow) { f.Shards = 7 })
	if err == nil || err.Error() != "flow a-b: shards cannot change while the flow runs" {
		t.Errorf("the error is %v", err)
	}
	c.Source.Produce("orders", 1, 10, "word")
	flow.UntilCopied("orders")
	c.Verify("orders", "a.orders", 1)
}
