package recovery

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/fleet"
	"github.com/milena-kafka/milena/replicator/freeze"
)

// quotas are those of the source.
func (s *scene) quotas() kadm.DescribedClientQuotas {
	s.t.Helper()
	found, err := s.Source.Admin.DescribeClientQuotas(s.t.Context(), false, []kadm.DescribeClientQuotaComponent{})
	if err != nil {
		s.t.Fatal(err)
	}
	return found
}

// The target dies while the producers of the source are stopped. The switchover can neither go on nor be undone, so its command says that they still are, and
// what ends that: a thaw, which needs the source only. Both flows say it too. Once the target is back, the same command undoes the rest.
func TestTargetDiesDuringASwitchover(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	before := s.quotas()
	there, back := s.AsCommand(), s.ReverseAsCommand()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := Options{Who: "alice", Freeze: freeze.Quota, MaxLag: 1000, gone: func(string) bool { return true }}
	o.Watch = func(e Event) {
		if e.Step.Name == StepFreeze && e.Step.Result == OK {
			for _, state := range []*control.State{s.ControlState(), s.reverseState()} {
				if list := state.Frozen(); len(list) != 1 || list[0].Cluster != "a" || list[0].How != "quota" || list[0].Flow != there.Flow.Name {
					t.Errorf("the control topic says %+v", list)
				}
			}
			s.Target.Cut()
			cancel()
		}
	}
	_, err := SwitchOver(ctx, there, &back, o)
	if err == nil || !strings.Contains(err.Error(), "the producers of cluster a are still stopped by quotas near zero: milena switchover --flow "+there.Flow.Name+" --thaw lets them write") {
		t.Fatal(err)
	}
	if cmp.Equal(before, s.quotas()) {
		t.Fatal("nothing is frozen")
	}
	if report, err := fleet.Read(t.Context(), back); err != nil || len(report.Frozen) != 1 || report.Frozen[0].Cluster != "a" {
		t.Errorf("the status of the flow back: %v, %+v", err, report.Frozen)
	}
	text, err := Thaw(t.Context(), there, &back, "bob")
	if err != nil || !strings.Contains(text, "producers of cluster a may write again") {
		t.Fatalf("%q, %v", text, err)
	}
	if diff := cmp.Diff(before, s.quotas()); diff != "" {
		t.Error(diff)
	}
	if list := s.reverseState().Frozen(); len(list) > 0 {
		t.Errorf("the control topic of the flow back still says %+v", list)
	}
	s.Target.Restore()
	undo, cancelUndo := context.WithTimeout(t.Context(), time.Minute)
	defer cancelUndo()
	o.Watch = nil
	if report, err := SwitchOver(undo, there, &back, o); err == nil || report.State != control.RecoveryUndone {
		t.Errorf("%v: %+v", err, report)
	}
	if state := s.ControlState(); len(state.Frozen()) > 0 || state.Stopped() != nil {
		t.Errorf("it is undone, and the control topic says %+v, %+v", state.Frozen(), state.Stopped())
	}
}

// reverseState is the control topic of the flow back.
func (s *scene) reverseState() *control.State {
	s.t.Helper()
	_, state, done, err := control.Open(s.t.Context(), s.ReverseAsCommand())
	if err != nil {
		s.t.Fatal(err)
	}
	done()
	return state
}
