package wire

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
)

// ProduceRequest builds a produce request with acks=all and without a transactional id: its batches are plain or idempotent. It is sent by
// itself, not by the request that it holds.
type ProduceRequest struct {
	*kmsg.ProduceRequest
	// Permit is asked before each part of the request is written on a connection for batches, as [Access].Guard is; nil permits everything.
	Permit func() error

	topics map[topicKey]int // index by key
	naming naming
}

// NewProduceRequest creates a request without batches. The broker waits for the in-sync replicas for at most timeout.
func NewProduceRequest(timeout time.Duration) *ProduceRequest {
	r := &ProduceRequest{ProduceRequest: kmsg.NewPtrProduceRequest(), topics: make(map[topicKey]int), naming: byID}
	r.Acks, r.TimeoutMillis = -1, int32(timeout.Milliseconds())
	return r
}

// Add adds a batch. A request may hold one batch per partition.
func (r *ProduceRequest) Add(tp offsets.TopicPartition, id [16]byte, batch []byte) {
	key := topicKey{tp.Topic, id}
	i, ok := r.topics[key]
	if !ok {
		r.naming = r.naming.with(id)
		t := kmsg.NewProduceRequestTopic()
		t.Topic, t.TopicID = tp.Topic, id
		i = len(r.Topics)
		r.topics[key] = i
		r.Topics = append(r.Topics, t)
	}
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Partition, rp.Records = tp.Partition, batch
	r.Topics[i].Partitions = append(r.Topics[i].Partitions, rp)
}

// MaxVersion implements [kmsg.Request].
func (r *ProduceRequest) MaxVersion() int16 { return r.naming.cap(r.ProduceRequest.MaxVersion()) }

// ProduceIndex finds partitions in a produce response.
type ProduceIndex struct {
	naming naming
	parts  map[partitionKey]*kmsg.ProduceResponseTopicPartition
}

// IndexProduce indexes a produce response. The index refers to the response.
func IndexProduce(response *kmsg.ProduceResponse) ProduceIndex {
	a := ProduceIndex{naming: namingOf(response.Version), parts: make(map[partitionKey]*kmsg.ProduceResponseTopicPartition)}
	for i := range response.Topics {
		t := &response.Topics[i]
		for j := range t.Partitions {
			rp := &t.Partitions[j]
			a.parts[a.naming.key(t.Topic, t.TopicID, rp.Partition)] = rp
		}
	}
	return a
}

// Of returns the part of the response about one partition, nil if there is none: it is then unknown whether the batch was written.
func (a ProduceIndex) Of(tp offsets.TopicPartition, id [16]byte) *kmsg.ProduceResponseTopicPartition {
	return a.parts[a.naming.key(tp.Topic, id, tp.Partition)]
}
