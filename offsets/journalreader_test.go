package offsets_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/offsets"
)

// cluster is a fake broker with a client that writes to explicit partitions.
type cluster struct {
	t         testing.TB
	fake      *kfake.Cluster
	addresses []string
	client    *kgo.Client
}

func newCluster(t testing.TB) *cluster {
	t.Helper()
	fake, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	client, err := kgo.NewClient(kgo.SeedBrokers(fake.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return &cluster{t: t, fake: fake, addresses: fake.ListenAddrs(), client: client}
}

func (c *cluster) create(topic string, partitions int32) {
	c.t.Helper()
	if _, err := kadm.NewClient(c.client).CreateTopic(context.Background(), partitions, 1, nil, topic); err != nil {
		c.t.Fatal(err)
	}
}

type entry interface {
	AppendKey(b []byte) []byte
	AppendValue(b []byte) []byte
}

// write appends entries to one partition, in one or a few batches.
func (c *cluster) write(topic string, partition int32, entries ...entry) {
	c.t.Helper()
	var records []*kgo.Record
	for _, e := range entries {
		records = append(records, &kgo.Record{Topic: topic, Partition: partition, Key: e.AppendKey(nil), Value: e.AppendValue(nil)})
	}
	if err := c.client.ProduceSync(context.Background(), records...).FirstErr(); err != nil {
		c.t.Fatal(err)
	}
}

const shards = 4

// copier is a flow as its journal sees it: one partition, its map, and a model to compare with.
type copier struct {
	c       *cluster
	random  *rand.Rand
	m       *offsets.Map
	state   offsets.PartitionState
	records []offsets.Pair
	end     offsets.Pair
}

func newCopier(c *cluster, topic string, seed uint64) *copier {
	return &copier{
		c: c, random: rand.New(rand.NewPCG(seed, 1)), m: offsets.NewMap(0, 0),
		state: offsets.PartitionState{Topic: topic, TargetTopic: "a." + topic, SourceClusterID: "source", LeaderEpoch: -1},
	}
}

// copies appends n runs of records, with holes on either side between them.
func (k *copier) copies(n int) {
	for range n {
		k.end.Source += k.random.Int64N(3)
		k.end.Target += k.random.Int64N(2)
		count := 1 + k.random.Int64N(4)
		mustAppend(k.c.t, k.m, k.end.Source, k.end.Target, count)
		for range count {
			k.records = append(k.records, k.end)
			k.end.Source++
			k.end.Target++
		}
	}
}

func (k *copier) drops() {
	k.end.Source += k.random.Int64N(4)
	k.end.Target += k.random.Int64N(4)
	mustAdvance(k.c.t, k.m, k.end.Source, k.end.Target)
}

// journals writes what changed.
func (k *copier) journals() {
	changes, changed := k.m.Changed()
	if !changed {
		return
	}
	var entries []entry
	for _, chunk := range k.state.Apply(changes) {
		entries = append(entries, chunk)
	}
	k.c.write("milena.a-b.journal", k.shard(), append(entries, &k.state)...)
	k.m.MarkJournaled(changes)
}

func (k *copier) shard() int32 { return offsets.ShardOf(k.state.Topic, k.state.Partition, shards) }

// restarts starts a new map, as after a recreated source topic.
func (k *copier) restarts() {
	k.state.Generation++
	k.end = offsets.Pair{Source: 0, Target: k.end.Target + 1}
	k.m, k.records = offsets.NewMap(k.end.Source, k.end.Target), nil
}

// verify translates every offset of both sides, and one above the ends.
func (k *copier) verify(j *offsets.Journal) {
	t := k.c.t
	t.Helper()
	start := offsets.Pair{}
	if k.state.Generation > 0 {
		start.Target, start.Source = k.state.Start.Target, k.state.Start.Source
	}
	w := model{records: k.records, start: start, end: k.end}
	for s := start.Source; s <= k.end.Source; s++ {
		want, exact := w.translate(s, source, target)
		got, err := j.Forward(t.Context(), k.state.Topic, 0, s)
		if err != nil || got.Target != want || got.Exact != exact || got.Source != s || got.Origin != offsets.FromJournal || got.Flow != "a-b" {
			t.Fatalf("forward %d: %+v, %v; want %d, %v", s, got, err, want, exact)
		}
	}
	for o := start.Target; o <= k.end.Target; o++ {
		want, exact := w.translate(o, target, source)
		got, err := j.Reverse(t.Context(), k.state.Topic, 0, o)
		if err != nil || got.Source != want || got.Exact != exact || got.Target != o {
			t.Fatalf("reverse %d: %+v, %v; want %d, %v", o, got, err, want, exact)
		}
	}
	_, err := j.Forward(t.Context(), k.state.Topic, 0, k.end.Source+1)
	var late *offsets.NotCopiedError
	if !errors.As(err, &late) || late.End != k.end.Source {
		t.Fatalf("above the end: %v", err)
	}
}

func TestJournalTranslatesEveryOffset(t *testing.T) {
	t.Parallel()
	for _, memory := range []int64{0, 30 << 10} { // unlimited, and two chunks
		t.Run(fmt.Sprintf("memory %d", memory), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			c.create("milena.a-b.journal", shards)
			j := offsets.NewJournal(c.client, "milena.a-b.journal", offsets.JournalOptions{Memory: memory, MaxAge: time.Nanosecond})
			k := newCopier(c, "orders", 7)
			for range 3 {
				for range 4 {
					k.copies(1 + k.random.IntN(600))
					if k.random.IntN(2) == 0 {
						k.drops()
					}
					k.journals()
				}
				k.verify(j)
				k.restarts()
				k.journals()
				k.verify(j)
			}
			if n := j.Unreadable(); n != 0 {
				t.Errorf("%d records were not readable", n)
			}
		})
	}
}

func TestJournalErrors(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	ask := func(j *offsets.Journal, topic string, source int64) error {
		_, err := j.Forward(t.Context(), topic, 0, source)
		return err
	}
	j := offsets.NewJournal(c.client, "milena.a-b.journal", offsets.JournalOptions{MaxAge: time.Nanosecond})
	var none *offsets.NoJournalError
	if err := ask(j, "orders", 0); !errors.As(err, &none) {
		t.Errorf("without a journal: %v", err)
	}
	c.create("milena.a-b.journal", shards)
	var unknown *offsets.NotReplicatedError
	if err := ask(j, "orders", 0); !errors.As(err, &unknown) || unknown.Flow != "a-b" {
		t.Errorf("an unknown topic: %v", err)
	}

	k := newCopier(c, "orders", 1)
	k.m, k.end = offsets.NewMap(100, 50), offsets.Pair{Source: 100, Target: 50} // the target had records before
	k.copies(10)
	k.journals()
	var early *offsets.BeforeStartError
	if err := ask(j, "orders", 99); !errors.As(err, &early) || early.Start != 100 {
		t.Errorf("before the start: %v", err)
	}
	fresh := newCopier(c, "fresh", 2)
	fresh.m, fresh.end = offsets.NewMap(100, 0), offsets.Pair{Source: 100} // the source had deleted its first records
	fresh.copies(10)
	fresh.journals()
	if got, err := j.Forward(t.Context(), "fresh", 0, 5); err != nil || got.Target != 0 || got.Exact {
		t.Errorf("before the start of an empty target: %+v, %v", got, err)
	}

	// Foreign records are counted and change nothing.
	c.write("milena.a-b.journal", k.shard(), raw{[]byte{9, 9}, []byte{0, 1}}, raw{k.state.AppendKey(nil), []byte{0, 1, 255}})
	if got, err := j.Forward(t.Context(), "orders", 0, k.end.Source); err != nil || got.Target != k.end.Target {
		t.Errorf("after foreign records: %+v, %v", got, err)
	}
	if n := j.Unreadable(); n != 2 {
		t.Errorf("%d records are unreadable, want 2", n)
	}
	// The journal of a newer milena is an error.
	c.write("milena.a-b.journal", k.shard(), raw{k.state.AppendKey(nil), []byte{0, 99}})
	var newer *offsets.VersionError
	if err := ask(j, "orders", 100); !errors.As(err, &newer) || newer.Version != 99 {
		t.Errorf("a newer journal: %v", err)
	}
}

// raw is a foreign record.
type raw struct{ key, value []byte }

func (r raw) AppendKey([]byte) []byte   { return r.key }
func (r raw) AppendValue([]byte) []byte { return r.value }

func TestLookup(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.create("milena.a-b.journal", shards)
	for i, names := range [][2]string{{"orders", "a.orders"}, {"same", "same"}, {"old", "renamed"}} {
		k := newCopier(c, names[0], uint64(i))
		k.state.TargetTopic = names[1]
		k.copies(3)
		k.journals()
	}
	j := offsets.NewJournal(c.client, "milena.a-b.journal", offsets.JournalOptions{})
	for copied, topic := range map[string]string{"a.orders": "orders", "same": "same", "renamed": "old"} {
		state, err := j.Lookup(t.Context(), copied, 0)
		if err != nil || state.Topic != topic {
			t.Errorf("%s: %+v, %v", copied, state, err)
		}
	}
	var unknown *offsets.NotReplicatedError
	if _, err := j.Lookup(t.Context(), "orders", 0); !errors.As(err, &unknown) {
		t.Errorf("a source's name: %v", err)
	}
	states, err := j.States(t.Context())
	if err != nil || len(states) != 3 || states[0].Topic != "old" {
		t.Errorf("states are %v, %v", states, err)
	}
}

func BenchmarkJournal(b *testing.B) {
	c := newCluster(b)
	c.create("milena.a-b.journal", shards)
	k := newCopier(c, "orders", 1)
	for range benchSegments {
		mustAppend(b, k.m, k.end.Source+1, k.end.Target, 10)
		k.end.Source, k.end.Target = k.m.End()
	}
	k.journals()
	for name, ask := range map[string]func(*offsets.Journal, int64) error{
		"forward": func(j *offsets.Journal, o int64) error {
			_, err := j.Forward(context.Background(), "orders", 0, o)
			return err
		},
		"reverse": func(j *offsets.Journal, o int64) error {
			_, err := j.Reverse(context.Background(), "orders", 0, o)
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			before := heap()
			j := offsets.NewJournal(c.client, "milena.a-b.journal", offsets.JournalOptions{MaxAge: time.Hour})
			began := time.Now()
			if err := ask(j, 5); err != nil {
				b.Fatal(err)
			}
			read := time.Since(began)
			held := heap() - before
			wanted := make([]int64, 1<<16)
			for i := range wanted {
				wanted[i] = rand.Int64N(k.end.Target)
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if err := ask(j, wanted[i&(len(wanted)-1)]); err != nil {
					b.Fatal(err)
				}
				i++
			}
			b.ReportMetric(held/(1<<20), "heap-MiB")
			b.ReportMetric(read.Seconds(), "s-to-read")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "translations/s")
		})
	}
}
