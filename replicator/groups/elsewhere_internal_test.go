package groups

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
)

// away is a copy that another process has, as its journal describes it.
type away struct {
	w     *world
	m     *offsets.Map
	state offsets.PartitionState
}

// away creates a source topic of one partition and its remote topic with some records, whose copy is elsewhere. Nothing is journaled yet.
func (w *world) away(topic string, records int64, start offsets.Pair) *away {
	w.t.Helper()
	c := w.copies(topic, 0, records)
	delete(w.host.copies, c.tp)
	w.host.elsewhere[c.tp] = true
	return &away{w, offsets.NewMap(start.Source, start.Target), offsets.PartitionState{
		Topic: topic, TargetTopic: "a." + topic, SourceTopicID: c.source, TargetTopicID: c.target,
		SourceClusterID: w.host.View(offsets.Source).ClusterID, LeaderEpoch: -1,
	}}
}

// journals appends segments to the map, and writes it to the journal.
func (a *away) journals(segments ...offsets.Segment) *away {
	a.w.t.Helper()
	for _, s := range segments {
		if err := a.m.Append(s.Source, s.Target, s.Count); err != nil {
			a.w.t.Fatal(err)
		}
	}
	changes, _ := a.m.Changed()
	var entries []offsets.Entry
	for _, c := range a.state.Apply(changes) {
		entries = append(entries, c)
	}
	a.m.MarkJournaled(changes)
	a.writes(entries...)
	return a
}

// writes writes entries and the state to the journal.
func (a *away) writes(entries ...offsets.Entry) {
	a.w.t.Helper()
	var records []*kgo.Record
	for _, e := range append(entries, &a.state) {
		records = append(records, &kgo.Record{Topic: a.w.host.journal, Key: e.AppendKey(nil), Value: e.AppendValue(nil)})
	}
	if err := a.w.host.target.ProduceSync(a.w.t.Context(), records...).FirstErr(); err != nil {
		a.w.t.Fatal(err)
	}
}

// begin begins a sync.
func (w *world) begin(s *Syncer) *pass {
	w.t.Helper()
	p := &pass{Syncer: s}
	if err := p.begin(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return p
}

func toTranslate(topic string, at int64) *position {
	return &position{
		group: "app", source: offsets.TopicPartition{Topic: topic}, sourceOffset: at, target: offsets.TopicPartition{Topic: "a." + topic},
	}
}

func TestPositionsInCopiesOfOtherProcessesAreTranslatedWithTheJournal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	orders := w.away("orders", 100, offsets.Pair{Source: 10, Target: 20})
	orders.journals(offsets.Segment{Source: 10, Target: 20, Count: 10}, offsets.Segment{Source: 25, Target: 31, Count: 5})
	w.away("fresh", 100, offsets.Pair{Source: 10, Target: 0}).journals(offsets.Segment{Source: 10, Target: 0, Count: 10})
	w.away("unlisted", 100, offsets.Pair{})
	for _, topic := range []string{"source", "target", "renamed", "cluster"} {
		a := w.away(topic, 100, offsets.Pair{})
		switch topic {
		case "source":
			a.state.SourceTopicID[0] ^= 1
		case "target":
			a.state.TargetTopicID[0] ^= 1
		case "renamed":
			a.state.TargetTopic = "elsewhere"
		case "cluster":
			a.state.SourceClusterID = "another"
		}
		a.journals(offsets.Segment{Count: 10})
	}
	s := w.newSyncer()
	for _, c := range []struct {
		name       string
		topic      string
		at         int64
		migration  Migration
		want       int64
		unfinished bool
		refusal    policy.Refusal
	}{
		{"at a copied record", "orders", 13, nil, 23, false, ""},
		{"between copied records", "orders", 22, nil, 31, false, ""},
		{"at the end", "orders", 30, nil, 36, false, ""},
		{"above the end", "orders", 31, nil, 36, true, ""},
		{"before the start", "orders", 3, nil, 0, false, policy.RefusedBeforeStart},
		{"before the migration", "orders", 3, fakeMigration{12}, 12, false, ""},
		{"before the migration, at most the start of the map", "orders", 3, fakeMigration{500}, 20, false, ""},
		{"before all offset-syncs", "orders", 3, fakeMigration{-1}, 0, false, policy.RefusedBeforeStart},
		{"before the first copy", "fresh", 3, nil, 0, false, ""},
		{"not listed", "unlisted", 3, nil, 0, false, policy.RefusedNotCopied},
		{"the source topic was recreated", "source", 3, nil, 0, false, policy.RefusedRecreated},
		{"the remote topic was recreated", "target", 3, nil, 0, false, policy.RefusedRecreated},
		{"another remote topic", "renamed", 3, nil, 0, false, policy.RefusedRecreated},
		{"another source cluster", "cluster", 3, nil, 0, false, policy.RefusedRecreated},
	} {
		s.deps.Migration = c.migration
		p := w.begin(s)
		q := toTranslate(c.topic, c.at)
		p.translate(t.Context(), q)
		if q.refusal != c.refusal || q.targetOffset != c.want || q.unfinished != c.unfinished || q.refusal != "" && q.detail == "" {
			t.Errorf("%s: translated to %d, unfinished %v, refused %q (%s)", c.name, q.targetOffset, q.unfinished, q.refusal, q.detail)
		}
	}
	w.host.elsewhere = nil // another process had the shard, and has it no more
	q := toTranslate("orders", 13)
	if w.begin(s).translate(t.Context(), q); q.refusal != policy.RefusedNotCopied {
		t.Errorf("with a shard that nobody has: translated to %d, refused %q", q.targetOffset, q.refusal)
	}
}

// What the target's retention has deleted is not needed to know where to go on.
func TestFromBeforeAMapElsewhereThatTheLogStartsWith(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.away("orders", 100, offsets.Pair{Source: 10, Target: 20}).journals(offsets.Segment{Source: 10, Target: 20, Count: 10})
	request := kmsg.NewPtrDeleteRecordsRequest()
	topic := kmsg.NewDeleteRecordsRequestTopic()
	topic.Topic = "a.orders"
	partition := kmsg.NewDeleteRecordsRequestTopicPartition()
	partition.Offset = 20
	topic.Partitions = append(topic.Partitions, partition)
	request.Topics = append(request.Topics, topic)
	if _, err := request.RequestWith(t.Context(), w.host.target); err != nil {
		t.Fatal(err)
	}
	q := toTranslate("orders", 3)
	w.begin(w.newSyncer()).translate(t.Context(), q)
	if q.refusal != "" || q.targetOffset != 20 {
		t.Errorf("translated to %d, refused %q (%s)", q.targetOffset, q.refusal, q.detail)
	}
}

func TestAHaltElsewhereForARewrittenLogIsRefused(t *testing.T) {
	t.Parallel()
	gap := func(kind policy.Kind, action policy.Action, to int64) offsets.Gap {
		return offsets.Gap{Kind: string(kind), Action: string(action), From: 10, To: to}
	}
	for i, c := range []struct {
		name string
		gaps []offsets.Gap
		want policy.Refusal
	}{
		{"truncated", []offsets.Gap{gap(policy.Truncated, policy.Halt, 12)}, policy.RefusedRecreated},
		{"recreated", []offsets.Gap{gap(policy.Recreated, policy.Halt, 10)}, policy.RefusedRecreated},
		{"the target was recreated", []offsets.Gap{gap(policy.TargetRecreated, policy.Halt, 10)}, policy.RefusedRecreated},
		{"before other gaps", []offsets.Gap{gap(policy.Recreated, policy.Halt, 10), gap(policy.CopyDeleted, policy.Skip, 10)}, policy.RefusedRecreated},
		{"skipped since", []offsets.Gap{gap(policy.Truncated, policy.Halt, 12), gap(policy.Truncated, policy.Skip, 12)}, ""},
		{"copied on since", []offsets.Gap{gap(policy.Truncated, policy.Halt, 9)}, ""},
		{"another kind", []offsets.Gap{gap(policy.ForeignWrite, policy.Halt, 10)}, ""},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			a := w.away("orders", 100, offsets.Pair{})
			a.state.Gaps = c.gaps
			a.journals(offsets.Segment{Count: 10})
			q := toTranslate("orders", 3)
			if w.begin(w.newSyncer()).translate(t.Context(), q); q.refusal != c.want {
				t.Errorf("%s: translated to %d, refused %q (%s)", c.name, q.targetOffset, q.refusal, q.detail)
			}
		})
	}
}

// A group follows a copy of another process. While the journal is behind what the group was put at, it stays.
func TestGroupsFollowCopiesOfOtherProcesses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.away("orders", 100, offsets.Pair{}).journals(offsets.Segment{Target: 5, Count: 40})
	w.commit(w.host.source, "app", "orders", 50)
	s := w.newSyncer()
	at := func(want int64) {
		t.Helper()
		w.sync(s)
		if at := w.committed(w.host.target, "app", "a.orders"); at != want {
			t.Errorf("committed at %d, want %d", at, want)
		}
	}
	at(45) // the end
	a.journals(offsets.Segment{Source: 40, Target: 45, Count: 20})
	at(55)
	end := a.state.End
	a.state.End = offsets.Pair{Source: 45, Target: 50} // as if this process had the copy until now, and knew more than the journal
	a.writes()
	w.commit(w.host.source, "app", "orders", 51)
	at(55)
	a.state.End = end
	a.writes()
	at(56)
	w.commit(w.host.source, "app", "orders", 10)
	at(15) // the group was reset
}

// A chunk of groups asks the journal once, whatever the number of positions, also if it cannot be read.
func TestASyncReadsTheJournalOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.away("orders", 100, offsets.Pair{}).journals(offsets.Segment{Count: 10})
	w.away("stock", 100, offsets.Pair{}).journals(offsets.Segment{Count: 10})
	p := w.begin(w.newSyncer())
	fails := true
	var asked atomic.Int64
	w.target.ControlKey(int16(kmsg.ListOffsets), func(r kmsg.Request) (kmsg.Response, error, bool) {
		w.target.KeepControl()
		request := r.(*kmsg.ListOffsetsRequest)
		if request.Topics[0].Topic != w.host.journal {
			return nil, nil, false
		}
		if asked.Add(1); !fails {
			return nil, nil, false
		}
		response := request.ResponseKind().(*kmsg.ListOffsetsResponse)
		topic := kmsg.NewListOffsetsResponseTopic()
		topic.Topic = w.host.journal
		partition := kmsg.NewListOffsetsResponseTopicPartition()
		partition.ErrorCode = kerr.TopicAuthorizationFailed.Code
		topic.Partitions = append(topic.Partitions, partition)
		response.Topics = append(response.Topics, topic)
		return response, nil, true
	})
	positions := func() (list []*position) {
		for i := range int64(100) {
			list = append(list, toTranslate([]string{"orders", "stock"}[i%2], i))
		}
		return list
	}
	list := positions()
	p.publish(t.Context(), list, p.began)
	if n := asked.Load(); n == 0 || n > 2 {
		t.Errorf("the journal was asked %d times", n)
	}
	for _, q := range list {
		if q.refusal != policy.RefusedFailed {
			t.Fatalf("translated to %d, refused %q", q.targetOffset, q.refusal)
		}
	}
	fails = false
	p = w.begin(p.Syncer)
	asked.Store(0)
	list = positions()
	p.publish(t.Context(), list, p.began)
	if n := asked.Load(); n != 2 { // its start and its end
		t.Errorf("the journal was asked %d times", n)
	}
	for _, q := range list {
		if q.refusal != "" || q.targetOffset != min(q.sourceOffset, 10) {
			t.Fatalf("%d is translated to %d, refused %q (%s)", q.sourceOffset, q.targetOffset, q.refusal, q.detail)
		}
	}
}
