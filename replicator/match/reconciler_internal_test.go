package match

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// sourceBatch is one batch on the source: n records from an offset on, one millisecond apart.
type sourceBatch struct {
	offset int64
	n      int
	route  recordbatch.Route
	tag    string
}

func (b sourceBatch) encode(t *testing.T) ([]byte, recordbatch.Header) {
	t.Helper()
	var records []recordbatch.Record
	for i := range b.n {
		offset := b.offset + int64(i)
		records = append(records, recordbatch.Record{Offset: offset, Timestamp: 1_000_000 + offset, Value: fmt.Appendf(nil, "%s%d", b.tag, offset)})
	}
	batch, err := recordbatch.Encode(records, recordbatch.LZ4)
	if err != nil {
		t.Fatal(err)
	}
	binary.BigEndian.PutUint64(batch, uint64(b.offset))
	h, err := recordbatch.Parse(batch)
	if err != nil {
		t.Fatal(err)
	}
	return batch, h
}

// own returns the OwnBatch of a copy of the batch at a target offset.
func (b sourceBatch) own(t *testing.T, target int64) OwnBatch {
	t.Helper()
	batch, h := b.encode(t)
	return OwnBatch{Offset: target, Count: h.Count, RecordsCRC: recordbatch.RecordsCRC(batch), MaxTimestamp: h.MaxTimestamp}
}

func TestReconcilerMatchesTheTailWithTheSource(t *testing.T) {
	forward, rebuild, drop := recordbatch.RouteForward, recordbatch.RouteRebuild, recordbatch.RouteDrop
	tests := []struct {
		name      string
		from      int64
		source    []sourceBatch
		copied    []sourceBatch // what the batches on the target are copies of
		at        []int64       // their target offsets
		searching bool
		segments  []offsets.Segment
		next      int64
		wrong     bool
	}{
		{
			name: "forwarded batches", from: 10,
			source: []sourceBatch{{10, 5, forward, ""}, {15, 3, forward, ""}, {18, 2, forward, ""}},
			copied: []sourceBatch{{10, 5, 0, ""}, {15, 3, 0, ""}}, at: []int64{100, 105},
			segments: []offsets.Segment{{Source: 10, Target: 100, Count: 5}, {Source: 15, Target: 105, Count: 3}}, next: 18,
		},
		{
			name: "an abort marker of a takeover lies between the batches", from: 10,
			source: []sourceBatch{{10, 5, forward, ""}, {15, 3, forward, ""}},
			copied: []sourceBatch{{10, 5, 0, ""}, {15, 3, 0, ""}}, at: []int64{100, 106},
			segments: []offsets.Segment{{Source: 10, Target: 100, Count: 5}, {Source: 15, Target: 106, Count: 3}}, next: 18,
		},
		{
			name: "dropped batches", from: 10,
			source: []sourceBatch{{10, 1, drop, ""}, {11, 4, forward, ""}, {15, 1, drop, ""}, {16, 2, forward, ""}},
			copied: []sourceBatch{{11, 4, 0, ""}, {16, 2, 0, ""}}, at: []int64{100, 104},
			segments: []offsets.Segment{{Source: 11, Target: 100, Count: 4}, {Source: 16, Target: 104, Count: 2}}, next: 18,
		},
		{
			name: "a rebuilt batch", from: 10,
			source: []sourceBatch{{10, 5, rebuild, ""}},
			copied: []sourceBatch{{10, 5, 0, "other bytes"}}, at: []int64{100},
			segments: []offsets.Segment{{Source: 10, Target: 100, Count: 5}}, next: 15,
		},
		{
			name: "a batch that was rebuilt from its middle", from: 12,
			source: []sourceBatch{{10, 5, rebuild, ""}},
			copied: []sourceBatch{{12, 3, 0, ""}}, at: []int64{100},
			segments: []offsets.Segment{{Source: 12, Target: 100, Count: 3}}, next: 15,
		},
		{
			name: "a batch that was split", from: 10,
			source: []sourceBatch{{10, 6, rebuild, ""}, {16, 2, forward, ""}},
			copied: []sourceBatch{{10, 2, 0, ""}, {12, 4, 0, ""}, {16, 2, 0, ""}}, at: []int64{100, 102, 106},
			segments: []offsets.Segment{{Source: 10, Target: 100, Count: 6}, {Source: 16, Target: 106, Count: 2}}, next: 18,
		},
		{
			name: "the log tail ends within a split batch", from: 10,
			source: []sourceBatch{{10, 6, rebuild, ""}, {16, 2, forward, ""}},
			copied: []sourceBatch{{10, 4, 0, ""}}, at: []int64{100},
			segments: []offsets.Segment{{Source: 10, Target: 100, Count: 4}}, next: 14,
		},
		{
			name: "a forwarded batch that was split earlier, when the limit was lower", from: 10,
			source: []sourceBatch{{10, 6, forward, ""}},
			copied: []sourceBatch{{10, 4, 0, ""}, {14, 2, 0, ""}}, at: []int64{100, 104},
			segments: []offsets.Segment{{Source: 10, Target: 100, Count: 6}}, next: 16,
		},
		{
			name: "the log tail has no own batch", from: 10,
			source: []sourceBatch{{10, 6, forward, ""}}, next: 10,
		},
		{
			name: "more records than the source has", from: 10,
			source: []sourceBatch{{10, 3, forward, ""}},
			copied: []sourceBatch{{10, 5, 0, ""}}, at: []int64{100}, wrong: true,
		},
		{
			name: "records with other timestamps", from: 10,
			source: []sourceBatch{{10, 3, forward, ""}},
			copied: []sourceBatch{{20, 3, 0, ""}}, at: []int64{100}, wrong: true,
		},
		{
			name: "retention on the target deleted the beginning of the log tail", from: 10, searching: true,
			source: []sourceBatch{{10, 5, forward, ""}, {15, 5, forward, ""}, {20, 5, forward, ""}, {25, 5, forward, ""}},
			copied: []sourceBatch{{20, 5, 0, ""}}, at: []int64{110},
			segments: []offsets.Segment{{Source: 20, Target: 110, Count: 5}}, next: 25,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := &Reconciler{Next: test.from, Searching: test.searching}
			for i, b := range test.copied {
				r.Own = append(r.Own, b.own(t, test.at[i]))
			}
			var err error
			for _, b := range test.source {
				batch, h := b.encode(t)
				if err = r.Match(recordbatch.Batch{Header: h, Bytes: batch}, b.route); err != nil {
					break
				}
			}
			if mismatch, ok := errors.AsType[*MismatchError](err); ok != test.wrong {
				t.Fatalf("error %v (mismatch: %v), want mismatch: %v", err, mismatch, test.wrong)
			}
			if test.wrong {
				return
			}
			if !r.Done() {
				t.Errorf("%d batches of the log tail are not matched", len(r.Own))
			}
			if !slices.Equal(r.segments, test.segments) {
				t.Errorf("segments %v, want %v", r.segments, test.segments)
			}
			if r.Next != test.next {
				t.Errorf("next %d, want %d", r.Next, test.next)
			}
		})
	}
}

// The target deleted the first part of a batch that was split. A match by count and timestamp would be a guess, so nothing is matched, and
// the partition halts.
func TestReconcilerDoesNotGuessInsideASplit(t *testing.T) {
	r := &Reconciler{Next: 10, Searching: true, Own: []OwnBatch{sourceBatch{14, 4, 0, ""}.own(t, 104)}}
	for _, b := range []sourceBatch{{10, 2, recordbatch.RouteForward, ""}, {12, 6, recordbatch.RouteRebuild, ""}} {
		batch, h := b.encode(t)
		if err := r.Match(recordbatch.Batch{Header: h, Bytes: batch}, b.route); err != nil {
			t.Fatal(err)
		}
	}
	if r.Done() || len(r.segments) > 0 {
		t.Errorf("guessed %v", r.segments)
	}
}

// The target deleted the beginning of the log tail, and several batches of the same millisecond have one record each: only their bytes show
// with which of them the tail begins. Matching the first one would duplicate the others.
func TestReconcilerSearchesByBytesNotByTime(t *testing.T) {
	var batches []sourceBatch
	for offset := int64(10); offset < 16; offset++ {
		batches = append(batches, sourceBatch{offset, 1, recordbatch.RouteForward, ""})
	}
	own := batches[4].own(t, 104)
	r := &Reconciler{Next: 10, Searching: true, Own: []OwnBatch{own}}
	for _, b := range batches {
		batch, h := b.encode(t)
		h.MaxTimestamp = own.MaxTimestamp // all in one millisecond
		if err := r.Match(recordbatch.Batch{Header: h, Bytes: batch}, b.route); err != nil {
			t.Fatal(err)
		}
	}
	if want := []offsets.Segment{{Source: 14, Target: 104, Count: 1}}; !slices.Equal(r.segments, want) || r.Next != 15 {
		t.Errorf("segments %v, next %d, want %v and 15", r.segments, r.Next, want)
	}
}
