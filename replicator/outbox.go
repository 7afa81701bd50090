package replicator

import (
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// prepared is one batch that is ready to be produced.
type prepared struct {
	batch        []byte
	count        int32
	runs         []recordbatch.Run // source offsets in the order of the records
	next         int64             // source offset behind this batch and behind what was dropped after it, exclusive
	leaderEpoch  int32             // of the source batch
	maxTimestamp int64             // ms
	slab         *slab
}

// outbox is what a partition has to send to the target, and its producer there. Its methods are called under the partition's lock, and
// nobody else assigns its fields.
//
// Invariants: at most one batch is in flight, the first of the queue; its bytes are never touched again after a request without an answer.
type outbox struct {
	queue       []prepared
	queuedBytes int64
	inFlight    bool
	scheduled   bool // it is in a target broker's ready list

	// The producer of this partition: the shard's id at the epoch of this partition's last fence. Other partitions of the shard may still use
	// an earlier epoch; each target partition only knows the epochs that it has seen.
	producerID    int64
	producerEpoch int16
	sequence      int32

	maxBytes int32  // a batch limit that was learned from a refusal, 0 unknown
	skipping bool   // policy skips the batch at the head, which the target refused
	refusal  string // the target's last words about it
	refused  int    // times in a row that the target refused the batch at the head as damaged
}

// push adds a batch.
func (o *outbox) push(b prepared) {
	o.queue = append(o.queue, b)
	o.queuedBytes += int64(len(b.batch))
}

// carry lets the last batch stand for dropped offsets that follow it; false if the outbox is empty.
func (o *outbox) carry(next int64, leaderEpoch int32) bool {
	n := len(o.queue)
	if n == 0 {
		return false
	}
	o.queue[n-1].next, o.queue[n-1].leaderEpoch = next, leaderEpoch
	return true
}

// sendable says that there is a batch to send, and nobody is about to send it.
func (o *outbox) sendable() bool { return len(o.queue) > 0 && !o.inFlight && !o.scheduled }

// schedule notes that the partition is in a ready list.
func (o *outbox) schedule() { o.scheduled = true }

// unschedule notes that it is in a ready list no more.
func (o *outbox) unschedule() { o.scheduled = false }

// send stamps the batch at the head with producer, epoch and sequence, and marks it as in flight.
func (o *outbox) send() []byte {
	o.inFlight = true
	batch := o.queue[0].batch
	recordbatch.Rewrite(batch, o.producerID, o.producerEpoch, o.sequence)
	return batch
}

// returned notes that the batch in flight was certainly not written.
func (o *outbox) returned() { o.inFlight = false }

// sent takes out the batch in flight, which the target has acknowledged.
func (o *outbox) sent() prepared {
	b := o.queue[0]
	o.sequence = int32((int64(o.sequence) + int64(b.count)) & 0x7fffffff) // wraps at 2^31 as the broker's does
	o.queue[0] = prepared{}
	o.queue = o.queue[1:]
	o.queuedBytes -= int64(len(b.batch))
	o.inFlight, o.refused = false, 0
	return b
}

// clear discards what is queued, and says how many batches that were.
func (o *outbox) clear() int {
	n := len(o.queue)
	for i := range o.queue {
		o.queue[i].slab.release()
	}
	o.queue, o.queuedBytes, o.inFlight = nil, 0, false
	return n
}

// restart sets the producer after a fence: the next batch has sequence 0.
func (o *outbox) restart(producerID int64, epoch int16) {
	o.producerID, o.producerEpoch, o.sequence = producerID, epoch, 0
}

// learnLimit notes the size of a batch that was too large for the target.
func (o *outbox) learnLimit(size int) { o.maxBytes = int32(size - 1) }

// forgetLimit is for a target topic whose limit has changed.
func (o *outbox) forgetLimit() { o.maxBytes = 0 }

// refuse notes that the target refused the batch at the head for what it is.
func (o *outbox) refuse(why string) {
	o.refused++
	o.refusal = why
}

// decide forgets the refusals after policy has decided whether to skip the batch.
func (o *outbox) decide(skip bool) {
	o.refused, o.skipping = 0, skip
}

// skip says whether the next batch is the one that policy skips, once.
func (o *outbox) skip() bool {
	skipping := o.skipping
	o.skipping = false
	return skipping
}
