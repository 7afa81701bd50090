package offsets

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// ShardJournal is all that the journal of one shard has of maps, for whoever continues them in the other direction.
type ShardJournal struct {
	// ProducerIDs and Rest are those of the [ShardState].
	ProducerIDs []int64
	Rest        string

	states map[TopicPartition]*PartitionState
	chunks map[TopicPartition]map[int64]*Chunk
	err    error // a record that could not be read: what it says is not known
}

// ReadShardJournal reads the journal partition of one shard from its start to its current end. Its memory grows with the history. A record that cannot
// be decoded is an error, because the maps must be complete. It returns a *[NoJournalError] if the journal does not exist.
func ReadShardJournal(ctx context.Context, client *kgo.Client, journal string, shard int32, log *slog.Logger) (*ShardJournal, error) {
	topic := &topicLeaders{client: client, topic: journal}
	err := topic.retry(ctx, "find", func(l *leaders) error {
		if int(shard) >= len(l.nodes) {
			return fmt.Errorf("journal %s has %d partitions, and no shard %d", journal, len(l.nodes), shard)
		}
		return nil
	})
	if isUnknownTopic(err) {
		return nil, &NoJournalError{Topic: journal}
	}
	if err != nil {
		return nil, err
	}
	found := &ShardJournal{}
	tooLarge := func(e *kgo.ErrDecompressTooLarge) {
		found.err = fmt.Errorf("journal %s-%d: a batch at offset %d decompresses to too much", journal, shard, e.Offset)
		log.Warn("skipping a batch that decompresses to too much", "topic", journal, "partition", shard, "offset", e.Offset)
	}
	if err := newLogTail(topic, shard, tooLarge).follow(ctx, found); err != nil {
		return nil, err
	}
	if found.err != nil {
		return nil, found.err
	}
	return found, nil
}

// reset implements logSink.
func (j *ShardJournal) reset() {
	*j = ShardJournal{states: make(map[TopicPartition]*PartitionState), chunks: make(map[TopicPartition]map[int64]*Chunk)}
}

// publish implements logSink.
func (*ShardJournal) publish(time.Time) {}

// add implements logSink.
func (j *ShardJournal) add(records []*kgo.Record) error {
	for _, r := range records {
		if err := j.take(r.Key, r.Value); err != nil {
			return fmt.Errorf("journal %s-%d at offset %d: %w", r.Topic, r.Partition, r.Offset, err)
		}
	}
	return nil
}

func (j *ShardJournal) take(key, value []byte) error {
	entry, err := DecodeJournal(key, value)
	if err != nil {
		var foreign *CorruptError
		if errors.As(err, &foreign) && (len(key) == 0 || !isProgress(Kind(key[0])) && Kind(key[0]) != KindChunk) {
			return nil // none of the records that count
		}
		return err
	}
	switch e := entry.(type) {
	case *ShardState:
		j.ProducerIDs, j.Rest = e.ProducerIDs, e.Rest
	case *PartitionState:
		j.states[TopicPartition{Topic: e.Topic, Partition: e.Partition}] = e
	case *Chunk:
		tp := TopicPartition{Topic: e.Topic, Partition: e.Partition}
		if j.chunks[tp] == nil {
			j.chunks[tp] = make(map[int64]*Chunk)
		}
		j.chunks[tp][e.First] = e
	case *Tombstone:
		switch tp := (TopicPartition{Topic: e.Topic, Partition: e.Partition}); e.Kind {
		case KindPartition:
			delete(j.states, tp)
		case KindChunk:
			delete(j.chunks[tp], e.First)
		case KindShard, KindOwner, KindGroup, KindLineage, KindHorizon:
		}
	case *Owner, *GroupPositions, *Lineage, *Horizon:
	}
	return nil
}

// State is that of a source partition, nil if the journal does not list it.
func (j *ShardJournal) State(tp TopicPartition) *PartitionState { return j.states[tp] }

// Map is the map of a source partition that the journal lists, as far back as the journal has it.
func (j *ShardJournal) Map(tp TopicPartition) (*Map, error) {
	state := j.states[tp]
	if state == nil {
		return nil, errors.New("the journal has no state of the partition")
	}
	var chunks []*Chunk
	for next := state.Chunk; ; { // older chunks may have been removed, or be of another generation
		c := j.chunks[tp][next]
		if c == nil || c.Generation != state.Generation {
			break
		}
		chunks = append(chunks, c)
		if next = c.Previous; next == noChunk {
			break
		}
	}
	return RestoreMap(state, chunks...)
}

// IsEmpty reports whether the journal lists no partition.
func (j *ShardJournal) IsEmpty() bool { return len(j.states) == 0 }
