package replicator

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/milena-kafka/milena/offsets"
)

// statesPatience is how long a takeover waits for the producer states. It goes on without those that it does not get.
const statesPatience = 2 * time.Second

// readProducerStates asks the target which producers wrote the copies whose log is empty, and with which sequence they ended (KIP-664). Brokers
// keep that when they delete the records, until the marker of a fence begins a new epoch. So it is asked before the fence. Without it, nothing
// tells whether all of the deleted offsets were records, or some were markers of earlier fences: the epoch of the shard also rises with the fences
// of other partitions.
func (r *recovery) readProducerStates(ctx context.Context) {
	var empty kadm.TopicsSet
	for _, p := range r.known {
		if !p.isRestored() && p.targetLast > 0 && p.targetFirst == p.targetLast {
			empty.Add(p.topic.target, p.number)
		}
	}
	if len(empty) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, statesPatience)
	defer cancel()
	described, err := kadm.NewClient(r.flow.target).DescribeProducers(ctx, empty)
	if err != nil {
		r.flow.log.Debug("describe producers", "shard", r.shard.number, "err", err)
	}
	r.states = make(map[offsets.TopicPartition][]offsets.Producer)
	for _, p := range described.SortedPartitions() {
		tp := offsets.TopicPartition{Topic: p.Topic, Partition: p.Partition}
		for _, known := range p.ActiveProducers {
			r.states[tp] = append(r.states[tp], offsets.Producer{ID: known.ProducerID, Epoch: known.ProducerEpoch, Sequence: known.LastSequence})
		}
	}
}
