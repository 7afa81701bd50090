package offsets

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// internalTopicReader reads one of MirrorMaker 2's internal topics, which have one partition, and continues where it
// stopped. Records become visible one by one, because they do not depend on each other. Safe for concurrent use.
type internalTopicReader struct {
	client *Client
	topic  string
	tail   *logTail

	mu          sync.Mutex // never held during I/O
	checkpoints map[checkpointKey]WrittenCheckpoint
	newer       map[checkpointKey]error // checkpoints that a newer version wrote
	heartbeats  map[[2]string]WrittenHeartbeat
	syncs       map[partitionKey][]Pair
}

type checkpointKey struct {
	group, topic string
	partition    int32
}

// WrittenCheckpoint is a checkpoint and the time at which it was written.
type WrittenCheckpoint struct {
	Checkpoint
	At time.Time
}

// WrittenHeartbeat is the newest heartbeat of one flow and the topic it was found in: `heartbeats` if it was written
// to this cluster, `primary.heartbeats` if it was copied here, so that its age includes the replication latency.
type WrittenHeartbeat struct {
	Heartbeat
	Topic string
}

// Age returns the time since the heartbeat was written, by the clocks of its writer and of this process.
func (h WrittenHeartbeat) Age() time.Duration { return time.Since(h.At) }

func (b *internalTopicReader) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.checkpoints, b.newer = make(map[checkpointKey]WrittenCheckpoint), make(map[checkpointKey]error)
	b.heartbeats, b.syncs = make(map[[2]string]WrittenHeartbeat), make(map[partitionKey][]Pair)
}

func (*internalTopicReader) publish(time.Time) {}

func (b *internalTopicReader) add(records []*kgo.Record) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range records {
		var err error
		switch {
		case b.client.names.IsHeartbeats(b.topic):
			err = b.addHeartbeat(r)
		case b.client.names.IsCheckpoints(b.topic):
			err = b.addCheckpoint(r)
		default:
			err = b.addSync(r)
		}
		if err != nil && !errors.Is(err, ErrTombstone) {
			b.client.unreadable.Add(1)
			b.client.log.Warn("skipping unreadable record", "topic", b.topic, "offset", r.Offset, "err", err)
		}
	}
	return nil
}

// skipped counts a batch that is too large to be one of MirrorMaker 2's.
func (b *internalTopicReader) skipped(e *kgo.ErrDecompressTooLarge) {
	b.client.unreadable.Add(1)
	b.client.log.Warn("skipping a batch that decompresses to too much", "topic", b.topic, "offset", e.Offset)
}

func (b *internalTopicReader) addHeartbeat(r *kgo.Record) error {
	h, err := DecodeHeartbeat(r.Key, r.Value)
	if err == nil {
		b.heartbeats[[2]string{h.Source, h.Target}] = WrittenHeartbeat{h, b.topic}
	}
	return err
}

// addCheckpoint replaces the previous checkpoint even if the new one cannot be decoded, because the previous one is
// outdated.
func (b *internalTopicReader) addCheckpoint(r *kgo.Record) error {
	checkpoint, err := DecodeCheckpoint(r.Key, r.Value)
	key := checkpointKey{checkpoint.Group, checkpoint.Topic, checkpoint.Partition}
	delete(b.checkpoints, key)
	delete(b.newer, key)
	var newer *VersionError
	switch {
	case err == nil:
		b.checkpoints[key] = WrittenCheckpoint{checkpoint, r.Timestamp}
	case errors.As(err, &newer):
		b.newer[key] = err
	}
	return err
}

// maxSyncs is the maximum number of syncs in memory per partition. If there are more, every second one is dropped.
// Translations are then earlier, but skip nothing.
const maxSyncs = 4096

func (b *internalTopicReader) addSync(r *kgo.Record) error {
	s, err := DecodeOffsetSync(r.Key, r.Value)
	key := partitionKey{s.Topic, s.Partition}
	if err != nil {
		return err
	}
	at, list := Pair{Source: s.Source, Target: s.Target}, b.syncs[key]
	if n := len(list); n > 0 {
		switch last := list[n-1]; {
		case at == last:
			return nil
		case at.Source < last.Source, at.Target < last.Target:
			list = list[:0] // one of the topics was created again, so the earlier syncs are invalid
		case at.Source == last.Source:
			list = list[:n-1] // that record was written again
		}
	}
	if len(list) == maxSyncs {
		for i := range maxSyncs / 2 {
			list[i] = list[2*i]
		}
		list = list[:maxSyncs/2]
	}
	b.syncs[key] = append(list, at)
	return nil
}

// internalTopic returns the reader of a topic, which was read to its end at most MaxAge ago.
func (c *Client) internalTopic(ctx context.Context, topic string) (*internalTopicReader, error) {
	c.mu.Lock()
	b := c.internalTopics[topic]
	if b == nil {
		b = &internalTopicReader{client: c, topic: topic}
		b.tail = newLogTail(&topicLeaders{client: c.kafka, topic: topic}, 0, b.skipped)
		c.internalTopics[topic] = b
	}
	c.mu.Unlock()
	if time.Since(b.tail.asOf()) < c.journal.MaxAge {
		return b, nil
	}
	return b, b.tail.follow(ctx, b)
}

func isUnknownTopic(err error) bool {
	return errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.UnknownTopicID)
}

// Checkpoints returns the newest checkpoints of a source's groups, sorted by group, topic and partition. Those of a
// newer version of MirrorMaker 2 are left out. It blocks for reading the topic, to its end the first time and only
// what is new later. It returns a *[NoCheckpointsError] if the topic does not exist, and errors of the cluster.
func (c *Client) Checkpoints(ctx context.Context, source string) ([]WrittenCheckpoint, error) {
	list, _, err := c.checkpoints(ctx, source, nil)
	return list, err
}

// checkpoints returns the checkpoints of one group, or of all groups if it is nil, and the error of one that a newer
// version wrote.
func (c *Client) checkpoints(ctx context.Context, source string, group *string) (list []WrittenCheckpoint, newer, err error) {
	topic := c.names.Checkpoints(source)
	b, err := c.internalTopic(ctx, topic)
	if isUnknownTopic(err) {
		return nil, nil, &NoCheckpointsError{Source: source, Topic: topic}
	}
	if err != nil {
		return nil, nil, err
	}
	b.mu.Lock()
	for key, checkpoint := range b.checkpoints {
		if group == nil || key.group == *group {
			list = append(list, checkpoint)
		}
	}
	for key, err := range b.newer {
		if group != nil && key.group == *group {
			newer = err
		}
	}
	b.mu.Unlock()
	slices.SortFunc(list, func(x, y WrittenCheckpoint) int {
		return cmp.Or(cmp.Compare(x.Group, y.Group), cmp.Compare(x.Topic, y.Topic), cmp.Compare(x.Partition, y.Partition))
	})
	return list, newer, nil
}

// Heartbeats returns the newest heartbeats on this cluster, those that were written here and those that were copied
// here, sorted by topic, source and target. It blocks for reading their topics: the first time this may be a week of
// heartbeats if the topics are not compacted, later it is only what is new.
func (c *Client) Heartbeats(ctx context.Context) ([]WrittenHeartbeat, error) {
	topics, err := c.topicNames(ctx)
	if err != nil {
		return nil, err
	}
	topics = slices.DeleteFunc(slices.Clone(topics), func(topic string) bool { return !c.names.IsHeartbeats(topic) })
	var mu sync.Mutex
	var list []WrittenHeartbeat
	err = inParallel(topics, func(topic string) error {
		b, err := c.internalTopic(ctx, topic)
		switch {
		case isUnknownTopic(err):
			return nil
		case err != nil:
			return err
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		mu.Lock()
		defer mu.Unlock()
		list = slices.AppendSeq(list, maps.Values(b.heartbeats))
		return nil
	})
	slices.SortFunc(list, func(x, y WrittenHeartbeat) int {
		return cmp.Or(cmp.Compare(x.Topic, y.Topic), cmp.Compare(x.Source, y.Source), cmp.Compare(x.Target, y.Target))
	})
	return list, err
}

// bySyncs translates with MirrorMaker 2's offset-syncs, if they are on this cluster.
func (c *Client) bySyncs(ctx context.Context, targetTopic string, partition int32, side Side, wanted int64) (Translation, bool, error) {
	alias, name, ok := c.names.Split(targetTopic)
	if !ok {
		return Translation{}, false, nil
	}
	topic := c.names.OffsetSyncs(alias)
	if !c.syncsUsable(topic, name) {
		return Translation{}, false, nil
	}
	b, err := c.internalTopic(ctx, topic)
	if isUnknownTopic(err) {
		return Translation{}, false, nil
	}
	if err != nil {
		return Translation{}, false, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	found, exact, ok := translateBySyncs(b.syncs[partitionKey{name, partition}], side, wanted)
	if !ok {
		return Translation{}, false, nil
	}
	t := Translation{
		Topic: name, TargetTopic: targetTopic, Partition: partition, Exact: exact,
		Origin: FromOffsetSyncs, AsOf: b.tail.asOf(),
	}
	if t.Source, t.Target = wanted, found; side == Target {
		t.Source, t.Target = found, wanted
	}
	return t, true, nil
}

// translateBySyncs translates an offset of one side with the offset-syncs of a partition, in the order in which they
// were written. The answer is the newest sync at or below the offset, plus one record if it is below, which is never
// later than the exact offset. The ok result is false if all syncs are above the offset. Syncs that were written before
// the target topic was recreated are ignored: the target offset does not increase where it was.
func translateBySyncs(syncs []Pair, side Side, wanted int64) (found int64, exact, ok bool) {
	for i, s := range slices.Backward(syncs) {
		switch {
		case s.on(side) == wanted:
			return s.on(side.other()), true, true
		case s.on(side) < wanted:
			return s.on(side.other()) + 1, false, true
		case i > 0 && s.Target <= syncs[i-1].Target:
			return 0, false, false
		}
	}
	return 0, false, false
}

// syncsUsable reports whether an offset-syncs topic can only describe a topic's copy on this cluster. It could also
// describe the copy of this cluster's topic on the other cluster: MirrorMaker 2 keeps those syncs here by default,
// under the same name, and they say nothing about the copy here.
func (c *Client) syncsUsable(syncs, name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, exists := slices.BinarySearch(c.topics, syncs)
	_, ambiguous := slices.BinarySearch(c.topics, name)
	return exists && (c.offsetSyncsHere || !ambiguous)
}
