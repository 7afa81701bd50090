package wire

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// MaxFetchBytes is the most that one answer should hold. A broker exceeds it for a first batch that is larger (KIP-74).
const MaxFetchBytes = 8 << 20

// Isolation levels of a fetch (KIP-98).
const (
	ReadUncommitted int8 = 0
	ReadCommitted   int8 = 1
)

// FetchOffset is where a partition is fetched from: all that a fetch request says of a partition, and all that a session remembers.
type FetchOffset struct {
	TopicID     [16]byte
	Offset      int64 // the first to return
	LeaderEpoch int32 // of the leader that is asked, -1 unknown (KIP-320)
	// LastEpoch is the leader epoch of the record before Offset, -1 unknown. With it the broker reports a truncation even when its log has
	// grown past Offset again.
	LastEpoch int32
	MaxBytes  int32
}

// FetchPartition is one partition of a fetch request.
type FetchPartition struct {
	offsets.TopicPartition
	FetchOffset
}

// FetchRequest builds a fetch request. It begins without a session, which suits a request that is not repeated.
type FetchRequest struct {
	*kmsg.FetchRequest
	topics map[string]int // index by name
}

// NewFetchRequest makes a request without partitions. The broker answers as soon as it has any record, at the latest after wait.
func NewFetchRequest(wait time.Duration, maxBytes int32, isolation int8) *FetchRequest {
	r := &FetchRequest{FetchRequest: kmsg.NewPtrFetchRequest(), topics: make(map[string]int)}
	r.MaxWaitMillis, r.MinBytes, r.MaxBytes = int32(wait.Milliseconds()), 1, maxBytes
	r.IsolationLevel, r.SessionEpoch = isolation, -1
	return r
}

// Add asks for one partition. A broker fills its answer in the order of the request.
func (r *FetchRequest) Add(p FetchPartition) {
	i, ok := r.topics[p.Topic]
	if !ok {
		t := kmsg.NewFetchRequestTopic()
		t.Topic, t.TopicID = p.Topic, p.TopicID
		i = len(r.Topics)
		r.topics[p.Topic] = i
		r.Topics = append(r.Topics, t)
	}
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes = p.Partition, p.Offset, p.MaxBytes
	rp.CurrentLeaderEpoch, rp.LastFetchedEpoch = p.LeaderEpoch, p.LastEpoch
	r.Topics[i].Partitions = append(r.Topics[i].Partitions, rp)
}

// partitionKey names a partition as an answer does: by the id of its topic from version 13 on, by its name before.
type partitionKey struct {
	id        [16]byte
	partition int32
	name      string
}

// naming is how the version of an answer names topics.
type naming bool

const byID naming = true

func (n naming) key(name string, id [16]byte, partition int32) partitionKey {
	if n == byID {
		return partitionKey{id: id, partition: partition}
	}
	return partitionKey{name: name, partition: partition}
}

// FetchAnswer finds the partitions of a fetch response.
type FetchAnswer struct {
	// Bytes is the size of all batches in the answer.
	Bytes  int64
	naming naming
	parts  map[partitionKey]*kmsg.FetchResponseTopicPartition
}

// IndexFetch makes the index of a response.
func IndexFetch(response *kmsg.FetchResponse) FetchAnswer {
	a := FetchAnswer{naming: response.Version >= 13}
	if len(response.Topics) > 0 {
		a.parts = make(map[partitionKey]*kmsg.FetchResponseTopicPartition)
	}
	for i := range response.Topics {
		t := &response.Topics[i]
		for j := range t.Partitions {
			rp := &t.Partitions[j]
			a.Bytes += int64(len(rp.RecordBatches))
			a.parts[a.naming.key(t.Topic, t.TopicID, rp.Partition)] = rp
		}
	}
	return a
}

// Of is what the answer says of a partition, nil if it does not name it.
func (a FetchAnswer) Of(tp offsets.TopicPartition, id [16]byte) *kmsg.FetchResponseTopicPartition {
	if len(a.parts) == 0 {
		return nil
	}
	return a.parts[a.naming.key(tp.Topic, id, tp.Partition)]
}

// AbortedOf are the aborted transactions that a read_committed answer names.
func AbortedOf(rp *kmsg.FetchResponseTopicPartition) recordbatch.Aborted {
	if len(rp.AbortedTransactions) == 0 {
		return recordbatch.Aborted{}
	}
	list := make([]recordbatch.AbortedTransaction, 0, len(rp.AbortedTransactions))
	for _, t := range rp.AbortedTransactions {
		list = append(list, recordbatch.AbortedTransaction{ProducerID: t.ProducerID, FirstOffset: t.FirstOffset})
	}
	return recordbatch.NewAborted(list)
}
