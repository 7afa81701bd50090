package fleet_test

import (
	"testing"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/fleet"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// A partition that the source does not have any more is in the report until somebody skips it, with what halts it.
func TestReport_shrunk(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 2)
	c.Source.Produce("orders", 2, 20, "old")
	changes := []func(*config.Flow){fewShards, replicatortest.FastJournal}
	flow := c.Start(changes...)
	flow.UntilCopied("orders")
	flow.UntilJournaled("orders")
	flow.Stop()
	c.Source.RecreateTopic("orders", 1)
	flow = c.Start(changes...)
	want := flow.UntilHaltedBy("shrunk", "orders", 1)
	report := read(t, clustersOf(c.Config(changes...)))
	p := find(t, report, "orders", 1)
	if p.Halted == nil || p.Halted.Kind != want.Kind || p.Halted.From != want.From || *p.Journaled != want.From {
		t.Errorf("%+v, halted by %+v, and the status says %+v", p, p.Halted, want)
	}
	c.Decide(control.Done, control.Skip, replicatortest.TP("orders", 1), func(d *control.Decision) {
		d.Halt = &control.Halt{Kind: p.Halted.Kind, From: p.Halted.From, To: p.Halted.To}
	})
	for _, p := range read(t, clustersOf(c.Config(changes...))).Partitions {
		if p.Topic == "orders" && p.Partition == 1 {
			t.Errorf("it was skipped, and the report has %+v", p)
		}
	}
}

// The history needs the target only: it is there while the source is dark and no process runs.
func TestHistoryWithoutTheSource(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 20, "copied")
	changes := []func(*config.Flow){fewShards, replicatortest.FastJournal}
	flow := c.Start(changes...)
	flow.UntilCopied("orders")
	flow.Stop()
	c.Source.Produce("orders", 1, 20, "later")
	c.Source.DeleteRecords("orders", 0, 30)
	flow = c.Start(changes...)
	a := flow.UntilHaltedBy("retention_gap", "orders", 0)
	c.Decide(control.Done, control.Skip, replicatortest.TP("orders", 0), func(d *control.Decision) {
		d.Halt = &control.Halt{Kind: a.Kind, From: a.From, To: a.To}
	})
	flow.UntilCopied("orders")
	flow.UntilJournaled("orders")
	flow.Stop()
	c.Source.Cut()
	h, err := fleet.ReadHistory(t.Context(), clustersOf(c.Config(changes...)), fleet.HistoryFilter{})
	if err != nil || len(h.Problems) > 0 {
		t.Fatalf("%v, %q", err, h.Problems)
	}
	kinds := make(map[string]int)
	for _, e := range h.Entries {
		kinds[e.Kind]++
		if a := e.Anomaly; a != nil && (a.Kind != "retention_gap" || a.Action != "halt" || a.From != 20 || a.To != 30 || a.Halted || a.RepairedBy != "skip" || a.Repaired.Before(e.When)) {
			t.Errorf("%+v", a)
		}
	}
	if kinds[fleet.KindAnomaly] != 1 || kinds[fleet.KindDecision] != 1 || kinds[string(control.Stop)] == 0 || kinds[string(control.Takeover)] == 0 {
		t.Errorf("%v", kinds)
	}
}
