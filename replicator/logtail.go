package replicator

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/wire"
)

// tailWait is how long a tail fetch may wait for a marker that is not written yet. It is short, because fetches of one connection
// stand in line and a partition below min.insync.replicas gets its marker late.
const tailWait = 20 * time.Millisecond

// tailPatience is how long one tail fetch may take in all. Each time that this is too short it doubles, so many times at most: on a slow
// line a large answer takes its time.
const (
	tailPatience  = 1500 * time.Millisecond
	tailDoublings = 3
)

// tail is one partition of the target that is read from an offset to the abort marker of a fence. What stands before the marker is all
// there will ever be of earlier owners, and as a fetch ends at the high watermark it is replicated. (ListOffsets is no substitute: a
// batch that is appended and not yet replicated is invisible to it and appears later.)
type tail struct {
	partition offsets.TopicPartition // of the target
	id        [16]byte
	from      int64
	mark      marker // of the fence that ends it
	until     int64  // read to here instead of to a marker, unless it is toMarker
	// visit gets every batch at or above from, in order, control batches too.
	visit func(h recordbatch.Header, batch []byte) error

	committed bool // records of aborted transactions do not count, and those of open ones are waited for
	// dropped gets the batches that visit does not get because of that.
	dropped func(h recordbatch.Header)

	started  bool  // the journal knows where the copy began
	unknown  bool  // nobody knows whose records the target holds
	next     int64 // where the next fetch begins
	logStart int64 // above from when the target deleted what the tail began with
	end      int64 // behind the marker
	done     bool
	err      error
	since    time.Time
}

// readTails reads all tails to their markers and calls finished for each as it gets there, so that a partition whose marker is late
// holds up nothing else. It returns when all are finished or ctx ends.
func (f *Flow) readTails(ctx context.Context, tails []*tail, finished func(*tail)) error {
	for _, t := range tails {
		t.next, t.since = t.from, time.Now()
	}
	pending, late := tails, 0 // late counts fetches that took too long
	for attempt := 0; len(pending) > 0; {
		byLeader := make(map[int32][]*tail)
		for _, t := range pending {
			leader := f.targetLeader(t.partition)
			byLeader[leader] = append(byLeader[leader], t)
		}
		progress := false
		for leader, group := range byLeader {
			if leader < 0 {
				continue
			}
			moved, inTime := f.fetchTails(ctx, leader, group, tailPatience<<min(late, tailDoublings))
			progress = progress || moved
			if !inTime {
				late++
			}
		}
		var rest []*tail
		for _, t := range pending {
			if t.done || t.err != nil {
				finished(t)
			} else {
				rest = append(rest, t)
			}
		}
		pending = rest
		if len(pending) == 0 {
			return nil
		}
		if progress {
			attempt = 0
			continue
		}
		f.refreshTarget(ctx)
		if err := client.Sleep(ctx, min(client.Backoff(attempt), longPoll)); err != nil {
			return err
		}
		attempt++
	}
	return nil
}

// fetchTails asks one broker once; it says whether any tail moved, and whether the answer came in time.
func (f *Flow) fetchTails(ctx context.Context, leader int32, group []*tail, patience time.Duration) (moved, inTime bool) {
	isolation := wire.ReadUncommitted
	if group[0].committed { // all of a group, or none
		isolation = wire.ReadCommitted
	}
	request := wire.NewFetchRequest(tailWait, 16<<20, isolation)
	for _, t := range group {
		request.Add(wire.FetchPartition{
			TopicPartition: t.partition,
			FetchOffset:    wire.FetchOffset{TopicID: t.id, Offset: t.next, LeaderEpoch: -1, LastEpoch: -1, MaxBytes: 4 << 20},
		})
	}
	// Only tails are fetched from the target, so a deadline, which closes the connection, harms nobody else; a connection that is dead
	// without a sign of it must not hold up a recovery for longer.
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	response, err := f.targetWire.Fetch(ctx, leader, request.FetchRequest)
	if err != nil {
		f.log.Debug("tail fetch", "err", err)
		return false, ctx.Err() == nil
	}
	answer := wire.IndexFetch(response)
	for _, t := range group {
		if rp := answer.Of(t.partition, t.id); rp != nil && f.readTail(ctx, t, rp) {
			moved = true
		}
	}
	return moved, true
}

func (f *Flow) readTail(ctx context.Context, t *tail, rp *kmsg.FetchResponseTopicPartition) bool {
	switch wire.ClassifyFetch(rp.ErrorCode) {
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
		h := batch.Header
		if h.NextOffset() <= t.from {
			continue
		}
		if h.Attributes.Control() && h.ProducerID == t.mark.producerID && h.ProducerEpoch >= t.mark.epoch {
			t.done, t.end = true, h.NextOffset()
		} else if t.err = t.take(h, batch.Bytes, &aborted); t.err != nil {
			return true
		}
		t.next = h.NextOffset()
		if t.until != toMarker && t.next >= t.until && !t.done {
			t.done, t.end = true, t.next
		}
		if t.done {
			break
		}
	}
	return t.done || t.next > began
}

// take gives one batch to visit. Of committed records only, when they alone count.
func (t *tail) take(h recordbatch.Header, batch []byte, aborted *recordbatch.Aborted) error {
	if t.committed {
		lane, _, err := recordbatch.Admit(batch, h, aborted, recordbatch.Rules{})
		if err != nil {
			return err
		}
		if lane == recordbatch.RouteDrop {
			t.dropped(h)
			return nil
		}
	}
	return t.visit(h, batch)
}

// tailOutOfRange tells a target whose retention deleted the beginning of the tail from one that lost its end.
func (f *Flow) tailOutOfRange(ctx context.Context, t *tail) bool {
	start, end, err := wire.Bounds(ctx, f.target, f.targetLeader(t.partition), t.partition)
	switch {
	case err != nil:
		return false
	case start > t.next:
		t.logStart, t.next = start, start
		return true
	case end < t.next:
		t.err = &targetTruncatedError{partition: t.partition, expected: t.next, end: end}
		return true
	}
	return false // a replica that is behind
}

// targetTruncatedError says that the target lost records that it had acknowledged.
type targetTruncatedError struct {
	partition     offsets.TopicPartition
	expected, end int64
}

func (e *targetTruncatedError) Error() string {
	return fmt.Sprintf("target %s ends at offset %d, but everything below %d was acknowledged: the target lost records (unclean leader election?)", e.partition, e.end, e.expected)
}
