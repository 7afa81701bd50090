package offsets

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// logReader reads stretches of one partition with requests of its own: the client may be a caller's, with a consumer in
// it that must not notice. Not safe for concurrent use.
type logReader struct {
	client    *kgo.Client
	topic     string
	partition int32

	leader     int32
	id         [16]byte
	partitions int32 // of the topic
	known      bool  // the three above
}

// fetchBytes is what one answer may bring.
const fetchBytes = 8 << 20

// tries is how often a request is made while leaders move, with pauses that grow from 20 ms to 1 s.
const tries = 12

// find asks for the partition's leader. A topic that does not exist gives UNKNOWN_TOPIC_OR_PARTITION.
func (l *logReader) find(ctx context.Context) error {
	if l.known {
		return nil
	}
	request := kmsg.NewPtrMetadataRequest()
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = &l.topic
	request.Topics = append(request.Topics, topic)
	response, err := request.RequestWith(ctx, l.client)
	if err != nil {
		return err
	}
	for _, t := range response.Topics {
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
			return err
		}
		for _, p := range t.Partitions {
			if p.Partition == l.partition {
				if p.Leader < 0 {
					return kerr.LeaderNotAvailable
				}
				l.leader, l.id, l.partitions, l.known = p.Leader, t.TopicID, int32(len(t.Partitions)), true
				return nil
			}
		}
	}
	return kerr.UnknownTopicOrPartition
}

// retry runs a request until it is answered, for a while.
func (l *logReader) retry(ctx context.Context, what string, ask func() error) error {
	pause := 20 * time.Millisecond
	for try := 1; ; try++ {
		err := l.find(ctx)
		if err == nil {
			err = ask()
		}
		switch {
		case err == nil:
			return nil
		case errors.Is(err, kerr.TopicAuthorizationFailed):
			return fmt.Errorf("%s %s-%d: %w; grant READ on it", what, l.topic, l.partition, err)
		case ctx.Err() != nil, try == tries, errors.Is(err, kerr.UnknownTopicOrPartition) && try > 2, errors.Is(err, kerr.OffsetOutOfRange):
			return fmt.Errorf("%s %s-%d: %w", what, l.topic, l.partition, err)
		}
		l.known = false
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%s %s-%d: %w", what, l.topic, l.partition, ctx.Err())
		}
		pause = min(2*pause, time.Second)
	}
}

// Special timestamps of ListOffsets.
const (
	logStart = -2
	logEnd   = -1
)

// offset is the offset that ListOffsets answers for a timestamp: that of the first record at or after it, -1 if there is
// none. The end is the high watermark.
func (l *logReader) offset(ctx context.Context, timestamp int64) (int64, error) {
	var offset int64
	err := l.retry(ctx, "list offsets of", func() error {
		request := kmsg.NewPtrListOffsetsRequest()
		topic, part := kmsg.NewListOffsetsRequestTopic(), kmsg.NewListOffsetsRequestTopicPartition()
		part.Partition, part.Timestamp = l.partition, timestamp
		topic.Topic, topic.Partitions = l.topic, append(topic.Partitions, part)
		request.Topics = append(request.Topics, topic)
		answer, err := l.client.Broker(int(l.leader)).Request(ctx, request)
		if err != nil {
			return err
		}
		response := answer.(*kmsg.ListOffsetsResponse)
		if len(response.Topics) != 1 || len(response.Topics[0].Partitions) != 1 {
			return errors.New("the answer does not name the partition")
		}
		offset = response.Topics[0].Partitions[0].Offset
		return kerr.ErrorForCode(response.Topics[0].Partitions[0].ErrorCode)
	})
	return offset, err
}

// read gives every record in [from, to) to visit, in order, whatever transaction it was in. It blocks until to is
// reached, and returns the offset behind the last batch that it has seen, which is to or behind it.
func (l *logReader) read(ctx context.Context, from, to int64, visit func(*kgo.Record) error) (int64, error) {
	for from < to {
		var fetched kgo.FetchPartition
		var next int64
		err := l.retry(ctx, "read", func() error {
			part, err := l.fetch(ctx, from)
			if err != nil {
				return err
			}
			options := kgo.ProcessFetchPartitionOpts{Offset: from, Topic: l.topic, Partition: l.partition}
			fetched, next = kgo.ProcessFetchPartition(options, part, kgo.DefaultDecompressor(), nil)
			return fetched.Err
		})
		if err != nil {
			return from, err
		}
		for _, record := range fetched.Records {
			if err := visit(record); err != nil {
				return from, err
			}
		}
		from = max(from, next)
	}
	return from, nil
}

func (l *logReader) fetch(ctx context.Context, from int64) (*kmsg.FetchResponseTopicPartition, error) {
	request := kmsg.NewPtrFetchRequest()
	request.MaxWaitMillis, request.MinBytes, request.MaxBytes = 500, 1, fetchBytes
	topic, part := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
	part.Partition, part.FetchOffset, part.PartitionMaxBytes = l.partition, from, fetchBytes
	topic.Topic, topic.TopicID, topic.Partitions = l.topic, l.id, append(topic.Partitions, part)
	request.Topics = append(request.Topics, topic)
	answer, err := l.client.Broker(int(l.leader)).Request(ctx, request)
	if err != nil {
		return nil, err
	}
	response := answer.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(response.ErrorCode); err != nil {
		return nil, err
	}
	if len(response.Topics) != 1 || len(response.Topics[0].Partitions) != 1 {
		return nil, errors.New("the answer does not name the partition")
	}
	return &response.Topics[0].Partitions[0], kerr.ErrorForCode(response.Topics[0].Partitions[0].ErrorCode)
}
