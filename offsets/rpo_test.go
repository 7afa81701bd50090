package offsets_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/milena-kafka/milena/offsets"
)

// Topics and partitions are listed by what a failover would lose of them, as far as the lists go, and what the lists leave out is counted.
func TestRPOListsTheWorstFirst(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	before := now.Add(-time.Minute)
	var r offsets.RPO
	behind := func(topic string, partition int32, missing int64, complete time.Time) {
		r.Add(offsets.Behind{Topic: topic, Partition: partition, Acked: 100, SourceEnd: 100 + missing, Seen: now, Complete: complete})
	}
	behind("idle", 0, 0, now)
	behind("orders", 0, 5, now)
	behind("orders", 1, 70, before)
	behind("orders", 2, 0, now)
	behind("young", 0, 0, time.Time{})
	r.AddUnknown("refused")
	for i := range int32(12) {
		behind("many", i, int64(i+1), now)
	}
	for i := range 120 {
		behind(fmt.Sprintf("small-%03d", i), 0, 1, now)
	}
	r.Settle(nil, now)

	if r.MissingRecords != 75+78+120 || r.Partitions != 5+12+120 || r.Unknown != 1 || r.Never != 1 || !r.CompleteUpTo.IsZero() || !r.SeenAt.IsZero() {
		t.Errorf("the sum is %+v", r.Loss)
	}
	if len(r.Topics) != 100 || r.OtherTopics != 24 {
		t.Errorf("%d topics are listed and %d are not", len(r.Topics), r.OtherTopics)
	}
	many, orders := r.Topics[0], r.Topics[1]
	if many.Topic != "many" || len(many.Behind) != 10 || many.OtherBehind != 2 || many.Behind[0].Partition != 11 {
		t.Errorf("the worst topic is %+v", many)
	}
	want := offsets.TopicLoss{
		Topic:  "orders",
		Loss:   offsets.Loss{CompleteUpTo: before, MissingRecords: 75, SeenAt: now, Partitions: 3},
		Behind: []offsets.PartitionLoss{{Partition: 1, MissingRecords: 70, CompleteUpTo: before, SeenAt: now}, {MissingRecords: 5, CompleteUpTo: now, SeenAt: now}},
	}
	if diff := cmp.Diff(want, orders, cmpopts.IgnoreUnexported(offsets.Loss{})); diff != "" {
		t.Errorf("orders, -want +got\n%s", diff)
	}
}

// A topic that lacks no record that was seen is listed only if that is not all that there is to know.
func TestRPOListsWhatIsNotKnown(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	var r offsets.RPO
	r.Add(offsets.Behind{Topic: "idle", Seen: now, Complete: now})
	r.Add(offsets.Behind{Topic: "young", Seen: now})
	r.AddUnknown("refused")
	r.Settle(nil, now)
	if len(r.Topics) != 2 || r.Topics[0].Topic != "refused" || r.Topics[1].Topic != "young" {
		t.Errorf("%+v", r.Topics)
	}
}

// An objective is missed by a copy that is complete up to an earlier time, and by one of which that is not known.
func TestRPOMissesItsObjective(t *testing.T) {
	t.Parallel()
	now, objective := time.Unix(1_800_000_000, 0), 30*time.Second
	for name, test := range map[string]struct {
		add    func(*offsets.RPO)
		missed bool
	}{
		"nothing is copied": {func(*offsets.RPO) {}, false},
		"at the objective":  {func(r *offsets.RPO) { r.Add(offsets.Behind{Seen: now, Complete: now.Add(-objective)}) }, false},
		"beyond it":         {func(r *offsets.RPO) { r.Add(offsets.Behind{Seen: now, Complete: now.Add(-objective - 1)}) }, true},
		"never complete":    {func(r *offsets.RPO) { r.Add(offsets.Behind{Seen: now}) }, true},
		"not known":         {func(r *offsets.RPO) { r.AddUnknown("orders") }, true},
		"one is not known": {func(r *offsets.RPO) {
			r.Add(offsets.Behind{Seen: now, Complete: now})
			r.AddUnknown("orders")
		}, true},
		"one that the journal does not list": {func(r *offsets.RPO) {
			r.Add(offsets.Behind{Seen: now, Complete: now})
			r.AddMore(&offsets.MoreBehind{Partitions: 1, Records: 5, Seen: now, Complete: now.Add(-time.Hour)})
		}, true},
	} {
		var r offsets.RPO
		test.add(&r)
		r.Settle(&objective, now)
		if r.ObjectiveMissed != test.missed || r.ObjectiveSeconds != 30 {
			t.Errorf("%s: %+v, want missed %v", name, r, test.missed)
		}
	}
}
