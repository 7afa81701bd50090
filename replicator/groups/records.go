package groups

import (
	"context"
	"hash/maphash"
	"maps"
	"time"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
)

// checkpoints writes MirrorMaker 2's checkpoints to the target: those that changed.
type checkpoints struct {
	topic *internalTopic
	seed  maphash.Seed
	id    [16]byte // of the topic when the sync began, to which it writes
}

// newCheckpoints returns nil if checkpoints are off.
func newCheckpoints(d *Deps) *checkpoints {
	if !d.Flow.Checkpoints {
		return nil
	}
	topic := newInternalTopic(d, offsets.Target, d.InternalTopics().Checkpoints(d.Flow.Source))
	topic.grows = true // a checkpoint for each group that moves in each partition, at each sync; Java's clients read all of them
	return &checkpoints{topic: topic, seed: maphash.MakeSeed()}
}

// recreated reports whether the topic is another one than in the sync before, so that all checkpoints must be written again.
func (c *checkpoints) recreated() bool {
	if c == nil {
		return false
	}
	before := c.id
	c.id = c.topic.id()
	return before != c.id
}

// write writes the checkpoints of positions in copies that are not refused. They were read after began. Each batch that is acknowledged
// counts; the positions of the others are marked as unpublished. The checkpoint is written before the commit, as MirrorMaker 2 does. If milena
// has no permission to write checkpoints at all, it commits without them.
func (c *checkpoints) write(ctx context.Context, positions []*position, began time.Time) {
	if c == nil {
		return
	}
	var changed []*position
	var records []record
	for _, p := range notRefused(positions) {
		if p.reverse != nil || p.checkpointed && p.checkpoint.source == p.sourceOffset && p.checkpoint.target == p.targetOffset && p.checkpoint.metadata == c.hash(p.metadata) {
			continue
		}
		changed = append(changed, p)
		records = append(records, offsets.Checkpoint{
			Group: p.group, Topic: p.target.Topic, Partition: p.target.Partition, Source: p.sourceOffset, Target: p.targetOffset, Metadata: p.metadata,
		})
	}
	if len(records) == 0 {
		return
	}
	written, err := c.topic.write(ctx, c.id, time.Now(), records)
	took := time.Since(began).Seconds()
	for _, p := range changed[:written] {
		c.topic.deps.Metrics.CheckpointLatency.Observe(took)
		p.checkpointed, p.checkpoint.source, p.checkpoint.target, p.checkpoint.metadata = true, p.sourceOffset, p.targetOffset, c.hash(p.metadata)
	}
	for _, p := range changed[written:] {
		p.checkpointed, p.unfinished = false, true
		p.unpublished = !isDenied(err)
	}
}

func (c *checkpoints) hash(metadata string) uint64 { return maphash.String(c.seed, metadata) }

func (c *checkpoints) problems() []string {
	if c == nil {
		return nil
	}
	return c.topic.problems()
}

// offsetSyncs writes MirrorMaker 2's offset-syncs: the newest offset pair of each partition whose copy grew. They are for a MirrorMaker 2
// after a rollback, and for tools that read its topics. Java's own clients do not read them. Each process writes those of its own copies.
type offsetSyncs struct {
	topic   *internalTopic
	id      [16]byte // of the topic that written is about
	written map[offsets.TopicPartition]writtenSync
	round   uint32 // counts the calls of write
}

// writtenSync is the last offset-sync of a copy that this process has written.
type writtenSync struct {
	source int64
	round  uint32 // in which the copy was last seen
}

// newOffsetSyncs returns nil if offset-syncs are off.
func newOffsetSyncs(d *Deps) *offsetSyncs {
	var topic *internalTopic
	switch d.Flow.OffsetSyncs {
	case config.OffsetSyncsTarget:
		topic = newInternalTopic(d, offsets.Target, d.InternalTopics().OffsetSyncs(d.Flow.Source))
	case config.OffsetSyncsSource:
		topic = newInternalTopic(d, offsets.Source, d.InternalTopics().OffsetSyncs(d.Flow.Target))
	default:
		return nil
	}
	return &offsetSyncs{topic: topic, written: make(map[offsets.TopicPartition]writtenSync)}
}

// write writes what changed. The internal topic reports its errors. A copy that is no longer here is forgotten: when it comes back, another
// process has written of it.
func (s *offsetSyncs) write(ctx context.Context) {
	if s == nil || !s.topic.deps.Host.Writes() {
		return
	}
	if id := s.topic.id(); id != s.id { // the topic was recreated: write all again
		clear(s.written)
		s.id = id
	}
	changed := make(map[offsets.TopicPartition]writtenSync)
	var records []record
	s.round++
	for _, c := range s.topic.deps.Host.Copies() {
		sync, ok := c.LastSync()
		if !ok {
			continue
		}
		tp, now := offsets.TopicPartition{Topic: sync.Topic, Partition: sync.Partition}, writtenSync{sync.Source, s.round}
		if before, known := s.written[tp]; known && before.source == sync.Source {
			s.written[tp] = now
		} else {
			changed[tp] = now
			records = append(records, sync)
		}
	}
	maps.DeleteFunc(s.written, func(_ offsets.TopicPartition, w writtenSync) bool { return w.round != s.round })
	if len(records) == 0 {
		return
	}
	if _, err := s.topic.write(ctx, s.id, time.Now(), records); err == nil {
		maps.Copy(s.written, changed)
	}
}

func (s *offsetSyncs) problems() []string {
	if s == nil {
		return nil
	}
	return s.topic.problems()
}
