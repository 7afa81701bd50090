package wire

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// MaxFetchBytes is the default limit of one fetch response. A broker exceeds it if the first batch is larger (KIP-74).
const MaxFetchBytes = 8 << 20

// Isolation levels of a fetch (KIP-98).
const (
	ReadUncommitted int8 = 0
	ReadCommitted   int8 = 1
)

// FetchOffset is where a partition is fetched from: everything that a fetch request says about a partition, and that a session remembers.
type FetchOffset struct {
	TopicID     [16]byte
	Offset      int64 // first offset to return, inclusive
	LeaderEpoch int32 // expected epoch of the leader, -1 if unknown (KIP-320)
	// LastEpoch is the leader epoch of the record before Offset, -1 if unknown. It lets the broker report a truncation even after its log
	// has grown past Offset again.
	LastEpoch int32
	MaxBytes  int32
}

// FetchPartition is one partition of a fetch request.
type FetchPartition struct {
	offsets.TopicPartition
	FetchOffset
}

// FetchRequest builds a fetch request. Without [Session.Request] it uses no session, which suits a request that is not repeated. It is sent
// by itself, not by the request that it holds.
type FetchRequest struct {
	*kmsg.FetchRequest
	topics map[topicKey]int // index by key
	naming naming
}

// NewFetchRequest creates a request without partitions. The broker answers as soon as it has any record, at the latest after wait. The
// response is limited to maxBytes.
func NewFetchRequest(wait time.Duration, maxBytes int32, isolation int8) *FetchRequest {
	r := &FetchRequest{FetchRequest: kmsg.NewPtrFetchRequest(), topics: make(map[topicKey]int), naming: byID}
	r.MaxWaitMillis, r.MinBytes, r.MaxBytes = int32(wait.Milliseconds()), 1, maxBytes
	r.IsolationLevel, r.SessionEpoch = isolation, -1
	return r
}

// Add adds one partition. A broker fills its response in the order of the request.
func (r *FetchRequest) Add(p FetchPartition) {
	key := topicKey{p.Topic, p.TopicID}
	i, ok := r.topics[key]
	if !ok {
		r.naming = r.naming.with(p.TopicID)
		t := kmsg.NewFetchRequestTopic()
		t.Topic, t.TopicID = p.Topic, p.TopicID
		i = len(r.Topics)
		r.topics[key] = i
		r.Topics = append(r.Topics, t)
	}
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes = p.Partition, p.Offset, p.MaxBytes
	rp.CurrentLeaderEpoch, rp.LastFetchedEpoch = p.LeaderEpoch, p.LastEpoch
	r.Topics[i].Partitions = append(r.Topics[i].Partitions, rp)
}

// MaxVersion implements [kmsg.Request].
func (r *FetchRequest) MaxVersion() int16 { return r.naming.cap(r.FetchRequest.MaxVersion()) }

// Timeout implements [kmsg.TimeoutRequest]: the client waits this much longer for the response.
func (r *FetchRequest) Timeout() int32 { return r.MaxWaitMillis }

// FetchIndex finds partitions in a fetch response.
type FetchIndex struct {
	// Bytes is the total size of the batches in the response.
	Bytes  int64
	naming naming
	parts  map[partitionKey]*kmsg.FetchResponseTopicPartition
}

// IndexFetch indexes a fetch response. The index refers to the response.
func IndexFetch(response *kmsg.FetchResponse) FetchIndex {
	a := FetchIndex{naming: namingOf(response.Version)}
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

// Of returns the part of the response about one partition, nil if there is none.
func (a FetchIndex) Of(tp offsets.TopicPartition, id [16]byte) *kmsg.FetchResponseTopicPartition {
	if len(a.parts) == 0 {
		return nil
	}
	return a.parts[a.naming.key(tp.Topic, id, tp.Partition)]
}

// AbortedOf returns the aborted transactions that a read_committed response lists.
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
