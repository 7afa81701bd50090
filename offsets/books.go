package offsets

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// isMM2Internal is MirrorMaker 2's rule for its own topics (KIP-1074).
func isMM2Internal(topic, separator string) bool {
	return strings.HasPrefix(topic, "mm2") && (strings.HasSuffix(topic, separator+"internal") || strings.HasSuffix(topic, ".internal"))
}

// bookReader reads one of MirrorMaker 2's topics, which have one partition, and goes on where it ended the time before.
type bookReader struct {
	log  logReader
	next int64
	asOf time.Time

	checkpoints map[checkpointKey]WrittenCheckpoint
	heartbeats  map[[2]string]WrittenHeartbeat
	syncs       map[partitionKey][]OffsetSync
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

// bookLocked is the reader of a topic, read to its end. The client's lock is held.
func (c *Client) bookLocked(ctx context.Context, topic string, take func(*bookReader, *kgo.Record) error) (*bookReader, error) {
	b := c.books[topic]
	if b == nil {
		b = &bookReader{
			log:         logReader{topicLeaders: &topicLeaders{client: c.kafka, topic: topic}},
			checkpoints: make(map[checkpointKey]WrittenCheckpoint), heartbeats: make(map[[2]string]WrittenHeartbeat),
			syncs: make(map[partitionKey][]OffsetSync),
		}
	}
	if time.Since(b.asOf) < c.journal.MaxAge {
		return b, nil
	}
	began := time.Now()
	start, err := b.log.offset(ctx, logStart)
	if err != nil {
		return nil, err
	}
	end, err := b.log.offset(ctx, logEnd)
	if err != nil {
		return nil, err
	}
	if end < b.next { // the topic was made again
		clear(b.checkpoints)
		clear(b.heartbeats)
		clear(b.syncs)
		b.next = 0
	}
	err = b.log.read(ctx, max(b.next, start), end, fetchBytes, func(records []*kgo.Record, next int64) error {
		for _, r := range records {
			if err := take(b, r); err != nil && !errors.Is(err, ErrTombstone) {
				c.unreadable.Add(1)
				c.log.Warn("unreadable record is left out", "topic", topic, "offset", r.Offset, "err", err)
			}
		}
		b.next = next
		return nil
	})
	if err != nil {
		return nil, err
	}
	b.asOf = began
	c.books[topic] = b
	return b, nil
}

// Checkpoints are the newest checkpoints of a source's groups, sorted by group, topic and partition. It returns a
// *[NoCheckpointsError] if there is no topic of them.
func (c *Client) Checkpoints(ctx context.Context, source string) ([]WrittenCheckpoint, error) {
	topic := c.names.Checkpoints(source)
	c.mu.Lock()
	defer c.mu.Unlock()
	b, err := c.bookLocked(ctx, topic, func(b *bookReader, r *kgo.Record) error {
		checkpoint, err := DecodeCheckpoint(r.Key, r.Value)
		key := checkpointKey{checkpoint.Group, checkpoint.Topic, checkpoint.Partition}
		if errors.Is(err, ErrTombstone) {
			delete(b.checkpoints, key)
		}
		if err == nil {
			b.checkpoints[key] = WrittenCheckpoint{checkpoint, r.Timestamp}
		}
		return err
	})
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return nil, &NoCheckpointsError{Source: source, Topic: topic}
	}
	if err != nil {
		return nil, err
	}
	var list []WrittenCheckpoint
	for _, checkpoint := range b.checkpoints {
		list = append(list, checkpoint)
	}
	slices.SortFunc(list, func(x, y WrittenCheckpoint) int {
		return cmp.Or(cmp.Compare(x.Group, y.Group), cmp.Compare(x.Topic, y.Topic), cmp.Compare(x.Partition, y.Partition))
	})
	return list, nil
}

// Heartbeats are the newest heartbeats on this cluster, those that were written here and those that were copied here. The
// age of one is the time since its At.
func (c *Client) Heartbeats(ctx context.Context) ([]WrittenHeartbeat, error) {
	topics, err := c.topicNames(ctx)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []WrittenHeartbeat
	for _, topic := range topics {
		if !c.names.IsHeartbeats(topic) {
			continue
		}
		b, err := c.bookLocked(ctx, topic, func(b *bookReader, r *kgo.Record) error {
			h, err := DecodeHeartbeat(r.Key, r.Value)
			if err == nil {
				b.heartbeats[[2]string{h.Source, h.Target}] = WrittenHeartbeat{h, topic}
			}
			return err
		})
		if err != nil {
			return list, err
		}
		for _, h := range b.heartbeats {
			list = append(list, h)
		}
	}
	slices.SortFunc(list, func(x, y WrittenHeartbeat) int {
		return cmp.Or(cmp.Compare(x.Topic, y.Topic), cmp.Compare(x.Source, y.Source), cmp.Compare(x.Target, y.Target))
	})
	return list, nil
}

// forwardBySyncs translates with MirrorMaker 2's offset-syncs, if they are on this cluster: the newest sync at or below the
// offset, and one record further if it is below, which is never later than the truth.
func (c *Client) forwardBySyncs(ctx context.Context, targetTopic string, partition int32, source int64) (Translation, bool) {
	alias, name, ok := c.names.Split(targetTopic)
	if !ok {
		return Translation{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	b, err := c.bookLocked(ctx, c.names.OffsetSyncs(alias), func(b *bookReader, r *kgo.Record) error {
		sync, err := DecodeOffsetSync(r.Key, r.Value)
		if err != nil {
			return err
		}
		key := partitionKey{sync.Topic, sync.Partition}
		list := b.syncs[key]
		if n := len(list); n > 0 && (sync.Source < list[n-1].Source || sync.Target < list[n-1].Target) {
			list = list[:0] // one of the topics was made again: what was true before is not any more
		}
		b.syncs[key] = append(list, sync)
		return nil
	})
	if err != nil {
		return Translation{}, false
	}
	list := b.syncs[partitionKey{name, partition}]
	i := sort.Search(len(list), func(i int) bool { return list[i].Source > source }) - 1
	if i < 0 {
		return Translation{}, false
	}
	t := Translation{
		Topic: name, TargetTopic: targetTopic, Partition: partition, Source: source, Target: list[i].Target,
		Exact: list[i].Source == source, Origin: FromOffsetSyncs, AsOf: b.asOf,
	}
	if !t.Exact {
		t.Target++
	}
	return t, true
}
