package mm2

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/kafkatest"
)

// A rollback changes the connector offsets that are missing or wrong, and only those.
func TestNewRollback(t *testing.T) {
	state := func(partition int32, next int64) *offsets.PartitionState {
		return &offsets.PartitionState{Topic: "orders", Partition: partition, End: offsets.Pair{Source: next, Target: 7}}
	}
	progress := &offsets.MM2Progress{ConnectorOffsets: map[offsets.TopicPartition]int64{{Topic: "orders"}: 40, {Topic: "orders", Partition: 1}: 50}}
	r := newRollback(config.Flow{Name: "a-b", Source: "a", MigrateFrom: "mm2-offsets.a.internal"}, []*offsets.PartitionState{state(0, 60), state(1, 50), state(2, 9), state(3, 0)}, progress)
	want := []RollbackOffset{{Topic: "orders", Current: 40, New: 60}, {Topic: "orders", Partition: 2, Current: -1, New: 9}}
	if diff := cmp.Diff(want, r.Offsets, cmpopts.IgnoreUnexported(RollbackOffset{})); diff != "" {
		t.Fatal(diff)
	}
	const key, value = `["MirrorSourceConnector",{"cluster":"a","partition":0,"topic":"orders"}]`, `{"offset":59}`
	if record := r.Offsets[0].record; string(record.Key) != key || string(record.Value) != value || record.Topic != "mm2-offsets.a.internal" {
		t.Errorf("record %s: %s in topic %s", record.Key, record.Value, record.Topic)
	}
}

func TestCheckFlowStoppedReportsAMissingJournal(t *testing.T) {
	flow := config.Flow{Name: "a-b", Source: "a", Target: "b"}
	err := checkFlowStopped(t.Context(), kafkatest.Client(t, kafkatest.New(t)), flow)
	if err == nil || !strings.Contains(err.Error(), "flow a-b has no journal on cluster b: milena has not run it there") {
		t.Error(err)
	}
}
