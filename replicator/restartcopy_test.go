package replicator_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

func TestRepairOfARecreatedTopic(t *testing.T) {
	for name, verb := range map[string]control.Verb{"restart-copy": control.RestartCopy, "skip": control.Skip} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := replicatortest.NewClusters(t, 1)
			c.Source.CreateTopic("orders", 1)
			c.Source.Produce("orders", 1, 20, "old")
			flow := c.Start()
			flow.UntilCopied("orders")
			want := c.Source.Texts("orders", 1)[0]
			c.Source.RecreateTopic("orders", 1)
			c.Source.Produce("orders", 1, 30, "new")
			flow.UntilHaltedBy("recreated", "orders", 0)
			var change []func(*control.Decision)
			if verb == control.Skip {
				change = append(change, asHalted(flow, "orders", 0))
			}
			c.Decide(control.Done, verb, replicatortest.TP("orders", 0), change...)
			c.Source.Produce("orders", 1, 5, "later")
			flow.UntilCopied("orders")
			fresh := c.Source.Texts("orders", 1)[0]
			if verb == control.Skip {
				fresh = fresh[30:]
			}
			replicatortest.MustEqual(t, "the copy", append(want, fresh...), c.Target.Texts("a.orders", 1)[0])
			wantAfterRestart(t, c, flow)
		})
	}
}

func TestRestartOfATargetThatWasRecreated(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 10, "before")
	flow := c.Start()
	flow.UntilCopied("orders")
	flow.Stop()
	c.Target.DeleteTopic("a.orders")
	flow = c.Start()
	flow.UntilHaltedBy("target_recreated", "orders", 0)
	c.Decide(control.Refused, control.Skip, replicatortest.TP("orders", 0), asHalted(flow, "orders", 0))
	c.Decide(control.Done, control.RestartCopy, replicatortest.TP("orders", 0))
	flow.UntilCopied("orders")
	c.Target.Client.PurgeTopicsFromClient("a.orders")
	c.Verify("orders", "a.orders", 1)
	wantAfterRestart(t, c, flow)
}

func TestRestartOfAHealthyCopy(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Instance = "node"
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 20, "first")
	flow := c.Start()
	flow.UntilCopied("orders")
	c.Source.DeleteRecords("orders", 0, 5)
	once := c.Source.Texts("orders", 1)[0]
	c.Decide(control.Done, control.RestartCopy, replicatortest.TP("orders", 0))
	flow.UntilPartitions("it is copied again", "orders", 1, func(p replicator.PartitionStatus) bool { return p.Acked == 20 && p.TargetEnd >= 35 })
	flow.UntilJournaled("orders")
	wantGap(t, flow, "restarted", "restart", 5, 20)
	// As if the process had been killed before it could say what it did.
	id := c.ControlState().Decisions()[0].ID
	c.Target.Write(&kgo.Record{Topic: control.TopicName("a-b"), Key: []byte("outcome/" + id + "/node")})
	wantAfterRestart(t, c, flow)
	got := c.Target.Texts("a.orders", 1)[0]
	replicatortest.MustEqual(t, "the copy", slices.Concat(got[:5], once, once), got)
}

func TestSkipOfAShrunkTopic(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 2)
	c.Source.Produce("orders", 2, 10, "old")
	flow := c.Start()
	flow.UntilCopied("orders")
	flow.Stop()
	c.Source.RecreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 10, "new")
	flow = c.Start()
	flow.UntilHaltedBy("shrunk", "orders", 1)
	c.Decide(control.Refused, control.Retry, replicatortest.TP("orders", 1))
	c.Decide(control.Done, control.Skip, replicatortest.TP("orders", 1), asHalted(flow, "orders", 1))
	c.Decide(control.Done, control.RestartCopy, replicatortest.TP("orders", 0))
	flow.UntilCopied("orders")
	wantAfterRestart(t, c, flow)
}

func TestShrunkTopicHaltsWhileItIsCopied(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 2)
	c.Source.Produce("orders", 2, 10, "old")
	flow := c.Start()
	flow.UntilCopied("orders")
	flow.UntilJournaled("orders")
	c.Source.RecreateTopic("orders", 1)
	flow.UntilHaltedBy("shrunk", "orders", 1)
	c.Decide(control.Done, control.Skip, replicatortest.TP("orders", 1), asHalted(flow, "orders", 1))
	c.Decide(control.Done, control.RestartCopy, replicatortest.TP("orders", 0))
	c.Source.Produce("orders", 1, 10, "new")
	flow.UntilCopied("orders")
	wantAfterRestart(t, c, flow)
}

func TestRestartOfACopyWithAGap(t *testing.T) {
	t.Parallel()
	c, flow, want := gapped(t)
	c.Decide(control.Done, control.RestartCopy, replicatortest.TP("orders", 0))
	flow.UntilCopied("orders")
	replicatortest.MustEqual(t, "the copy", want, c.Target.Texts("a.orders", 1)[0])
	wantAfterRestart(t, c, flow)
}

func TestSkipIsNotAboutALaterShrink(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 2)
	c.Source.Produce("orders", 2, 20, "old")
	flow := c.Start()
	flow.UntilCopied("orders")
	tp := replicatortest.TP("orders", 1)
	c.Decide(control.Done, control.Pause, tp)
	at := untilPaused(flow, "orders", 1).Acked
	c.Source.Produce("orders", 2, 20, "more")
	flow.UntilPartitions("the end of the source is known", "orders", 2, func(p replicator.PartitionStatus) bool { return *p.SourceEnd > at+2 })
	c.Decide(control.Done, control.Skip, tp, leftOut(at, at+2))
	c.Decide(control.Done, control.Resume, tp)
	flow.UntilCopied("orders")
	flow.Stop()
	c.Source.RecreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 10, "new")
	flow = c.Start()
	flow.UntilHaltedBy("shrunk", "orders", 1)
}

func TestSecondRestartOfACopy(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Instance = "node"
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 20, "first")
	flow := c.Start()
	flow.UntilCopied("orders")
	once := c.Source.Texts("orders", 1)[0]
	for n := range int64(2) {
		c.Decide(control.Done, control.RestartCopy, replicatortest.TP("orders", 0))
		flow.UntilPartitions("it is copied again", "orders", 1, func(p replicator.PartitionStatus) bool { return p.Acked == 20 && p.TargetEnd >= 20*(n+2) })
	}
	flow.UntilJournaled("orders")
	id := c.ControlState().Decisions()[0].ID
	if gaps := replicatortest.Partitions(flow.Status(), "orders")[0].Gaps; len(gaps) != 2 || !strings.Contains(gaps[1].Detail, id) {
		t.Errorf("the ledger has %+v", gaps)
	}
	c.Target.Write(&kgo.Record{Topic: control.TopicName("a-b"), Key: []byte("outcome/" + id + "/node")})
	wantAfterRestart(t, c, flow)
	replicatortest.MustEqual(t, "the copy", slices.Concat(once, once, once), c.Target.Texts("a.orders", 1)[0])
}

func TestRetryOfACompactedTopic(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.ShortPauses()
	c.Source.CreateTopic("orders", 1, "cleanup.policy", "compact")
	refuseBad(c, kerr.InvalidRecord, true)
	write := func(key, value string) {
		c.Source.Write(&kgo.Record{Topic: "orders", Key: []byte(key), Value: []byte(value)})
	}
	write("first", "1")
	flow := c.Start()
	flow.UntilCopied("orders")
	flow.UntilJournaled("orders")
	writeWithBad(c, 3, 0)
	flow.UntilHaltedBy("record_refused", "orders", 0)
	write("ann", "1")
	write("ann", "2")
	write("ann", "3")
	c.Source.Compact()
	write("eve", "1")
	c.Decide(control.Done, control.Skip, replicatortest.TP("orders", 0), asHalted(flow, "orders", 0))
	flow.UntilCopied("orders")
}

func TestRestartOfADiscardedCopy(t *testing.T) {
	for name, halt := range map[string]func(*testing.T) (*replicatortest.Clusters, *replicatortest.Flow){
		"recreated": func(t *testing.T) (*replicatortest.Clusters, *replicatortest.Flow) {
			c := replicatortest.NewClusters(t, 1)
			c.Source.CreateTopic("orders", 1)
			c.Source.Produce("orders", 1, 20, "old")
			flow := c.Start()
			flow.UntilCopied("orders")
			c.Source.RecreateTopic("orders", 1)
			c.Source.Produce("orders", 1, 30, "new")
			flow.UntilHaltedBy("recreated", "orders", 0)
			return c, flow
		},
		"retention_gap": func(t *testing.T) (*replicatortest.Clusters, *replicatortest.Flow) {
			c, flow, _ := gapped(t)
			return c, flow
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, flow := halt(t)
			c.Target.DeleteTopic("a.orders")
			c.Decide(control.Done, control.RestartCopy, replicatortest.TP("orders", 0))
			flow.UntilCopied("orders")
			c.Target.Client.PurgeTopicsFromClient("a.orders")
			want := c.Source.Texts("orders", 1)[0]
			replicatortest.MustEqual(t, "the copy", want, c.Target.Texts("a.orders", 1)[0])
			wantAfterRestart(t, c, flow)
		})
	}
}
