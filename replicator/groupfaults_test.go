package replicator_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// A partition that is halted as target_not_empty has no copy yet: the end of its target topic is the end of unrelated records.
func TestGroupsAreNotMovedIfNothingWasCopied(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 100, "ours")
	c.Target.CreateTopic("a.orders", 1)
	c.Target.Produce("a.orders", 1, 50, "theirs")
	c.Source.Commit("app", "orders", 0, 20)
	c.Target.Commit("app", "a.orders", 0, 20) // as MirrorMaker 2 had it
	flow := c.Start(replicatortest.FastGroups)
	flow.UntilHaltedBy("target_not_empty", "orders", 0)
	flow.UntilGroupSyncs(5)
	if at, _ := c.Target.Committed("app", "a.orders", 0); at != 20 {
		t.Errorf("the group was moved from 20 to %d though nothing was copied; %+v", at, flow.Status().Groups)
	}
}

// The map of a deleted topic does not apply to the topic that replaced it.
func TestGroupsAreNotCommittedInAnEmptyTopicByAnOldMap(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 100, "before")
	c.Source.Commit("app", "orders", 0, 80)
	flow := c.Start()
	flow.UntilCopied("orders")
	flow.Stop()
	c.Target.DeleteTopic("a.orders")
	c.Source.DeleteRecords("orders", 0, 60)
	flow = c.Start(replicatortest.FastGroups)
	flow.UntilHaltedBy("target_recreated", "orders", 0)
	flow.UntilGroupSyncs(5)
	at, _ := c.Target.Committed("app", "a.orders", 0)
	t.Logf("halted: group at %d of an empty topic", at)
	if at > 0 {
		t.Errorf("the group was committed at %d of an empty topic", at)
	}
	flow.Stop()
	flow = c.Start(replicatortest.FastGroups, replicatortest.OnAnomaly("target_recreated", "restart"))
	flow.UntilCopied("orders")
	c.Target.Client.PurgeTopicsFromClient("a.orders")
	flow.UntilGroupSyncs(5)
	at, _ = c.Target.Committed("app", "a.orders", 0)
	to := c.Target.Records("a.orders", 1)[0]
	for _, x := range to {
		if string(x.Value) == "before-0-80" {
			t.Logf("record 80 is now at %d, the group at %d; %+v", x.Offset, at, flow.Status().Groups)
			if at > x.Offset {
				t.Errorf("the group skips %d records", at-x.Offset)
			}
		}
	}
}

// The same while the flow runs, before its next topic sync.
func TestGroupsFollowTheNewMapOfARecreatedTopic(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 100, "before")
	c.Source.Commit("app", "orders", 0, 80)
	flow := c.Start(replicatortest.FastGroups, replicatortest.OnAnomaly("target_recreated", "restart"))
	flow.UntilCopied("orders")
	c.Target.AwaitCommitted("app", "a.orders", 0, c.TargetOffset("orders", 0, 80))
	c.Source.DeleteRecords("orders", 0, 60)
	c.Target.DeleteTopic("a.orders")
	// Brokers delete the committed offsets of a deleted topic.
	if _, err := c.Target.Admin.DeleteGroups(t.Context(), "app"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Target.Admin.CreateTopic(t.Context(), 1, 1, nil, "a.orders"); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) { // the flow may be faster
		t.Fatal(err)
	}
	c.Target.Client.PurgeTopicsFromClient("a.orders")
	flow.UntilPartitions("orders is copied again", "orders", 1, func(p replicator.PartitionStatus) bool {
		return p.TargetEnd < 60 && p.Acked == 100 && p.State == "replicating"
	})
	flow.UntilReady()
	flow.UntilGroupSyncs(5)
	at, _ := c.Target.Committed("app", "a.orders", 0)
	for _, x := range c.Target.Records("a.orders", 1)[0] {
		if string(x.Value) == "before-0-80" && at > x.Offset {
			t.Errorf("record 80 is at %d, the group at %d: skipped %d; %+v", x.Offset, at, at-x.Offset, flow.Status().Groups)
		}
	}
}

// The committed offset as it was would be out of range.
func TestGroupsAreMovedBehindWhatRetentionDeleted(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 100, "x")
	c.Source.Commit("app", "orders", 0, 40)
	flow := c.Start(replicatortest.FastGroups)
	flow.UntilAcked("orders", 100)
	c.Target.AwaitCommitted("app", "a.orders", 0, c.TargetOffset("orders", 0, 40))
	replicatortest.Eventually(t, "a checkpoint is written", func() (bool, string) {
		return flow.Metric("milena_internal_topic_records_total", "topic", "a.checkpoints.internal") >= 1, ""
	})
	flow.UntilGroupSyncs(5)
	c.Target.DeleteRecords("a.orders", 0, 60)
	flow.UntilGroupSyncs(20)
	if at, _ := c.Target.Committed("app", "a.orders", 0); at < 60 {
		t.Errorf("the group is at %d, the target begins at 60: out of range", at)
	}
}

// The journal on the target still describes the earlier topic.
func TestFailbackIgnoresTheJournalOfAnEarlierTopic(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.GroupsBack = []string{".*"}
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 100, "x")
	c.Source.Commit("app", "orders", 0, 5)
	there := c.Start(replicatortest.FastGroups)
	there.UntilCopied("orders")
	c.Target.AwaitCommitted("app", "a.orders", 0, c.TargetOffset("orders", 0, 5))
	there.Stop()
	c.Target.Commit("app", "a.orders", 0, c.TargetOffset("orders", 0, 75))
	c.Source.RecreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 10, "new")
	back := c.StartReverse(replicatortest.FastGroups)
	back.Until("the position is refused", func(s replicator.Status) bool {
		return len(s.Groups.Refusals) == 1 && s.Groups.Refusals[0].Reason == "recreated"
	})
	back.UntilGroupSyncs(5)
	if at, _ := c.Source.Committed("app", "orders", 0); at > 10 {
		t.Errorf("the group is at %d of a recreated topic that ends at 10", at)
	}
}

// Anyone who may create topics on the source can write a journal there.
func TestAJournalOfNoConfiguredFlowMovesNoGroup(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.GroupsBack = []string{".*"}
	c.Source.CreateTopic("payments", 1)
	c.Source.Produce("payments", 1, 10, "x")
	c.Source.Commit("app", "payments", 0, 3)
	c.Target.CreateTopic("bait", 1)
	c.Target.Produce("bait", 1, 10, "x")
	c.Target.Commit("app", "bait", 0, 10)
	c.Target.CreateTopic("milena.aaa.journal", 1)
	state := &offsets.PartitionState{
		Topic: "payments", SourceClusterID: "source-cluster", SourceTopicID: c.Source.TopicInfo("payments").TopicID, TargetTopic: "bait", TargetTopicID: c.Target.TopicInfo("bait").TopicID,
		End: offsets.Pair{Source: 999999, Target: 10}, LeaderEpoch: -1,
	}
	chunk := &offsets.Chunk{Topic: "payments", Previous: -1, Segments: []offsets.Segment{{Source: 999989, Target: 0, Count: 10}}}
	line := &offsets.GroupPositions{Group: "app", Topic: "bait", Placed: []offsets.PlacedOffset{{Source: 3, Put: 1, Before: 1}}}
	for _, e := range []offsets.Entry{state, chunk, line} {
		if err := c.Target.Client.ProduceSync(t.Context(), &kgo.Record{Topic: "milena.aaa.journal", Key: e.AppendKey(nil), Value: e.AppendValue(nil)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	back := c.StartReverse(replicatortest.FastGroups)
	back.UntilReady()
	back.UntilGroupSyncs(10)
	if at, _ := c.Source.Committed("app", "payments", 0); at != 3 {
		t.Errorf("the group was moved to %d by a forged journal", at)
	}
}

// A group's home has moved on since it was put on the other side: both sides have consumed.
func TestAHomeThatHasChangedSinceIsNotMoved(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.GroupsBack = []string{".*"}
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 100, "x")
	c.Source.Commit("app", "orders", 0, 40)
	there := c.Start(replicatortest.FastGroups)
	there.UntilCopied("orders")
	c.Target.AwaitCommitted("app", "a.orders", 0, c.TargetOffset("orders", 0, 40))
	there.Stop()
	c.Target.Commit("app", "a.orders", 0, c.TargetOffset("orders", 0, 75))
	c.Source.Commit("app", "orders", 0, 45)
	back := c.StartReverse(replicatortest.FastGroups)
	back.Until("the position is refused", func(s replicator.Status) bool {
		return len(s.Groups.Refusals) == 1 && s.Groups.Refusals[0].Reason == "own"
	})
	if at, _ := c.Source.Committed("app", "orders", 0); at != 45 {
		t.Errorf("the group was moved at home from 45 to %d", at)
	}
}

// The group has not consumed on the target: its committed offset there is the one that milena wrote.
func TestAGroupThatWasRewoundOnTheSourceIsFollowed(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.GroupsBack = []string{".*"}
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 100, "x")
	c.Source.Commit("app", "orders", 0, 75)
	there := c.Start(replicatortest.FastGroups)
	there.UntilAcked("orders", 100)
	c.Target.AwaitCommitted("app", "a.orders", 0, c.TargetOffset("orders", 0, 75))
	back := c.StartReverse(replicatortest.FastGroups)
	back.Until("the reverse flow syncs groups", func(s replicator.Status) bool { return s.Ready && s.Groups.Groups > 0 })
	c.Source.Commit("app", "orders", 0, 10) // kafka-consumer-groups --reset-offsets --to-offset 10
	c.Target.AwaitCommitted("app", "a.orders", 0, c.TargetOffset("orders", 0, 10))
	back.UntilGroupSyncs(10)
	if at, _ := c.Source.Committed("app", "orders", 0); at != 10 {
		t.Errorf("the group never consumed on the target; rewound to 10 on its own cluster, milena moved it to %d", at)
	}
}

// "Never backwards" includes a committed offset that cannot be read.
func TestAnUnreadableCommittedOffsetIsNotOverwritten(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 100, "x")
	flow := c.Start(func(f *config.Flow) { f.GroupsSync = false }) // the test commits itself
	flow.UntilAcked("orders", 100)
	flow.Stop()
	c.Target.Commit("app", "a.orders", 0, 90)
	c.Source.Commit("app", "orders", 0, 30)
	c.Target.ControlKey(int16(kmsg.OffsetFetch), func(k kmsg.Request) (kmsg.Response, error, bool) {
		c.Target.KeepControl()
		req := k.(*kmsg.OffsetFetchRequest)
		resp := req.ResponseKind().(*kmsg.OffsetFetchResponse)
		for _, g := range req.Groups {
			rg := kmsg.NewOffsetFetchResponseGroup()
			rg.Group = g.Group
			rt := kmsg.NewOffsetFetchResponseGroupTopic()
			rt.Topic = "a.orders"
			if info := c.Target.TopicInfo("a.orders"); info != nil {
				rt.TopicID = info.TopicID
			}
			rp := kmsg.NewOffsetFetchResponseGroupTopicPartition()
			rp.Offset, rp.ErrorCode = -1, kerr.UnstableOffsetCommit.Code
			rt.Partitions = append(rt.Partitions, rp)
			rg.Topics = append(rg.Topics, rt)
			resp.Groups = append(resp.Groups, rg)
		}
		return resp, nil, true
	})
	moved := make(chan int64, 100)
	c.Target.ControlKey(int16(kmsg.OffsetCommit), func(k kmsg.Request) (kmsg.Response, error, bool) {
		c.Target.KeepControl()
		req := k.(*kmsg.OffsetCommitRequest)
		select {
		case moved <- req.Topics[0].Partitions[0].Offset:
		default:
		}
		return nil, nil, false
	})
	flow = c.Start(replicatortest.FastGroups)
	flow.Until("ready", func(s replicator.Status) bool { return s.Ready && s.Groups.Positions > 0 })
	flow.UntilGroupSyncs(5)
	select {
	case at := <-moved:
		t.Errorf("a group at 90, whose committed offset could not be read, was committed at %d", at)
	default:
	}
}

// The committed offset of the group is one of the new topic.
func TestGroupsOfANewSourceTopicAreNotTranslatedByTheOldMap(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 100, "old")
	flow := c.Start(replicatortest.FastGroups)
	flow.UntilCopied("orders")
	c.Source.RecreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 60, "new")
	flow.UntilHaltedBy("recreated", "orders", 0)
	c.Source.Commit("app", "orders", 0, 30)
	flow.UntilGroupSyncs(5)
	s := flow.Status().Groups
	if at, _ := c.Target.Committed("app", "a.orders", 0); at >= 0 {
		t.Errorf("offset 30 of the new topic, of which nothing is copied, was committed as %d in the copy of the old one; %+v", at, s)
	}
}

// Offsets that the source has deleted since would be out of range.
func TestAFailbackCommitIsNotBeforeTheStartOfTheSource(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 100, "x")
	flow := c.Start()
	flow.UntilCopied("orders")
	flow.UntilJournaled("orders")
	c.Target.Commit("app", "a.orders", 0, c.TargetOffset("orders", 0, 45))
	c.Source.DeleteRecords("orders", 0, 60)
	tr := openTranslator(t, c)
	back, err := tr.ReverseGroup(t.Context(), "app")
	t.Logf("%+v %v", back, err)
	n, refusals, err := tr.Commit(t.Context(), offsets.Source, "app", back)
	at, _ := c.Source.Committed("app", "orders", 0)
	if at < 60 {
		t.Errorf("committed at %d on the source, which begins at 60 (%d %v %v)", at, n, refusals, err)
	}
}

// Another flow copied this topic before, and its journal still exists.
func TestATranslatorReadsTheJournalOfItsFlow(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 100, "x")
	flow := c.Start()
	flow.UntilCopied("orders")
	flow.Stop()
	second := func(f *config.Flow) { f.Name = "second" }
	c.Source.Commit("app", "orders", 0, 40)
	flow = c.Start(second, replicatortest.OnAnomaly("target_not_empty", "skip"), replicatortest.FastGroups)
	flow.UntilCopied("orders")
	flow.UntilJournaled("orders")
	flow.UntilGroupSyncs(5)
	tr := openTranslator(t, c, second)
	positions, _, err := tr.Group(t.Context(), "app")
	at, _ := c.Target.Committed("app", "a.orders", 0)
	if err != nil || positions[0].Target != at {
		t.Errorf("the flow commits %d, the translator of the same flow says %d exact %v by flow %s, %v", at, positions[0].Target, positions[0].Exact, positions[0].Flow, err)
	}
}

// One group needs the journal for its failback; the other one does not.
func TestAnUnavailableJournalDelaysNoOtherGroup(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.GroupsBack = []string{"app"}
	for i := range 8 {
		c.Source.CreateTopic(fmt.Sprintf("t%d", i), 1)
		c.Source.Produce(fmt.Sprintf("t%d", i), 1, 10, "x")
		c.Source.Commit("app", fmt.Sprintf("t%d", i), 0, 2)
	}
	there := c.Start(replicatortest.FastGroups)
	for i := range 8 {
		there.UntilCopied(fmt.Sprintf("t%d", i))
		c.Target.AwaitCommitted("app", fmt.Sprintf("a.t%d", i), 0, c.TargetOffset(fmt.Sprintf("t%d", i), 0, 2))
	}
	there.Stop()
	c.Target.CreateTopic("bills", 1)
	c.Target.Produce("bills", 1, 50, "theirs")
	for i := range 8 {
		c.Target.Commit("app", fmt.Sprintf("a.t%d", i), 0, 5)
	}
	c.Target.Commit("other", "bills", 0, 20)
	for _, k := range []kmsg.Key{kmsg.ListOffsets, kmsg.Fetch} {
		c.Target.Fault(kfake.Fault{Keys: []kmsg.Key{k}, Topic: "milena.a-b.journal", Err: kerr.LeaderNotAvailable, Count: -1})
	}
	back := c.StartReverse(replicatortest.FastGroups)
	back.UntilReady()
	replicatortest.Eventually(t, "the other group is synced", func() (bool, string) {
		at, _ := c.Source.Committed("other", "b.bills", 0)
		return at >= 0, fmt.Sprintf("%+v", back.Status().Groups)
	})
	back.Until("the failure is reported", func(s replicator.Status) bool {
		return s.Groups.Refused == 8 && s.Groups.Refusals[0].Reason == "failed"
	})
}

// Another flow has copied a topic of the same name to the same place before, and a partition of the source does not answer.
func TestATimeIsTranslatedByTheJournalOfTheFlow(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 2)
	c.Source.Produce("orders", 2, 100, "x")
	flow := c.Start()
	flow.UntilCopied("orders")
	flow.UntilJournaled("orders")
	flow.Stop()
	second := func(f *config.Flow) { f.Name = "second" }
	flow = c.Start(second, replicatortest.OnAnomaly("target_not_empty", "skip"))
	flow.UntilCopied("orders")
	flow.UntilJournaled("orders")
	tr := openTranslator(t, c, second)
	c.Source.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Topic: "orders", Partitions: []int32{1}, Err: kerr.UnknownServerError, Count: -1})
	answers, err := tr.At(t.Context(), "orders", time.UnixMilli(0))
	if err != nil || len(answers) != 2 || answers[0].Err != nil || answers[0].Source != 0 || answers[1].Err == nil || answers[1].Partition != 1 {
		t.Errorf("with one partition that does not answer: %+v, %v", answers, err)
	}
	c.Source.Close()
	answers, err = tr.At(t.Context(), "orders", time.UnixMilli(0))
	if err != nil || len(answers) != 2 {
		t.Fatalf("without the source: %+v, %v", answers, err)
	}
	for _, a := range answers {
		if a.Err == nil && a.Flow != "second" {
			t.Errorf("answered by the journal of %q: %+v", a.Flow, a)
		}
	}
}
