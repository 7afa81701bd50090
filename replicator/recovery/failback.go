package recovery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/diverged"
)

// The steps of a failback, in their order.
const (
	StepDiverged = "diverged"
	StepLeaveOut = "leave out"
	StepBack     = "back"
	StepCatchUp  = "catch up"
	StepHome     = "home"
)

// failback brings the clients of a flow that has failed over back to its source.
type failback struct {
	*run
	o       Options
	reverse *client.Clusters // nil if there is no flow back: then it only exports
	// mayBeHome means that the switchover has neither ended nor been undone.
	mayBeHome bool
}

// FailBack brings clients home to the source of a flow that has failed over, once that is back. What only the old source has is copied as before, or
// exported and left out, as [DivergedOptions] say. Then it waits until the reverse flow has caught up, and switches over along that. Reverse is that flow; with
// nil, it can only export. If the switchover does not succeed it is undone, and so the flow stays stopped; what was exported and left out stays so. A failback
// that was broken off is resumed, with the options that it began with. The report is never nil. Errors: a [RefusedError], a [HeldError], and why it was undone
// or not.
func FailBack(ctx context.Context, c client.Clusters, reverse *client.Clusters, o Options) (*Report, error) {
	report := &Report{Verb: Failback, Flow: c.Flow.Name, Source: c.Flow.Source, Target: c.Flow.Target, Who: o.Who, Steps: []Step{}}
	if !o.DryRun && reverse != nil {
		if ended, err := endFailback(ctx, c, reverse, o.Who); ended != nil {
			return ended, err
		}
	}
	resumes, plan, err := o.isResumed(ctx, c, Failback)
	if err != nil {
		return report, err
	}
	if !resumes || o.DryRun {
		p := failbackCheck{clusters: c, reverse: reverse, o: o}
		report.Checks, report.Diverged = p.check(ctx)
		o.checked(report.Checks)
		if isRefused(report.Checks) {
			return report, &RefusedError{report.Checks}
		}
		if o.DryRun {
			if report.Plan = plan; reverse == nil {
				report.Plan = plan[:1]
			}
			return report, ctx.Err()
		}
	}
	if resumes {
		if err := o.isAsBegun(ctx, c); err != nil {
			return report, err
		}
	}
	r, err := begin(ctx, c, Failback, o, report.Checks)
	if err != nil {
		return report, err
	}
	defer r.close()
	f := &failback{run: r, o: r.doc.Options, reverse: reverse}
	f.o.gone = o.gone
	if err = f.execute(ctx); err == nil && reverse != nil {
		err = thawHome(ctx, c, reverse, o.Who)
	}
	return r.report(), err
}

// endFailback takes back the freeze that a failback has left that has ended, if there is one: its process was killed before its last deed, or that failed. The
// report is that of the failback; nil if there is nothing to do.
func endFailback(ctx context.Context, c client.Clusters, reverse *client.Clusters, who string) (*Report, error) {
	_, state, done, err := control.Open(ctx, c)
	if err != nil {
		return nil, nil //nolint:nilnil,nilerr // whoever reads the topic next says it
	}
	done()
	last := state.Recovery()
	if last == nil || last.What != string(Failback) || last.State != control.RecoveryDone {
		return nil, nil //nolint:nilnil // none is no error
	}
	doc, err := decodeDocument(last)
	if err != nil || len(doc.freezes()) == 0 {
		return nil, nil //nolint:nilnil,nilerr // as above
	}
	report, err := ReportOf(last)
	if err != nil {
		return nil, err
	}
	return report, thawHome(ctx, c, reverse, who)
}

// isAsBegun returns an error if a failback that is resumed was begun with other options about what only the old source has: those count, and whoever says
// others would believe something else. The default says nothing.
func (o *Options) isAsBegun(ctx context.Context, c client.Clusters) error {
	_, state, done, err := control.Open(ctx, c)
	if err != nil {
		return err
	}
	done()
	last := state.Recovery()
	if last == nil || o.Diverged == (DivergedOptions{}) || o.Diverged == (DivergedOptions{Action: RefuseDiverged}) {
		return nil
	}
	doc, err := decodeDocument(last)
	if err != nil || doc.Options.Diverged == o.Diverged {
		return err
	}
	return fmt.Errorf("the failback that %s began at %s goes on as it was begun, with %s; leave out other flags about diverged records, or say the same", last.Who, last.When.UTC().Format(time.DateTime), doc.Options.Diverged)
}

// String is the options as flags.
func (d DivergedOptions) String() string {
	text := "--diverged " + string(cmp.Or(d.Action, RefuseDiverged))
	if d.File != "" {
		text += " --export-to " + d.File
	}
	if d.Topics {
		text += " --export-topics"
	}
	if d.Doubtful {
		text += " --doubtful"
	}
	return text
}

// execute carries out the steps. The last one undoes itself; only if it could not, clients may be home.
func (f *failback) execute(ctx context.Context) error {
	steps := []step{
		{name: StepDiverged, do: f.export},
		{name: StepLeaveOut, do: f.leaveOut},
		{name: StepBack, do: f.startBack, undo: f.stopBack},
		{name: StepCatchUp, do: f.catchUp},
		{name: StepHome},
	}
	if f.reverse == nil {
		steps = steps[:1]
	} else {
		home := &steps[len(steps)-1]
		home.do = func(ctx context.Context) (string, error) {
			text, err := f.goHome(ctx)
			home.last = f.mayBeHome
			return text, err
		}
	}
	return f.run.execute(ctx, steps)
}

// thawHome takes back a freeze that the source has kept since before the failover. Only once the failback has ended, its record can be changed for that.
func thawHome(ctx context.Context, c client.Clusters, reverse *client.Clusters, who string) error {
	if _, err := Thaw(ctx, c, reverse, who); err != nil {
		return fmt.Errorf("clients are home, but their producers may still be frozen by an earlier switchover: %w; repeat the command, or milena switchover --flow %s --thaw takes that back", err, c.Flow.Name)
	}
	return nil
}

// isPair reports whether the flow and the one back copy the same topics in turn: then the flow never copies what only the old source has, because the flow
// back appends behind it.
func (f *failback) isPair() bool { return isPair(f.clusters, f.reverse) }

func isPair(c client.Clusters, reverse *client.Clusters) bool {
	return reverse != nil && config.PairOf(c.Flow, []config.Flow{reverse.Flow}) != nil
}

// startBack lets the flow back copy, if it is the other half of a pair and stopped.
func (f *failback) startBack(ctx context.Context) (string, error) {
	if !f.isPair() {
		return "nothing; the flow back runs", nil
	}
	_, state, done, err := control.Open(ctx, *f.reverse)
	if err != nil {
		return "", err
	}
	done()
	stopped := state.Stopped()
	if stopped == nil {
		return fmt.Sprintf("flow %s runs", f.reverse.Flow.Name), nil
	}
	if err := f.change(ctx, func(d *document) { d.Started = stopped }); err != nil {
		return "", err
	}
	return f.submit(ctx, *f.reverse, control.StartFlow, control.Scope{Kind: control.Flow})
}

// stopBack stops the flow back again. What it has copied stays, and is no record that only the old source has.
func (f *failback) stopBack(ctx context.Context) (string, error) {
	if f.reverse == nil || f.doc.Started == nil {
		return "it ran before", nil
	}
	return f.restore(ctx, *f.reverse, control.StopFlow)
}

// stays says what a failback that fails leaves as it is, as the end of a sentence.
func (f *failback) stays(err error) error {
	if d := f.doc.Report.Diverged; err != nil && d != nil && d.LeftOut > 0 {
		return fmt.Errorf("%w; %s stay left out, and%s", err, counted(int(d.LeftOut), "record"), d.where())
	}
	return err
}

// catchUp waits until the reverse flow has at most as much left as a switchover may begin with.
func (f *failback) catchUp(ctx context.Context) (string, error) {
	source, err := f.reverse.OpenSource()
	if err != nil {
		return "", err
	}
	defer source.Close()
	var speed pace
	looks := newLooker(*f.reverse, source)
	for {
		left, problem, err := f.lagOf(ctx, looks)
		switch {
		case err == nil && problem == "" && left <= f.o.MaxLag:
			return fmt.Sprintf("flow %s has %s left to copy", f.reverse.Flow.Name, counted(int(left), "record")), nil
		case err == nil && problem == "":
			problem = fmt.Sprintf("flow %s has %s left to copy%s", f.reverse.Flow.Name, counted(int(left), "record"), speed.text(left, f.o.MaxLag, time.Now()))
		case err != nil && ctx.Err() == nil:
			problem = err.Error()
		}
		if problem != "" {
			f.waiting("%s", problem)
		}
		if err := client.Sleep(ctx, lookEvery); err != nil {
			return "", f.stays(fmt.Errorf("%w: %s", err, problem))
		}
	}
}

// lagOf is how many records the reverse flow has left to copy, or why a switchover cannot begin whatever that is.
func (f *failback) lagOf(ctx context.Context, looks *looker) (left int64, problem string, err error) {
	d, err := looks.look(ctx)
	if err != nil {
		return 0, "", err
	}
	p := preflight{clusters: *f.reverse, o: f.o}
	p.checkFlow(d)
	if d.fleet.LagRecords != nil && d.fleet.LagUnknown == 0 {
		left = *d.fleet.LagRecords
	} else {
		p.checkLag(d)
	}
	if isRefused(p.rows) {
		return 0, fmt.Sprintf("flow %s: %s", f.reverse.Flow.Name, strings.TrimPrefix((&RefusedError{p.rows}).Error(), "refused: ")), nil
	}
	return left, "", nil
}

// pace is how fast something becomes less.
type pace struct {
	began time.Time
	first int64
}

// text says how fast, and how long it takes until no more than a limit is left. It is empty as long as nothing is known.
func (p *pace) text(left, limit int64, now time.Time) string {
	if p.began.IsZero() || left > p.first {
		*p = pace{now, left}
	}
	took := now.Sub(p.began).Seconds()
	if took < 1 {
		return ""
	}
	rate := float64(p.first-left) / took
	if rate < 1 {
		return ", and does not come closer"
	}
	eta := time.Duration(float64(left-limit) / rate * float64(time.Second))
	return fmt.Sprintf(", %.0f records/s, %v until it is caught up", rate, eta.Round(time.Second))
}

// goHome is a switchover along the reverse flow, which starts the flow again. It is resumed, or undone, as any other.
func (f *failback) goHome(ctx context.Context) (string, error) {
	f.mayBeHome = true // until it is known to be undone
	report, err := f.wentHome(ctx)
	if report == nil && err == nil {
		o := f.o
		o.Reason, o.Watch, o.Diverged = strings.TrimSuffix(f.reason()+": "+f.o.Reason, ": "), f.watchHome, DivergedOptions{}
		report, err = SwitchOver(ctx, *f.reverse, &f.clusters, o)
	}
	if err != nil {
		if f.mayBeHome = f.isHomeOpen(context.WithoutCancel(ctx)); !f.mayBeHome && report != nil && report.State == control.RecoveryUndone && report.Failure != "" {
			err = errors.New(report.Failure) // that it is undone, and where clients are, is said at the end
		}
		return "", f.stays(err)
	}
	err = f.change(ctx, func(d *document) {
		d.Report.Groups, d.Report.Positions, d.Report.Clients = report.Groups, report.Positions, report.Clients
		report.Checks, report.Clients = nil, nil
		d.Report.Switchover = report
	})
	return fmt.Sprintf("clients may use cluster %s, and flow %s runs", f.clusters.Flow.Source, f.clusters.Flow.Name), err
}

// watchHome tells the steps of the switchover. Its checks have been told with those of the failback.
func (f *failback) watchHome(e Event) {
	if f.watch != nil && e.Checks == nil {
		f.watch(e)
	}
}

// wentHome returns the switchover of this failback if it has ended well already, nil if not. Its reason begins with that of the failback.
func (f *failback) wentHome(ctx context.Context) (*Report, error) {
	_, state, done, err := control.Open(ctx, *f.reverse)
	if err != nil {
		return nil, err
	}
	done()
	last := state.Recovery()
	if last == nil || last.What != string(Switchover) || last.State != control.RecoveryDone {
		return nil, nil //nolint:nilnil // none is no error
	}
	report, err := ReportOf(last)
	if err != nil || !strings.HasPrefix(report.Why, f.reason()) {
		return nil, err
	}
	report.Clients = clientsOf(*f.reverse, &f.clusters)
	return report, nil
}

// isHomeOpen reports whether the switchover goes on when it is repeated.
func (f *failback) isHomeOpen(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, undoTimeout)
	defer cancel()
	_, state, done, err := control.Open(ctx, *f.reverse)
	if err != nil {
		return true // nobody knows
	}
	done()
	last := state.Recovery()
	return last != nil && last.IsOpen() && last.What == string(Switchover)
}

// leaveOut lets the flow continue behind what was exported.
func (f *failback) leaveOut(ctx context.Context) (string, error) {
	d := f.doc.Report.Diverged
	if f.isPair() {
		if d == nil || f.o.Diverged.Action != Export {
			return fmt.Sprintf("nothing; flow %s continues behind it", f.reverse.Flow.Name), nil
		}
		err := f.change(ctx, func(doc *document) { doc.Report.Diverged.LeftOut = d.Records + d.DoubtfulRecords })
		return fmt.Sprintf("flow %s continues behind it", f.reverse.Flow.Name), err
	}
	if d == nil || f.o.Diverged.Action != Export {
		return "nothing; the flow goes on where it was", nil
	}
	decisions, err := leaveOutOf(ctx, f.clusters, f.doc.LeaveOut, f.record.Who, f.reason())
	if err != nil || len(decisions) == 0 {
		return "nothing to leave out", err
	}
	for attempt := range leaveOutAttempts {
		if attempt > 0 {
			if err := client.Sleep(ctx, leaveOutPause); err != nil {
				return "", err
			}
		}
		if err = f.decide(ctx, decisions); err == nil {
			break
		}
		f.waiting("%v", err)
	}
	if err != nil {
		return "", err
	}
	err = f.change(ctx, func(doc *document) { doc.Report.Diverged.LeftOut = d.Records + d.DoubtfulRecords })
	return fmt.Sprintf("%s in %s, which are exported", counted(int(d.Records+d.DoubtfulRecords), "record"), counted(len(decisions), "partition")), err
}

const (
	// LeaveOutAttempts is how often the instances are asked: they know the ends of a source that has come back only some seconds later.
	leaveOutAttempts = 10
	leaveOutPause    = 5 * time.Second
)

// decide lets the instances carry out decisions about partitions.
func (f *failback) decide(ctx context.Context, decisions []control.Decision) error {
	for i := range decisions {
		decisions[i] = renewed(decisions[i])
	}
	s, err := control.Submit(ctx, f.clusters, answerWait, decisions...)
	if err != nil {
		return err
	}
	for _, o := range s.Outcomes {
		if o.Result != control.Done {
			return fmt.Errorf("instance %s: %s: %s", o.Instance, o.Result, o.Detail)
		}
	}
	if !s.IsAnswered() {
		return fmt.Errorf("not all of %s were answered within %v; see the log of the instances of flow %s", counted(len(decisions), "decision"), answerWait, f.clusters.Flow.Name)
	}
	return nil
}

// renewed is the same decision once more: one that was refused is over.
func renewed(d control.Decision) control.Decision {
	again := control.New(d.What, d.Scope, d.Who, d.Why)
	again.From, again.To = d.From, d.To
	return again
}

// export exports what only the old source has, if that is demanded.
func (f *failback) export(ctx context.Context) (string, error) {
	if f.doc.Exported {
		return f.exported()
	}
	report, err := listDiverged(ctx, f.clusters)
	if err != nil {
		return "", err
	}
	found := divergedOf(report)
	switch text := fmt.Sprintf("%s only cluster %s has", counted(int(found.Records), "record"), f.clusters.Flow.Source); {
	case f.o.Diverged.Action == Export:
	case f.o.Diverged.Action != Keep && !found.isNone():
		return "", fmt.Errorf("%s since it was checked: somebody writes to it; say --diverged keep or export", text)
	default:
		what := "; the flow copies what there is when it goes on"
		if f.isPair() {
			what = "; it stays there, and is not copied"
		}
		return text + what, f.change(ctx, func(d *document) { d.Report.Diverged = found.bounded() })
	}
	if why := found.cannotExport(f.o.Diverged.Doubtful); f.reverse != nil && why != "" {
		return "", errors.New(why)
	}
	x := f.exporter(report, found)
	if err := x.export(ctx); err != nil {
		return "", err
	}
	if err := f.change(ctx, func(d *document) { d.Report.Diverged, d.LeaveOut, d.Exported = found.bounded(), found.ends(), true }); err != nil {
		return "", err
	}
	return f.exported()
}

func (f *failback) exporter(report *diverged.Report, found *Diverged) *exporter {
	return &exporter{clusters: f.clusters, o: f.o.Diverged, report: report, found: found, id: f.record.ID}
}

// exported ends the export, which is complete.
func (f *failback) exported() (string, error) {
	found := f.doc.Report.Diverged
	text := fmt.Sprintf("%s that only cluster %s has%s", counted(int(found.Exported), "record"), f.clusters.Flow.Source, found.where())
	return text, f.exporter(nil, found).clean()
}
