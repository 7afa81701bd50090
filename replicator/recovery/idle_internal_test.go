package recovery

import (
	"strings"
	"testing"

	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/freeze"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// An instance outside a group runs and does not answer. That it is in no group is no proof that nobody writes.
func TestSilentInstanceOutsideAGroup(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	flow := c.Start(replicatortest.FastJournal, replicatortest.OneInstance)
	flow.UntilReady()
	clusters := c.AsCommand(replicatortest.OneInstance)
	r := run{clusters: clusters}
	if text, err := r.idle(t.Context(), clusters, control.FailOver); err == nil || !strings.Contains(err.Error(), "by its journal one runs") {
		t.Errorf("%q, %v", text, err)
	}
	flow.Stop()
	if _, err := r.idle(t.Context(), clusters, control.FailOver); err != nil {
		t.Error(err)
	}
}

// An instance hangs, so the step that stops the flow fails. That it does not answer to the start either must not keep the rest from being undone: producers
// are frozen until then.
func TestSilentInstanceDoesNotHoldUpUndoing(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	flow := c.Start(replicatortest.FastJournal)
	flow.UntilReady()
	c.Mute("mute")
	c.SubmitWithin(0, replicatortest.NewDecision(control.StopFlow, control.Scope{Kind: control.Flow}))
	s := switchover{run: &run{clusters: c.AsCommand(), record: control.NewRecovery(string(Switchover), "alice", "a process")}}
	if text, err := s.start(t.Context()); err != nil || !strings.Contains(text, "mute: no answer") {
		t.Errorf("%q, %v", text, err)
	}
	if d := c.ControlState().Stopped(); d != nil {
		t.Errorf("the flow is stopped: %+v", d)
	}
}

// Somebody takes a freeze back by hand while a switchover has not ended. That there is none would be wrong.
func TestThawInTheMidstOfASwitchover(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	r, err := begin(t.Context(), c.AsCommand(), Switchover, Options{Who: "alice"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	if text, err := Thaw(t.Context(), c.AsCommand(), nil, "bob"); err == nil || !strings.Contains(err.Error(), "alice began has not ended") {
		t.Errorf("%q, %v", text, err)
	}
}

// A process is killed when it has taken a freeze back, and before the other cluster knows. Whoever goes on undoing says it there.
func TestKilledBetweenTheTwoPlacesOfAFreeze(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	r, err := begin(t.Context(), c.AsCommand(), Switchover, Options{Who: "alice"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	back := c.ReverseAsCommand()
	s := switchover{run: r, o: r.doc.Options, reverse: &back}
	s.o.Who = "alice"
	r.doc.Frozen = &frozen{Memory: freeze.Memory{Method: freeze.ACL}}
	if err := s.keepFreeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.doc.Frozen.Thawed = now()
	if _, err := s.thaw(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, state, done, err := control.Open(t.Context(), back)
	if err != nil {
		t.Fatal(err)
	}
	done()
	for _, kept := range state.Recoveries() {
		if d, err := decodeDocument(&kept); err != nil || len(d.freezes()) > 0 {
			t.Errorf("%v: it is kept that producers are frozen: %+v", err, d)
		}
	}
}
