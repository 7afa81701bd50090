package offsets_test

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/milena-kafka/milena/offsets"
)

type translation struct {
	wanted, offset int64
	exact          bool
}

// example is the example in doc.go.
func example(t testing.TB) *offsets.Map {
	t.Helper()
	m := offsets.NewMap(100, 40)
	mustAppend(t, m, 100, 40, 2)
	mustAppend(t, m, 102, 42, 1)
	mustAppend(t, m, 104, 43, 2)
	mustAppend(t, m, 106, 46, 1)
	mustAdvance(t, m, 108, 47)
	return m
}

func mustAppend(t testing.TB, m *offsets.Map, source, target, count int64) {
	t.Helper()
	if err := m.Append(source, target, count); err != nil {
		t.Fatal(err)
	}
}

func mustAdvance(t testing.TB, m *offsets.Map, source, target int64) {
	t.Helper()
	if err := m.Advance(source, target); err != nil {
		t.Fatal(err)
	}
}

func TestTranslate(t *testing.T) {
	late := offsets.NewMap(10, 20) // starts with dropped records and a marker, and has no segments at first
	mustAdvance(t, late, 15, 21)
	headless := offsets.NewMap(0, 0)
	mustAppend(t, headless, 5, 3, 2)
	moved := offsets.NewMap(0, 0) // the target's end is after a marker after the last record
	mustAppend(t, moved, 0, 0, 3)
	mustAdvance(t, moved, 3, 4)

	for _, test := range []struct {
		name             string
		m                *offsets.Map
		forward, reverse []translation
	}{
		{
			"an empty map translates its start only", offsets.NewMap(7, 9),
			[]translation{{7, 9, true}},
			[]translation{{9, 7, true}},
		},
		{
			"without a segment everything leads to the end", late,
			[]translation{{10, 21, false}, {14, 21, false}, {15, 21, true}},
			[]translation{{20, 15, false}, {21, 15, true}},
		},
		{
			"a dropped head leads to the first record", headless,
			[]translation{{0, 3, false}, {4, 3, false}, {5, 3, true}, {6, 4, true}, {7, 5, true}},
			[]translation{{0, 5, false}, {2, 5, false}, {3, 5, true}, {4, 6, true}, {5, 7, true}},
		},
		{
			"holes, markers and a dropped tail", example(t),
			[]translation{
				{100, 40, true},
				{101, 41, true},
				{102, 42, true},
				{103, 43, false},
				{104, 43, true},
				{105, 44, true},
				{106, 46, true},
				{107, 47, false},
				{108, 47, true},
			},
			[]translation{
				{40, 100, true},
				{42, 102, true},
				{43, 104, true},
				{44, 105, true},
				{45, 106, false},
				{46, 106, true},
				{47, 108, true},
			},
		},
		{
			"a marker after the last record", moved,
			[]translation{{2, 2, true}, {3, 4, true}},
			[]translation{{2, 2, true}, {3, 3, false}, {4, 3, true}},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, want := range test.forward {
				got, exact, err := test.m.Forward(want.wanted)
				if got != want.offset || exact != want.exact || err != nil {
					t.Errorf("Forward(%d) = %d, %t, %v, want %d, %t", want.wanted, got, exact, err, want.offset, want.exact)
				}
			}
			for _, want := range test.reverse {
				got, exact, err := test.m.Reverse(want.wanted)
				if got != want.offset || exact != want.exact || err != nil {
					t.Errorf("Reverse(%d) = %d, %t, %v, want %d, %t", want.wanted, got, exact, err, want.offset, want.exact)
				}
			}
		})
	}
}

func TestTranslateOutsideOfTheMap(t *testing.T) {
	m := example(t)
	for _, test := range []struct {
		translate func(int64) (int64, bool, error)
		wanted    int64
		want      error
	}{
		{m.Forward, 99, &offsets.BeforeStartError{Side: offsets.Source, Wanted: 99, Start: 100}},
		{m.Reverse, 39, &offsets.BeforeStartError{Side: offsets.Target, Wanted: 39, Start: 40}},
		{m.Forward, 109, &offsets.NotCopiedError{Side: offsets.Source, Wanted: 109, End: 108}},
		{m.Reverse, 48, &offsets.NotCopiedError{Side: offsets.Target, Wanted: 48, End: 47}},
	} {
		_, exact, err := test.translate(test.wanted)
		if exact || err == nil || err.Error() != test.want.Error() {
			t.Errorf("translate %d: %t, %v, want %v", test.wanted, exact, err, test.want)
		}
	}
}

func TestAppendRefusesToGoBackwards(t *testing.T) {
	for _, test := range []struct {
		name                  string
		source, target, count int64
	}{
		{"source below the end", 107, 47, 1},
		{"target below the end", 108, 46, 1},
		{"the same again", 106, 46, 1},
		{"no record", 108, 47, 0},
		{"less than no record", 108, 47, -1},
		{"source overflows", math.MaxInt64, 47, 1},
		{"target overflows", 108, math.MaxInt64 - 1, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := example(t)
			before := slices.Collect(m.Segments())
			var order *offsets.OrderError
			if err := m.Append(test.source, test.target, test.count); !errors.As(err, &order) {
				t.Fatalf("Append: %v, want an OrderError", err)
			}
			want := offsets.OrderError{
				Source: test.source, Target: test.target, Count: test.count,
				End: offsets.Pair{Source: 108, Target: 47},
			}
			if *order != want {
				t.Errorf("got %+v, want %+v", *order, want)
			}
			if source, target := m.End(); source != 108 || target != 47 || !slices.Equal(slices.Collect(m.Segments()), before) {
				t.Errorf("the map changed: ends at %d, %d", source, target)
			}
		})
	}
	m := example(t)
	for _, end := range [][2]int64{{107, 47}, {108, 46}, {200, 46}} {
		var order *offsets.OrderError
		if err := m.Advance(end[0], end[1]); !errors.As(err, &order) {
			t.Errorf("Advance(%d, %d): %v, want an OrderError", end[0], end[1], err)
		}
	}
}

func TestDensePartitionIsOneSegment(t *testing.T) {
	m := offsets.NewMap(0, 1_000_000)
	const batches, each = 1_000_000, 1000
	for i := range int64(batches) {
		mustAppend(t, m, i*each, 1_000_000+i*each, each)
	}
	want := offsets.Segment{Source: 0, Target: 1_000_000, Count: 1_000_000_000}
	if got := slices.Collect(m.Segments()); m.Len() != 1 || !slices.Equal(got, []offsets.Segment{want}) {
		t.Fatalf("%d segments: %v", m.Len(), got)
	}
	c, _ := m.Changed()
	if value := c.Chunks[0].AppendValue(nil); len(value) >= 16 {
		t.Errorf("a dense chunk has %d bytes, want less than 16", len(value))
	}
}

func TestSegmentsMergeOnlyIfBothSidesAreContiguous(t *testing.T) {
	m := offsets.NewMap(0, 0)
	mustAppend(t, m, 0, 0, 5)
	mustAppend(t, m, 5, 5, 1) // both
	mustAppend(t, m, 6, 7, 1) // the target has a hole
	mustAppend(t, m, 8, 8, 1) // the source has one
	mustAppend(t, m, 9, 9, 1)
	want := []offsets.Segment{{0, 0, 6}, {6, 7, 1}, {8, 8, 2}}
	if got := slices.Collect(m.Segments()); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for range m.Segments() { // an iteration may stop early
		break
	}
}

// holes appends n segments with a hole of one source offset between them.
func holes(t testing.TB, m *offsets.Map, n int) {
	t.Helper()
	for range n {
		source, target := m.End()
		mustAppend(t, m, source+1, target, 1)
	}
}

func TestForgetDropsOnlyJournaledChunks(t *testing.T) {
	m := offsets.NewMap(0, 0)
	holes(t, m, 2*offsets.ChunkSegments)
	c, changed := m.Changed()
	if !changed || len(c.Chunks) != 2 {
		t.Fatalf("%d chunks changed, want 2", len(c.Chunks))
	}
	m.Forget(math.MaxInt64)
	if m.Len() != 2*offsets.ChunkSegments {
		t.Fatalf("chunks that were not journaled are gone: %d segments left", m.Len())
	}
	holes(t, m, 1) // during the write: seals the second chunk and opens a third
	m.MarkJournaled(c)
	first := c.Chunks[1].Segments[0]

	m.Forget(first.Source - 1)
	if m.Len() != 2*offsets.ChunkSegments+1 {
		t.Fatalf("a chunk that is still needed is gone: %d segments left", m.Len())
	}
	m.Forget(first.Source)
	if source, target := m.Start(); m.Len() != offsets.ChunkSegments+1 || source != first.Source || target != first.Target {
		t.Fatalf("%d segments left from %d, %d; want the first chunk gone and a start at %+v", m.Len(), source, target, first)
	}
	m.Forget(math.MaxInt64)
	if m.Len() != 1 {
		t.Fatalf("%d segments left, want the open chunk's one", m.Len())
	}
	var before *offsets.BeforeStartError
	if _, _, err := m.Forward(3); !errors.As(err, &before) || !before.Forgotten {
		t.Errorf("Forward of a forgotten offset: %v, want a BeforeStartError that is Forgotten", err)
	}
	if _, _, err := m.Forward(-1); !errors.As(err, &before) || before.Forgotten {
		t.Errorf("Forward below the map: %v, want a BeforeStartError that is not Forgotten", err)
	}
	if c, changed := m.Changed(); !changed || len(c.Chunks) != 1 || c.Chunks[0].Previous != first.Source {
		t.Errorf("Changed = %+v, %t, want the open chunk alone, linked to %d", c, changed, first.Source)
	}
}

func TestMarkJournaledKeepsLaterChanges(t *testing.T) {
	m := offsets.NewMap(0, 0)
	first, changed := m.Changed()
	if !changed || len(first.Chunks) != 1 || len(first.Chunks[0].Segments) != 0 {
		t.Fatalf("a new map: %+v, %t, want its empty chunk", first, changed)
	}
	mustAppend(t, m, 0, 0, 1)
	m.MarkJournaled(first)
	second, changed := m.Changed()
	if !changed || len(second.Chunks) != 1 || len(second.Chunks[0].Segments) != 1 {
		t.Fatalf("after an append during the write: %+v, %t", second, changed)
	}
	mustAppend(t, m, 1, 1, 1) // grows the segment in place
	if got := second.Chunks[0].Segments[0].Count; got != 1 {
		t.Errorf("the result of Changed grew to %d records", got)
	}
	third, _ := m.Changed()
	m.MarkJournaled(third)
	m.MarkJournaled(second) // late
	if c, changed := m.Changed(); changed {
		t.Errorf("an older result undid a newer one: %+v", c)
	}
	mustAdvance(t, m, 2, 2)
	if c, changed := m.Changed(); changed {
		t.Errorf("an Advance to the current ends changed the map: %+v", c)
	}
	mustAdvance(t, m, 2, 3)
	if c, changed := m.Changed(); !changed || len(c.Chunks) != 0 || c.End != (offsets.Pair{Source: 2, Target: 3}) {
		t.Errorf("after only the ends moved: %+v, %t, want no chunk", c, changed)
	}
}

func TestRestoreMapRefusesInconsistentChunks(t *testing.T) {
	build := func() (*offsets.PartitionState, []*offsets.Chunk) {
		m := offsets.NewMap(0, 0)
		holes(t, m, 2*offsets.ChunkSegments+1)
		c, _ := m.Changed()
		state := &offsets.PartitionState{Topic: "orders", Generation: 3}
		return state, state.Apply(c)
	}
	for _, test := range []struct {
		name string
		do   func(*offsets.PartitionState, []*offsets.Chunk) []*offsets.Chunk
	}{
		{"no chunk", func(_ *offsets.PartitionState, _ []*offsets.Chunk) []*offsets.Chunk { return nil }},
		{"no open chunk", func(_ *offsets.PartitionState, c []*offsets.Chunk) []*offsets.Chunk { return c[:2] }},
		{"a link is missing", func(_ *offsets.PartitionState, c []*offsets.Chunk) []*offsets.Chunk {
			return []*offsets.Chunk{c[0], c[2]}
		}},
		{"a chunk twice", func(_ *offsets.PartitionState, c []*offsets.Chunk) []*offsets.Chunk { return append(c, c[1]) }},
		{"all of another generation", func(s *offsets.PartitionState, c []*offsets.Chunk) []*offsets.Chunk {
			s.Generation++
			return c
		}},
		{"an end before the last segment", func(s *offsets.PartitionState, c []*offsets.Chunk) []*offsets.Chunk {
			s.End.Source--
			return c
		}},
		{"a start after the first segment", func(s *offsets.PartitionState, c []*offsets.Chunk) []*offsets.Chunk {
			s.Start.Target = 1
			return c
		}},
		{"a start elsewhere", func(s *offsets.PartitionState, c []*offsets.Chunk) []*offsets.Chunk {
			s.Start.Source = 1
			return c
		}},
		{"a later chunk at the start", func(s *offsets.PartitionState, c []*offsets.Chunk) []*offsets.Chunk {
			s.Start.Source = c[1].First
			return c[1:]
		}},
		{"segments out of order", func(_ *offsets.PartitionState, c []*offsets.Chunk) []*offsets.Chunk {
			slices.Reverse(c[0].Segments)
			return c
		}},
		{"chunks that overlap", func(_ *offsets.PartitionState, c []*offsets.Chunk) []*offsets.Chunk {
			c[0].Segments[offsets.ChunkSegments-1].Count = 2
			return c
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			state, chunks := build()
			var corrupt *offsets.CorruptError
			if _, err := offsets.RestoreMap(state, test.do(state, chunks)...); !errors.As(err, &corrupt) {
				t.Errorf("RestoreMap: %v, want a CorruptError", err)
			} else {
				t.Log(err)
			}
		})
	}
}

func TestRestoreMapIgnoresOtherGenerations(t *testing.T) {
	state := &offsets.PartitionState{Topic: "orders", Generation: 1}
	m := offsets.NewMap(0, 500)
	mustAppend(t, m, 0, 500, 3)
	c, _ := m.Changed()
	chunks := state.Apply(c)
	remains := &offsets.Chunk{Topic: "orders", First: 77, Previous: 0, Segments: []offsets.Segment{{77, 70, 9}}}
	restored, err := offsets.RestoreMap(state, remains, chunks[0])
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Collect(restored.Segments()); !slices.Equal(got, []offsets.Segment{{0, 500, 3}}) {
		t.Errorf("got %v", got)
	}
	if c, changed := restored.Changed(); changed {
		t.Errorf("a restored map differs from the journal: %+v", c)
	}
}

func TestNewMapPanicsOnNegativeOffsets(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	offsets.NewMap(0, -1)
}

// A map that is restored with all chunks starts where it did, even if its first offsets have no records.
func TestRestoreMapKeepsDroppedFirstRecords(t *testing.T) {
	m := offsets.NewMap(10, 20)
	mustAppend(t, m, 15, 22, 1)
	c, _ := m.Changed()
	state := &offsets.PartitionState{Topic: "orders"}
	restored, err := offsets.RestoreMap(state, state.Apply(c)...)
	if err != nil {
		t.Fatal(err)
	}
	if source, target := restored.Start(); source != 10 || target != 20 {
		t.Errorf("starts at %d, %d, want 10, 20", source, target)
	}
	if got, exact, err := restored.Forward(10); got != 22 || exact || err != nil {
		t.Errorf("Forward(10) = %d, %t, %v, want 22, false", got, exact, err)
	}
}
