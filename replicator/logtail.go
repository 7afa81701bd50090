package replicator

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/wire"
)

// tailWait is how long the broker may keep a fetch of log tails that finds nothing, as while a marker is not written yet. It is short,
// because the fetches of one connection are served one after the other, and a partition below min.insync.replicas gets its marker late.
const tailWait = 20 * time.Millisecond

// tailPatience is the timeout of one fetch of log tails. It doubles with each timeout, at most tailDoublings times, because a large response
// takes long on a slow link.
const (
	tailPatience  = 1500 * time.Millisecond
	tailDoublings = 3
)

const (
	// MaxTailBytes limits one fetch of log tails. The broker divides it among the tails of the request.
	maxTailBytes = 16 << 20
	// MinTailBytes is what such a fetch has at least, however small the budget is.
	minTailBytes = 256 << 10
)

// logTail is the end of a target partition's log, which is read from an offset to the abort marker of a fence, or without transactions to a quiet end. Earlier owners cannot write
// behind the marker, so it ends everything that they wrote, and because a fetch ends at the high watermark, what is read is replicated.
// ListOffsets is no substitute: it does not see a batch that is appended and not yet replicated, which appears later.
type logTail struct {
	partition offsets.TopicPartition // of the target
	id        [16]byte               // by which requests name the topic
	from      int64
	mark      marker // of the fence, at which it ends
	maxBytes  int32  // of one fetch, which is not held up by the budget then; 0: as the budget allows
	until     int64  // read up to this offset, exclusive; or toMarker, or toQuiet
	// visit receives every batch from offset from on, in order, including control batches.
	visit func(h recordbatch.Header, batch []byte) error

	// late is called while reads reach the end of the log and find nothing, with the time since when. Nil if nothing can be done about that.
	late func(ctx context.Context, since time.Time)

	// abandoned reports whether nobody needs the tail any more, as when its topic was deleted. Nil means that it is always needed.
	abandoned func() bool

	// disturbs reports whether a batch may be of an earlier owner, so that its log is not quiet. Nil means that all are.
	disturbs func(h recordbatch.Header) bool

	committed bool // skip records of aborted transactions, and wait for the end of open ones
	// dropped receives the batches that committed keeps from visit.
	dropped func(h recordbatch.Header)

	started  bool      // the journal knows where the copy begins
	unknown  bool      // the journal does not list the partition, so the origin of its records is unknown
	next     int64     // the fetch offset
	logStart int64     // above from if the target deleted the beginning of the tail
	end      int64     // the offset behind the marker
	quiet    quiet     // without a marker
	sealed   int16     // epoch of the marker, which may be newer than that of the fence (KIP-890)
	settled  time.Time // since when the coordinator does not miss the marker any more
	idle     time.Time // since when reads find nothing, zero if the last one found something or failed
	done     bool
	err      error
	since    time.Time
}

// isFinished reports whether the tail was read, cannot be read, or is abandoned.
func (t *logTail) isFinished() bool {
	return t.done || t.err != nil || t.abandoned != nil && t.abandoned()
}

// isBounded reports whether the tail ends at a known offset.
func (t *logTail) isBounded() bool { return t.until >= 0 }

// readTails reads all log tails to their markers. It calls finished for each one as soon as it is read, so that a partition whose marker is
// late delays nothing else. It blocks until all are finished or ctx ends.
func (f *Flow) readTails(ctx context.Context, tails []*logTail, finished func(*logTail)) error {
	for _, t := range tails {
		t.next, t.since = t.from, time.Now()
	}
	pending, timeouts := tails, 0
	for attempt := 0; len(pending) > 0; {
		progress := false
		for leader, group := range f.tailsByLeader(pending) {
			moved, inTime := f.fetchTails(ctx, leader, group, tailPatience<<min(timeouts, tailDoublings))
			progress = progress || moved
			if !inTime {
				timeouts++
			}
		}
		for _, t := range pending {
			if t.late != nil && !t.idle.IsZero() {
				t.late(ctx, t.idle)
			}
		}
		pending = takeFinished(pending, finished)
		if len(pending) == 0 {
			return nil
		}
		if progress {
			attempt = 0
			continue
		}
		f.refreshTargetSoon()
		if err := client.Sleep(ctx, min(client.Backoff(attempt), longPoll)); err != nil {
			return err
		}
		attempt++
	}
	return nil
}

// tailsByLeader groups tails by the leaders of their partitions. It skips those that have no leader.
func (f *Flow) tailsByLeader(tails []*logTail) map[int32][]*logTail {
	byLeader := make(map[int32][]*logTail)
	for _, t := range tails {
		if leader := f.targetLeader(t.partition); leader >= 0 {
			byLeader[leader] = append(byLeader[leader], t)
		}
	}
	return byLeader
}

// takeFinished calls finished for the tails that are finished, and returns the others.
func takeFinished(tails []*logTail, finished func(*logTail)) (pending []*logTail) {
	for _, t := range tails {
		if t.isFinished() {
			finished(t)
		} else {
			pending = append(pending, t)
		}
	}
	return pending
}

// fetchTails sends one fetch request to a broker. It reports whether any tail progressed, and whether the response came in time.
func (f *Flow) fetchTails(ctx context.Context, leader int32, group []*logTail, patience time.Duration) (moved, inTime bool) {
	isolation := wire.ReadUncommitted
	if group[0].committed { // all of a group are, or none
		isolation = wire.ReadCommitted
	}
	share, err := f.reserveTails(ctx, group)
	if err != nil {
		return false, true // the caller notices that ctx has ended
	}
	defer func() { f.budget.add(-share) }()
	wait := tailWait
	if slices.ContainsFunc(group, func(t *logTail) bool { return t.until == toQuiet }) { // it finds nothing most of the time, and a wait holds up other shards
		wait = 0
	}
	request := wire.NewFetchRequest(wait, int32(share), isolation)
	view := f.targetView()
	for _, t := range group {
		if topic := view.ByName[t.partition.Topic]; topic.Exists() && topic.ID == [16]byte{} {
			t.id = topic.ID // the brokers use names now
		}
		request.Add(wire.FetchPartition{
			TopicPartition: t.partition,
			FetchOffset:    wire.FetchOffset{TopicID: t.id, Offset: t.next, LeaderEpoch: -1, LastEpoch: -1, MaxBytes: cmp.Or(t.maxBytes, int32(share))},
		})
	}
	// A timeout closes the connection. That affects nothing else, because only log tails are fetched from the target. Without a timeout, a
	// connection that is dead but was not closed would delay a recovery for longer.
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	response, err := f.targetWire.Fetch(ctx, leader, request)
	if err != nil {
		f.log.Debug("tail fetch", "err", err)
		for _, t := range group {
			t.quiet = quiet{}
		}
		return false, ctx.Err() == nil
	}
	answer := wire.IndexFetch(response.FetchResponse)
	f.budget.add(answer.Bytes - share) // nothing keeps the batches once they are visited
	share = answer.Bytes
	for _, t := range group {
		if rp := answer.Of(t.partition, t.id); rp != nil && f.applyFetch(ctx, t, rp) {
			moved = true
		}
	}
	return f.endQuiet(ctx, leader, group) || moved, true
}

// reserveTails reserves the bytes of one fetch of log tails from the budget, as many takeovers may read tails at a time. It waits until they fit,
// but not for the journal, which is read with the lock of its shard: without that lock the lease may expire, and then no batch is sent that
// would return bytes.
func (f *Flow) reserveTails(ctx context.Context, group []*logTail) (share int64, err error) {
	if limit := group[0].maxBytes; limit > 0 { // then the group is this one journal
		f.budget.add(int64(limit))
		return int64(limit), nil
	}
	return f.budget.reserveUpTo(ctx, minTailBytes, f.tailShare())
}

// tailShare is how many bytes one fetch of log tails may have, if the budget has them.
func (f *Flow) tailShare() int64 { return min(max(f.budget.size()/4, minTailBytes), maxTailBytes) }

// applyFetch processes the part of a fetch response that belongs to a tail. It reports whether the tail progressed or failed.
func (f *Flow) applyFetch(ctx context.Context, t *logTail, rp *kmsg.FetchResponseTopicPartition) bool {
	idle := t.idle
	t.idle = time.Time{}
	outcome := wire.ClassifyFetch(rp.ErrorCode)
	if outcome != wire.Fetched {
		t.quiet = quiet{} // a broker that does not answer may still have something to append
	}
	switch outcome {
	case wire.Fetched:
	case wire.OutOfRange:
		return f.tailOutOfRange(ctx, t)
	case wire.Denied:
		t.err = fmt.Errorf("read %s on cluster %s: not authorized; milena reads its own copies back, grant READ on the topic", t.partition, f.config.Target)
		return true
	case wire.Gone, wire.Moved, wire.RetryLater:
		return false
	}
	began := t.next
	aborted := wire.AbortedOf(rp)
	for batch, err := range recordbatch.Each(rp.RecordBatches) {
		if err != nil {
			t.err = fmt.Errorf("read %s on cluster %s from offset %d: %w", t.partition, f.config.Target, t.next, err)
			return true
		}
		if t.addBatch(batch, &aborted); t.isFinished() {
			return true
		}
	}
	if t.until == toQuiet {
		t.quiet.sees(rp.HighWatermark, time.Now())
	}
	if t.next > began {
		return true
	}
	if t.idle = idle; idle.IsZero() {
		t.idle = time.Now()
	}
	return false
}

// addBatch processes the next batch of the tail, and ends the tail at its marker or at until.
func (t *logTail) addBatch(batch recordbatch.Batch, aborted *recordbatch.Aborted) {
	h := batch.Header
	if h.NextOffset() <= t.from {
		return // the fetch offset was within this batch
	}
	t.disturb(h)
	// Without a fence there is no marker to wait for: the zero mark would match those of producer 0, the first one of a cluster.
	if t.until == toMarker && h.Attributes.Control() && h.ProducerID == t.mark.producerID && h.ProducerEpoch >= t.mark.epoch {
		t.done, t.end, t.sealed = true, h.NextOffset(), h.ProducerEpoch
	} else if t.err = t.visitBatch(h, batch.Bytes, aborted); t.err != nil {
		return
	}
	t.next = h.NextOffset()
	if t.isBounded() && t.next >= t.until && !t.done {
		t.done, t.end = true, t.next
	}
}

// visitBatch passes one batch to visit, or to dropped if it belongs to an aborted transaction and only committed records are read.
func (t *logTail) visitBatch(h recordbatch.Header, batch []byte, aborted *recordbatch.Aborted) error {
	if t.committed {
		route, _, err := recordbatch.Admit(batch, h, aborted, recordbatch.Rules{})
		if err != nil {
			return err
		}
		if route == recordbatch.RouteDrop {
			t.dropped(h)
			return nil
		}
	}
	return t.visit(h, batch)
}

// tailOutOfRange handles a fetch offset that is out of range: retention of the target deleted the beginning of the tail, or the target lost
// its end. It reports whether the tail progressed or failed.
func (f *Flow) tailOutOfRange(ctx context.Context, t *logTail) bool {
	start, end, err := wire.Bounds(ctx, f.target, f.targetLeader(t.partition), t.partition)
	switch {
	case err != nil:
		return false
	case start > t.next:
		t.logStart, t.next = start, start
		if t.isBounded() && t.next >= t.until {
			t.done, t.end = true, t.next
		}
		return true
	case end < t.next:
		t.err = &targetTruncatedError{partition: t.partition, expected: t.next, end: end}
		return true
	}
	return false // the response came from a replica that lags
}

// targetTruncatedError means that the target lost records that it had acknowledged.
type targetTruncatedError struct {
	partition     offsets.TopicPartition
	expected, end int64
}

func (e *targetTruncatedError) Error() string {
	return fmt.Sprintf("target %s ends at offset %d, but all records below offset %d were acknowledged: the target lost records (unclean leader election, or, before Kafka 2.8, a topic that was deleted and created again?)", e.partition, e.end, e.expected)
}
