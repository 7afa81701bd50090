package replicator_test

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/client"
)

// pass waits for n more looks at the groups.
func pass(r *running, n int) {
	r.t.Helper()
	for range n {
		last := r.flow.Status().Groups.LastPass
		r.until("a pass", func(s replicator.Status) bool { return s.Groups.LastPass.After(last) })
	}
}

// targetWrite writes n records of somebody else's.
func (p *pair) targetWrite(topic string, n int) {
	p.t.Helper()
	for i := range n {
		if err := p.targetCl.ProduceSync(p.t.Context(), &kgo.Record{Topic: topic, Value: fmt.Appendf(nil, "theirs-%d", i)}).FirstErr(); err != nil {
			p.t.Fatal(err)
		}
	}
}

// upTo deletes what stands below an offset of a topic's first partition.
func upTo(topic string, at int64) kadm.Offsets {
	var o kadm.Offsets
	o.Add(kadm.Offset{Topic: topic, Partition: 0, At: at, LeaderEpoch: -1})
	return o
}

// A partition that is halted as target_not_empty has no copy yet: the end of what is there belongs to somebody else.
func TestGroupsStayWhereNothingWasCopied(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 1)
	p.produce("orders", 1, 100, "ours")
	if err := p.target.CreateTopic("a.orders", 1, nil); err != nil {
		t.Fatal(err)
	}
	p.targetWrite("a.orders", 50)
	commit(t, p.sourceCl, "app", "orders", 0, 20, "")
	commit(t, p.targetCl, "app", "a.orders", 0, 20, "") // as MirrorMaker 2 had it
	r := p.start(withGroups)
	r.mustHalt("orders", 0, "target_not_empty")
	pass(r, 5)
	if at, _ := committed(t, p.targetCl, "app", "a.orders", 0); at != 20 {
		t.Errorf("the group was moved from 20 to %d though nothing was copied; %+v", at, r.flow.Status().Groups)
	}
}

// The map of a topic that was deleted says nothing of the one that was made again.
func TestGroupsAreNotPutIntoAnEmptyTopicByAnOldMap(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 1)
	p.produce("orders", 1, 100, "before")
	commit(t, p.sourceCl, "app", "orders", 0, 80, "")
	r := p.start(nil)
	p.settled(r, "orders")
	if err := r.stopped(); err != nil {
		t.Fatal(err)
	}
	if err := p.target.DeleteTopic("a.orders"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.sourceAdm.DeleteRecords(t.Context(), upTo("orders", 60)); err != nil {
		t.Fatal(err)
	}
	r = p.start(withGroups)
	r.mustHalt("orders", 0, "target_recreated")
	pass(r, 5)
	at, _ := committed(t, p.targetCl, "app", "a.orders", 0)
	t.Logf("halted: group at %d of an empty topic", at)
	if at > 0 {
		t.Errorf("the group was committed at %d of an empty topic", at)
	}
	if err := r.stopped(); err != nil {
		t.Fatal(err)
	}
	r = p.start(func(f *config.Flow) { withGroups(f); f.Anomalies["target_recreated"] = "restart" })
	p.settled(r, "orders")
	p.targetCl.PurgeTopicsFromClient("a.orders")
	pass(r, 5)
	at, _ = committed(t, p.targetCl, "app", "a.orders", 0)
	to := p.records(p.targetCl, p.target, "a.orders", 1)[0]
	for _, x := range to {
		if string(x.Value) == "before-0-80" {
			t.Logf("record 80 now stands at %d; group at %d; %+v", x.Offset, at, r.flow.Status().Groups)
			if at > x.Offset {
				t.Errorf("the group skips %d records", at-x.Offset)
			}
		}
	}
}

// The same while the flow runs, before its next look at the topics.
func TestGroupsFollowAMapThatBeginsAgain(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 1)
	p.produce("orders", 1, 100, "before")
	commit(t, p.sourceCl, "app", "orders", 0, 80, "")
	r := p.start(func(f *config.Flow) {
		withGroups(f)
		f.Anomalies["target_recreated"] = "restart"
		f.TopicsInterval = 2 * time.Second
	})
	p.settled(r, "orders")
	awaitCommitted(t, p.targetCl, "app", "a.orders", 0, p.copyOf("orders", 0, 80))
	if _, err := p.sourceAdm.DeleteRecords(t.Context(), upTo("orders", 60)); err != nil {
		t.Fatal(err)
	}
	if err := p.target.DeleteTopic("a.orders"); err != nil {
		t.Fatal(err)
	}
	// brokers drop a deleted topic's commits
	if _, err := p.targetAdm.DeleteGroups(t.Context(), "app"); err != nil {
		t.Fatal(err)
	}
	if err := p.target.CreateTopic("a.orders", 1, nil); err != nil {
		t.Fatal(err)
	}
	p.targetCl.PurgeTopicsFromClient("a.orders")
	eventually(t, "copied again", func() (bool, string) {
		s := r.flow.Status()
		for _, x := range s.Partitions {
			if x.Topic == "orders" {
				return s.Ready && x.TargetEnd < 60 && x.Acked == 100 && x.State == "replicating", fmt.Sprint(x)
			}
		}
		return false, ""
	})
	pass(r, 5)
	at, _ := committed(t, p.targetCl, "app", "a.orders", 0)
	for _, x := range p.records(p.targetCl, p.target, "a.orders", 1)[0] {
		if string(x.Value) == "before-0-80" && at > x.Offset {
			t.Errorf("record 80 stands at %d, the group at %d: skipped %d; %+v", x.Offset, at, at-x.Offset, r.flow.Status().Groups)
		}
	}
}

// Committed as it was, the position would be out of range.
func TestGroupsAreMovedBehindWhatRetentionDeleted(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 1)
	p.produce("orders", 1, 100, "x")
	commit(t, p.sourceCl, "app", "orders", 0, 40, "")
	r := p.start(withGroups)
	r.caughtUp("orders", 100)
	awaitCommitted(t, p.targetCl, "app", "a.orders", 0, p.copyOf("orders", 0, 40))
	eventually(t, "checkpoint written", func() (bool, string) {
		return r.metric("milena_internal_topic_records_total", "topic", "a.checkpoints.internal") >= 1, ""
	})
	pass(r, 5)
	resp, err := p.targetAdm.DeleteRecords(t.Context(), upTo("a.orders", 60))
	if err != nil || resp.Error() != nil {
		t.Fatal(err, resp.Error())
	}
	pass(r, 20)
	if at, _ := committed(t, p.targetCl, "app", "a.orders", 0); at < 60 {
		t.Errorf("the group is at %d, the target begins at 60: out of range", at)
	}
}

// The journal on the target still describes the earlier one.
func TestTheWayBackEndsAtATopicThatWasMadeAgain(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 1)
	p.produce("orders", 1, 100, "x")
	there := p.start(nil)
	there.caughtUp("orders", 100)
	p.settled(there, "orders")
	if err := there.stopped(); err != nil {
		t.Fatal(err)
	}
	commit(t, p.targetCl, "app", "a.orders", 0, p.copyOf("orders", 0, 75), "")
	p.recreate("orders", 1)
	p.produce("orders", 1, 10, "new")
	back := p.startBack(func(f *config.Flow) { withGroups(f); f.OffsetSyncs = config.OffsetSyncsOff })
	back.until("the way back runs", func(s replicator.Status) bool { return s.Ready && s.Groups.Positions > 0 })
	pass(back, 10)
	if at, _ := committed(t, p.sourceCl, "app", "orders", 0); at > 10 {
		t.Errorf("the group is at %d of a topic that was made again and ends at 10", at)
	}
}

// Nobody has consumed on the target: what it committed there is what milena put there.
func TestAGroupThatWasMovedBackAtHomeStaysThere(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 1)
	p.produce("orders", 1, 100, "x")
	commit(t, p.sourceCl, "app", "orders", 0, 75, "")
	there := p.start(withGroups)
	there.caughtUp("orders", 100)
	awaitCommitted(t, p.targetCl, "app", "a.orders", 0, p.copyOf("orders", 0, 75))
	back := p.startBack(func(f *config.Flow) { withGroups(f); f.OffsetSyncs = config.OffsetSyncsOff })
	back.until("the way back runs", func(s replicator.Status) bool { return s.Ready && s.Groups.Groups > 0 })
	commit(t, p.sourceCl, "app", "orders", 0, 10, "") // kafka-consumer-groups --reset-offsets --to-offset 10
	pass(back, 10)
	if at, _ := committed(t, p.sourceCl, "app", "orders", 0); at != 10 {
		t.Errorf("the group never consumed on the target; rewound to 10 on its own cluster, milena moved it to %d", at)
	}
}

// Never backwards holds for a position that is not known as well.
func TestAPositionThatCannotBeReadIsNotTakenForNone(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 1)
	p.produce("orders", 1, 100, "x")
	r := p.start(func(f *config.Flow) { withGroups(f); f.GroupsSync = false })
	r.caughtUp("orders", 100)
	if err := r.stopped(); err != nil {
		t.Fatal(err)
	}
	commit(t, p.targetCl, "app", "a.orders", 0, 90, "")
	commit(t, p.sourceCl, "app", "orders", 0, 30, "")
	p.target.ControlKey(int16(kmsg.OffsetFetch), func(k kmsg.Request) (kmsg.Response, error, bool) {
		p.target.KeepControl()
		req := k.(*kmsg.OffsetFetchRequest)
		resp := req.ResponseKind().(*kmsg.OffsetFetchResponse)
		for _, g := range req.Groups {
			rg := kmsg.NewOffsetFetchResponseGroup()
			rg.Group = g.Group
			rt := kmsg.NewOffsetFetchResponseGroupTopic()
			rt.Topic = "a.orders"
			if info := p.target.TopicInfo("a.orders"); info != nil {
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
	p.target.ControlKey(int16(kmsg.OffsetCommit), func(k kmsg.Request) (kmsg.Response, error, bool) {
		p.target.KeepControl()
		req := k.(*kmsg.OffsetCommitRequest)
		select {
		case moved <- req.Topics[0].Partitions[0].Offset:
		default:
		}
		return nil, nil, false
	})
	r = p.start(withGroups)
	r.until("ready", func(s replicator.Status) bool { return s.Ready && s.Groups.Positions > 0 })
	pass(r, 5)
	select {
	case at := <-moved:
		t.Errorf("a group at 90, whose position could not be read, was committed at %d", at)
	default:
	}
}

// What the group committed is an offset of the new topic.
func TestGroupsOfANewSourceTopicDoNotGoThroughTheOldMap(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 1)
	p.produce("orders", 1, 100, "old")
	r := p.start(withGroups)
	p.settled(r, "orders")
	p.recreate("orders", 1)
	p.produce("orders", 1, 60, "new")
	r.mustHalt("orders", 0, "recreated")
	commit(t, p.sourceCl, "app", "orders", 0, 30, "")
	pass(r, 5)
	s := r.flow.Status().Groups
	if at, _ := committed(t, p.targetCl, "app", "a.orders", 0); at >= 0 {
		t.Errorf("offset 30 of the new topic, of which nothing is copied, was committed as %d in the copy of the old one; %+v", at, s)
	}
}

// What the source has deleted since would be out of range.
func TestACommitBackBeginsWhereTheSourceDoes(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 1)
	p.produce("orders", 1, 100, "x")
	r := p.start(nil)
	p.settled(r, "orders")
	r.until("journalled", func(s replicator.Status) bool { return s.Partitions[0].Journaled >= 100 })
	commit(t, p.targetCl, "app", "a.orders", 0, p.copyOf("orders", 0, 45), "")
	if resp, err := p.sourceAdm.DeleteRecords(t.Context(), upTo("orders", 60)); err != nil || resp.Error() != nil {
		t.Fatal(err)
	}
	tr, err := replicator.OpenTranslator(t.Context(), client.Clusters{Flow: config.DefaultFlow("a", "b"), Source: config.Cluster{Brokers: p.source.ListenAddrs()}, Target: config.Cluster{Brokers: p.target.ListenAddrs()}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	back, err := tr.GroupBack(t.Context(), "app")
	t.Logf("%+v %v", back, err)
	n, refusals, err := tr.Commit(t.Context(), offsets.Source, "app", back)
	at, _ := committed(t, p.sourceCl, "app", "orders", 0)
	if at < 60 {
		t.Errorf("committed at %d on the source, which begins at 60 (%d %v %v)", at, n, refusals, err)
	}
}

// Another flow copied this topic before, and its journal is still there.
func TestATranslatorAsksItsOwnFlow(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 1)
	p.produce("orders", 1, 100, "x")
	r := p.start(nil)
	p.settled(r, "orders")
	if err := r.stopped(); err != nil {
		t.Fatal(err)
	}
	name := func(f *config.Flow) { f.Name = "second"; f.Anomalies["target_not_empty"] = "skip"; withGroups(f) }
	commit(t, p.sourceCl, "app", "orders", 0, 40, "")
	r = p.start(name)
	p.settled(r, "orders")
	r.until("journalled", func(s replicator.Status) bool {
		for _, x := range s.Partitions {
			if x.Topic == "orders" {
				return x.Journaled >= 100
			}
		}
		return false
	})
	pass(r, 5)
	flow := config.DefaultFlow("a", "b")
	flow.Name = "second"
	tr, err := replicator.OpenTranslator(t.Context(), client.Clusters{Flow: flow, Source: config.Cluster{Brokers: p.source.ListenAddrs()}, Target: config.Cluster{Brokers: p.target.ListenAddrs()}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	positions, _, err := tr.Group(t.Context(), "app")
	at, _ := committed(t, p.targetCl, "app", "a.orders", 0)
	if err != nil || positions[0].Target != at {
		t.Errorf("the flow commits %d, the translator of the same flow says %d exact %v by flow %s, %v", at, positions[0].Target, positions[0].Exact, positions[0].Flow, err)
	}
}

// It is needed for one group; the other one is on the way that needs none.
func TestAJournalWithoutAnAnswerHoldsUpNobodyElse(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	for i := range 8 {
		p.createTopic(fmt.Sprintf("t%d", i), 1)
		p.produce(fmt.Sprintf("t%d", i), 1, 10, "x")
	}
	there := p.start(nil)
	for i := range 8 {
		p.settled(there, fmt.Sprintf("t%d", i))
	}
	if err := there.stopped(); err != nil {
		t.Fatal(err)
	}
	if err := p.target.CreateTopic("bills", 1, nil); err != nil {
		t.Fatal(err)
	}
	p.targetWrite("bills", 50)
	for i := range 8 {
		commit(t, p.targetCl, "app", fmt.Sprintf("a.t%d", i), 0, 5, "")
	}
	commit(t, p.targetCl, "other", "bills", 0, 20, "")
	for _, k := range []kmsg.Key{kmsg.ListOffsets, kmsg.Fetch} {
		p.target.Fault(kfake.Fault{Keys: []kmsg.Key{k}, Topic: "milena.a-b.journal", Err: kerr.LeaderNotAvailable, Count: -1})
	}
	back := p.startBack(func(f *config.Flow) { withGroups(f); f.OffsetSyncs = config.OffsetSyncsOff })
	back.until("the flow runs", func(s replicator.Status) bool { return s.Ready })
	first := back.flow.Status().Groups.LastPass
	eventually(t, "the other group is in place", func() (bool, string) {
		at, _ := committed(t, p.sourceCl, "other", "b.bills", 0)
		return at >= 0, fmt.Sprintf("%+v", back.flow.Status().Groups)
	})
	back.until("the failure is told", func(s replicator.Status) bool {
		return s.Groups.LastPass.After(first) && s.Groups.Refused == 8 && s.Groups.Refusals[0].Reason == "failed"
	})
}
