package replicator_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
)

// Transactions end in turn with a commit and an abort, while others write beside them: what was aborted never arrives.
func TestAbortedRecordsDoNotArrive(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 2)
	writer, err := kgo.NewClient(kgo.SeedBrokers(p.source.ListenAddrs()...), kgo.TransactionalID("orders-writer"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	r := p.start(nil)
	for n := range 10 {
		if err := writer.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		end := kgo.TryCommit
		word := "committed"
		if n%2 == 1 {
			end, word = kgo.TryAbort, "aborted"
		}
		for i := range 10 {
			record := &kgo.Record{Topic: "orders", Partition: int32(i % 2), Value: fmt.Appendf(nil, "%s-%d-%d", word, n, i)}
			if err := writer.ProduceSync(t.Context(), record).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		p.produce("orders", 2, 3, fmt.Sprintf("beside-%d", n))
		if err := writer.EndTransaction(t.Context(), end); err != nil {
			t.Fatal(err)
		}
	}
	p.settled(r, "orders")
	if err := r.stopped(); err != nil {
		t.Fatal(err)
	}
	p.verify("orders", "a.orders", 2) // which reads committed records of the source and all of the target
	if got := p.read(p.targetCl, p.target, "a.orders", 2); len(got[0]) != 5*5+30 {
		t.Errorf("partition 0 of the copy has %d records, 25 were committed and 30 written beside", len(got[0]))
	}
	r = p.start(nil) // markers at the end do not confuse a restart
	p.produce("orders", 2, 5, "later")
	p.settled(r, "orders")
	p.verify("orders", "a.orders", 2)
}

func TestCompactedTopicWithHoles(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	if err := p.source.CreateTopic("orders", 1, map[string]string{"cleanup.policy": "compact"}); err != nil {
		t.Fatal(err)
	}
	for round := range 5 {
		var records []*kgo.Record
		for i := range 20 {
			if round == 0 || i%(round+1) == 0 {
				records = append(records, &kgo.Record{Topic: "orders", Key: fmt.Appendf(nil, "%d", i), Value: fmt.Appendf(nil, "%d-%d", round, i)})
			}
		}
		if err := p.sourceCl.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	p.source.Compact()
	r := p.start(nil)
	p.settled(r, "orders")
	if r.metric("milena_batches_total", "lane", "rebuild") == 0 {
		t.Error("no batch was rebuilt: the source has no holes, and this test shows nothing")
	}
	if err := r.stopped(); err != nil {
		t.Fatal(err)
	}
	p.verify("orders", "a.orders", 1)
	r = p.start(nil)
	p.produce("orders", 1, 5, "later")
	p.settled(r, "orders")
	p.verify("orders", "a.orders", 1)
}

func TestTopicGrows(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 2)
	p.produce("orders", 2, 10, "before")
	r := p.start(nil)
	p.settled(r, "orders")
	if _, err := p.sourceAdm.UpdatePartitions(t.Context(), 5, "orders"); err != nil {
		t.Fatal(err)
	}
	p.sourceCl.PurgeTopicsFromClient("orders") // it remembers the old count
	p.produce("orders", 5, 10, "after")
	p.settled(r, "orders")
	p.verify("orders", "a.orders", 5)
}

func TestTwoHundredTopicsAppearAtOnce(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	r := p.start(nil)
	r.until("the flow is ready", func(s replicator.Status) bool { return s.Ready })
	var records []*kgo.Record
	for n := range 200 {
		topic := fmt.Sprintf("topic-%d", n)
		if err := p.source.CreateTopic(topic, 1, nil); err != nil {
			t.Fatal(err)
		}
		records = append(records, &kgo.Record{Topic: topic, Value: []byte(topic)})
	}
	if err := p.sourceCl.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	r.until("every topic has its record", func(s replicator.Status) bool {
		if s.Records < 200 {
			return false
		}
		for _, ps := range s.Partitions {
			if ps.Acked != 1 {
				return false
			}
		}
		return len(s.Partitions) == 200
	})
	if err := r.stopped(); err != nil {
		t.Fatal(err)
	}
	for n := range 200 {
		if info := p.target.PartitionInfo(fmt.Sprintf("a.topic-%d", n), 0); info == nil || info.HighWatermark != 1 {
			t.Fatalf("a.topic-%d has %+v, want one record", n, info)
		}
	}
}

// Start latest: what was there before the flow began stays behind; a topic that appears later is copied from its beginning.
func TestStartLatest(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 1)
	p.produce("orders", 1, 10, "before")
	latest := func(f *config.Flow) { f.Start = "latest" }
	r := p.start(latest)
	r.until("the partition goes on", func(s replicator.Status) bool {
		return s.Ready && len(s.Partitions) == 1 && s.Partitions[0].State == "replicating"
	})
	p.produce("orders", 1, 10, "after")
	p.createTopic("late", 1)
	p.produce("late", 1, 10, "late")
	p.settled(r, "orders")
	p.settled(r, "late")
	p.verify("late", "a.late", 1)
	mustEqual(t, "the copy", p.read(p.sourceCl, p.source, "orders", 1)[0][10:], p.read(p.targetCl, p.target, "a.orders", 1)[0])
	if err := r.stopped(); err != nil {
		t.Fatal(err)
	}
	p.produce("orders", 1, 10, "meanwhile")
	r = p.start(latest) // a restart goes on where it was, not at the latest
	p.settled(r, "orders")
	mustEqual(t, "the copy", p.read(p.sourceCl, p.source, "orders", 1)[0][10:], p.read(p.targetCl, p.target, "a.orders", 1)[0])
}

// A flow that ended leaves nothing behind, whichever way it ended.
func TestNoGoroutineOutlivesItsFlow(t *testing.T) { // not parallel: other tests' flows run too
	p := newPair(t, 2)
	p.createTopic("orders", 4)
	p.produce("orders", 4, 10, "before")
	clients := goroutines("kgo.NewClient") // of the test itself
	first := p.start(nil)
	first.until("the first instance owns everything", func(s replicator.Status) bool { return s.Ready })
	first.caughtUp("orders", 40)
	second := p.start(nil)
	if err := first.ended(); err == nil {
		t.Error("the first instance ended without an error")
	}
	second.until("the second instance owns everything", func(s replicator.Status) bool { return s.Ready })
	if err := second.stopped(); err != nil {
		t.Fatal(err)
	}
	if left := goroutines("milena/replicator.("); len(left) > 0 {
		t.Errorf("goroutines of the flow are left:\n%s", strings.Join(left, "\n\n"))
	}
	eventually(t, "the clients of the flow are gone", func() (bool, string) { // Close does not wait for their loops
		left := goroutines("kgo.NewClient")
		return len(left) <= len(clients), strings.Join(left, "\n\n")
	})
	p.verify("orders", "a.orders", 4)
}

// goroutines are the stacks that go through a function.
func goroutines(function string) []string {
	stacks := make([]byte, 8<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	var found []string
	for stack := range strings.SplitSeq(string(stacks), "\n\n") {
		if strings.Contains(stack, function) {
			found = append(found, stack)
		}
	}
	return found
}

// An empty source has its first topic only after the start: that topic is news, whatever start says.
func TestLatestBeginsALaterTopicAtItsBeginning(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	r := p.start(func(f *config.Flow) { f.Start = config.StartLatest })
	r.until("ready", func(s replicator.Status) bool { return s.Ready })
	p.createTopic("news", 1)
	p.produce("news", 1, 10, "first")
	r.caughtUp("news", 10)
	p.verify("news", "a.news", 1)
}
