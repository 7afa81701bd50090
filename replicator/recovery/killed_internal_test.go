package recovery

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/freeze"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// scene are two clusters with a flow in each direction, which are copied.
type scene struct {
	*replicatortest.Clusters
	t           *testing.T
	forth, home *replicatortest.Flow
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{Clusters: replicatortest.NewClusters(t, 1), t: t}
	s.Source.CreateTopic("orders", 1)
	s.Target.CreateTopic("orders", 1)
	s.Source.Produce("orders", 1, 20, "first")
	s.Source.Commit("billing", "orders", 0, 7)
	s.forth = s.Start(replicatortest.FastJournal, replicatortest.FastGroups, replicatortest.FastTopics)
	s.home = s.StartReverse(replicatortest.FastJournal, replicatortest.FastGroups, replicatortest.FastTopics)
	s.forth.UntilReady()
	s.home.UntilReady()
	s.forth.UntilCopied("orders")
	return s
}

// switchOver switches over; killed is told each event before it is carried on, and true ends the process there, as kill -9 would: nothing is undone.
func (s *scene) switchOver(killed func(Event) bool) (report *Report, err error, wasKilled bool) {
	s.t.Helper()
	return s.switchOverBy(freeze.None, killed)
}

func (s *scene) switchOverBy(how freeze.Method, killed func(Event) bool) (report *Report, err error, wasKilled bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), time.Minute)
	defer cancel()
	there, back := s.AsCommand(), s.ReverseAsCommand()
	o := Options{Who: "alice", Freeze: how, MaxLag: 1000, gone: func(string) bool { return true }}
	o.Watch = func(e Event) {
		if killed(e) {
			wasKilled = true
			runtime.Goexit()
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		report, err = SwitchOver(ctx, there, &back, o)
	}()
	replicatortest.Await(s.t, "the switchover ends", done)
	return report, err, wasKilled
}

func never(Event) bool { return false }

// The processes that carry out a switchover are killed, one after the other, when each step begins and ends. The same command then goes on, and the end is the
// same.
func TestSwitchoverKilledAtEachStep(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	for _, planned := range StepsOf(Switchover) {
		for _, at := range []Result{Begun, OK} {
			_, err, killed := s.switchOver(func(e Event) bool { return e.Waiting == "" && e.Step.Name == planned.Name && e.Step.Result == at })
			if !killed {
				t.Fatalf("at %s %s it was not killed: %v", planned.Name, at, err)
			}
			if r := s.ControlState().Recovery(); r == nil || !r.IsOpen() {
				t.Fatalf("at %s %s the topic has %+v", planned.Name, at, r)
			}
		}
	}
	report, err, _ := s.switchOver(never)
	if err != nil || report.State != control.RecoveryDone || len(report.Steps) != len(StepsOf(Switchover)) {
		t.Fatalf("%v: %+v", err, report)
	}
	for _, step := range report.Steps {
		if step.Result != OK {
			t.Errorf("%+v", step)
		}
	}
	if s.ControlState().Stopped() == nil {
		t.Error("the flow is not stopped")
	}
	if at, _ := s.Target.Committed("billing", "a.orders", 0); at != s.TargetOffset("orders", 0, 7) {
		t.Errorf("the group is at %d", at)
	}
}

// A producer that nobody has stopped makes the switchover fail. It is killed while it undoes what it did, and the same command undoes the rest. Then a
// switchover succeeds.
func TestSwitchoverKilledWhileItUndoes(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	written := false
	write := func(e Event) bool { // after the ends were proven
		if e.Waiting == "" && e.Step.Name == StepStop && e.Step.Result == Begun && !written {
			written = true
			s.Source.Produce("orders", 1, 5, "late")
		}
		return e.Waiting == "" && e.Step.Name == StepStop && e.Step.Result == Failed
	}
	if _, err, killed := s.switchOver(write); !killed {
		t.Fatalf("it was not killed: %v", err)
	}
	report, err, _ := s.switchOver(never)
	if err == nil && report.State == control.RecoveryDone {
		t.Fatalf("it went on where it failed: %+v", report)
	}
	if r := s.ControlState().Recovery(); r.State != control.RecoveryUndone {
		t.Errorf("%v: %+v", err, r)
	}
	if d := s.ControlState().Stopped(); d != nil {
		t.Errorf("the flow is stopped: %+v", d)
	}
	s.forth.UntilCopied("orders")
	if report, err, _ = s.switchOver(never); err != nil || report.State != control.RecoveryDone {
		t.Fatalf("%v: %+v", err, report)
	}
}

// Two people begin at once: one of them does it, and the other one sees who.
func TestTwoPeopleSwitchOver(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	there, back := s.AsCommand(), s.ReverseAsCommand()
	var second error
	_, err, _ := s.switchOver(func(e Event) bool {
		if e.Waiting == "" && e.Step.Name == StepDrain && e.Step.Result == Begun {
			_, second = SwitchOver(t.Context(), there, &back, Options{Who: "bob", Freeze: freeze.None, MaxLag: 1000})
		}
		return false
	})
	var held *HeldError
	if err != nil || !errors.As(second, &held) || held.Recovery.Who != "alice" || held.Recovery.Step != StepDrain {
		t.Errorf("the first: %v; the second: %v", err, second)
	}
}

// Somebody presses Ctrl-C when the last step has begun. It cannot be undone, so it is carried out: nothing is left half done.
func TestSwitchoverIsInterruptedInItsLastStep(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	there, back := s.AsCommand(), s.ReverseAsCommand()
	report, err := SwitchOver(ctx, there, &back, Options{Who: "alice", Freeze: freeze.None, MaxLag: 1000, Watch: func(e Event) {
		if e.Step.Name == StepOpen && e.Step.Result == Begun {
			cancel()
		}
	}})
	if err != nil || report.State != control.RecoveryDone {
		t.Errorf("%v: %+v", err, report)
	}
	if r := s.ControlState().Recovery(); r.State != control.RecoveryDone {
		t.Errorf("the topic has %+v", r)
	}
}

// A process is paused for so long that another one goes on and ends the switchover. When it wakes up it must not go on where it was: to undo a switchover that
// is done would let both clusters copy what clients write to the other one.
func TestPausedProcessDoesNotReviveWhatHasEnded(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	clusters := c.AsCommand()
	o := Options{Who: "alice", Freeze: freeze.None, gone: func(string) bool { return true }}
	paused, err := begin(t.Context(), clusters, Switchover, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer paused.close()
	other, err := begin(t.Context(), clusters, Switchover, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer other.close()
	if err := other.save(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := other.end(t.Context(), control.RecoveryDone); err != nil {
		t.Fatal(err)
	}
	if err := paused.save(t.Context()); !errors.Is(err, errTaken) {
		t.Errorf("it goes on: %v", err)
	}
	if r := c.ControlState().Recovery(); r.State != control.RecoveryDone {
		t.Errorf("the topic has %+v", r)
	}
}

// The source dies in the midst of a switchover, which can neither go on nor be undone then. The flow fails over all the same, and the freeze is not forgotten.
func TestFailoverInTheMidstOfASwitchover(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	if _, err, killed := s.switchOver(func(e Event) bool { return e.Waiting == "" && e.Step.Name == StepDrain && e.Step.Result == Begun }); !killed {
		t.Fatalf("it was not killed: %v", err)
	}
	broken := s.ControlState().Recovery()
	s.Source.Cut()
	there, back := s.AsCommand(), s.ReverseAsCommand()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	report, err := FailOver(ctx, there, &back, Options{Who: "bob", gone: func(string) bool { return true }})
	if err != nil || report.State != control.RecoveryDone {
		t.Fatalf("%v: %+v", err, report)
	}
	state := s.ControlState()
	if d := state.Stopped(); d == nil || d.What != control.FailOver {
		t.Errorf("the flow is %+v", d)
	}
	if !slices.ContainsFunc(state.Recoveries(), func(r control.Recovery) bool { return r.ID == broken.ID && r.State == control.RecoveryRuns }) {
		t.Errorf("the history has %+v", state.Recoveries())
	}
}

// What a switchover that a failover replaces has frozen can be taken back.
func TestFailoverKeepsTheFreezeOfASwitchoverThatItReplaces(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	o := Options{Who: "alice", Freeze: freeze.ACL, gone: func(string) bool { return true }}
	broken, err := begin(t.Context(), c.AsCommand(), Switchover, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer broken.close()
	if err := broken.change(t.Context(), func(d *document) { d.Frozen = &frozen{Memory: freeze.Memory{Method: freeze.ACL}} }); err != nil {
		t.Fatal(err)
	}
	failover, err := begin(t.Context(), c.AsCommand(), Failover, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer failover.close()
	if n := len(failover.doc.freezes()); n != 1 {
		t.Errorf("%d freezes are known", n)
	}
	if list := c.ControlState().Frozen(); len(list) != 1 || list[0].Cluster != "a" { // also of an older version, which does not say since when
		t.Errorf("the control topic says %+v", list)
	}
}

// Two people begin on an empty topic, and the second one is paused before its first record. The first one is under way then, and goes on.
func TestLateFirstRecordOfAnEmptyTopic(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	clusters := c.AsCommand()
	cl, err := clusters.OpenTarget()
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	late := &run{clusters: clusters, log: control.NewLog(cl, clusters.Flow.Target, clusters.Flow.Name), state: &control.State{}, record: control.NewRecovery(string(Switchover), "bob", "late")}
	first, err := begin(t.Context(), clusters, Switchover, Options{Who: "alice", Freeze: freeze.None}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer first.close()
	if err := late.save(t.Context()); !errors.Is(err, errTaken) {
		t.Errorf("the late one: %v", err)
	}
	if err := first.save(t.Context()); err != nil {
		t.Errorf("the first one: %v", err)
	}
}
