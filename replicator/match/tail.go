package match

import (
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"sort"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// Tail is what the owners of one partition wrote to the target behind the journaled end. Each of their records has a number, counted from 0 at
// that end. Producer id, epoch and sequence of a batch give the numbers of its records, so they are known although the target may have lost
// some of the records to retention or compaction since: then the tail has numbers without a record.
//
// Batches are passed in order: own ones with Add, all others with Pass, the end with Close. A Tail is not safe for concurrent use.
type Tail struct {
	// Shared says that other producers write to the partition too, so a deleted offset need not have been a record of this copy.
	Shared bool
	// KeepsNewest says that the target has kept the newest record of each key that it was sent behind LogStart: nobody else writes the partition,
	// and a tombstone of the tail cannot have been removed yet. Compaction promises no more, and this holds for every broker.
	KeepsNewest bool
	// Owners are the producer ids of the owners, the newest last. A batch behind one of a newer id is of an owner that was replaced.
	Owners []int64
	// LogStart is where the log of the target starts, if it has deleted the beginning of the tail.
	LogStart int64

	from       int64             // target offset of the journaled end
	last       *offsets.Producer // the newest that is known to have written: what the record with number lastNumber carries; nil if unknown
	lastNumber int64
	hasher     *Hasher // of the records, nil if only batches are compared

	states   []offsets.Producer // what the broker knew when the log ended at statesAt
	statesAt int64

	batches []tailBatch
	hashes  []uint64         // of the records of all batches, without timestamps if they are those of the broker
	created []uint64         // the same with the timestamps of the producers
	sorted  []uint64         // created, sorted when first needed
	keys    []uint64         // of the keys of the same records, 0 for none
	newest  map[uint64]int64 // the largest number that has a key
	count   int64            // numbers that are known to be used
	loose   []countRange     // numbers that may have been markers and not records, to is exclusive; known when the tail is closed
	end     int64            // target offset behind the last batch
	hidden  int64            // target offsets behind the last own batch that no batch accounts for
	doubts  []countDoubt
	gaps    []Gap
	refused []countRange // the numbers of these gaps, to is exclusive
}

// Gap are records that the target refused although it wrote what was sent behind them: the broker had forgotten the producer in between, and
// accepted any sequence.
type Gap struct {
	Target int64 // offset of the batch behind the gap
	Count  int64
}

// countDoubt is a range of target offsets without a batch, of which some may have held markers of fences.
type countDoubt struct {
	target int64 // offset behind the range
	count  int64 // numbers before the range
	hidden int64 // offsets
	loose  int64 // of these, the first ones that may have been no records
	raised int   // by how much the epoch of the owners rose from before the range to behind it
}

// tailBatch is one own batch of a tail.
type tailBatch struct {
	first    int64 // number of its first record, also if that was compacted away
	offset   int64 // target offset of that record
	span     int64 // how many numbers it has
	count    int32 // how many records are left
	producer offsets.Producer

	fingerprint
	hashes int     // index of its first hash
	deltas []int32 // of the records that are left, nil if none was compacted away
}

// fingerprint identifies a forwarded batch: the bytes of its records are the same on both sides, and so are these fields of its header.
type fingerprint struct {
	recordsCRC                  uint32
	baseTimestamp, maxTimestamp int64
	lastOffsetDelta, count      int32
	appendTime                  bool // the broker replaced the max timestamp
}

func fingerprintOf(b recordbatch.Batch) fingerprint {
	return fingerprint{
		recordsCRC: recordbatch.RecordsCRC(b.Bytes), baseTimestamp: b.BaseTimestamp, maxTimestamp: b.MaxTimestamp,
		lastOffsetDelta: b.LastOffsetDelta, count: b.Count, appendTime: b.Attributes.LogAppendTime(),
	}
}

// isCopyOf reports whether a batch with this fingerprint is a forwarded copy of a source batch with that one. Append times are those of each
// broker.
func (f fingerprint) isCopyOf(source fingerprint) bool {
	if f.appendTime || source.appendTime {
		f.maxTimestamp, f.appendTime = source.maxTimestamp, source.appendTime
	}
	return f == source
}

// CountError means that it is not known how many records of a tail the target has deleted. A [Reconciler] follows all numbers that are possible.
type CountError struct {
	Target          int64 // offset behind the deleted ones
	AtLeast, AtMost int64 // how many records were written behind the journaled end
}

func (e *CountError) Error() string {
	return fmt.Sprintf("the target deleted records below offset %d that are not journaled, and markers of takeovers may be among them, so at least %d and at most %d records were written since the journal",
		e.Target, e.AtLeast, e.AtMost)
}

// NewTail returns an empty tail behind the target offset from. The producer is what the first record behind it carries, nil if unknown.
func NewTail(from int64, producer *offsets.Producer) *Tail {
	return &Tail{from: from, end: from, last: producer}
}

// Hash makes Add decode the batches that follow, so that their records can be compared one by one.
func (t *Tail) Hash() {
	t.hasher, t.newest = &Hasher{Seed: maphash.MakeSeed()}, make(map[uint64]int64)
}

// Add adds the next batch with a producer id of the owners. It returns false if the batch cannot be one of theirs: it is older than what stands
// before it, so an earlier owner wrote it after it was replaced, and the broker did not refuse that.
func (t *Tail) Add(b recordbatch.Batch) (own bool, err error) {
	hidden := t.hidden + max(0, b.BaseOffset-t.end)
	first, ok := t.number(b.Header, hidden)
	if !ok {
		return false, nil
	}
	if last := t.last; last != nil && last.ID == b.ProducerID && last.Epoch == b.ProducerEpoch && first > t.count+hidden {
		t.gaps = append(t.gaps, Gap{Target: b.BaseOffset, Count: first - t.count - hidden})
		t.refused = append(t.refused, countRange{t.count, first})
	}
	batch := tailBatch{
		first: first, offset: b.BaseOffset, span: int64(b.LastOffsetDelta) + 1, count: b.Count, fingerprint: fingerprintOf(b),
		producer: offsets.Producer{ID: b.ProducerID, Epoch: b.ProducerEpoch, Sequence: b.BaseSequence}, hashes: len(t.hashes),
	}
	if err := t.hash(&batch, b); err != nil {
		return true, err
	}
	t.batches = append(t.batches, batch)
	t.count, t.end, t.hidden = batch.first+batch.span, b.NextOffset(), 0
	t.last, t.lastNumber = &batch.producer, batch.first
	return true, nil
}

// number returns the number of the first record of a batch. Hidden is how many target offsets before it no batch accounts for: deleted records,
// and perhaps deleted markers of fences.
func (t *Tail) number(h recordbatch.Header, hidden int64) (first int64, ok bool) {
	last := t.last
	switch {
	case last != nil && last.ID == h.ProducerID && last.Epoch == h.ProducerEpoch: // sequences continue
		number := t.lastNumber + int64((h.BaseSequence-last.Sequence)&math.MaxInt32)
		return number, number >= t.count && number-t.count <= mostInFlight // else the sequence is lower, as that of an earlier batch
	case last != nil && last.ID == h.ProducerID && last.Epoch > h.ProducerEpoch:
		return 0, false
	case last != nil && last.ID != h.ProducerID && slices.Index(t.Owners, h.ProducerID) < slices.Index(t.Owners, last.ID):
		return 0, false
	case last == nil && hidden == 0:
		return 0, true
	}
	// Another takeover lies between, and since then sequences count from 0. So of what is deleted, the part of this owner is known, and that
	// of the owner before is not: a marker was deleted as well.
	if last == nil || int64(h.BaseSequence) != hidden {
		t.doubt(h.BaseOffset, hidden, hidden-min(int64(h.BaseSequence), hidden), math.MaxInt)
	}
	return t.count + hidden, true
}

// mostInFlight is more records than are ever in flight, and few enough to tell a sequence that is ahead from one that is behind.
const mostInFlight = 1 << 30

// doubt records that of the hidden offsets before a target offset, some may not have been records of this copy: of the first ones, loose. Those
// behind them were written by the owner of the next batch, as its sequence tells, unless others write the partition too.
func (t *Tail) doubt(target, hidden, loose int64, raised int) {
	if t.Shared {
		loose = hidden
	}
	t.doubts = append(t.doubts, countDoubt{target, t.count, hidden, loose, raised})
}

// hash adds the hashes of the records of a batch.
func (t *Tail) hash(batch *tailBatch, b recordbatch.Batch) error {
	if t.hasher == nil || b.Count == 0 {
		return nil
	}
	records, err := recordbatch.Decode(b.Bytes)
	if err != nil {
		return err
	}
	created, err := createTimes(b, records)
	if err != nil {
		return err
	}
	sparse := int64(b.Count) != batch.span
	for i := range records {
		t.hasher.Timestamps = !batch.appendTime
		t.hashes = append(t.hashes, t.hasher.Hash(&records[i]))
		t.hasher.Timestamps, records[i].Timestamp = true, created[i]
		t.created = append(t.created, t.hasher.Hash(&records[i]))
		key, ok := t.hasher.key(&records[i])
		if t.keys = append(t.keys, key); ok {
			t.newest[key] = batch.first + records[i].Offset - b.BaseOffset
		}
		if sparse {
			batch.deltas = append(batch.deltas, int32(records[i].Offset-b.BaseOffset)) //nolint:gosec // an offset delta is an int32
		}
	}
	return nil
}

// createTimes returns the timestamps that the producer set. Append times of a broker are only in the header, the producer's timestamps stay in
// the records, until a log cleaner rewrites the batch.
func createTimes(b recordbatch.Batch, records []recordbatch.Record) ([]int64, error) {
	if b.Attributes.LogAppendTime() {
		copied := slices.Clone(b.Bytes)
		recordbatch.Rewrite(copied, -1, -1, -1) // clears the bit
		var err error
		if records, err = recordbatch.Decode(copied); err != nil {
			return nil, err
		}
	}
	times := make([]int64, len(records))
	for i := range records {
		times[i] = records[i].Timestamp
	}
	return times, nil
}

// Pass passes over the target offsets [from, to), which hold a marker or a batch of another producer.
func (t *Tail) Pass(from, to int64) {
	t.hidden += max(0, from-t.end)
	t.end = max(t.end, to)
}

// Marker adds the marker of an earlier fence of the owners, with the epoch that the next owner writes with.
func (t *Tail) Marker(offset, id int64, epoch int16) {
	if last := t.last; last == nil || last.ID != id || last.Epoch < epoch {
		t.seal(offset, id, epoch)
		t.last, t.lastNumber = &offsets.Producer{ID: id, Epoch: epoch}, t.count
		t.end, t.hidden = max(t.end, offset), 0
	}
	t.Pass(offset, offset+1)
}

// seal ends what was written with one epoch at the marker of the next one: offsets without a batch before it were records, or markers between the
// two epochs.
func (t *Tail) seal(marker, id int64, epoch int16) {
	raised := math.MaxInt
	if last := t.last; !t.Shared && last != nil && last.ID == id {
		raised = int(epoch) - int(last.Epoch)
	}
	hidden := t.hiddenBefore(marker)
	if hidden > 0 {
		t.doubt(marker, hidden, hidden, raised)
	}
	t.count += hidden
}

// hiddenBefore returns how many offsets before a marker no batch accounts for.
func (t *Tail) hiddenBefore(marker int64) int64 { return t.hidden + max(0, marker-t.end) }

// SetProducerStates sets the producers that the target's broker knew before the fence, when the log ended at a target offset, each with the
// sequence of its last record. Brokers keep them when they delete the records, so they tell how many of those were ours.
func (t *Tail) SetProducerStates(end int64, states []offsets.Producer) {
	t.statesAt, t.states = end, states
}

// counted returns how many of the hidden offsets before the marker of our own fence were records, if the broker's producer states say so: either all
// are of the last known epoch, by the sequence of the last one, or one is the marker of the only fence since. They say nothing if the log has grown
// after they were read.
func (t *Tail) counted(marker int64, step int16) (records int64, ok bool) {
	if t.last == nil || t.statesAt != marker {
		return 0, false
	}
	hidden := t.hiddenBefore(marker)
	for _, p := range t.states {
		written := int64((p.Sequence + 1 - t.last.Sequence) & math.MaxInt32) // from lastNumber on
		switch {
		case p.ID != t.last.ID:
		case p.Epoch == t.last.Epoch:
			return hidden, t.lastNumber+written == t.count+hidden
		case p.Epoch-t.last.Epoch == step:
			return hidden - 1, hidden > int64(p.Sequence+1) && !t.Shared
		}
	}
	return 0, false
}

// Close ends the tail at the marker of our own fence, which is at a target offset and has the given producer id and epoch. A fence raises the
// epoch by step; where it rose by more, another marker may be among what the target deleted. The error is a *[CountError] if it is not certain
// how many records the owners wrote; the largest possible number is assumed then.
func (t *Tail) Close(marker, id int64, epoch, step int16) error {
	if records, ok := t.counted(marker, step); ok {
		t.count += records
	} else {
		t.seal(marker, id, epoch)
	}
	t.end, t.hidden = max(t.end, marker), 0
	var problem *CountError
	for _, d := range t.doubts {
		switch {
		case d.raised <= int(step):
			continue
		case problem == nil:
			problem = &CountError{Target: d.target, AtLeast: d.count, AtMost: d.count}
		}
		problem.AtMost += d.hidden
		if d.loose > 0 {
			t.loose = append(t.loose, countRange{d.count, d.count + d.loose})
		}
	}
	if problem == nil {
		return nil
	}
	problem.AtMost = max(problem.AtMost, t.count)
	return problem
}

// Gaps returns where records are missing between batches of one owner. They count as written and deleted.
func (t *Tail) Gaps() []Gap { return t.gaps }

// Records returns how many records the owners wrote behind the journaled end.
func (t *Tail) Records() int64 { return t.count }

// Batches returns how many own batches the target still has.
func (t *Tail) Batches() int { return len(t.batches) }

// Cut returns how many of these records the target no longer has at the start of the tail.
func (t *Tail) Cut() int64 {
	if len(t.batches) == 0 {
		return t.count
	}
	return t.batches[0].first
}

// batchAt returns the batch with a number, or the next one; nil if there is none. Only the first has the number if its first is at most that.
func (t *Tail) batchAt(number int64) *tailBatch {
	i := sort.Search(len(t.batches), func(i int) bool { return t.batches[i].first+t.batches[i].span > number })
	if i == len(t.batches) {
		return nil
	}
	return &t.batches[i]
}

// place is what the tail has at a number.
type place struct {
	present    bool
	until      int64 // if it is not present: the next number that may be
	target     int64 // offset
	hash       uint64
	created    uint64 // the hash with the timestamp of the producer
	key        uint64 // the hash of the key, 0 for none
	appendTime bool   // the hash is without the timestamp
}

// at returns what the tail has at a number. The tail must have hashes.
func (t *Tail) at(number int64) place {
	b := t.batchAt(number)
	if b == nil {
		return place{until: t.count}
	}
	if b.first > number {
		return place{until: b.first}
	}
	i := int(number - b.first)
	found := place{target: b.offset + number - b.first, appendTime: b.appendTime}
	if int64(b.count) == b.span {
		return t.present(found, b.hashes+i)
	}
	k := sort.Search(len(b.deltas), func(k int) bool { return int(b.deltas[k]) >= i })
	switch {
	case k == len(b.deltas):
		found.until = b.first + b.span
	case int(b.deltas[k]) == i:
		return t.present(found, b.hashes+k)
	default:
		found.until = b.first + int64(b.deltas[k])
	}
	return found
}

func (t *Tail) present(at place, i int) place {
	at.present, at.hash, at.created, at.key = true, t.hashes[i], t.created[i], t.keys[i]
	return at
}

// mayLack returns up to which number, exclusive, the target may lack a record that has a key: behind it, the record would be the newest of its key,
// which cleaners keep. Nothing is known about those that retention deleted: the first ones, as markers can only lower their numbers.
func (t *Tail) mayLack(key uint64) int64 {
	if !t.KeepsNewest || key == 0 {
		return t.count
	}
	return max(t.newest[key], t.LogStart-t.from)
}

// refusedUntil returns the end, exclusive, of the gap that a number is in, 0 if it is in none. The record was refused, whatever its key is.
func (t *Tail) refusedUntil(number int64) int64 {
	for _, r := range t.refused {
		if r.from <= number && number < r.to {
			return r.to
		}
	}
	return 0
}

// looseAt returns the loose numbers that a number is one of, or else the next ones; they are at the count if there are none.
func (t *Tail) looseAt(number int64) countRange {
	for _, r := range t.loose {
		if r.to > number {
			return r
		}
	}
	return countRange{t.count, t.count}
}

// isUnique reports whether only one record of the tail has a hash with a timestamp, which at least one has.
func (t *Tail) isUnique(hash uint64) bool {
	if t.sorted == nil {
		t.sorted = slices.Sorted(slices.Values(t.created))
	}
	i, _ := slices.BinarySearch(t.sorted, hash)
	return i+1 == len(t.sorted) || t.sorted[i+1] != hash
}

// Known returns the segments of the records if their source offsets are known: the first own record is at the first of the runs, and so on. It
// returns the number of records that the runs do not have.
func (t *Tail) Known(runs []recordbatch.Run) (segments []offsets.Segment, unknown int64) {
	number := int64(0)
	for _, run := range runs {
		for done := int64(0); done < int64(run.Count); {
			b := t.batchAt(number)
			if b == nil {
				number += int64(run.Count) - done
				break
			}
			if b.first > number { // deleted by the target
				skip := min(b.first-number, int64(run.Count)-done)
				number, done = number+skip, done+skip
				continue
			}
			n := min(b.first+b.span-number, int64(run.Count)-done)
			segments = appendSegment(segments, offsets.Segment{Source: run.Source + done, Target: b.offset + number - b.first, Count: n})
			number, done = number+n, done+n
		}
	}
	return segments, max(0, t.count-number)
}

// appendSegment adds a segment behind the others, as part of the last one if both sides continue there.
func appendSegment(segments []offsets.Segment, s offsets.Segment) []offsets.Segment {
	if n := len(segments); n > 0 {
		if last := &segments[n-1]; last.SourceEnd() == s.Source && last.TargetEnd() == s.Target {
			last.Count += s.Count
			return segments
		}
	}
	return append(segments, s)
}
