package recovery_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/recovery"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// newHalves are two clusters with a flow in each direction that keep the names of topics, so that one of them copies at a time.
func newHalves(t *testing.T, changes ...func(*config.Flow)) *pair {
	t.Helper()
	p := &pair{Clusters: replicatortest.NewClusters(t, 1), t: t}
	p.Source.CreateTopic("orders", 2)
	changes = append([]func(*config.Flow){replicatortest.FastJournal, replicatortest.FastGroups, replicatortest.FastTopics, func(f *config.Flow) { f.Shards = 3 }}, changes...)
	p.forth, p.home = p.StartForth(changes...), p.StartBack(changes...)
	p.there, p.back = p.PairAsCommand(changes...)
	return p
}

// newHalvesFailedOver are halves after a failover: clients have read and written on the target, and the old source is back with records of its own.
func newHalvesFailedOver(t *testing.T, diverged int) *pair {
	t.Helper()
	p := newHalves(t)
	p.Source.Produce("orders", 2, 100, "first")
	p.Source.Commit("billing", "orders", 0, 20)
	p.forth.UntilCopied("orders")
	p.Target.AwaitCommitted("billing", "orders", 0, p.sameRecord(p.Source, p.Target, 0, 20))
	p.forth.UntilJournaled("orders")
	p.forth.UntilGroupSyncs(2) // it knows then that it has put the group there
	p.Source.Cut()
	if report, err := p.failOver(p.options()); err != nil {
		t.Fatalf("%v: %+v", err, report)
	}
	p.Target.Produce("orders", 2, 60, "written meanwhile")
	p.Source.Restore()
	p.Target.Commit("billing", "orders", 0, p.sameRecord(p.Source, p.Target, 0, 40))
	if diverged > 0 {
		p.Source.Produce("orders", 2, diverged/2, "only the old source has it")
	}
	return p
}

// sameRecord is where a record of a partition of orders is on another cluster.
func (p *pair) sameRecord(from, to *replicatortest.Cluster, partition int32, offset int64) int64 {
	p.t.Helper()
	for _, r := range from.Records("orders", partition+1)[partition] {
		if r.Offset != offset {
			continue
		}
		for _, other := range to.Records("orders", partition+1)[partition] {
			if string(other.Value) == string(r.Value) {
				return other.Offset
			}
		}
	}
	p.t.Fatalf("the record at offset %d is not on both sides", offset)
	return -1
}

// areHome checks that the clients are home, that both clusters have each record exactly once and in order, with those that only the old source has on that
// side only, and that what is written at home is copied behind all of it.
func (p *pair) areHome(report *recovery.Report, err error) {
	p.t.Helper()
	if err != nil || report.State != control.RecoveryDone || report.Clients == nil || report.Switchover == nil {
		p.t.Fatalf("%v: %+v", err, report)
	}
	if at, _ := p.Source.Committed("billing", "orders", 0); at != 40 {
		p.t.Errorf("at home, the group is at %d", at)
	}
	p.Source.Produce("orders", 2, 30, "at home again")
	p.forth.UntilCopied("orders")
	old, here := p.Source.Texts("orders", 2), p.Target.Texts("orders", 2)
	for part := range int32(2) {
		if n := len(here[part]); n != 100+60+30 {
			p.t.Errorf("the target has %d records of partition %d", n, part)
		}
		isUnique(p.t, old[part])
		shared := slices.DeleteFunc(slices.Clone(old[part]), func(text string) bool { return strings.Contains(text, "only the old source has it") })
		replicatortest.MustEqual(p.t, fmt.Sprintf("partition %d on the source, without what only that has", part), here[part], shared)
	}
}

func isUnique(t *testing.T, texts []string) {
	t.Helper()
	seen := make(map[string]bool)
	for _, text := range texts {
		if seen[text] {
			t.Errorf("%s is there twice", text)
		}
		seen[text] = true
	}
}

// onlyOld counts the records that only the old source has: they are in its topic, behind the last one that was copied before the failover.
func (p *pair) onlyOld() (n int) {
	for _, list := range p.Source.Texts("orders", 2) {
		for i, text := range list {
			if strings.Contains(text, "only the old source has it") {
				if n++; i < 100 || i >= 100+divergedRecords/2 {
					p.t.Errorf("%s is the record %d of its partition", text, i)
				}
			}
		}
	}
	return n
}

// Halves fail over and back, and the records that only the old source has stay there, in front of what was written meanwhile.
func TestHalvesFailBackKeeps(t *testing.T) {
	t.Parallel()
	p := newHalvesFailedOver(t, divergedRecords)
	report, err := p.failBack(&p.back, recovery.DivergedOptions{Action: recovery.Keep})
	p.areHome(report, err)
	if d := report.Diverged; d == nil || d.Records != divergedRecords || p.onlyOld() != divergedRecords {
		t.Errorf("%+v", report.Diverged)
	}
}

// The records that only the old source has are exported, and stay there too.
func TestHalvesFailBackExports(t *testing.T) {
	t.Parallel()
	p := newHalvesFailedOver(t, divergedRecords)
	file := filepath.Join(t.TempDir(), "diverged.jsonl")
	report, err := p.failBack(&p.back, recovery.DivergedOptions{Action: recovery.Export, File: file})
	p.areHome(report, err)
	text, err := os.ReadFile(file)
	if n := strings.Count(string(text), "\n"); err != nil || n != divergedRecords {
		t.Errorf("%v: the file has %d of them", err, n)
	}
	if d := report.Diverged; d == nil || d.Exported != divergedRecords || d.LeftOut != divergedRecords || p.onlyOld() != divergedRecords {
		t.Errorf("%+v", report.Diverged)
	}
}

// Nothing is begun if nobody has said what becomes of the records that only the old source has, and neither flow copies.
func TestHalvesFailBackRefuses(t *testing.T) {
	t.Parallel()
	p := newHalvesFailedOver(t, divergedRecords)
	report, err := p.failBack(&p.back, recovery.DivergedOptions{})
	if err == nil || !strings.Contains(err.Error(), "--diverged keep") || report.State != "" || report.Diverged.Records != divergedRecords {
		t.Errorf("%v: %+v", err, report)
	}
	if n := len(p.Target.Texts("orders", 2)[0]); n != 100+60 || p.onlyOld() != divergedRecords {
		t.Errorf("the target has %d records", n)
	}
}

// Without any, nothing need be said. Then the halves switch over and back once more.
func TestHalvesFailBackAndSwitchOver(t *testing.T) {
	t.Parallel()
	p := newHalvesFailedOver(t, 0)
	report, err := p.failBack(&p.back, recovery.DivergedOptions{})
	p.areHome(report, err)
	if report, err = p.switchOver(p.there, p.back); err != nil {
		t.Fatalf("%v: %+v", err, report)
	}
	p.Target.Produce("orders", 2, 20, "there again")
	p.home.UntilCopied("orders")
	if report, err = p.switchOver(p.back, p.there); err != nil {
		t.Fatalf("%v: %+v", err, report)
	}
	p.Source.Produce("orders", 2, 10, "and home")
	p.forth.UntilCopied("orders")
	old, here := p.Source.Texts("orders", 2), p.Target.Texts("orders", 2)
	for part := range int32(2) {
		isUnique(t, old[part])
		replicatortest.MustEqual(t, fmt.Sprintf("partition %d", part), old[part], here[part])
	}
	if n := len(old[0]); n != 100+60+30+20+10 {
		t.Errorf("%d records", n)
	}
}

// A failback that is undone at home leaves what the flow back has copied, and that is no record that only the old source has.
func TestHalvesFailBackAfterOneThatWasUndone(t *testing.T) {
	t.Parallel()
	p := newHalvesFailedOver(t, 0)
	ctx, cancel := context.WithCancel(t.Context())
	o := p.options()
	o.MaxLag = 0
	o.Watch = func(e recovery.Event) {
		if e.Step.Name == recovery.StepHome {
			cancel()
		}
	}
	if report, err := recovery.FailBack(ctx, p.there, &p.back, o); err == nil || report.State != control.RecoveryUndone {
		t.Fatalf("%v: %+v", err, report)
	}
	limited, end := context.WithTimeout(t.Context(), time.Minute)
	defer end()
	report, err := recovery.FailBack(limited, p.there, &p.back, p.options())
	p.areHome(report, err)
}
