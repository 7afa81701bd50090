package offsets

import (
	"cmp"
	"context"
	"errors"
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

// together is how many journal partitions are read at the same time.
const together = 8

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
// partitions that it is asked about, and of the maps it keeps what fits into memory. It is safe for concurrent use. There
// is nothing to close.
type Journal struct {
	flow    string
	maxAge  time.Duration
	log     *slog.Logger
	leaders topicLeaders
	memory  memory

	unreadable atomic.Int64
	growing    sync.Mutex
	shards     atomic.Pointer[[]*journalShard] // by journal partition; nil until their number is known
	copies     sync.Map                        // partitionKey of a copy → *journalShard that knew it
}

// partitionKey names a partition of a topic of either side.
type partitionKey struct {
	topic     string
	partition int32
}

// NewJournal reads the journal with the given name, see [JournalTopic], with requests of its own on the client: a consumer
// in it notices nothing. It does no I/O yet.
func NewJournal(client *kgo.Client, topic string, o JournalOptions) *Journal {
	flow, _ := FlowOf(topic)
	j := &Journal{
		flow: flow, maxAge: cmp.Or(o.MaxAge, defaultMaxAge), log: o.Log,
		leaders: topicLeaders{client: client, topic: topic},
		memory:  memory{limit: cmp.Or(o.Memory, defaultMemory)},
	}
	if j.log == nil {
		j.log = slog.New(slog.DiscardHandler)
	}
	return j
}

// Unreadable is how many records of the journal could not be read and were left out. A map that misses one says so when
// it is asked about it.
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
	// AsOf is when that was read; of an answer from a checkpoint, when that was written.
	AsOf time.Time
}

// Origin says what a translation comes from, and so how good it is.
type Origin string

// The origins.
const (
	// FromJournal is exact: the answer skips nothing and repeats nothing.
	FromJournal Origin = "journal"
	// FromOffsetSyncs is as good as MirrorMaker 2's offset-syncs: the answer skips nothing, and may repeat.
	FromOffsetSyncs Origin = "offset-syncs"
	// FromCheckpoint is what a checkpoint says: the answer skips nothing, and may repeat.
	FromCheckpoint Origin = "checkpoint"
)

// Forward translates an offset of a source topic's partition. An offset below the place where the map begins gives that
// place, not exactly, if it is the beginning of the target's log. It may block for reading the journal. Errors:
// *[NotReplicatedError], *[NotCopiedError] with how far the copy is, *[BeforeStartError], *[NoJournalError],
// *[VersionError] for a journal of a newer milena, *[CorruptError] for a map with a piece missing, and errors of the
// cluster.
func (j *Journal) Forward(ctx context.Context, topic string, partition int32, source int64) (Translation, error) {
	return j.translate(ctx, partitionKey{topic, partition}, Source, source)
}

// Reverse translates an offset of the copy back. The topic is that on the source: see [Journal.Lookup]. Blocks and fails
// as [Journal.Forward] does.
func (j *Journal) Reverse(ctx context.Context, topic string, partition int32, target int64) (Translation, error) {
	return j.translate(ctx, partitionKey{topic, partition}, Target, target)
}

func (j *Journal) translate(ctx context.Context, key partitionKey, side Side, wanted int64) (Translation, error) {
	t, err := j.translateIn(ctx, key, side, wanted)
	for try := 1; try < patience && errors.Is(err, errResharded); try++ {
		t, err = j.translateIn(ctx, key, side, wanted)
	}
	return t, err
}

func (j *Journal) translateIn(ctx context.Context, key partitionKey, side Side, wanted int64) (Translation, error) {
	s, err := j.shardOf(ctx, key)
	if err != nil {
		return Translation{}, err
	}
	var back loaded
	for fresh := false; ; {
		t, missing, err := j.look(s, key, side, wanted, back)
		if missing != nil {
			if back, err = s.load(ctx, key, missing); err != nil {
				return Translation{}, err
			}
			continue
		}
		if fresh || time.Since(t.AsOf) <= j.maxAge && !mayHaveChanged(err) {
			return t, err
		}
		if err := j.follow(ctx, s); err != nil {
			return Translation{}, err
		}
		fresh = true
	}
}

// mayHaveChanged says whether a newer journal may know better.
func mayHaveChanged(err error) bool {
	if err == nil {
		return false
	}
	var late *NotCopiedError
	var unknown *NotReplicatedError
	var corrupt *CorruptError
	return errors.As(err, &late) || errors.As(err, &unknown) || errors.As(err, &corrupt)
}

// look answers from memory, or names the chunk that has to be read first. It allocates nothing but errors.
func (j *Journal) look(s *journalShard, key partitionKey, side Side, wanted int64, back loaded) (Translation, *chunkRef, error) {
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
	found, exact, missing, err := h.translate(side, wanted, back)
	t.Exact = exact
	if t.Source, t.Target = wanted, found; side == Target {
		t.Source, t.Target = found, wanted
	}
	return t, missing, err
}

// shardOf is the journal partition with the map of a source partition, read once at least.
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

// allShards finds out how many partitions the journal has: that never changes, unless the topic is made again.
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
		return nil, j.explain(err)
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
		shards[k] = &journalShard{journal: j, tail: newTail(&j.leaders, int32(k)), loading: make(chan struct{}, 1)}
	}
	j.copies.Clear()
	j.shards.Store(&shards)
	return shards, nil
}

// errResharded says that the journal was made again with another number of partitions: every map is in another one.
var errResharded = errors.New("the journal has another number of partitions now")

func (j *Journal) follow(ctx context.Context, s *journalShard) error {
	err := s.tail.follow(ctx, s)
	known, shards := j.leaders.known.Load(), j.shards.Load()
	if ctx.Err() == nil && known != nil && len(known.nodes) > 0 && shards != nil && len(known.nodes) != len(*shards) {
		return errResharded // whatever was found, it was looked for in the wrong place
	}
	return j.explain(err)
}

// whileResharded asks again while the journal is made again.
func whileResharded[T any](ask func() (T, error)) (T, error) {
	answer, err := ask()
	for try := 1; try < patience && errors.Is(err, errResharded); try++ {
		answer, err = ask()
	}
	return answer, err
}

// explain says what a topic that does not exist means.
func (j *Journal) explain(err error) error {
	if errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.UnknownTopicID) {
		return &NoJournalError{Topic: j.leaders.topic}
	}
	return err
}

// freshen reads on what is older than it may be, several shards at a time.
func (j *Journal) freshen(ctx context.Context, shards ...*journalShard) error {
	return inParallel(shards, func(s *journalShard) error {
		if time.Since(s.tail.asOf()) <= j.maxAge {
			return nil
		}
		return j.follow(ctx, s)
	})
}

// inParallel runs do for all items, a few at a time, and waits. It returns the first error in the order of the items.
func inParallel[T any](items []T, do func(T) error) error {
	if len(items) == 1 {
		return do(items[0])
	}
	errs := make([]error, len(items))
	var next atomic.Int64
	var all sync.WaitGroup
	for range min(together, len(items)) {
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

// state is the state of a source partition. Blocks and fails as Forward does.
func (j *Journal) state(ctx context.Context, topic string, partition int32) (*PartitionState, error) {
	return whileResharded(func() (*PartitionState, error) { return j.stateIn(ctx, topic, partition) })
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

// Lookup is the state of the partition whose copy has a name on the target. It returns a *[NotReplicatedError] if this
// flow copies nothing there, else errors as [Journal.Forward] does. It may block for reading all of the journal. The state
// must not be changed.
func (j *Journal) Lookup(ctx context.Context, targetTopic string, partition int32) (*PartitionState, error) {
	return whileResharded(func() (*PartitionState, error) { return j.lookup(ctx, targetTopic, partition) })
}

func (j *Journal) lookup(ctx context.Context, targetTopic string, partition int32) (*PartitionState, error) {
	shards, err := j.allShards(ctx)
	if err != nil {
		return nil, err
	}
	key := partitionKey{targetTopic, partition}
	look := func(s *journalShard) (*PartitionState, error) {
		if err := j.freshen(ctx, s); err != nil {
			return nil, err
		}
		return s.copyOf(key), nil
	}
	if known, ok := j.copies.Load(key); ok {
		if s, _ := known.(*journalShard); s != nil {
			if state, err := look(s); state != nil || err != nil {
				return state, err
			}
			j.copies.Delete(key)
		}
	}
	// The names that identity and prefix naming give, whose shards are known; then all.
	candidates := []string{targetTopic}
	for i, c := range targetTopic {
		if (c == '.' || c == '-' || c == '_') && i+1 < len(targetTopic) {
			candidates = append(candidates, targetTopic[i+1:])
		}
	}
	for _, name := range candidates {
		s := shards[ShardOf(name, partition, int32(len(shards)))]
		state, err := look(s)
		if state != nil {
			j.copies.Store(key, s)
		}
		if state != nil || err != nil {
			return state, err
		}
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

// States are the states of all partitions that the flow copies or has copied, sorted by topic and partition. It blocks
// for reading all of the journal, and fails as [Journal.Forward] does. The states must not be changed.
func (j *Journal) States(ctx context.Context) ([]*PartitionState, error) {
	return whileResharded(func() ([]*PartitionState, error) { return j.allStates(ctx) })
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
