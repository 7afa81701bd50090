package recovery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/diverged"
	"github.com/milena-kafka/milena/replicator/freeze"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// takenOver are a process that has begun a switchover, and another one that has taken it over.
func (s *scene) takenOver() (slow, other *run) {
	s.t.Helper()
	there := s.AsCommand()
	slow, err := begin(s.t.Context(), there, Switchover, Options{Who: "alice"}, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(slow.close)
	if other, err = begin(s.t.Context(), there, Switchover, Options{Who: "bob", gone: func(string) bool { return true }}, nil); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(other.close)
	return slow, other
}

// A process was so slow that another one has taken the switchover over, and has ended it. When it goes on, it writes nothing any more.
func TestASlowProcessDoesNotGoOnAfterAnotherOneHasEnded(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	slow, other := s.takenOver()
	if err := other.end(t.Context(), control.RecoveryDone); err != nil {
		t.Fatal(err)
	}
	if err := slow.note(t.Context(), Step{Name: StepDrain, Result: Begun, Began: now()}); !errors.Is(err, errTaken) {
		t.Errorf("the slow process may go on: %v", err)
	}
	slow.record.State, slow.doc.Report.Steps = control.RecoveryUndoes, []Step{{Name: StepStop, Result: OK}}
	undone := false
	undo := func(context.Context) (string, error) { undone = true; return "", nil }
	if err := slow.backward(t.Context(), []step{{name: StepStop, undo: undo}}, nil); !errors.Is(err, errTaken) || undone {
		t.Errorf("the slow process may undo: %v, %v", err, undone)
	}
	if r := s.ControlState().Recovery(); r.State != control.RecoveryDone || r.Who != "bob" {
		t.Errorf("the topic has %+v", r)
	}
}

// A switchover has frozen the producers and was broken off, and then the source is gone: it can neither go on nor be undone. A failover takes its place, and
// what was frozen is thawed once the source is back.
func TestFailOverAfterASwitchoverThatWasBrokenOff(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	quotas := func() kadm.DescribedClientQuotas {
		found, err := s.Source.Admin.DescribeClientQuotas(t.Context(), false, []kadm.DescribeClientQuotaComponent{})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	before := quotas()
	s.Target.AwaitCommitted("billing", "a.orders", 0, s.TargetOffset("orders", 0, 7))
	if _, err, killed := s.switchOverBy(freeze.Quota, func(e Event) bool { return e.Step.Name == StepDrain && e.Step.Result == Begun }); !killed {
		t.Fatal(err)
	}
	there, back := s.AsCommand(), s.ReverseAsCommand()
	if text, err := Thaw(t.Context(), there, nil, "bob"); err == nil {
		t.Errorf("while the switchover has not ended, a thaw says: %s", text)
	}
	s.Source.Cut()
	var held *HeldError
	if _, err := FailOver(t.Context(), there, &back, Options{Who: "bob"}); !errors.As(err, &held) || !held.Replaces {
		t.Errorf("while the switchover is carried out: %v", err)
	}
	report, err := FailOver(t.Context(), there, &back, Options{Who: "bob", gone: func(string) bool { return true }})
	if err != nil || report.State != control.RecoveryDone || report.Groups != 1 {
		t.Fatalf("%v: %+v", err, report)
	}
	if i := slices.IndexFunc(report.Checks, func(r Row) bool { return r.Name == "recovery" && strings.Contains(r.Detail, "stay frozen") }); i < 0 {
		t.Errorf("%+v", report.Checks)
	}
	if d := s.ControlState().Stopped(); d == nil || d.What != control.FailOver {
		t.Errorf("%+v", d)
	}
	s.Source.Restore()
	if cmp.Equal(before, quotas()) {
		t.Fatal("nothing is frozen")
	}
	if text, err := Thaw(t.Context(), there, nil, "bob"); err != nil || text == "" {
		t.Fatalf("%q, %v", text, err)
	}
	if diff := cmp.Diff(before, quotas()); diff != "" {
		t.Error(diff)
	}
}

// Very many partitions have records that only the old source has. What a failback notes of them fits into the control topic, and all of them are left out;
// what does not fit is not noted, and does not keep it from being undone.
func TestFailbackOfManyPartitions(t *testing.T) {
	t.Parallel()
	found := &Diverged{}
	for n := range int32(20_000) {
		records := int64(n)
		found.Partitions = append(found.Partitions, diverged.Partition{
			Topic: fmt.Sprintf("a-topic-with-a-long-name-%d", n/100), TargetTopic: "copy", Partition: n % 100, To: 1_000_000_000, Records: &records, Notes: []string{strings.Repeat("é", 300)},
		})
	}
	s := &scene{Clusters: replicatortest.NewClusters(t, 1), t: t}
	r, err := begin(t.Context(), s.AsCommand(), Failback, Options{Who: "alice"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	if err := r.change(t.Context(), func(d *document) { d.Report.Diverged = found }); !errors.Is(err, errTooLarge) {
		t.Errorf("it fits: %v", err)
	}
	if err := r.change(t.Context(), func(d *document) { d.Report.Diverged, d.LeaveOut = found.bounded(), found.ends() }); err != nil {
		t.Error(err)
	}
	if d := r.doc.Report.Diverged; len(d.Partitions) != maxDiverged || d.OtherPartitions != 20_000-maxDiverged || len(r.doc.LeaveOut) != 200 || len(r.doc.LeaveOut["a-topic-with-a-long-name-7"]) != 100 {
		t.Errorf("%d and %d partitions, %d topics", len(d.Partitions), d.OtherPartitions, len(r.doc.LeaveOut))
	}
	if err := r.end(t.Context(), control.RecoveryUndone); err != nil {
		t.Error(err)
	}
}

// A process was so slow that another one has taken the switchover over, and carries it out. What the slow one still says does not end the other one.
func TestASlowProcessDoesNotEndTheOneThatGoesOn(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	slow, other := s.takenOver()
	for range 3 { // as of the one that says that it is there, and of the step that ends
		if err := slow.note(t.Context(), Step{Name: StepDrain, Result: Failed}); !errors.Is(err, errTaken) {
			t.Errorf("the slow process may go on: %v", err)
		}
	}
	if err := other.note(t.Context(), Step{Name: StepDrain, Result: OK}); err != nil {
		t.Error(err)
	}
}
