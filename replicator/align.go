package replicator

import (
	"fmt"
	"slices"

	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// ownBatch is one batch of ours in the target's tail.
type ownBatch struct {
	offset       int64 // target offset of its first record
	count        int32
	recordsCRC   uint32
	maxTimestamp int64
}

// alignedRun says that source offsets [source, source+count) stand at target offsets [target, target+count).
type alignedRun struct {
	source, target int64
	count          int32
}

// misalignedError says that a tail of ours does not hold what the source holds now.
type misalignedError struct {
	source, target int64
	detail         string
}

func (e *misalignedError) Error() string {
	return fmt.Sprintf("source offset %d and target offset %d do not belong together: %s", e.source, e.target, e.detail)
}

// aligner pairs the batches of ours that stand in the target's tail with the source batches they were made of. It walks both in order,
// so what it ends with is exact: the segments of the tail and the first source offset that is not on the target.
type aligner struct {
	own  []ownBatch
	runs []alignedRun
	next int64 // source offset to go on at, exclusive end of what is on the target
	// leaderEpoch of the last source batch that was passed (KIP-320).
	leaderEpoch int32
	// searching: the target deleted the beginning of the tail, so source batches pass until one fits the first of ours.
	searching bool
	// provenance is what the batches of ours were marked with, nil if they were not: records that had been on the target are not in them.
	provenance *recordbatch.Provenance
}

func (a *aligner) done() bool { return len(a.own) == 0 }

// accept takes the next source batch with the lane that admission chose for it.
func (a *aligner) accept(h recordbatch.Header, batch []byte, lane recordbatch.Lane) error {
	if a.done() {
		return nil
	}
	if lane == recordbatch.LaneDrop {
		a.pass(h.NextOffset(), h.LeaderEpoch)
		return nil
	}
	if lane == recordbatch.LaneForward && a.fits(h, batch) {
		a.runs = append(a.runs, alignedRun{source: h.BaseOffset, target: a.own[0].offset, count: h.Count})
		a.own, a.searching = a.own[1:], false
		a.pass(h.NextOffset(), h.LeaderEpoch)
		return nil
	}
	return a.acceptRecords(h, batch)
}

func (a *aligner) pass(next int64, leaderEpoch int32) {
	a.next, a.leaderEpoch = next, leaderEpoch
}

// fits compares a forwarded batch with the next of ours. The CRC of the records section is the same on both sides unless the target's
// compression.type made the broker write the batch anew; the newest timestamp survives that.
func (a *aligner) fits(h recordbatch.Header, batch []byte) bool {
	own := a.own[0]
	if a.searching {
		return own.count == h.Count && own.recordsCRC == recordbatch.RecordsCRC(batch) // nothing less tells small batches of one moment apart
	}
	return own.count == h.Count && (own.recordsCRC == recordbatch.RecordsCRC(batch) || own.maxTimestamp == h.MaxTimestamp)
}

// acceptRecords pairs a batch that was rebuilt, perhaps into several and perhaps by another version: only the number of records is certain.
func (a *aligner) acceptRecords(h recordbatch.Header, batch []byte) error {
	if a.searching {
		a.pass(h.NextOffset(), h.LeaderEpoch) // counts alone would be a guess
		return nil
	}
	records, err := recordbatch.Decode(batch)
	if err != nil {
		return fmt.Errorf("source batch at offset %d: %w", h.BaseOffset, err)
	}
	for len(records) > 0 && records[0].Offset < a.next {
		records = records[1:]
	}
	if a.provenance != nil {
		records = slices.DeleteFunc(records, func(r recordbatch.Record) bool { return !a.provenance.Passes(&r) })
	}
	for len(records) > 0 && !a.done() {
		own := a.own[0]
		if int(own.count) > len(records) {
			return &misalignedError{
				source: records[0].Offset, target: own.offset,
				detail: fmt.Sprintf("the target's batch has %d records, the source's has %d left", own.count, len(records)),
			}
		}
		newest := records[0].Timestamp
		for _, r := range records[:own.count] {
			newest = max(newest, r.Timestamp)
		}
		if newest != own.maxTimestamp && own.maxTimestamp >= 0 && newest >= 0 && !h.Attributes.LogAppendTime() {
			return &misalignedError{
				source: records[0].Offset, target: own.offset,
				detail: fmt.Sprintf("the newest timestamp is %d on the source and %d on the target", newest, own.maxTimestamp),
			}
		}
		target := own.offset
		for _, r := range records[:own.count] {
			a.appendRun(r.Offset, target)
			target++
		}
		records = records[own.count:]
		a.own = a.own[1:]
	}
	if a.done() && len(records) > 0 {
		a.pass(records[0].Offset, h.LeaderEpoch)
		return nil
	}
	a.pass(h.NextOffset(), h.LeaderEpoch)
	return nil
}

func (a *aligner) appendRun(source, target int64) {
	if n := len(a.runs); n > 0 {
		last := &a.runs[n-1]
		if last.source+int64(last.count) == source && last.target+int64(last.count) == target {
			last.count++
			return
		}
	}
	a.runs = append(a.runs, alignedRun{source: source, target: target, count: 1})
}
