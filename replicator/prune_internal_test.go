package replicator

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/milena-kafka/milena/offsets"
)

// addUnneeded lets a scan have found chunks of a partition.
func addUnneeded(s *shard, of *offsets.PartitionState, names ...int64) {
	s.pruning.fence = s.fenceID()
	for _, name := range names {
		s.pruning.found = append(s.pruning.found, unneeded{of, name})
	}
}

// deleted returns the chunks that were deleted, in the order of the log.
func (l *journalLog) deleted(t *testing.T) (names []int64) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.logs[0] {
		entry, err := offsets.DecodeJournal(r.Key, r.Value)
		if err != nil {
			t.Fatal(err)
		}
		if tombstone, ok := entry.(*offsets.Tombstone); ok {
			names = append(names, tombstone.First)
		}
	}
	return names
}

// journaledCopy is a copy with n journaled segments, as a member of its flow.
func journaledCopy(t *testing.T, f *Flow, n int) *partition {
	t.Helper()
	p := addCopy(t, f.held.get(0), "orders", n)
	f.topology.put(p)
	f.syncJournal(t.Context())
	return p
}

// Between a scan and its tombstones the map goes on. A chunk that it may have written since is not deleted, and none of a map that has replaced
// the one that the scan saw.
func TestTombstonesSpareWhatWasWrittenSince(t *testing.T) {
	for name, c := range map[string]struct {
		since func(p *partition)
		want  []int64
	}{
		"nothing":   {func(*partition) {}, []int64{0, 1024, 9001}},
		"more":      {func(p *partition) { copySegments(t, p, 5000) }, []int64{0, 1024}},
		"a restart": {func(p *partition) { p.restartLocked(0, p.targetEnd) }, nil},
		"a rewind":  {func(p *partition) { p.progress.rewind(0) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f, log, _ := newJournalFlow(t, 1)
			p := journaledCopy(t, f, 4*offsets.ChunkSegments)
			state := p.record
			addUnneeded(f.held.get(0), &state, 0, 1024, state.Chunk+2, state.End.Source, 9001)
			c.since(p)
			f.syncJournal(t.Context())
			if got := log.deleted(t); !slices.Equal(got, c.want) {
				t.Errorf("%v are deleted, want %v", got, c.want)
			}
			if n := len(f.held.get(0).pruning.found); n > 0 {
				t.Errorf("%d are found again", n)
			}
		})
	}
}

// Tombstones fill up the last batch of a pass, behind what the pass is for. What was not written is written by a later pass, in the same order.
func TestTombstonesWaitForTheJournal(t *testing.T) {
	f, log, _ := newJournalFlow(t, 1)
	p := journaledCopy(t, f, 8000*offsets.ChunkSegments/100)
	state := p.record
	state.Chunk = math.MaxInt64
	var names []int64
	for i := range int64(5 * prunePerPass) {
		names = append(names, i)
	}
	addUnneeded(f.held.get(0), &state, names...)
	log.refuse = func(_ int32, n int) int16 {
		if n%3 == 0 {
			return kerr.NotEnoughReplicas.Code
		}
		return 0
	}
	f.held.get(0).journalLimit = 20_000
	passes := 0
	for ; len(f.held.get(0).pruning.found) > 0; passes++ {
		if passes > 1000 {
			t.Fatal("the tombstones are not written")
		}
		copySegments(t, p, 1)
		before := len(log.deleted(t))
		f.syncJournal(t.Context())
		n := len(log.deleted(t)) - before
		if n*journalRecordBytes > 20_000 {
			t.Fatalf("a pass wrote %d tombstones", n)
		}
		if n > 0 && p.journaled < p.acked {
			t.Fatal("tombstones were written before the state")
		}
	}
	if got := log.deleted(t); !slices.Equal(got, names) {
		t.Errorf("%d tombstones are written, not each of %d once and in order", len(got), len(names))
	}
	if passes < 5 {
		t.Errorf("%d tombstones were written in %d passes", len(names), passes)
	}
}

// What was found under another fence may be out of date: another process may have written the journal in between.
func TestTombstonesOfAnEarlierFenceAreNotWritten(t *testing.T) {
	f, log, _ := newJournalFlow(t, 1)
	p := journaledCopy(t, f, 10)
	s := f.held.get(0)
	s.pruning.scanned = time.Now()
	addUnneeded(s, &p.record, 0)
	s.fencer.epoch++
	f.syncJournal(t.Context())
	if got := log.deleted(t); len(got) > 0 {
		t.Errorf("%v are deleted", got)
	}
	if _, due := s.pruningIsDue(time.Now()); !due {
		t.Error("the journal is not scanned again")
	}
}

// A journal that had one chunk of each partition when it was loaded is not scanned until it has grown. Any other is scanned soon.
func TestPruningIsNotDueForSingleChunks(t *testing.T) {
	f, _, _ := newJournalFlow(t, 1)
	s, now := f.held.get(0), time.Now()
	p := journaledCopy(t, f, 1)
	load := func(chunks ...int64) {
		t.Helper()
		var journal offsets.Restorer
		for _, first := range chunks {
			c := &offsets.Chunk{Topic: p.topic.source, First: first, Previous: -1}
			if err := journal.Add(c.AppendKey(nil), c.AppendValue(nil)); err != nil {
				t.Fatal(err)
			}
		}
		s.pruning.noteLoaded(&journal, now)
	}
	load(0, 1000)
	if _, due := s.pruningIsDue(now); !due {
		t.Error("not due with several chunks")
	}
	load(0)
	if _, due := s.pruningIsDue(now); due || s.pruning.left != 1 {
		t.Errorf("due %v with %d chunks", due, s.pruning.left)
	}
	copySegments(t, p, (pruneChunks+1)*offsets.ChunkSegments)
	f.syncJournal(t.Context())
	if _, due := s.pruningIsDue(now); !due {
		t.Error("not due after the journal has grown")
	}
}

// A journal is scanned once it may have twice the chunks that it needs, and once a day.
func TestPruningIsDue(t *testing.T) {
	f, _, _ := newJournalFlow(t, 1)
	s, now := f.held.get(0), time.Now()
	s.pruning.scanned, s.pruning.left = now, 20
	p := journaledCopy(t, f, 20*offsets.ChunkSegments)
	if _, due := s.pruningIsDue(now); due {
		t.Error("due after 19 chunks")
	}
	copySegments(t, p, offsets.ChunkSegments+1)
	f.syncJournal(t.Context())
	if _, due := s.pruningIsDue(now); !due {
		t.Error("not due after 20 chunks")
	}
	s.pruning.written.Store(0)
	if _, due := s.pruningIsDue(now.Add(pruneEvery)); !due {
		t.Error("not due after a day")
	}
	s.ownership.doubt()
	if _, due := s.pruningIsDue(now.Add(pruneEvery)); due {
		t.Error("due although another process may be the owner")
	}
}
