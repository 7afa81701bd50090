package offsets

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Requests are made and sent to leaders here, one by one, instead of through the client's consumer: the client may be a
// caller's, with a consumer in it that must not notice.

const (
	fetchBytes = 2 << 20 // what one answer may bring, when much is read
	chunkBytes = 64 << 10

	// How often a request is made while leaders move, with pauses that grow from 20 ms to 1 s: about 6 s.
	tries = 12
	// How many empty answers in a row are taken before the log is believed to be shorter than it said.
	patience = 3
)

// Special timestamps of ListOffsets.
const (
	logStart = -2
	logEnd   = -1
)

// errAnew says that a log is not the one, or no longer as long as the one, that was read before: begin anew.
var errAnew = errors.New("the topic was made again, or lost its end or beginning")

// topicLeaders is what metadata says of one topic, for all who read it. Safe for concurrent use.
type topicLeaders struct {
	client *kgo.Client
	topic  string

	asking sync.Mutex
	known  atomic.Pointer[leaders] // nil: to be asked for
}

type leaders struct {
	id    [16]byte // zero if the broker has none
	nodes []int32  // by partition; -1: none at the moment
}

// get asks for the leaders if they are not known. A topic that does not exist gives UNKNOWN_TOPIC_OR_PARTITION.
func (t *topicLeaders) get(ctx context.Context) (*leaders, error) {
	if l := t.known.Load(); l != nil {
		return l, nil
	}
	t.asking.Lock()
	defer t.asking.Unlock()
	if l := t.known.Load(); l != nil {
		return l, nil
	}
	request := kmsg.NewPtrMetadataRequest()
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = &t.topic
	request.Topics = append(request.Topics, topic)
	response, err := request.RequestWith(ctx, t.client)
	if err != nil {
		return nil, err
	}
	if len(response.Topics) != 1 {
		return nil, errors.New("the metadata do not name the topic")
	}
	answer := response.Topics[0]
	if err := kerr.ErrorForCode(answer.ErrorCode); err != nil {
		return nil, err
	}
	l := &leaders{id: answer.TopicID, nodes: slices.Repeat([]int32{-1}, len(answer.Partitions))}
	for _, p := range answer.Partitions {
		if p.Partition >= 0 && int(p.Partition) < len(l.nodes) {
			l.nodes[p.Partition] = p.Leader
		}
	}
	t.known.Store(l)
	return l, nil
}

// doubt forgets what turned out to be wrong, unless somebody has asked again since.
func (t *topicLeaders) doubt(l *leaders) {
	if l != nil {
		t.known.CompareAndSwap(l, nil)
	}
}

// retry runs a request until it is answered, for a while. A nil partition leader is an error that is tried again.
func (t *topicLeaders) retry(ctx context.Context, what string, ask func(*leaders) error) error {
	pause := 20 * time.Millisecond
	for try := 1; ; try++ {
		l, err := t.get(ctx)
		if err == nil {
			err = ask(l)
		}
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errAnew), errors.Is(err, kerr.OffsetOutOfRange):
			return err
		case errors.Is(err, kerr.TopicAuthorizationFailed):
			return fmt.Errorf("%s %s: %w; grant DESCRIBE and READ on it", what, t.topic, err)
		case ctx.Err() != nil, try == tries, errors.Is(err, kerr.UnknownTopicOrPartition) && try > 2:
			return fmt.Errorf("%s %s: %w", what, t.topic, err)
		}
		t.doubt(l)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%s %s: %w", what, t.topic, ctx.Err())
		}
		pause = min(2*pause, time.Second)
	}
}

// logReader reads stretches of one partition. Not safe for concurrent use.
type logReader struct {
	*topicLeaders
	partition int32
	id        [16]byte // of the topic that was read until now; zero before
	committed bool     // records of transactions count only when they are committed, and the end is that of those
}

// isolation is what requests call the choice.
func (l *logReader) isolation() int8 {
	if l.committed {
		return 1
	}
	return 0
}

// at runs a request on the partition's leader, as long as the topic is the one that it was.
func (l *logReader) at(ctx context.Context, what string, ask func(leader int, id [16]byte) error) error {
	return l.retry(ctx, what, func(known *leaders) error {
		switch {
		case int(l.partition) >= len(known.nodes):
			return kerr.UnknownTopicOrPartition
		case known.nodes[l.partition] < 0:
			return kerr.LeaderNotAvailable
		case l.id != [16]byte{} && l.id != known.id:
			l.id = known.id
			return errAnew
		}
		l.id = known.id
		return ask(int(known.nodes[l.partition]), known.id)
	})
}

// offset is the offset that ListOffsets answers for a timestamp: that of the first record at or after it, -1 if there is
// none. The end is the high watermark, or the last stable offset if committed is set.
func (l *logReader) offset(ctx context.Context, timestamp int64) (offset int64, err error) {
	err = l.at(ctx, "list offsets of", func(leader int, _ [16]byte) error {
		request := kmsg.NewPtrListOffsetsRequest()
		topic, part := kmsg.NewListOffsetsRequestTopic(), kmsg.NewListOffsetsRequestTopicPartition()
		part.Partition, part.Timestamp = l.partition, timestamp
		request.IsolationLevel = l.isolation()
		topic.Topic, topic.Partitions = l.topic, append(topic.Partitions, part)
		request.Topics = append(request.Topics, topic)
		answer, err := l.client.Broker(leader).Request(ctx, request)
		if err != nil {
			return err
		}
		response, ok := answer.(*kmsg.ListOffsetsResponse)
		if !ok || len(response.Topics) != 1 || len(response.Topics[0].Partitions) != 1 {
			return errors.New("the answer does not name the partition")
		}
		offset = response.Topics[0].Partitions[0].Offset
		return kerr.ErrorForCode(response.Topics[0].Partitions[0].ErrorCode)
	})
	return offset, err
}

// read gives the records in [from, to), in order and, unless committed is set, whatever transaction they were in, to visit: those of one answer at
// a time, with the offset behind them. An answer holds whole batches only. It blocks until to is reached or visit fails.
// It returns errAnew if the log turns out not to reach that far, OFFSET_OUT_OF_RANGE if it begins later.
func (l *logReader) read(ctx context.Context, from, to int64, bytes int32, visit func([]*kgo.Record, int64) error) error {
	for empty := 0; from < to; {
		var fetched kgo.FetchPartition
		var next int64
		err := l.at(ctx, "read", func(leader int, id [16]byte) error {
			part, err := l.fetch(ctx, leader, id, from, bytes)
			if err != nil {
				return err
			}
			options := kgo.ProcessFetchPartitionOpts{Offset: from, Topic: l.topic, Partition: l.partition}
			if l.committed {
				options.IsolationLevel = kgo.ReadCommitted()
			}
			fetched, next = kgo.ProcessFetchPartition(options, part, kgo.DefaultDecompressor(), nil)
			return fetched.Err
		})
		switch {
		case err != nil:
			return err
		case next <= from:
			if empty++; empty >= patience {
				return errAnew
			}
			continue
		}
		empty = 0
		if err := visit(fetched.Records, next); err != nil {
			return err
		}
		from = next
	}
	return nil
}

func (l *logReader) fetch(ctx context.Context, leader int, id [16]byte, from int64, bytes int32) (*kmsg.FetchResponseTopicPartition, error) {
	request := kmsg.NewPtrFetchRequest()
	request.MaxWaitMillis, request.MinBytes, request.MaxBytes = 500, 1, bytes
	request.IsolationLevel = l.isolation()
	topic, part := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
	part.Partition, part.FetchOffset, part.PartitionMaxBytes = l.partition, from, bytes
	topic.Topic, topic.TopicID, topic.Partitions = l.topic, id, append(topic.Partitions, part)
	request.Topics = append(request.Topics, topic)
	answer, err := l.client.Broker(leader).Request(ctx, request)
	if err != nil {
		return nil, err
	}
	response, ok := answer.(*kmsg.FetchResponse)
	if !ok {
		return nil, errors.New("the answer is of another kind")
	}
	if err := kerr.ErrorForCode(response.ErrorCode); err != nil {
		return nil, err
	}
	if len(response.Topics) != 1 || len(response.Topics[0].Partitions) != 1 {
		return nil, errors.New("the answer does not name the partition")
	}
	return &response.Topics[0].Partitions[0], kerr.ErrorForCode(response.Topics[0].Partitions[0].ErrorCode)
}
