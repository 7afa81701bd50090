package recovery_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/recovery"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// divergedRecords is how many records only the old source has, in two partitions.
const divergedRecords = 500

// newFailedOver are two clusters after a failover: clients have read and written on the target, and the old source is back with records of its own.
func newFailedOver(t *testing.T) *pair {
	t.Helper()
	p := newPair(t)
	p.Source.Produce("orders", 2, 100, "first")
	p.Source.Commit("billing", "orders", 0, 20)
	p.ready()
	p.Target.AwaitCommitted("billing", "a.orders", 0, p.TargetOffset("orders", 0, 20))
	p.forth.UntilJournaled("orders")
	p.Source.Cut()
	if report, err := p.failOver(p.options()); err != nil {
		t.Fatalf("%v: %+v", err, report)
	}
	p.Source.Restore()
	p.Source.Produce("orders", 2, divergedRecords/2, "only the old source has it")
	p.Target.Commit("billing", "a.orders", 0, p.TargetOffset("orders", 0, 40))
	p.Target.Produce("orders", 2, 60, "written meanwhile")
	p.home.UntilCopied("orders")
	p.home.UntilPartitions("heartbeats are copied", "heartbeats", 1, func(s replicator.PartitionStatus) bool { return s.LagRecords != nil })
	return p
}

func (p *pair) failBack(back *client.Clusters, d recovery.DivergedOptions, change ...func(*recovery.Options)) (*recovery.Report, error) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	o := p.options()
	o.Diverged = d
	o.Watch = func(e recovery.Event) { p.t.Logf("%+v", e) }
	for _, c := range change {
		c(&o)
	}
	return recovery.FailBack(ctx, p.there, back, o)
}

// isHome checks that the clients are home, and that what is written there is copied.
func (p *pair) isHome(report *recovery.Report, err error) {
	p.t.Helper()
	if err != nil || report.State != control.RecoveryDone || report.Clients == nil || report.Switchover == nil {
		p.t.Fatalf("%v: %+v", err, report)
	}
	if report.Clients.Cluster != replicatortest.SourceAlias {
		p.t.Errorf("%+v", report.Clients)
	}
	if d := p.ControlState().Stopped(); d != nil {
		p.t.Errorf("the flow is stopped: %+v", d)
	}
	if at, _ := p.Source.Committed("billing", "orders", 0); at != 40 {
		p.t.Errorf("at home, the group is at %d", at)
	}
	p.Source.Produce("orders", 2, 30, "at home again")
	p.forth.UntilCopied("orders")
}

// Nothing is begun if nobody has said what becomes of the records that only the old source has, and a dry run lists them.
func TestFailBackRefuses(t *testing.T) {
	t.Parallel()
	p := newFailedOver(t)
	var refused *recovery.RefusedError
	report, err := p.failBack(&p.back, recovery.DivergedOptions{})
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "--diverged keep") || report.State != "" {
		t.Errorf("%v: %+v", err, report)
	}
	if _, err := p.switchOver(p.there, p.back); !errors.As(err, &refused) || !strings.Contains(err.Error(), "milena failback brings clients home") || strings.Contains(err.Error(), "milena start") {
		t.Errorf("a switchover of a flow that has failed over: %v", err)
	}
	if d := report.Diverged; d == nil || d.Records != divergedRecords || len(d.Partitions) != 2 {
		t.Errorf("%+v", report.Diverged)
	}
	if r := p.ControlState().Recovery(); r.What != string(recovery.Failover) || r.IsOpen() {
		t.Errorf("%+v", r)
	}
	file := filepath.Join(t.TempDir(), "diverged.jsonl")
	if report, err = p.failBack(&p.back, recovery.DivergedOptions{Action: recovery.Export, File: file}, func(o *recovery.Options) { o.DryRun = true }); err != nil || report.Diverged.Records != divergedRecords {
		t.Errorf("%v: %+v", err, report)
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a dry run exported: %v", err)
	}
	if err := os.WriteFile(file, []byte("of somebody else\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err = p.failBack(&p.back, recovery.DivergedOptions{Action: recovery.Export, File: file}); !errors.As(err, &refused) || !strings.Contains(err.Error(), "exists") {
		t.Errorf("over a file that exists: %v", err)
	}
	if _, err = p.failBack(nil, recovery.DivergedOptions{Action: recovery.Keep}); !errors.As(err, &refused) || !strings.Contains(err.Error(), "no flow of this file copies") {
		t.Errorf("without a flow back: %v", err)
	}
}

// A flow that has not failed over has nothing to bring back.
func TestFailBackWithoutAFailover(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.ready()
	var refused *recovery.RefusedError
	if _, err := p.failBack(&p.back, recovery.DivergedOptions{}); !errors.As(err, &refused) || !strings.Contains(err.Error(), "has not failed over") {
		t.Errorf("%v", err)
	}
	p.Decide(control.Done, control.StopFlow, control.Scope{Kind: control.Flow})
	if _, err := p.failBack(&p.back, recovery.DivergedOptions{}); !errors.As(err, &refused) || !strings.Contains(err.Error(), "milena switchover of the reverse flow") {
		t.Errorf("%v", err)
	}
}

// The records that only the old source has are exported, to the last one, and the flow leaves them out.
func TestFailBackExports(t *testing.T) {
	t.Parallel()
	p := newFailedOver(t)
	file := filepath.Join(t.TempDir(), "diverged.jsonl")
	report, err := p.failBack(&p.back, recovery.DivergedOptions{Action: recovery.Export, File: file, Topics: true})
	p.isHome(report, err)
	if d := report.Diverged; d == nil || d.Exported != divergedRecords || d.LeftOut != divergedRecords || d.File != file || len(d.Topics) != 1 {
		t.Errorf("%+v", report.Diverged)
	}
	p.checkExported(file)
	records := 0
	for _, list := range p.Target.Records("milena.a-b.diverged.orders", 2) {
		records += len(list)
	}
	if records != divergedRecords {
		t.Errorf("the topic has %d records", records)
	}
	for n, list := range p.Target.Texts("a.orders", 2) {
		if len(list) != 130 {
			t.Errorf("the copy of partition %d has %d records", n, len(list))
		}
		for _, text := range list {
			if strings.Contains(text, "only the old source") {
				t.Fatalf("partition %d: a record that was exported is copied: %s", n, text)
			}
		}
	}
}

// checkExported checks that a file has each record that only the old source has, once, and that nobody else may read it.
func (p *pair) checkExported(file string) {
	p.t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		p.t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		p.t.Errorf("%v, %v", info, err)
	}
	if left, _ := filepath.Glob(file + ".*"); len(left) > 0 {
		p.t.Errorf("left behind: %v", left)
	}
	seen := make(map[string]bool)
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		var line struct {
			Topic     string
			Partition int32
			Offset    int64
			Value     string
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			p.t.Fatalf("%v: %s", err, lines.Text())
		}
		if line.Topic != "orders" || line.Offset < 100 || line.Offset >= 100+divergedRecords/2 {
			p.t.Errorf("%+v", line)
		}
		seen[fmt.Sprintf("%d %d", line.Partition, line.Offset)] = true
	}
	if n := bytes.Count(text, []byte("\n")); n != divergedRecords || len(seen) != divergedRecords {
		p.t.Errorf("%d lines with %d records", n, len(seen))
	}
}

// The records that only the old source has are copied when the flow goes on.
func TestFailBackKeeps(t *testing.T) {
	t.Parallel()
	p := newFailedOver(t)
	report, err := p.failBack(&p.back, recovery.DivergedOptions{Action: recovery.Keep})
	p.isHome(report, err)
	if d := report.Diverged; d == nil || d.Records != divergedRecords || d.Exported+d.LeftOut != 0 {
		t.Errorf("%+v", report.Diverged)
	}
	p.Verify("orders", "a.orders", 2)
}

// Without a flow back, what only the old source has can be exported, and nothing else is done.
func TestFailBackOnlyExports(t *testing.T) {
	t.Parallel()
	p := newFailedOver(t)
	file := filepath.Join(t.TempDir(), "diverged.jsonl")
	report, err := p.failBack(nil, recovery.DivergedOptions{Action: recovery.Export, File: file})
	if err != nil || report.State != control.RecoveryDone || len(report.Steps) != 1 || report.Clients != nil {
		t.Fatalf("%v: %+v", err, report)
	}
	p.checkExported(file)
	if d := p.ControlState().Stopped(); d == nil || d.What != control.FailOver {
		t.Errorf("%+v", d)
	}
}

// A switchover home that fails is undone, and the flow stays stopped. Then the failback is carried out anew, and what was left out stays left out.
func TestFailBackAgainAfterItWasUndone(t *testing.T) {
	t.Parallel()
	p := newFailedOver(t)
	file := filepath.Join(t.TempDir(), "diverged.jsonl")
	written := false
	report, err := p.failBack(&p.back, recovery.DivergedOptions{Action: recovery.Export, File: file}, func(o *recovery.Options) {
		o.Watch = func(e recovery.Event) {
			if e.Waiting == "" && e.Step.Name == recovery.StepStop && e.Step.Result == recovery.Begun && !written {
				written = true
				p.Target.Produce("orders", 2, 1, "of a producer that nobody has stopped")
			}
		}
	})
	if err == nil || !strings.Contains(err.Error(), "stay left out") || report.State != control.RecoveryUndone {
		t.Fatalf("%v: %+v", err, report)
	}
	if text := err.Error(); strings.Contains(text, "clients stay on cluster "+p.there.Flow.Source) || strings.Count(text, "clients stay on cluster "+p.there.Flow.Target) != 1 {
		t.Errorf("where clients are is not said once: %v", err)
	}
	if p.ControlState().Stopped() == nil {
		t.Error("the flow runs")
	}
	p.checkExported(file)
	if _, err := p.failBack(&p.back, recovery.DivergedOptions{Action: recovery.Export, File: file}); err == nil || !strings.Contains(err.Error(), "nothing is left to export") {
		t.Errorf("the same command again: %v", err)
	}
	p.home.UntilCopied("orders")
	report, err = p.failBack(&p.back, recovery.DivergedOptions{})
	p.isHome(report, err)
	for n, list := range p.Target.Texts("a.orders", 2) {
		if len(list) != 130 {
			t.Errorf("the copy of partition %d has %d records", n, len(list))
		}
	}
}

// A consumer that was at work when the source went dark has committed there after the last sync, and then on the target. Before anything is begun,
// the failback says how milena may move it home all the same; after that the group follows the flow as before.
func TestFailBackOfAGroupThatCommittedAfterTheLastSync(t *testing.T) {
	t.Parallel()
	p := newFailedOver(t)
	p.Source.Commit("billing", "orders", 0, 25)
	report, err := p.failBack(&p.back, recovery.DivergedOptions{Action: recovery.Keep})
	var refused *recovery.RefusedError
	if !errors.As(err, &refused) || report.State != "" || !strings.Contains(err.Error(), "milena groups adopt billing --flow b-a --reason TEXT") {
		t.Fatalf("%v: %+v", err, report)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	adopt := replicatortest.NewDecision(control.Adopt, control.Scope{Kind: control.Group, Group: "billing"})
	if s, err := control.Submit(ctx, p.back, time.Minute, adopt); err != nil || len(s.Outcomes) != 1 || s.Outcomes[0].Result != control.Done {
		t.Fatalf("%v: %+v", err, s)
	}
	p.home.UntilCopied("orders")
	report, err = p.failBack(&p.back, recovery.DivergedOptions{Action: recovery.Keep})
	p.isHome(report, err)
	p.Source.Commit("billing", "orders", 0, 60)
	p.Target.AwaitCommitted("billing", "a.orders", 0, p.TargetOffset("orders", 0, 60))
}
