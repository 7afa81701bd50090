package offsets_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/milena-kafka/milena/offsets"
)

// life is a copier that goes through random events. Afterwards the journal must translate every offset as the model
// does.
type life struct {
	copier
	fake    *kfake.Cluster
	chunks  map[int64]*offsets.Chunk // of this generation, as journaled
	order   []int64
	oldest  offsets.Pair // the lowest offsets that can be translated
	shorten bool         // the oldest chunks were deleted from the journal
}

// journals writes what changed, and keeps a copy.
func (l *life) journals() {
	changes, changed := l.m.Changed()
	if !changed {
		return
	}
	var entries []entry
	for _, chunk := range l.state.Apply(changes) {
		entries = append(entries, chunk)
		if l.chunks[chunk.First] == nil {
			l.order = append(l.order, chunk.First)
		}
		l.chunks[chunk.First] = chunk
	}
	state := l.state
	l.c.write(journalName, l.shard(), append(entries, &state)...)
	l.m.MarkJournaled(changes)
}

// takenOver is a takeover: the new owner has the open chunk only, and its fence left a marker on the target.
func (l *life) takenOver() {
	l.journals()
	m, err := offsets.RestoreMap(&l.state, l.chunks[l.state.Chunk])
	if err != nil {
		l.c.t.Fatal(err)
	}
	l.m = m
	l.end.Target++
	mustAdvance(l.c.t, l.m, l.end.Source, l.end.Target)
}

// recreated is a source topic that was deleted and created again: a new map, which starts after the records of the
// target.
func (l *life) recreated() {
	l.state.Generation++
	l.end = offsets.Pair{Source: l.random.Int64N(50), Target: l.end.Target + l.random.Int64N(3)}
	l.begin()
}

func (l *life) begin() {
	l.m, l.records, l.oldest, l.shorten = offsets.NewMap(l.end.Source, l.end.Target), nil, l.end, false
	l.chunks, l.order = make(map[int64]*offsets.Chunk), nil
	l.journals()
}

// retention deletes the oldest chunks from the journal, because the source deleted the records that they describe.
func (l *life) retention() {
	l.journals()
	for n := l.random.IntN(3); n > 0 && len(l.order) > 1; n-- {
		l.c.write(journalName, l.shard(), &offsets.Tombstone{Kind: offsets.KindChunk, Topic: l.state.Topic, First: l.order[0]})
		delete(l.chunks, l.order[0])
		l.order = l.order[1:]
		first := l.chunks[l.order[0]].Segments[0]
		l.oldest, l.shorten = offsets.Pair{Source: first.Source, Target: first.Target}, true
	}
}

func (l *life) step() {
	switch n := l.random.IntN(100); {
	case n < 50:
		l.copies(1 + l.random.IntN(150))
	case n < 65:
		l.drops()
	case n < 80:
		l.journals()
	case n < 88:
		l.takenOver()
	case n < 93:
		l.retention()
	case n < 96:
		l.fake.Compact()
	default:
		l.recreated()
	}
}

// everyOffset translates every offset of both sides, from below the start to above the end.
func (l *life) everyOffset(j *offsets.Journal) {
	t := l.c.t
	t.Helper()
	l.journals()
	w := model{records: l.records, start: l.oldest, end: l.end}
	check := func(side offsets.Side, ask func(o int64) (offsets.Translation, error), from, to func(offsets.Pair) int64) {
		t.Helper()
		for o := int64(-1); o <= from(l.end)+1; o++ {
			got, err := ask(o)
			answer := to(offsets.Pair{Source: got.Source, Target: got.Target})
			var early *offsets.BeforeStartError
			var late *offsets.NotCopiedError
			switch {
			case o > from(l.end):
				if !errors.As(err, &late) || late.End != from(l.end) || late.Side != side {
					t.Fatalf("%s %d above the end %+v: %+v, %v", side, o, l.end, got, err)
				}
			case o >= 0 && o < from(l.oldest) && l.oldest.Target == 0 && !l.shorten && o != from(l.end):
				if err != nil || got.Exact || answer != to(l.oldest) {
					t.Fatalf("%s %d before a map that starts with its target's log: %+v, %v", side, o, got, err)
				}
			case o < from(l.oldest) && o != from(l.end):
				if !errors.As(err, &early) || early.Start != from(l.oldest) {
					t.Fatalf("%s %d before %+v: %+v, %v", side, o, l.oldest, got, err)
				}
			default:
				want, exact := w.translate(o, from, to)
				if err != nil || answer != want || got.Exact != exact || from(offsets.Pair{Source: got.Source, Target: got.Target}) != o {
					t.Fatalf("%s %d: %+v, %v; want %d, %v", side, o, got, err, want, exact)
				}
			}
		}
	}
	topic := l.state.Topic
	check(offsets.Source, func(o int64) (offsets.Translation, error) { return j.Forward(t.Context(), topic, 0, o) }, source, target)
	check(offsets.Target, func(o int64) (offsets.Translation, error) { return j.Reverse(t.Context(), topic, 0, o) }, target, source)
}

func TestJournalMatchesModel(t *testing.T) {
	t.Parallel()
	histories := uint64(24)
	if testing.Short() {
		histories = 6
	}
	for seed := range histories {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			c, fake := fakes(t, 1+int(seed%2)*2)
			c.createCompacted(journalName, shards)
			l := &life{copier: *newCopier(c, "orders", seed), fake: fake}
			if seed%3 == 0 { // the source had deleted its first records, or the target held some
				l.end = offsets.Pair{Source: l.random.Int64N(40), Target: l.random.Int64N(2) * 5}
			}
			l.begin()
			memory := []int64{0, 1, 30 << 10}[seed%3]
			long := offsets.NewJournal(c.client, journalName, offsets.JournalOptions{Memory: memory, MaxAge: time.Nanosecond})
			for range 6 {
				for range 8 {
					l.step()
				}
				l.journals()
				for range 20 { // a reader that follows all steps
					o := l.oldest.Source + l.random.Int64N(l.end.Source-l.oldest.Source+1)
					want, exact := (&model{records: l.records, end: l.end}).translate(o, source, target)
					if got, err := long.Forward(t.Context(), "orders", 0, o); err != nil || got.Target != want || got.Exact != exact {
						t.Fatalf("forward %d: %+v, %v; want %d, %v", o, got, err, want, exact)
					}
				}
			}
			settled := offsets.JournalOptions{Memory: memory, MaxAge: time.Hour}
			l.everyOffset(offsets.NewJournal(c.client, journalName, settled))
			if n := long.Unreadable(); n != 0 {
				t.Errorf("%d records are unreadable", n)
			}
		})
	}
}
