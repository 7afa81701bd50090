package replicator

import (
	"testing"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/topics"
)

// A partition that the journal has and the source does not is an anomaly if its topic was recreated with fewer partitions. If the topic is gone, as
// while it is recreated, nobody knows how many it will have.
func TestOnlyAnExistingTopicHasShrunk(t *testing.T) {
	tp := offsets.TopicPartition{Topic: "orders", Partition: 1}
	loaded := map[offsets.TopicPartition]*offsets.Restored{tp: {State: &offsets.PartitionState{Topic: "orders", Partition: 1, TargetTopic: "a.orders", End: offsets.Pair{Source: 10}}}}
	for name, source := range map[string]map[string]topics.Topic{
		"fewer partitions": {"orders": {Name: "orders", Partitions: make([]topics.Partition, 1)}},
		"as many":          {"orders": {Name: "orders", Partitions: make([]topics.Partition, 2)}},
		"no partitions":    {"orders": {Name: "orders"}},
		"no topic":         {},
	} {
		t.Run(name, func(t *testing.T) {
			f := testFlow(t)
			f.topology.links["orders"] = &topicLink{source: "orders", target: "a.orders", metrics: f.metrics.forTopic("orders", &f.totals)}
			f.topology.setSource(topics.View{ByName: source})
			f.raiseShrunk(f.shards[0], loaded)
			p := f.topology.partitions[tp]
			raised := p != nil && p.anomaly != nil && p.anomaly.kind == policy.Shrunk
			if raised != (name == "fewer partitions") || p != nil && !raised {
				t.Errorf("shrunk is raised: %v", raised)
			}
		})
	}
}
