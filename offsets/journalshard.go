package offsets

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// journalShard is one partition of a journal, as far as it was read. A batch of the journal holds all of a partition
// that changed, and the end lies between two batches: so what is there at the end fits together, and only that is shown.
type journalShard struct {
	journal *Journal
	tail    *tail

	// What was read since the end was last reached. For the one whose turn it is to read.
	staged map[partitionKey]*staged
	anew   bool // it replaces all

	mu         sync.RWMutex // held for no I/O
	partitions map[partitionKey]*history
	copies     map[partitionKey]*history // by name on the target
	asOf       time.Time

	loading chan struct{} // holds one token while a chunk is read back
}

// staged is what is new of one partition.
type staged struct {
	state   *PartitionState
	changed bool                // the state did; nil: it was deleted
	chunks  map[int64]*chunkRef // by First; nil: deleted, or not readable
}

func (s *journalShard) restart() {
	s.unstage()
	s.anew = true
}

func (s *journalShard) unstage() {
	for _, n := range s.staged {
		for _, ref := range n.chunks {
			if ref != nil {
				s.journal.memory.forget(ref)
			}
		}
	}
	s.staged = make(map[partitionKey]*staged)
}

func (s *journalShard) take(records []*kgo.Record) error {
	for _, r := range records {
		if err := s.takeOne(r); err != nil {
			return err
		}
	}
	return nil
}

func (s *journalShard) takeOne(r *kgo.Record) error {
	entry, err := DecodeJournal(r.Key, r.Value)
	var newer *VersionError
	if errors.As(err, &newer) {
		return fmt.Errorf("journal %s-%d at offset %d: %w", r.Topic, r.Partition, r.Offset, err)
	}
	if err != nil {
		s.journal.unreadable.Add(1)
		s.journal.log.Warn("unreadable journal record is left out", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "err", err)
		if entry, err = DecodeJournal(r.Key, nil); err != nil {
			return nil //nolint:nilerr // whatever it was about, it is not one of the chunks that are used
		}
		// An older record of that chunk would be taken for the newest: better none. An older state only says less.
		if t, ok := entry.(*Tombstone); !ok || t.Kind != KindChunk {
			return nil
		}
	}
	switch e := entry.(type) {
	case *PartitionState:
		n := s.stage(e.Topic, e.Partition)
		n.state, n.changed = e, true
	case *Chunk:
		ref := newChunkRef(e, r.Offset)
		s.stageChunk(e.Topic, e.Partition, e.First, ref)
		s.journal.memory.keep(ref, e.Segments)
	case *Tombstone:
		switch e.Kind {
		case KindPartition:
			n := s.stage(e.Topic, e.Partition)
			n.state, n.changed = nil, true
		case KindChunk:
			s.stageChunk(e.Topic, e.Partition, e.First, nil)
		case KindShard, KindOwner:
		}
	case *ShardState, *Owner:
	}
	return nil
}

func (s *journalShard) stage(topic string, partition int32) *staged {
	key := partitionKey{topic, partition}
	n := s.staged[key]
	if n == nil {
		n = &staged{chunks: make(map[int64]*chunkRef)}
		s.staged[key] = n
	}
	return n
}

func (s *journalShard) stageChunk(topic string, partition int32, first int64, ref *chunkRef) {
	n := s.stage(topic, partition)
	if before := n.chunks[first]; before != nil {
		s.journal.memory.forget(before)
	}
	n.chunks[first] = ref
}

func (s *journalShard) settle(asOf time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.anew {
		s.forgetAll()
		s.partitions, s.copies = make(map[partitionKey]*history), make(map[partitionKey]*history)
		s.anew = false
	}
	for key, n := range s.staged {
		s.apply(key, n)
	}
	clear(s.staged)
	s.asOf = asOf
}

func (s *journalShard) apply(key partitionKey, n *staged) {
	h := s.partitions[key]
	if h == nil {
		h = &history{chunks: make(map[int64]*chunkRef)}
		s.partitions[key] = h
	}
	stale := false
	if n.changed {
		stale = h.state == nil || n.state == nil || h.state.Generation != n.state.Generation
		if h.state != nil {
			if c := (partitionKey{h.state.TargetTopic, key.partition}); s.copies[c] == h {
				delete(s.copies, c)
			}
		}
		if h.state = n.state; h.state != nil {
			s.copies[partitionKey{h.state.TargetTopic, key.partition}] = h
		}
	}
	for first, ref := range n.chunks {
		old := h.chunks[first]
		if old != nil {
			s.journal.memory.forget(old)
		}
		if ref == nil {
			delete(h.chunks, first)
		} else {
			h.chunks[first] = ref
		}
		if !h.replace(old, ref) {
			stale = true
		}
	}
	if stale {
		h.arrange()
	}
	if h.state == nil && len(h.chunks) == 0 {
		delete(s.partitions, key)
	}
}

// forgetAll frees the memory of all chunks.
func (s *journalShard) forgetAll() {
	for _, h := range s.partitions {
		for _, ref := range h.chunks {
			s.journal.memory.forget(ref)
		}
	}
}

// release frees the memory of a shard that is asked no more.
func (s *journalShard) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetAll()
	s.partitions, s.copies = nil, nil
}

// copyOf is the state of the partition that has a name on the target, nil if there is none.
func (s *journalShard) copyOf(key partitionKey) *PartitionState {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if h := s.copies[key]; h != nil {
		return h.state
	}
	return nil
}

// state is the state of a source partition, nil if there is none.
func (s *journalShard) state(key partitionKey) *PartitionState {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if h := s.partitions[key]; h != nil {
		return h.state
	}
	return nil
}

func (s *journalShard) states(states []*PartitionState) []*PartitionState {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, h := range s.partitions {
		if h.state != nil {
			states = append(states, h.state)
		}
	}
	return states
}

// load reads a chunk back from the journal. An answer without one says that the map has changed: look again.
func (s *journalShard) load(ctx context.Context, key partitionKey, ref *chunkRef) (loaded, error) {
	select {
	case s.loading <- struct{}{}:
	case <-ctx.Done():
		return loaded{}, ctx.Err()
	}
	defer func() { <-s.loading }()
	if segments := ref.segments.Load(); segments != nil {
		return loaded{ref, *segments}, nil
	}
	found, err := s.readChunk(ctx, ref)
	if err != nil {
		return loaded{}, err
	}
	if found != nil {
		s.journal.memory.keep(ref, found.Segments)
		return loaded{ref, found.Segments}, nil
	}
	// Compaction took it because it was written again, or deleted: reading on finds that.
	if err := s.journal.follow(ctx, s); err != nil {
		return loaded{}, err
	}
	if !s.has(key, ref) {
		return loaded{}, nil
	}
	// The log is not the one that was read. From its beginning there is an answer.
	if err := s.tail.again(ctx); err != nil {
		return loaded{}, err
	}
	if err := s.journal.follow(ctx, s); err != nil {
		return loaded{}, err
	}
	if s.has(key, ref) {
		return loaded{}, corrupt(KindChunk, "%s/%d: chunk %d is no longer in the journal", key.topic, key.partition, ref.first)
	}
	return loaded{}, nil
}

func (s *journalShard) has(key partitionKey, ref *chunkRef) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	h := s.partitions[key]
	return h != nil && h.chunks[ref.first] == ref
}

// readChunk is the chunk where it was in the journal, nil if it is not there.
func (s *journalShard) readChunk(ctx context.Context, ref *chunkRef) (*Chunk, error) {
	var found *Chunk
	log := logReader{topicLeaders: &s.journal.leaders, partition: s.tail.log.partition}
	err := log.read(ctx, ref.at, ref.at+1, chunkBytes, func(records []*kgo.Record, _ int64) error {
		for _, r := range records {
			if r.Offset != ref.at {
				continue
			}
			if entry, err := DecodeJournal(r.Key, r.Value); err == nil {
				if c, ok := entry.(*Chunk); ok && ref.is(c) {
					found = c
				}
			}
		}
		return nil
	})
	if errors.Is(err, errAnew) || errors.Is(err, kerr.OffsetOutOfRange) {
		return nil, nil
	}
	return found, s.journal.explain(err)
}
