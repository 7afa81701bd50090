package replicator

import (
	"bytes"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/milena-kafka/milena/replicator/recordbatch"
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
	// MinProbe is the least number of bytes that an attempt fetches.
	minProbe = 4 << 10
)

// isHeldBack reports whether the target refuses the partition's batches.
func (h hold) isHeldBack() bool { return h.attempts > 0 }

// account counts the bytes that are queued for one lane of the target. Its partitions are fetched while that is less than the lane's part of the
// budget, so that a broker or a replica that hangs does not stop the partitions of the others. The nil account counts nothing.
type account struct{ bytes atomic.Int64 }

func (a *account) add(n int64) {
	if a != nil {
		a.bytes.Add(n)
	}
}

// isFull reports whether the lane has its part of the budget.
func (a *account) isFull(part int64) bool { return a != nil && a.bytes.Load() >= part }

// outbox is the queue of batches that a partition sends to the target, and the partition's producer. Its methods are called with the
// partition's lock held, and nothing else assigns its fields.
//
// Invariants: at most one batch is in flight, and it is the first of the queue. A batch is sent once: if the target refuses it, the queue is
// discarded and fetched again, because the client may still be writing the bytes of a request, and because what waits must not hold memory.
type outbox struct {
	queue       []prepared
	queuedBytes int64
	inFlight    bool
	scheduled   bool     // the partition is in the ready list of a target broker
	closed      bool     // nothing is queued any more, because the flow stops
	account     *account // of the lane of the copy, nil if it has no leader
	hold        hold

	// The producer of this partition has the shard's id and the epoch of this partition's last fence. Other partitions of the shard may still
	// use an earlier epoch, because a target partition only knows the epochs that it has seen.
	producerID    int64
	producerEpoch int16
	sequence      int32

	maxBytes int32   // batch size limit that was learned from a refusal, 0 if unknown
	refusal  refusal // of the batch that was the first of the queue
	split    split
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
func (o *outbox) growProbe() { o.hold.probe = min(2*o.hold.probe, partitionBytes) }

// compact lets the queue hold no more memory than its batches need. It copies what waits out of responses that are otherwise done with. The
// bytes of a batch in flight are not needed any more, because it is never sent again; its request holds them until it ends.
func (o *outbox) compact(b *budget) {
	for i := range o.queue {
		q := &o.queue[i]
		if !q.slab.isWasteful() {
			continue
		}
		own := newOwnSlab(b, q.size)
		if i == 0 && o.inFlight {
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

// sendable reports whether there is a batch to send that is neither in flight nor scheduled.
func (o *outbox) sendable() bool { return len(o.queue) > 0 && !o.inFlight && !o.scheduled }

// markScheduled records that the partition is in a ready list.
func (o *outbox) markScheduled() { o.scheduled = true }

// clearScheduled records that the partition is not in a ready list any more.
func (o *outbox) clearScheduled() { o.scheduled = false }

// stampHead writes producer id, epoch and sequence into the first batch, marks it as in flight and returns its bytes.
func (o *outbox) stampHead() []byte {
	o.inFlight = true
	batch := o.queue[0].batch
	recordbatch.Rewrite(batch, o.producerID, o.producerEpoch, o.sequence)
	return batch
}

// markNotWritten records that the batch in flight was definitely not written.
func (o *outbox) markNotWritten() { o.inFlight = false }

// unanswered returns the batches that are in flight: their outcome is unknown.
func (o *outbox) unanswered() []prepared {
	if !o.inFlight {
		return nil
	}
	return o.queue[:1]
}

// popSent removes the batch in flight, which the target has acknowledged.
func (o *outbox) popSent() prepared {
	b := o.queue[0]
	o.sequence = nextSequence(o.sequence, int(b.count))
	o.queue[0] = prepared{}
	o.queue = o.queue[1:]
	o.addBytes(-int64(b.size))
	o.inFlight, o.hold, o.refusal = false, hold{}, refusal{}
	o.split.records = int32(min(2*int64(o.split.records), math.MaxInt32))
	o.endSplit(b.next)
	return b
}

// nextSequence is the sequence of the batch after one with this sequence and number of records. Like the broker's, it wraps to 0 behind
// 2^31-1.
func nextSequence(sequence int32, count int) int32 {
	return int32((int64(sequence) + int64(count)) & math.MaxInt32)
}

// clear discards all batches and returns how many they were.
func (o *outbox) clear() int {
	n := o.discard(0)
	o.queue, o.inFlight = nil, false
	return n
}

// close discards the batches that were never sent, and returns how many they were. From then on nothing is queued, so nothing is sent, whatever
// becomes of the batch in flight.
func (o *outbox) close() int {
	o.closed = true
	return o.discard(len(o.unanswered()))
}

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
	o.producerID, o.producerEpoch, o.sequence = producerID, epoch, 0
}

// learnLimit records the size in bytes of a batch that was too large for the target.
func (o *outbox) learnLimit(size int) { o.maxBytes = int32(size - 1) }

// forgetLimit forgets the learned limit, because the limit of the target topic has changed.
func (o *outbox) forgetLimit() { o.maxBytes = 0 }

// refuse records that the target refused the first batch for its content. Accepted is how many of its records come before the first one that the
// target named, -1 if it named none.
func (o *outbox) refuse(batch []byte, why string, enough int, accepted int32) {
	b := o.queue[0]
	first, last := b.runs[0], b.runs[len(b.runs)-1]
	o.refusal = refusal{
		times: o.refusal.times + 1, enough: enough, why: why, from: first.Source, to: last.Source + int64(last.Count), count: b.count,
		accepted: accepted, leaderEpoch: b.leaderEpoch,
	}
	if b.count == 1 {
		o.refusal.record = describeRecord(batch)
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
