package replicator

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// sourceBatch is one batch of the source's log: n records from an offset on, one millisecond apart.
type sourceBatch struct {
	offset int64
	n      int
	lane   recordbatch.Lane
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

// own is what the target shows of a copy of the batch at a target offset.
func (b sourceBatch) own(t *testing.T, target int64) ownBatch {
	t.Helper()
	batch, h := b.encode(t)
	return ownBatch{offset: target, count: h.Count, recordsCRC: recordbatch.RecordsCRC(batch), maxTimestamp: h.MaxTimestamp}
}

func TestAlignerPairsTheTailWithTheSource(t *testing.T) {
	forward, rebuild, drop := recordbatch.LaneForward, recordbatch.LaneRebuild, recordbatch.LaneDrop
	tests := []struct {
		name      string
		from      int64
		source    []sourceBatch
		copied    []sourceBatch // what the target's batches were made of
		at        []int64       // where they stand
		searching bool
		runs      []alignedRun
		next      int64
		wrong     bool
	}{
		{
			name: "forwarded batches", from: 10,
			source: []sourceBatch{{10, 5, forward, ""}, {15, 3, forward, ""}, {18, 2, forward, ""}},
			copied: []sourceBatch{{10, 5, 0, ""}, {15, 3, 0, ""}}, at: []int64{100, 105},
			runs: []alignedRun{{10, 100, 5}, {15, 105, 3}}, next: 18,
		},
		{
			name: "a marker of ours lies between the batches", from: 10,
			source: []sourceBatch{{10, 5, forward, ""}, {15, 3, forward, ""}},
			copied: []sourceBatch{{10, 5, 0, ""}, {15, 3, 0, ""}}, at: []int64{100, 106},
			runs: []alignedRun{{10, 100, 5}, {15, 106, 3}}, next: 18,
		},
		{
			name: "what is dropped is passed", from: 10,
			source: []sourceBatch{{10, 1, drop, ""}, {11, 4, forward, ""}, {15, 1, drop, ""}, {16, 2, forward, ""}},
			copied: []sourceBatch{{11, 4, 0, ""}, {16, 2, 0, ""}}, at: []int64{100, 104},
			runs: []alignedRun{{11, 100, 4}, {16, 104, 2}}, next: 18,
		},
		{
			name: "a rebuilt batch", from: 10,
			source: []sourceBatch{{10, 5, rebuild, ""}},
			copied: []sourceBatch{{10, 5, 0, "other bytes"}}, at: []int64{100},
			runs: []alignedRun{{10, 100, 5}}, next: 15,
		},
		{
			name: "a batch that was rebuilt from its middle on", from: 12,
			source: []sourceBatch{{10, 5, rebuild, ""}},
			copied: []sourceBatch{{12, 3, 0, ""}}, at: []int64{100},
			runs: []alignedRun{{12, 100, 3}}, next: 15,
		},
		{
			name: "a batch that was split", from: 10,
			source: []sourceBatch{{10, 6, rebuild, ""}, {16, 2, forward, ""}},
			copied: []sourceBatch{{10, 2, 0, ""}, {12, 4, 0, ""}, {16, 2, 0, ""}}, at: []int64{100, 102, 106},
			runs: []alignedRun{{10, 100, 6}, {16, 106, 2}}, next: 18,
		},
		{
			name: "the end came in the middle of a split", from: 10,
			source: []sourceBatch{{10, 6, rebuild, ""}, {16, 2, forward, ""}},
			copied: []sourceBatch{{10, 4, 0, ""}}, at: []int64{100},
			runs: []alignedRun{{10, 100, 4}}, next: 14,
		},
		{
			name: "a forwarded batch was split once, when the limit was lower", from: 10,
			source: []sourceBatch{{10, 6, forward, ""}},
			copied: []sourceBatch{{10, 4, 0, ""}, {14, 2, 0, ""}}, at: []int64{100, 104},
			runs: []alignedRun{{10, 100, 6}}, next: 16,
		},
		{
			name: "nothing of ours is in the tail", from: 10,
			source: []sourceBatch{{10, 6, forward, ""}}, next: 10,
		},
		{
			name: "more records than the source has", from: 10,
			source: []sourceBatch{{10, 3, forward, ""}},
			copied: []sourceBatch{{10, 5, 0, ""}}, at: []int64{100}, wrong: true,
		},
		{
			name: "records of another time", from: 10,
			source: []sourceBatch{{10, 3, forward, ""}},
			copied: []sourceBatch{{20, 3, 0, ""}}, at: []int64{100}, wrong: true,
		},
		{
			name: "the target's retention took the beginning of the tail", from: 10, searching: true,
			source: []sourceBatch{{10, 5, forward, ""}, {15, 5, forward, ""}, {20, 5, forward, ""}, {25, 5, forward, ""}},
			copied: []sourceBatch{{20, 5, 0, ""}}, at: []int64{110},
			runs: []alignedRun{{20, 110, 5}}, next: 25,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a := &aligner{next: test.from, searching: test.searching}
			for i, b := range test.copied {
				a.own = append(a.own, b.own(t, test.at[i]))
			}
			var err error
			for _, b := range test.source {
				batch, h := b.encode(t)
				if err = a.accept(h, batch, b.lane); err != nil {
					break
				}
			}
			if misaligned, ok := errors.AsType[*misalignedError](err); ok != test.wrong {
				t.Fatalf("error %v (misaligned: %v), want misaligned: %v", err, misaligned, test.wrong)
			}
			if test.wrong {
				return
			}
			if !a.done() {
				t.Errorf("%d batches of the tail are not paired", len(a.own))
			}
			if !slices.Equal(a.runs, test.runs) {
				t.Errorf("runs %v, want %v", a.runs, test.runs)
			}
			if a.next != test.next {
				t.Errorf("goes on at %d, want %d", a.next, test.next)
			}
		})
	}
}

// The target deleted the first part of a batch that was split: a count and a timestamp would be a guess, so nothing is paired and the
// partition halts.
func TestAlignerDoesNotGuessInsideASplit(t *testing.T) {
	a := &aligner{next: 10, searching: true, own: []ownBatch{sourceBatch{14, 4, 0, ""}.own(t, 104)}}
	for _, b := range []sourceBatch{{10, 2, recordbatch.LaneForward, ""}, {12, 6, recordbatch.LaneRebuild, ""}} {
		batch, h := b.encode(t)
		if err := a.accept(h, batch, b.lane); err != nil {
			t.Fatal(err)
		}
	}
	if a.done() || len(a.runs) > 0 {
		t.Errorf("paired %v by a guess", a.runs)
	}
}

// The target deleted the beginning of the tail, and several batches of one millisecond have one record each: only the bytes tell which
// of them the tail begins with. To take the first would copy the others twice.
func TestAlignerSearchesByBytesNotByTime(t *testing.T) {
	var batches []sourceBatch
	for offset := int64(10); offset < 16; offset++ {
		batches = append(batches, sourceBatch{offset, 1, recordbatch.LaneForward, ""})
	}
	own := batches[4].own(t, 104)
	a := &aligner{next: 10, searching: true, own: []ownBatch{own}}
	for _, b := range batches {
		batch, h := b.encode(t)
		h.MaxTimestamp = own.maxTimestamp // all in one millisecond
		if err := a.accept(h, batch, b.lane); err != nil {
			t.Fatal(err)
		}
	}
	if want := []alignedRun{{14, 104, 1}}; !slices.Equal(a.runs, want) || a.next != 15 {
		t.Errorf("runs %v, next %d, want %v and 15", a.runs, a.next, want)
	}
}
