package recovery_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/freeze"
	"github.com/milena-kafka/milena/replicator/recovery"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

func (p *pair) failOver(o recovery.Options) (*recovery.Report, error) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	back := p.back
	return recovery.FailOver(ctx, p.there, &back, o)
}

// untilLossIsKnown waits until the target alone tells what a failover would lose, of heartbeats too: what an instance has seen of the source, the journal
// has a little later.
func (p *pair) untilLossIsKnown() {
	p.t.Helper()
	p.forth.Until("heartbeats are copied", func(s replicator.Status) bool { return len(replicatortest.Partitions(s, "heartbeats")) > 0 })
	o := p.options()
	o.DryRun, o.Force = true, true
	withoutSource, back := p.there, p.back
	withoutSource.Source.Brokers = []string{"127.0.0.1:1"} // nothing listens there
	replicatortest.Eventually(p.t, "it is known what a failover would lose", func() (bool, string) {
		ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
		defer cancel()
		report, err := recovery.FailOver(ctx, withoutSource, &back, o)
		return err == nil && report.Loss.Unknown == 0 && report.Loss.MissingRecords == 0, fmt.Sprintf("%v: %+v", err, report)
	})
}

// The source is gone, and the flow fails over: groups continue where they were, and when the source is back nothing is copied, also after a restart.
func TestFailOver(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.Source.Produce("orders", 2, 100, "first")
	p.Source.Commit("billing", "orders", 0, 50)
	p.ready()
	p.Target.AwaitCommitted("billing", "a.orders", 0, p.TargetOffset("orders", 0, 50))
	p.forth.UntilJournaled("orders")
	where := p.TargetOffset("orders", 0, 50)

	var refused *recovery.RefusedError
	if report, err := p.failOver(p.options()); !errors.As(err, &refused) || report.State != "" {
		t.Fatalf("with a source that answers: %v, %+v", err, report)
	}
	p.untilLossIsKnown()
	p.Source.Cut()
	report, err := p.failOver(p.options())
	if err != nil || report.State != control.RecoveryDone || report.Loss == nil || report.Clients == nil {
		t.Fatalf("%v: %+v", err, report)
	}
	if report.Loss.MissingRecords != 0 || report.Loss.Unknown != 0 || report.Groups != 1 {
		t.Errorf("%+v, %+v", report, report.Loss)
	}
	if at, _ := p.Target.Committed("billing", "a.orders", 0); at != where {
		t.Errorf("the group is at %d, not at %d", at, where)
	}
	copied := len(p.Target.Records("a.orders", 2)[0])
	p.Source.Restore()
	p.Source.Produce("orders", 2, 10, "only the old source has it")
	p.forth.Stop()
	p.forth = p.Start(replicatortest.FastJournal, replicatortest.FastGroups, replicatortest.FastTopics)
	p.forth.UntilTopicSyncs(2)
	status := p.forth.Status()
	if !status.Ready || len(status.Control.InForce) != 1 || status.Control.InForce[0].What != control.FailOver {
		t.Errorf("%v, %+v", status.NotReady, status.Control)
	}
	for _, part := range replicatortest.Partitions(status, "orders") {
		if part.Paused == nil || part.Paused.What != control.FailOver {
			t.Errorf("%+v", part)
		}
	}
	p.forth.Until("the lag of what only the source has is known", func(s replicator.Status) bool {
		parts := replicatortest.Partitions(s, "orders")
		return len(parts) == 2 && parts[0].LagRecords != nil && *parts[0].LagRecords == 10
	})
	if n := len(p.Target.Records("a.orders", 2)[0]); n != copied {
		t.Errorf("%d records were copied after the failover", n-copied)
	}
}

// A failover says what was refused.
func TestFailOverRefusals(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.ready()
	o := p.options()
	o.DryRun, o.Force = true, true
	report, err := p.failOver(o)
	if err != nil || report.State != "" || report.Loss == nil {
		t.Errorf("%v: %+v", err, report)
	}
	if p.ControlState().Stopped() != nil {
		t.Error("a dry run stopped the flow")
	}
	o.Force = false
	if _, err = p.failOver(o); err == nil || !strings.Contains(err.Error(), "milena switchover") {
		t.Errorf("%v", err)
	}
	o.Where = map[string]recovery.Where{"biling": recovery.WhereLatest}
	o.Force = true
	if _, err = p.failOver(o); err == nil || !strings.Contains(err.Error(), "no checkpoint has these groups of --group-positions: biling") {
		t.Errorf("with a group that is not there: %v", err)
	}
}

// Groups are put at a time, at the end, or where they continue, as somebody says.
func TestFailOverPutsGroupsWhereSomebodySays(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.Source.Produce("orders", 1, 50, "first")
	for _, group := range []string{"billing", "audit", "shipping"} {
		p.Source.Commit(group, "orders", 0, 50)
	}
	p.ready()
	for _, group := range []string{"billing", "audit", "shipping"} {
		p.Target.AwaitCommitted(group, "a.orders", 0, p.TargetOffset("orders", 0, 50))
	}
	p.forth.UntilJournaled("orders")
	p.Source.Cut()
	o := p.options()
	long, err := recovery.ParseWhere("now-1h", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	o.Where = map[string]recovery.Where{"*": long, "audit": recovery.WhereLatest, "shipping": recovery.WhereTranslated}
	if report, err := p.failOver(o); err != nil {
		t.Fatalf("%v: %+v", err, report)
	}
	first, end := p.Target.Records("a.orders", 1)[0][0].Offset, p.Target.EndOffsets("a.orders")[0]
	if at, _ := p.Target.Committed("billing", "a.orders", 0); at < 0 || at > first { // before it there may be a marker
		t.Errorf("billing is at %d, and the first record at %d", at, first)
	}
	if at, _ := p.Target.Committed("audit", "a.orders", 0); at != end {
		t.Errorf("audit is at %d, and the end is %d", at, end)
	}
	if at, _ := p.Target.Committed("shipping", "a.orders", 0); at <= first || at > end {
		t.Errorf("shipping is at %d of %d", at, end)
	}
	for _, wrong := range []string{"", "earliest", "now", "now+1h", "15m", "2999-01-01T00:00:00Z"} {
		if where, err := recovery.ParseWhere(wrong, time.Now()); err == nil {
			t.Errorf("%q is %s", wrong, where)
		}
	}
}

// A switchover home has left the producers of the target frozen. Then home is lost, and with it the record of the switchover: a failover to the target lets
// them write again.
func TestFailOverThawsWhatASwitchoverFroze(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.Target.Produce("orders", 1, 20, "there")
	p.ready()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	quotas := func() kadm.DescribedClientQuotas {
		found, err := p.Target.Admin.DescribeClientQuotas(ctx, false, []kadm.DescribeClientQuotaComponent{})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	before := quotas()
	o := p.options()
	o.Freeze = freeze.Quota
	if report, err := recovery.SwitchOver(ctx, p.back, &p.there, o); err != nil {
		t.Fatalf("%v: %+v", err, report)
	}
	if cmp.Equal(before, quotas()) {
		t.Fatal("nothing is frozen")
	}
	p.Source.Cut()
	report, err := p.failOver(p.options())
	if err != nil {
		t.Fatalf("%v: %+v", err, report)
	}
	if diff := cmp.Diff(before, quotas()); diff != "" {
		t.Errorf("%+v\n%s", report.Steps, diff)
	}
}

// Consumers on the target use the same group name, and have read less there than those on the source: their position is not that of milena, and stays.
func TestFailOverLeavesPositionsOfTheTargetsConsumers(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.Source.Produce("orders", 2, 100, "first")
	p.forth.UntilCopied("orders")
	p.Target.Commit("billing", "a.orders", 0, 3)
	p.Source.Commit("billing", "orders", 0, 40)
	p.Source.Commit("shipping", "orders", 0, 40)
	p.ready()
	p.Target.AwaitCommitted("shipping", "a.orders", 0, p.TargetOffset("orders", 0, 40))
	p.forth.UntilJournaled("orders")
	p.Source.Cut()
	report, err := p.failOver(p.options())
	if err != nil {
		t.Fatalf("%v: %+v", err, report)
	}
	if at, _ := p.Target.Committed("billing", "a.orders", 0); at != 3 {
		t.Errorf("billing was moved from 3 to %d, and skips what is between", at)
	}
	if detail := report.Steps[len(report.Steps)-1].Detail; !strings.Contains(detail, "not moved: group billing stands there") {
		t.Errorf("%s", detail)
	}
}
