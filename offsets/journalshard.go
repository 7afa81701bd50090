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

// journalShard is one partition of a journal, as far as it was read. What is ahead of a partition's state is not part of its
// map, and the end is between two batches. So the data is consistent at the end, and only then is it published.
type journalShard struct {
	journal *Journal
	tail    *logTail

	// Read since the end was last reached. Guarded by the log tail's turn.
	staged     map[partitionKey]*staged
	replaceAll bool // staged replaces everything, because the log was read from its start

	mu         sync.RWMutex // never held during I/O
	partitions map[partitionKey]*history
	copies     map[partitionKey]*history // by name on the target
	asOf       time.Time

	loading chan struct{} // holds one token while a chunk is loaded
}

// staged holds the changes of one partition.
type staged struct {
	state   *PartitionState
	changed bool                // whether the state changed; a nil state was deleted
	chunks  map[int64]*chunkRef // by First; nil: deleted or unreadable
}

func (s *journalShard) reset() {
	s.unstage()
	s.replaceAll = true
}

func (s *journalShard) unstage() {
	for _, n := range s.staged {
		for _, ref := range n.chunks {
			if ref != nil {
				s.journal.cache.remove(ref)
			}
		}
	}
	s.staged = make(map[partitionKey]*staged)
}

func (s *journalShard) add(records []*kgo.Record) error {
	for _, r := range records {
		if err := s.addRecord(r); err != nil {
			return err
		}
	}
	return nil
}

func (s *journalShard) addRecord(r *kgo.Record) error {
	entry, err := DecodeJournal(r.Key, r.Value)
	var newer *VersionError
	if errors.As(err, &newer) {
		return fmt.Errorf("journal %s-%d at offset %d: %w", r.Topic, r.Partition, r.Offset, err)
	}
	if err != nil {
		s.journal.unreadable.Add(1)
		s.journal.log.Warn("skipping unreadable journal record", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "err", err)
		if entry, err = DecodeJournal(r.Key, nil); err != nil {
			return nil //nolint:nilerr // its key is not that of a chunk, so no answer depends on it
		}
		// An older record of that chunk would be taken for the newest, so the chunk is deleted. An older state is harmless.
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
		s.journal.cache.put(ref, e.Segments)
	case *Tombstone:
		switch e.Kind {
		case KindPartition:
			n := s.stage(e.Topic, e.Partition)
			n.state, n.changed = nil, true
		case KindChunk:
			s.stageChunk(e.Topic, e.Partition, e.First, nil)
		case KindShard, KindOwner, KindGroup, KindLineage, KindHorizon:
		}
	case *ShardState, *Owner, *GroupPositions, *Lineage, *Horizon:
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
		s.journal.cache.remove(before)
	}
	n.chunks[first] = ref
}

func (s *journalShard) publish(asOf time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.replaceAll {
		s.forgetAll()
		s.partitions, s.copies = make(map[partitionKey]*history), make(map[partitionKey]*history)
		s.replaceAll = false
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
		stale = h.state == nil || n.state == nil || h.state.Generation != n.state.Generation || h.state.Chunk != n.state.Chunk
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
			s.journal.cache.remove(old)
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
		h.sortRefs()
	}
	if h.state == nil && len(h.chunks) == 0 {
		delete(s.partitions, key)
	}
}

// forgetAll releases the memory of all chunks.
func (s *journalShard) forgetAll() {
	for _, h := range s.partitions {
		for _, ref := range h.chunks {
			s.journal.cache.remove(ref)
		}
	}
}

// release releases the memory of a shard that is no longer used.
func (s *journalShard) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetAll()
	s.partitions, s.copies = nil, nil
}

// copyOf returns the state of the partition whose copy has the given name, or nil.
func (s *journalShard) copyOf(key partitionKey) *PartitionState {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if h := s.copies[key]; h != nil {
		return h.state
	}
	return nil
}

// state returns the state of a source partition, or nil.
func (s *journalShard) state(key partitionKey) *PartitionState {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if h := s.partitions[key]; h != nil {
		return h.state
	}
	return nil
}

// states appends the states of all partitions.
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

// load reads a chunk from the journal. An empty result means that the map has changed and the caller has to start
// over.
func (s *journalShard) load(ctx context.Context, key partitionKey, ref *chunkRef) (loadedChunk, error) {
	select {
	case s.loading <- struct{}{}:
	case <-ctx.Done():
		return loadedChunk{}, ctx.Err()
	}
	defer func() { <-s.loading }()
	if segments := ref.segments.Load(); segments != nil {
		return loadedChunk{ref, *segments}, nil
	}
	found, err := s.readChunk(ctx, ref)
	if err != nil {
		return loadedChunk{}, err
	}
	if found != nil {
		s.journal.cache.put(ref, found.Segments)
		return loadedChunk{ref, found.Segments}, nil
	}
	// Compaction removed it because it was written again or deleted. Reading on finds the new record.
	if err := s.journal.follow(ctx, s); err != nil {
		return loadedChunk{}, err
	}
	if !s.has(key, ref) {
		return loadedChunk{}, nil
	}
	// The log is not the one that was read, so read it from the start.
	if _, err := s.tail.rewind(ctx, 0); err != nil {
		return loadedChunk{}, err
	}
	if err := s.journal.follow(ctx, s); err != nil {
		return loadedChunk{}, err
	}
	if s.has(key, ref) {
		return loadedChunk{}, corrupt(KindChunk, "%s/%d: chunk %d is no longer in the journal", key.topic, key.partition, ref.first)
	}
	return loadedChunk{}, nil
}

func (s *journalShard) has(key partitionKey, ref *chunkRef) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	h := s.partitions[key]
	return h != nil && h.chunks[ref.first] == ref
}

// readChunk reads a chunk at its offset in the journal. It returns nil if the chunk is not there.
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
	if errors.Is(err, errLogChanged) || errors.Is(err, kerr.OffsetOutOfRange) {
		return nil, nil
	}
	return found, s.journal.noJournal(err)
}
