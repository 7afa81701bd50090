package main

import (
	"encoding/binary"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// lastOffsetDeltaAt is where a batch has the offset of its last record, relative to its first.
const lastOffsetDeltaAt = 23

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
			if p == nil || len(rp.Records) < lastOffsetDeltaAt+4 {
				answer.ErrorCode = kerr.UnknownTopicOrPartition.Code
			} else {
				records := int64(binary.BigEndian.Uint32(rp.Records[lastOffsetDeltaAt:])) + 1
				answer.BaseOffset = c.appendLocked(p, append([]byte(nil), rp.Records...), records)
			}
			rt.Partitions = append(rt.Partitions, answer)
		}
		response.Topics = append(response.Topics, rt)
	}
	return response
}

// transactional is a transactional id.
type transactional struct {
	producer int64
	epoch    int16
	open     map[*partition]bool // partitions of the transaction
}

func (c *cluster) initProducer(request *kmsg.InitProducerIDRequest) kmsg.Response {
	response := request.ResponseKind().(*kmsg.InitProducerIDResponse)
	c.mu.Lock()
	defer c.mu.Unlock()
	if request.TransactionalID == nil {
		c.producers++
		response.ProducerID = c.producers
		return response
	}
	t := c.ids[*request.TransactionalID]
	if t == nil {
		c.producers++
		t = &transactional{producer: c.producers, epoch: -1, open: make(map[*partition]bool)}
		c.ids[*request.TransactionalID] = t
	}
	t.epoch++
	response.ProducerID, response.ProducerEpoch = t.producer, t.epoch
	return response
}

func (c *cluster) addPartitions(request *kmsg.AddPartitionsToTxnRequest) kmsg.Response {
	response := request.ResponseKind().(*kmsg.AddPartitionsToTxnResponse)
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.ids[request.TransactionalID]
	for _, t := range request.Topics {
		rt := kmsg.NewAddPartitionsToTxnResponseTopic()
		rt.Topic = t.Topic
		for _, n := range t.Partitions {
			rp := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
			rp.Partition = n
			p := c.find(t.Topic, [16]byte{}, n)
			switch {
			case p == nil:
				rp.ErrorCode = kerr.UnknownTopicOrPartition.Code
			case known == nil || known.epoch != request.ProducerEpoch:
				rp.ErrorCode = kerr.InvalidProducerEpoch.Code
			default:
				known.open[p] = true
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		response.Topics = append(response.Topics, rt)
	}
	return response
}

// endTransaction writes the markers before it answers. A commit has no markers, because nobody here commits.
func (c *cluster) endTransaction(request *kmsg.EndTxnRequest) kmsg.Response {
	response := request.ResponseKind().(*kmsg.EndTxnResponse)
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.ids[request.TransactionalID]
	if known == nil || known.epoch != request.ProducerEpoch {
		response.ErrorCode = kerr.InvalidProducerEpoch.Code
		return response
	}
	for p := range known.open {
		c.appendLocked(p, marker(known.producer, known.epoch), 1)
	}
	clear(known.open)
	return response
}
