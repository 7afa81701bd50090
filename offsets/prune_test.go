package offsets_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/offsets"
)

// records returns what a partition of a topic has.
func (c *cluster) records(topic string, partition int32) (records []*kgo.Record) {
	c.t.Helper()
	ends, err := kadm.NewClient(c.client).ListEndOffsets(context.Background(), topic)
	if err != nil {
		c.t.Fatal(err)
	}
	from := map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().AtStart()}}
	client, err := kgo.NewClient(kgo.SeedBrokers(c.addresses...), kgo.ConsumePartitions(from))
	if err != nil {
		c.t.Fatal(err)
	}
	defer client.Close()
	end, _ := ends.Lookup(topic, partition)
	for next := int64(0); next < end.Offset; {
		fetches := client.PollFetches(context.Background())
		if err := fetches.Err(); err != nil {
			c.t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			records, next = append(records, r), r.Offset+1
		})
	}
	return records
}

// logged is a copier whose logs lose their oldest records, and whose journal is pruned.
type logged struct {
	copier
	fake      *kfake.Cluster
	logStarts offsets.Pair

	chunks, earlier int // that were deleted: of the map, and of earlier generations
}

// takenOver is a takeover by a process that has only the journal.
func (l *logged) takenOver() {
	t := l.c.t
	l.journals()
	var found offsets.Restorer
	for _, r := range l.c.records(journalName, l.shard()) {
		if err := found.Add(r.Key, r.Value); err != nil {
			t.Fatal(err)
		}
	}
	restored := found.Partitions()[offsets.TopicPartition{Topic: l.state.Topic}]
	m, err := restored.Map()
	if err != nil {
		t.Fatal(err)
	}
	l.m, l.state = m, *restored.State
	l.end.Target++ // a marker
	mustAdvance(t, l.m, l.end.Source, l.end.Target)
}

// dies is an owner that wrote chunks ahead of a state that never followed. What they say of offsets above the state is not what the next owner
// finds.
func (l *logged) dies() {
	l.takenOver()
	l.journals()
	end := l.end
	for range offsets.ChunkSegments + l.random.IntN(2*offsets.ChunkSegments) {
		end = offsets.Pair{Source: end.Source + 1 + l.random.Int64N(2), Target: end.Target + 1}
		mustAppend(l.c.t, l.m, end.Source, end.Target, 1)
		end = offsets.Pair{Source: end.Source + 1, Target: end.Target + 1}
	}
	sealed := l.m.Sealed(-1, 64)
	l.state.NameChunks(sealed)
	for _, c := range sealed {
		l.c.write(journalName, l.shard(), c)
	}
	l.m = nil
	l.revive()
}

// revive is a takeover after a death: there is nothing to journal.
func (l *logged) revive() {
	l.m = offsets.NewMap(0, 0)
	changes, _ := l.m.Changed()
	l.m.MarkJournaled(changes)
	l.takenOver()
}

// recreated is a source topic that was deleted and created again.
func (l *logged) recreated() {
	l.state.Generation++
	l.end = offsets.Pair{Source: l.random.Int64N(50), Target: l.end.Target + l.random.Int64N(3)}
	l.m, l.records = offsets.NewMap(l.end.Source, l.end.Target), nil
	l.logStarts.Source = l.end.Source
	l.journals()
}

// expires moves the start of one log or of both.
func (l *logged) expires() {
	far := 1 + l.random.Int64N(4) // how much of the log goes
	if l.random.IntN(3) > 0 {
		l.logStarts.Source += (l.end.Source - l.logStarts.Source) * far / 4
	}
	if l.random.IntN(3) > 0 {
		l.logStarts.Target += (l.end.Target - l.logStarts.Target) * far / 4
	}
}

// unneeded returns what may be deleted.
func (l *logged) unneeded() []int64 {
	var found offsets.Pruner
	var loaded offsets.Restorer
	for _, r := range l.c.records(journalName, l.shard()) {
		if err := errors.Join(found.Add(r.Key, r.Value), loaded.Add(r.Key, r.Value)); err != nil {
			l.c.t.Fatal(err)
		}
	}
	if _, several := loaded.Chunks(); !several && len(found.Candidates()) > 0 {
		l.c.t.Fatal("the restorer found one chunk at most, and the pruner more")
	}
	for _, s := range found.Candidates() {
		return found.Unneeded(s, l.logStarts)
	}
	return nil
}

// pruned deletes what may be deleted in batches, between any two of which the process may end and the journal be compacted.
func (l *logged) pruned() {
	l.journals()
	generations := l.generations()
	list := l.unneeded()
	for len(list) > 0 {
		n := 1 + l.random.IntN(min(3, len(list)))
		var batch []entry
		for _, first := range list[:n] {
			batch = append(batch, &offsets.Tombstone{Kind: offsets.KindChunk, Topic: l.state.Topic, First: first})
			if generations[first] == l.state.Generation {
				l.chunks++
			} else {
				l.earlier++
			}
		}
		l.c.write(journalName, l.shard(), batch...)
		list = list[n:]
		if l.random.IntN(3) == 0 {
			l.fake.Compact()
		}
		if l.random.IntN(4) == 0 {
			l.verifyLogs()
		}
		if l.random.IntN(4) == 0 {
			l.takenOver()
			return
		}
	}
	if left := l.unneeded(); len(left) > 0 {
		l.c.t.Fatalf("after everything was deleted, %d may be", left)
	}
}

// generations returns the generation of each chunk in the journal.
func (l *logged) generations() map[int64]uint32 {
	list := make(map[int64]uint32)
	for _, r := range l.c.records(journalName, l.shard()) {
		if e, err := offsets.DecodeJournal(r.Key, r.Value); err == nil {
			if c, ok := e.(*offsets.Chunk); ok {
				list[c.First] = c.Generation
			}
		}
	}
	return list
}

// verifyLogs translates every offset of both logs with a reader that has read nothing before. What is in neither log, of which it asks for some,
// either translates as before or is an error that says so.
func (l *logged) verifyLogs() {
	t := l.c.t
	t.Helper()
	j := offsets.NewJournal(l.c.client, journalName, offsets.JournalOptions{MaxAge: time.Hour})
	w := model{records: l.records, start: l.state.Start, end: l.end}
	check := func(ask func(o int64) (offsets.Translation, error), from, to func(offsets.Pair) int64) {
		t.Helper()
		next := 0
		for o := from(l.state.Start); o <= from(l.end); o++ {
			if o < from(l.logStarts) && o%101 > 0 {
				continue
			}
			for next < len(w.records) && from(w.records[next]) < o {
				next++
			}
			rest := model{records: w.records[next:], start: w.start, end: w.end}
			want, exact := rest.translate(o, from, to)
			got, err := ask(o)
			var early *offsets.BeforeStartError
			if o < from(l.logStarts) && errors.As(err, &early) {
				continue
			}
			if err != nil || to(offsets.Pair{Source: got.Source, Target: got.Target}) != want || got.Exact != exact {
				t.Fatalf("%d of a log that starts at %d: %+v, %v; want %d, %v", o, from(l.logStarts), got, err, want, exact)
			}
		}
	}
	topic := l.state.Topic
	check(func(o int64) (offsets.Translation, error) { return j.Forward(t.Context(), topic, 0, o) }, source, target)
	check(func(o int64) (offsets.Translation, error) { return j.Reverse(t.Context(), topic, 0, o) }, target, source)
}

func (l *logged) step() {
	switch n := l.random.IntN(100); {
	case n < 55:
		l.copies(1 + l.random.IntN(400))
	case n < 65:
		l.drops()
	case n < 75:
		l.takenOver()
	case n < 78:
		l.dies()
	case n < 88:
		l.expires()
	case n < 96:
		l.pruned()
	case n < 98:
		l.fake.Compact()
	default:
		l.recreated()
	}
}

func TestPrunedJournalTranslatesBothLogs(t *testing.T) {
	t.Parallel()
	histories := uint64(10)
	if testing.Short() {
		histories = 6
	}
	chunks, earlier := make(chan int, histories), make(chan int, histories)
	t.Run("histories", func(t *testing.T) {
		for seed := range histories {
			t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
				t.Parallel()
				c, fake := fakes(t, 1)
				policy, retention := "compact", []string{"0", "86400000"}[seed%2] // how long tombstones stay
				configs := map[string]*string{"cleanup.policy": &policy, "delete.retention.ms": &retention}
				if _, err := kadm.NewClient(c.client).CreateTopic(t.Context(), shards, 1, configs, journalName); err != nil {
					t.Fatal(err)
				}
				l := &logged{copier: *newCopier(c, "orders", seed), fake: fake}
				l.journals()
				follower := offsets.NewJournal(c.client, journalName, offsets.JournalOptions{Memory: 30 << 10, MaxAge: time.Nanosecond})
				for range 6 {
					for range 12 {
						l.step()
					}
					l.journals()
					l.verifyLogs()
					o := l.logStarts.Source + l.random.Int64N(l.end.Source-l.logStarts.Source+1)
					want, exact := (&model{records: l.records, end: l.end}).translate(o, source, target)
					if got, err := follower.Forward(t.Context(), "orders", 0, o); err != nil || got.Target != want || got.Exact != exact {
						t.Fatalf("a reader that follows, %d: %+v, %v; want %d, %v", o, got, err, want, exact)
					}
				}
				chunks <- l.chunks
				earlier <- l.earlier
			})
		}
	})
	if a, b := sum(chunks), sum(earlier); a < 2*int(histories) || b < 2 {
		t.Errorf("%d chunks of maps and %d of earlier generations were deleted", a, b)
	}
}

// What is in doubt stays: without the log starts, behind a missing chunk, and next to a record that cannot be read.
func TestPrunerKeepsWhatIsInDoubt(t *testing.T) {
	t.Parallel()
	m := offsets.NewMap(0, 0)
	holes(t, m, 4*offsets.ChunkSegments)
	state := &offsets.PartitionState{Topic: "orders", LeaderEpoch: -1}
	changes, _ := m.Changed()
	chunks := state.Apply(changes)
	journal := []entry{state}
	for _, c := range chunks {
		journal = append(journal, c)
	}
	const all = 1 << 40
	unneeded := func(starts offsets.Pair, more ...entry) (names []int64) {
		t.Helper()
		var p offsets.Pruner
		for _, e := range append(journal[:len(journal):len(journal)], more...) {
			if err := p.Add(e.AppendKey(nil), e.AppendValue(nil)); err != nil {
				t.Fatal(err)
			}
		}
		for _, s := range p.Candidates() {
			names = append(names, p.Unneeded(s, starts)...)
		}
		return names
	}
	if got := unneeded(offsets.Pair{Source: all, Target: all}); len(got) != 3 || got[2] != chunks[2].First {
		t.Fatalf("of logs that are gone, %v", got)
	}
	middle := &offsets.Tombstone{Kind: offsets.KindChunk, Topic: "orders", First: chunks[1].First}
	for name, got := range map[string][]int64{
		"a source log whose start is not known": unneeded(offsets.Pair{Source: -1, Target: all}),
		"a target log whose start is not known": unneeded(offsets.Pair{Source: all, Target: -1}),
		"a target log that begins at 0":         unneeded(offsets.Pair{Source: all, Target: 0}),
		"a missing chunk":                       unneeded(offsets.Pair{Source: all, Target: all}, middle),
		"a chunk that cannot be read":           unneeded(offsets.Pair{Source: all, Target: all}, raw{middle.AppendKey(nil), []byte{0, 1}}),
		"a state that cannot be read":           unneeded(offsets.Pair{Source: all, Target: all}, raw{state.AppendKey(nil), []byte{0, 1}}),
		"a state that was deleted":              unneeded(offsets.Pair{Source: all, Target: all}, &offsets.Tombstone{Kind: offsets.KindPartition, Topic: "orders"}),
	} {
		if len(got) > 0 {
			t.Errorf("%s: %v are not needed", name, got)
		}
	}
	var newer *offsets.VersionError
	var p offsets.Pruner
	if err := p.Add(state.AppendKey(nil), []byte{0, 99}); !errors.As(err, &newer) {
		t.Errorf("a state of a newer milena: %v", err)
	}
}

// An offset below the map continues at its start only if the other log has nothing from before it.
func TestContinueBelowTheMap(t *testing.T) {
	t.Parallel()
	_, _, err := offsets.NewMap(100, 40).Forward(7)
	var early *offsets.BeforeStartError
	if !errors.As(err, &early) {
		t.Fatal(err)
	}
	for logStart, want := range map[int64]bool{-1: false, 0: false, 39: false, 40: true, 41: true} {
		if at, ok := early.Continue(logStart); ok != want || at != 40 {
			t.Errorf("a log that starts at %d: %d, %t", logStart, at, ok)
		}
	}
}

func sum(numbers chan int) (n int) {
	close(numbers)
	for i := range numbers {
		n += i
	}
	return n
}
