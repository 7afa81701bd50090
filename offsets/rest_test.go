package offsets_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/milena-kafka/milena/offsets"
)

// A shard at rest, and a partition that was begun after one, are read back as they were written, with and without their optional parts.
func TestRestIsReadBack(t *testing.T) {
	t.Parallel()
	id := "standby"
	for _, want := range []offsets.Entry{
		&offsets.ShardState{ProducerIDs: []int64{1, 7}, Rest: "standby"},
		&offsets.ShardState{ProducerIDs: []int64{1}, Rest: "x", Claim: &offsets.Claim{ProducerID: 1, Epoch: 2}},
		&offsets.PartitionState{Topic: "orders", Partition: 1, TargetTopic: "orders", LeaderEpoch: -1, After: &id},
		&offsets.PartitionState{Topic: "orders", Partition: 1, TargetTopic: "orders", LeaderEpoch: -1, After: &id, Producer: &offsets.Producer{ID: 3, Epoch: 1, Sequence: 9}},
	} {
		value := want.AppendValue(nil)
		got, err := offsets.DecodeJournal(want.AppendKey(nil), value)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v: %s", err, diff)
		}
		if value[1] != 3 {
			t.Errorf("format %d", value[1])
		}
		if _, err := offsets.DecodeJournal(want.AppendKey(nil), value[:len(value)-1]); err == nil {
			t.Error("a value that is cut is read")
		}
	}
}
