package match

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// ownBatch is a batch of n records at a target offset; n is 0 for one whose records a log cleaner has removed, of which there were span.
type ownBatch struct {
	at       int64
	n, span  int
	epoch    int16
	sequence int32
}

func (b ownBatch) encode() recordbatch.Batch {
	batch := logBatch{base: b.at, last: b.at + int64(max(b.n, b.span)) - 1, producer: offsets.Producer{ID: 7, Epoch: b.epoch, Sequence: b.sequence}}
	for i := range b.n {
		batch.records = append(batch.records, recordbatch.Record{Offset: b.at + int64(i), Value: []byte("v")})
	}
	return batch.encode()
}

// The journal ends at target offset 100, where the first batch carries epoch 4 and sequence 50. Our marker has epoch 5.
func TestTailNumbersRecordsByIdentity(t *testing.T) {
	tests := []struct {
		name        string
		own         []ownBatch
		others      [][2]int64 // target offsets and epochs of markers of other fences
		marker      int64
		unknown     bool // the journal does not have the producer
		markerEpoch int16
		states      []offsets.Producer // of the broker
		statesAt    int64              // when the log ended there
		stale       int                // batches that are not taken for ours
		records     int64
		cut         int64
		least, most int64 // if the number is in doubt
	}{
		{name: "nothing was written", marker: 100},
		{name: "two batches", own: []ownBatch{{at: 100, n: 5, epoch: 4, sequence: 50}, {at: 105, n: 3, epoch: 4, sequence: 55}}, marker: 108, records: 8},
		{name: "the target deleted the first of them", own: []ownBatch{{at: 105, n: 3, epoch: 4, sequence: 55}}, marker: 108, records: 8, cut: 5},
		{name: "the target deleted everything", marker: 108, records: 8, cut: 8},
		{name: "a cleaner removed a batch in the middle", own: []ownBatch{{at: 100, n: 1, epoch: 4, sequence: 50}, {at: 105, n: 3, epoch: 4, sequence: 55}}, marker: 108, records: 8},
		{name: "a cleaner left the last batch without records", own: []ownBatch{{at: 105, span: 3, epoch: 4, sequence: 55}}, marker: 108, records: 8, cut: 5},
		{name: "another owner wrote as well", own: []ownBatch{{at: 100, n: 5, epoch: 4, sequence: 50}, {at: 106, n: 2, epoch: 5, sequence: 0}}, others: [][2]int64{{105, 5}}, markerEpoch: 6, marker: 108, records: 7},
		{
			name: "another owner wrote, and its marker is deleted", own: []ownBatch{{at: 106, n: 2, epoch: 5, sequence: 0}},
			markerEpoch: 6, marker: 108, records: 8, cut: 6, least: 0, most: 8,
		},
		{name: "all records are deleted, and the markers of two fences are left", others: [][2]int64{{106, 5}, {107, 6}}, markerEpoch: 7, marker: 108, records: 6, cut: 6},
		{
			name: "all records are deleted, a marker is left, and before it another owner may have written", others: [][2]int64{{106, 7}}, markerEpoch: 8,
			marker: 107, records: 6, cut: 6, least: 0, most: 6,
		},
		{
			name: "another owner wrote, and what it wrote is deleted", own: []ownBatch{{at: 100, n: 5, epoch: 4, sequence: 50}}, others: [][2]int64{{105, 5}},
			markerEpoch: 6, marker: 108, records: 7,
		},
		{name: "an earlier owner wrote late, behind a marker", own: []ownBatch{{at: 101, n: 5, epoch: 4, sequence: 50}}, others: [][2]int64{{100, 5}}, markerEpoch: 6, marker: 106, stale: 1},
		{name: "everything is deleted, and another owner may have written", markerEpoch: 8, marker: 108, records: 8, cut: 8, least: 0, most: 8},
		{
			name: "everything is deleted, and the broker knows the last sequence", markerEpoch: 8, marker: 108, records: 8, cut: 8,
			states: []offsets.Producer{{ID: 9, Epoch: 1, Sequence: 3}, {ID: 7, Epoch: 4, Sequence: 57}}, statesAt: 108,
		},
		{
			name: "the end is deleted, and the broker knows the last sequence", own: []ownBatch{{at: 100, n: 5, epoch: 4, sequence: 50}}, markerEpoch: 8, marker: 108, records: 8,
			states: []offsets.Producer{{ID: 7, Epoch: 4, Sequence: 57}}, statesAt: 108,
		},
		{
			name: "everything is deleted with the marker of one fence, which the broker knows", markerEpoch: 6, marker: 108, records: 7, cut: 7,
			states: []offsets.Producer{{ID: 7, Epoch: 5, Sequence: -1}}, statesAt: 108,
		},
		{
			name: "everything is deleted with the marker of one fence and what was written behind it", markerEpoch: 9, marker: 108, records: 7, cut: 7,
			states: []offsets.Producer{{ID: 7, Epoch: 5, Sequence: 3}}, statesAt: 108,
		},
		{
			name: "the broker knows an epoch that several fences may have begun", markerEpoch: 8, marker: 108, records: 8, cut: 8, least: 0, most: 8,
			states: []offsets.Producer{{ID: 7, Epoch: 6, Sequence: -1}}, statesAt: 108,
		},
		{
			name: "the broker knows a sequence that leaves an offset for a marker", markerEpoch: 8, marker: 108, records: 8, cut: 8, least: 0, most: 8,
			states: []offsets.Producer{{ID: 7, Epoch: 4, Sequence: 56}}, statesAt: 108,
		},
		{
			name: "something was appended after the broker was asked", markerEpoch: 8, marker: 108, records: 8, cut: 8, least: 0, most: 8,
			states: []offsets.Producer{{ID: 7, Epoch: 4, Sequence: 57}}, statesAt: 107,
		},
		{name: "an earlier owner wrote late", own: []ownBatch{{at: 100, n: 5, epoch: 3, sequence: 10}}, marker: 105, stale: 1},
		{name: "an earlier owner repeated a batch", own: []ownBatch{{at: 100, n: 5, epoch: 4, sequence: 50}, {at: 105, n: 5, epoch: 4, sequence: 50}}, marker: 110, records: 5, stale: 1},
		{name: "the journal does not have the producer", own: []ownBatch{{at: 100, n: 5, epoch: 4, sequence: 50}}, unknown: true, marker: 105, records: 5},
		{name: "and the target deleted records", own: []ownBatch{{at: 105, n: 3, epoch: 4, sequence: 55}}, unknown: true, marker: 108, records: 8, cut: 5, least: 0, most: 8},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			tail := NewTail(100, &offsets.Producer{ID: 7, Epoch: 4, Sequence: 50})
			if test.unknown {
				tail = NewTail(100, nil)
			}
			others, stale := test.others, 0
			markersBefore := func(offset int64) {
				for len(others) > 0 && others[0][0] < offset {
					tail.Marker(others[0][0], 7, int16(others[0][1])) //nolint:gosec // small
					others = others[1:]
				}
			}
			for _, b := range test.own {
				markersBefore(b.at)
				encoded := b.encode()
				own, err := tail.Add(encoded)
				if err != nil {
					t.Fatal(err)
				}
				if !own {
					stale++
					tail.Pass(encoded.BaseOffset, encoded.NextOffset())
				}
			}
			markersBefore(test.marker)
			tail.SetProducerStates(test.statesAt, test.states)
			err := tail.Close(test.marker, 7, max(5, test.markerEpoch), 1)
			var count *CountError
			if errors.As(err, &count) != (test.most > 0) || err != nil && (count.AtLeast != test.least || count.AtMost != test.most) {
				t.Errorf("the number of records: %+v (%v), want %d to %d", count, err, test.least, test.most)
			}
			if tail.Records() != test.records || tail.Cut() != test.cut || stale != test.stale {
				t.Errorf("%d records, %d deleted at the start, %d stale batches, want %d, %d and %d", tail.Records(), tail.Cut(), stale, test.records, test.cut, test.stale)
			}
		})
	}
}

// Sequences wrap to 0 behind 2^31-1.
func TestTailNumbersRecordsOverTheWrapOfSequences(t *testing.T) {
	tail := NewTail(100, &offsets.Producer{ID: 7, Epoch: 4, Sequence: math.MaxInt32 - 1})
	for _, b := range []ownBatch{{at: 100, n: 2, epoch: 4, sequence: math.MaxInt32 - 1}, {at: 102, n: 3, epoch: 4, sequence: 0}} {
		if own, err := tail.Add(b.encode()); !own || err != nil {
			t.Fatalf("own %v, error %v", own, err)
		}
	}
	if err := tail.Close(105, 7, 5, 1); err != nil || tail.Records() != 5 {
		t.Errorf("%d records, error %v", tail.Records(), err)
	}
}

// What was sent is known, so its segments need no source, also if the target deleted a part.
func TestTailGivesTheSegmentsOfKnownRecords(t *testing.T) {
	tail := NewTail(100, &offsets.Producer{ID: 7, Epoch: 4})
	for _, b := range []ownBatch{{at: 103, n: 3, epoch: 4, sequence: 3}, {at: 106, n: 2, epoch: 4, sequence: 6}} {
		if own, err := tail.Add(b.encode()); !own || err != nil {
			t.Fatalf("own %v, error %v", own, err)
		}
	}
	if err := tail.Close(108, 7, 5, 1); err != nil {
		t.Fatal(err)
	}
	segments, unknown := tail.Known([]recordbatch.Run{{Source: 20, Count: 4}, {Source: 30, Count: 4}})
	want := []offsets.Segment{{Source: 23, Target: 103, Count: 1}, {Source: 30, Target: 104, Count: 4}}
	if !slices.Equal(segments, want) || unknown != 0 {
		t.Errorf("segments %v and %d unknown records, want %v", segments, unknown, want)
	}
	if _, unknown := tail.Known([]recordbatch.Run{{Source: 20, Count: 4}}); unknown != 4 {
		t.Errorf("%d unknown records, want 4", unknown)
	}
}

// A shard got another producer id, as when the epochs of one run out. An epoch of the new id does not make brokers refuse the old one, so a batch of an
// earlier owner may still arrive. It is not one of ours: its records would be counted instead of those that are missing.
func TestTailTellsABatchOfAnOlderProducerID(t *testing.T) {
	for name, test := range map[string]struct {
		owners []int64
		own    bool
	}{
		"an older id": {[]int64{7, 8}, false},
		"a newer id":  {[]int64{8, 7}, true},
	} {
		t.Run(name, func(t *testing.T) {
			tail := NewTail(100, &offsets.Producer{ID: 8})
			tail.Owners = test.owners
			late := ownBatch{at: 100, n: 1, epoch: 4, sequence: 0}.encode()
			if own, err := tail.Add(late); own != test.own || err != nil {
				t.Errorf("own %v, error %v", own, err)
			}
		})
	}
}
