package main

import (
	"math"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// transactional is a transactional id.
type transactional struct {
	producer int64
	epoch    int16
	open     map[*partition]bool // partitions of the transaction
}

// initProducer gives a transactional id its next epoch. A request that names a producer id and an epoch is refused unless they are the newest
// (KIP-360). An open transaction is aborted with an epoch in between, and the request is to be sent again.
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
	switch {
	case t == nil:
		c.producers++
		t = &transactional{producer: c.producers, epoch: -1, open: make(map[*partition]bool)}
		c.ids[*request.TransactionalID] = t
	case request.ProducerID >= 0 && (request.ProducerID != t.producer || request.ProducerEpoch != t.epoch):
		response.ProducerID, response.ProducerEpoch, response.ErrorCode = -1, -1, fenced(request.Version, 4)
		return response
	}
	t.epoch++
	if len(t.open) > 0 {
		c.abort(t) // with an epoch that no producer gets
		response.ProducerID, response.ProducerEpoch, response.ErrorCode = -1, -1, kerr.ConcurrentTransactions.Code
		return response
	}
	if t.epoch == math.MaxInt16 {
		c.producers++
		t.producer, t.epoch = c.producers, 0
	}
	response.ProducerID, response.ProducerEpoch = t.producer, t.epoch
	return response
}

// fenced is the code of the error for an older epoch, in a request with a version; those from one version on have their own.
func fenced(version, from int16) int16 {
	if version >= from {
		return kerr.ProducerFenced.Code
	}
	return kerr.InvalidProducerEpoch.Code
}

// abort writes the markers of the open transaction, if there is one. The cluster's lock is held.
func (c *cluster) abort(t *transactional) {
	for p := range t.open {
		p.producer(t.producer).mark(t.epoch)
		c.appendLocked(p, marker(t.producer, t.epoch), 1)
	}
	clear(t.open)
}

// of returns the transactional id of a request, or the code of the error for which it is refused.
func (c *cluster) of(id string, producer int64, epoch, version int16) (*transactional, int16) {
	switch t := c.ids[id]; {
	case t == nil || t.producer != producer:
		return nil, kerr.InvalidProducerIDMapping.Code
	case t.epoch != epoch:
		return nil, fenced(version, 2)
	default:
		return t, 0
	}
}

func (c *cluster) addPartitions(request *kmsg.AddPartitionsToTxnRequest) kmsg.Response {
	response := request.ResponseKind().(*kmsg.AddPartitionsToTxnResponse)
	c.mu.Lock()
	defer c.mu.Unlock()
	known, code := c.of(request.TransactionalID, request.ProducerID, request.ProducerEpoch, request.Version)
	refused := false
	for _, t := range request.Topics {
		rt := kmsg.NewAddPartitionsToTxnResponseTopic()
		rt.Topic = t.Topic
		for _, n := range t.Partitions {
			rp := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
			rp.Partition, rp.ErrorCode = n, code
			if code == 0 && c.find(t.Topic, [16]byte{}, n) == nil {
				rp.ErrorCode, refused = kerr.UnknownTopicOrPartition.Code, true
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		response.Topics = append(response.Topics, rt)
	}
	for i, t := range response.Topics {
		for j := range t.Partitions {
			rp := &response.Topics[i].Partitions[j]
			switch {
			case code != 0 || rp.ErrorCode != 0:
			case refused:
				rp.ErrorCode = kerr.OperationNotAttempted.Code
			default:
				known.open[c.find(t.Topic, [16]byte{}, rp.Partition)] = true
			}
		}
	}
	return response
}

// endTransaction writes the markers before it answers. It knows no commits, because nobody here commits.
func (c *cluster) endTransaction(request *kmsg.EndTxnRequest) kmsg.Response {
	response := request.ResponseKind().(*kmsg.EndTxnResponse)
	c.mu.Lock()
	defer c.mu.Unlock()
	known, code := c.of(request.TransactionalID, request.ProducerID, request.ProducerEpoch, request.Version)
	switch {
	case code != 0:
		response.ErrorCode = code
	case request.Commit:
		response.ErrorCode = kerr.InvalidTxnState.Code
	default:
		c.abort(known)
	}
	return response
}

// producer is what a partition knows of a producer id.
type producer struct {
	epoch int16
	next  int32 // sequence of the next batch
	last  int32 // sequence of the last batch, -1 if there is none in this epoch
	base  int64 // offset of the last batch
}

func (p *partition) producer(id int64) *producer {
	if p.producers == nil {
		p.producers = make(map[int64]*producer)
	}
	known := p.producers[id]
	if known == nil {
		known = &producer{epoch: -1, last: -1}
		p.producers[id] = known
	}
	return known
}

// mark notes a marker: from now on only this epoch or a newer one may write.
func (r *producer) mark(epoch int16) { r.epoch, r.next, r.last = epoch, 0, -1 }

// admit checks the epoch and the sequence of a batch. It returns the code of the error for which the batch is refused, or that it is there already.
func (r *producer) admit(epoch int16, sequence int32) (code int16, duplicate bool) {
	switch {
	case epoch < r.epoch:
		return kerr.InvalidProducerEpoch.Code, false
	case epoch == r.epoch && r.last >= 0 && sequence == r.last:
		return 0, true
	case epoch == r.epoch && sequence != r.next, epoch > r.epoch && r.epoch >= 0 && sequence != 0:
		return kerr.OutOfOrderSequenceNumber.Code, false
	}
	return 0, false
}

// wrote notes a batch that was appended.
func (r *producer) wrote(epoch int16, sequence int32, records, base int64) {
	r.epoch, r.last, r.base = epoch, sequence, base
	r.next = int32((int64(sequence) + records) & math.MaxInt32)
}
