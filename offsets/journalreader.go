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

// Defaults of [JournalOptions] and [Options].
const (
	defaultMemory = 32 << 20
	defaultMaxAge = time.Second
)

// maxParallel is the number of journal partitions that are read at the same time.
const maxParallel = 8

// rereadAges is how many times MaxAge old the last reading of a whole journal partition must be before a damaged map is a reason to read it again.
const rereadAges = 60

// maxReshardTries limits how often a question is asked while the journal is being created again.
const maxReshardTries = 3

// JournalOptions are the options of a [Journal]. The zero value has usable defaults.
type JournalOptions struct {
	// Memory bounds the segments in memory, in bytes. 0 means 32 MiB. Segments that do not fit are read again when
	// they are needed.
	Memory int64
	// MaxAge is the maximum age of an answer before the journal is read again. 0 means one second. An offset that
	// seems not to be copied is always looked up in an up-to-date journal.
	MaxAge time.Duration
	// Log receives warnings about records that cannot be decoded. nil discards them.
	Log *slog.Logger
}

// Journal translates with the journal of one flow, on the cluster that the flow writes to. It reads only the journal
// partitions that questions need, and keeps as much of the maps as fits in memory. It is safe for concurrent use and
// needs no Close.
type Journal struct {
	flow    string
	maxAge  time.Duration
	log     *slog.Logger
	leaders topicLeaders
	cache   chunkCache

	unreadable atomic.Int64
	growing    sync.Mutex
	shards     atomic.Pointer[[]*journalShard] // by journal partition; nil until their number is known
	copies     sync.Map                        // partitionKey of a copy → *journalShard that last had it
}

// partitionKey names a partition of a topic, on either side.
type partitionKey struct {
	topic     string
	partition int32
}

// NewJournal returns a reader of the journal with the given name, see [JournalTopic]. It sends its own requests on
// the client, so a consumer in the client is not affected. It does no I/O yet.
func NewJournal(client *kgo.Client, topic string, o JournalOptions) *Journal {
	flow, _ := FlowOf(topic)
	j := &Journal{
		flow: flow, maxAge: cmp.Or(o.MaxAge, defaultMaxAge), log: o.Log,
		leaders: topicLeaders{client: client, topic: topic},
		cache:   chunkCache{limit: cmp.Or(o.Memory, defaultMemory)},
	}
	if j.log == nil {
		j.log = slog.New(slog.DiscardHandler)
	}
	return j
}

// Unreadable returns how many records of the journal could not be decoded and were left out. A translation that needs
// such a record returns an error.
func (j *Journal) Unreadable() int64 { return j.unreadable.Load() }

// skipped counts a batch that is too large to be one of milena's. If it holds a part of a map, translations by it return an
// error.
func (j *Journal) skipped(e *kgo.ErrDecompressTooLarge) {
	j.unreadable.Add(1)
	j.log.Warn("skipping a batch that decompresses to too much", "topic", e.Topic, "partition", e.Partition, "offset", e.Offset)
}

// Translation is the result of a translation: an offset in one log and the matching offset in the other.
type Translation struct {
	Flow        string // whose journal the answer is from; empty if it is from none
	Topic       string // on the source; empty if unknown
	TargetTopic string
	Partition   int32 // the same on both sides
	// Source and Target match: a consumer that has processed everything below one has processed everything below the
	// other.
	Source, Target int64
	// Exact means that the record at one offset is the copy of the record at the other, or that both are the ends.
	// Otherwise the answer is the next copied record, or the end.
	Exact bool
	// Origin is the source of the answer.
	Origin Origin
	// End is the known end of the copy, exclusive. It is zero if Origin is not [FromJournal].
	End Pair
	// AsOf is when the journal or the offset-syncs were read; for an answer from a checkpoint, when the checkpoint
	// was written.
	AsOf time.Time
}

// UpToEnd turns the result of a translation into one that never goes above the copy: a *[NotCopiedError] becomes the end
// of the copy, not exactly. Every other error is returned as it is.
func (t Translation) UpToEnd(err error) (Translation, error) {
	var late *NotCopiedError
	if !errors.As(err, &late) {
		return t, err
	}
	t.Exact = false
	if late.Side == Source {
		t.Target = t.End.Target
	} else {
		t.Source = t.End.Source
	}
	return t, nil
}

// Origin is the source of a translation, which determines its quality.
type Origin string

// The origins.
const (
	// FromJournal is exact: no record is skipped or repeated.
	FromJournal Origin = "journal"
	// FromOffsetSyncs is as precise as MirrorMaker 2's offset-syncs: no record is skipped, some may be repeated.
	FromOffsetSyncs Origin = "offset-syncs"
	// FromCheckpoint is from a checkpoint: no record is skipped, some may be repeated.
	FromCheckpoint Origin = "checkpoint"
)

// Forward translates an offset of a source topic's partition. An offset below the start of the map translates to that
// start, not exactly, if the target's log has nothing from before it. It may block for reading the journal. Errors:
// *[NotReplicatedError], *[NotCopiedError] with the end of the copy, *[BeforeStartError], *[NoJournalError],
// *[VersionError] for a journal of a newer milena, *[CorruptError] for a map with a missing part, and errors of the
// cluster.
func (j *Journal) Forward(ctx context.Context, topic string, partition int32, source int64) (Translation, error) {
	return j.translate(ctx, partitionKey{topic, partition}, Source, source)
}

// Reverse translates an offset of the copy back. The topic is the one on the source: see [Journal.Lookup]. It blocks
// and fails as [Journal.Forward] does.
func (j *Journal) Reverse(ctx context.Context, topic string, partition int32, target int64) (Translation, error) {
	return j.translate(ctx, partitionKey{topic, partition}, Target, target)
}

func (j *Journal) translate(ctx context.Context, key partitionKey, side Side, wanted int64) (Translation, error) {
	t, err := j.translateIn(ctx, key, side, wanted)
	for try := 1; try < maxReshardTries && errors.Is(err, errResharded); try++ {
		t, err = j.translateIn(ctx, key, side, wanted)
	}
	var early *BeforeStartError
	if side == Source && errors.As(err, &early) {
		return j.atLogStart(ctx, t, early)
	}
	return t, err
}

// atLogStart translates an offset below the start of a map to that start, if the target's log starts there or later.
func (j *Journal) atLogStart(ctx context.Context, t Translation, early *BeforeStartError) (Translation, error) {
	starts, err := ReadLogStarts(ctx, j.leaders.client, []string{t.TargetTopic})
	if err != nil {
		return t, fmt.Errorf("log start of %s, before which the map of the copy may start: %w", t.TargetTopic, err)
	}
	start, err := starts.Of(TopicPartition{t.TargetTopic, t.Partition})
	switch {
	case isUnknownTopic(err), errors.Is(err, errUnlisted):
		return t, early
	case err != nil:
		return t, err
	}
	if target, ok := early.Continue(start); ok {
		t.Target = target
		return t, nil
	}
	return t, early
}

func (j *Journal) translateIn(ctx context.Context, key partitionKey, side Side, wanted int64) (Translation, error) {
	s, err := j.shardOf(ctx, key)
	if err != nil {
		return Translation{}, err
	}
	return j.translateShard(ctx, s, key, side, wanted, time.Time{})
}

// translateShard translates with one partition of the journal. Since is when a [Reading] began, zero without one.
func (j *Journal) translateShard(ctx context.Context, s *journalShard, key partitionKey, side Side, wanted int64, since time.Time) (Translation, error) {
	return askShard(ctx, j, s, key, since, func(loaded loadedChunk) (Translation, time.Time, *chunkRef, error) {
		t, missing, err := j.answer(s, key, side, wanted, loaded)
		return t, t.AsOf, missing, err
	})
}

// askShard asks one partition of the journal. It loads the chunks that the answer needs, and reads the journal forward if the answer may be out
// of date. Since is when a [Reading] began, zero without one. An answer says as of when it is.
func askShard[T any](ctx context.Context, j *Journal, s *journalShard, key partitionKey, since time.Time, answer func(loadedChunk) (T, time.Time, *chunkRef, error)) (T, error) {
	var none T
	var loaded loadedChunk
	reread := false
	for fresh := false; ; {
		t, asOf, missing, err := answer(loaded)
		if missing != nil {
			if loaded, err = s.load(ctx, key, missing); err != nil {
				return none, err
			}
			continue
		}
		var corrupt *CorruptError
		switch {
		case !fresh && j.isStale(asOf, since, err):
		case !reread && errors.As(err, &corrupt):
			// After a long pause, some tombstones of chunks that were deleted in between are there and some are not any more.
			var failed error
			if reread, failed = s.tail.rewind(ctx, rereadAges*j.maxAge); !reread {
				return t, cmp.Or(failed, err)
			}
		default:
			return t, err
		}
		if err := j.follow(ctx, s); err != nil {
			return none, err
		}
		fresh = true
	}
}

// mayHaveChanged reports whether an up-to-date journal may give another answer.
func mayHaveChanged(err error) bool {
	if err == nil {
		return false
	}
	var late *NotCopiedError
	var unknown *NotReplicatedError
	var corrupt *CorruptError
	return errors.As(err, &late) || errors.As(err, &unknown) || errors.As(err, &corrupt)
}

// answer answers from memory, or returns the chunk that has to be loaded first. It allocates only errors.
func (j *Journal) answer(s *journalShard, key partitionKey, side Side, wanted int64, loaded loadedChunk) (Translation, *chunkRef, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	h := s.partitions[key]
	if h == nil || h.state == nil {
		return Translation{AsOf: s.asOf}, nil, &NotReplicatedError{Flow: j.flow, Topic: key.topic, Partition: key.partition}
	}
	t := Translation{
		Flow: j.flow, Topic: h.state.Topic, TargetTopic: h.state.TargetTopic, Partition: key.partition,
		Origin: FromJournal, End: h.state.End, AsOf: s.asOf,
	}
	found, exact, missing, err := h.translate(side, wanted, loaded)
	t.Exact = exact
	if t.Source, t.Target = wanted, found; side == Target {
		t.Source, t.Target = found, wanted
	}
	return t, missing, err
}

// shardOf returns the journal partition with the map of a source partition, after reading it at least once.
func (j *Journal) shardOf(ctx context.Context, key partitionKey) (*journalShard, error) {
	shards, err := j.allShards(ctx)
	if err != nil {
		return nil, err
	}
	s := shards[ShardOf(key.topic, key.partition, int32(len(shards)))]
	if s.tail.read.Load() == nil {
		return s, j.follow(ctx, s)
	}
	return s, nil
}

// allShards returns the journal's partitions. Their number never changes, unless the topic is created again.
func (j *Journal) allShards(ctx context.Context) ([]*journalShard, error) {
	known := j.leaders.known.Load()
	if shards := j.shards.Load(); shards != nil && (known == nil || len(known.nodes) == len(*shards)) {
		return *shards, nil
	}
	err := j.leaders.retry(ctx, "find", func(l *leaders) error {
		if len(l.nodes) == 0 {
			return kerr.LeaderNotAvailable
		}
		known = l
		return nil
	})
	if err != nil {
		return nil, j.noJournal(err)
	}
	j.growing.Lock()
	defer j.growing.Unlock()
	if shards := j.shards.Load(); shards != nil {
		if len(*shards) == len(known.nodes) {
			return *shards, nil
		}
		for _, s := range *shards {
			s.release()
		}
	}
	shards := make([]*journalShard, len(known.nodes))
	for k := range shards {
		shards[k] = &journalShard{journal: j, tail: newLogTail(&j.leaders, int32(k), j.skipped), loading: make(chan struct{}, 1)}
	}
	j.copies.Clear()
	j.shards.Store(&shards)
	return shards, nil
}

// errResharded means that the journal was created again with another number of partitions, so every map moved.
var errResharded = errors.New("the journal was created again with another number of partitions")

func (j *Journal) follow(ctx context.Context, s *journalShard) error {
	err := s.tail.follow(ctx, s)
	known, shards := j.leaders.known.Load(), j.shards.Load()
	if ctx.Err() == nil && known != nil && len(known.nodes) > 0 && shards != nil && len(known.nodes) != len(*shards) {
		return errResharded // the result is from the wrong partition
	}
	return j.noJournal(err)
}

// retryResharded asks again while the journal is being created again.
func retryResharded[T any](ask func() (T, error)) (T, error) {
	answer, err := ask()
	for try := 1; try < maxReshardTries && errors.Is(err, errResharded); try++ {
		answer, err = ask()
	}
	return answer, err
}

// noJournal turns the error of a topic that does not exist into a *[NoJournalError].
func (j *Journal) noJournal(err error) error {
	if errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.UnknownTopicID) {
		return &NoJournalError{Topic: j.leaders.topic}
	}
	return err
}

// freshen reads the shards that are older than maxAge, several at a time.
func (j *Journal) freshen(ctx context.Context, shards ...*journalShard) error {
	return inParallel(shards, func(s *journalShard) error {
		if time.Since(s.tail.asOf()) <= j.maxAge {
			return nil
		}
		return j.follow(ctx, s)
	})
}

// inParallel runs do for all items, up to maxParallel at a time, and waits. It returns the first error in the order
// of the items.
func inParallel[T any](items []T, do func(T) error) error {
	if len(items) == 1 {
		return do(items[0])
	}
	errs := make([]error, len(items))
	var next atomic.Int64
	var all sync.WaitGroup
	for range min(maxParallel, len(items)) {
		all.Go(func() {
			for i := next.Add(1) - 1; int(i) < len(items); i = next.Add(1) - 1 {
				errs[i] = do(items[i])
			}
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// state returns the state of a source partition. It blocks and fails as Forward does.
func (j *Journal) state(ctx context.Context, topic string, partition int32) (*PartitionState, error) {
	return retryResharded(func() (*PartitionState, error) { return j.stateIn(ctx, topic, partition) })
}

func (j *Journal) stateIn(ctx context.Context, topic string, partition int32) (*PartitionState, error) {
	key := partitionKey{topic, partition}
	s, err := j.shardOf(ctx, key)
	if err != nil {
		return nil, err
	}
	if err := j.freshen(ctx, s); err != nil {
		return nil, err
	}
	if state := s.state(key); state != nil {
		return state, nil
	}
	return nil, &NotReplicatedError{Flow: j.flow, Topic: topic, Partition: partition}
}

// Lookup returns the state of the partition whose copy has the given name on the target. It returns a
// *[NotReplicatedError] if this flow does not copy to it; otherwise it fails as [Journal.Forward] does. It may block
// for reading all of the journal. The state must not be modified.
func (j *Journal) Lookup(ctx context.Context, targetTopic string, partition int32) (*PartitionState, error) {
	return retryResharded(func() (*PartitionState, error) { return j.lookup(ctx, targetTopic, partition) })
}

func (j *Journal) lookup(ctx context.Context, targetTopic string, partition int32) (*PartitionState, error) {
	shards, err := j.allShards(ctx)
	if err != nil {
		return nil, err
	}
	key := partitionKey{targetTopic, partition}
	if state, err := j.lookupKnown(ctx, key); state != nil || err != nil {
		return state, err
	}
	if state, err := j.lookupByName(ctx, shards, key); state != nil || err != nil {
		return state, err
	}
	if err := j.freshen(ctx, shards...); err != nil {
		return nil, err
	}
	for _, s := range shards {
		if state := s.copyOf(key); state != nil {
			j.copies.Store(key, s)
			return state, nil
		}
	}
	return nil, &NotReplicatedError{Flow: j.flow, Topic: targetTopic, Partition: partition}
}

// lookupKnown looks up a copy in the shard that had it before. It returns nil if there is none, or if the copy is gone.
func (j *Journal) lookupKnown(ctx context.Context, key partitionKey) (*PartitionState, error) {
	known, ok := j.copies.Load(key)
	if !ok {
		return nil, nil
	}
	if s, _ := known.(*journalShard); s != nil {
		if state, err := j.lookupIn(ctx, s, key); state != nil || err != nil {
			return state, err
		}
		j.copies.Delete(key)
	}
	return nil, nil
}

// lookupByName looks up a copy by the source topics that identity and prefix naming give, whose shards are known without
// reading all of the journal. It returns nil if there is none.
func (j *Journal) lookupByName(ctx context.Context, shards []*journalShard, key partitionKey) (*PartitionState, error) {
	candidates := []string{key.topic}
	for i, c := range key.topic {
		if (c == '.' || c == '-' || c == '_') && i+1 < len(key.topic) {
			candidates = append(candidates, key.topic[i+1:])
		}
	}
	for _, name := range candidates {
		s := shards[ShardOf(name, key.partition, int32(len(shards)))]
		state, err := j.lookupIn(ctx, s, key)
		if state != nil {
			j.copies.Store(key, s)
		}
		if state != nil || err != nil {
			return state, err
		}
	}
	return nil, nil
}

// lookupIn looks up a copy in one shard, after reading what is new of it. It returns nil if the copy is not there.
func (j *Journal) lookupIn(ctx context.Context, s *journalShard, key partitionKey) (*PartitionState, error) {
	if err := j.freshen(ctx, s); err != nil {
		return nil, err
	}
	return s.copyOf(key), nil
}

// States returns the states of all partitions that the flow copies or has copied, sorted by topic and partition. It
// blocks for reading all of the journal, and fails as [Journal.Forward] does. The states must not be modified.
func (j *Journal) States(ctx context.Context) ([]*PartitionState, error) {
	return retryResharded(func() ([]*PartitionState, error) { return j.allStates(ctx) })
}

func (j *Journal) allStates(ctx context.Context) ([]*PartitionState, error) {
	shards, err := j.allShards(ctx)
	if err != nil {
		return nil, err
	}
	if err := j.freshen(ctx, shards...); err != nil {
		return nil, err
	}
	var states []*PartitionState
	for _, s := range shards {
		states = s.states(states)
	}
	slices.SortFunc(states, func(a, b *PartitionState) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return states, nil
}
