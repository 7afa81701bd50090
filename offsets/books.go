package offsets

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// bookReader reads one of MirrorMaker 2's topics, which have one partition, and goes on where it ended the time before.
// What was read since is shown record by record: no two of them belong together. Safe for concurrent use.
type bookReader struct {
	client *Client
	topic  string
	tail   *tail

	mu          sync.Mutex // held for no I/O
	checkpoints map[checkpointKey]WrittenCheckpoint
	newer       map[checkpointKey]error // those that a newer version wrote
	heartbeats  map[[2]string]WrittenHeartbeat
	syncs       map[partitionKey][]Position
}

type checkpointKey struct {
	group, topic string
	partition    int32
}

// WrittenCheckpoint is a checkpoint and when it was written.
type WrittenCheckpoint struct {
	Checkpoint
	At time.Time
}

// WrittenHeartbeat is the newest heartbeat of one flow, and the topic that it was found in: `heartbeats` if it was written
// here, `primary.heartbeats` if it came here with a copy, so that its age is that of the way.
type WrittenHeartbeat struct {
	Heartbeat
	Topic string
}

// Age is how long ago the heartbeat was written, by the clocks of its writer and of this process.
func (h WrittenHeartbeat) Age() time.Duration { return time.Since(h.At) }

func (b *bookReader) restart() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.checkpoints, b.newer = make(map[checkpointKey]WrittenCheckpoint), make(map[checkpointKey]error)
	b.heartbeats, b.syncs = make(map[[2]string]WrittenHeartbeat), make(map[partitionKey][]Position)
}

func (*bookReader) settle(time.Time) {}

func (b *bookReader) take(records []*kgo.Record) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range records {
		var err error
		switch {
		case b.client.names.IsHeartbeats(b.topic):
			err = b.takeHeartbeat(r)
		case b.client.names.IsCheckpoints(b.topic):
			err = b.takeCheckpoint(r)
		default:
			err = b.takeSync(r)
		}
		if err != nil && !errors.Is(err, ErrTombstone) {
			b.client.unreadable.Add(1)
			b.client.log.Warn("unreadable record is left out", "topic", b.topic, "offset", r.Offset, "err", err)
		}
	}
	return nil
}

func (b *bookReader) takeHeartbeat(r *kgo.Record) error {
	h, err := DecodeHeartbeat(r.Key, r.Value)
	if err == nil {
		b.heartbeats[[2]string{h.Source, h.Target}] = WrittenHeartbeat{h, b.topic}
	}
	return err
}

// takeCheckpoint lets a record that cannot be read take the place of the one before all the same: that one is outdated.
func (b *bookReader) takeCheckpoint(r *kgo.Record) error {
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

// maxSyncs is how many syncs are kept of one partition. If there are more, every second one is left out: an answer then
// comes earlier, and skips nothing.
const maxSyncs = 4096

func (b *bookReader) takeSync(r *kgo.Record) error {
	s, err := DecodeOffsetSync(r.Key, r.Value)
	key := partitionKey{s.Topic, s.Partition}
	if err != nil {
		return err
	}
	at, list := Position{Source: s.Source, Target: s.Target}, b.syncs[key]
	if n := len(list); n > 0 {
		switch last := list[n-1]; {
		case at == last:
			return nil
		case at.Source < last.Source, at.Target < last.Target:
			list = list[:0] // one of the topics was made again: what was true before is not any more
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

// book is the reader of a topic, read to its end not longer ago than MaxAge.
func (c *Client) book(ctx context.Context, topic string) (*bookReader, error) {
	c.mu.Lock()
	b := c.books[topic]
	if b == nil {
		b = &bookReader{client: c, topic: topic, tail: newTail(&topicLeaders{client: c.kafka, topic: topic}, 0)}
		c.books[topic] = b
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

// Checkpoints are the newest checkpoints of a source's groups, sorted by group, topic and partition. Those of a newer
// version of MirrorMaker 2 are left out. It blocks for reading their topic, to its end the first time and what is new
// later. It returns a *[NoCheckpointsError] if there is no topic of them, and errors of the cluster.
func (c *Client) Checkpoints(ctx context.Context, source string) ([]WrittenCheckpoint, error) {
	list, _, err := c.checkpoints(ctx, source, nil)
	return list, err
}

// checkpoints are those of one group, or of all if it is nil, and why one of them cannot be read.
func (c *Client) checkpoints(ctx context.Context, source string, group *string) (list []WrittenCheckpoint, newer, err error) {
	topic := c.names.Checkpoints(source)
	b, err := c.book(ctx, topic)
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

// Heartbeats are the newest heartbeats on this cluster, those that were written here and those that were copied here,
// sorted by topic, source and target. It blocks for reading their topics: where nobody compacts them, that may be a week
// of heartbeats the first time, and is what is new later.
func (c *Client) Heartbeats(ctx context.Context) ([]WrittenHeartbeat, error) {
	topics, err := c.topicNames(ctx)
	if err != nil {
		return nil, err
	}
	topics = slices.DeleteFunc(slices.Clone(topics), func(topic string) bool { return !c.names.IsHeartbeats(topic) })
	var mu sync.Mutex
	var list []WrittenHeartbeat
	err = inParallel(topics, func(topic string) error {
		b, err := c.book(ctx, topic)
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

// bySyncs translates with MirrorMaker 2's offset-syncs, if they are on this cluster: the newest sync at or below the
// offset, and one record further if it is below, which is never later than the truth.
func (c *Client) bySyncs(ctx context.Context, targetTopic string, partition int32, side Side, wanted int64) (Translation, bool, error) {
	alias, name, ok := c.names.Split(targetTopic)
	if !ok {
		return Translation{}, false, nil
	}
	topic := c.names.OffsetSyncs(alias)
	if !c.mayBelieve(topic, name) {
		return Translation{}, false, nil
	}
	b, err := c.book(ctx, topic)
	if isUnknownTopic(err) {
		return Translation{}, false, nil
	}
	if err != nil {
		return Translation{}, false, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	list := b.syncs[partitionKey{name, partition}]
	i := sort.Search(len(list), func(i int) bool { return list[i].on(side) > wanted }) - 1
	if i < 0 {
		return Translation{}, false, nil
	}
	t := Translation{
		Topic: name, TargetTopic: targetTopic, Partition: partition, Exact: list[i].on(side) == wanted,
		Origin: FromOffsetSyncs, AsOf: b.tail.asOf(),
	}
	found := list[i].on(side.other())
	if !t.Exact {
		found++
	}
	if t.Source, t.Target = wanted, found; side == Target {
		t.Source, t.Target = found, wanted
	}
	return t, true, nil
}

// mayBelieve says whether a topic of offset-syncs can only be about a topic's copy here. A topic of that name on this
// cluster could also be the one that is copied from here to there: its syncs, where MirrorMaker 2 keeps them by default,
// have the same name, and say nothing about the way to this cluster.
func (c *Client) mayBelieve(syncs, name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, exists := slices.BinarySearch(c.topics, syncs)
	_, ambiguous := slices.BinarySearch(c.topics, name)
	return exists && (c.believeSyncs || !ambiguous)
}
