package replicator

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/wire"
)

// prepared is a batch that is ready to be produced.
type prepared struct {
	batch        []byte // nil if it is in flight and was released
	size         int    // of the batch in bytes
	from         int64  // source offset behind which everything before this batch was queued or dropped
	count        int32
	runs         []recordbatch.Run // source offsets in the order of the records
	next         int64             // source offset behind this batch and behind what was dropped after it
	leaderEpoch  int32             // of the source batch
	maxTimestamp int64             // ms
	sequence     int32             // once it is in flight
	forwarded    bool              // the payload is that of the source
	slab         *slab
}

// hold is why a partition is held back: the target refuses its batches for a reason that may pass, such as too few replicas in sync or a
// missing right. Nothing is queued then. One batch at a time is fetched and tried, less and less often.
type hold struct {
	attempts int // 0 if the partition is not held back
	since    time.Time
	why      string
	probe    int32 // bytes to fetch for the next attempt
}

const (
	// MaxHold is the longest pause between two attempts. It is short, because the partition has lag while it is held back.
	maxHold = 5 * time.Second
	// MinProbe and maxProbe are the least and the greatest number of bytes that an attempt fetches.
	minProbe, maxProbe = 4 << 10, 1 << 20
)

// isHeldBack reports whether the target refuses the partition's batches.
func (h hold) isHeldBack() bool { return h.attempts > 0 }

// account counts the bytes that are queued for one lane of the target. Its partitions are fetched while that is less than what is free of the
// budget, so that a broker or a replica that hangs does not stop the partitions of the others: with n lanes that hang, one more than n parts of the
// budget are left, and one of them is free. The nil account counts nothing.
type account struct {
	bytes   atomic.Int64
	blocked atomic.Bool  // a partition of the lane waits until it is not full
	ahead   atomic.Int64 // bytes of a partition that the way to the broker and back holds
}

// setAhead sets how many bytes of a partition the way to the broker and back holds.
func (a *account) setAhead(n int64) { a.ahead.Store(n) }

func (a *account) getAhead() int64 {
	if a == nil {
		return 0
	}
	return a.ahead.Load()
}

func (a *account) add(n int64) {
	if a != nil {
		a.bytes.Add(n)
	}
}

// isFull reports whether the lane has as much as is free.
func (a *account) isFull(free int64) bool {
	n := int64(0)
	if a != nil {
		n = a.bytes.Load()
	}
	return n > 0 && n >= free
}

// block is isFull, and lets unblock wake the partition that waits then.
func (a *account) block(free int64) bool {
	if !a.isFull(free) {
		return false
	}
	a.blocked.Store(true)
	return a.isFull(free) // what was acknowledged before the store wakes nobody
}

// unblock reports whether partitions wait and the lane is not full any more. They are woken then.
func (a *account) unblock(free int64) bool {
	return a != nil && a.blocked.Load() && !a.isFull(free) && a.blocked.Swap(false)
}

// outbox is the queue of batches that a partition sends to the target, and the partition's producer. Its methods are called with the
// partition's lock held, and nothing else assigns its fields.
//
// Any number of batches is in flight, in the order of their sequences and on one lane: they are the first ones of the queue. A broker that refuses
// one refuses all that follow it as out of order, unless it has forgotten the producer. The first batch after a fence, a refusal, a pause, or a move
// of the leader is in flight alone, because a broker that does not know the producer accepts any sequence.
//
// Invariant: a batch is sent once. If the target refuses it, the queue is discarded and fetched again, because what waits must not hold memory.
type outbox struct {
	queue       []prepared
	queuedBytes int64
	inFlight    int        // the first batches of the queue, which are in flight
	sentOn      targetLane // by which lane they were sent
	confirmed   bool       // the target has acknowledged a batch of this producer on this lane
	scheduled   bool       // the partition is in the ready list of a target broker
	closed      bool       // nothing is queued any more, because the flow stops or does not select the topic any more
	confirmedAt int64      // when it has acknowledged the last one, in ms of Unix time
	refused     *refused   // the first batch in flight was refused; nil if it was not
	blocked     int64      // the partition is not fetched until the queue has fewer bytes than this, 0 if it does not wait
	account     *account   // of the lane of the copy, nil if it has no leader
	hold        hold

	// The producer of this partition has the shard's id and the epoch of this partition's last fence. Other partitions of the shard may still
	// use an earlier epoch, because a target partition only knows the epochs that it has seen.
	producerID    int64
	producerEpoch int16
	sequence      int32 // of the next batch to send

	maxBytes int32   // batch size limit that was learned from a refusal, 0 if unknown
	refusal  refusal // of the batch that was the first of the queue
	split    split
}

// refused is the first batch in flight, which was certainly not written, while the responses for the others are awaited: if they were not written
// either, the partition continues without a takeover.
type refused struct {
	outcome  wire.Outcome
	answer   *kmsg.ProduceResponseTopicPartition
	answered int // batches in flight that have a response
}

// refusal is that the target refused a batch for its content. A payload that was corrupted in transit is intact when it is fetched again, so a
// refusal counts only after several times.
type refusal struct {
	times       int    // in a row
	enough      int    // times after which it is no accident
	why         string // what the target said
	from, to    int64  // source offsets of the batch: [from, to)
	count       int32  // records in the batch
	accepted    int32  // records before the first one that the target named, -1 if it named none
	leaderEpoch int32
	record      string // description of the record, if there is only one
}

// split limits the records of a batch below a source offset, until the records that the target refuses are known. The zero value limits nothing.
type split struct {
	until   int64
	records int32
}

// push appends a batch to the queue.
func (o *outbox) push(b prepared) {
	b.size = len(b.batch)
	o.queue = append(o.queue, b)
	o.addBytes(int64(b.size))
}

func (o *outbox) addBytes(n int64) {
	o.queuedBytes += n
	o.account.add(n)
}

// assign sets the account of the lane of the copy.
func (o *outbox) assign(a *account) {
	o.account.add(-o.queuedBytes)
	a.add(o.queuedBytes)
	o.account = a
}

// holdBack records that the target refuses the partition's batches for a reason that may pass, and returns how long to wait before one batch
// is tried again. The caller discards the queue.
func (o *outbox) holdBack(why string, now time.Time) time.Duration {
	h := &o.hold
	if h.attempts == 0 {
		h.since = now
	}
	if len(o.queue) > 0 {
		h.probe = max(h.probe, minProbe, int32(o.queue[0].size))
	}
	h.why = why
	h.attempts++
	pause := min(longPoll<<min(h.attempts-1, 8), maxHold)
	return pause/2 + rand.N(pause/2)
}

// growProbe lets the next probe be larger, because the source has records and none fits.
func (o *outbox) growProbe() { o.hold.probe = min(2*o.hold.probe, maxProbe) }

// compact lets the queue hold no more memory than its batches need. It copies what waits out of responses that are otherwise done with. The
// bytes of a batch in flight are not needed any more, because it is never sent again; its request holds them until it is written.
func (o *outbox) compact(b *budget) {
	for i := range o.queue {
		q := &o.queue[i]
		if !q.slab.isWasteful() {
			continue
		}
		own := newOwnSlab(b, q.size)
		if i < o.inFlight {
			q.batch = nil
		} else {
			q.batch = bytes.Clone(q.batch)
		}
		q.slab.release(q.size)
		q.slab = own
	}
}

// extendLast lets the last batch cover dropped source offsets that follow it, up to next. It returns false if the queue is empty.
func (o *outbox) extendLast(next int64, leaderEpoch int32) bool {
	n := len(o.queue)
	if n == 0 {
		return false
	}
	o.queue[n-1].next, o.queue[n-1].leaderEpoch = next, leaderEpoch
	return true
}

// sendable reports whether there is a batch to send on a lane now, and the partition is not scheduled.
func (o *outbox) sendable(on targetLane) bool { return !o.scheduled && o.hasNext(on) }

// hasNext reports whether the next batch may be sent on a lane.
func (o *outbox) hasNext(on targetLane) bool {
	switch {
	case len(o.queue) == o.inFlight:
		return false
	case o.inFlight == 0:
		return true
	}
	return o.confirmed && o.refused == nil && o.sentOn == on
}

// markScheduled records that the partition is in a ready list.
func (o *outbox) markScheduled() { o.scheduled = true }

// clearScheduled records that the partition is not in a ready list any more.
func (o *outbox) clearScheduled() { o.scheduled = false }

// longestPause is how long after its last batch a broker counts as knowing the producer. It forgets producers of old records every
// producer.id.expiration.check.interval.ms (10 minutes by default), and all others after producer.id.expiration.ms (a day).
const longestPause = 5 * time.Second

// hasPaused reports whether the last acknowledgment is longer ago, by the wall clock, which also runs while the host sleeps.
func (o *outbox) hasPaused(now time.Time) bool {
	return now.UnixMilli()-o.confirmedAt > longestPause.Milliseconds()
}

// stampNext writes producer id, epoch and sequence into the next batch and marks it as in flight on a lane.
func (o *outbox) stampNext(on targetLane, now time.Time) *prepared {
	b := &o.queue[o.inFlight]
	if o.sentOn != on || o.inFlight == 0 && o.hasPaused(now) {
		o.sentOn, o.confirmed = on, false
	}
	o.inFlight++
	b.sequence = o.sequence
	recordbatch.Rewrite(b.batch, o.producerID, o.producerEpoch, o.sequence)
	o.sequence = nextSequence(o.sequence, int(b.count))
	return b
}

// replaceNext replaces the next n batches by one that holds their records.
func (o *outbox) replaceNext(n int, batch []byte, s *slab) {
	next := o.queue[o.inFlight:][:n]
	merged, last := next[0], next[n-1]
	merged.batch, merged.size, merged.slab, merged.count, merged.runs = batch, len(batch), s, 0, nil
	merged.next, merged.leaderEpoch, merged.forwarded = last.next, last.leaderEpoch, false
	for _, b := range next {
		merged.count += b.count
		merged.maxTimestamp = max(merged.maxTimestamp, b.maxTimestamp)
		merged.runs = appendRuns(merged.runs, b.runs)
		b.slab.release(b.size)
		o.addBytes(-int64(b.size))
	}
	o.addBytes(int64(merged.size))
	o.queue = slices.Replace(o.queue, o.inFlight, o.inFlight+n, merged)
}

// appendRuns adds runs behind others, as part of the last one if they continue it.
func appendRuns(runs, more []recordbatch.Run) []recordbatch.Run {
	for _, r := range more {
		if n := len(runs); n > 0 && runs[n-1].Source+int64(runs[n-1].Count) == r.Source {
			runs[n-1].Count += r.Count
			continue
		}
		runs = append(runs, r)
	}
	return runs
}

// isNext reports whether a response for the batch with a sequence is the next one to expect.
func (o *outbox) isNext(sequence int32) bool {
	answered := 0
	if o.refused != nil {
		answered = o.refused.answered
	}
	return answered < o.inFlight && o.queue[answered].sequence == sequence
}

// awaitOthers records that the first batch in flight was refused. It reports whether responses for others are awaited.
func (o *outbox) awaitOthers(outcome wire.Outcome, answer *kmsg.ProduceResponseTopicPartition) bool {
	o.refused = &refused{outcome, answer, 1}
	return o.inFlight > 1
}

// refuseNext records that another batch in flight was not written either. It reports whether that was the last one.
func (o *outbox) refuseNext() bool {
	o.refused.answered++
	return o.refused.answered == o.inFlight
}

// markNotWritten records that no batch in flight was written.
func (o *outbox) markNotWritten() {
	if o.inFlight > 0 {
		o.sequence = o.queue[0].sequence
	}
	o.inFlight, o.refused, o.confirmed = 0, nil, false
}

// unanswered returns the batches in flight: their outcome is unknown.
func (o *outbox) unanswered() []prepared { return o.queue[:o.inFlight] }

// popSent removes the first batch in flight, which the target has acknowledged.
func (o *outbox) popSent(now time.Time) prepared {
	b := o.queue[0]
	o.queue[0] = prepared{}
	o.queue = o.queue[1:]
	o.addBytes(-int64(b.size))
	o.inFlight, o.confirmed, o.confirmedAt = o.inFlight-1, true, now.UnixMilli()
	o.hold, o.refusal = hold{}, refusal{}
	o.split.records = int32(min(2*int64(o.split.records), math.MaxInt32))
	o.endSplit(b.next)
	return b
}

// nextSequence is the sequence of the batch after one with this sequence and number of records. Like the broker's, it wraps to 0 behind
// 2^31-1.
func nextSequence(sequence int32, count int) int32 {
	return int32((int64(sequence) + int64(count)) & math.MaxInt32)
}

// block reports whether the queue has a number of bytes, and lets unblock wake the partition that waits then.
func (o *outbox) block(limit int64) bool {
	o.blocked = 0
	if o.queuedBytes >= limit {
		o.blocked = limit
	}
	return o.blocked > 0
}

// unblock reports whether the partition waits and its queue is short enough now. It is woken then.
func (o *outbox) unblock() bool {
	if o.blocked == 0 || o.queuedBytes >= o.blocked {
		return false
	}
	o.blocked = 0
	return true
}

// clear discards all batches and returns how many they were.
func (o *outbox) clear() int {
	n := o.discard(0)
	o.queue, o.inFlight, o.refused, o.confirmed = nil, 0, nil, false
	return n
}

// close discards the batches that were never sent, and returns how many they were. From then on nothing is queued, so nothing is sent, whatever
// becomes of the batches in flight.
func (o *outbox) close() int {
	o.closed = true
	return o.discard(len(o.unanswered()))
}

// dropUnsent discards the batches that were not sent yet, and returns how many they were.
func (o *outbox) dropUnsent() int { return o.discard(len(o.unanswered())) }

// discard removes all batches but the first n, and returns how many they were.
func (o *outbox) discard(n int) int {
	rest := o.queue[n:]
	for i := range rest {
		rest[i].slab.release(rest[i].size)
		o.addBytes(-int64(rest[i].size))
	}
	clear(rest)
	o.queue = o.queue[:n]
	return len(rest)
}

// setProducer sets the producer after a fence. The next batch has sequence 0.
func (o *outbox) setProducer(producerID int64, epoch int16) {
	o.producerID, o.producerEpoch, o.sequence, o.confirmed = producerID, epoch, 0, false
}

// limit returns the maximum size in bytes of a batch, if the target topic's config says most; 0 means none.
func (o *outbox) limit(most int32) int32 {
	if o.maxBytes > 0 && (most == 0 || o.maxBytes < most) {
		return o.maxBytes
	}
	return most
}

// learnLimit records the size in bytes of a batch that was too large for the target.
func (o *outbox) learnLimit(size int) { o.maxBytes = int32(size - 1) }

// forgetLimit forgets the learned limit, because the limit of the target topic has changed.
func (o *outbox) forgetLimit() { o.maxBytes = 0 }

// refuse records that the target refused the first batch for its content. Accepted is how many of its records come before the first one that the
// target named, -1 if it named none.
func (o *outbox) refuse(why string, enough int, accepted int32) {
	b := o.queue[0]
	first, last := b.runs[0], b.runs[len(b.runs)-1]
	o.refusal = refusal{
		times: o.refusal.times + 1, enough: enough, why: why, from: first.Source, to: last.Source + int64(last.Count), count: b.count,
		accepted: accepted, leaderEpoch: b.leaderEpoch,
	}
	switch {
	case b.count == 1 && b.batch != nil:
		o.refusal.record = describeRecord(b.batch)
	case b.count == 1: // compact has released it
		o.refusal.record = fmt.Sprintf("%d bytes", b.size)
	}
}

// refusalPause is how long to wait before the batch is fetched again. The first pause doubles each time, because a broker in trouble refuses
// everything for a while.
func (o *outbox) refusalPause(first time.Duration) time.Duration {
	if o.isRefusalCertain() {
		return 0
	}
	return first << min(o.refusal.times-1, 4)
}

// isRefusalCertain reports whether the last refusal was no accident. While a batch is being split, one refusal is enough to split further.
func (o *outbox) isRefusalCertain() bool {
	r := &o.refusal
	return r.times > 0 && (r.times >= r.enough || r.count > 1 && r.from < o.split.until)
}

// narrow splits the refused batch: behind the records that the target did not name, or in half.
func (o *outbox) narrow() {
	r := &o.refusal
	records := r.count / 2
	if r.accepted >= 0 {
		records = min(r.accepted, r.count-1)
	}
	o.split = split{until: max(r.to, o.split.until), records: max(records, 1)}
	o.refusal = refusal{}
}

// leaveOut forgets the refusal of a record that is left out. What follows it is tried as a whole.
func (o *outbox) leaveOut() {
	o.split.records = math.MaxInt32
	o.endSplit(o.refusal.to)
	o.refusal = refusal{}
}

// forgetRefusal forgets the refusal, because the batch is on the target after all.
func (o *outbox) forgetRefusal() { o.refusal = refusal{} }

// endSplit ends the split if everything below next is done.
func (o *outbox) endSplit(next int64) {
	if next >= o.split.until {
		o.split = split{}
	}
}

// maxRecords returns how many records a batch may have that begins at a source offset, 0 for no limit.
func (o *outbox) maxRecords(next int64) int32 {
	if next >= o.split.until {
		return 0
	}
	return o.split.records
}
