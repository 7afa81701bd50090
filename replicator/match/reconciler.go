package match

import (
	"fmt"
	"slices"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// OwnBatch is one batch in the log tail of the target that an owner of the shard wrote.
type OwnBatch struct {
	Offset       int64 // target offset of its first record
	Count        int32
	RecordsCRC   uint32
	MaxTimestamp int64 // ms; -1 if the broker replaced the timestamps with its append time
}

// NewOwnBatch returns what identifies a batch.
func NewOwnBatch(b recordbatch.Batch) OwnBatch {
	own := OwnBatch{Offset: b.BaseOffset, Count: b.Count, RecordsCRC: recordbatch.RecordsCRC(b.Bytes), MaxTimestamp: b.MaxTimestamp}
	if b.Attributes.LogAppendTime() {
		own.MaxTimestamp = -1
	}
	return own
}

// MismatchError says that a batch in the log tail of the target is not a copy of the records that the source holds now.
type MismatchError struct {
	Source, Target int64 // first offsets that do not match
	Detail         string
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("source offset %d and target offset %d do not match: %s", e.Source, e.Target, e.Detail)
}

// Reconciler matches the batches in the log tail of the target with the source batches that they are copies of. It reads both logs in order,
// so its result is exact: the segments of the tail, and the first source offset that is not on the target.
type Reconciler struct {
	// Own are the batches of the log tail that are not matched yet, in order.
	Own []OwnBatch
	// Next is the next source offset: the exclusive end of what is matched or was dropped.
	Next int64
	// LeaderEpoch is the leader epoch of the source batch before Next (KIP-320).
	LeaderEpoch int32
	// Searching says that the target deleted the beginning of the log tail: source batches are skipped until one matches.
	Searching bool
	// Provenance is how the copies are marked, nil if they are not. Records that have been on the target before were not copied.
	Provenance *recordbatch.Provenance

	segments []offsets.Segment
}

// Done reports whether every batch of the log tail is matched.
func (r *Reconciler) Done() bool { return len(r.Own) == 0 }

// Segments returns the segments of the matched batches, ascending.
func (r *Reconciler) Segments() []offsets.Segment { return r.segments }

// Match processes the next source batch, with the route that [recordbatch.Admit] chose for it. The error is a *[MismatchError], or says that
// the batch cannot be decoded.
func (r *Reconciler) Match(b recordbatch.Batch, route recordbatch.Route) error {
	switch {
	case r.Done():
		return nil
	case route == recordbatch.RouteDrop:
		r.advance(b.NextOffset(), b.LeaderEpoch)
		return nil
	case route == recordbatch.RouteForward && r.isCopy(b):
		r.segments = append(r.segments, offsets.Segment{Source: b.BaseOffset, Target: r.Own[0].Offset, Count: int64(b.Count)})
		r.Own, r.Searching = r.Own[1:], false
		r.advance(b.NextOffset(), b.LeaderEpoch)
		return nil
	case r.Searching: // a match by count and timestamp would be a guess
		r.advance(b.NextOffset(), b.LeaderEpoch)
		return nil
	}
	return r.matchRebuilt(b)
}

// advance moves Next past a source batch, or past a part of it.
func (r *Reconciler) advance(next int64, leaderEpoch int32) {
	r.Next, r.LeaderEpoch = next, leaderEpoch
}

// isCopy reports whether the next own batch is a forwarded copy of a source batch. The CRC of the records section is the same on both sides,
// unless the compression.type of the target topic made the broker recompress the batch. The max timestamp survives that.
func (r *Reconciler) isCopy(b recordbatch.Batch) bool {
	own := r.Own[0]
	switch {
	case own.Count != b.Count:
		return false
	case own.RecordsCRC == recordbatch.RecordsCRC(b.Bytes):
		return true
	}
	return !r.Searching && own.MaxTimestamp == b.MaxTimestamp // only the CRC distinguishes small batches of the same millisecond
}

// matchRebuilt matches a batch that was rebuilt, perhaps into several batches and perhaps by another version of milena. Only the number of
// records and the max timestamp must be the same.
func (r *Reconciler) matchRebuilt(b recordbatch.Batch) error {
	records, err := r.copiedRecords(b)
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
		r.advance(records[0].Offset, b.LeaderEpoch)
		return nil
	}
	r.advance(b.NextOffset(), b.LeaderEpoch)
	return nil
}

// copiedRecords returns the records of a batch that were copied, from Next on.
func (r *Reconciler) copiedRecords(b recordbatch.Batch) ([]recordbatch.Record, error) {
	records, err := recordbatch.Decode(b.Bytes)
	if err != nil {
		return nil, fmt.Errorf("source batch at offset %d: %w", b.BaseOffset, err)
	}
	for len(records) > 0 && records[0].Offset < r.Next {
		records = records[1:]
	}
	if r.Provenance != nil {
		records = slices.DeleteFunc(records, func(record recordbatch.Record) bool { return !r.Provenance.Allows(&record) })
	}
	return records, nil
}

// mismatch returns why the batch cannot be a copy of the first records, nil if it may be. Append times of the source broker are not copied.
func (own OwnBatch) mismatch(records []recordbatch.Record, attributes recordbatch.Attributes) error {
	if int(own.Count) > len(records) {
		return &MismatchError{
			Source: records[0].Offset, Target: own.Offset,
			Detail: fmt.Sprintf("the batch on the target has %d records, but the batch on the source has only %d left", own.Count, len(records)),
		}
	}
	newest := records[0].Timestamp
	for _, record := range records[:own.Count] {
		newest = max(newest, record.Timestamp)
	}
	if newest != own.MaxTimestamp && own.MaxTimestamp >= 0 && newest >= 0 && !attributes.LogAppendTime() {
		return &MismatchError{
			Source: records[0].Offset, Target: own.Offset,
			Detail: fmt.Sprintf("the max timestamp is %d on the source and %d on the target", newest, own.MaxTimestamp),
		}
	}
	return nil
}

// appendRecord adds one matched record to the segments.
func (r *Reconciler) appendRecord(source, target int64) {
	if n := len(r.segments); n > 0 {
		if last := &r.segments[n-1]; last.SourceEnd() == source && last.TargetEnd() == target {
			last.Count++
			return
		}
	}
	r.segments = append(r.segments, offsets.Segment{Source: source, Target: target, Count: 1})
}
