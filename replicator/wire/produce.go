package wire

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
)

// ProduceRequest builds a produce request. It has no transactional id: batches are plain or idempotent. Acks are all in-sync replicas.
type ProduceRequest struct {
	*kmsg.ProduceRequest
	topics map[topicKey]int // index
}

// topicKey names a topic by both of its names: ids are zero on brokers before 2.8.
type topicKey struct {
	name string
	id   [16]byte
}

// NewProduceRequest makes a request without batches. The broker waits for the in-sync replicas for at most timeout.
func NewProduceRequest(timeout time.Duration) *ProduceRequest {
	r := &ProduceRequest{ProduceRequest: kmsg.NewPtrProduceRequest(), topics: make(map[topicKey]int)}
	r.Acks, r.TimeoutMillis = -1, int32(timeout.Milliseconds())
	return r
}

// Add adds the one batch that a request may hold of a partition.
func (r *ProduceRequest) Add(tp offsets.TopicPartition, id [16]byte, batch []byte) {
	key := topicKey{tp.Topic, id}
	i, ok := r.topics[key]
	if !ok {
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

// ProduceAnswer finds the partitions of a produce response.
type ProduceAnswer struct {
	naming naming
	parts  map[partitionKey]*kmsg.ProduceResponseTopicPartition
}

// IndexProduce makes the index of a response.
func IndexProduce(response *kmsg.ProduceResponse) ProduceAnswer {
	a := ProduceAnswer{naming: response.Version >= 13, parts: make(map[partitionKey]*kmsg.ProduceResponseTopicPartition)}
	for i := range response.Topics {
		t := &response.Topics[i]
		for j := range t.Partitions {
			rp := &t.Partitions[j]
			a.parts[a.naming.key(t.Topic, t.TopicID, rp.Partition)] = rp
		}
	}
	return a
}

// Of is what the answer says of a partition, nil if it does not name it: then nothing is known about its batch.
func (a ProduceAnswer) Of(tp offsets.TopicPartition, id [16]byte) *kmsg.ProduceResponseTopicPartition {
	return a.parts[a.naming.key(tp.Topic, id, tp.Partition)]
}
