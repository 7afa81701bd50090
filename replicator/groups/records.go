package groups

import (
	"context"
	"time"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
)

// checkpoints writes MirrorMaker 2's checkpoints to the target: those that changed.
type checkpoints struct {
	topic   *internalTopic
	id      [16]byte                              // of the topic that written is about
	written map[groupPartition]offsets.Checkpoint // by this process
}

func newCheckpoints(d *Deps) *checkpoints {
	return &checkpoints{
		topic:   newInternalTopic(d, offsets.Target, d.InternalTopics().Checkpoints(d.Flow.Source)),
		written: make(map[groupPartition]offsets.Checkpoint),
	}
}

// write writes the checkpoints of positions that are not refused. They were read after began.
func (c *checkpoints) write(ctx context.Context, positions []*position, began time.Time) error {
	if id := c.topic.id(); id != c.id { // the topic was recreated: write all again
		clear(c.written)
		c.id = id
	}
	changed := make(map[groupPartition]offsets.Checkpoint)
	var records []record
	for _, p := range notRefused(positions) {
		checkpoint := offsets.Checkpoint{
			Group: p.group, Topic: p.target.Topic, Partition: p.target.Partition, Source: p.sourceOffset, Target: p.targetOffset, Metadata: p.metadata,
		}
		if c.written[p.key()] != checkpoint {
			changed[p.key()] = checkpoint
			records = append(records, checkpoint)
		}
	}
	if len(records) == 0 {
		return nil
	}
	if err := c.topic.write(ctx, time.Now(), records); err != nil {
		return err
	}
	took := time.Since(began).Seconds()
	for key, checkpoint := range changed {
		c.topic.deps.Metrics.CheckpointLatency.Observe(took)
		c.written[key] = checkpoint
	}
	return nil
}

func (c *checkpoints) problems() []string { return c.topic.problems() }

// offsetSyncs writes MirrorMaker 2's offset-syncs: the newest offset pair of each partition whose copy grew. They are for a MirrorMaker 2
// after a rollback, and for tools that read its topics. Java's own clients do not read them.
type offsetSyncs struct {
	topic   *internalTopic
	id      [16]byte                         // of the topic that written is about
	written map[offsets.TopicPartition]int64 // source offset of the last sync, by this process
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
	return &offsetSyncs{topic: topic, written: make(map[offsets.TopicPartition]int64)}
}

// write writes what changed. The internal topic reports its errors.
func (s *offsetSyncs) write(ctx context.Context) {
	if s == nil || !s.topic.deps.Host.Leads() {
		return
	}
	if id := s.topic.id(); id != s.id { // the topic was recreated: write all again
		clear(s.written)
		s.id = id
	}
	changed := make(map[offsets.TopicPartition]int64)
	var records []record
	for _, c := range s.topic.deps.Host.Copies() {
		sync, ok := c.LastSync()
		if !ok {
			continue
		}
		tp := offsets.TopicPartition{Topic: sync.Topic, Partition: sync.Partition}
		if before, known := s.written[tp]; !known || before != sync.Source {
			changed[tp] = sync.Source
			records = append(records, sync)
		}
	}
	if len(records) == 0 || s.topic.write(ctx, time.Now(), records) != nil {
		return
	}
	for tp, source := range changed {
		s.written[tp] = source
	}
}

func (s *offsetSyncs) problems() []string {
	if s == nil {
		return nil
	}
	return s.topic.problems()
}
