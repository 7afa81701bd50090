package offsets

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// JournalOptions are the options of a [Journal]. The zero value has defaults that work.
type JournalOptions struct {
	// Memory bounds the segments that are kept, in bytes; 0 is 32 MiB. What does not fit is read again when it is asked for.
	Memory int64
	// MaxAge is how old an answer may be before the journal is looked at again; 0 is one second. An offset that seems not
	// to be copied is looked up in a fresh journal in any case.
	MaxAge time.Duration
	// Log hears of records that cannot be read; nil is silence.
	Log *slog.Logger
}

// Journal translates with the journal of one flow, on the cluster that the flow writes to. It reads only the journal
// partitions that it is asked about, and of the maps only chunks that are needed and fit into memory. It is safe for
// concurrent use. There is nothing to close.
type Journal struct {
	client *kgo.Client
	topic  string
	flow   string
	maxAge time.Duration
	log    *slog.Logger
	memory memory

	unreadable atomic.Int64
	mu         sync.Mutex
	shards     []*journalShard // by journal partition; nil until their number is known
	first      logReader       // tells the number of partitions
}

// partitionKey names a partition of a topic of either side.
type partitionKey struct {
	topic     string
	partition int32
}

// journalShard is one partition of the journal, as far as it was read.
type journalShard struct {
	mu         sync.RWMutex // held while it is read on
	log        logReader
	next       int64 // offset in the journal to read on at
	asOf       time.Time
	partitions map[partitionKey]*history
	loading    sync.Mutex // one chunk is read back at a time
}

// history is the map of one partition as the journal has it.
type history struct {
	state  *PartitionState     // nil while only chunks were seen
	chunks map[int64]*chunkRef // by First, of all generations
	refs   []*chunkRef         // of the state's generation, in order
	stale  bool                // refs have to be made again
}

// chunkRef is where a chunk is, and its segments if they are in memory. All but those changes only while the shard is
// locked for reading on.
type chunkRef struct {
	generation      uint32
	first, previous int64
	target          int64 // of its first segment
	at              int64 // offset in the journal
	segments        atomic.Pointer[[]Segment]
	used            atomic.Bool // since memory was last short
}

// on is where the chunk begins on one side.
func (c *chunkRef) on(side Side) int64 {
	if side == Source {
		return c.first
	}
	return c.target
}

// NewJournal reads the journal with the given name, see [JournalTopic], with requests of its own on the client: a consumer
// in it notices nothing. It does no I/O yet.
func NewJournal(client *kgo.Client, topic string, o JournalOptions) *Journal {
	flow, _ := FlowOf(topic)
	j := &Journal{
		client: client, topic: topic, flow: flow, maxAge: cmp.Or(o.MaxAge, time.Second), log: o.Log,
		memory: memory{limit: cmp.Or(o.Memory, 32<<20)},
		first:  logReader{client: client, topic: topic},
	}
	if j.log == nil {
		j.log = slog.New(slog.DiscardHandler)
	}
	return j
}

// Unreadable is how many records of the journal could not be read and were left out.
func (j *Journal) Unreadable() int64 { return j.unreadable.Load() }

// Translation is an answer: the place in one log that belongs to a place in the other.
type Translation struct {
	Flow        string // whose journal told it; empty if it was none
	Topic       string // on the source; empty if it is not known
	TargetTopic string
	Partition   int32 // the same on both sides
	// Source and Target belong together: who has done everything below the one has done everything below the other.
	Source, Target int64
	// Exact says that the record at the one is the copy of the record at the other, or that both are the ends. If not,
	// the answer is the next copied record, or the end.
	Exact bool
	// Origin is what the answer comes from.
	Origin Origin
	// End is how far the copy was known to be, exclusive. Zero if Origin is not [FromJournal].
	End Position
	// AsOf is when that was read.
	AsOf time.Time
}

// Origin says what a translation comes from, and so how good it is.
type Origin string

// The origins.
const (
	// FromJournal is exact: the answer skips nothing and repeats nothing.
	FromJournal Origin = "journal"
	// FromOffsetSyncs is as good as MirrorMaker 2's offset-syncs: the answer skips nothing.
	FromOffsetSyncs Origin = "offset-syncs"
	// FromCheckpoint is what a checkpoint says: the answer skips nothing.
	FromCheckpoint Origin = "checkpoint"
)

// Forward translates an offset of a source topic's partition. It may block for reading the journal. Errors:
// *[NotReplicatedError], *[NotCopiedError] with how far the copy is, *[BeforeStartError], *[VersionError] for a journal of
// a newer milena, *[CorruptError] for a map with a piece missing, and errors of the cluster.
func (j *Journal) Forward(ctx context.Context, topic string, partition int32, source int64) (Translation, error) {
	return j.translate(ctx, partitionKey{topic, partition}, Source, source)
}

// Reverse translates an offset of the copy back. The topic is that on the source. Errors as for [Journal.Forward].
func (j *Journal) Reverse(ctx context.Context, topic string, partition int32, target int64) (Translation, error) {
	return j.translate(ctx, partitionKey{topic, partition}, Target, target)
}

func (j *Journal) translate(ctx context.Context, key partitionKey, side Side, wanted int64) (Translation, error) {
	s, err := j.shardOf(ctx, key)
	if err != nil {
		return Translation{}, err
	}
	for fresh := false; ; {
		t, missing, err := j.look(s, key, side, wanted)
		if missing != nil {
			if err := j.load(ctx, s, key, missing); err != nil {
				return Translation{}, err
			}
			continue
		}
		var late *NotCopiedError
		var unknown *NotReplicatedError
		old := time.Since(t.AsOf) > j.maxAge || errors.As(err, &late) || errors.As(err, &unknown)
		if !old || fresh {
			return t, err
		}
		if err := j.refresh(ctx, s); err != nil {
			return Translation{}, err
		}
		fresh = true
	}
}

// look answers from memory, or names the chunk that has to be read first. It allocates nothing but errors.
func (j *Journal) look(s *journalShard, key partitionKey, side Side, wanted int64) (Translation, *chunkRef, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	h := s.partitions[key]
	if h == nil || h.state == nil {
		return Translation{AsOf: s.asOf}, nil, &NotReplicatedError{Flow: j.flow, Topic: key.topic, Partition: key.partition}
	}
	t := Translation{
		Flow: j.flow, Topic: key.topic, TargetTopic: h.state.TargetTopic, Partition: key.partition,
		Origin: FromJournal, End: h.state.End, AsOf: s.asOf,
	}
	found, exact, missing, err := h.translate(side, wanted)
	t.Exact = exact
	if t.Source, t.Target = wanted, found; side == Target {
		t.Source, t.Target = found, wanted
	}
	return t, missing, err
}

// translate is [Map.Forward] and [Map.Reverse] over chunks that may not be in memory: then it names the one it needs.
func (h *history) translate(side Side, wanted int64) (offset int64, exact bool, missing *chunkRef, err error) {
	start, end, other := h.state.Start.on(side), h.state.End.on(side), side.other()
	switch {
	case wanted > end:
		return 0, false, nil, &NotCopiedError{Side: side, Wanted: wanted, End: end}
	case wanted == end:
		return h.state.End.on(other), true, nil, nil
	case len(h.refs) == 0:
		return 0, false, nil, corrupt(KindChunk, "%s/%d has no chunks", h.state.Topic, h.state.Partition)
	case h.refs[0].previous != none:
		start = h.refs[0].on(side) // the beginning was deleted from the journal
	case wanted < start && h.state.Start.Target == 0:
		return 0, false, nil, nil // nothing can stand before the first record that was copied
	}
	if wanted < start {
		return 0, false, nil, &BeforeStartError{Side: side, Wanted: wanted, Start: start}
	}
	c := chunkAt(h.refs, side, wanted)
	ref := h.refs[c]
	segments := ref.segments.Load()
	if segments == nil {
		return 0, false, ref, nil
	}
	ref.used.Store(true)
	i := segmentAt(*segments, side, wanted)
	if i >= 0 {
		s := (*segments)[i]
		if into := wanted - s.on(side); into < s.Count {
			return s.on(other) + into, true, nil, nil
		}
	}
	switch {
	case i+1 < len(*segments):
		return (*segments)[i+1].on(other), false, nil, nil
	case c+1 == len(h.refs):
		if ref.first != h.state.Chunk {
			return 0, false, nil, corrupt(KindChunk, "%s/%d: chunk %d is missing", h.state.Topic, h.state.Partition, h.state.Chunk)
		}
		return h.state.End.on(other), false, nil, nil
	case h.refs[c+1].previous != ref.first:
		return 0, false, nil, corrupt(KindChunk, "%s/%d: the chunk behind %d is missing", h.state.Topic, h.state.Partition, ref.first)
	default:
		return h.refs[c+1].on(other), false, nil, nil
	}
}

// chunkAt returns the last chunk that begins at or below an offset, or the first one.
func chunkAt(refs []*chunkRef, side Side, offset int64) int {
	low, high := 0, len(refs)-1
	for low < high {
		mid := int(uint(low+high+1) >> 1)
		if refs[mid].on(side) <= offset {
			low = mid
		} else {
			high = mid - 1
		}
	}
	return low
}

// shardOf is the journal partition with the map of a source partition, read once at least.
func (j *Journal) shardOf(ctx context.Context, key partitionKey) (*journalShard, error) {
	shards, err := j.allShards(ctx)
	if err != nil {
		return nil, err
	}
	s := shards[ShardOf(key.topic, key.partition, int32(len(shards)))]
	return s, j.begin(ctx, s)
}

// allShards finds out how many partitions the journal has, which never changes.
func (j *Journal) allShards(ctx context.Context) ([]*journalShard, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.shards != nil {
		return j.shards, nil
	}
	if err := j.first.retry(ctx, "find", func() error { return nil }); err != nil {
		if errors.Is(err, kerr.UnknownTopicOrPartition) {
			return nil, &NoJournalError{Topic: j.topic}
		}
		return nil, err
	}
	for k := range j.first.partitions {
		j.shards = append(j.shards, &journalShard{
			log: logReader{client: j.client, topic: j.topic, partition: k}, partitions: make(map[partitionKey]*history),
		})
	}
	return j.shards, nil
}

// begin reads a shard for the first time.
func (j *Journal) begin(ctx context.Context, s *journalShard) error {
	s.mu.RLock()
	begun := !s.asOf.IsZero()
	s.mu.RUnlock()
	if begun {
		return nil
	}
	return j.refresh(ctx, s)
}

// refresh reads on to the end of the shard's journal partition. A batch of the journal holds all of a partition that
// changed, and the end lies between two batches, so what is there afterwards fits together.
func (j *Journal) refresh(ctx context.Context, s *journalShard) error {
	asked := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asOf.After(asked) {
		return nil // somebody else has just done it
	}
	began := time.Now()
	end, err := s.log.offset(ctx, logEnd)
	if err != nil {
		return err
	}
	if s.next == 0 || end < s.next { // the first time, or the topic was made again
		if s.next, err = s.log.offset(ctx, logStart); err != nil {
			return err
		}
		for _, h := range s.partitions {
			for _, ref := range h.chunks {
				j.memory.forget(ref)
			}
		}
		clear(s.partitions)
	}
	changed := make(map[*history]bool)
	next, err := s.log.read(ctx, s.next, end, func(r *kgo.Record) error { return j.take(s, r, changed) })
	for h := range changed {
		h.arrange()
	}
	if err != nil {
		s.next = 0 // it begins anew next time: what was taken may be half of a batch
		return err
	}
	s.next, s.asOf = next, began
	return nil
}

// take notes one record of the journal.
func (j *Journal) take(s *journalShard, r *kgo.Record, changed map[*history]bool) error {
	entry, err := DecodeJournal(r.Key, r.Value)
	var newer *VersionError
	if errors.As(err, &newer) {
		return fmt.Errorf("journal %s-%d at offset %d: %w", j.topic, r.Partition, r.Offset, err)
	}
	if err != nil {
		j.unreadable.Add(1)
		j.log.Warn("unreadable journal record is left out", "topic", j.topic, "partition", r.Partition, "offset", r.Offset, "err", err)
		return nil
	}
	at := func(topic string, partition int32) *history {
		key := partitionKey{topic, partition}
		h := s.partitions[key]
		if h == nil {
			h = &history{chunks: make(map[int64]*chunkRef)}
			s.partitions[key] = h
		}
		changed[h] = true
		return h
	}
	switch e := entry.(type) {
	case *PartitionState:
		h := at(e.Topic, e.Partition)
		h.stale = h.stale || h.state == nil || h.state.Generation != e.Generation
		h.state = e
	case *Chunk:
		j.takeChunk(at(e.Topic, e.Partition), e, r.Offset)
	case *Tombstone:
		h := at(e.Topic, e.Partition)
		switch {
		case e.Kind == KindPartition:
			h.state = nil
		case e.Kind == KindChunk && h.chunks[e.First] != nil:
			j.memory.forget(h.chunks[e.First])
			delete(h.chunks, e.First)
			h.stale = true
		}
	case *ShardState, *Owner:
	}
	return nil
}

func (j *Journal) takeChunk(h *history, c *Chunk, at int64) {
	ref := h.chunks[c.First]
	if ref == nil {
		ref = &chunkRef{first: c.First}
		h.chunks[c.First] = ref
		h.stale = true
	}
	h.stale = h.stale || ref.generation != c.Generation
	ref.generation, ref.previous, ref.at = c.Generation, c.Previous, at
	ref.target = none // that of the map's start, which arrange knows
	if len(c.Segments) > 0 {
		ref.target = c.Segments[0].Target
	} else {
		h.stale = true
	}
	j.memory.keep(ref, c.Segments)
}

// arrange puts the chunks of the state's generation in order.
func (h *history) arrange() {
	if !h.stale || h.state == nil {
		return
	}
	h.refs, h.stale = h.refs[:0], false
	for _, ref := range h.chunks {
		if ref.generation != h.state.Generation {
			continue
		}
		if ref.target == none {
			ref.target = h.state.Start.Target
		}
		h.refs = append(h.refs, ref)
	}
	slices.SortFunc(h.refs, func(a, b *chunkRef) int { return cmp.Compare(a.first, b.first) })
}

// load reads a chunk back from the journal.
func (j *Journal) load(ctx context.Context, s *journalShard, key partitionKey, ref *chunkRef) error {
	s.loading.Lock()
	defer s.loading.Unlock()
	s.mu.RLock()
	at := ref.at
	s.mu.RUnlock()
	if ref.segments.Load() != nil {
		return nil
	}
	log := logReader{client: j.client, topic: j.topic, partition: s.log.partition}
	var found *Chunk
	_, err := log.read(ctx, at, at+1, func(r *kgo.Record) error {
		if r.Offset != at {
			return nil
		}
		if entry, err := DecodeJournal(r.Key, r.Value); err == nil {
			found, _ = entry.(*Chunk)
		}
		return nil
	})
	if err != nil && !errors.Is(err, kerr.OffsetOutOfRange) {
		return err
	}
	if j.restore(s, ref, at, found) {
		return nil
	}
	// Compaction took it, because it was written again: reading on finds the newer one.
	if err := j.refresh(ctx, s); err != nil {
		return err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if h := s.partitions[key]; h != nil && h.chunks[ref.first] == ref && ref.at == at {
		return corrupt(KindChunk, "%s/%d: chunk %d is no longer in the journal", key.topic, key.partition, ref.first)
	}
	return nil
}

// restore keeps a chunk that was read back, unless it is not the one that was looked for, or no longer the newest.
func (j *Journal) restore(s *journalShard, ref *chunkRef, at int64, found *Chunk) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if ref.at != at {
		return true // it was read on meanwhile
	}
	if found == nil || found.First != ref.first || found.Generation != ref.generation {
		return false
	}
	j.memory.keep(ref, found.Segments)
	return true
}

// Lookup is the state of the partition whose copy has a name on the target. It returns a *[NotReplicatedError] if this
// flow copies nothing there. It may block for reading all of the journal. The state must not be changed.
func (j *Journal) Lookup(ctx context.Context, targetTopic string, partition int32) (*PartitionState, error) {
	shards, err := j.allShards(ctx)
	if err != nil {
		return nil, err
	}
	find := func(s *journalShard, match func(partitionKey, *history) bool) *PartitionState {
		s.mu.RLock()
		defer s.mu.RUnlock()
		for key, h := range s.partitions {
			if h.state != nil && match(key, h) {
				return h.state
			}
		}
		return nil
	}
	// The names that prefix naming and identity naming give, whose shards are known; then all.
	candidates := []string{targetTopic}
	for i, c := range targetTopic {
		if c == '.' || c == '-' || c == '_' {
			candidates = append(candidates, targetTopic[i+1:])
		}
	}
	var order []*journalShard
	for _, name := range candidates {
		order = append(order, shards[ShardOf(name, partition, int32(len(shards)))])
	}
	order = append(order, shards...)
	seen := make(map[*journalShard]bool)
	for _, s := range order {
		if seen[s] {
			continue
		}
		seen[s] = true
		if err := j.freshen(ctx, s); err != nil {
			return nil, err
		}
		state := find(s, func(key partitionKey, h *history) bool {
			return key.partition == partition && h.state.TargetTopic == targetTopic
		})
		if state != nil {
			return state, nil
		}
	}
	return nil, &NotReplicatedError{Flow: j.flow, Topic: targetTopic, Partition: partition}
}

// freshen reads on if what is known is older than it may be.
func (j *Journal) freshen(ctx context.Context, s *journalShard) error {
	s.mu.RLock()
	old := time.Since(s.asOf) > j.maxAge
	s.mu.RUnlock()
	if !old {
		return nil
	}
	return j.refresh(ctx, s)
}

// States are the states of all partitions that the flow copies, sorted by topic and partition. It blocks for reading all
// of the journal. The states must not be changed.
func (j *Journal) States(ctx context.Context) ([]*PartitionState, error) {
	shards, err := j.allShards(ctx)
	if err != nil {
		return nil, err
	}
	var states []*PartitionState
	for _, s := range shards {
		if err := j.freshen(ctx, s); err != nil {
			return nil, err
		}
		s.mu.RLock()
		for _, h := range s.partitions {
			if h.state != nil {
				states = append(states, h.state)
			}
		}
		s.mu.RUnlock()
	}
	slices.SortFunc(states, func(a, b *PartitionState) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return states, nil
}
