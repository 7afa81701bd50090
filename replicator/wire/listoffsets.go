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

// Bounds returns the first offset of a partition, inclusive, and its high watermark, exclusive. The broker leader must lead the
// partition.
func Bounds(ctx context.Context, cl *kgo.Client, leader int32, tp offsets.TopicPartition) (start, end int64, err error) {
	if start, err = ListOffset(ctx, cl, leader, tp, earliest); err != nil {
		return 0, 0, err
	}
	end, err = ListOffset(ctx, cl, leader, tp, Latest)
	return start, end, err
}
