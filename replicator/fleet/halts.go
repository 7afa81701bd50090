package fleet

import (
	"context"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/control"
)

// Two anomalies are not in the journal, because it cannot be written for the partitions that they halt: it does not list one whose target was not
// empty, and one that the source does not have any more ends with what was journaled before. Both follow from what the clusters hold.

// shrunk are the numbers of the partitions that the journal has and the source does not, by topic, without those that policy or a decision leaves as
// they are.
func (r *reading) shrunk() map[string][]int32 {
	found := make(map[string][]int32)
	for k := range r.journal {
		for tp, state := range r.journal[k].partitions {
			info := r.sourceView.ByName[tp.Topic]
			if len(info.Partitions) > 0 && int(tp.Partition) >= len(info.Partitions) && r.halts(tp.Topic, policy.Shrunk) && !control.LeavesShrunk(r.decisions.Skipped(tp), state.end) {
				found[tp.Topic] = append(found[tp.Topic], tp.Partition)
			}
		}
	}
	for _, numbers := range found {
		slices.Sort(numbers)
	}
	return found
}

// halts reports whether policy halts a partition of a topic for this kind.
func (r *reading) halts(topic string, kind policy.Kind) bool {
	return r.anomalies.Decide(topic, kind) == policy.Halt
}

// isShrunk reports whether the source has the topic, and not the partition.
func (r *reading) isShrunk(p *Partition) bool {
	n := len(r.sourceView.ByName[p.Topic].Partitions)
	return n > 0 && int(p.Partition) >= n
}

// shrunkHalt is the anomaly of a partition that the source does not have any more.
func (r *reading) shrunkHalt(p *Partition, state progress) *Halt {
	return haltBy(p, policy.Shrunk, state.end, fmt.Sprintf("source topic %s has %d partitions now; partition %d was copied up to offset %d",
		p.Topic, len(r.sourceView.ByName[p.Topic].Partitions), p.Partition, state.end))
}

func haltBy(p *Partition, kind policy.Kind, at int64, detail string) *Halt {
	where := policy.Place{Topic: p.Topic, Partition: p.Partition, Target: p.TargetTopic}
	return &Halt{Kind: string(kind), Detail: detail, Hint: kind.Hint(where), From: at, To: at}
}

// findOccupied finds the partitions that the journal does not list although the target has records: they halt before their first record. With
// provenance, or while a flow migrates, such records may be copies.
func (r *reading) findOccupied(ctx context.Context, p *picked) {
	if len(r.journal) == 0 || r.flow.MigrateFrom != "" || r.flow.Provenance {
		return
	}
	unlisted := make(map[string][]*Partition)
	for i := range p.partitions {
		part := &p.partitions[i]
		state := &r.journal[offsets.ShardOf(part.Topic, part.Partition, int32(len(r.journal)))]
		_, listed := state.partitions[part.topicPartition()]
		if !listed && state.err == nil && int(part.Partition) < len(r.targetView.ByName[part.TargetTopic].Partitions) && r.halts(part.Topic, policy.TargetNotEmpty) {
			unlisted[part.TargetTopic] = append(unlisted[part.TargetTopic], part)
		}
	}
	if len(unlisted) == 0 {
		return
	}
	names := make([]string, 0, len(unlisted))
	for name := range unlisted {
		names = append(names, name)
	}
	ctx, cancel := context.WithTimeout(ctx, targetTimeout)
	defer cancel()
	admin := kadm.NewClient(r.target)
	starts, err := admin.ListStartOffsets(ctx, names...)
	ends, endsErr := admin.ListEndOffsets(ctx, names...)
	if err != nil || endsErr != nil {
		return // they are shown as not begun
	}
	for name, list := range unlisted {
		for _, part := range list {
			start, ok := starts.Lookup(name, part.Partition)
			end, known := ends.Lookup(name, part.Partition)
			if ok && known && start.Err == nil && end.Err == nil && end.Offset > start.Offset {
				part.Halted = haltBy(part, policy.TargetNotEmpty, -1, fmt.Sprintf("target %s-%d already has records, and the journal does not list the partition", name, part.Partition))
			}
		}
	}
}
