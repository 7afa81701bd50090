package wire

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
)

// Special timestamps of list-offsets requests.
const (
	// Latest requests the high watermark.
	Latest   = -1
	earliest = -2
)

// ListOffset returns the offset of the first record at or after a timestamp in ms, -1 if there is none. For [Latest] it returns the high
// watermark. The broker leader must lead the partition.
func ListOffset(ctx context.Context, cl *kgo.Client, leader int32, tp offsets.TopicPartition, timestamp int64) (int64, error) {
	request := kmsg.NewPtrListOffsetsRequest()
	request.ReplicaID = -1
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = tp.Topic
	rp := kmsg.NewListOffsetsRequestTopicPartition()
	rp.Partition, rp.Timestamp = tp.Partition, timestamp
	rt.Partitions = append(rt.Partitions, rp)
	request.Topics = append(request.Topics, rt)
	response, err := cl.Broker(int(leader)).Request(ctx, request)
	if err != nil {
		return 0, fmt.Errorf("list offsets of %s: %w", tp, err)
	}
	for _, t := range response.(*kmsg.ListOffsetsResponse).Topics {
		for _, p := range t.Partitions {
			return p.Offset, kerr.ErrorForCode(p.ErrorCode)
		}
	}
	return 0, fmt.Errorf("list offsets of %s: the response holds no partition", tp)
}

// LogEnd is the end of a log, or the error code of a broker that did not tell it.
type LogEnd struct {
	Offset int64 // exclusive
	Code   int16
}

// debugging is a replica id. To whoever has it, a broker of Kafka tells the end of its log and not the high watermark; others may tell that.
const debugging = -2

// LogEnds returns the ends of logs, with what is not replicated yet. The broker leader must lead the partitions.
func LogEnds(ctx context.Context, cl *kgo.Client, leader int32, list []offsets.TopicPartition) (map[offsets.TopicPartition]LogEnd, error) {
	request := kmsg.NewPtrListOffsetsRequest()
	request.ReplicaID = debugging
	byTopic := make(map[string][]kmsg.ListOffsetsRequestTopicPartition)
	for _, tp := range list {
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Partition, rp.Timestamp = tp.Partition, Latest
		byTopic[tp.Topic] = append(byTopic[tp.Topic], rp)
	}
	for name, partitions := range byTopic {
		rt := kmsg.NewListOffsetsRequestTopic()
		rt.Topic, rt.Partitions = name, partitions
		request.Topics = append(request.Topics, rt)
	}
	response, err := cl.Broker(int(leader)).Request(ctx, request)
	if err != nil {
		return nil, fmt.Errorf("list log ends: %w", err)
	}
	ends := make(map[offsets.TopicPartition]LogEnd, len(list))
	for _, t := range response.(*kmsg.ListOffsetsResponse).Topics {
		for _, p := range t.Partitions {
			ends[offsets.TopicPartition{Topic: t.Topic, Partition: p.Partition}] = LogEnd{p.Offset, p.ErrorCode}
		}
	}
	return ends, nil
}

// Bounds returns the first offset of a partition, inclusive, and its high watermark, exclusive. The broker leader must lead the
// partition.
func Bounds(ctx context.Context, cl *kgo.Client, leader int32, tp offsets.TopicPartition) (start, end int64, err error) {
	if start, err = ListOffset(ctx, cl, leader, tp, earliest); err != nil {
		return 0, 0, err
	}
	end, err = ListOffset(ctx, cl, leader, tp, Latest)
	return start, end, err
}
