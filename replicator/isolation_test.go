package replicator_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
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

// A topic without rights stays outside the fence of its shard, and the others of the shard are copied.
func TestUnauthorizedTopicStaysOutsideTheFence(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("closed", 1)
	c.Source.CreateTopic("open", 1)
	c.Source.Produce("closed", 1, 10, "before")
	c.Source.Produce("open", 1, 10, "before")
	oneShard := func(f *config.Flow) { f.Shards = 1 }
	flow := c.Start(oneShard)
	flow.UntilCopied("closed")
	flow.UntilCopied("open")
	flow.Stop()
	var granted atomic.Bool
	c.Target.ControlKey(int16(kmsg.AddPartitionsToTxn), func(request kmsg.Request) (kmsg.Response, error, bool) {
		c.Target.KeepControl()
		add := request.(*kmsg.AddPartitionsToTxnRequest)
		names := func(t kmsg.AddPartitionsToTxnRequestTopic) bool { return t.Topic == "a.closed" }
		if granted.Load() || !slices.ContainsFunc(add.Topics, names) {
			return nil, nil, false
		}
		response := request.ResponseKind().(*kmsg.AddPartitionsToTxnResponse)
		for _, topic := range add.Topics {
			code := kerr.OperationNotAttempted.Code
			if names(topic) {
				code = kerr.TopicAuthorizationFailed.Code
			}
			rt := kmsg.NewAddPartitionsToTxnResponseTopic()
			rt.Topic = topic.Topic
			for _, p := range topic.Partitions {
				rp := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p, code
				rt.Partitions = append(rt.Partitions, rp)
			}
			response.Topics = append(response.Topics, rt)
		}
		return response, nil, true
	})
	c.Source.Produce("closed", 1, 10, "after")
	c.Source.Produce("open", 1, 10, "after")
	flow = c.Start(oneShard)
	flow.UntilCopied("open")
	flow.Until("the closed topic waits for the right", func(s replicator.Status) bool {
		closed := replicatortest.Partitions(s, "closed")
		return len(closed) == 1 && closed[0].Wait != nil && strings.Contains(closed[0].Wait.Detail, "grant WRITE on topic a.closed")
	})
	granted.Store(true)
	flow.UntilCopied("closed")
	flow.Stop()
	c.Verify("closed", "a.closed", 1)
	c.Verify("open", "a.open", 1)
}

// More shards than there are slots for takeovers cannot be fenced, because their earlier transactions are never completed. The others are
// taken over, and new topics of the stuck shards do not use up what the others need.
func TestStuckShardsDoNotStopOthers(t *testing.T) {
	t.Parallel()
	const partitions, stuck = 40, 12
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", partitions)
	c.Source.Produce("orders", partitions, 1, "before")
	var completed atomic.Bool
	c.Target.ControlKey(int16(kmsg.InitProducerID), func(request kmsg.Request) (kmsg.Response, error, bool) {
		c.Target.KeepControl()
		id := request.(*kmsg.InitProducerIDRequest).TransactionalID
		if id == nil || completed.Load() {
			return nil, nil, false
		}
		if number, _ := strconv.Atoi((*id)[strings.LastIndex(*id, ".")+1:]); number == 0 || number > stuck {
			return nil, nil, false
		}
		response := request.ResponseKind().(*kmsg.InitProducerIDResponse)
		response.ErrorCode = kerr.ConcurrentTransactions.Code
		return response, nil, true
	})
	flow := c.Start(func(f *config.Flow) { f.Shards = partitions })
	flow.Until("all partitions but those of the stuck shards are copied", func(s replicator.Status) bool {
		n := 0
		for _, p := range replicatortest.Partitions(s, "orders") {
			if p.Acked == 1 {
				n++
			}
		}
		return n >= partitions-stuck
	})
	for n := range 10 { // each has partitions in stuck shards
		c.Source.CreateTopic(fmt.Sprintf("new-%d", n), partitions)
	}
	last := "new-9"
	c.Source.Produce(last, partitions, 1, "new")
	flow.Until("the last new topic is copied, but for the stuck shards", func(s replicator.Status) bool {
		n := 0
		for _, p := range replicatortest.Partitions(s, last) {
			if p.Acked == 1 {
				n++
			}
		}
		return n >= partitions-stuck
	})
	flow.Until("a stuck partition says why", func(s replicator.Status) bool {
		return slices.ContainsFunc(replicatortest.Partitions(s, "orders"), func(p replicator.PartitionStatus) bool {
			return p.Wait != nil && strings.Contains(p.Wait.Detail, "an earlier fence is not completed")
		})
	})
	completed.Store(true)
	flow.UntilCopied("orders")
	flow.UntilCopied(last)
	flow.Stop()
	c.Verify("orders", "a.orders", partitions)
}

// The recovery of a partition ends with its topic, although the end of the copy cannot be read.
func TestRecoveryEndsWithItsTopic(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("gone", 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("gone", 1, 10, "before")
	c.Source.Produce("orders", 1, 10, "before")
	flow := c.Start()
	flow.UntilCopied("gone")
	flow.UntilCopied("orders")
	flow.Stop()
	fault := c.Target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: "a.gone", Err: kerr.NotLeaderForPartition, Count: -1})
	flow = c.Start()
	flow.UntilPartitions("the end of the copy is being read", "gone", 1, func(p replicator.PartitionStatus) bool { return p.State == "recovering" })
	c.Source.DeleteTopic("gone")
	done := flow.Metric("milena_takeovers_total", "result", "done")
	flow.Until("the takeover ends", func(s replicator.Status) bool {
		return s.Ready && len(replicatortest.Partitions(s, "gone")) == 0 && flow.Metric("milena_takeovers_total", "result", "done") > done
	})
	if fault.Remove(); flow.Metric("milena_takeovers_total", "result", "failed") > 0 {
		t.Error("a takeover failed")
	}
	c.Source.Produce("orders", 1, 10, "after")
	flow.UntilCopied("orders")
	c.Verify("orders", "a.orders", 1)
}
