package offsets_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/milena-kafka/milena/offsets"
)

// twin is a map that cannot be wrong: one pair per record, and it looks at all of them.
type twin struct {
	pairs      []offsets.Position
	start, end offsets.Position
}

func (w *twin) translate(wanted int64, from, to func(offsets.Position) int64) (offset int64, exact bool) {
	if wanted == from(w.end) {
		return to(w.end), true
	}
	for _, p := range w.pairs {
		if from(p) >= wanted {
			return to(p), from(p) == wanted
		}
	}
	return to(w.end), false
}

func source(p offsets.Position) int64 { return p.Source }
func target(p offsets.Position) int64 { return p.Target }

// world is one partition: a map, its twin, and a journal of bytes.
type world struct {
	t       *testing.T
	random  *rand.Rand
	m       *offsets.Map
	twin    twin
	state   offsets.PartitionState
	journal map[string][]byte
}

func newWorld(t *testing.T, seed uint64) *world {
	random := rand.New(rand.NewPCG(seed, 0))
	start := offsets.Position{Source: random.Int64N(1000), Target: random.Int64N(1000)}
	w := &world{
		t: t, random: random,
		m:       offsets.NewMap(start.Source, start.Target),
		twin:    twin{start: start, end: start},
		state:   offsets.PartitionState{Topic: "orders", Partition: 3, Generation: 1, LeaderEpoch: -1},
		journal: map[string][]byte{},
	}
	// Remains of a map that was restarted.
	remains := &offsets.Chunk{Topic: "orders", Partition: 3, First: 100_000_000, Previous: -1}
	w.journal[string(remains.AppendKey(nil))] = remains.AppendValue(nil)
	w.pass()
	return w
}

// records appends a batch: after a hole on no side, one side or both.
func (w *world) records() {
	end := w.twin.end
	switch w.random.IntN(4) {
	case 0:
		end.Source += 1 + w.random.Int64N(3)
	case 1:
		end.Target += 1 + w.random.Int64N(3)
	case 2:
		end.Source += w.random.Int64N(2)
		end.Target += w.random.Int64N(2)
	}
	count := 1 + w.random.Int64N(3)
	if err := w.m.Append(end.Source, end.Target, count); err != nil {
		w.t.Fatal(err)
	}
	for range count {
		w.twin.pairs = append(w.twin.pairs, end)
		end.Source++
		end.Target++
	}
	w.twin.end = end
}

// drops moves the ends: a dropped tail on the source, markers on the target.
func (w *world) drops() {
	w.twin.end.Source += w.random.Int64N(3)
	w.twin.end.Target += w.random.Int64N(3)
	if err := w.m.Advance(w.twin.end.Source, w.twin.end.Target); err != nil {
		w.t.Fatal(err)
	}
}

// pass is one journal pass. Its write may fail, its acknowledgement may be lost, and records may come meanwhile.
func (w *world) pass() {
	c, changed := w.m.Changed()
	if !changed {
		return
	}
	chunks := w.state.Take(c)
	if len(w.journal) > 1 && w.random.IntN(4) == 0 {
		return // failed
	}
	for range w.random.IntN(3) {
		w.records()
	}
	w.journal[string(w.state.AppendKey(nil))] = w.state.AppendValue(nil)
	for _, chunk := range chunks {
		w.journal[string(chunk.AppendKey(nil))] = chunk.AppendValue(nil)
	}
	if w.random.IntN(4) > 0 {
		w.m.MarkJournaled(c)
	}
}

// restore starts again from the journal: with all of it, or with what a process that replicates reads.
func (w *world) restore() {
	for changed := true; changed; _, changed = w.m.Changed() {
		w.pass() // what the journal does not have, a take-over would find on the target; here it is written first
	}
	var state *offsets.PartitionState
	var chunks []*offsets.Chunk
	for key, value := range w.journal {
		entry, err := offsets.DecodeJournal([]byte(key), value)
		if err != nil {
			w.t.Fatal(err)
		}
		if !bytes.Equal(entry.AppendKey(nil), []byte(key)) || !bytes.Equal(entry.AppendValue(nil), value) {
			w.t.Fatalf("%+v is encoded in another way than it was", entry)
		}
		switch e := entry.(type) {
		case *offsets.PartitionState:
			state = e
		case *offsets.Chunk:
			chunks = append(chunks, e)
		}
	}
	if w.random.IntN(2) == 0 {
		chunks = slices.DeleteFunc(chunks, func(c *offsets.Chunk) bool { return c.First != state.Chunk })
	}
	m, err := offsets.RestoreMap(state, chunks...)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, changed := m.Changed(); changed {
		w.t.Fatal("a restored map differs from the journal")
	}
	w.m, w.state = m, *state
}

// verify compares the map with its twin: its edges, its order, and translations.
func (w *world) verify() {
	w.t.Helper()
	var start, end offsets.Position
	start.Source, start.Target = w.m.Start()
	end.Source, end.Target = w.m.End()
	if end != w.twin.end {
		w.t.Fatalf("ends at %+v, want %+v", end, w.twin.end)
	}
	if start != w.twin.start && !slices.Contains(w.twin.pairs, start) {
		w.t.Fatalf("starts at %+v, where nothing is", start)
	}
	n, last := 0, offsets.Segment{Source: start.Source, Target: start.Target}
	for s := range w.m.Segments() {
		if s.Count < 1 || s.Source < last.SourceEnd() || s.Target < last.TargetEnd() {
			w.t.Fatalf("segment %+v after %+v", s, last)
		}
		if n > 0 && s.Source == last.SourceEnd() && s.Target == last.TargetEnd() {
			w.t.Fatalf("segments %+v and %+v should be one", last, s)
		}
		n, last = n+1, s
	}
	if n != w.m.Len() {
		w.t.Fatalf("Len is %d, and there are %d", w.m.Len(), n)
	}
	w.verifySide(w.m.Forward, start.Source, source, target)
	w.verifySide(w.m.Reverse, start.Target, target, source)
}

func (w *world) verifySide(translate func(int64) (int64, bool, error), start int64, from, to func(offsets.Position) int64) {
	w.t.Helper()
	low, end := from(w.twin.start)-2, from(w.twin.end)
	for i := range 60 {
		wanted := low + w.random.Int64N(end-low+3)
		if i < 10 {
			wanted = end - int64(i) + 2 // the tail is where the corners are
		}
		got, exact, err := translate(wanted)
		var before *offsets.BeforeStartError
		var notCopied *offsets.NotCopiedError
		switch {
		case wanted < start:
			if !errors.As(err, &before) || before.Forgotten != (wanted >= from(w.twin.start)) || before.Start != start {
				w.t.Fatalf("%d below the start %d: %v", wanted, start, err)
			}
		case wanted > end:
			if !errors.As(err, &notCopied) || notCopied.End != end {
				w.t.Fatalf("%d behind the end %d: %v", wanted, end, err)
			}
		default:
			want, wantExact := w.twin.translate(wanted, from, to)
			if got != want || exact != wantExact || err != nil {
				w.t.Fatalf("%d: %d, %t, %v, want %d, %t", wanted, got, exact, err, want, wantExact)
			}
		}
	}
}

func TestMapIsItsNaiveTwin(t *testing.T) {
	histories := uint64(300)
	if testing.Short() {
		histories = 50
	}
	most := 0
	for seed := range histories {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			w := newWorld(t, seed)
			steps := 20 + w.random.IntN(200)
			if seed%10 == 0 {
				steps = 3000 // several chunks
			}
			w.live(steps)
			most = max(most, len(w.journal)-2)
		})
	}
	if most < 4 {
		t.Errorf("no history had more than %d chunks", most)
	}
}

// live does so many random things, and looks now and then.
func (w *world) live(steps int) {
	for range steps {
		switch n := w.random.IntN(100); {
		case n < 80:
			w.records()
		case n < 88:
			w.drops()
		case n < 97:
			w.pass()
		case n < 99:
			w.m.Forget(w.random.Int64N(w.twin.end.Source + 2))
		default:
			w.restore()
		}
		if w.random.IntN(50) == 0 {
			w.verify()
		}
	}
	w.verify()
	w.restore()
	w.m.Forget(math.MaxInt64)
	w.verify()
}
