package recovery

import (
	"context"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/freeze"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// drillGroups are the groups on the target that drills have created.
func (s *scene) drillGroups() []string {
	s.t.Helper()
	listed, err := s.Target.Admin.ListGroups(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return slices.DeleteFunc(listed.Groups(), func(name string) bool { return !strings.HasPrefix(name, "milena-drill.") })
}

// A process that carries out a drill is killed while its groups are there. The next drill deletes them, and is passed; the groups of a drill of another flow,
// whose name begins with that of this one, stay.
func TestDrillKilled(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.forth.UntilPartitions("heartbeats are copied, else a check may find that they are not", "heartbeats", 1, func(of replicator.PartitionStatus) bool {
		return of.LagRecords != nil && of.State == "replicating"
	})
	s.Target.AwaitCommitted("billing", "a.orders", 0, s.TargetOffset("orders", 0, 7))
	there, back := s.AsCommand(), s.ReverseAsCommand()
	o := Options{Who: "alice", Freeze: freeze.None, MaxLag: 1000, gone: func(string) bool { return true }}
	drill := func(watch func(Event)) (report *Report, err error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		o.Watch = watch
		done := make(chan struct{})
		go func() {
			defer close(done)
			report, err = RunDrill(ctx, there, &back, o, DrillOptions{Positions: 10})
		}()
		replicatortest.Await(t, "the drill ends", done)
		return report, err
	}
	for _, at := range []struct {
		step   string
		result Result
	}{{StepCommit, OK}, {StepConsume, OK}} {
		_, _ = drill(func(e Event) {
			if e.Waiting == "" && e.Step.Name == at.step && e.Step.Result == at.result {
				runtime.Goexit() // as kill -9 would: nothing is undone
			}
		})
		if left := s.drillGroups(); len(left) != 1 || !strings.HasSuffix(left[0], ".billing") {
			t.Fatalf("after a drill that was killed at %s, there are %v", at.step, left)
		}
		if r := s.ControlState().RecoveryOf(control.Drill); r == nil || !r.IsOpen() {
			t.Errorf("%+v", r)
		}
	}
	other := "milena-drill." + there.Flow.Name + ".b.20261128T120000.000Z-0123abcd.billing"
	s.Target.Commit(other, "a.orders", 0, 3)
	report, err := drill(nil)
	if err != nil || report.Drilled == nil || !report.Drilled.Passed {
		t.Fatalf("%v: %+v: %+v", err, report, report.Drilled)
	}
	if left := s.drillGroups(); !slices.Equal(left, []string{other}) {
		t.Errorf("these groups are left: %v", left)
	}
}

// A step of a drill fails: the groups that it has created are deleted, and the drill counts as one that was not passed.
func TestDrillThatFails(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	there, back := s.AsCommand(), s.ReverseAsCommand()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	o := Options{Who: "alice", Freeze: freeze.None, MaxLag: 1000, Watch: func(e Event) {
		if e.Step.Name == StepCommit && e.Step.Result == OK {
			cancel()
		}
	}}
	report, err := RunDrill(ctx, there, &back, o, DrillOptions{Positions: 10})
	if err == nil || report.State != control.RecoveryUndone {
		t.Fatalf("%v: %+v", err, report)
	}
	if left := s.drillGroups(); len(left) != 0 {
		t.Errorf("these groups are left: %v", left)
	}
	if last, passed := s.ControlState().LastDrills(); last == nil || last.Drilled != nil || passed != nil {
		t.Errorf("%+v, %+v", last, passed)
	}
}
