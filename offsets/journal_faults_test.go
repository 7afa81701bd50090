package offsets_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
)

// fakes returns a cluster and its fake brokers.
func fakes(t testing.TB, brokers int) (*cluster, *kfake.Cluster) {
	t.Helper()
	fake, err := kfake.NewCluster(kfake.NumBrokers(brokers))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	return &cluster{t: t, addresses: fake.ListenAddrs(), client: newClient(t, fake)}, fake
}

func newClient(t testing.TB, fake *kfake.Cluster) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(fake.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

const journalName = "milena.a-b.journal"

func (c *cluster) createCompacted(topic string, partitions int32) {
	c.t.Helper()
	compact := "compact"
	if _, err := kadm.NewClient(c.client).CreateTopic(context.Background(), partitions, 1, map[string]*string{"cleanup.policy": &compact}, topic); err != nil {
		c.t.Fatal(err)
	}
}

// The reader remembers the offsets of chunks. Compaction keeps offsets, but removes chunks that were written again.
func TestJournalIsCompactedWhileRead(t *testing.T) {
	t.Parallel()
	c, fake := fakes(t, 1)
	c.createCompacted(journalName, shards)
	small := offsets.NewJournal(c.client, journalName, offsets.JournalOptions{Memory: 1, MaxAge: time.Hour}) // one chunk
	fresh := offsets.NewJournal(c.client, journalName, offsets.JournalOptions{MaxAge: time.Nanosecond})
	k := newCopier(c, "orders", 11)
	for range 6 {
		k.copies(400)
		k.journals()
	}
	k.verify(small)
	before := k.end
	for range 4 { // the open chunk is written repeatedly
		k.copies(30)
		k.journals()
	}
	fake.Compact()
	for s := int64(0); s < before.Source; s += 7 { // MaxAge is an hour, so the reader notices only when it misses a chunk
		w := model{records: k.records, end: k.end}
		want, exact := w.translate(s, source, target)
		if got, err := small.Forward(t.Context(), "orders", 0, s); err != nil || got.Target != want || got.Exact != exact {
			t.Fatalf("forward %d after compaction: %+v, %v; want %d", s, got, err, want)
		}
	}
	k.verify(fresh)
	k.verify(small)
}

// An unreadable chunk must not be replaced by its older record: that would skip records.
func TestUnreadableChunkIsAnError(t *testing.T) {
	t.Parallel()
	c, _ := fakes(t, 1)
	c.create(journalName, shards)
	j := offsets.NewJournal(c.client, journalName, offsets.JournalOptions{MaxAge: time.Nanosecond})
	k := newCopier(c, "orders", 1)
	mustAppend(t, k.m, 0, 0, 10)
	k.journals()
	mustAppend(t, k.m, 20, 10, 10) // in the same chunk
	changes, _ := k.m.Changed()
	chunk := k.state.Apply(changes)[0]
	c.write(journalName, k.shard(), raw{chunk.AppendKey(nil), []byte{0, 1, 255}}, &k.state)
	var corrupt *offsets.CorruptError
	if got, err := j.Forward(t.Context(), "orders", 0, 15); !errors.As(err, &corrupt) {
		t.Errorf("%+v, %v; target 10 is right, 20 would skip ten records", got, err)
	}
	if j.Unreadable() == 0 {
		t.Error("it was not counted")
	}
	c.write(journalName, k.shard(), chunk, &k.state)
	if got, err := j.Forward(t.Context(), "orders", 0, 15); err != nil || got.Target != 10 {
		t.Errorf("after it was written again: %+v, %v", got, err)
	}
}

// Chunks that overlap, or with a missing chunk between them, give errors. Their neighbors still translate.
func TestMissingChunkIsAnError(t *testing.T) {
	t.Parallel()
	c, _ := fakes(t, 1)
	c.create(journalName, shards)
	j := offsets.NewJournal(c.client, journalName, offsets.JournalOptions{MaxAge: time.Nanosecond})
	k := newCopier(c, "orders", 1)
	holes(t, k.m, 4*offsets.ChunkSegments)
	k.journals()
	const each = 2 * offsets.ChunkSegments // source offsets of a chunk
	c.write(journalName, k.shard(), &offsets.Tombstone{Kind: offsets.KindChunk, Topic: "orders", First: each + 1})
	var corrupt *offsets.CorruptError
	for _, s := range []int64{each, each + 1, each + 100, 2*each - 1, 2*each + 1} {
		if got, err := j.Forward(t.Context(), "orders", 0, s); !errors.As(err, &corrupt) {
			t.Errorf("%d: %+v, %v", s, got, err)
		}
	}
	if got, err := j.Forward(t.Context(), "orders", 0, 3*each+1); err != nil || !got.Exact {
		t.Errorf("after: %+v, %v", got, err)
	}
	// The oldest chunks may be deleted. The map then starts later, and the error says so.
	c.write(journalName, k.shard(), &offsets.Tombstone{Kind: offsets.KindChunk, Topic: "orders", First: 0})
	var early *offsets.BeforeStartError
	if _, err := j.Forward(t.Context(), "orders", 0, 5); !errors.As(err, &early) || early.Start != 2*each+1 {
		t.Errorf("before the oldest: %v", err)
	}
}

func TestJournalIsCreatedAgain(t *testing.T) {
	t.Parallel()
	c, fake := fakes(t, 1)
	c.create(journalName, shards)
	j := offsets.NewJournal(c.client, journalName, offsets.JournalOptions{MaxAge: time.Nanosecond})
	k := newCopier(c, "orders", 1)
	k.copies(10)
	k.journals()
	k.verify(j)
	if err := fake.DeleteTopic(journalName); err != nil {
		t.Fatal(err)
	}
	var none *offsets.NoJournalError
	if _, err := j.Forward(t.Context(), "orders", 0, 1); !errors.As(err, &none) {
		t.Errorf("a deleted journal: %v", err)
	}
	writer := &cluster{t: t, client: newClient(t, fake)} // a producer refuses a topic with a new topic id
	writer.create(journalName, shards)
	other := newCopier(writer, "orders", 99)
	for range 20 { // longer than the earlier one, so that only the topic id differs
		other.copies(10)
		other.journals()
	}
	other.verify(j)
}

// With another number of partitions, every map is in another partition.
func TestJournalIsCreatedAgainWithOtherShards(t *testing.T) {
	t.Parallel()
	for _, question := range []string{"forward", "lookup", "states"} {
		t.Run(question, func(t *testing.T) {
			t.Parallel()
			c, fake := fakes(t, 1)
			c.create(journalName, 2*shards)
			j := offsets.NewJournal(c.client, journalName, offsets.JournalOptions{MaxAge: time.Nanosecond})
			if _, err := j.States(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := fake.DeleteTopic(journalName); err != nil {
				t.Fatal(err)
			}
			var none *offsets.NoJournalError
			if _, err := j.States(t.Context()); !errors.As(err, &none) {
				t.Errorf("a deleted journal: %v", err)
			}
			writer := &cluster{t: t, client: newClient(t, fake)}
			writer.create(journalName, shards)
			for seed, topic := range []string{"orders", "payments", "users", "a", "b", "c"} {
				k := newCopier(writer, topic, uint64(seed))
				k.copies(10)
				k.journals()
				switch question {
				case "forward":
					k.verifySome(j, 5)
				case "lookup":
					if state, err := j.Lookup(t.Context(), "a."+topic, 0); err != nil || state.Topic != topic {
						t.Errorf("%s: %+v, %v", topic, state, err)
					}
				case "states":
					if states, err := j.States(t.Context()); err != nil || len(states) != seed+1 {
						t.Errorf("%d states, %v; want %d", len(states), err, seed+1)
					}
				}
			}
		})
	}
}

func TestJournalStartIsDeleted(t *testing.T) {
	t.Parallel()
	c, fake := fakes(t, 1)
	c.create(journalName, shards)
	j := offsets.NewJournal(c.client, journalName, offsets.JournalOptions{Memory: 1, MaxAge: time.Nanosecond})
	k := newCopier(c, "orders", 1)
	k.copies(10)
	k.journals()
	k.verify(j)
	for range 5 {
		k.copies(10)
		k.journals()
	}
	if err := fake.DeleteRecords(journalName, k.shard(), 10); err != nil { // beyond what the reader has read
		t.Fatal(err)
	}
	k.verify(j)
}

func TestLeadersMoveWhileReading(t *testing.T) {
	t.Parallel()
	c, fake := fakes(t, 3)
	c.create(journalName, shards)
	j := offsets.NewJournal(c.client, journalName, offsets.JournalOptions{Memory: 20 << 10, MaxAge: time.Nanosecond})
	k := newCopier(c, "orders", 1)
	for i := range 6 {
		k.copies(200)
		k.journals()
		if err := fake.MoveTopicPartition(journalName, k.shard(), int32(i%3)); err != nil {
			t.Fatal(err)
		}
		fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.NotLeaderForPartition, Count: 2})
		k.verifySome(j, 50)
	}
	k.verify(j)
}

// A broker throttles a client that exceeds a quota with a response without partitions (KIP-219). That is no error.
func TestJournalIsReadWhileABrokerThrottles(t *testing.T) {
	t.Parallel()
	c, fake := fakes(t, 1)
	c.create(journalName, shards)
	j := offsets.NewJournal(c.client, journalName, offsets.JournalOptions{MaxAge: time.Nanosecond})
	k := newCopier(c, "orders", 1)
	k.copies(200)
	k.journals()
	var throttled atomic.Int32
	fake.ControlKey(int16(kmsg.Fetch), func(request kmsg.Request) (kmsg.Response, error, bool) {
		if throttled.Add(1) > 200 {
			return nil, nil, false // the control is removed
		}
		fake.KeepControl()
		response := request.ResponseKind().(*kmsg.FetchResponse)
		response.ThrottleMillis = 1
		return response, nil, true
	})
	k.verifySome(j, 5)
	if n := throttled.Load(); n < 200 {
		t.Errorf("%d fetches were throttled", n)
	}
}

// verifySome translates a few offsets of either side.
func (k *copier) verifySome(j *offsets.Journal, n int) {
	t := k.c.t
	t.Helper()
	w := model{records: k.records, end: k.end}
	for range n {
		s := rand.Int64N(k.end.Source + 1)
		want, exact := w.translate(s, source, target)
		if got, err := j.Forward(context.Background(), k.state.Topic, 0, s); err != nil || got.Target != want || got.Exact != exact {
			t.Errorf("forward %d: %+v, %v; want %d, %v", s, got, err, want, exact)
			return
		}
		o := rand.Int64N(k.end.Target + 1)
		want, exact = w.translate(o, target, source)
		if got, err := j.Reverse(context.Background(), k.state.Topic, 0, o); err != nil || got.Source != want || got.Exact != exact {
			t.Errorf("reverse %d: %+v, %v; want %d, %v", o, got, err, want, exact)
			return
		}
	}
}

// Concurrent questions while the journal grows, with memory for a few chunks.
func TestConcurrentQuestions(t *testing.T) {
	t.Parallel()
	c, _ := fakes(t, 1)
	c.create(journalName, shards)
	j := offsets.NewJournal(c.client, journalName, offsets.JournalOptions{Memory: 40 << 10, MaxAge: time.Millisecond})
	k := newCopier(c, "orders", 1)
	k.copies(3000)
	k.journals()
	old := copier{c: c, state: k.state, records: k.records[:len(k.records):len(k.records)], end: k.records[len(k.records)-1]}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() { old.verifySome(j, 300) })
	}
	for range 5 {
		k.copies(100)
		k.journals()
	}
	all.Wait()
	k.verify(j)
}

// While the cluster does not answer one question, others are answered from memory.
func TestWaitingQuestionDoesNotBlockOthers(t *testing.T) {
	t.Parallel()
	c, fake := fakes(t, 1)
	c.create(journalName, shards)
	j := offsets.NewJournal(c.client, journalName, offsets.JournalOptions{MaxAge: time.Hour})
	k := newCopier(c, "orders", 1)
	k.copies(10)
	k.journals()
	k.verifySome(j, 1)
	asked, answer := make(chan struct{}), make(chan struct{})
	fake.ControlKey(int16(kmsg.ListOffsets), func(kmsg.Request) (kmsg.Response, error, bool) {
		fake.SleepControl(func() { close(asked); <-answer }) // only once: the control is then removed
		return nil, nil, false
	})
	var all sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	all.Go(func() { _, _ = j.Forward(ctx, "orders", 0, k.end.Source+1) })
	<-asked
	k.verifySome(j, 50)
	second, cancelSecond := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancelSecond()
	if _, err := j.Forward(second, "orders", 0, k.end.Source+1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a question whose context ends: %v", err)
	}
	cancel()
	close(answer)
	all.Wait()
}
