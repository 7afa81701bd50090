package replicator_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/client"
)

func withGroups(f *config.Flow) {
	f.Groups, f.GroupsSync, f.GroupsInterval, f.OffsetSyncs = []string{".*"}, true, 20*time.Millisecond, config.OffsetSyncsTarget
	f.HeartbeatsInterval = 50 * time.Millisecond
}

// commit puts a group somewhere, without members.
func commit(t *testing.T, cl *kgo.Client, group, topic string, partition int32, at int64, metadata string) {
	t.Helper()
	var o kadm.Offsets
	o.Add(kadm.Offset{Topic: topic, Partition: partition, At: at, LeaderEpoch: -1, Metadata: metadata})
	if err := kadm.NewClient(cl).CommitAllOffsets(t.Context(), group, o); err != nil {
		t.Fatal(err)
	}
}

// copyOf is where the copy of the record at a source offset stands, found by reading both logs: a marker may stand before it. The end of
// the source gives the end of the copy.
func (p *pair) copyOf(topic string, partition int32, source int64) int64 {
	p.t.Helper()
	from, to := p.records(p.sourceCl, p.source, topic, partition+1)[partition], p.records(p.targetCl, p.target, "a."+topic, partition+1)[partition]
	for i, r := range from {
		if r.Offset == source {
			return to[i].Offset
		}
	}
	return to[len(to)-1].Offset + 1
}

func committed(t *testing.T, cl *kgo.Client, group, topic string, partition int32) (int64, string) {
	t.Helper()
	fetched, err := kadm.NewClient(cl).FetchOffsets(t.Context(), group)
	if errors.Is(err, kerr.GroupIDNotFound) {
		return -1, ""
	}
	if err != nil {
		t.Fatal(err)
	}
	o, ok := fetched.Lookup(topic, partition)
	if !ok {
		return -1, ""
	}
	return o.At, o.Metadata
}

func awaitCommitted(t *testing.T, cl *kgo.Client, group, topic string, partition int32, want int64) {
	t.Helper()
	eventually(t, fmt.Sprintf("group %s at %d of %s-%d", group, want, topic, partition), func() (bool, string) {
		got, _ := committed(t, cl, group, topic, partition)
		return got == want, fmt.Sprintf("is at %d", got)
	})
}

func eventually(t *testing.T, what string, ok func() (bool, string)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		done, state := ok()
		if done {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not within %v: %s; %s", patience, what, state)
		case <-tick.C:
		}
	}
}

// records reads a topic's first partition as it is.
func records(t *testing.T, addresses []string, topic string, n int) []*kgo.Record {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addresses...), kgo.ConsumeTopics(topic))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var list []*kgo.Record
	for len(list) < n {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%d records of %s, want %d", len(list), topic, n)
		}
		list = append(list, fetches.Records()...)
	}
	return list
}

func TestGroupsFollowToTheTarget(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 2)
	p.produce("orders", 2, 100, "first")
	commit(t, p.sourceCl, "middle", "orders", 0, 40, "here")
	commit(t, p.sourceCl, "end", "orders", 1, 100, "")
	commit(t, p.sourceCl, "start", "orders", 0, 0, "")
	commit(t, p.sourceCl, "ahead", "orders", 0, 30, "")
	commit(t, p.sourceCl, "connect-sink", "orders", 0, 30, "")
	r := p.start(func(f *config.Flow) { withGroups(f); f.GroupsExclude = []string{"connect-.*"} })
	r.caughtUp("orders", 200)
	awaitCommitted(t, p.targetCl, "middle", "a.orders", 0, p.copyOf("orders", 0, 40))
	awaitCommitted(t, p.targetCl, "end", "a.orders", 1, p.copyOf("orders", 1, 100))
	awaitCommitted(t, p.targetCl, "start", "a.orders", 0, p.copyOf("orders", 0, 0))
	awaitCommitted(t, p.targetCl, "ahead", "a.orders", 0, p.copyOf("orders", 0, 30))
	if _, metadata := committed(t, p.targetCl, "middle", "a.orders", 0); metadata != "here" {
		t.Errorf("metadata is %q", metadata)
	}
	if at, _ := committed(t, p.targetCl, "connect-sink", "a.orders", 0); at != -1 {
		t.Errorf("an excluded group is at %d", at)
	}

	// A group that moved on over there is not moved back, and the status says so.
	commit(t, p.targetCl, "ahead", "a.orders", 0, 70, "")
	commit(t, p.sourceCl, "ahead", "orders", 0, 50, "")
	r.until("the refusal is told", func(s replicator.Status) bool {
		return len(s.Groups.Refusals) == 1 && s.Groups.Refusals[0].Group == "ahead" && s.Groups.Refusals[0].Reason == "ahead"
	})
	if at, _ := committed(t, p.targetCl, "ahead", "a.orders", 0); at != 70 {
		t.Errorf("the group was moved to %d", at)
	}

	// What was not copied yet is not promised: here the group stands behind the end.
	commit(t, p.sourceCl, "middle", "orders", 0, 1000, "")
	awaitCommitted(t, p.targetCl, "middle", "a.orders", 0, p.copyOf("orders", 0, 100))
	p.verify("orders", "a.orders", 2)

	want := offsets.Checkpoint{Group: "end", Topic: "a.orders", Partition: 1, Source: 100, Target: p.copyOf("orders", 1, 100)}
	eventually(t, "the newest checkpoint is the right one", func() (bool, string) {
		var newest offsets.Checkpoint
		for _, record := range p.records(p.targetCl, p.target, "a.checkpoints.internal", 1)[0] {
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

func TestCheckpointsAreWrittenAgainWhenTheirTopicIsMadeAgain(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 1)
	p.produce("orders", 1, 100, "first")
	commit(t, p.sourceCl, "app", "orders", 0, 40, "")
	r := p.start(withGroups)
	r.caughtUp("orders", 100)
	records(t, p.target.ListenAddrs(), "a.checkpoints.internal", 1)
	if _, err := p.targetAdm.DeleteTopic(t.Context(), "a.checkpoints.internal"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the topic is there again, with its checkpoint", func() (bool, string) {
		ends, err := p.targetAdm.ListEndOffsets(t.Context(), "a.checkpoints.internal")
		end, ok := ends.Lookup("a.checkpoints.internal", 0)
		return err == nil && ok && end.Offset > 0, fmt.Sprint(ends, err)
	})
}

func TestAGroupThatIsActiveOnTheTargetIsLeftAlone(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 1)
	p.produce("orders", 1, 100, "first")
	r := p.start(withGroups)
	r.caughtUp("orders", 100)
	member, err := kgo.NewClient(kgo.SeedBrokers(p.target.ListenAddrs()...), kgo.ConsumerGroup("app"), kgo.ConsumeTopics("a.orders"), kgo.DisableAutoCommit())
	if err != nil {
		t.Fatal(err)
	}
	defer member.Close()
	if fetches := member.PollFetches(t.Context()); fetches.Err() != nil {
		t.Fatal(fetches.Err())
	}
	commit(t, p.sourceCl, "app", "orders", 0, 60, "")
	r.until("the refusal is told", func(s replicator.Status) bool {
		return len(s.Groups.Refusals) == 1 && s.Groups.Refusals[0].Reason == "active"
	})
	if at, _ := committed(t, p.targetCl, "app", "a.orders", 0); at != -1 {
		t.Errorf("the group was moved to %d", at)
	}
	member.Close()
	awaitCommitted(t, p.targetCl, "app", "a.orders", 0, p.copyOf("orders", 0, 60))
}

func TestAGroupThatFailedOverFindsItsWayBack(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 1)
	p.produce("orders", 1, 100, "first")
	commit(t, p.sourceCl, "app", "orders", 0, 40, "")
	there := p.start(withGroups)
	there.caughtUp("orders", 100)
	awaitCommitted(t, p.targetCl, "app", "a.orders", 0, p.copyOf("orders", 0, 40))
	moved := p.copyOf("orders", 0, 75)
	commit(t, p.targetCl, "app", "a.orders", 0, moved, "over there") // it has failed over and gone on

	back := p.startBack(func(f *config.Flow) { withGroups(f); f.OffsetSyncs = config.OffsetSyncsOff })
	back.until("the way back runs", func(s replicator.Status) bool { return s.Ready })
	awaitCommitted(t, p.sourceCl, "app", "orders", 0, 75)
	if _, metadata := committed(t, p.sourceCl, "app", "orders", 0); metadata != "over there" {
		t.Errorf("metadata is %q", metadata)
	}
	c, err := offsets.DecodeCheckpoint(func() ([]byte, []byte) {
		list := records(t, p.source.ListenAddrs(), "b.checkpoints.internal", 1)
		return list[len(list)-1].Key, list[len(list)-1].Value
	}())
	if err != nil || c.Group != "app" || c.Topic != "orders" || c.Source != moved || c.Target != 75 {
		t.Errorf("the reverse checkpoint is %+v, %v", c, err)
	}
}

func TestHeartbeatsReachBothSidesAndAreCopied(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 1)
	r := p.start(withGroups)
	for _, side := range []struct {
		addresses    []string
		topic        string
		source, dest string
	}{
		{p.target.ListenAddrs(), "heartbeats", "a", "b"},
		{p.source.ListenAddrs(), "heartbeats", "b", "a"},
		{p.target.ListenAddrs(), "a.heartbeats", "b", "a"},
	} {
		eventually(t, side.topic+" exists", func() (bool, string) {
			topics, err := kadm.NewClient(p.targetCl).ListTopics(t.Context())
			return err == nil && topics.Has("a.heartbeats"), fmt.Sprint(topics.Names(), err)
		})
		record := records(t, side.addresses, side.topic, 1)[0]
		h, err := offsets.DecodeHeartbeat(record.Key, record.Value)
		if err != nil || h.Source != side.source || h.Target != side.dest || !h.At.Equal(record.Timestamp) {
			t.Errorf("%s: %+v at %v, %v", side.topic, h, record.Timestamp, err)
		}
	}
	r.until("nothing is wrong", func(s replicator.Status) bool { return len(s.Groups.Problems) == 0 })
}

func TestATranslatorAnswersBesideTheFlowAndWithoutTheSource(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 2)
	p.produce("orders", 2, 100, "first")
	commit(t, p.sourceCl, "app", "orders", 0, 40, "here")
	commit(t, p.sourceCl, "far", "orders", 1, 1000, "")
	r := p.start(func(f *config.Flow) { withGroups(f); f.GroupsSync = false })
	r.caughtUp("orders", 200)
	r.until("everything is journalled", func(s replicator.Status) bool {
		for _, part := range s.Partitions {
			if part.Topic == "orders" && part.Journaled < 100 {
				return false
			}
		}
		return s.Groups.Positions == 2
	})
	eventually(t, "the checkpoints are written", func() (bool, string) {
		ends, err := p.targetAdm.ListEndOffsets(t.Context(), "a.checkpoints.internal")
		end, _ := ends.Lookup("a.checkpoints.internal", 0)
		return err == nil && end.Offset >= 2, fmt.Sprint(ends, err)
	})
	flow := config.DefaultFlow("a", "b")
	translator, err := replicator.OpenTranslator(t.Context(), client.Clusters{
		Flow: flow, Source: config.Cluster{Brokers: p.source.ListenAddrs()}, Target: config.Cluster{Brokers: p.target.ListenAddrs()}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer translator.Close()

	positions, text, err := translator.Group(t.Context(), "app")
	want := p.copyOf("orders", 0, 40)
	if err != nil || text != "" || len(positions) != 1 || positions[0].Target != want || !positions[0].Exact || positions[0].Origin != offsets.FromJournal || positions[0].Lag != 60 {
		t.Errorf("the group: %+v, %q, %v; want %d", positions, text, err, want)
	}
	moved, refusals, err := translator.Commit(t.Context(), offsets.Target, "app", positions)
	if err != nil || moved != 1 || len(refusals) != 0 {
		t.Errorf("the commit: %d, %v, %v", moved, refusals, err)
	}
	if at, metadata := committed(t, p.targetCl, "app", "a.orders", 0); at != want || metadata != "here" {
		t.Errorf("the group is at %d %q", at, metadata)
	}
	commit(t, p.targetCl, "app", "a.orders", 0, want+5, "")
	if moved, refusals, err = translator.Commit(t.Context(), offsets.Target, "app", positions); err != nil || moved != 0 || len(refusals) != 1 || refusals[0].Reason != "ahead" {
		t.Errorf("a commit backwards: %d, %v, %v", moved, refusals, err)
	}
	back, err := translator.GroupBack(t.Context(), "app")
	if err != nil || len(back) != 1 || back[0].Topic != "orders" || back[0].Source != 45 {
		t.Errorf("the way back: %+v, %v", back, err)
	}
	far, _, err := translator.Group(t.Context(), "far")
	if err != nil || far[0].Target != p.copyOf("orders", 1, 100) || far[0].Exact {
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
	if one, err := translator.OffsetBack(t.Context(), "a.orders", 0, want); err != nil || one.Source != 40 || !one.Exact {
		t.Errorf("an offset back: %+v, %v", one, err)
	}
	var unknown *offsets.UnknownGroupError
	if _, _, err = translator.Group(t.Context(), "nobody"); !errors.As(err, &unknown) {
		t.Errorf("an unknown group: %v", err)
	}
	if moments, err := translator.At(t.Context(), "orders", time.UnixMilli(0)); err != nil || len(moments) != 2 || moments[0].Source != 0 || moments[0].Target != p.copyOf("orders", 0, 0) {
		t.Errorf("the beginning of time: %+v, %v", moments, err)
	}

	p.source.Close() // the source is gone: its newest checkpoints tell
	positions, text, err = translator.Group(t.Context(), "app")
	if err != nil || text == "" || len(positions) != 1 || positions[0].Target != want || !positions[0].Exact {
		t.Errorf("without the source: %+v, %q, %v", positions, text, err)
	}
}
