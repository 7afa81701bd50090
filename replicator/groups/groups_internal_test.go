package groups

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
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
		s := &pass{Syncer: &Syncer{deps: &Deps{Host: host, Migration: c.migration}}}
		s.now = views{
			topics.View{ByName: map[string]topics.Topic{"orders": {Name: "orders", ID: source}}},
			topics.View{ByName: map[string]topics.Topic{"a.orders": {Name: "a.orders", ID: target}}},
		}
		p := &position{group: "app", source: tp, sourceOffset: 3, target: offsets.TopicPartition{Topic: "a.orders"}}
		s.translate(t.Context(), p)
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
	if lag, ok := status.LagRecords["app"]; lag != 60 || !ok {
		t.Errorf("the group lags by %v on the target, want 60 of 105 records", status.LagRecords)
	}
	list := w.records("a.checkpoints.internal")
	if len(list) != 1 {
		t.Fatalf("%d checkpoints, want 1", len(list))
	}
	configs := kafkatest.TopicConfigs(t, w.host.target, "a.checkpoints.internal")
	if configs["cleanup.policy"] != "compact" || configs["segment.bytes"] != "16777216" || configs["segment.ms"] != "3600000" {
		t.Errorf("the checkpoints topic has %v", configs)
	}
	checkpoint, err := offsets.DecodeCheckpoint(list[0].Key, list[0].Value)
	want := offsets.Checkpoint{Group: "app", Topic: "a.orders", Source: 40, Target: 45, Metadata: "m"}
	if diff := cmp.Diff(want, checkpoint); diff != "" || err != nil {
		t.Error(diff, err)
	}
	// Nothing changed but the copy, which has grown: nothing is written, and the group lags more.
	w.fill("a.orders", 10)
	if status := w.sync(s); status.LagRecords["app"] != 70 {
		t.Errorf("the group lags by %v on the target, want 70", status.LagRecords)
	}
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

// The topic is created while a sync runs that began without it. What the sync would write there is written by the next one: if the topic were deleted
// in between, nobody would know that the checkpoint is gone.
func TestCheckpointsGoToTheTopicWithWhichTheSyncBegan(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.newSyncer()
	write := func() *position {
		p := &position{group: "app", source: offsets.TopicPartition{Topic: "orders"}, target: offsets.TopicPartition{Topic: "a.orders"}}
		s.checkpoints.write(t.Context(), []*position{p}, time.Now())
		return p
	}
	if s.checkpoints.recreated() {
		t.Error("there was no topic, and there is none")
	}
	kafkatest.CreateTopic(t, w.target, "a.checkpoints.internal", 1, nil)
	if p := write(); p.checkpointed || !p.unpublished || len(w.records("a.checkpoints.internal")) > 0 {
		t.Errorf("the checkpoint was written: %+v", p)
	}
	if !s.checkpoints.recreated() {
		t.Error("the next sync does not know that the topic is another one")
	}
	if p := write(); !p.checkpointed || len(w.records("a.checkpoints.internal")) != 1 {
		t.Errorf("the checkpoint was not written: %+v", p)
	}
}

func TestAPositionIsNeverBelowTheLogStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.copies("orders", 0, 100)
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
	missing := &position{group: "app", target: offsets.TopicPartition{Topic: "missing"}, targetOffset: 4}
	beyond := &position{group: "app", target: offsets.TopicPartition{Topic: "a.orders"}, targetOffset: 101}
	pass := &pass{Syncer: w.newSyncer(), bounds: bounds{client: w.host.target, alias: "b", byTopic: map[string]topicBounds{}}}
	_ = pass.clamp(t.Context(), []*position{missing, beyond})
	if missing.refusal != policy.RefusedFailed || missing.targetOffset != 4 {
		t.Errorf("a position whose log start is not known is %+v", missing)
	}
	if beyond.refusal != policy.RefusedFailed {
		t.Errorf("a position past the end of the log is %+v", beyond)
	}
}

func TestOnlyTheLeaderWrites(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.copies("orders", 0, 100)
	w.commit(w.host.source, "app", "orders", 40)
	w.host.leads.Store(false)
	w.host.writes.Store(false)
	if err := w.newSyncer().sync(t.Context()); !errors.Is(err, errNotLeading) {
		t.Errorf("sync: %v", err)
	}
	if at := w.committed(w.host.target, "app", "a.orders"); at != -1 {
		t.Errorf("committed at %d by a process that does not lead", at)
	}
	if view := w.host.View(offsets.Target); len(view.ByName) != 2 { // the copy and the journal
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

// A process that does not lead writes the offset-syncs of its own copies, and nothing else.
func TestWithoutLeadingOnlyOffsetSyncsAreWritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.copies("orders", 5, 100)
	w.commit(w.host.source, "app", "orders", 40)
	w.host.leads.Store(false)
	w.deps.Flow.GroupsInterval, w.deps.Flow.HeartbeatsInterval = 20*time.Millisecond, 20*time.Millisecond
	s, h := w.newSyncer(), NewHeartbeats(w.deps)
	ctx, cancel := context.WithCancel(t.Context())
	var loops sync.WaitGroup
	loops.Go(func() { s.Run(ctx) })
	loops.Go(func() { h.Run(ctx) })
	const topic = "mm2-offset-syncs.a.internal"
	for began := time.Now(); time.Since(began) < 10*time.Second; time.Sleep(20 * time.Millisecond) {
		if _, exists := w.host.View(offsets.Target).ByName[topic]; exists && len(w.records(topic)) > 0 {
			break
		}
	}
	time.Sleep(200 * time.Millisecond) // several intervals
	cancel()
	loops.Wait()
	if n := len(w.records(topic)); n != 1 {
		t.Errorf("%d offset-syncs, want 1", n)
	}
	view := w.host.View(offsets.Target)
	if len(view.ByName) != 3 || w.committed(w.host.target, "app", "a.orders") != -1 || w.host.noted != 0 { // with the copy and the journal
		t.Errorf("topics on the target are %v, %d entries noted", view.ByName, w.host.noted)
	}
	if view := w.host.View(offsets.Source); len(view.ByName) != 1 {
		t.Errorf("topics on the source are %v", view.ByName)
	}
	w.host.writes.Store(false)
	w.host.copies[offsets.TopicPartition{Topic: "orders"}].end = 200
	s.alone = time.Time{}
	s.syncAlone(t.Context())
	if n := len(w.records(topic)); n != 1 {
		t.Errorf("%d offset-syncs, one of them by a process that may not write", n)
	}
}

// While a copy is elsewhere, another process writes its offset-syncs.
func TestTheOffsetSyncOfACopyThatComesBackIsWrittenAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.copies("stock", 0, 10)
	c := w.copies("orders", 5, 100)
	s := newOffsetSyncs(&w.deps)
	for range 3 { // the first write creates the topic
		s.write(t.Context())
	}
	delete(w.host.copies, c.tp)
	s.write(t.Context())
	if _, known := s.written[c.tp]; known || len(s.written) != 1 {
		t.Errorf("what was written is %v", s.written)
	}
	w.host.copies[c.tp] = c
	s.write(t.Context())
	s.write(t.Context())
	if n := len(w.records("mm2-offset-syncs.a.internal")); n != 3 {
		t.Errorf("%d offset-syncs, want 3", n)
	}
}

func TestAProblemWithAnInternalTopicIsLoggedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	topic := newInternalTopic(&w.deps, offsets.Target, offsets.HeartbeatsTopic)
	write := func() error {
		now := time.Now()
		_, err := topic.write(t.Context(), topic.id(), now, []record{offsets.Heartbeat{Source: "a", Target: "b", At: now}})
		return err
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
	w := newWorld(t)
	s := w.newSyncer()
	refused := func(group string, partition int32, why policy.Refusal) *position {
		tp := offsets.TopicPartition{Topic: "a.orders", Partition: partition}
		return &position{group: group, target: tp, part: s.memory.group(group).of(s.memory.topicNumber(tp.Topic, [16]byte{}), partition), refusal: why, detail: "d"}
	}
	for range 2 {
		p := &pass{Syncer: s}
		p.finish(s.memory.group("b"), 0, []*position{refused("b", 0, policy.RefusedOwn), refused("b", 1, policy.RefusedOwn), refused("b", 2, policy.RefusedActive)})
		p.finish(s.memory.group("a"), 0, []*position{refused("a", 0, policy.RefusedOwn)})
		p.finish(s.memory.group("c"), 0, []*position{{group: "c"}})
		s.report.set(Status{Groups: 3, LastPass: time.Now()}, s.memory.all(), errors.New("x"))
	}
	status := s.report.get()
	want := []Refusal{
		{Group: "a", Reason: "own", Text: "group a " + policy.RefusedOwn.Explain(), Detail: "d", Partitions: 1},
		{Group: "b", Reason: "active", Text: "group b " + policy.RefusedActive.Explain(), Detail: "d", Partitions: 1},
		{Group: "b", Reason: "own", Text: "group b " + policy.RefusedOwn.Explain(), Detail: "d", Partitions: 2},
	}
	if diff := cmp.Diff(want, status.Refusals); diff != "" || status.Refused != 4 || status.Positions != 5 || status.Groups != 3 || len(status.Problems) != 1 {
		t.Errorf("%+v\n%s", status, diff)
	}
	if !status.LastPass.IsZero() {
		t.Error("a sync that failed counts as the last one that was complete")
	}
	if n := counted(t, w.deps.Metrics.Refusals.WithLabelValues("own")); n != 3 {
		t.Errorf("%v refusals counted as own, want 3", n)
	}
}

func TestGroupsThatAreNoConsumersAreNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.copies("orders", 0, 100)
	w.commit(w.host.source, "billing", "orders", 40)
	kafkatest.AnswerGroups(w.source, map[string]string{
		"billing": "consumer", "by-hand": "", "queue": "share", "totals": "streams", "workers": "connect", "registry": "sr", "console-consumer-1": "share",
	})
	w.deps.Flow.GroupsExclude = []string{"console-consumer-.*"}
	status := w.sync(w.newSyncer())
	if status.Groups != 2 || status.Positions != 1 || w.committed(w.host.target, "billing", "a.orders") != 40 {
		t.Errorf("the groups of consumers: %+v", *status)
	}
	want := []NotFollowed{
		{"queue", "share", "group queue " + policy.ExplainProtocol("share")},
		{"registry", "sr", "group registry has the protocol sr, and only consumers commit offsets that can be translated"},
		{"totals", "streams", "group totals " + policy.ExplainProtocol("streams")},
		{"workers", "connect", "group workers " + policy.ExplainProtocol("connect")},
	}
	if diff := cmp.Diff(want, status.NotFollowed); diff != "" {
		t.Error(diff)
	}
}
