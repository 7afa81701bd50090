package recovery

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/freeze"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// failedOver is a scene after a failover, with 50 records that only the old source has.
func (s *scene) failedOver() {
	s.t.Helper()
	s.home.UntilCopied("orders")
	s.forth.UntilJournaled("orders")
	back := s.ReverseAsCommand()
	s.Source.Cut()
	if report, err := FailOver(s.t.Context(), s.AsCommand(), &back, Options{Who: "alice"}); err != nil {
		s.t.Fatalf("%v: %+v", err, report)
	}
	s.Source.Restore()
	s.Source.Produce("orders", 1, 50, "diverged")
	s.Target.Produce("orders", 1, 10, "meanwhile")
	s.forth.Stop() // one that has just started knows the ends of the source
	s.forth = s.Start(replicatortest.FastJournal, replicatortest.FastGroups, replicatortest.FastTopics)
	s.forth.UntilReady()
	s.home.UntilCopied("orders")
	s.home.UntilPartitions("heartbeats are copied", "heartbeats", 1, func(p replicator.PartitionStatus) bool { return p.LagRecords != nil })
}

// failBack fails back; killed is told each event before it is carried on, and true ends the process there.
func (s *scene) failBack(file string, killed func(Event) bool) (report *Report, err error, wasKilled bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), time.Minute)
	defer cancel()
	back := s.ReverseAsCommand()
	there := s.AsCommand()
	o := Options{Who: "alice", Freeze: freeze.None, MaxLag: 1000, gone: func(string) bool { return true }, Diverged: DivergedOptions{Action: Export, File: file}}
	o.Watch = func(e Event) {
		if killed(e) {
			wasKilled = true
			runtime.Goexit()
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		report, err = FailBack(ctx, there, &back, o)
	}()
	replicatortest.Await(s.t, "the failback ends", done)
	return report, err, wasKilled
}

// The processes that carry out a failback are killed, one after the other, when each step begins and ends, also those of the switchover home. The same command
// then goes on, and the end is the same: each record that only the old source has is exported once, and none of them is copied.
func TestFailbackKilledAtEachStep(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.failedOver()
	file := filepath.Join(t.TempDir(), "diverged.jsonl")
	kill := func(name string, at Result) {
		_, err, killed := s.failBack(file, func(e Event) bool { return e.Waiting == "" && e.Step.Name == name && e.Step.Result == at })
		if !killed {
			t.Fatalf("at %s %s it was not killed: %v", name, at, err)
		}
		if r := s.ControlState().Recovery(); r == nil || !r.IsOpen() || r.What != string(Failback) {
			t.Fatalf("at %s %s the topic has %+v", name, at, r)
		}
	}
	for _, name := range []string{StepDiverged, StepLeaveOut, StepCatchUp} {
		kill(name, Begun)
		kill(name, OK)
	}
	kill(StepHome, Begun)
	for _, planned := range StepsOf(Switchover) {
		kill(planned.Name, Begun)
		kill(planned.Name, OK)
	}
	kill(StepHome, OK)
	report, err, _ := s.failBack(file, never)
	if err != nil || report.State != control.RecoveryDone || len(report.Steps) != len(StepsOf(Failback)) || report.Clients == nil {
		t.Fatalf("%v: %+v", err, report)
	}
	s.isBack(file)
}

// A process is killed after the file got its name, and before it could say so. The next one exports anew, with what there is by then.
func TestFailbackKilledAfterTheExport(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.failedOver()
	file := filepath.Join(t.TempDir(), "diverged.jsonl")
	_, err, killed := s.failBack(file, func(e Event) bool { return e.Step.Name == StepDiverged })
	if !killed {
		t.Fatalf("it was not killed: %v", err)
	}
	if _, err, _ := s.failBack(file+".other", never); err == nil || !strings.Contains(err.Error(), "--diverged export --export-to "+file+";") {
		t.Errorf("resumed with another file: %v", err)
	}
	r := s.ControlState().Recovery()
	x := exporter{o: DivergedOptions{File: file}, id: r.ID}
	if err := os.WriteFile(x.partial(), []byte("an older end\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(x.partial(), file); err != nil {
		t.Fatal(err)
	}
	if report, err, _ := s.failBack(file, never); err != nil {
		t.Fatalf("%v: %+v", err, report)
	}
	s.isBack(file)
}

// A process is killed when the failback has ended, and before it could take back the freeze that the source has kept since before the failover. The status of
// the flow says who is frozen, and the same command takes it back.
func TestFailbackKilledBeforeItsThaw(t *testing.T) {
	t.Parallel()
	s := &scene{Clusters: replicatortest.NewClusters(t, 1), t: t}
	s.Source.CreateTopic("orders", 1)
	before := s.quotas()
	made, err := freeze.NewPlan(t.Context(), s.Source.Client, freeze.Options{Cluster: "a", Method: freeze.Quota, Principals: []string{"User:ANONYMOUS"}, ClientIDs: []string{"milena"}})
	if err != nil || !made.OK() {
		t.Fatalf("%v: %+v", err, made)
	}
	if err := freeze.Freeze(t.Context(), s.Source.Client, made.Memory); err != nil {
		t.Fatal(err)
	}
	killed, err := begin(t.Context(), s.AsCommand(), Failback, Options{Who: "alice"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer killed.close()
	if err := killed.change(t.Context(), func(d *document) { d.Earlier = []frozen{{Memory: made.Memory, Since: now()}} }); err != nil {
		t.Fatal(err)
	}
	if err := killed.end(t.Context(), control.RecoveryDone); err != nil {
		t.Fatal(err)
	}
	if list := s.ControlState().Frozen(); len(list) != 1 || list[0].Cluster != "a" {
		t.Errorf("the control topic says %+v", list)
	}
	report, err, _ := s.failBack("", never)
	if err != nil || report.State != control.RecoveryDone || report.Verb != Failback {
		t.Fatalf("%v: %+v", err, report)
	}
	if diff := cmp.Diff(before, s.quotas()); diff != "" {
		t.Error(diff)
	}
	if list := s.ControlState().Frozen(); len(list) > 0 {
		t.Errorf("the control topic still says %+v", list)
	}
	if _, err, _ := s.failBack("", never); err == nil {
		t.Error("there is nothing to do, and another failback was carried out")
	}
}

// isBack checks the end of a failback.
func (s *scene) isBack(file string) {
	s.t.Helper()
	if d := s.ControlState().Stopped(); d != nil {
		s.t.Errorf("the flow is stopped: %+v", d)
	}
	text, err := os.ReadFile(file)
	if n := bytes.Count(text, []byte("\n")); err != nil || n != 50 {
		s.t.Errorf("%v: the file has %d lines", err, n)
	}
	s.Source.Produce("orders", 1, 5, "home")
	s.forth.UntilCopied("orders")
	if n := len(s.Target.Records("a.orders", 1)[0]); n != 25 {
		s.t.Errorf("the copy has %d records", n)
	}
}
