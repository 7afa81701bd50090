package replicator_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/plan"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// waiting are the partitions of a source topic that wait for a reason.
func waiting(s replicator.Status, topic string, reason replicator.WaitReason) (partitions []int32) {
	for _, p := range replicatortest.Partitions(s, topic) {
		if p.State == "waiting" && p.Wait != nil && p.Wait.Reason == reason {
			partitions = append(partitions, p.Partition)
		}
	}
	return partitions
}

// What a broker leads that cannot be reached at the start is wanted all the same: it has a state, a reason and a series, and the flow is not
// ready. The partitions of the other broker are copied, and those that wait are, once their broker is there.
func TestUnreachableSourceBrokerAtTheStart(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 2)
	c.Source.CreateTopic("orders", 4)
	for partition := range int32(4) {
		if err := c.Source.MoveTopicPartition("orders", partition, partition%2); err != nil {
			t.Fatal(err)
		}
	}
	c.Source.Produce("orders", 4, 10, "before")
	c.Source.Cut(1)
	flow := c.Start()
	s := flow.Until("the partitions of broker 0 are copied, the others wait", func(s replicator.Status) bool {
		copied := 0
		for _, p := range replicatortest.Partitions(s, "orders") {
			if p.State == "replicating" && p.Acked == 10 {
				copied++
			}
		}
		return copied == 2 && len(waiting(s, "orders", replicator.WaitSourceUnreachable)) == 2
	})
	if s.Ready || len(s.NotReady) == 0 {
		t.Errorf("the flow is ready: %+v", s)
	}
	const sentence = "source broker 1 ("
	if !strings.Contains(strings.Join(s.NotReady, "\n"), sentence) || !strings.Contains(s.NotCopied["orders"], sentence) {
		t.Errorf("neither reason names the broker: %q, %q", s.NotReady, s.NotCopied)
	}
	if n := flow.Metric("milena_partitions", "state", "waiting"); n != 2 {
		t.Errorf("milena_partitions counts %v waiting partitions, want 2", n)
	}
	if n := flow.Metric("milena_partition_waiting", "topic", "orders", "reason", "source_unreachable"); n != 2 {
		t.Errorf("milena_partition_waiting has %v series of the topic, want 2", n)
	}
	if n := flow.Metric("milena_ready"); n != 0 {
		t.Errorf("milena_ready is %v", n)
	}
	parsed := c.Config()
	plan, err := plan.Check(t.Context(), client.Clusters{
		Flow: parsed.Flows[0], Source: parsed.Clusters["a"], Target: parsed.Clusters["b"], Log: slog.New(slog.DiscardHandler),
	})
	if err != nil || !strings.Contains(strings.Join(plan.Warnings, "\n"), "broker 1 (") {
		t.Errorf("the check does not warn of the broker: %v, %+v", err, plan)
	}
	c.Source.Restore()
	flow.UntilCopied("orders")
	s = flow.Until("ready", func(s replicator.Status) bool { return s.Ready })
	if len(s.NotCopied) != 0 {
		t.Errorf("still not copied: %v", s.NotCopied)
	}
	flow.Stop()
	c.Verify("orders", "a.orders", 4)
}

// A topic that the target will not have is visible for as long as that lasts, and does not hide that the others are copied.
func TestRefusedTopicIsVisibleAndTheFlowIsReady(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.CreateTopic("secret", 3)
	c.Source.Produce("orders", 1, 10, "before")
	refusal := c.Target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Topic: "a.secret", Err: kerr.PolicyViolation, Count: -1})
	flow := c.Start()
	flow.UntilCopied("orders")
	s := flow.Until("ready without the refused topic", func(s replicator.Status) bool {
		return s.Ready && len(waiting(s, "secret", replicator.WaitTargetRefused)) == 3
	})
	if !strings.Contains(s.NotCopied["secret"], "POLICY_VIOLATION") {
		t.Errorf("the reason is not the broker's: %q", s.NotCopied)
	}
	if n := flow.Metric("milena_topics_not_copied"); n != 1 {
		t.Errorf("milena_topics_not_copied is %v", n)
	}
	refusal.Remove()
	flow.UntilPartitions("secret is copied", "secret", 3, func(p replicator.PartitionStatus) bool { return p.State == "replicating" })
}

// A flow that copies nothing is not ready, whatever the reason is.
func TestNothingIsCopiedIsNotReady(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Topic: "a.orders", Err: kerr.TopicAuthorizationFailed, Count: -1})
	flow := c.Start()
	s := flow.Until("all shards are owned", func(s replicator.Status) bool { return s.Shards["owned"] > 0 && s.Shards["starting"] == 0 })
	if s.Ready || !strings.Contains(strings.Join(s.NotReady, "\n"), "TOPIC_AUTHORIZATION_FAILED") {
		t.Errorf("ready %v: %q", s.Ready, s.NotReady)
	}
}
