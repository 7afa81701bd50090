package replicator_test

import (
	"testing"
	"time"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// untilConfigsSynced waits for a sync of topic configs that began after the call.
func untilConfigsSynced(flow *replicatortest.Flow) {
	now := time.Now()
	flow.Until("a sync of the configs", func(s replicator.Status) bool { return s.Configs != nil && s.Configs.LastPass.After(now) })
}

// Without configs_sync the standby's own configs stay: at a restart, when a topic is new, and at each sync.
func TestConfigsSyncOff(t *testing.T) {
	t.Parallel()
	off := func(f *config.Flow) { f.ConfigsSync, f.ConfigsInterval = false, time.Second }
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1, "cleanup.policy", "compact")
	c.Source.Produce("orders", 1, 10, "one")
	flow := c.Start(off)
	flow.UntilCopied("orders")
	if got, _ := c.Target.TopicConfig("a.orders", "cleanup.policy"); got != "compact" {
		t.Errorf("the copy was created with cleanup.policy %q, not as its source", got)
	}
	flow.Stop()

	const year = "31536000000"
	c.Target.SetTopicConfig("a.orders", "retention.ms", year)
	c.Source.SetTopicConfig("orders", "segment.ms", "3600000")
	flow = c.Start(off)
	flow.UntilCopied("orders")
	c.Source.CreateTopic("later", 1)
	c.Source.Produce("later", 1, 10, "two")
	flow.UntilCopied("later")
	untilConfigsSynced(flow)
	if got, _ := c.Target.TopicConfig("a.orders", "retention.ms"); got != year {
		t.Errorf("retention.ms of the copy is %q, want %q as set on the target", got, year)
	}
	if got, own := c.Target.TopicConfig("a.orders", "segment.ms"); own {
		t.Errorf("segment.ms of the copy is %q, copied although configs_sync is off", got)
	}
}

// Without topics_refresh the topics and partitions of the start are copied, and later ones after a restart.
func TestTopicsRefreshOff(t *testing.T) {
	t.Parallel()
	off := func(f *config.Flow) { f.TopicsRefresh, f.TopicsInterval = false, 100*time.Millisecond }
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 10, "one")
	flow := c.Start(off)
	flow.UntilCopied("orders")
	c.Source.CreateTopic("later", 1)
	c.Source.AddPartitions("orders", 2)
	synced := flow.Metric("milena_passes_total", "pass", "topics", "result", "done")
	flow.Until("two more syncs of topics", func(replicator.Status) bool {
		return flow.Metric("milena_passes_total", "pass", "topics", "result", "done") >= synced+2
	})
	if n := len(flow.Status().Partitions); n != 1 {
		t.Errorf("%d partitions are copied, want the one of the start", n)
	}
	if ends := c.Target.EndOffsets("a.orders"); len(ends) != 1 {
		t.Errorf("the copy has %d partitions, want 1", len(ends))
	}
	flow.Stop()
	flow = c.Start(off)
	flow.UntilPartitions("both partitions are copied", "orders", 2, func(replicator.PartitionStatus) bool { return true })
	flow.UntilCopied("later")
}

// Without checkpoints the offsets are committed on the target all the same.
func TestCheckpointsOff(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 10, "one")
	c.Source.Commit("billing", "orders", 0, 7)
	flow := c.Start(replicatortest.FastGroups, func(f *config.Flow) { f.Checkpoints, f.Heartbeats = false, false })
	flow.UntilCopied("orders")
	c.Target.AwaitCommitted("billing", "a.orders", 0, c.TargetOffset("orders", 0, 7))
	flow.UntilGroupSyncs(2)
	state := c.Target.State()
	for _, topic := range []string{"a.checkpoints.internal", "heartbeats"} {
		if _, ok := state[topic+"-0"]; ok {
			t.Errorf("topic %s exists, although it is off", topic)
		}
	}
}

// Without groups_refresh the groups of the first sync are synced.
func TestGroupsRefreshOff(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 10, "one")
	c.Source.Commit("billing", "orders", 0, 7)
	flow := c.Start(replicatortest.FastGroups, func(f *config.Flow) { f.GroupsRefresh = false })
	flow.UntilCopied("orders")
	c.Target.AwaitCommitted("billing", "a.orders", 0, c.TargetOffset("orders", 0, 7))
	c.Source.Commit("later", "orders", 0, 5)
	c.Source.Commit("billing", "orders", 0, 9)
	c.Target.AwaitCommitted("billing", "a.orders", 0, c.TargetOffset("orders", 0, 9))
	if at, _ := c.Target.Committed("later", "a.orders", 0); at >= 0 {
		t.Errorf("group later was committed at %d", at)
	}
}
