package replicator_test

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/groups"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

func TestGroupsAreSynced(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 2)
	c.Source.Produce("orders", 2, 100, "first")
	c.Source.CommitWithMetadata("middle", "orders", 0, 40, "here")
	c.Source.Commit("end", "orders", 1, 100)
	c.Source.Commit("start", "orders", 0, 0)
	c.Source.Commit("ahead", "orders", 0, 30)
	c.Source.Commit("connect-sink", "orders", 0, 30)
	flow := c.Start(replicatortest.FastGroups)
	flow.UntilAcked("orders", 200)
	c.Target.AwaitCommitted("middle", "a.orders", 0, c.TargetOffset("orders", 0, 40))
	c.Target.AwaitCommitted("end", "a.orders", 1, c.TargetOffset("orders", 1, 100))
	c.Target.AwaitCommitted("start", "a.orders", 0, c.TargetOffset("orders", 0, 0))
	c.Target.AwaitCommitted("ahead", "a.orders", 0, c.TargetOffset("orders", 0, 30))
	if _, metadata := c.Target.Committed("middle", "a.orders", 0); metadata != "here" {
		t.Errorf("metadata is %q", metadata)
	}
	if at, _ := c.Target.Committed("connect-sink", "a.orders", 0); at != -1 {
		t.Errorf("an excluded group is at %d", at)
	}

	// A group that consumed on the target is left where it is, and the status says so.
	c.Target.Commit("ahead", "a.orders", 0, 70)
	c.Source.Commit("ahead", "orders", 0, 50)
	flow.Until("the refusal is reported", func(s replicator.Status) bool {
		return len(s.Groups.Refusals) == 1 && s.Groups.Refusals[0].Group == "ahead" && s.Groups.Refusals[0].Reason == "own"
	})
	if at, _ := c.Target.Committed("ahead", "a.orders", 0); at != 70 {
		t.Errorf("the group was moved to %d", at)
	}

	// Only what is copied is promised: this group is behind the end of the source.
	c.Source.Commit("middle", "orders", 0, 1000)
	c.Target.AwaitCommitted("middle", "a.orders", 0, c.TargetOffset("orders", 0, 100))
	c.Verify("orders", "a.orders", 2)

	want := offsets.Checkpoint{Group: "end", Topic: "a.orders", Partition: 1, Source: 100, Target: c.TargetOffset("orders", 1, 100)}
	replicatortest.Eventually(t, "the newest checkpoint is the right one", func() (bool, string) {
		var newest offsets.Checkpoint
		for _, record := range c.Target.Records("a.checkpoints.internal", 1)[0] {
			c, err := offsets.DecodeCheckpoint(record.Key, record.Value)
			if err != nil {
				t.Fatal(err)
			}
			if c.Group == want.Group && c.Topic == want.Topic && c.Partition == want.Partition {
				newest = c
			}
		}
		return newest == want, fmt.Sprintf("%+v", newest)
	})
}

func TestCheckpointsAreWrittenAgainWhenTheirTopicIsRecreated(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 100, "first")
	c.Source.Commit("app", "orders", 0, 40)
	flow := c.Start(replicatortest.FastGroups)
	flow.UntilAcked("orders", 100)
	c.Target.AwaitRecords("a.checkpoints.internal", 1)
	c.Target.DeleteTopic("a.checkpoints.internal")
	replicatortest.Eventually(t, "the topic is there again, with its checkpoint", func() (bool, string) {
		ends, err := c.Target.Admin.ListEndOffsets(t.Context(), "a.checkpoints.internal")
		end, ok := ends.Lookup("a.checkpoints.internal", 0)
		return err == nil && ok && end.Offset > 0, fmt.Sprint(ends, err)
	})
}

func TestAGroupThatIsActiveOnTheTargetIsLeftAlone(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 100, "first")
	flow := c.Start(replicatortest.FastGroups)
	flow.UntilAcked("orders", 100)
	member, err := kgo.NewClient(kgo.SeedBrokers(c.Target.ListenAddrs()...), kgo.ConsumerGroup("app"), kgo.ConsumeTopics("a.orders"), kgo.DisableAutoCommit())
	if err != nil {
		t.Fatal(err)
	}
	defer member.Close()
	if fetches := member.PollFetches(t.Context()); fetches.Err() != nil {
		t.Fatal(fetches.Err())
	}
	c.Source.Commit("app", "orders", 0, 60)
	flow.Until("the refusal is reported", func(s replicator.Status) bool {
		return len(s.Groups.Refusals) == 1 && s.Groups.Refusals[0].Reason == "active"
	})
	if at, _ := c.Target.Committed("app", "a.orders", 0); at != -1 {
		t.Errorf("the group was moved to %d", at)
	}
	member.Close()
	c.Target.AwaitCommitted("app", "a.orders", 0, c.TargetOffset("orders", 0, 60))
}

// The group fails over, consumes there, fails back, and is followed again: its line leads from home to the copy and back.
func TestAGroupThatFailedOverFailsBackWithGroupsBack(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.GroupsBack = []string{"app"}
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 100, "first")
	for _, group := range []string{"app", "other"} {
		c.Source.Commit(group, "orders", 0, 40)
	}
	there := c.Start(replicatortest.FastGroups)
	there.UntilAcked("orders", 100)
	for _, group := range []string{"app", "other"} {
		c.Target.AwaitCommitted(group, "a.orders", 0, c.TargetOffset("orders", 0, 40))
	}
	moved := c.TargetOffset("orders", 0, 75)
	for _, group := range []string{"app", "other"} {
		c.Target.CommitWithMetadata(group, "a.orders", 0, moved, "failed over") // and has consumed on the target
	}

	back := c.StartReverse(replicatortest.FastGroups)
	back.UntilReady()
	c.Source.AwaitCommitted("app", "orders", 0, 75)
	if _, metadata := c.Source.Committed("app", "orders", 0); metadata != "failed over" {
		t.Errorf("metadata is %q", metadata)
	}
	c.Source.Commit("app", "orders", 0, 90) // and consumes at home again
	c.Target.AwaitCommitted("app", "a.orders", 0, c.TargetOffset("orders", 0, 90))
	c.Target.Commit("app", "a.orders", 0, c.TargetOffset("orders", 0, 95)) // the next failover
	c.Source.AwaitCommitted("app", "orders", 0, 95)
	back.UntilGroupSyncs(5)
	if at, _ := c.Source.Committed("other", "orders", 0); at != 40 {
		t.Errorf("a group that is not in groups_back was moved at home to %d", at)
	}
	if ends, err := c.Source.Admin.ListEndOffsets(t.Context(), "b.checkpoints.internal"); err == nil {
		if end, ok := ends.Lookup("b.checkpoints.internal", 0); ok && end.Offset > 0 {
			t.Errorf("%d checkpoints of groups at home", end.Offset)
		}
	}
}

// Two applications share a group id, one in each region, and both flows have their defaults.
func TestIndependentGroupsOfTheSameNameAreNotMoved(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	for _, cluster := range []*replicatortest.Cluster{c.Source, c.Target} {
		cluster.CreateTopic("orders", 1)
		cluster.Produce("orders", 1, 100, "x")
	}
	there, back := c.Start(replicatortest.FastGroups), c.StartReverse(replicatortest.FastGroups)
	there.UntilCopied("orders")
	back.UntilCopied("orders")
	type committed struct {
		cluster      *replicatortest.Cluster
		group, topic string
		at           int64
	}
	all := []committed{
		// First those on copies, so that no sync finds a home without its namesake.
		{c.Target, "remote-behind", "a.orders", 40},
		{c.Target, "home-behind", "a.orders", 100},
		{c.Source, "other", "b.orders", 90},
		{c.Target, "same-number", "a.orders", c.TargetOffset("orders", 0, 50)},
		{c.Source, "remote-behind", "orders", 100},
		{c.Source, "home-behind", "orders", 40},
		{c.Target, "other", "orders", 30},
		{c.Source, "same-number", "orders", 50},
	}
	for _, g := range all {
		g.cluster.Commit(g.group, g.topic, 0, g.at)
	}
	there.UntilGroupSyncs(20)
	back.UntilGroupSyncs(20)
	for _, g := range all {
		if at, _ := g.cluster.Committed(g.group, g.topic, 0); at != g.at {
			t.Errorf("%s was moved from %d to %d in %s", g.group, g.at, at, g.topic)
		}
	}
	there.Until("the groups are refused as own", func(s replicator.Status) bool { return s.Groups.Refused == 3 })
	if n := there.Metric("milena_group_positions_refused", "reason", "own"); n != 3 {
		t.Errorf("the metric says %v", n)
	}
}

func TestHeartbeatsReachBothSidesAndAreCopied(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	flow := c.Start(replicatortest.FastGroups)
	for _, side := range []struct {
		cluster      *replicatortest.Cluster
		topic        string
		source, dest string
	}{
		{c.Target, "heartbeats", "a", "b"},
		{c.Source, "heartbeats", "b", "a"},
		{c.Target, "a.heartbeats", "b", "a"},
	} {
		record := side.cluster.AwaitRecords(side.topic, 1)[0]
		h, err := offsets.DecodeHeartbeat(record.Key, record.Value)
		if err != nil || h.Source != side.source || h.Target != side.dest || !h.At.Equal(record.Timestamp) {
			t.Errorf("%s: %+v at %v, %v", side.topic, h, record.Timestamp, err)
		}
	}
	flow.Until("nothing is wrong", func(s replicator.Status) bool { return len(s.Groups.Problems) == 0 })
}

// openTranslator opens the translator of the flow with these changes.
func openTranslator(t *testing.T, c *replicatortest.Clusters, changes ...func(*config.Flow)) *groups.Translator {
	t.Helper()
	parsed := c.Config(changes...)
	flow := parsed.Flows[0]
	translator, err := groups.OpenTranslator(t.Context(), client.Clusters{
		Flow: flow, Source: parsed.Clusters[flow.Source], Target: parsed.Clusters[flow.Target], Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(translator.Close)
	return translator
}

func TestATranslatorWorksWhileTheFlowRunsAndWithoutTheSource(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 2)
	c.Source.Produce("orders", 2, 100, "first")
	c.Source.CommitWithMetadata("app", "orders", 0, 40, "here")
	c.Source.Commit("far", "orders", 1, 1000)
	flow := c.Start(replicatortest.FastGroups, func(f *config.Flow) { f.GroupsSync = false }) // the translator commits
	flow.UntilAcked("orders", 200)
	flow.UntilJournaled("orders")
	flow.Until("both groups are synced", func(s replicator.Status) bool { return s.Groups.Positions == 2 })
	replicatortest.Eventually(t, "the checkpoints are written", func() (bool, string) {
		ends, err := c.Target.Admin.ListEndOffsets(t.Context(), "a.checkpoints.internal")
		end, _ := ends.Lookup("a.checkpoints.internal", 0)
		return err == nil && end.Offset >= 2, fmt.Sprint(ends, err)
	})
	translator := openTranslator(t, c)

	positions, text, err := translator.Group(t.Context(), "app")
	want := c.TargetOffset("orders", 0, 40)
	if err != nil || text != "" || len(positions) != 1 || positions[0].Target != want || !positions[0].Exact || positions[0].Origin != offsets.FromJournal || positions[0].Lag != 60 {
		t.Errorf("the group: %+v, %q, %v; want %d", positions, text, err, want)
	}
	moved, refusals, err := translator.Commit(t.Context(), offsets.Target, "app", positions)
	if err != nil || moved != 1 || len(refusals) != 0 {
		t.Errorf("the commit: %d, %v, %v", moved, refusals, err)
	}
	if at, metadata := c.Target.Committed("app", "a.orders", 0); at != want || metadata != "here" {
		t.Errorf("the group is at %d %q", at, metadata)
	}
	c.Target.Commit("app", "a.orders", 0, want+5)
	if moved, refusals, err = translator.Commit(t.Context(), offsets.Target, "app", positions); err != nil || moved != 0 || len(refusals) != 1 || refusals[0].Reason != "ahead" {
		t.Errorf("a commit backwards: %d, %v, %v", moved, refusals, err)
	}
	back, err := translator.ReverseGroup(t.Context(), "app")
	if err != nil || len(back) != 1 || back[0].Topic != "orders" || back[0].Source != 45 {
		t.Errorf("the failback: %+v, %v", back, err)
	}
	far, _, err := translator.Group(t.Context(), "far")
	if err != nil || far[0].Target != c.TargetOffset("orders", 1, 100) || far[0].Exact {
		t.Errorf("a group beyond the copy: %+v, %v", far, err)
	}

	_, err = translator.Offset(t.Context(), "orders", 1, 101)
	var late *offsets.NotCopiedError
	if !errors.As(err, &late) || late.End != 100 {
		t.Errorf("beyond the copy: %v", err)
	}
	if _, err = translator.Offset(t.Context(), "__consumer_offsets", 0, 0); err == nil {
		t.Error("a topic that is not copied was translated")
	}
	if one, err := translator.ReverseOffset(t.Context(), "a.orders", 0, want); err != nil || one.Source != 40 || !one.Exact {
		t.Errorf("a reverse offset: %+v, %v", one, err)
	}
	var unknown *offsets.UnknownGroupError
	if _, _, err = translator.Group(t.Context(), "nobody"); !errors.As(err, &unknown) {
		t.Errorf("an unknown group: %v", err)
	}
	if moments, err := translator.At(t.Context(), "orders", time.UnixMilli(0)); err != nil || len(moments) != 2 || moments[0].Source != 0 || moments[0].Target != c.TargetOffset("orders", 0, 0) {
		t.Errorf("the beginning of time: %+v, %v", moments, err)
	}

	c.Source.Close() // without the source, its newest checkpoints are used
	positions, text, err = translator.Group(t.Context(), "app")
	if err != nil || text == "" || len(positions) != 1 || positions[0].Target != want || !positions[0].Exact {
		t.Errorf("without the source: %+v, %q, %v", positions, text, err)
	}
}
