package offsets

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Reading is a journal as of the moment when the reading began, or later. It reads each partition of the journal forward at most once, when a
// question needs it, and answers all other questions from memory. What was copied since is a *[NotCopiedError]. If a partition of the journal
// cannot be read, every question about it gets that error at once. It is safe for concurrent use and needs no Close.
type Reading struct {
	journal *Journal
	since   time.Time

	mu     sync.Mutex
	failed map[*journalShard]error // of nil: the partitions of the journal are not known
}

// Reading begins a reading. It does no I/O.
func (j *Journal) Reading() *Reading {
	return &Reading{journal: j, since: time.Now(), failed: make(map[*journalShard]error)}
}

// Prepare reads the partitions of the journal with the maps of partitions of the source, several at a time. Without it they are read one by
// one. What cannot be read shows in the answers.
func (r *Reading) Prepare(ctx context.Context, partitions []TopicPartition) {
	seen := make(map[*journalShard]bool)
	var needed []*journalShard
	for _, tp := range partitions {
		s, err := r.shardOf(ctx, tp)
		if err == nil && !seen[s] {
			seen[s] = true
			needed = append(needed, s)
		}
	}
	_ = inParallel(needed, func(s *journalShard) error { return r.follow(ctx, s) })
}

// State returns the state of a partition of the source, which must not be modified. Errors: *[NotReplicatedError], and why the journal cannot
// be read.
func (r *Reading) State(ctx context.Context, tp TopicPartition) (*PartitionState, error) {
	return retryResharded(func() (*PartitionState, error) {
		s, err := r.read(ctx, tp)
		if err != nil {
			return nil, err
		}
		if state := s.state(partitionKey{tp.Topic, tp.Partition}); state != nil {
			return state, nil
		}
		return nil, &NotReplicatedError{Flow: r.journal.flow, Topic: tp.Topic, Partition: tp.Partition}
	})
}

// Forward translates an offset of a partition of the source. It fails as [Journal.Forward] does, but an offset below the start of the map is
// always a *[BeforeStartError]: the caller knows where the target's log starts.
func (r *Reading) Forward(ctx context.Context, tp TopicPartition, source int64) (Translation, error) {
	return retryResharded(func() (Translation, error) {
		s, err := r.read(ctx, tp)
		if err != nil {
			return Translation{}, err
		}
		t, err := r.journal.translateShard(ctx, s, partitionKey{tp.Topic, tp.Partition}, Source, source, r.since)
		return t, r.note(s, err)
	})
}

// Reverse translates an offset of the copy of a partition of the source back. It fails as [Journal.Reverse] does.
func (r *Reading) Reverse(ctx context.Context, tp TopicPartition, target int64) (Translation, error) {
	return retryResharded(func() (Translation, error) {
		s, err := r.read(ctx, tp)
		if err != nil {
			return Translation{}, err
		}
		t, err := r.journal.translateShard(ctx, s, partitionKey{tp.Topic, tp.Partition}, Target, target, r.since)
		return t, r.note(s, err)
	})
}

// Segment returns the segment of the map of a partition of the source that has a source offset, or else the first one behind it. Its Count is 0 if
// there is none below the end of the map. Errors: *[NotReplicatedError], *[BeforeStartError], *[CorruptError], and why the journal cannot be read.
func (r *Reading) Segment(ctx context.Context, tp TopicPartition, source int64) (Segment, error) {
	return retryResharded(func() (Segment, error) {
		s, err := r.read(ctx, tp)
		if err != nil {
			return Segment{}, err
		}
		found, err := askShard(ctx, r.journal, s, partitionKey{tp.Topic, tp.Partition}, r.since, func(loaded loadedChunk) (Segment, time.Time, *chunkRef, error) {
			return s.segment(partitionKey{tp.Topic, tp.Partition}, source, loaded)
		})
		return found, r.note(s, err)
	})
}

// segment answers [Reading.Segment] from memory, or returns the chunk that has to be loaded first.
func (s *journalShard) segment(key partitionKey, source int64, loaded loadedChunk) (Segment, time.Time, *chunkRef, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	h := s.partitions[key]
	if h == nil || h.state == nil {
		return Segment{}, s.asOf, nil, &NotReplicatedError{Flow: s.journal.flow, Topic: key.topic, Partition: key.partition}
	}
	found, missing, err := h.segment(source, loaded)
	return found, s.asOf, missing, err
}

// read returns the partition of the journal with the map of a partition, after reading it forward.
func (r *Reading) read(ctx context.Context, tp TopicPartition) (*journalShard, error) {
	s, err := r.shardOf(ctx, tp)
	if err != nil {
		return nil, err
	}
	return s, r.follow(ctx, s)
}

func (r *Reading) shardOf(ctx context.Context, tp TopicPartition) (*journalShard, error) {
	if err := r.failure(nil); err != nil {
		return nil, err
	}
	shards, err := r.journal.allShards(ctx)
	if err != nil {
		return nil, r.note(nil, err)
	}
	return shards[ShardOf(tp.Topic, tp.Partition, int32(len(shards)))], nil
}

// follow reads a partition of the journal forward, unless that was done or has failed since the reading began.
func (r *Reading) follow(ctx context.Context, s *journalShard) error {
	if err := r.failure(s); err != nil || !s.tail.asOf().Before(r.since) {
		return err
	}
	return r.note(s, r.journal.follow(ctx, s))
}

func (r *Reading) failure(s *journalShard) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed[s]
}

// note keeps an error that is not an answer, and returns it.
func (r *Reading) note(s *journalShard, err error) error {
	var early *BeforeStartError
	if err == nil || mayHaveChanged(err) || errors.As(err, &early) || errors.Is(err, errResharded) {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed[s] = err
	return err
}

// isStale reports whether the journal is to be read forward before an answer from memory counts. For a reading that is so once; without one,
// an answer may be as old as [JournalOptions] say, unless it is that something is missing.
func (j *Journal) isStale(asOf, since time.Time, err error) bool {
	if since.IsZero() {
		return time.Since(asOf) > j.maxAge || mayHaveChanged(err)
	}
	return asOf.Before(since)
}
