package replicator

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/topics"
	"github.com/milena-kafka/milena/replicator/wire"
)

// The journal of a shard grows with each chunk. What describes offsets that neither log has any more is deleted from it, in two steps: a scan
// reads the journal without the shard's lock and finds the chunks that are not needed, and the next journal passes write their tombstones. In
// between only this process writes the journal, because a tombstone is written under the fence under which the scan began, or not at all.

const (
	// PruneTicks is how many journal intervals are between two looks at what there is to scan.
	pruneTicks = 10
	// PruneChunks is how many chunks must be written before a scan, or as many as the last scan left, if these are more. So the journal has at
	// most twice the chunks that are needed, and reading it costs no more than writing it did.
	pruneChunks = 8
	// PruneEvery is after how long a journal is scanned in any case: logs expire without being written too. The first scan is soon after the start,
	// unless there is nothing to find.
	pruneEvery = 24 * time.Hour
	// PruneTimeout is how long a scan may take.
	pruneTimeout = 5 * time.Minute
	// PrunePerPass is how many tombstones a journal pass writes at most.
	prunePerPass = 1000
)

// pruning is what is known about the chunks in the journal of a shard.
type pruning struct {
	written atomic.Int64 // sealed chunks since the last scan

	mu      sync.Mutex // taken after the shard's lock, and before a partition's
	scanned time.Time
	left    int // chunks that the last scan left
	fence   fenceID
	found   []unneeded
}

// fenceID identifies a fence of a shard.
type fenceID struct {
	producerID int64
	epoch      int16
}

// unneeded is a chunk that may be deleted, as long as the map of its partition is the one that the scan saw.
type unneeded struct {
	of   *offsets.PartitionState // at the scan
	name int64
}

// pruneLoop scans the journals that have grown, one at a time.
func (f *Flow) pruneLoop(ctx context.Context) {
	client.Every(ctx, pruneTicks*f.config.JournalInterval, func(time.Time) {
		for _, s := range f.held.all() {
			if fence, ok := s.pruningIsDue(time.Now()); ok && ctx.Err() == nil {
				s.scanUnneeded(ctx, fence)
			}
		}
	})
}

// pruningIsDue reports whether the journal is to be scanned, and under which fence. It does not wait for a shard that is busy.
func (s *shard) pruningIsDue(now time.Time) (fence fenceID, due bool) {
	if !s.mu.TryLock() {
		return fence, false
	}
	defer s.mu.Unlock()
	if !s.ownership.isCertain() || s.fencer.open || s.flow.targetLeader(s.journal()) < 0 {
		return fence, false
	}
	g := &s.pruning
	g.mu.Lock()
	defer g.mu.Unlock()
	grown := g.written.Load() >= int64(max(pruneChunks, g.left))
	return s.fenceID(), len(g.found) == 0 && (grown || now.Sub(g.scanned) >= pruneEvery)
}

// noteLoaded takes what a takeover has read of the journal. If each partition has no chunk but one, as after a restart with short maps, or in a new
// journal, a scan would read all of that again and find nothing.
func (g *pruning) noteLoaded(journal *offsets.Restorer, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if chunks, several := journal.Chunks(); !several {
		g.scanned, g.left = now, chunks
	}
}

// fenceID returns the identity of the newest fence. The shard's lock is held, here and in the next function.
func (s *shard) fenceID() fenceID { return fenceID{s.fencer.producerID, s.fencer.epoch} }

// tombstones returns the next tombstones of chunks that nobody needs, of at most room bytes. What is not written is returned again.
func (s *shard) tombstones(room int) (entries []journalEntry) {
	g := &s.pruning
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.found) > 0 && g.fence != s.fenceID() { // the next scan finds them again
		g.found, g.scanned = nil, time.Time{}
	}
	n := 0
	for ; n < min(len(g.found), prunePerPass); n++ {
		u := g.found[n]
		e := newJournalEntry(&offsets.Tombstone{Kind: offsets.KindChunk, Topic: u.of.Topic, Partition: u.of.Partition, First: u.name})
		if room -= e.size(); room < 0 {
			break
		}
		if s.flow.mayDelete(u) {
			entries = append(entries, e)
		}
	}
	if len(entries) == 0 {
		g.found = g.found[n:]
		return nil
	}
	entries[len(entries)-1].written = func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.found = g.found[n:]
	}
	return entries
}

// mayDelete reports whether the map of a partition is still the one that the scan saw, and cannot have written a chunk of that name since.
func (f *Flow) mayDelete(u unneeded) bool {
	p := f.partition(offsets.TopicPartition{Topic: u.of.Topic, Partition: u.of.Partition})
	if p == nil {
		return true // nobody writes it, and whoever begins to needs a fence first
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.offsets != nil && p.record.Generation == u.of.Generation && (u.name < u.of.Chunk || u.name > p.acked)
}

// scanUnneeded finds the chunks that nobody needs. If that fails, the next scan is when the journal has grown again.
func (s *shard) scanUnneeded(ctx context.Context, fence fenceID) {
	g := &s.pruning
	written := g.written.Load()
	found, left, err := s.findUnneeded(ctx)
	if err != nil && ctx.Err() == nil {
		s.flow.warn("the journal cannot be read to delete what nobody needs", "err", err)
	}
	g.written.Add(-written)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.scanned = time.Now()
	if err == nil {
		g.left, g.fence, g.found = left, fence, found
	}
}

// findUnneeded returns the chunks that nobody needs, and how many others there are.
func (s *shard) findUnneeded(ctx context.Context) (found []unneeded, left int, err error) {
	ctx, cancel := context.WithTimeout(ctx, pruneTimeout)
	defer cancel()
	chunks, err := s.readChunks(ctx)
	if err != nil {
		return nil, 0, err
	}
	found = s.flow.unneededOf(ctx, chunks)
	return found, chunks.Chunks() - len(found), nil
}

// readChunks reads the shard's journal partition.
func (s *shard) readChunks(ctx context.Context) (*offsets.Pruner, error) {
	found := new(offsets.Pruner)
	start, end, err := wire.Bounds(ctx, s.flow.target, s.flow.targetLeader(s.journal()), s.journal())
	if err != nil || start >= end {
		return found, err
	}
	return found, s.readJournal(ctx, &logTail{from: start, until: end}, func(r recordbatch.Record) error { return found.Add(r.Key, r.Value) })
}

// unneededOf compares chunks with where the logs of their partitions start. A partition with a log start that is not known keeps its chunks, so
// those of a topic that was deleted, or cannot be seen, stay.
func (f *Flow) unneededOf(ctx context.Context, chunks *offsets.Pruner) (found []unneeded) {
	candidates := chunks.Candidates()
	sources, copies := make([]offsets.TopicPartition, len(candidates)), make([]offsets.TopicPartition, len(candidates))
	for i, c := range candidates {
		sources[i] = offsets.TopicPartition{Topic: c.Topic, Partition: c.Partition}
		copies[i] = offsets.TopicPartition{Topic: c.TargetTopic, Partition: c.Partition}
	}
	sourceStarts := topics.ListStarts(ctx, f.source, f.sourceView(), sources)
	targetStarts := topics.ListStarts(ctx, f.target, f.targetView(), copies)
	for i, c := range candidates {
		source, known := sourceStarts[sources[i]]
		target, copied := targetStarts[copies[i]]
		if !known || !copied || c.SourceClusterID != "" && c.SourceClusterID != f.sourceID() {
			continue
		}
		for _, name := range chunks.Unneeded(c, offsets.Pair{Source: source, Target: target}) {
			found = append(found, unneeded{c, name})
		}
	}
	return found
}
