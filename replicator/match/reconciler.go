package match

import (
	"fmt"
	"slices"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// Reconciler finds out which source records the numbers of a [Tail] stand for, and so the first source offset that is not on the target. It
// reads the source in order from the journaled end on.
//
// The source may have lost records to retention or compaction since they were copied, and so may the target. What is certain:
//
//   - the records of the tail were copied in the order of the source, all of them, up to some source offset
//   - a record that both sides still have is the same on both: by the fingerprint of its batch, or by key, value, headers and timestamp
//   - a number without a record on the source can only lie where the source has a hole, and takes one offset of it
//   - a record that the target no longer has was not the newest of its key, see [Tail.KeepsNewest]
//   - a log cleaner removes the records of a key in order, see behind.go
//
// So where the source has no holes, each record has one possible number, and content only confirms it. Behind a hole content decides how many
// numbers were in it: certainly if it includes a timestamp and the tail has it once. Without timestamps, as with append times of a broker, equal
// records may be different ones. Everything that is possible is followed, as a set of counts: how many records of the tail are at or below a
// source record. If more than one end remains possible, that is a [DoubtError].
type Reconciler struct {
	// Next is the source offset to read from.
	Next int64
	// LeaderEpoch is the leader epoch of the source batch that ends at Next (KIP-320), -1 if a hole does.
	LeaderEpoch int32
	// Provenance is how copies are marked, nil if they are not. Records that have been on the target before were not copied.
	Provenance *recordbatch.Provenance
	// MayLeaveOut says that policy leaves out records that the target refuses: the copy may lack a record that the source has.
	MayLeaveOut bool
	// Cleaned is the leader epoch of the source if its log is as a log cleaner of Kafka has left it since that epoch began, see behind.go; -1 if
	// that is not known.
	Cleaned int32

	tail   *Tail
	hasher Hasher
	counts counts // possible numbers of own records below Next
	hole   hole   // what the source lacks right before Next
	behind int64  // source offset behind the last record that may have been copied

	survivors map[uint64]int64  // the first source record of each key that has the leader epoch Cleaned
	trail     []step            // source records whose number is not decided
	segments  []offsets.Segment // of the records before them
	end       *End              // found; not the only one as long as other counts are possible
	doubt     *DoubtError       // other ends that were found, nil if there is none
	compared  int               // records, which bounds the work
	read      readLog
	finished  bool
}

// hole is a range of source offsets without records that were copied, before the next one.
type hole struct {
	from     int64 // where it begins
	size     int64 // offsets that may have held records that were copied
	lostFrom int64 // the part that was deleted at the start of the log
	lost     int64
}

// step is a source record, and the possible counts behind it.
type step struct {
	source int64
	hole   hole // before it
	counts counts
	equal  counts // those for which the tail has an equal record, and not only a number without one
}

// latest returns the largest possible count from from to to, inclusive: one with an equal record, if there is any.
func (s *step) latest(from, to int64) int64 {
	if count, ok := s.equal.latest(from, to); ok {
		return count
	}
	count, _ := s.counts.latest(from, to)
	return count
}

// End is the end of the tail on the source.
type End struct {
	// Next is the first source offset that is not on the target.
	Next        int64
	LeaderEpoch int32 // of the source batch that ends there, -1 if a hole does
	// Segments are those of the records that both sides still have.
	Segments []offsets.Segment
}

// DoubtError means that the tail does not decide which source records it holds.
type DoubtError struct {
	// From and To are source offsets: the copy ends at From, at To, or between them. They are equal if what the source has from there on is
	// not what was copied.
	From, To    int64
	LeaderEpoch int32 // of the source batch at From
	Target      int64 // offset of the copy of the record at From, -1 if it is unknown
	Detail      string
	// Segments are those of the records that both sides still have, if the copy ends at To and To is above From.
	Segments []offsets.Segment
}

func (e *DoubtError) Error() string { return e.Detail }

// ErrHashes means that the batches of the tail are not sufficient. Its records must be read, see [Tail.Hash].
var ErrHashes = fmt.Errorf("the records of the tail must be compared")

// maxCompared bounds the comparisons of one tail. Only very many equal records need more.
const maxCompared = 1 << 28

// NewReconciler returns a reconciler that reads the source from the journaled end, next, on.
func NewReconciler(tail *Tail, next int64, leaderEpoch int32) *Reconciler {
	r := &Reconciler{Next: next, LeaderEpoch: leaderEpoch, tail: tail, counts: counts{{0, 0}}, behind: next, Cleaned: -1}
	r.counts = r.through(r.counts, hole{})
	if tail.hasher != nil {
		r.hasher.Seed = tail.hasher.Seed
	}
	if tail.count == 0 {
		r.end, r.finished = &End{Next: next, LeaderEpoch: leaderEpoch}, true
	}
	return r
}

// Read identifies what was read of the source: two reconcilers that read the same batches of one tail have the same.
func (r *Reconciler) Read() any { return r.read }

// End returns the end of the tail, nil as long as more of the source must be read.
func (r *Reconciler) End() *End {
	if !r.finished {
		return nil
	}
	return r.end
}

// Lost tells that the source has deleted everything below a source offset.
func (r *Reconciler) Lost(start int64) {
	if start > r.Next {
		if r.hole.lost == 0 {
			r.hole.lostFrom = r.Next
		}
		r.hole.lost = start - r.hole.lostFrom
		r.widen(start - r.Next)
		r.Next, r.LeaderEpoch = start, -1
	}
}

// Match processes the next source batch, with the route that [recordbatch.Admit] chose for it. The error is a *[DoubtError], [ErrHashes], or says
// that the batch cannot be decoded.
func (r *Reconciler) Match(b recordbatch.Batch, route recordbatch.Route, reason recordbatch.Reason) error {
	next := b.NextOffset()
	if next <= r.Next || r.finished {
		return nil
	}
	r.read = r.read.add(b)
	switch {
	case b.Magic < 2: // a message, or a wrapper with the offset of its last message
		return r.matchRecords(b, next)
	}
	r.passHole(b.BaseOffset, -1)
	switch {
	case reason == recordbatch.ReasonEmpty:
		r.widen(next - r.Next)
	case route == recordbatch.RouteDrop: // markers and aborted records were never copied
	case route == recordbatch.RouteForward && r.forwarded(b):
		if r.finished {
			return nil
		}
	default:
		return r.matchRecords(b, next)
	}
	r.Next, r.LeaderEpoch = next, b.LeaderEpoch
	return nil
}

// forwarded reports whether the next own batch is a copy of a source batch, and adds it. Its number must be certain.
func (r *Reconciler) forwarded(b recordbatch.Batch) bool {
	count, certain := r.counts.single()
	if !certain || r.hole.size > 0 || r.end != nil || b.BaseOffset != r.Next {
		return false
	}
	own := r.tail.batchAt(count)
	if own == nil || own.first != count || !own.isCopyOf(fingerprintOf(b)) {
		return false
	}
	r.segments = appendSegment(r.segments, offsets.Segment{Source: b.BaseOffset, Target: own.offset, Count: own.span})
	if r.tail.hasher != nil {
		for i := range own.span {
			r.survived(r.tail.at(count+i).key, b.BaseOffset+i, b.LeaderEpoch)
		}
	}
	r.counts, r.behind = counts{{count + own.span, count + own.span}}, b.NextOffset()
	if count+own.span == r.tail.count {
		r.end, r.finished = &End{Next: b.NextOffset(), LeaderEpoch: b.LeaderEpoch, Segments: r.segments}, true
	}
	return true
}

// matchRecords matches a batch record by record.
func (r *Reconciler) matchRecords(b recordbatch.Batch, next int64) error {
	if r.tail.hasher == nil {
		return ErrHashes
	}
	records, err := recordbatch.Decode(b.Bytes)
	if err != nil {
		return fmt.Errorf("source batch at offset %d: %w", b.BaseOffset, err)
	}
	created, err := createTimes(b, records)
	if err != nil {
		return fmt.Errorf("source batch at offset %d: %w", b.BaseOffset, err)
	}
	for i := range records {
		record := &records[i]
		if record.Offset < r.Next {
			continue
		}
		r.passHole(record.Offset, b.LeaderEpoch) // within the batch
		if r.Provenance == nil || r.Provenance.Allows(record) {
			if err := r.matchRecord(record, created[i], b.LeaderEpoch); err != nil || r.finished {
				return err
			}
		}
		r.Next, r.LeaderEpoch = record.Offset+1, b.LeaderEpoch
	}
	r.passHole(next, b.LeaderEpoch)
	r.LeaderEpoch = b.LeaderEpoch
	return nil
}

// passHole moves Next over source offsets without records. What was there may have had a newer leader epoch than the batch before: a fetch behind
// the hole that names that one would be answered as if the source had been truncated.
func (r *Reconciler) passHole(next int64, leaderEpoch int32) {
	if next > r.Next {
		r.widen(next - r.Next)
		r.Next, r.LeaderEpoch = next, leaderEpoch
	}
}

// widen adds the source offsets from Next on to the hole.
func (r *Reconciler) widen(offsets int64) {
	if r.hole.size == 0 {
		r.hole.from = r.Next
	}
	r.hole.size += offsets
}

// matchRecord matches one source record, which is at Next.
func (r *Reconciler) matchRecord(record *recordbatch.Record, created int64, leaderEpoch int32) error {
	key, _ := r.hasher.key(record)
	before := r.through(r.counts, r.hole)
	after, equal, certain, err := r.matching(before, &copyHashes{of: r, record: record, created: created}, r.tail.mayLack(key))
	switch {
	case err != nil:
		return err
	case certain:
		r.end, r.doubt = nil, nil // this record is not new, so one before it was not the first new one
	case before.has(r.tail.count): // all of the tail may be below this record: it may be new
		r.foundInHole()
	}
	switch {
	case len(after) > 0:
	case r.end != nil:
		return r.finish()
	case r.MayLeaveOut:
		r.survived(key, record.Offset, leaderEpoch)
		return nil // the hole stays as it is
	default:
		return r.differs(before, leaderEpoch)
	}
	r.survived(key, record.Offset, leaderEpoch)
	r.trail = append(r.trail, step{record.Offset, r.hole, after, equal})
	r.counts, r.hole, r.behind = r.through(after, hole{}), hole{}, record.Offset+1
	if r.counts.has(r.tail.count) {
		r.found(record.Offset+1, leaderEpoch, r.path(r.tail.count, hole{}))
		r.counts = r.counts.without(r.tail.count)
		r.trail[len(r.trail)-1].counts = after.without(r.tail.count)
		if len(r.counts) == 0 {
			return r.finish()
		}
	}
	if count, single := r.counts.single(); single { // what is before it does not depend on what follows
		r.segments = r.appendPath(r.segments, count, hole{})
		r.trail = r.trail[:0]
	}
	return nil
}

// matching returns the possible counts behind a record, if before are those in front of it, and for which of them the tail has an equal record.
// Only numbers below lack, and those of a gap, may be those of a record that the target does not have. Certain says that the tail certainly holds the record.
func (r *Reconciler) matching(before counts, source *copyHashes, lack int64) (after, equal counts, certain bool, err error) {
	_, alone := before.single()
	for _, c := range before {
		for number := c.from; number <= min(c.to, r.tail.count-1); {
			at := r.tail.at(number)
			if !at.present {
				until := min(at.until, c.to+1)
				if lack := max(lack, r.tail.refusedUntil(number)); number < lack {
					after = after.add(number+1, min(until, lack))
				}
				number = until
				continue
			}
			if r.compared++; r.compared > maxCompared {
				return nil, nil, false, &DoubtError{
					From: r.Next, To: r.Next + r.tail.count - c.from, LeaderEpoch: r.LeaderEpoch, Target: at.target,
					Detail: fmt.Sprintf("too many equal records from source offset %d on", r.Next),
				}
			}
			if source.equals(at) {
				// The target may have had an equal record before, which a cleaner removed. Then what follows does not fit, unless nothing follows.
				last := number+1 == r.tail.count && len(after) > 0
				if !alone && !last && source.equalsWithTime(at) && r.tail.isUnique(at.created) {
					one := counts{{number + 1, number + 1}}
					return one, one, true, nil
				}
				after, equal = after.add(number+1, number+1), equal.add(number+1, number+1)
			}
			number++
		}
	}
	return after, equal, false, nil
}

// copyHashes are the hashes of the copy of one source record, computed when needed.
type copyHashes struct {
	of        *Reconciler
	record    *recordbatch.Record
	created   int64 // the timestamp of the producer, which consumers do not see if the topic has append times
	hashes    [3]uint64
	available [3]bool
}

// The hashes: with the timestamp that consumers see, with that of the producer, and without.
const (
	withTime = iota
	withCreateTime
	withoutTime
)

// equals reports whether a record of the tail has the same content. Append times of the target's broker say nothing.
func (c *copyHashes) equals(at place) bool {
	if at.appendTime {
		return at.hash == c.hash(withoutTime)
	}
	return at.hash == c.hash(withTime)
}

// equalsWithTime reports whether it also has the timestamp that was produced: that of the producer if the batch was forwarded, that which
// consumers see if it was rebuilt.
func (c *copyHashes) equalsWithTime(at place) bool {
	return at.created == c.hash(withCreateTime) || at.created == c.hash(withTime)
}

func (c *copyHashes) hash(which int) uint64 {
	if !c.available[which] {
		copied := *c.record
		if which == withCreateTime {
			copied.Timestamp = c.created
		}
		c.hashes[which], c.available[which] = c.of.hash(&copied, which != withoutTime), true
	}
	return c.hashes[which]
}

// hash returns the hash of the copy of a source record.
func (r *Reconciler) hash(record *recordbatch.Record, timestamps bool) uint64 {
	r.hasher.Timestamps = timestamps
	if r.Provenance == nil {
		return r.hasher.Hash(record)
	}
	marked := *record
	marked.Headers = append(slices.Clip(marked.Headers), recordbatch.RecordHeader{Key: recordbatch.HopHeader, Value: []byte(r.Provenance.From)})
	return r.hasher.Hash(&marked)
}

// differs returns the error that the source's record at Next is not what was copied.
func (r *Reconciler) differs(before counts, leaderEpoch int32) error {
	at := r.tail.at(before[0].from)
	return &DoubtError{
		From: r.Next, To: r.Next, LeaderEpoch: leaderEpoch, Target: at.target,
		Detail: fmt.Sprintf("the source record at offset %d is not the one that was copied: the copy has another one at target offset %d", r.Next, at.target),
	}
}

// found records a possible end. If it is not the only one, that is a doubt, unless the source has no record between them: then the same record is the
// next one. The doubt is complete once no more ends are possible.
func (r *Reconciler) found(next int64, leaderEpoch int32, segments []offsets.Segment) {
	switch {
	case r.end == nil:
		r.end = &End{Next: next, LeaderEpoch: leaderEpoch, Segments: segments}
		return
	case r.end.Next >= r.behind:
		if next > r.end.Next {
			r.end.Next, r.end.LeaderEpoch = next, leaderEpoch
		}
		return
	case r.doubt == nil:
		r.doubt = &DoubtError{From: r.end.Next, To: r.end.Next, LeaderEpoch: leaderEpoch, Target: -1, Segments: r.end.Segments}
	}
	r.doubt.From = min(r.doubt.From, next)
	if next > r.doubt.To {
		r.doubt.To, r.doubt.Segments = next, segments
	}
}

// finish ends the reading of the source. It returns the doubt, if there is one.
func (r *Reconciler) finish() error {
	r.finished = true
	if r.doubt == nil {
		return nil
	}
	r.doubt.Detail = fmt.Sprintf("the copy may end at source offset %d, at %d, or between them: what would decide is gone, on the source or on the target, and what is left fits", r.doubt.From, r.doubt.To)
	return r.doubt
}

// foundInHole records that the rest of the tail may be in the hole before Next.
func (r *Reconciler) foundInHole() {
	next, leaderEpoch := r.resumeBehindHole(), r.LeaderEpoch
	if next < r.Next {
		leaderEpoch = -1
	}
	r.found(next, leaderEpoch, r.path(r.tail.count, r.hole))
}

// resumeBehindHole returns where the copy continues if all that is left of the tail is in the hole before Next. If the start of the source's log
// is in it, what was deleted may be more than what was copied.
func (r *Reconciler) resumeBehindHole() int64 {
	if r.hole.lost == 0 {
		return r.Next
	}
	left := r.tail.count - r.counts[len(r.counts)-1].to
	if left >= r.hole.lost {
		return r.Next
	}
	return r.hole.lostFrom + left
}

// EndOfSource tells that the source has nothing at or behind Next, and will not have what was copied. It returns false if the source lost records
// that were copied: it ends before the tail does.
func (r *Reconciler) EndOfSource(end int64) (ok bool, err error) {
	if r.finished {
		return true, nil
	}
	r.passHole(end, -1)
	if r.through(r.counts, r.hole).has(r.tail.count) {
		r.foundInHole()
	}
	if r.end == nil {
		return false, nil
	}
	return true, r.finish()
}

// Partial returns what is certain so far: the end of what both sides have.
func (r *Reconciler) Partial() *End {
	count := r.counts[len(r.counts)-1].to
	return &End{Next: r.Next, LeaderEpoch: r.LeaderEpoch, Segments: r.path(count, hole{})}
}

// path returns all segments if the count behind the last record, and behind a hole, is the given one.
func (r *Reconciler) path(count int64, last hole) []offsets.Segment {
	return r.appendPath(slices.Clone(r.segments), count, last)
}

// appendPath adds the segments of the trail. Where equal records leave a choice, the latest number is taken, because compaction keeps the latest
// record.
func (r *Reconciler) appendPath(segments []offsets.Segment, count int64, last hole) []offsets.Segment {
	numbers := make([]int64, len(r.trail))
	for i := len(r.trail) - 1; i >= 0; i-- {
		numbers[i] = r.trail[i].latest(r.least(count, last), count) - 1
		count, last = numbers[i], r.trail[i].hole
	}
	for i, number := range numbers {
		if at := r.tail.at(number); at.present {
			segments = appendSegment(segments, offsets.Segment{Source: r.trail[i].source, Target: at.target, Count: 1})
		}
	}
	return segments
}
