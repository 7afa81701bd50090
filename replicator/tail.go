package replicator

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/recordbatch"
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
	topic     string
	id        [16]byte
	partition int32
	from      int64
	fence     fence
	until     int64 // read to here instead of to a marker, unless it is toMarker
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
			leader := f.targetLeader(t.topic, t.partition)
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
	request := kmsg.NewPtrFetchRequest()
	request.MaxWaitMillis, request.MinBytes, request.MaxBytes = int32(tailWait.Milliseconds()), 1, 16<<20
	request.SessionEpoch = -1
	if group[0].committed { // all of a group, or none
		request.IsolationLevel = 1
	}
	index := make(map[offsets.TopicPartition]*tail, len(group))
	topics := make(map[string]int)
	for _, t := range group {
		i, ok := topics[t.topic]
		if !ok {
			rt := kmsg.NewFetchRequestTopic()
			rt.Topic, rt.TopicID = t.topic, t.id
			i = len(request.Topics)
			topics[t.topic] = i
			request.Topics = append(request.Topics, rt)
		}
		rp := kmsg.NewFetchRequestTopicPartition()
		rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes = t.partition, t.next, 4<<20
		request.Topics[i].Partitions = append(request.Topics[i].Partitions, rp)
		index[offsets.TopicPartition{Topic: t.topic, Partition: t.partition}] = t
	}
	// Only tails are fetched from the target, so a deadline, which closes the connection, harms nobody else; a connection that is dead
	// without a sign of it must not hold up a recovery for longer.
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	response, err := f.targetWire.fetch(ctx, leader, request)
	if err != nil {
		f.log.Debug("tail fetch", "err", err)
		return false, ctx.Err() == nil
	}
	names := make(map[[16]byte]string, len(group))
	for _, t := range group {
		names[t.id] = t.topic
	}
	for i := range response.Topics {
		name := response.Topics[i].Topic
		if name == "" {
			name = names[response.Topics[i].TopicID]
		}
		for j := range response.Topics[i].Partitions {
			rp := &response.Topics[i].Partitions[j]
			if t := index[offsets.TopicPartition{Topic: name, Partition: rp.Partition}]; t != nil && f.readTail(ctx, t, rp) {
				moved = true
			}
		}
	}
	return moved, true
}

func (f *Flow) readTail(ctx context.Context, t *tail, rp *kmsg.FetchResponseTopicPartition) bool {
	switch classifyFetch(rp.ErrorCode) {
	case fetched:
	case absent:
		return f.tailOutOfRange(ctx, t)
	case denied:
		t.err = fmt.Errorf("read %s-%d on cluster %s: not authorized; milena reads its own copies back, grant READ on the topic", t.topic, t.partition, f.targetAlias)
		return true
	case gone, moved, later:
		return false
	}
	began := t.next
	aborted := abortedOf(rp)
	for data := rp.RecordBatches; len(data) > 0 && !t.done; {
		batch, rest, err := recordbatch.Next(data)
		if err == recordbatch.ErrTruncated { //nolint:errorlint // a sentinel that is never wrapped
			break
		}
		if err != nil {
			t.err = fmt.Errorf("read %s-%d on cluster %s from offset %d: %w", t.topic, t.partition, f.targetAlias, t.next, err)
			return true
		}
		data = rest
		h, err := recordbatch.Parse(batch)
		if err != nil {
			t.err = fmt.Errorf("read %s-%d on cluster %s from offset %d: %w", t.topic, t.partition, f.targetAlias, t.next, err)
			return true
		}
		if h.NextOffset() <= t.from {
			continue
		}
		if h.Attributes.Control() && h.ProducerID == t.fence.producerID && h.ProducerEpoch >= t.fence.markerEpoch {
			t.done, t.end = true, h.NextOffset()
		} else if t.err = t.take(h, batch, &aborted); t.err != nil {
			return true
		}
		t.next = h.NextOffset()
		if t.until != toMarker && t.next >= t.until && !t.done {
			t.done, t.end = true, t.next
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
		if lane == recordbatch.LaneDrop {
			t.dropped(h)
			return nil
		}
	}
	return t.visit(h, batch)
}

// tailOutOfRange tells a target whose retention deleted the beginning of the tail from one that lost its end.
func (f *Flow) tailOutOfRange(ctx context.Context, t *tail) bool {
	start, end, err := f.listOffsets(ctx, f.target, f.targetLeader(t.topic, t.partition), t.topic, t.partition)
	switch {
	case err != nil:
		return false
	case start > t.next:
		t.logStart, t.next = start, start
		return true
	case end < t.next:
		t.err = &targetTruncatedError{topic: t.topic, partition: t.partition, expected: t.next, end: end}
		return true
	}
	return false // a replica that is behind
}

// targetTruncatedError says that the target lost records that it had acknowledged.
type targetTruncatedError struct {
	topic         string
	partition     int32
	expected, end int64
}

func (e *targetTruncatedError) Error() string {
	return fmt.Sprintf("target %s-%d ends at offset %d, but everything below %d was acknowledged: the target lost records (unclean leader election?)", e.topic, e.partition, e.end, e.expected)
}

// The timestamps that ask for the first offset and for the high watermark.
const (
	startOffset = -2
	endOffset   = -1
)

// listOffsets asks the leader of one partition for its first offset and its high watermark.
func (f *Flow) listOffsets(ctx context.Context, cl *kgo.Client, leader int32, topic string, partition int32) (start, end int64, err error) {
	if start, err = listOffset(ctx, cl, leader, topic, partition, startOffset); err != nil {
		return 0, 0, err
	}
	end, err = listOffset(ctx, cl, leader, topic, partition, endOffset)
	return start, end, err
}

func listOffset(ctx context.Context, cl *kgo.Client, leader int32, topic string, partition int32, timestamp int64) (int64, error) {
	request := kmsg.NewPtrListOffsetsRequest()
	request.ReplicaID = -1
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewListOffsetsRequestTopicPartition()
	rp.Partition, rp.Timestamp = partition, timestamp
	rt.Partitions = append(rt.Partitions, rp)
	request.Topics = append(request.Topics, rt)
	response, err := cl.Broker(int(leader)).Request(ctx, request)
	if err != nil {
		return 0, fmt.Errorf("list offsets of %s-%d: %w", topic, partition, err)
	}
	for _, t := range response.(*kmsg.ListOffsetsResponse).Topics {
		for _, p := range t.Partitions {
			return p.Offset, codeError(p.ErrorCode)
		}
	}
	return 0, fmt.Errorf("list offsets of %s-%d: empty answer", topic, partition)
}
