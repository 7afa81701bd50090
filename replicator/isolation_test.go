package replicator_test

import (
	"math/rand/v2"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// bulk writes n records of 100 KiB, which do not compress, to each of the first partitions of a topic, and with each round one of ten bytes to
// another topic.
func bulk(c *replicatortest.Cluster, topic string, partitions int32, n int, tiny string) {
	value := make([]byte, 100<<10)
	draw := rand.NewChaCha8([32]byte{})
	_, _ = draw.Read(value) // never fails
	for range n {
		records := []*kgo.Record{{Topic: tiny, Value: []byte("0123456789")}}
		for part := range partitions {
			records = append(records, &kgo.Record{Topic: topic, Partition: part, Value: value})
		}
		c.Write(records...)
	}
}

// A partition whose batches are refused holds no memory that its neighbours need, although its records arrive in the same responses.
func TestRefusedPartitionDoesNotStopOthers(t *testing.T) {
	for _, refusal := range []*kerr.Error{kerr.NotEnoughReplicas, kerr.TopicAuthorizationFailed, kerr.UnknownTopicOrPartition} {
		t.Run(refusal.Message, func(t *testing.T) {
			t.Parallel()
			c := replicatortest.NewClusters(t, 1)
			c.Buffer = 8 << 20
			c.Source.CreateTopic("tiny", 1)
			c.Source.CreateTopic("busy", 4)
			flow := c.Start()
			flow.UntilReady()
			fault := c.Target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "a.tiny", Err: refusal, Count: 1_000_000})
			bulk(c.Source, "busy", 4, 60, "tiny")
			flow.UntilCopied("busy")
			if err := fault.Wait(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			tiny := replicatortest.Partitions(flow.Status(), "tiny")[0]
			if tiny.Acked != 0 {
				t.Errorf("%d records of the refused partition are acknowledged", tiny.Acked)
			}
			if tiny.Wait == nil || tiny.Wait.Reason != replicator.WaitTargetRefused {
				t.Errorf("the refused partition waits for %+v", tiny.Wait)
			}
			fault.Remove()
			flow.UntilCopied("tiny")
			c.Verify("tiny", "a.tiny", 1)
			c.Verify("busy", "a.busy", 4)
		})
	}
}

// A broker that does not answer has its part of the budget, and the partitions of the others have the rest.
func TestHungTargetBrokerDoesNotStopOthers(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 3)
	c.Buffer = 8 << 20
	c.Source.CreateTopic("stuck", 16)
	c.Source.CreateTopic("busy", 4)
	for part := range int32(16) { // all are fetched by one loop
		if err := c.Source.MoveTopicPartition("stuck", part, 0); err != nil {
			t.Fatal(err)
		}
	}
	for part := range int32(4) {
		if err := c.Source.MoveTopicPartition("busy", part, 0); err != nil {
			t.Fatal(err)
		}
	}
	flow := c.Start()
	flow.UntilReady()
	for part := range int32(16) {
		if err := c.Target.MoveTopicPartition("a.stuck", part, 2); err != nil {
			t.Fatal(err)
		}
	}
	for part := range int32(4) {
		if err := c.Target.MoveTopicPartition("a.busy", part, part%2); err != nil {
			t.Fatal(err)
		}
	}
	c.Source.Produce("stuck", 16, 1, "before")
	c.Source.Produce("busy", 4, 1, "before")
	flow.UntilCopied("stuck")
	flow.UntilCopied("busy")
	c.Target.SpoilTopic(kmsg.Produce, "a.stuck", replicatortest.NeverRespond, 1_000_000)
	bulk(c.Source, "stuck", 16, 10, "stuck")
	bulk(c.Source, "busy", 4, 60, "stuck")
	flow.UntilCopied("busy")
	c.Target.Spoil(kmsg.Produce, nil, replicatortest.NeverRespond, 0)
	flow.UntilCopied("stuck")
	flow.Stop()
	c.Verify("stuck", "a.stuck", 16)
	c.Verify("busy", "a.busy", 4)
}
