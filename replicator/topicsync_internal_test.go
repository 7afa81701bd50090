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
			f.raiseShrunk(f.held.get(0), loaded)
			p := f.topology.partitions[tp]
			raised := p != nil && p.anomaly != nil && p.anomaly.kind == policy.Shrunk
			if raised != (name == "fewer partitions") || p != nil && !raised {
				t.Errorf("shrunk is raised: %v", raised)
			}
		})
	}
}

// A sync may leave out what it did for the same metadata, but only if nothing was left to do, and the flow follows that metadata.
func TestSettledViews(t *testing.T) {
	source, target, other := topics.View{Revision: 1}, topics.View{Revision: 2}, topics.View{Revision: 3}
	for name, test := range map[string]struct {
		change  func(*topology)
		settled bool
	}{
		"nothing left to do": {func(*topology) {}, true},
		"the next sync has begun": {func(l *topology) {
			l.settle(source, target, func() bool { return true })
			l.unsettle()
			l.links["orders"] = &topicLink{missed: 1}
		}, false},
		"a partition is not begun":   {func(l *topology) { l.unbegun = map[offsets.TopicPartition]unbegun{{Topic: "orders"}: {}} }, false},
		"a topic is missing":         {func(l *topology) { l.links["orders"] = &topicLink{missed: 1} }, false},
		"the source moved meanwhile": {func(l *topology) { l.source = other }, false},
		"the target moved meanwhile": {func(l *topology) { l.target = other }, false},
	} {
		t.Run(name, func(t *testing.T) {
			l := newTopology()
			l.source, l.target = source, target
			test.change(&l)
			l.settle(source, target, func() bool { return true })
			if got := l.isSettled(source, target); got != test.settled {
				t.Errorf("settled: %v", got)
			}
			if l.isSettled(other, target) || l.isSettled(source, other) {
				t.Error("it is settled for other metadata too")
			}
		})
	}
}
