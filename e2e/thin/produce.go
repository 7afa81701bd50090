package main

import (
	"encoding/binary"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Where a batch has the offset of its last record relative to its first, and its producer id, producer epoch and first sequence.
const (
	lastOffsetDeltaAt = 23
	producerIDAt      = 43
	producerEpochAt   = 51
	sequenceAt        = 53
	headerBytes       = 61
)

func (c *cluster) produce(request *kmsg.ProduceRequest) kmsg.Response {
	response := request.ResponseKind().(*kmsg.ProduceResponse)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range request.Topics {
		rt := kmsg.NewProduceResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for _, rp := range t.Partitions {
			answer := kmsg.NewProduceResponseTopicPartition()
			answer.Partition, answer.LogAppendTime = rp.Partition, -1
			p := c.find(t.Topic, t.TopicID, rp.Partition)
			if p == nil || len(rp.Records) < headerBytes {
				answer.ErrorCode = kerr.UnknownTopicOrPartition.Code
			} else {
				answer.BaseOffset, answer.ErrorCode = c.produceBatch(p, rp.Records)
			}
			rt.Partitions = append(rt.Partitions, answer)
		}
		response.Topics = append(response.Topics, rt)
	}
	return response
}

// produceBatch appends the batch of a producer, unless another one with the same producer id has a newer epoch. The cluster's lock is held.
func (c *cluster) produceBatch(p *partition, batch []byte) (base int64, code int16) {
	records := int64(binary.BigEndian.Uint32(batch[lastOffsetDeltaAt:])) + 1
	id, epoch := int64(binary.BigEndian.Uint64(batch[producerIDAt:])), int16(binary.BigEndian.Uint16(batch[producerEpochAt:]))
	sequence := int32(binary.BigEndian.Uint32(batch[sequenceAt:]))
	var from *producer
	if id >= 0 {
		from = p.producer(id)
		code, duplicate := from.admit(epoch, sequence)
		if code != 0 || duplicate {
			return from.base, code
		}
	}
	base = c.appendLocked(p, batch, records)
	if from != nil {
		from.wrote(epoch, sequence, records, base)
	}
	if c.watch != nil {
		c.watch.arrived(p, records, int64(len(batch)))
	}
	return base, 0
}
