package recovery

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/fleet"
)

// failbackCheck finds out whether a failback would succeed. It changes nothing.
type failbackCheck struct {
	clusters client.Clusters
	reverse  *client.Clusters // nil if there is none
	o        Options

	rows []Row
}

func (f *failbackCheck) add(name string, result Result, format string, args ...any) {
	f.rows = append(f.rows, Row{name, result, fmt.Sprintf(format, args...)})
}

// check makes all checks, and lists what only the old source has, nil if that is not known.
func (f *failbackCheck) check(ctx context.Context) ([]Row, *Diverged) {
	if !f.checkFailedOver(ctx) {
		return f.rows, nil
	}
	source := f.clusters.Flow.Source
	if err := isAlive(ctx, f.clusters); err != nil {
		f.add("source", Refuse, "cluster %s does not answer: %v; start it first", source, err)
		return f.rows, nil
	}
	f.add("source", OK, "cluster %s answers", source)
	var found *Diverged
	if report, err := listDiverged(ctx, f.clusters); err != nil {
		f.add("diverged", Refuse, "what only cluster %s has cannot be listed: %v", source, err)
	} else {
		found = divergedOf(report)
		f.checkDiverged(found)
	}
	f.checkFile(found)
	if f.reverse == nil {
		f.checkNoReverse()
	} else {
		f.checkReverse(ctx)
	}
	return f.rows, found
}

// checkFailedOver finds out whether the flow has failed over.
func (f *failbackCheck) checkFailedOver(ctx context.Context) bool {
	name := f.clusters.Flow.Name
	_, state, done, err := control.Open(ctx, f.clusters)
	if err != nil {
		f.add("flow", Refuse, "%v", err)
		return false
	}
	done()
	switch stopped, last := state.Stopped(), state.Recovery(); {
	case stopped == nil && last != nil && last.What == string(Failback) && last.State == control.RecoveryDone:
		f.add("flow", Refuse, "flow %s runs: a failback was done at %s; if producers of cluster %s are still frozen, milena switchover --flow %s --thaw lets them write", name,
			last.Seen.UTC().Format(time.DateTime), f.clusters.Flow.Source, name)
	case stopped == nil:
		f.add("flow", Refuse, "flow %s runs: it has not failed over, so there is nothing to bring back; milena switchover of the reverse flow moves clients to cluster %s", name, f.clusters.Flow.Source)
	case stopped.What == control.FailOver:
		f.add("flow", OK, "flow %s has failed over, since %s, by %s", name, stopped.When.UTC().Format(time.DateTime), stopped.Who)
		return true
	case last != nil && last.What == string(Failback) && last.State == control.RecoveryUndone:
		f.add("flow", OK, "flow %s has failed over; a failback of %s was undone", name, last.When.UTC().Format(time.DateTime))
		return true
	default:
		f.add("flow", Refuse, "flow %s is stopped %s, and has not failed over; milena switchover of the reverse flow moves clients to cluster %s, or milena start lets it go on", name, stopped.Since(), f.clusters.Flow.Source)
	}
	return false
}

// checkDiverged finds out whether that what only the old source has may be dealt with as demanded.
func (f *failbackCheck) checkDiverged(d *Diverged) {
	text := fmt.Sprintf("%s of cluster %s are not on %s", counted(int(d.Records), "record"), f.clusters.Flow.Source, f.clusters.Flow.Target)
	if d.Doubtful > 0 {
		text += fmt.Sprintf(", and of %s it is not known in full", counted(d.Doubtful, "partition"))
	}
	f.noteDiverged(d)
	o := f.o.Diverged
	switch {
	case d.isNone():
		f.add("diverged", OK, "cluster %s has nothing that %s does not have", f.clusters.Flow.Source, f.clusters.Flow.Target)
	case o.Action == Export:
		if why := d.cannotExport(o.Doubtful); why != "" {
			f.add("diverged", Refuse, "%s", why)
			return
		}
		if isPair(f.clusters, f.reverse) {
			f.add("diverged", Note, "%s; they are exported, stay in the topics of cluster %s, and are not copied", text, f.clusters.Flow.Source)
			return
		}
		f.add("diverged", Note, "%s; they are exported, and the flow leaves them out", text)
	case d.Doubtful > 0 && !o.Doubtful && o.Action == Keep:
		f.add("diverged", Refuse, "%s; --doubtful goes on, and the takeover of the flow decides by its anomaly policy", text)
	case o.Action == Keep && isPair(f.clusters, f.reverse):
		f.add("diverged", Note, "%s; they stay in the topics of cluster %s, in front of what flow %s copies, and are not copied", text, f.clusters.Flow.Source, f.reverse.Flow.Name)
	case o.Action == Keep:
		f.add("diverged", Note, "%s; the flow copies them when it goes on", text)
	default:
		f.add("diverged", Refuse, "%s; --diverged keep lets the flow copy them as it goes on, --diverged export --export-to FILE puts them into a file, and the flow leaves them out", text)
	}
}

// noteDiverged names what else is worth knowing.
func (f *failbackCheck) noteDiverged(d *Diverged) {
	var gone, ahead, open []string
	for i := range d.Partitions {
		p := &d.Partitions[i]
		name := fmt.Sprintf("%s-%d", p.Topic, p.Partition)
		if p.Gone > 0 {
			gone = append(gone, fmt.Sprintf("%s (%d offsets)", name, p.Gone))
		}
		if p.Open > 0 {
			open = append(open, fmt.Sprintf("%s (%d offsets)", name, p.Open))
		}
		if p.Ahead > 0 {
			ahead = append(ahead, fmt.Sprintf("%s (%d offsets)", name, p.Ahead))
		}
	}
	if len(gone) > 0 {
		f.add("gone", Note, "these had records that were never copied, and the source has deleted them: %s", firstOf(gone))
	}
	if len(ahead) > 0 {
		f.add("ahead", Note, "the source has lost what was copied of these, and the flow decides about them by its anomaly policy when it goes on: %s", firstOf(ahead))
	}
	if len(open) > 0 {
		f.add("open", Note, "these end with open transactions, and what is behind them cannot be listed; the flow copies what becomes of it when it goes on: %s", firstOf(open))
	}
	for _, topic := range slices.Sorted(keys(d.NotCopied)) {
		f.add("not copied", Note, "topic %s: %s", topic, d.NotCopied[topic])
	}
}

// checkFile finds out whether the file can be created. Found may be nil.
func (f *failbackCheck) checkFile(found *Diverged) {
	name := f.o.Diverged.File
	if name == "" {
		return
	}
	switch _, err := os.Lstat(name); {
	case err == nil && found.isNone():
		f.add("export", Refuse, "file %s exists, and nothing is left to export: leave out --diverged export --export-to", name)
	case err == nil:
		f.add("export", Refuse, "file %s exists; name another one", name)
	case !errors.Is(err, os.ErrNotExist):
		f.add("export", Refuse, "%v", err)
	default:
		f.checkFolder(filepath.Dir(name))
	}
}

// checkFolder finds out whether a file can be created in a folder.
func (f *failbackCheck) checkFolder(folder string) {
	file, err := os.CreateTemp(folder, ".milena-*")
	if err != nil {
		f.add("export", Refuse, "file %s cannot be created: %v", f.o.Diverged.File, err)
		return
	}
	if err := errors.Join(file.Close(), os.Remove(file.Name())); err != nil {
		f.add("export", Refuse, "file %s: %v", f.o.Diverged.File, err)
		return
	}
	f.add("export", OK, "file %s will be created", f.o.Diverged.File)
}

// checkNoReverse says what can be done without a flow back.
func (f *failbackCheck) checkNoReverse() {
	flow := f.clusters.Flow
	text := fmt.Sprintf("no flow of this file copies from %s to %s, so what was written on %s cannot come home: copy it with a flow in a file of its own, stop the clients, and start them on %s", flow.Target, flow.Source, flow.Target, flow.Source)
	if f.o.Diverged.Action == Export {
		f.add("reverse", Note, "%s; only the export is carried out, and flow %s stays stopped", text, flow.Name)
		return
	}
	f.add("reverse", Refuse, "%s; without such a flow, --dry-run lists what only %s has, and --diverged export exports it", text, flow.Source)
}

// checkReverse finds out whether a switchover along the reverse flow would succeed, but for its lag.
func (f *failbackCheck) checkReverse(ctx context.Context) {
	r := *f.reverse
	broken, _, err := f.o.isResumed(ctx, r, Switchover)
	switch {
	case err != nil:
		f.add("home", Refuse, "%v", err)
		return
	case broken:
		f.add("home", Refuse, "a switchover of flow %s was broken off; repeat milena switchover, which resumes it", r.Flow.Name)
		return
	}
	source, target, err := r.Open()
	if err != nil {
		f.add("home", Refuse, "%v", err)
		return
	}
	defer source.Close()
	defer target.Close()
	p := preflight{clusters: r, reverse: &f.clusters, o: f.o, source: source, target: target}
	now, err := look(ctx, r, source)
	if err != nil {
		f.add("home", Refuse, "%v", err)
		return
	}
	if isPair(f.clusters, f.reverse) && stoppedBy(&now.fleet) != nil {
		back := preflight{clusters: f.clusters, reverse: f.reverse, o: f.o}
		back.checkReverse(ctx)
		p.rows = back.rows
	} else {
		p.checkFlow(now)
	}
	p.checkGroups(ctx)
	p.checkReverse(ctx)
	p.checkFreeze(ctx)
	p.checkClusters(ctx)
	for _, row := range p.rows {
		f.add("home: "+row.Name, row.Result, "%s", row.Detail)
	}
	f.noteLag(&now.fleet)
}

func (f *failbackCheck) noteLag(r *fleet.Report) {
	if r.LagRecords != nil && *r.LagRecords > f.o.MaxLag {
		f.add("home: lag", Note, "flow %s has %s left to copy; the failback waits until these are at most %d", f.reverse.Flow.Name, counted(int(*r.LagRecords), "record"), f.o.MaxLag)
	}
}
