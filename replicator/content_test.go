package replicator_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// Transactions commit and abort in turn while another producer writes to the same partitions. Aborted records are not copied.
func TestAbortedRecordsAreNotCopied(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 2)
	writer := c.Source.Transactions("orders-writer")
	flow := c.Start()
	for n := range 10 {
		writer.Begin()
		end := kgo.TryCommit
		word := "committed"
		if n%2 == 1 {
			end, word = kgo.TryAbort, "aborted"
		}
		for i := range 10 {
			writer.Write(&kgo.Record{Topic: "orders", Partition: int32(i % 2), Value: fmt.Appendf(nil, "%s-%d-%d", word, n, i)})
		}
		c.Source.Produce("orders", 2, 3, fmt.Sprintf("other-%d", n))
		writer.End(end)
	}
	flow.UntilCopied("orders")
	flow.Stop()
	c.Verify("orders", "a.orders", 2) // it reads committed records of the source and all records of the target
	if got := c.Target.Texts("a.orders", 2); len(got[0]) != 5*5+30 {
		t.Errorf("partition 0 of the copy has %d records, want 25 of transactions and 30 others", len(got[0]))
	}
	flow = c.Start() // markers at the end do not confuse a restart
	c.Source.Produce("orders", 2, 5, "later")
	flow.UntilCopied("orders")
	c.Verify("orders", "a.orders", 2)
}

func TestCompactedTopicWithHoles(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1, "cleanup.policy", "compact")
	for round := range 5 {
		var records []*kgo.Record
		for i := range 20 {
			if round == 0 || i%(round+1) == 0 {
				records = append(records, &kgo.Record{Topic: "orders", Key: fmt.Appendf(nil, "%d", i), Value: fmt.Appendf(nil, "%d-%d", round, i)})
			}
		}
		c.Source.Write(records...)
	}
	c.Source.Compact()
	flow := c.Start()
	flow.UntilCopied("orders")
	if flow.Metric("milena_batches_total", "lane", "rebuild") == 0 {
		t.Error("no batch was rebuilt: the source has no holes, and this test shows nothing")
	}
	flow.Stop()
	c.Verify("orders", "a.orders", 1)
	flow = c.Start()
	c.Source.Produce("orders", 1, 5, "later")
	flow.UntilCopied("orders")
	c.Verify("orders", "a.orders", 1)
}

func TestTopicGrows(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 2)
	c.Source.Produce("orders", 2, 10, "before")
	flow := c.Start()
	flow.UntilCopied("orders")
	c.Source.AddPartitions("orders", 5)
	c.Source.Produce("orders", 5, 10, "after")
	flow.UntilCopied("orders")
	c.Verify("orders", "a.orders", 5)
}

func TestTwoHundredTopicsAppearAtOnce(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	flow := c.Start()
	flow.UntilReady()
	var records []*kgo.Record
	for n := range 200 {
		topic := fmt.Sprintf("topic-%d", n)
		c.Source.CreateTopic(topic, 1)
		records = append(records, &kgo.Record{Topic: topic, Value: []byte(topic)})
	}
	c.Source.Write(records...)
	flow.Until("every topic has its record", func(s replicator.Status) bool {
		copied := 0
		for _, p := range s.Partitions {
			if strings.HasPrefix(p.Topic, "topic-") && p.Acked == 1 {
				copied++
			}
		}
		return copied == 200 && s.Records >= 200
	})
	flow.Stop()
	for n := range 200 {
		if info := c.Target.PartitionInfo(fmt.Sprintf("a.topic-%d", n), 0); info == nil || info.HighWatermark != 1 {
			t.Fatalf("a.topic-%d has %+v, want one record", n, info)
		}
	}
}

// Start latest: records from before the first start are not copied; a topic that appears later is copied from its beginning.
func TestStartLatest(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 10, "before")
	latest := func(f *config.Flow) { f.Start = config.StartLatest }
	flow := c.Start(latest)
	flow.UntilReady()
	flow.UntilPartitions("the partition is replicating", "orders", 1, func(p replicator.PartitionStatus) bool { return p.State == "replicating" })
	c.Source.Produce("orders", 1, 10, "after")
	c.Source.CreateTopic("late", 1)
	c.Source.Produce("late", 1, 10, "late")
	flow.UntilCopied("orders")
	flow.UntilCopied("late")
	c.Verify("late", "a.late", 1)
	replicatortest.MustEqual(t, "the copy", c.Source.Texts("orders", 1)[0][10:], c.Target.Texts("a.orders", 1)[0])
	flow.Stop()
	c.Source.Produce("orders", 1, 10, "meanwhile")
	flow = c.Start(latest) // a restart continues where it stopped
	flow.UntilCopied("orders")
	replicatortest.MustEqual(t, "the copy", c.Source.Texts("orders", 1)[0][10:], c.Target.Texts("a.orders", 1)[0])
}

// A flow leaves no goroutines behind, whether it is stopped or taken over.
func TestNoGoroutineOutlivesItsFlow(t *testing.T) { // not parallel: the flows of other tests have goroutines too
	c := replicatortest.NewClusters(t, 2)
	c.Source.CreateTopic("orders", 4)
	c.Source.Produce("orders", 4, 10, "before")
	clients := goroutines(ofClients) // of the test itself
	first := c.Start(replicatortest.OneInstance)
	first.UntilReady()
	first.UntilAcked("orders", 40)
	second := c.Start(replicatortest.OneInstance)
	if err := first.Wait(); err == nil {
		t.Error("the first instance ended without an error")
	}
	second.UntilReady()
	if len(goroutines(ofFlows)) == 0 {
		t.Error("no goroutine of a running flow is found: this test shows nothing")
	}
	second.Stop()
	if left := goroutines(ofFlows); len(left) > 0 {
		t.Errorf("goroutines of the flow are left:\n%s", strings.Join(left, "\n\n"))
	}
	replicatortest.Eventually(t, "the clients of the flow are gone", func() (bool, string) { // Close does not wait for their loops
		left := goroutines(ofClients)
		return len(left) <= len(clients), strings.Join(left, "\n\n")
	})
	c.Verify("orders", "a.orders", 4)
}

func ofClients(function string) bool { return strings.Contains(function, "kgo.NewClient") }

// ofFlows matches the functions of package replicator and the packages below it.
func ofFlows(function string) bool {
	rest, ok := strings.CutPrefix(strings.TrimPrefix(function, "created by "), "github.com/milena-kafka/milena/replicator")
	return ok && (rest[0] == '.' || rest[0] == '/') && !strings.HasPrefix(rest, "/replicatortest.")
}

// goroutines returns the stacks that contain a function for which match returns true.
func goroutines(match func(function string) bool) []string {
	stacks := make([]byte, 8<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	var found []string
	for stack := range strings.SplitSeq(string(stacks), "\n\n") {
		if slices.ContainsFunc(strings.Split(stack, "\n"), match) { // lines with file names begin with a tab
			found = append(found, stack)
		}
	}
	return found
}

// The first topic of a source that had no topics at the start is copied from its beginning too.
func TestLatestCopiesALaterTopicFromItsBeginning(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	flow := c.Start(func(f *config.Flow) { f.Start = config.StartLatest })
	flow.UntilReady()
	c.Source.CreateTopic("news", 1)
	c.Source.Produce("news", 1, 10, "first")
	flow.UntilAcked("news", 10)
	c.Verify("news", "a.news", 1)
}
