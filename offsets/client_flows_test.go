package offsets_test

import (
	"testing"

	"github.com/milena-kafka/milena/offsets"
)

// Two flows have written one topic, one after the other. Each has its own map, and from selects one.
func TestForwardFromUsesTheNamedFlow(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	for flow, first := range map[string]int64{"first": 0, "second": 500} {
		c.create("milena."+flow+".journal", 1)
		m := offsets.NewMap(0, first)
		mustAppend(t, m, 0, first, 100)
		state := offsets.PartitionState{Topic: "orders", TargetTopic: "a.orders", SourceClusterID: "source", LeaderEpoch: -1}
		changes, _ := m.Changed()
		c.write("milena."+flow+".journal", 0, state.Apply(changes)[0], &state)
	}
	client := open(t, c)
	for flow, want := range map[string]int64{"first": 40, "second": 540} {
		got, err := client.ForwardFrom(t.Context(), flow, "orders", 0, 40)
		if err != nil || got.Target != want || got.Flow != flow || !got.Exact {
			t.Errorf("%s: %+v, %v; want %d", flow, got, err, want)
		}
	}
}
