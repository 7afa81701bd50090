package replicator_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// holdProduce holds the first request that writes to a topic of the target until release is closed. Then it is answered with an error without being
// written, or handled if that is nil. It returns how many such requests have arrived.
func holdProduce(c *replicatortest.Cluster, topic string, release <-chan struct{}, with *kerr.Error) *atomic.Int64 {
	id, arrived := c.TopicInfo(topic).TopicID, new(atomic.Int64)
	c.ControlKey(int16(kmsg.Produce), func(k kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		request := k.(*kmsg.ProduceRequest)
		if len(request.Topics) != 1 || request.Topics[0].TopicID != id {
			return nil, nil, false
		}
		if arrived.Add(1) > 1 {
			return nil, nil, false
		}
		c.SleepControl(func() { <-release })
		if with == nil {
			return nil, nil, false
		}
		response := request.ResponseKind().(*kmsg.ProduceResponse)
		rt := kmsg.NewProduceResponseTopic()
		rt.TopicID = id
		for _, p := range request.Topics[0].Partitions {
			rp := kmsg.NewProduceResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, with.Code
			rt.Partitions = append(rt.Partitions, rp)
		}
		response.Topics = append(response.Topics, rt)
		return response, nil, true
	})
	return arrived
}

// A stop waits for the batch in flight, whatever its outcome, and discards those that wait behind it. The next start copies them.
func TestStopDiscardsWhatWasNotSent(t *testing.T) {
	for _, test := range []struct {
		name   string
		with   *kerr.Error
		copied int64
	}{
		{"acknowledged", nil, 1},
		{"refused", kerr.NotEnoughReplicas, 0},
		{"doubtful", kerr.RequestTimedOut, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			const records = 100
			c := replicatortest.NewClusters(t, 1)
			c.Source.CreateTopic("orders", 1)
			flow := c.Start(func(f *config.Flow) { f.Heartbeats = false }) // or a batch of theirs may be in flight too
			flow.UntilCopied("orders")
			release := make(chan struct{})
			arrived := holdProduce(c.Target, "a.orders", release, test.with)
			for n := range records { // a batch each
				c.Source.Write(&kgo.Record{Topic: "orders", Value: fmt.Append(nil, n)})
			}
			flow.UntilPartitions("all batches are queued", "orders", 1, func(p replicator.PartitionStatus) bool { return p.Next == records })
			replicatortest.Eventually(t, "one is in flight", func() (bool, string) { return arrived.Load() > 0, "" })
			flow.Cancel()
			flow.UntilLogged("msg=stopping flow=a-b batches_in_flight=1\n")
			close(release)
			if err := flow.Wait(); err != nil {
				t.Fatal(err)
			}
			if n := arrived.Load(); n != 1 {
				t.Errorf("%d batches were sent, want the first one", n)
			}
			if orders := replicatortest.Partitions(flow.Status(), "orders")[0]; orders.Acked != test.copied || orders.Journaled != test.copied {
				t.Errorf("acknowledged %d, journaled %d, want %d", orders.Acked, orders.Journaled, test.copied)
			}
			flow = c.Start()
			flow.UntilCopied("orders")
			c.Verify("orders", "a.orders", 1)
		})
	}
}
