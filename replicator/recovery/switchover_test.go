package recovery_test

import (
	"context"
	"testing"
	"time"

	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/fleet"
	"github.com/milena-kafka/milena/replicator/freeze"
	"github.com/milena-kafka/milena/replicator/recovery"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// pair are two clusters with a flow in each direction.
type pair struct {
	*replicatortest.Clusters
	t           *testing.T
	there, back client.Clusters
	forth, home *replicatortest.Flow
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{Clusters: replicatortest.NewClusters(t, 1), t: t}
	p.GroupsBack = []string{".*"}
	p.Source.CreateTopic("orders", 2)
	p.Target.CreateTopic("orders", 2)
	p.forth = p.Start(replicatortest.FastJournal, replicatortest.FastGroups, replicatortest.FastTopics)
	p.home = p.StartReverse(replicatortest.FastJournal, replicatortest.FastGroups, replicatortest.FastTopics)
	p.there, p.back = p.AsCommand(), p.ReverseAsCommand()
	return p
}

func (p *pair) ready() {
	p.t.Helper()
	p.forth.UntilReady()
	p.home.UntilReady()
	p.forth.UntilCopied("orders")
	p.home.UntilCopied("orders")
}

func (p *pair) options() recovery.Options {
	return recovery.Options{Who: "alice", Reason: "a test", Freeze: freeze.None, MaxLag: 1000}
}

func (p *pair) switchOver(from client.Clusters, to client.Clusters) (*recovery.Report, error) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	o := p.options()
	o.Watch = func(e recovery.Event) { p.t.Logf("%+v", e) }
	return recovery.SwitchOver(ctx, from, &to, o)
}

// Clients move to the target and back home, and groups continue at the record that they have not read.
func TestSwitchOverAndBack(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.Source.Produce("orders", 2, 100, "first")
	p.Source.Commit("billing", "orders", 0, 50)
	p.Source.Commit("billing", "orders", 1, 100)
	p.ready()
	report, err := p.switchOver(p.there, p.back)
	if err != nil {
		t.Fatalf("%v\n%+v", err, report)
	}
	if report.State != control.RecoveryDone || report.Groups != 1 || report.Positions != 2 || report.Clients == nil {
		t.Errorf("%+v", report)
	}
	if at, _ := p.Target.Committed("billing", "a.orders", 0); at != p.TargetOffset("orders", 0, 50) {
		t.Errorf("the group is at %d", at)
	}
	if d := p.ControlState().Stopped(); d == nil {
		t.Error("the flow is not stopped")
	}
	p.Target.Commit("billing", "a.orders", 0, p.TargetOffset("orders", 0, 80))
	p.Target.Produce("orders", 2, 100, "second")
	p.home.UntilCopied("orders")
	if report, err = p.switchOver(p.back, p.there); err != nil {
		t.Fatalf("%v\n%+v", err, report)
	}
	if at, _ := p.Source.Committed("billing", "orders", 0); at != 80 {
		t.Errorf("at home, the group is at %d", at)
	}
	if d := p.ControlState().Stopped(); d != nil {
		t.Errorf("the flow is stopped: %+v", d)
	}
	p.Source.Produce("orders", 2, 100, "third")
	p.forth.UntilCopied("orders")
	p.Verify("orders", "a.orders", 2)
}

// The history of a flow has its switchovers.
func TestHistoryHasSwitchovers(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.ready()
	if _, err := p.switchOver(p.there, p.back); err != nil {
		t.Fatal(err)
	}
	h, err := fleet.ReadHistory(t.Context(), p.there, fleet.HistoryFilter{Kinds: []string{fleet.KindRecovery}})
	if err != nil || len(h.Entries) != 1 {
		t.Fatalf("%v: %+v", err, h)
	}
	if r := h.Entries[0].Recovery; r.What != "switchover" || r.Who != "alice" || r.State != control.RecoveryDone || r.Held {
		t.Errorf("%+v", r)
	}
}
