package groups

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/kafkatest"
	"github.com/milena-kafka/milena/replicator/topics"
)

type fakeMigration struct{ target int64 }

func (m fakeMigration) Forward(context.Context, offsets.TopicPartition, int64) (int64, bool) {
	return m.target, m.target >= 0
}

func TestForwardTranslationUsesTheCopyAndTheMigration(t *testing.T) {
	t.Parallel()
	tp := offsets.TopicPartition{Topic: "orders"}
	early := &offsets.BeforeStartError{Side: offsets.Source, Wanted: 3, Start: 10}
	source, target, other := [16]byte{1}, [16]byte{2}, [16]byte{3}
	for _, c := range []struct {
		name      string
		copy      *fakeCopy // nil: none
		migration Migration
		want      int64
		refusal   policy.Refusal
	}{
		{"exact", &fakeCopy{source: source, target: target, shift: 5, end: 100}, nil, 8, ""},
		{"above the end of the copy", &fakeCopy{source: source, target: target, shift: 5, end: 2}, nil, 7, ""},
		{"not copied", nil, nil, 0, policy.RefusedNotCopied},
		{"the source topic was recreated", &fakeCopy{source: other, target: target, end: 100}, nil, 0, policy.RefusedRecreated},
		{"the remote topic was recreated", &fakeCopy{source: source, target: other, end: 100}, nil, 0, policy.RefusedRecreated},
		{"recovering", &fakeCopy{source: source, target: target, err: ErrRecovering}, nil, 0, policy.RefusedRecovering},
		{"rewritten", &fakeCopy{source: source, target: target, err: ErrRewritten}, nil, 0, policy.RefusedRecreated},
		{"before the start", &fakeCopy{source: source, target: target, err: early}, nil, 0, policy.RefusedBeforeStart},
		{"before the migration", &fakeCopy{source: source, target: target, err: early}, fakeMigration{12}, 12, ""},
		{"before the migration, at most the start of the map", &fakeCopy{source: source, target: target, err: early}, fakeMigration{500}, 20, ""},
		{"before all offset-syncs", &fakeCopy{source: source, target: target, err: early}, fakeMigration{-1}, 0, policy.RefusedBeforeStart},
		{"failed", &fakeCopy{source: source, target: target, err: errors.New("x")}, nil, 0, policy.RefusedFailed},
	} {
		host := &fakeHost{t: t, copies: map[offsets.TopicPartition]*fakeCopy{}}
		if c.copy != nil {
			host.copies[tp] = c.copy
		}
		s := &Syncer{deps: &Deps{Host: host, Migration: c.migration}}
		now := views{
			topics.View{ByName: map[string]topics.Topic{"orders": {Name: "orders", ID: source}}},
			topics.View{ByName: map[string]topics.Topic{"a.orders": {Name: "a.orders", ID: target}}},
		}
		p := &position{group: "app", source: tp, sourceOffset: 3, target: offsets.TopicPartition{Topic: "a.orders"}}
		s.translate(t.Context(), now, []*position{p})
		if p.refusal != c.refusal || p.targetOffset != c.want || p.refusal != "" && p.detail == "" {
			t.Errorf("%s: translated to %d, refused %q (%s), want %d, %q", c.name, p.targetOffset, p.refusal, p.detail, c.want, c.refusal)
		}
	}
}

func TestASyncWritesCheckpointsAndCommits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.copies("orders", 5, 100)
	w.commit(w.host.source, "app", "orders", 40)
	s := w.newSyncer()
	status := w.sync(s)
	if status.Groups != 1 || status.Positions != 1 || status.Refused != 0 || len(status.Problems) > 0 {
		t.Errorf("status is %+v", status)
	}
	if at := w.committed(w.host.target, "app", "a.orders"); at != 45 {
		t.Errorf("committed at %d, want 45", at)
	}
	list := w.records("a.checkpoints.internal")
	if len(list) != 1 {
		t.Fatalf("%d checkpoints, want 1", len(list))
	}
	checkpoint, err := offsets.DecodeCheckpoint(list[0].Key, list[0].Value)
	want := offsets.Checkpoint{Group: "app", Topic: "a.orders", Source: 40, Target: 45, Metadata: "m"}
	if diff := cmp.Diff(want, checkpoint); diff != "" || err != nil {
		t.Error(diff, err)
	}
	// Nothing changed: nothing is written.
	w.sync(s)
	if n := len(w.records("a.checkpoints.internal")); n != 1 {
		t.Errorf("%d checkpoints after a sync without changes", n)
	}
	// The topic is recreated: all is written again.
	if _, err := kadm.NewClient(w.host.target).DeleteTopic(t.Context(), "a.checkpoints.internal"); err != nil {
		t.Fatal(err)
	}
	kafkatest.CreateTopic(t, w.target, "a.checkpoints.internal", 1, nil)
	w.sync(s)
	if n := len(w.records("a.checkpoints.internal")); n != 1 {
		t.Errorf("%d checkpoints in the recreated topic, want 1", n)
	}
}

func TestAPositionIsNeverBelowTheLogStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.copies("orders", 0, 100)
	for range 10 {
		if err := w.host.target.ProduceSync(t.Context(), &kgo.Record{Topic: "a.orders", Value: []byte("x")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	var upTo kadm.Offsets
	upTo.Add(kadm.Offset{Topic: "a.orders", At: 7})
	if resp, err := kadm.NewClient(w.host.target).DeleteRecords(t.Context(), upTo); err != nil || resp.Error() != nil {
		t.Fatal(err, resp.Error())
	}
	w.commit(w.host.source, "app", "orders", 4)
	w.sync(w.newSyncer())
	if at := w.committed(w.host.target, "app", "a.orders"); at != 7 {
		t.Errorf("committed at %d, want 7, the log start", at)
	}
	p := &position{group: "app", target: offsets.TopicPartition{Topic: "missing"}, targetOffset: 4}
	_ = clampToLogStart(t.Context(), w.host.target, "b", []*position{p})
	if p.refusal != policy.RefusedFailed || p.targetOffset != 4 {
		t.Errorf("a position whose log start is not known is %+v", p)
	}
}

func TestOnlyTheLeaderWrites(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.copies("orders", 0, 100)
	w.commit(w.host.source, "app", "orders", 40)
	w.host.leads.Store(false)
	w.sync(w.newSyncer())
	if at := w.committed(w.host.target, "app", "a.orders"); at != -1 {
		t.Errorf("committed at %d by a process that does not lead", at)
	}
	if view := w.host.View(offsets.Target); len(view.ByName) != 1 {
		t.Errorf("topics on the target are %v", view.ByName)
	}
}

func TestOffsetSyncsAreWrittenWhenTheyChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.copies("orders", 5, 100)
	s := newOffsetSyncs(&w.deps)
	for range 3 { // the first write creates the topic
		s.write(t.Context())
	}
	if n := len(w.records("mm2-offset-syncs.a.internal")); n != 1 {
		t.Fatalf("%d offset-syncs, want 1", n)
	}
	c.end = 200
	s.write(t.Context())
	list := w.records("mm2-offset-syncs.a.internal")
	sync, err := offsets.DecodeOffsetSync(list[len(list)-1].Key, list[len(list)-1].Value)
	if want := (offsets.OffsetSync{Topic: "orders", Source: 199, Target: 204}); err != nil || len(list) != 2 || sync != want {
		t.Errorf("%d offset-syncs, the last is %+v, %v", len(list), sync, err)
	}
}

func TestAProblemWithAnInternalTopicIsLoggedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	topic := newInternalTopic(&w.deps, offsets.Target, offsets.HeartbeatsTopic)
	write := func() error {
		now := time.Now()
		return topic.write(t.Context(), now, []record{offsets.Heartbeat{Source: "a", Target: "b", At: now}})
	}
	if err := write(); !errors.Is(err, errCreated) {
		t.Fatal(err)
	}
	if len(topic.problems()) > 0 || w.host.refreshes.Load() != 1 {
		t.Errorf("after creation: problems %v, refreshes %d", topic.problems(), w.host.refreshes.Load())
	}
	if err := write(); err != nil {
		t.Fatal(err)
	}
	w.target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: offsets.HeartbeatsTopic, Err: kerr.TopicAuthorizationFailed, Count: 3})
	for range 3 {
		if err := write(); !errors.Is(err, kerr.TopicAuthorizationFailed) {
			t.Fatal(err)
		}
	}
	if len(topic.problems()) != 1 {
		t.Errorf("problems are %q", topic.problems())
	}
	if err := write(); err != nil {
		t.Fatal(err)
	}
	if len(topic.problems()) != 0 {
		t.Errorf("problems are %q after a write", topic.problems())
	}
	if failed, ended := w.log.count("writing to an internal topic failed"), w.log.count("works again"); failed != 1 || ended != 1 {
		t.Errorf("logged %d failures and %d ends", failed, ended)
	}
	if n := counted(t, w.deps.Metrics.RecordErrors.WithLabelValues("b", "heartbeats")); n != 3 {
		t.Errorf("%v errors counted", n)
	}
}

func TestRefusalsAreCombinedAndCountedWhenTheyBegin(t *testing.T) {
	t.Parallel()
	metrics := newMetrics()
	r := &report{metrics: &metrics}
	refused := func(group string, partition int32, why policy.Refusal) *position {
		return &position{group: group, target: offsets.TopicPartition{Topic: "a.orders", Partition: partition}, refusal: why, detail: "d"}
	}
	positions := []*position{
		refused("b", 0, policy.RefusedAhead), refused("b", 1, policy.RefusedAhead), refused("b", 2, policy.RefusedActive), refused("a", 0, policy.RefusedAhead), {group: "c"},
	}
	for range 2 {
		r.set(positions, 3, time.Now(), errors.New("x"))
	}
	status := r.get()
	want := []Refusal{
		{Group: "a", Reason: "ahead", Text: "group a " + policy.RefusedAhead.Explain(), Detail: "d", Partitions: 1},
		{Group: "b", Reason: "active", Text: "group b " + policy.RefusedActive.Explain(), Detail: "d", Partitions: 1},
		{Group: "b", Reason: "ahead", Text: "group b " + policy.RefusedAhead.Explain(), Detail: "d", Partitions: 2},
	}
	if diff := cmp.Diff(want, status.Refusals); diff != "" || status.Refused != 4 || status.Positions != 5 || status.Groups != 3 || len(status.Problems) != 1 {
		t.Errorf("%+v\n%s", status, diff)
	}
	if n := counted(t, metrics.Refusals.WithLabelValues("ahead")); n != 3 {
		t.Errorf("%v refusals counted as ahead, want 3", n)
	}
}
