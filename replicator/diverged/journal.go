package diverged

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
)

// journal is what the journal of a flow says, without its maps, by shard.
type journal []shard

// shard is one partition of the journal.
type shard struct {
	err     error     // why it was not read to its end
	owners  []int64   // all producer ids that ever wrote copies, the newest last
	written time.Time // timestamp of the newest record

	partitions map[offsets.TopicPartition]*offsets.PartitionState
}

// readJournal reads the journal. A flow without one is an error: that it was deleted and that it never was are the same.
func readJournal(ctx context.Context, c client.Clusters, target *cluster) (journal, error) {
	name := offsets.JournalTopic(c.Flow.Name)
	j := make(journal, len(target.view().ByName[name].Partitions))
	errs, err := offsets.VisitJournal(ctx, target.client, name, c.Log, offsets.JournalVisitor{Start: j.start, Visit: j.visit})
	var none *offsets.NoJournalError
	switch {
	case errors.As(err, &none):
		return nil, fmt.Errorf("flow %s has no journal on cluster %s: it never copied anything there, or the topic %s was deleted, or milena's user may not describe it", c.Flow.Name, c.Flow.Target, name)
	case err != nil:
		return nil, fmt.Errorf("the journal of flow %s cannot be read: %w", c.Flow.Name, target.explain(err))
	case len(errs) != len(j):
		return nil, fmt.Errorf("the journal %s of flow %s has %d partitions, and had %d a moment ago: try again", name, c.Flow.Name, len(errs), len(j))
	}
	for k, err := range errs {
		if err != nil {
			j[k].err = target.explain(err)
		}
	}
	return j, nil
}

// at returns a shard. What a journal has beyond the partitions that the metadata had is dropped.
func (j journal) at(k int32) *shard {
	if int(k) >= len(j) {
		return &shard{partitions: make(map[offsets.TopicPartition]*offsets.PartitionState)}
	}
	return &j[k]
}

func (j journal) start(k int32) {
	*j.at(k) = shard{partitions: make(map[offsets.TopicPartition]*offsets.PartitionState)}
}

func (j journal) visit(k int32, e offsets.Entry, at time.Time) {
	s := j.at(k)
	if at.After(s.written) {
		s.written = at
	}
	switch e := e.(type) {
	case *offsets.ShardState:
		s.owners = e.ProducerIDs
	case *offsets.PartitionState:
		s.partitions[offsets.TopicPartition{Topic: e.Topic, Partition: e.Partition}] = e
	case *offsets.Tombstone:
		if e.Kind == offsets.KindPartition {
			delete(s.partitions, offsets.TopicPartition{Topic: e.Topic, Partition: e.Partition})
		}
	case *offsets.Owner, *offsets.Horizon, *offsets.Chunk, *offsets.GroupPositions, *offsets.Lineage:
	}
}

// of returns the shard of a partition of the source, and its state; nil if the journal does not list it.
func (j journal) of(tp offsets.TopicPartition) (*shard, *offsets.PartitionState) {
	s := j.at(offsets.ShardOf(tp.Topic, tp.Partition, int32(len(j)))) //nolint:gosec // a number of partitions
	return s, s.partitions[tp]
}

// writtenAt is the timestamp of the newest record, the zero time if there is none.
func (j journal) writtenAt() (newest time.Time) {
	for _, s := range j {
		if s.written.After(newest) {
			newest = s.written
		}
	}
	return newest
}

// isSame reports whether two states of a partition say the same about its copy.
func isSame(a, b *offsets.PartitionState) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Generation == b.Generation && a.End == b.End
}
