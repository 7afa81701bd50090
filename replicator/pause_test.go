package replicator_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// watchFetches counts the requests that fetch a partition of a topic, after it was called.
func watchFetches(c *replicatortest.Clusters, topic string, partition int32) *atomic.Int64 {
	id := c.Source.TopicInfo(topic).TopicID
	var n atomic.Int64
	c.Source.ControlKey(int16(kmsg.Fetch), func(request kmsg.Request) (kmsg.Response, error, bool) {
		c.Source.KeepControl()
		for _, t := range request.(*kmsg.FetchRequest).Topics {
			for _, p := range t.Partitions {
				if (t.TopicID == id || t.Topic == topic) && p.Partition == partition {
					n.Add(1)
				}
			}
		}
		return nil, nil, false
	})
	return &n
}

// untilPaused waits until a partition is paused and nothing of it is on its way.
func untilPaused(f *replicatortest.Flow, topic string, partition int32) replicator.PartitionStatus {
	s := f.Until(fmt.Sprintf("%s-%d is paused", topic, partition), func(s replicator.Status) bool {
		p := replicatortest.Partitions(s, topic)
		return len(p) > int(partition) && p[partition].State == "paused" && p[partition].Next == p[partition].Acked
	})
	return replicatortest.Partitions(s, topic)[partition]
}

// A partition is paused under load. It is not fetched, its neighbours are copied, its lag is known, and it goes on where it was.
func TestPauseOfAPartitionUnderLoad(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 4)
	stop := c.Source.Load("orders", 4)
	flow := c.Start(replicatortest.FastJournal)
	flow.UntilProgress("orders", 200)
	s := c.Decide(control.Done, control.Pause, replicatortest.TP("orders", 1))
	if d := s.Outcomes[0].Detail; d != "paused 1 partition" {
		t.Errorf("the answer is %q", d)
	}
	p := untilPaused(flow, "orders", 1)
	if p.Paused == nil || p.Paused.Who != "alice" || p.Paused.Why != "a test" || p.Paused.Scope != "partition orders-1" {
		t.Errorf("%+v", p.Paused)
	}
	fetches := watchFetches(c, "orders", 1)
	flow.UntilProgress("orders", 300)
	now := untilPaused(flow, "orders", 1)
	if now.Acked != p.Acked || now.TargetEnd != p.TargetEnd {
		t.Errorf("a paused partition went from %d to %d", p.Acked, now.Acked)
	}
	if n := fetches.Load(); n > 1 { // one may have been on its way when it was paused; an incremental fetch that forgets it does not list it
		t.Errorf("%d requests fetch a paused partition", n)
	}
	flow.Until("the lag of the paused partition is known and grows", func(s replicator.Status) bool {
		p := replicatortest.Partitions(s, "orders")[1]
		return p.LagRecords != nil && *p.LagRecords > 0 && s.Ready
	})
	if n := flow.Metric("milena_partitions", "state", "paused"); n != 1 {
		t.Errorf("the metric counts %v", n)
	}
	if force := flow.Status().Control.InForce; len(force) != 1 || force[0].Who != "alice" {
		t.Errorf("in force: %+v", force)
	}
	c.Decide(control.Done, control.Resume, replicatortest.TP("orders", 1))
	stop()
	flow.UntilCopied("orders")
	flow.Stop()
	c.Verify("orders", "a.orders", 4)
}

// A pause that comes while batches are in flight awaits them and discards what was not sent. Nothing of it is held in memory.
func TestPauseDrainsAndHoldsNoMemory(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	flow := c.Start(func(f *config.Flow) { f.Heartbeats = false })
	flow.UntilCopied("orders")
	held := make(chan struct{})
	c.Target.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		c.Target.KeepControl()
		for _, topic := range request.(*kmsg.ProduceRequest).Topics {
			if topic.TopicID == c.Target.TopicInfo("a.orders").TopicID || topic.Topic == "a.orders" {
				c.Target.SleepControl(func() { <-held })
			}
		}
		return nil, nil, false
	})
	for n := range 20 { // batches of their own
		c.Source.Produce("orders", 1, 50, fmt.Sprintf("batch-%d", n))
	}
	flow.Until("all is fetched, and the first is in flight", func(s replicator.Status) bool {
		return replicatortest.Partitions(s, "orders")[0].Next == 1000
	})
	submitted := make(chan control.Submission, 1)
	go func() {
		submitted <- c.Submit(replicatortest.NewDecision(control.Pause, replicatortest.TP("orders", 0)))
	}()
	flow.Until("what was not sent is discarded", func(s replicator.Status) bool {
		p := replicatortest.Partitions(s, "orders")[0]
		return p.State == "paused" && p.Next < 1000
	})
	close(held)
	<-submitted
	p := untilPaused(flow, "orders", 0)
	if p.Acked == 0 || p.Acked == 1000 {
		t.Errorf("%d records are copied", p.Acked)
	}
	flow.Until("no memory is held", func(replicator.Status) bool { return flow.Metric("milena_buffer_bytes") == 0 })
	c.Decide(control.Done, control.Resume, replicatortest.TP("orders", 0))
	flow.UntilCopied("orders")
	flow.Stop()
	c.Verify("orders", "a.orders", 1)
}

// A pause survives a crash, a restart and a hand-over to another instance, and is there before the first fetch.
func TestPauseSurvives(t *testing.T) {
	t.Parallel()
	c := beginCrash(t, "orders")
	c.Decide(control.Done, control.Pause, control.OfTopic("orders"))
	was := untilPaused(c.flow, "orders", 0)
	c.Source.Produce("orders", 1, 20, "while paused")
	c.kill(t)
	fetches := watchFetches(c.Clusters, "orders", 0)
	c.flow = c.Start()
	p := untilPaused(c.flow, "orders", 0)
	c.flow.UntilReady()
	c.flow.Stop()

	c.Instance = ""
	flows := replicatortest.Flows{c.Start(), c.Start()}
	flows.UntilShared(1)
	for _, f := range flows { // to the other one and back
		f.Until("the pause is known", func(s replicator.Status) bool { return len(s.Control.InForce) == 1 })
	}
	flows[0].Stop()
	flows[1:].UntilShared(64)
	untilPaused(flows[1], "orders", 0)
	if n := fetches.Load(); n > 0 || p.Acked != was.Acked {
		t.Errorf("%d requests fetch the paused partition, which went from %d to %d", n, was.Acked, p.Acked)
	}
	c.Decide(control.Done, control.Resume, control.OfTopic("orders"))
	flows[1].UntilCopied("orders")
	flows[1].Stop()
	c.Verify("orders", "a.orders", 1)
}

// All instances obey a pause of the flow, and all answer. Until ends it.
func TestPauseOfTheFlowReachesAllInstances(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 12)
	stop := c.Source.Load("orders", 12)
	flows := replicatortest.Flows{c.Start(), c.Start()}
	flows.UntilShared(1)
	flows.UntilProgress(100)
	s := c.Decide(control.Done, control.Pause, control.Scope{Kind: control.Flow}, func(d *control.Decision) { d.Until = d.When.Add(3 * time.Second) })
	if len(s.Outcomes) != 2 || s.Outcomes[0].Instance == s.Outcomes[1].Instance {
		t.Errorf("the answers are %+v", s.Outcomes)
	}
	flows.UntilProgress(100) // once it has ended by itself
	if now := time.Now(); now.Before(s.Decisions[0].Until) {
		t.Errorf("records were copied %v before the end of the pause", s.Decisions[0].Until.Sub(now))
	}
	stop()
	flows.UntilCopied("orders")
	flows.Stop()
	c.Verify("orders", "a.orders", 12)
}

// Nonsense in the control topic changes nothing, and is named by its offset. It is deleted, so that a process that starts later has nothing to say about
// it, except for what a newer milena wrote and what has no key.
func TestNonsenseInTheControlTopic(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	flow := c.Start()
	c.Decide(control.Done, control.Pause, replicatortest.TP("orders", 0))
	topic := control.TopicName("a-b")
	key := "decision/pause/partition/orders/0"
	tx := c.Target.Transactions("attacker")
	c.Target.Write(
		&kgo.Record{Topic: topic, Key: []byte(key), Value: []byte(`{"v":1,"what":"resume"}`)},
		&kgo.Record{Topic: topic, Key: []byte(key), Value: []byte(strings.Repeat("x", 1<<16))},
		&kgo.Record{Topic: topic, Value: []byte("no key")},
		&kgo.Record{Topic: topic, Key: []byte("decision/pause/flow"), Value: []byte(`{"v":99}`)},
	)
	tx.Begin()
	tx.Write(&kgo.Record{Topic: topic, Key: []byte("x"), Value: []byte("y")}) // an open transaction holds back no decision
	s := flow.Until("all five are ignored", func(s replicator.Status) bool { return s.Control.Ignored == 5 })
	if last := s.Control.LastIgnored; len(last) != 5 || last[0].Offset < 2 || !strings.Contains(last[0].Why, "id") || !strings.Contains(last[3].Why, "upgrade") {
		t.Errorf("%+v", last)
	}
	if n := flow.Metric("milena_control_ignored_records_total"); n != 5 {
		t.Errorf("%v are counted", n)
	}
	untilPaused(flow, "orders", 0)
	flow.Stop()
	flow = c.Start()
	replicatortest.Eventually(t, "nonsense is deleted", func() (bool, string) {
		n, last := c.ControlState().Ignored()
		return n == 2, fmt.Sprint(last)
	})
	untilPaused(flow, "orders", 0)
	flow.Stop()
	flow = c.Start()
	untilPaused(flow, "orders", 0)
	if s := flow.Status().Control; s.Ignored != 2 || !strings.Contains(s.LastIgnored[1].Why, "upgrade") || flow.Metric("milena_control_ignored_records_total") != 2 {
		t.Errorf("a process that starts later ignores %+v", s.LastIgnored)
	}
	c.Decide(control.Done, control.Resume, replicatortest.TP("orders", 0))
	c.Source.Produce("orders", 1, 10, "after")
	flow.UntilCopied("orders")
	c.Verify("orders", "a.orders", 1)
	tx.End(kgo.TryAbort)
}

// A flow that may not read the control topic runs, and says that it cannot be controlled. Once it may, it is.
func TestFlowWithoutRightsOnTheControlTopicRuns(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 10, "first")
	topic := control.TopicName("a-b")
	c.Target.CreateTopic(topic, 1, "cleanup.policy", "compact")
	denied := c.Target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch, kmsg.ListOffsets}, Topic: topic, Err: kerr.TopicAuthorizationFailed, Count: -1})
	flow := c.Start()
	flow.UntilCopied("orders")
	flow.UntilReady()
	s := flow.Until("it says so", func(s replicator.Status) bool { return s.Control.Problem != "" })
	if want := "cannot be controlled"; !strings.Contains(s.Control.Problem, want) || !strings.Contains(s.Control.Problem, "grant READ and WRITE") {
		t.Errorf("%q", s.Control.Problem)
	}
	if flow.Metric("milena_controllable") != 0 {
		t.Error("the metric says that it can be controlled")
	}
	denied.Remove()
	flow.Until("it can be controlled", func(s replicator.Status) bool { return s.Control.Problem == "" })
	c.Decide(control.Done, control.Pause, control.Scope{Kind: control.Flow})
	untilPaused(flow, "orders", 0)
}

// The sync of groups is paused alone, and goes on.
func TestPauseOfGroups(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 10, "first")
	flow := c.Start(func(f *config.Flow) { f.GroupsInterval = 100 * time.Millisecond })
	flow.UntilCopied("orders")
	flow.UntilGroupSyncs(1)
	groups := control.Scope{Kind: control.Groups}
	c.Decide(control.Done, control.Pause, groups)
	done := flow.Metric("milena_passes_total", "pass", "groups")
	c.Source.Produce("orders", 1, 10, "second")
	flow.UntilCopied("orders")
	flow.UntilTopicSyncs(1)
	if now := flow.Metric("milena_passes_total", "pass", "groups"); now > done+1 { // one may have been running
		t.Errorf("%v syncs while paused", now-done)
	}
	c.Decide(control.Done, control.Resume, groups)
	flow.UntilGroupSyncs(2)
}

// That the control topic is deleted resumes nothing: what held is in the next one.
func TestPauseOutlivesItsTopic(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 10, "first")
	flow := c.Start()
	flow.UntilCopied("orders")
	tp := replicatortest.TP("orders", 0)
	first := c.Decide(control.Done, control.Pause, tp).Decisions[0].When
	c.Decide(control.Done, control.Pause, tp)
	if began := c.ControlState().PauseOf(tp, time.Now()).Began; !began.Equal(first) {
		t.Errorf("a pause of what is paused began at %v, not at %v", began, first)
	}
	was := untilPaused(flow, "orders", 0)
	c.Target.DeleteTopic(control.TopicName("a-b"))
	c.Source.Produce("orders", 1, 10, "second")
	replicatortest.Eventually(t, "the pause is in the next topic", func() (bool, string) {
		return c.ControlState().PauseOf(tp, time.Now()) != nil, ""
	})
	if now := untilPaused(flow, "orders", 0); now.Acked != was.Acked {
		t.Errorf("a paused partition went from %d to %d", was.Acked, now.Acked)
	}
	c.Decide(control.Done, control.Resume, tp)
	flow.UntilCopied("orders")
	flow.Stop()
	c.Verify("orders", "a.orders", 1)
}
