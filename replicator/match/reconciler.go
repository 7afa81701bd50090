package match

import (
	"fmt"
	"slices"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// OwnBatch is one batch in the target's log tail that an owner of the shard wrote.
type OwnBatch struct {
	Offset       int64 // target offset of its first record
	Count        int32
	RecordsCRC   uint32
	MaxTimestamp int64 // ms; -1 if the broker set its own
}

// NewOwnBatch keeps of a batch what identifies it.
func NewOwnBatch(b recordbatch.Batch) OwnBatch {
	own := OwnBatch{Offset: b.BaseOffset, Count: b.Count, RecordsCRC: recordbatch.RecordsCRC(b.Bytes), MaxTimestamp: b.MaxTimestamp}
	if b.Attributes.LogAppendTime() {
		own.MaxTimestamp = -1
	}
	return own
}

// MismatchError says that a batch in the target's log tail is not a copy of the records that the source holds now.
type MismatchError struct {
	Source, Target int64 // the first offsets that do not match
	Detail         string
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("source offset %d and target offset %d do not match: %s", e.Source, e.Target, e.Detail)
}

// Reconciler matches the batches in the target's log tail with the source batches that they are copies of. It reads both logs in order, so
// its result is exact: the segments of the tail, and the first source offset that is not on the target.
type Reconciler struct {
	// Own are the batches of the tail that are not matched yet, in order.
	Own []OwnBatch
	// Next is the source offset that comes next, exclusive end of what is matched or was dropped.
	Next int64
	// LeaderEpoch is that of the source batch before Next (KIP-320).
	LeaderEpoch int32
	// Searching says that the target deleted the beginning of the tail: source batches are passed over until one matches.
	Searching bool
	// Provenance is what the copies are marked with, nil if they are not. Records that were on the target before are not among the copies.
	Provenance *recordbatch.Provenance

	segments []offsets.Segment
}

// Done says that every batch of the tail is matched.
func (r *Reconciler) Done() bool { return len(r.Own) == 0 }

// Segments are those of the batches that are matched, ascending.
func (r *Reconciler) Segments() []offsets.Segment { return r.segments }

// Accept takes the next source batch with the route that admission chose for it. The error is a *[MismatchError], or that of a batch which
// cannot be decoded.
func (r *Reconciler) Accept(b recordbatch.Batch, route recordbatch.Route) error {
	switch {
	case r.Done():
		return nil
	case route == recordbatch.RouteDrop:
		r.pass(b.NextOffset(), b.LeaderEpoch)
		return nil
	case route == recordbatch.RouteForward && r.isCopy(b):
		r.segments = append(r.segments, offsets.Segment{Source: b.BaseOffset, Target: r.Own[0].Offset, Count: int64(b.Count)})
		r.Own, r.Searching = r.Own[1:], false
		r.pass(b.NextOffset(), b.LeaderEpoch)
		return nil
	case r.Searching: // the number of records alone would be a guess
		r.pass(b.NextOffset(), b.LeaderEpoch)
		return nil
	}
	return r.acceptRebuilt(b)
}

func (r *Reconciler) pass(next int64, leaderEpoch int32) {
	r.Next, r.LeaderEpoch = next, leaderEpoch
}

// isCopy says whether the next own batch is a forwarded copy of a source batch. The CRC of the records section is the same on both sides
// unless the target's compression.type made the broker compress the batch again; the newest timestamp survives that.
func (r *Reconciler) isCopy(b recordbatch.Batch) bool {
	own := r.Own[0]
	switch {
	case own.Count != b.Count:
		return false
	case own.RecordsCRC == recordbatch.RecordsCRC(b.Bytes):
		return true
	}
	return !r.Searching && own.MaxTimestamp == b.MaxTimestamp // only the CRC tells apart small batches of the same millisecond
}

// acceptRebuilt matches a batch that was rebuilt, perhaps into several and perhaps by another version: the number of records and the newest
// timestamp are all that must be the same.
func (r *Reconciler) acceptRebuilt(b recordbatch.Batch) error {
	records, err := r.copied(b)
	if err != nil {
		return err
	}
	for len(records) > 0 && !r.Done() {
		own := r.Own[0]
		if err := own.mismatch(records, b.Attributes); err != nil {
			return err
		}
		for i, record := range records[:own.Count] {
			r.appendRecord(record.Offset, own.Offset+int64(i))
		}
		records, r.Own = records[own.Count:], r.Own[1:]
	}
	if len(records) > 0 {
		r.pass(records[0].Offset, b.LeaderEpoch)
		return nil
	}
	r.pass(b.NextOffset(), b.LeaderEpoch)
	return nil
}

// copied are the records of a batch from Next on that were copied.
func (r *Reconciler) copied(b recordbatch.Batch) ([]recordbatch.Record, error) {
	records, err := recordbatch.Decode(b.Bytes)
	if err != nil {
		return nil, fmt.Errorf("source batch at offset %d: %w", b.BaseOffset, err)
	}
	for len(records) > 0 && records[0].Offset < r.Next {
		records = records[1:]
	}
	if r.Provenance != nil {
		records = slices.DeleteFunc(records, func(record recordbatch.Record) bool { return !r.Provenance.Passes(&record) })
	}
	return records, nil
}

// mismatch says why the batch is not a copy of the first records, nil if it may be. Append times of the source's broker are not copied.
func (own OwnBatch) mismatch(records []recordbatch.Record, attributes recordbatch.Attributes) error {
	if int(own.Count) > len(records) {
		return &MismatchError{
			Source: records[0].Offset, Target: own.Offset,
			Detail: fmt.Sprintf("the target's batch has %d records, the source's has %d left", own.Count, len(records)),
		}
	}
	newest := records[0].Timestamp
	for _, record := range records[:own.Count] {
		newest = max(newest, record.Timestamp)
	}
	if newest != own.MaxTimestamp && own.MaxTimestamp >= 0 && newest >= 0 && !attributes.LogAppendTime() {
		return &MismatchError{
			Source: records[0].Offset, Target: own.Offset,
			Detail: fmt.Sprintf("the newest timestamp is %d on the source and %d on the target", newest, own.MaxTimestamp),
		}
	}
	return nil
}

// appendRecord adds one record to the segments.
func (r *Reconciler) appendRecord(source, target int64) {
	if n := len(r.segments); n > 0 {
		if last := &r.segments[n-1]; last.SourceEnd() == source && last.TargetEnd() == target {
			last.Count++
			return
		}
	}
	r.segments = append(r.segments, offsets.Segment{Source: source, Target: target, Count: 1})
}
