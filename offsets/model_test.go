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

// model is a naive map that is correct by construction: one offset pair per record, searched linearly.
type model struct {
	records    []offsets.Pair
	start, end offsets.Pair
}

func (m *model) translate(wanted int64, from, to func(offsets.Pair) int64) (offset int64, exact bool) {
	if wanted == from(m.end) {
		return to(m.end), true
	}
	for _, p := range m.records {
		if from(p) >= wanted {
			return to(p), from(p) == wanted
		}
	}
	return to(m.end), false
}

func source(p offsets.Pair) int64 { return p.Source }
func target(p offsets.Pair) int64 { return p.Target }

// world is one partition: a map, its model, and a journal of encoded entries.
type world struct {
	t       *testing.T
	random  *rand.Rand
	m       *offsets.Map
	model   model
	state   offsets.PartitionState
	journal map[string][]byte
}

func newWorld(t *testing.T, seed uint64) *world {
	random := rand.New(rand.NewPCG(seed, 0))
	start := offsets.Pair{Source: random.Int64N(1000), Target: random.Int64N(1000)}
	w := &world{
		t: t, random: random,
		m:       offsets.NewMap(start.Source, start.Target),
		model:   model{start: start, end: start},
		state:   offsets.PartitionState{Topic: "orders", Partition: 3, Generation: 1, LeaderEpoch: -1},
		journal: map[string][]byte{},
	}
	// A leftover of a map that was restarted.
	remains := &offsets.Chunk{Topic: "orders", Partition: 3, First: 100_000_000, Previous: -1}
	w.journal[string(remains.AppendKey(nil))] = remains.AppendValue(nil)
	w.journalWrite()
	return w
}

// records appends a batch, after a hole on no side, one side or both.
func (w *world) records() {
	end := w.model.end
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
		w.model.records = append(w.model.records, end)
		end.Source++
		end.Target++
	}
	w.model.end = end
}

// drops moves the ends: dropped records on the source, markers on the target.
func (w *world) drops() {
	w.model.end.Source += w.random.Int64N(3)
	w.model.end.Target += w.random.Int64N(3)
	if err := w.m.Advance(w.model.end.Source, w.model.end.Target); err != nil {
		w.t.Fatal(err)
	}
}

// journalWrite is one journal write. It may fail, its acknowledgement may be lost, and records may be appended during
// it.
func (w *world) journalWrite() {
	c, changed := w.m.Changed()
	if !changed {
		return
	}
	chunks := w.state.Apply(c)
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

// restore restarts from the journal: with all of it, or with the part that a process that replicates reads.
func (w *world) restore() {
	for changed := true; changed; _, changed = w.m.Changed() {
		w.journalWrite() // a takeover would find the missing part on the target; here it is journaled first
	}
	var state *offsets.PartitionState
	var chunks []*offsets.Chunk
	for key, value := range w.journal {
		entry, err := offsets.DecodeJournal([]byte(key), value)
		if err != nil {
			w.t.Fatal(err)
		}
		if !bytes.Equal(entry.AppendKey(nil), []byte(key)) || !bytes.Equal(entry.AppendValue(nil), value) {
			w.t.Fatalf("%+v is encoded differently", entry)
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

// verify compares the map with its model: its start and end, its order, and translations.
func (w *world) verify() {
	w.t.Helper()
	var start, end offsets.Pair
	start.Source, start.Target = w.m.Start()
	end.Source, end.Target = w.m.End()
	if end != w.model.end {
		w.t.Fatalf("ends at %+v, want %+v", end, w.model.end)
	}
	if start != w.model.start && !slices.Contains(w.model.records, start) {
		w.t.Fatalf("starts at %+v, which is not a copied record", start)
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
		w.t.Fatalf("Len is %d, but there are %d segments", w.m.Len(), n)
	}
	w.verifySide(w.m.Forward, start.Source, source, target)
	w.verifySide(w.m.Reverse, start.Target, target, source)
}

func (w *world) verifySide(translate func(int64) (int64, bool, error), start int64, from, to func(offsets.Pair) int64) {
	w.t.Helper()
	low, end := from(w.model.start)-2, from(w.model.end)
	for i := range 60 {
		wanted := low + w.random.Int64N(end-low+3)
		if i < 10 {
			wanted = end - int64(i) + 2 // most corner cases are near the end
		}
		got, exact, err := translate(wanted)
		var before *offsets.BeforeStartError
		var notCopied *offsets.NotCopiedError
		switch {
		case wanted < start:
			if !errors.As(err, &before) || before.Forgotten != (wanted >= from(w.model.start)) || before.Start != start {
				w.t.Fatalf("%d below the start %d: %v", wanted, start, err)
			}
		case wanted > end:
			if !errors.As(err, &notCopied) || notCopied.End != end {
				w.t.Fatalf("%d above the end %d: %v", wanted, end, err)
			}
		default:
			want, wantExact := w.model.translate(wanted, from, to)
			if got != want || exact != wantExact || err != nil {
				w.t.Fatalf("%d: %d, %t, %v, want %d, %t", wanted, got, exact, err, want, wantExact)
			}
		}
	}
}

func TestMapMatchesModel(t *testing.T) {
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
		t.Errorf("no run had more than %d chunks", most)
	}
}

// live performs a number of random steps, and verifies now and then.
func (w *world) live(steps int) {
	for range steps {
		switch n := w.random.IntN(100); {
		case n < 80:
			w.records()
		case n < 88:
			w.drops()
		case n < 97:
			w.journalWrite()
		case n < 99:
			w.m.Forget(w.random.Int64N(w.model.end.Source + 2))
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
