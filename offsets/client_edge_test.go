package offsets_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/offsets"
)

// writeMap journals one map of a flow.
func (c *cluster) writeMap(flow string, m *offsets.Map, state *offsets.PartitionState) {
	c.t.Helper()
	changes, _ := m.Changed()
	var entries []entry
	for _, chunk := range state.Apply(changes) {
		entries = append(entries, chunk)
	}
	c.write(offsets.JournalTopic(flow), offsets.ShardOf(state.Topic, state.Partition, shards), append(entries, state)...)
	m.MarkJournaled(changes)
}

// copied journals a flow that copied n records of a topic, from source offset 0 on.
func (c *cluster) copied(flow, topic, targetTopic string, n, target int64) {
	c.t.Helper()
	m := offsets.NewMap(0, target)
	mustAppend(c.t, m, 0, target, n)
	c.writeMap(flow, m, &offsets.PartitionState{Topic: topic, TargetTopic: targetTopic, LeaderEpoch: -1})
}

func TestForwardFromFlowOrAlias(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	for _, flow := range []string{"a-z", "b-z", "special", "c-z", "c-z-2"} {
		c.create(offsets.JournalTopic(flow), shards)
	}
	c.copied("a-z", "orders", "a.orders", 10, 100)
	c.copied("b-z", "orders", "b.orders", 10, 200)
	c.copied("special", "payments", "payments", 10, 300) // identity naming, and a name without an alias
	c.copied("c-z", "same", "same", 10, 400)
	c.copied("c-z-2", "same", "other", 10, 500)
	client := open(t, c)
	for _, q := range []struct {
		from, topic string
		want        int64
	}{
		{"a", "orders", 103},
		{"b", "orders", 203},
		{"a-z", "orders", 103},
		{"b-z", "orders", 203},
		{"special", "payments", 303},
		{"x", "payments", 303},
		{"", "payments", 303},
		{"c-z", "same", 403},
	} {
		got, err := client.ForwardFrom(t.Context(), q.from, q.topic, 0, 3)
		if err != nil || got.Target != q.want || !got.Exact {
			t.Errorf("%s from %q: %+v, %v; want %d", q.topic, q.from, got, err, q.want)
		}
	}
	var ambiguous *offsets.AmbiguousError
	for _, q := range [][2]string{{"", "orders"}, {"c", "same"}} {
		if _, err := client.ForwardFrom(t.Context(), q[0], q[1], 0, 3); !errors.As(err, &ambiguous) || len(ambiguous.Flows) != 2 {
			t.Errorf("%s from %q: %v", q[1], q[0], err)
		}
	}
	var unknown *offsets.NotReplicatedError
	for _, q := range [][2]string{{"", "nothing"}, {"z", "orders"}} {
		if _, err := client.ForwardFrom(t.Context(), q[0], q[1], 0, 3); !errors.As(err, &unknown) {
			t.Errorf("%s from %q: %v", q[1], q[0], err)
		}
	}
}

func TestGroupFromSource(t *testing.T) {
	t.Parallel()
	source, c := newCluster(t), newCluster(t)
	source.create("orders", 1)
	source.create("local", 1)
	c.create("a.orders", 1)
	c.create("milena.a-z.journal", shards)
	c.copied("a-z", "orders", "a.orders", 10, 0)
	c.fill("a.orders", 10)
	source.commitAt("app", "orders", 0, 7, "note")
	source.commitAt("app", "local", 0, 7, "")
	client := open(t, c)
	got, err := client.GroupFrom(t.Context(), source.client, "a", "app")
	if err != nil || len(got) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	var unknown *offsets.NotReplicatedError
	if !errors.As(got[0].Err, &unknown) || got[0].Topic != "local" || got[0].Source != 7 {
		t.Errorf("a topic that is not copied: %+v", got[0])
	}
	if p := got[1]; p.Target != 7 || !p.Exact || p.Metadata != "note" || p.Lag != 3 || p.Err != nil {
		t.Errorf("%+v", p)
	}
	var nobody *offsets.UnknownGroupError
	if _, err := client.GroupFrom(t.Context(), source.client, "a", "nobody"); !errors.As(err, &nobody) {
		t.Errorf("an unknown group: %v", err)
	}
}

func TestUnusableCheckpoints(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.create("a.checkpoints.internal", 1)
	c.create("a.orders", 1)
	c.fill("a.orders", 100)
	at := func(group string, source, target int64) offsets.Checkpoint {
		return offsets.Checkpoint{Group: group, Topic: "a.orders", Source: source, Target: target}
	}
	newer := at("newer", 1, 1).AppendValue(nil)
	newer[1] = 3
	c.write("a.checkpoints.internal", 0,
		at("newer", 1, 1), raw{at("newer", 1, 1).AppendKey(nil), newer},
		at("damaged", 1, 1), raw{at("damaged", 1, 1).AppendKey(nil), []byte{0, 0, 1}},
		at("gone", 1, 1), raw{at("gone", 1, 1).AppendKey(nil), nil},
		at("old", 50, 40),
	)
	client := open(t, c)
	var version *offsets.VersionError
	if _, err := client.Group(t.Context(), "a", "newer"); !errors.As(err, &version) || version.Version != 3 || version.What != "checkpoint" {
		t.Errorf("of a newer version: %v", err)
	}
	for _, group := range []string{"damaged", "gone"} {
		var unknown *offsets.UnknownGroupError
		if got, err := client.Group(t.Context(), "a", group); !errors.As(err, &unknown) {
			t.Errorf("%s: %+v, %v", group, got, err)
		}
	}
	if n := client.Unreadable(); n != 2 {
		t.Errorf("%d records were not readable, want 2", n)
	}

	// The source topic was created again after that checkpoint: offset 50 is another record now.
	c.create("milena.a-z.journal", shards)
	m := offsets.NewMap(0, 60)
	mustAppend(t, m, 0, 60, 40)
	mustAppend(t, m, 40, 101, 40)
	c.writeMap("a-z", m, &offsets.PartitionState{Topic: "orders", TargetTopic: "a.orders", Generation: 1, LeaderEpoch: -1})
	client = open(t, c)
	got, err := client.Group(t.Context(), "a", "old")
	if err != nil || got[0].Target != 40 || got[0].Exact || got[0].Origin != offsets.FromCheckpoint {
		t.Errorf("a checkpoint of another topic: %+v, %v; 111 would skip the new topic's first records", got, err)
	}
}

// By default MirrorMaker 2's flow z->a keeps its syncs on z, under the name that those of a->z would have here.
func TestOffsetSyncsOfTheOtherDirectionAreNotUsed(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.create("mm2-offset-syncs.a.internal", 1)
	c.create("orders", 1)   // copied to a
	c.create("a.orders", 1) // copied from a
	c.write("mm2-offset-syncs.a.internal", 0, offsets.OffsetSync{Topic: "orders", Source: 10, Target: 1000})
	var unknown *offsets.NotReplicatedError
	if got, err := open(t, c).Forward(t.Context(), "a.orders", 0, 10); !errors.As(err, &unknown) {
		t.Errorf("%+v, %v", got, err)
	}
	client, err := offsets.Open(t.Context(), offsets.Options{Client: c.client, OffsetSyncsHere: true})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := client.Forward(t.Context(), "a.orders", 0, 12); err != nil || got.Target != 1001 || got.Exact {
		t.Errorf("where the caller knows better: %+v, %v", got, err)
	}
	if got, err := client.Reverse(t.Context(), "a.orders", 0, 1005); err != nil || got.Source != 11 || got.Exact {
		t.Errorf("back: %+v, %v", got, err)
	}
}

// Records that MirrorMaker 2 copied before the migration are translated by its syncs, later ones by the journal.
func TestOffsetSyncsAnswerBeforeJournalStart(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.create("mm2-offset-syncs.a.internal", 1)
	c.create("milena.a-z.journal", shards)
	c.write("mm2-offset-syncs.a.internal", 0, offsets.OffsetSync{Topic: "orders", Source: 10, Target: 5}, offsets.OffsetSync{Topic: "orders", Source: 90, Target: 70})
	m := offsets.NewMap(100, 80)
	mustAppend(t, m, 100, 80, 10)
	c.writeMap("a-z", m, &offsets.PartitionState{Topic: "orders", TargetTopic: "a.orders", LeaderEpoch: -1})
	client := open(t, c)
	for source, want := range map[int64]int64{10: 5, 50: 6, 90: 70, 95: 71, 100: 80, 105: 85} {
		got, err := client.Forward(t.Context(), "a.orders", 0, source)
		if err != nil || got.Target != want || got.Origin != map[bool]offsets.Origin{true: offsets.FromJournal, false: offsets.FromOffsetSyncs}[source >= 100] {
			t.Errorf("%d: %+v, %v; want %d", source, got, err, want)
		}
	}
	var early *offsets.BeforeStartError
	if got, err := client.Forward(t.Context(), "a.orders", 0, 3); !errors.As(err, &early) {
		t.Errorf("before all: %+v, %v", got, err)
	}
}

// A transactional source has one sync per transaction. Their number in memory is bounded, and no answer is later than
// the exact offset.
func TestManyOffsetSyncsAreBoundedAndNeverLate(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.create("mm2-offset-syncs.a.internal", 1)
	var syncs []entry
	const n = 20_000
	for i := range int64(n) {
		syncs = append(syncs, offsets.OffsetSync{Topic: "orders", Source: 3 * i, Target: 2 * i})
	}
	c.write("mm2-offset-syncs.a.internal", 0, syncs...)
	client := open(t, c)
	for s := int64(0); s < 3*n; s += 101 {
		got, err := client.Forward(t.Context(), "a.orders", 0, s)
		truth := s / 3 * 2
		if s%3 != 0 {
			truth++
		}
		if err != nil || got.Target > truth || got.Exact != (got.Target == truth && s%3 == 0) {
			t.Fatalf("%d: %+v, %v; the record is at %d", s, got, err, truth)
		}
	}
}

func TestNewerJournalFailsOnlyItself(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.create("milena.a-z.journal", shards)
	c.create("milena.b-z.journal", shards)
	for k := range int32(shards) {
		c.write("milena.a-z.journal", k, raw{(&offsets.ShardState{}).AppendKey(nil), []byte{0, 9}})
	}
	c.copied("b-z", "orders", "b.orders", 10, 0)
	client := open(t, c)
	if got, err := client.Forward(t.Context(), "b.orders", 0, 4); err != nil || got.Target != 4 {
		t.Errorf("%+v, %v", got, err)
	}
	var newer *offsets.VersionError
	if _, err := client.Forward(t.Context(), "a.orders", 0, 4); !errors.As(err, &newer) || newer.Version != 9 {
		t.Errorf("the newer one: %v", err)
	}
}

func TestAtAfterTheLastRecordIsTheEnd(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.create("milena.a-z.journal", shards)
	c.create("a.orders", 1)
	c.fill("a.orders", 30)
	m := offsets.NewMap(100, 20) // the target held records
	mustAppend(t, m, 100, 20, 10)
	c.writeMap("a-z", m, &offsets.PartitionState{Topic: "orders", TargetTopic: "a.orders", LeaderEpoch: -1})
	client := open(t, c)
	if got, err := client.At(t.Context(), "a.orders", 0, time.UnixMilli(99_000)); err != nil || got.Source != 110 || got.Target != 30 || !got.Exact {
		t.Errorf("after all records: %+v, %v", got, err)
	}
	var early *offsets.BeforeStartError
	if got, err := client.At(t.Context(), "a.orders", 0, time.UnixMilli(1000)); !errors.As(err, &early) {
		t.Errorf("before the copy: %+v, %v", got, err)
	}
	var unknown *offsets.NotReplicatedError
	if _, err := client.At(t.Context(), "nothing", 0, time.UnixMilli(0)); !errors.As(err, &unknown) {
		t.Errorf("an unknown topic: %v", err)
	}
}

func TestConcurrentClientCalls(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.create("milena.a-z.journal", shards)
	c.create("a.checkpoints.internal", 1)
	c.create("heartbeats", 1)
	c.create("a.orders", 1)
	c.copied("a-z", "orders", "a.orders", 10, 0)
	c.fill("a.orders", 10)
	c.write("a.checkpoints.internal", 0, offsets.Checkpoint{Group: "app", Topic: "a.orders", Source: 3, Target: 3})
	client := open(t, c)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range 20 {
				_, groupErr := client.Group(t.Context(), "a", "app")
				_, beatErr := client.Heartbeats(t.Context())
				got, err := client.Forward(t.Context(), "a.orders", 0, int64(i%11))
				if err := errors.Join(groupErr, beatErr, err); err != nil || got.Target != int64(i%11) {
					t.Errorf("%+v, %v", got, err)
				}
			}
		})
	}
	all.Wait()
}

func TestOpenRequiresACluster(t *testing.T) {
	t.Parallel()
	if _, err := offsets.Open(t.Context(), offsets.Options{}); err == nil {
		t.Error("Open without a client succeeds")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := offsets.Open(ctx, offsets.Options{Kafka: []kgo.Opt{kgo.SeedBrokers("127.0.0.1:1")}}); err == nil {
		t.Error("Open of an unreachable cluster succeeds")
	}
}

// TestOpenTime prints how long it takes to open a cluster and translate the offsets of a group in 1000 partitions.
func TestOpenTime(t *testing.T) {
	c := newCluster(t)
	const partitions = 1000
	c.create("milena.a-b.journal", 64)
	c.create("a.checkpoints.internal", 1)
	var checkpoints []entry
	for i := range partitions / 10 {
		topic := fmt.Sprintf("topic-%d", i)
		c.create("a."+topic, 10)
		for p := range int32(10) {
			m := offsets.NewMap(0, 0)
			holes(t, m, 20)
			state := &offsets.PartitionState{Topic: topic, Partition: p, TargetTopic: "a." + topic, LeaderEpoch: -1}
			changes, _ := m.Changed()
			c.write("milena.a-b.journal", offsets.ShardOf(topic, p, 64), state.Apply(changes)[0], state)
			checkpoints = append(checkpoints, offsets.Checkpoint{Group: "app", Topic: "a." + topic, Partition: p, Source: 3, Target: 1})
		}
	}
	c.write("a.checkpoints.internal", 0, checkpoints...)
	began := time.Now()
	client, err := offsets.Open(t.Context(), offsets.Options{Kafka: []kgo.Opt{kgo.SeedBrokers(c.addresses...)}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	got, err := client.Group(t.Context(), "a", "app")
	if err != nil || len(got) != partitions {
		t.Fatalf("%d positions, %v", len(got), err)
	}
	for _, p := range got {
		if p.Origin != offsets.FromJournal || !p.Exact || p.Err != nil || p.Doubt != nil {
			t.Fatalf("%+v", p)
		}
	}
	t.Logf("Open and Group with %d partitions took %v", partitions, time.Since(began).Round(time.Millisecond))
}

// The broker sets the timestamp of a transaction's marker to the time of its write, however old the records are.
func TestAtIgnoresMarkers(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.create("milena.a-z.journal", shards)
	c.create("a.orders", 1)
	c.fill("a.orders", 3) // 0 s, 1 s, 2 s
	writer, err := kgo.NewClient(kgo.SeedBrokers(c.addresses...), kgo.TransactionalID("x"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	if err := writer.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := writer.ProduceSync(t.Context(), &kgo.Record{Topic: "a.orders", Timestamp: time.UnixMilli(3000)}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := writer.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	for i := range int64(4) { // 4 s to 7 s, at 5 to 8
		if err := c.client.ProduceSync(t.Context(), &kgo.Record{Topic: "a.orders", Timestamp: time.UnixMilli(4000 + 1000*i)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	m := offsets.NewMap(0, 0)
	mustAppend(t, m, 0, 0, 4)
	mustAppend(t, m, 4, 5, 4)
	c.writeMap("a-z", m, &offsets.PartitionState{Topic: "orders", TargetTopic: "a.orders", LeaderEpoch: -1})
	client := open(t, c)
	for seconds, want := range map[int64]int64{2: 2, 3: 3, 4: 5, 6: 7, 7: 8, 99: 9} {
		if got, err := client.At(t.Context(), "a.orders", 0, time.Unix(seconds, 0)); err != nil || got.Target != want || !got.Exact {
			t.Errorf("at %d s: %+v, %v; want %d", seconds, got, err, want)
		}
	}
}
