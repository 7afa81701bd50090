package wire

import (
	"testing"
	"time"

	"github.com/milena-kafka/milena/offsets"
)

// A broker with ZooKeeper and an old inter.broker.protocol.version offers versions with topic ids, but has no ids.
func TestOneTopicWithoutAnIDMakesARequestGoByName(t *testing.T) {
	known, unknown := [16]byte{1}, [16]byte{}
	orders, payments := offsets.TopicPartition{Topic: "orders"}, offsets.TopicPartition{Topic: "payments"}
	for name, tt := range map[string]struct {
		first, second [16]byte
		byName        bool
	}{
		"all have ids": {known, [16]byte{2}, false},
		"none has":     {unknown, unknown, true},
		"one has none": {known, unknown, true},
	} {
		t.Run(name, func(t *testing.T) {
			fetch := NewFetchRequest(time.Second, 1, ReadUncommitted)
			fetch.Add(FetchPartition{TopicPartition: orders, FetchOffset: FetchOffset{TopicID: tt.first}})
			fetch.Add(FetchPartition{TopicPartition: payments, FetchOffset: FetchOffset{TopicID: tt.second}})
			produce := NewProduceRequest(time.Second)
			produce.Add(orders, tt.first, []byte("to orders"))
			produce.Add(payments, tt.second, []byte("to payments"))
			for request, version := range map[string]int16{"fetch": fetch.MaxVersion(), "produce": produce.MaxVersion()} {
				if version < firstVersionByID != tt.byName {
					t.Errorf("%s has version %d", request, version)
				}
			}
			if fetch.Timeout() != 1000 {
				t.Errorf("the client waits for %d ms beyond its own timeout", fetch.Timeout())
			}
			for _, topic := range produce.Topics {
				if len(topic.Partitions) != 1 || string(topic.Partitions[0].Records) != "to "+topic.Topic {
					t.Errorf("topic %s gets %v", topic.Topic, topic.Partitions)
				}
			}
			if len(fetch.Topics) != 2 || len(produce.Topics) != 2 {
				t.Errorf("%d and %d topics, want 2 and 2", len(fetch.Topics), len(produce.Topics))
			}
		})
	}
}
