package offsets_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/offsets"
)

func open(t testing.TB, c *cluster) *offsets.Client {
	t.Helper()
	client, err := offsets.Open(context.Background(), offsets.Options{Client: c.client, MaxAge: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// commitAt commits an offset for a group without members.
func (c *cluster) commitAt(group, topic string, partition int32, at int64, metadata string) {
	c.t.Helper()
	var o kadm.Offsets
	o.Add(kadm.Offset{Topic: topic, Partition: partition, At: at, LeaderEpoch: -1, Metadata: metadata})
	if err := kadm.NewClient(c.client).CommitAllOffsets(context.Background(), group, o); err != nil {
		c.t.Fatal(err)
	}
}

// fill writes n records, one second apart, to partition 0 of a topic.
func (c *cluster) fill(topic string, n int) {
	c.t.Helper()
	var records []*kgo.Record
	for i := range n {
		records = append(records, &kgo.Record{Topic: topic, Value: []byte("x"), Timestamp: time.UnixMilli(1000 * int64(i))})
	}
	if err := c.client.ProduceSync(context.Background(), records...).FirstErr(); err != nil {
		c.t.Fatal(err)
	}
}

func TestGroupUsesJournalThenCheckpoint(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.create("milena.a-b.journal", shards)
	c.create("a.checkpoints.internal", 1)
	c.create("a.orders", 1)
	c.create("a.foreign", 1)
	k := newCopier(c, "orders", 3)
	k.copies(50)
	k.journals()
	c.fill("a.orders", int(k.end.Target))
	c.fill("a.foreign", 100)
	middle := k.records[len(k.records)/2]
	c.write("a.checkpoints.internal", 0,
		offsets.Checkpoint{"app", "a.orders", 0, middle.Source, middle.Target - 1, "old"},
		offsets.Checkpoint{"app", "a.orders", 0, middle.Source, middle.Target - 1, "here"}, // too early, as those of MirrorMaker 2
		offsets.Checkpoint{"app", "a.foreign", 0, 70, 60, ""},
		offsets.Checkpoint{"other", "a.orders", 0, 1, 1, ""},
		raw{[]byte("foreign"), []byte("foreign")},
	)
	client := open(t, c)
	got, err := client.Group(t.Context(), "a", "app")
	if err != nil || len(got) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	if p := got[0]; p.TargetTopic != "a.foreign" || p.Target != 60 || p.Source != 70 || p.Origin != offsets.FromCheckpoint || p.Exact || p.Lag != 40 {
		t.Errorf("without a journal: %+v", p)
	}
	if p := got[1]; p.Topic != "orders" || p.Target != middle.Target || !p.Exact || p.Origin != offsets.FromJournal || p.Metadata != "here" || p.Lag != k.end.Target-middle.Target {
		t.Errorf("with a journal: %+v, want target %d", p, middle.Target)
	}
	if client.Unreadable() != 1 {
		t.Errorf("%d records are unreadable, want 1", client.Unreadable())
	}
	var unknown *offsets.UnknownGroupError
	if _, err := client.Group(t.Context(), "a", "nobody"); !errors.As(err, &unknown) {
		t.Errorf("an unknown group: %v", err)
	}
	var none *offsets.NoCheckpointsError
	if _, err := client.Group(t.Context(), "z", "app"); !errors.As(err, &none) || none.Topic != "z.checkpoints.internal" {
		t.Errorf("an unknown source: %v", err)
	}
	// A checkpoint above the end of the copy is not translated above it.
	c.write("a.checkpoints.internal", 0, offsets.Checkpoint{"late", "a.orders", 0, k.end.Source + 9, k.end.Target, ""})
	late, err := client.Group(t.Context(), "a", "late")
	if err != nil || late[0].Target != k.end.Target || late[0].Exact {
		t.Errorf("beyond the copy: %+v, %v", late, err)
	}
}

func TestReverseGroup(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.create("milena.a-b.journal", shards)
	c.create("a.orders", 1)
	c.create("own", 1)
	k := newCopier(c, "orders", 5)
	k.copies(50)
	k.journals()
	c.fill("a.orders", int(k.end.Target)+5)
	at := k.records[20]
	c.commitAt("app", "a.orders", 0, at.Target, "there")
	c.commitAt("app", "own", 0, 3, "")
	c.commitAt("ahead", "a.orders", 0, k.end.Target+5, "")
	client := open(t, c)
	got, err := client.ReverseGroup(t.Context(), "app")
	if err != nil || len(got) != 1 || got[0].Topic != "orders" || got[0].Source != at.Source || !got[0].Exact || got[0].Metadata != "there" {
		t.Errorf("%+v, %v; want source %d", got, err, at.Source)
	}
	got, err = client.ReverseGroup(t.Context(), "ahead")
	if err != nil || got[0].Source != k.end.Source || got[0].Exact {
		t.Errorf("beyond the copy: %+v, %v", got, err)
	}
}

func TestAt(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.create("milena.a-b.journal", shards)
	c.create("a.orders", 1)
	k := newCopier(c, "orders", 5)
	mustAppend(t, k.m, 100, 0, 10)
	k.end.Source, k.end.Target = k.m.End()
	k.journals()
	c.fill("a.orders", 10)
	client := open(t, c)
	got, err := client.At(t.Context(), "a.orders", 0, time.UnixMilli(3500))
	if err != nil || got.Target != 4 || got.Source != 104 || !got.Exact {
		t.Errorf("%+v, %v", got, err)
	}
	got, err = client.At(t.Context(), "a.orders", 0, time.UnixMilli(99_000))
	if err != nil || got.Target != 10 || got.Source != 110 {
		t.Errorf("after the last: %+v, %v", got, err)
	}
}

func TestOffsetSyncsAnswerWithoutJournal(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.create("mm2-offset-syncs.a.internal", 1)
	var syncs []entry
	for _, p := range [][2]int64{{5, 50}, {9, 90}, {0, 0}, {100, 40}, {110, 45}} { // created again after the third one
		syncs = append(syncs, offsets.OffsetSync{"orders", 0, p[0], p[1]})
	}
	c.write("mm2-offset-syncs.a.internal", 0, syncs...)
	client := open(t, c)
	for source, want := range map[int64]int64{0: 0, 5: 1, 100: 40, 105: 41, 110: 45, 999: 46} {
		got, err := client.Forward(t.Context(), "a.orders", 0, source)
		if err != nil || got.Target != want || got.Origin != offsets.FromOffsetSyncs || got.Exact != (source == 0 || source == 100 || source == 110) {
			t.Errorf("%d: %+v, %v; want %d", source, got, err, want)
		}
	}
	var unknown *offsets.NotReplicatedError
	if _, err := client.Forward(t.Context(), "a.nothing", 0, 1); !errors.As(err, &unknown) {
		t.Errorf("an unknown topic: %v", err)
	}
}

func TestSourcesHopsAndRemoteTopics(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	for _, topic := range []string{
		"orders", "a.orders", "b.a.orders", "heartbeats", "a.heartbeats", "b.a.heartbeats", "c.checkpoints.internal", "milena.a-z.journal", "mm2-offsets.a.internal",
	} {
		c.create(topic, 1)
	}
	now := time.Now().Truncate(time.Millisecond)
	c.write("heartbeats", 0, offsets.Heartbeat{"a", "z", now.Add(-time.Second)}, offsets.Heartbeat{"a", "z", now})
	c.write("a.heartbeats", 0, offsets.Heartbeat{"z", "a", now.Add(-time.Minute)})
	client := open(t, c)
	sources, err := client.Sources(t.Context())
	if err != nil || !slices.Equal(sources, []string{"a", "b", "c"}) {
		t.Errorf("sources are %v, %v", sources, err)
	}
	for source, want := range map[string]int{"a": 1, "b": 1, "c": -1} {
		if hops, err := client.Hops(t.Context(), source); err != nil || hops != want {
			t.Errorf("%s is %d hops away, %v; want %d", source, hops, err, want)
		}
	}
	remote, err := client.RemoteTopics(t.Context(), "")
	if err != nil || !slices.Equal(remote, []string{"a.heartbeats", "a.orders", "b.a.heartbeats", "b.a.orders"}) {
		t.Errorf("remote topics are %v, %v", remote, err)
	}
	if remote, _ = client.RemoteTopics(t.Context(), "b"); !slices.Equal(remote, []string{"b.a.heartbeats", "b.a.orders"}) {
		t.Errorf("remote topics of b are %v", remote)
	}
	beats, err := client.Heartbeats(t.Context())
	if err != nil || len(beats) != 2 || beats[0].Topic != "a.heartbeats" || beats[0].Source != "z" || !beats[1].At.Equal(now) {
		t.Errorf("heartbeats are %+v, %v", beats, err)
	}
	if flows, err := client.Flows(t.Context()); err != nil || !slices.Equal(flows, []string{"a-z"}) {
		t.Errorf("flows are %v, %v", flows, err)
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.create("a.checkpoints.internal", 1)
	c.create("a.orders", 1)
	c.fill("a.orders", 10)
	c.write("a.checkpoints.internal", 0, offsets.Checkpoint{"app", "a.orders", 0, 3, 2, ""})
	client, err := offsets.Open(t.Context(), offsets.Options{Kafka: []kgo.Opt{kgo.SeedBrokers(c.addresses...)}, MaxAge: 5 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var seen []int64
	for positions, err := range client.Watch(ctx, "a", "app") {
		if err != nil {
			t.Fatal(err)
		}
		at := positions[0].Target
		seen = append(seen, at)
		if at == 5 {
			break
		}
		c.write("a.checkpoints.internal", 0, offsets.Checkpoint{"app", "a.orders", 0, at + 4, at + 1, ""})
	}
	if !slices.Equal(seen, []int64{2, 3, 4, 5}) {
		t.Errorf("seen %v", seen)
	}
}

// BenchmarkOpenAndTranslateAGroup opens a cluster with a flow of 1000 partitions and translates a group with a
// committed offset in each.
func BenchmarkOpenAndTranslateAGroup(b *testing.B) {
	c := newCluster(b)
	c.create("milena.a-b.journal", 64)
	c.create("a.checkpoints.internal", 1)
	var checkpoints []entry
	for i := range 100 {
		topic := fmt.Sprintf("topic-%d", i)
		c.create("a."+topic, 10)
		for p := range int32(10) {
			m := offsets.NewMap(0, 0)
			state := offsets.PartitionState{Topic: topic, Partition: p, TargetTopic: "a." + topic, SourceClusterID: "source"}
			holes(b, m, 20)
			changes, _ := m.Changed()
			chunks := state.Apply(changes)
			c.write("milena.a-b.journal", offsets.ShardOf(topic, p, 64), chunks[0], &state)
			checkpoints = append(checkpoints, offsets.Checkpoint{"app", "a." + topic, p, 3, 3, ""})
		}
	}
	c.write("a.checkpoints.internal", 0, checkpoints...)
	for b.Loop() {
		client := open(b, c)
		positions, err := client.Group(context.Background(), "a", "app")
		if err != nil || len(positions) != 1000 || positions[0].Origin != offsets.FromJournal {
			b.Fatal(len(positions), err)
		}
	}
}
