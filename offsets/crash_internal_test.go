package offsets

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// flowLife is a partition of a flow that is killed again and again between two batches of its journal. What was copied is on the target
// whatever happens: copied has one offset pair per record, and a takeover finds there what the journal does not have.
type flowLife struct {
	t      *testing.T
	random *rand.Rand
	copied []Pair
	end    Pair // of the copy

	m     *Map
	state PartitionState
	log   []*kgo.Record // the journal
	next  int64         // offset of the next record of the journal
}

func newFlowLife(t *testing.T, seed uint64) *flowLife {
	l := &flowLife{t: t, random: rand.New(rand.NewPCG(seed, 3)), state: PartitionState{Topic: "orders", TargetTopic: "a.orders"}}
	l.end = Pair{Source: l.random.Int64N(20), Target: 0}
	l.m = NewMap(l.end.Source, l.end.Target)
	l.append(l.pass())
	return l
}

// copies appends n runs of records with holes between them.
func (l *flowLife) copies(n int) {
	for range n {
		l.end.Source += l.random.Int64N(3)
		l.end.Target += l.random.Int64N(2)
		count := 1 + l.random.Int64N(3)
		l.must(l.m.Append(l.end.Source, l.end.Target, count))
		for range count {
			l.copied = append(l.copied, l.end)
			l.end = Pair{Source: l.end.Source + 1, Target: l.end.Target + 1}
		}
	}
	l.end.Source += 2 * l.random.Int64N(2) // dropped records
	l.must(l.m.Advance(l.end.Source, l.end.Target))
}

// fills appends segments until the open chunk is full, which the next segment seals.
func (l *flowLife) fills() {
	for len(l.m.chunks[len(l.m.chunks)-1].segments) < ChunkSegments {
		l.copies(1)
	}
}

// pass returns the entries of one journal pass, in order: sealed chunks, then the open one and the state.
func (l *flowLife) pass() []Entry {
	var entries []Entry
	for after := noChunk; ; {
		sealed := l.m.Sealed(after, 1+l.random.IntN(3))
		if len(sealed) == 0 {
			break
		}
		l.state.NameChunks(sealed)
		for _, c := range sealed {
			entries = append(entries, c)
			after = c.First
		}
	}
	if changes, changed := l.m.Changed(); changed {
		for _, c := range l.state.Apply(changes) {
			if c.First == l.state.Chunk {
				entries = append(entries, c)
			}
		}
	}
	state := l.state
	return append(entries, &state)
}

func (l *flowLife) append(entries []Entry) {
	for _, e := range entries {
		l.log = append(l.log, &kgo.Record{Key: e.AppendKey(nil), Value: e.AppendValue(nil), Offset: l.next})
		l.next++
	}
}

// compact keeps the newest record of each key up to some offset, as the log cleaner does.
func (l *flowLife) compact() {
	if len(l.log) == 0 {
		return
	}
	dirty := l.random.IntN(len(l.log) + 1)
	newest := make(map[string]int64)
	for _, r := range l.log[:dirty] {
		newest[string(r.Key)] = r.Offset
	}
	clean := slices.DeleteFunc(slices.Clone(l.log[:dirty]), func(r *kgo.Record) bool { return newest[string(r.Key)] != r.Offset })
	l.log = append(clean, l.log[dirty:]...)
}

// takeOver is a new owner: it restores the map from the journal, and finds the rest on the target, behind which its fence left a marker.
func (l *flowLife) takeOver() {
	t := l.t
	t.Helper()
	var r Restorer
	for _, record := range l.log {
		l.must(r.Add(record.Key, record.Value))
	}
	p := r.Partitions()[TopicPartition{Topic: "orders"}]
	m, err := p.Map()
	l.must(err)
	l.m, l.state = m, *p.State
	if got := (Pair{Source: l.m.end.Source, Target: l.m.end.Target}); got != l.state.End {
		t.Fatalf("the map ends at %+v, the state at %+v", got, l.state.End)
	}
	for s := range l.m.Segments() {
		for i := range s.Count {
			if !slices.Contains(l.copied, Pair{Source: s.Source + i, Target: s.Target + i}) || s.Source+i >= l.state.End.Source {
				t.Fatalf("segment %+v of the restored map, record %d", s, i)
			}
		}
	}
	known, _ := slices.BinarySearchFunc(l.copied, l.state.End.Source, func(p Pair, source int64) int { return int(p.Source - source) })
	kept := l.copied[:known:known]
	for _, p := range l.copied[known:] {
		if l.random.IntN(100) == 0 {
			continue // the source's log cleaner was faster: the record is not part of the map, which divides differently into chunks
		}
		kept = append(kept, p)
		l.must(l.m.Append(p.Source, p.Target, 1))
	}
	l.copied = kept
	l.end.Target++
	l.must(l.m.Advance(l.end.Source, l.end.Target))
}

// verifyReader translates with the journal as it is now: everything below the end of its state. The reader had read a part of it
// before.
func (l *flowLife) verifyReader() {
	t := l.t
	t.Helper()
	before := l.random.IntN(len(l.log) + 1)
	if l.random.IntN(2) == 0 {
		before = len(l.log) - 1
	}
	j := &Journal{log: slog.New(slog.DiscardHandler), cache: chunkCache{limit: 32 << 20}}
	s := &journalShard{journal: j, loading: make(chan struct{}, 1)}
	s.reset()
	l.must(s.add(l.log[:before]))
	s.publish(time.Now())
	l.must(s.add(l.log[before:]))
	s.publish(time.Now())
	key := partitionKey{"orders", 0}
	state := s.state(key)
	ask := func(side Side, wanted int64) {
		got, missing, err := j.answer(s, key, side, wanted, loadedChunk{})
		if err != nil || missing != nil {
			t.Fatalf("%s %d with an end of %+v: %+v, %v", side, wanted, state.End, missing, err)
		}
		other := side.other()
		want, exact := state.End.on(other), wanted == state.End.on(side)
		i, _ := slices.BinarySearchFunc(l.copied, wanted, func(p Pair, wanted int64) int { return int(p.on(side) - wanted) })
		if !exact && i < len(l.copied) && l.copied[i].Source < state.End.Source {
			want, exact = l.copied[i].on(other), l.copied[i].on(side) == wanted
		}
		if answer := (Pair{Source: got.Source, Target: got.Target}).on(other); answer != want || got.Exact != exact {
			t.Fatalf("%s %d with an end of %+v: %d, %t; want %d, %t", side, wanted, state.End, answer, got.Exact, want, exact)
		}
	}
	for range 200 {
		ask(Source, state.Start.Source+l.random.Int64N(state.End.Source-state.Start.Source+1))
		ask(Target, state.Start.Target+l.random.Int64N(state.End.Target-state.Start.Target+1))
	}
	ask(Source, state.End.Source)
	ask(Source, max(state.Start.Source, state.End.Source-1))
}

func (l *flowLife) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// fork returns an independent life with the same past.
func (l *flowLife) fork() *flowLife {
	f := *l
	f.copied, f.log = slices.Clone(l.copied), slices.Clone(l.log)
	return &f
}

// A journal pass may end between any two records. Whoever takes over then has a map that is exact, and so has every reader, before and after.
func TestMapIsExactWhereverAJournalPassEnds(t *testing.T) {
	t.Parallel()
	seeds := uint64(20)
	if testing.Short() {
		seeds = 5
	}
	crashes := 0
	for seed := range seeds {
		l := newFlowLife(t, seed)
		for range 4 {
			l.copies(1 + l.random.IntN(1800))
			if l.random.IntN(3) == 0 {
				l.fills()
				l.append(l.pass())
				l.m.MarkJournaled(changesOf(l.m))
				l.copies(600)
			}
			entries := l.pass()
			var survivor *flowLife
			for kept := range len(entries) + 1 {
				crashed := l.fork()
				crashed.append(entries[:kept])
				crashed.verifyReader()
				if crashed.random.IntN(2) == 0 {
					crashed.compact()
				}
				crashed.takeOver()
				if again := crashed.random.IntN(3); again > 0 {
					crashed.append(crashed.pass()) // most often only the state
					crashed.compact()
					crashed.takeOver()
				}
				crashed.copies(crashed.random.IntN(700))
				crashed.append(crashed.pass())
				crashed.verifyReader()
				crashed.m.MarkJournaled(changesOf(crashed.m))
				crashes++
				if survivor == nil || crashed.random.IntN(len(entries)+1) == 0 {
					survivor = crashed
				}
			}
			l = survivor
			if l.random.IntN(2) == 0 {
				l.compact()
			}
		}
		if t.Failed() {
			t.Fatal(fmt.Sprint("seed ", seed))
		}
	}
	t.Logf("%d crashes", crashes)
}

func changesOf(m *Map) Changes {
	c, _ := m.Changed()
	return c
}
