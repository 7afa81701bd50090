package recovery_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/fleet"
	"github.com/milena-kafka/milena/replicator/recovery"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

func drillOptions() recovery.DrillOptions {
	return recovery.DrillOptions{Positions: 100, Samples: 2, Pause: 50 * time.Millisecond}
}

func (p *pair) drill(change ...func(*recovery.DrillOptions)) *recovery.Report {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	back, of := p.back, drillOptions()
	for _, c := range change {
		c(&of)
	}
	report, err := recovery.RunDrill(ctx, p.there, &back, p.options(), of)
	if err != nil || report.State != control.RecoveryDone || report.Drilled == nil {
		p.t.Fatalf("%v: %+v", err, report)
	}
	p.t.Logf("%+v", report.Drilled)
	p.isClean()
	return report
}

// isClean checks that no drill has left a group.
func (p *pair) isClean() {
	p.t.Helper()
	groups, err := p.Target.Admin.ListGroups(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	for _, group := range groups.Groups() {
		if strings.HasPrefix(group, "milena-drill.") {
			p.t.Errorf("group %s is left", group)
		}
	}
}

func findings(r *recovery.Report, kind recovery.FindingKind) (list []recovery.Finding) {
	for _, f := range r.Drilled.Findings {
		if f.Kind == kind {
			list = append(list, f)
		}
	}
	return list
}

// newDrillPair are two clusters with groups in the midst of a log, at its end, and behind deleted records.
func newDrillPair(t *testing.T) *pair {
	t.Helper()
	p := newPair(t, func(f *config.Flow) { f.GroupsBack = nil }) // what is put on the target by hand stays there
	p.GroupsBack = nil
	p.there, p.back = p.AsCommand(), p.ReverseAsCommand()
	p.Source.Produce("orders", 2, 100, "first")
	p.Source.Commit("billing", "orders", 0, 50)
	p.Source.Commit("billing", "orders", 1, 100)
	p.Source.Commit("shipping", "orders", 1, 7)
	p.ready()
	p.forth.UntilPartitions("heartbeats are copied, else a check may find that they are not", "heartbeats", 1, func(of replicator.PartitionStatus) bool {
		return of.LagRecords != nil && of.State == "replicating"
	})
	p.Target.AwaitCommitted("billing", "a.orders", 0, p.TargetOffset("orders", 0, 50))
	p.Target.AwaitCommitted("shipping", "a.orders", 1, p.TargetOffset("orders", 1, 7))
	return p
}

// A drill is passed, and nothing has changed: the groups are where they were, on both clusters, and the flow goes on. The next one is as well.
func TestDrill(t *testing.T) {
	t.Parallel()
	p := newDrillPair(t)
	p.knowsRPO()
	before := p.committed()
	report := p.drill()
	d := report.Drilled
	if !d.Passed || d.Positions != 3 || d.Checked != 3 || len(d.Groups) != 2 || d.RPOSeconds == nil || d.RTOSeconds == nil || len(d.RPO) != 2 {
		t.Errorf("%+v", d)
	}
	want := []recovery.DrilledGroup{
		{Group: "billing", Positions: 2, Checked: 2, Same: 1, End: 1, Committed: 2},
		{Group: "shipping", Positions: 1, Checked: 1, Same: 1, Committed: 1},
	}
	if !slices.Equal(d.Groups, want) {
		t.Errorf("%+v", d.Groups)
	}
	if after := p.committed(); after != before {
		t.Errorf("the groups were at %s, and are at %s", before, after)
	}
	if p.ControlState().Stopped() != nil || p.ControlState().Recovery() != nil {
		t.Errorf("%+v", p.ControlState().Recovery())
	}
	p.Source.Produce("orders", 2, 10, "second")
	p.forth.UntilCopied("orders")
	p.drill()
	p.forth.Until("the status has the drill", func(s replicator.Status) bool {
		d := s.Control.Drill
		return d != nil && d.ID > report.ID && d.Passed && d.LastPassed.Equal(d.When) && d.RTOSeconds != nil
	})
	for name, least := range map[string]float64{"milena_drill_passed": 1, "milena_drill_rto_seconds": 0, "milena_drill_last_timestamp_seconds": 1e9, "milena_drill_last_success_timestamp_seconds": 1e9} {
		if got := p.forth.Metric(name); got < least {
			t.Errorf("%s is %v", name, got)
		}
	}
	last, passed := p.ControlState().LastDrills()
	if last == nil || last != passed && last.ID != passed.ID || last.ID <= report.ID || len(p.ControlState().Recoveries()) != 2 {
		t.Errorf("%+v, %+v", last, passed)
	}
	if _, err := recovery.ReportOf(last); err != nil {
		t.Error(err)
	}
}

// knowsRPO waits until the journal says up to when the copy is complete.
func (p *pair) knowsRPO() {
	p.t.Helper()
	replicatortest.Eventually(p.t, "the RPO is known", func() (bool, string) {
		r, err := fleet.Read(p.t.Context(), p.there)
		return err == nil && !r.RPO.CompleteUpTo.IsZero(), fmt.Sprintf("%v: %+v", err, r.RPO)
	})
}

// committed are the positions of all groups on both clusters.
func (p *pair) committed() string {
	p.t.Helper()
	var list []string
	for _, c := range []*replicatortest.Cluster{p.Source, p.Target} {
		groups, err := c.Admin.ListGroups(p.t.Context())
		if err != nil {
			p.t.Fatal(err)
		}
		for name, fetched := range c.Admin.FetchManyOffsets(p.t.Context(), groups.Groups()...) {
			fetched.Fetched.Each(func(o kadm.OffsetResponse) {
				list = append(list, fmt.Sprintf("%s %s-%d %d", name, o.Topic, o.Partition, o.At))
			})
		}
		list = append(list, fmt.Sprint(groups.Groups()))
	}
	slices.Sort(list)
	return strings.Join(list, "; ")
}

// A group was put one record too far on the target, as by a person.
func TestDrillFindsAnOffsetThatIsWrong(t *testing.T) {
	t.Parallel()
	for _, by := range []int64{-1, 1} {
		p := newDrillPair(t)
		p.Target.Commit("billing", "a.orders", 0, p.TargetOffset("orders", 0, 50)+by)
		report := p.drill()
		found := findings(report, recovery.FindingCommitted)
		if report.Drilled.Passed || len(report.Drilled.Findings) != 1 || len(found) != 1 || found[0].Group != "billing" {
			t.Errorf("%+d: %+v", by, report.Drilled.Findings)
		}
		last, passed := p.ControlState().LastDrills()
		if last == nil || last.Drilled.Passed || last.Drilled.Findings != 1 || passed != nil {
			t.Errorf("%+v, %+v", last, passed)
		}
		p.Stop()
	}
}

// Stop ends both flows.
func (p *pair) Stop() {
	p.forth.Stop()
	p.home.Stop()
}

// Somebody has written a record to the target, where a group would continue.
func TestDrillFindsARecordThatIsNoCopy(t *testing.T) {
	t.Parallel()
	p := newDrillPair(t)
	p.Stop()
	p.Target.Write(&kgo.Record{Topic: "a.orders", Partition: 1, Value: []byte("foreign")})
	report := p.drill()
	found := findings(report, recovery.FindingRecord)
	if len(found) != 1 || found[0].Group != "billing" || !strings.Contains(found[0].Detail, "no copy") {
		t.Errorf("%+v", report.Drilled.Findings)
	}
	if checks := findings(report, recovery.FindingCheck); len(checks) == 0 { // no instance runs
		t.Error("no check has found anything")
	}
}

// The target has deleted what a group has not read, and the source what another one has not read. The one loses records in a failover, the other does not.
func TestDrillFindsWhatIsDeleted(t *testing.T) {
	t.Parallel()
	p := newDrillPair(t)
	p.Source.DeleteRecords("orders", 1, 40)
	report := p.drill()
	if !report.Drilled.Passed || report.Drilled.Groups[1].Gone+report.Drilled.Groups[1].Same != 1 {
		t.Errorf("%+v", report.Drilled)
	}
	p.Target.DeleteRecords("a.orders", 0, p.TargetOffset("orders", 0, 60))
	report = p.drill()
	if found := findings(report, recovery.FindingRecord); len(found) != 1 || !strings.Contains(found[0].Detail, "deleted") {
		t.Errorf("%+v", report.Drilled.Findings)
	}
}

// The objectives are missed. A switchover that somebody carries out is not drilled, and what a check refuses is found.
func TestDrillObjectives(t *testing.T) {
	t.Parallel()
	p := newDrillPair(t)
	p.Submit(replicatortest.NewDecision(control.Pause, replicatortest.TP("orders", 0), func(d *control.Decision) { d.Why = "a test" }))
	p.Source.Produce("orders", 1, 10, "late")
	objective := time.Nanosecond
	report := p.drill(func(o *recovery.DrillOptions) { o.RPO, o.RTO = &objective, &objective })
	for _, kind := range []recovery.FindingKind{recovery.FindingRPO, recovery.FindingRTO, recovery.FindingCheck} {
		if len(findings(report, kind)) == 0 {
			t.Errorf("no finding %s: %+v", kind, report.Drilled.Findings)
		}
	}
	var held *recovery.HeldError
	o := p.options()
	o.Watch = func(e recovery.Event) {
		if e.Step.Name == recovery.StepRPO && e.Step.Result == recovery.Begun {
			_, err := recovery.RunDrill(t.Context(), p.there, &p.back, p.options(), drillOptions())
			if !errors.As(err, &held) {
				t.Errorf("a second drill: %v", err)
			}
		}
	}
	if _, err := recovery.RunDrill(t.Context(), p.there, &p.back, o, drillOptions()); err != nil || held == nil {
		t.Errorf("%v, %+v", err, held)
	}
}

// Somebody has to switch over while a drill runs. The drill does not hold that up, and leaves nothing.
func TestSwitchOverDuringADrill(t *testing.T) {
	t.Parallel()
	p := newDrillPair(t)
	o := p.options()
	var switched error
	o.Watch = func(e recovery.Event) {
		if e.Step.Name == recovery.StepConsume && e.Step.Result == recovery.OK {
			_, switched = p.switchOver(p.there, p.back)
		}
	}
	report, err := recovery.RunDrill(t.Context(), p.there, &p.back, o, drillOptions())
	if err != nil || switched != nil {
		t.Fatalf("drill: %v; switchover: %v", err, switched)
	}
	if !slices.ContainsFunc(report.Drilled.Notes, func(n string) bool { return strings.Contains(n, "began a switchover") }) {
		t.Errorf("%+v", report.Drilled)
	}
	p.isClean()
}

// A group moves on the source all the time, and is not synced: on the target it stays behind.
func TestDrillFindsAGroupThatIsNotSynced(t *testing.T) {
	t.Parallel()
	p := newDrillPair(t)
	p.Submit(control.New(control.Pause, control.Scope{Kind: control.Groups}, "bob", "a test"))
	at := int64(51)
	p.Source.Commit("billing", "orders", 0, at)
	o := p.options()
	o.Watch = func(e recovery.Event) {
		if e.Step.Name == recovery.StepCommitted && (e.Waiting != "" || e.Step.Result == recovery.Begun) && at < 100 {
			at++
			p.Source.Commit("billing", "orders", 0, at)
		}
	}
	report, err := recovery.RunDrill(t.Context(), p.there, &p.back, o, drillOptions())
	if err != nil {
		t.Fatal(err)
	}
	found := findings(report, recovery.FindingCommitted)
	if report.Drilled.Passed || len(found) != 1 || !strings.Contains(found[0].Detail, "not synced") {
		t.Errorf("%+v", report.Drilled)
	}
}
