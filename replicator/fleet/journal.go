package fleet

import (
	"context"
	"errors"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
)

// journal is what the journal of a flow says, without its maps.
type journal []shardJournal

// shardJournal is one partition of the journal.
type shardJournal struct {
	err        error // why it was not read to its end
	owner      *offsets.Owner
	horizon    *offsets.Horizon
	written    time.Time // timestamp of the newest record
	partitions map[offsets.TopicPartition]progress
}

// progress is how far one partition is. It is small, as there may be many.
type progress struct {
	end           int64 // all records of the source below it are copied
	sourceCluster string
	sourceTopic   [16]byte
	targetTopic   [16]byte
	halted        *Halt
}

// readJournal reads the journal. A flow that never ran has none.
func (r *reading) readJournal(ctx context.Context) error {
	name := offsets.JournalTopic(r.flow.Name)
	topic := r.targetView.ByName[name]
	if !topic.Exists() {
		return nil
	}
	r.journal = make(journal, len(topic.Partitions))
	errs, err := offsets.VisitJournal(ctx, r.target, name, r.clusters.Log, offsets.JournalVisitor{Start: r.journal.start, Visit: r.journal.visit})
	var none *offsets.NoJournalError
	if errors.As(err, &none) {
		r.journal = nil
		return nil
	}
	for k, err := range errs {
		r.journal.at(int32(k)).err = err
	}
	return err
}

// at returns a shard. A journal that grew since the metadata was read is no journal of milena's: what is beyond has no place.
func (j journal) at(shard int32) *shardJournal {
	if int(shard) >= len(j) {
		return &shardJournal{}
	}
	return &j[shard]
}

func (j journal) start(shard int32) {
	*j.at(shard) = shardJournal{partitions: make(map[offsets.TopicPartition]progress)}
}

func (j journal) visit(shard int32, e offsets.Entry, at time.Time) {
	s := j.at(shard)
	if at.After(s.written) {
		s.written = at
	}
	switch e := e.(type) {
	case *offsets.Owner:
		s.owner = e
	case *offsets.Horizon:
		s.horizon = e
	case *offsets.PartitionState:
		s.partitions[offsets.TopicPartition{Topic: e.Topic, Partition: e.Partition}] = newProgress(e)
	case *offsets.Tombstone:
		if e.Kind == offsets.KindPartition {
			delete(s.partitions, offsets.TopicPartition{Topic: e.Topic, Partition: e.Partition})
		}
	case *offsets.ShardState, *offsets.Chunk, *offsets.GroupPositions, *offsets.Lineage:
	}
}

func newProgress(s *offsets.PartitionState) progress {
	return progress{end: s.End.Source, sourceCluster: s.SourceClusterID, sourceTopic: s.SourceTopicID, targetTopic: s.TargetTopicID, halted: haltOf(s)}
}

// haltOf returns the anomaly that a partition is halted by, or nil. It is the newest gap of the ledger: a decision, such as skip, adds a newer one.
// Without one, a partition that was halted goes on only if the reason is gone, and then passes the offsets that it was halted at.
func haltOf(s *offsets.PartitionState) *Halt {
	if len(s.Gaps) == 0 {
		return nil
	}
	g := s.Gaps[len(s.Gaps)-1]
	if g.Action != string(policy.Halt) || isPassed(g, s.End.Source) {
		return nil
	}
	at := policy.Place{Topic: s.Topic, Partition: s.Partition, Target: s.TargetTopic}
	return &Halt{Kind: g.Kind, Detail: g.Detail, Hint: policy.Kind(g.Kind).Hint(at), From: g.From, To: g.To, Since: g.At}
}

// isPassed reports whether a copy that ends before the source offset end has passed the offsets of a gap.
func isPassed(g offsets.Gap, end int64) bool {
	switch {
	case g.To < 0: // unknown
		return false
	case g.From == g.To, g.Kind == string(policy.Truncated): // no record, or records that were copied before
		return end > g.To
	default:
		return end >= g.To
	}
}

// lastOwner returns the owner record that was confirmed last, nil if there is none.
func (j journal) lastOwner() (last *offsets.Owner) {
	for _, s := range j {
		if s.owner != nil && (last == nil || s.owner.Confirmed.After(last.Confirmed)) {
			last = s.owner
		}
	}
	return last
}

// written is the timestamp of the newest record, the zero time if there is none.
func (j journal) written() (newest time.Time) {
	for _, s := range j {
		if s.written.After(newest) {
			newest = s.written
		}
	}
	return newest
}
