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

// Requests are built here and sent to leaders one by one, not through the client's consumer: the client may belong to a
// caller and have a consumer that must not be affected.

const (
	fetchBytes = 2 << 20  // limit of one fetch response of a long read
	chunkBytes = 64 << 10 // limit of one fetch response for a single chunk

	// Attempts of one request while leaders move, with a backoff from 20 ms to 1 s: about 6 s in all.
	maxTries = 12
	// Empty responses in a row after which the log must be shorter than it was reported to be.
	maxEmptyFetches = 3
)

// Special timestamps of ListOffsets.
const (
	logStart = -2
	logEnd   = -1
)

// errLogChanged means that the topic was created again, or that the log lost its start or its end: read it from the
// start.
var errLogChanged = errors.New("the topic was created again, or its log was truncated")

// topicLeaders caches the metadata of one topic for all its readers. Safe for concurrent use.
type topicLeaders struct {
	client *kgo.Client
	topic  string

	asking sync.Mutex
	known  atomic.Pointer[leaders] // nil: not known, request it
}

type leaders struct {
	id    [16]byte // zero if the broker has none
	nodes []int32  // by partition; -1: none at the moment
}

// get returns the leaders, and requests metadata if they are not known. A topic that does not exist gives
// UNKNOWN_TOPIC_OR_PARTITION.
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
		return nil, errors.New("the metadata response does not have the topic")
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

// invalidate forgets leaders that turned out to be wrong, unless they were updated in the meantime.
func (t *topicLeaders) invalidate(l *leaders) {
	if l != nil {
		t.known.CompareAndSwap(l, nil)
	}
}

// retry runs a request until it succeeds, up to maxTries times, with a backoff. A partition without a leader is retried
// too. It blocks until then, or until ctx ends.
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
		case errors.Is(err, errLogChanged), errors.Is(err, kerr.OffsetOutOfRange), errors.As(err, new(*kgo.ErrDecompressTooLarge)):
			return err
		case errors.Is(err, kerr.TopicAuthorizationFailed):
			return fmt.Errorf("%s %s: %w; grant DESCRIBE and READ on it", what, t.topic, err)
		case ctx.Err() != nil, try == maxTries, errors.Is(err, kerr.UnknownTopicOrPartition) && try > 2:
			return fmt.Errorf("%s %s: %w", what, t.topic, err)
		}
		t.invalidate(l)
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

// logReader reads ranges of one partition. Not safe for concurrent use.
type logReader struct {
	*topicLeaders
	partition int32
	id        [16]byte // topic id of the log that was read so far; zero before the first request
	committed bool     // read_committed: only committed records, up to the last stable offset
	users     bool     // a topic of users, whose batches may be large; see decompress.go
	// tooLarge is told of a batch that is left out, because it decompresses to too much. If it is nil, that is an error.
	tooLarge func(*kgo.ErrDecompressTooLarge)
}

// isolation returns the isolation level of requests.
func (l *logReader) isolation() int8 {
	if l.committed {
		return 1
	}
	return 0
}

// at runs a request on the partition's leader. It returns errLogChanged if the topic id has changed since the last
// request.
func (l *logReader) at(ctx context.Context, what string, ask func(leader int, id [16]byte) error) error {
	return l.retry(ctx, what, func(known *leaders) error {
		switch {
		case int(l.partition) >= len(known.nodes):
			return kerr.UnknownTopicOrPartition
		case known.nodes[l.partition] < 0:
			return kerr.LeaderNotAvailable
		case IsAnotherTopic(l.id, known.id):
			l.id = known.id
			return errLogChanged
		}
		l.id = known.id
		return ask(int(known.nodes[l.partition]), known.id)
	})
}

// offset returns the ListOffsets result for a timestamp: the offset of the first record at or after it, -1 if there
// is none. The end is the high watermark, or the last stable offset if committed is set.
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
			return errors.New("the response does not have the partition")
		}
		offset = response.Topics[0].Partitions[0].Offset
		return kerr.ErrorForCode(response.Topics[0].Partitions[0].ErrorCode)
	})
	return offset, err
}

// read passes the records in [from, to) to visit, in order, together with the offset after them, one fetch response
// at a time. A response holds whole batches only. Records of all transactions are included unless committed is set.
// It blocks until to is reached or visit fails. It returns errLogChanged if the log does not reach that far, and
// OFFSET_OUT_OF_RANGE if it starts later.
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
			fetched, next = kgo.ProcessFetchPartition(options, part, l.decompressor(), nil)
			return fetched.Err
		})
		var large *kgo.ErrDecompressTooLarge
		switch {
		case l.tooLarge != nil && errors.As(err, &large) && large.NextOffset > from:
			l.tooLarge(large)
			from = large.NextOffset
			continue
		case err != nil:
			return err
		case next <= from:
			if empty++; empty >= maxEmptyFetches {
				return errLogChanged
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
	var ask kmsg.Request = request
	if id == [16]byte{} {
		ask = &fetchByName{request}
	}
	response, err := l.unthrottled(ctx, leader, ask)
	if err != nil {
		return nil, err
	}
	if err := kerr.ErrorForCode(response.ErrorCode); err != nil {
		return nil, err
	}
	if len(response.Topics) != 1 || len(response.Topics[0].Partitions) != 1 {
		return nil, errors.New("the response does not have the partition")
	}
	return &response.Topics[0].Partitions[0], kerr.ErrorForCode(response.Topics[0].Partitions[0].ErrorCode)
}

// unthrottled sends a fetch request until the response is not an empty one, with which a broker throttles a client that exceeds a quota (KIP-219).
// The client waits for the throttle time before it sends the next request.
func (l *logReader) unthrottled(ctx context.Context, leader int, request kmsg.Request) (*kmsg.FetchResponse, error) {
	for {
		answer, err := l.client.Broker(leader).Request(ctx, request)
		if err != nil {
			return nil, err
		}
		response, ok := answer.(*kmsg.FetchResponse)
		if !ok {
			return nil, errors.New("unexpected response type")
		}
		if response.ThrottleMillis == 0 || len(response.Topics) > 0 || response.ErrorCode != 0 {
			return response, nil
		}
	}
}

// fetchByName is a fetch request that names the topic. From version 13 on, requests have only its id, but not every
// broker that offers these versions has ids; see [IsAnotherTopic].
type fetchByName struct{ *kmsg.FetchRequest }

// MaxVersion implements [kmsg.Request].
func (r *fetchByName) MaxVersion() int16 { return 12 }

// Timeout implements [kmsg.TimeoutRequest].
func (r *fetchByName) Timeout() int32 { return r.MaxWaitMillis }
