package recovery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/fleet"
	"github.com/milena-kafka/milena/replicator/groups"
)

// DrillOptions say what a drill measures, besides [Options].
type DrillOptions struct {
	// RPO and RTO are the objectives of the flow, nil if it has none.
	RPO, RTO *time.Duration
	// Positions is how many positions of a group are looked at, at most.
	Positions int
	// Samples is how often the RPO is measured, with pauses of Pause.
	Samples int
	Pause   time.Duration
}

// drill tries out what a failover does, without an effect on the flow or its groups.
type drill struct {
	*run
	o              Options
	d              DrillOptions
	source, target *kgo.Client
	positions      *positions
	translator     *groups.Translator
	groups         []*drilledGroup
	found          Drilled
}

// RunDrill tries out a failover of a flow while it goes on. It measures the RPO and the RTO, and reads what the consumers of each group would read first: for that,
// it commits the positions on the target for groups of other names, and deletes these again. It changes nothing else. What a switchover would refuse
// is a finding, as is a missed objective. A drill that was killed is not resumed; the next one deletes what it left. The report is never nil; that something was found
// is no error. Errors: a [HeldError], and why the drill could not be carried out.
func RunDrill(ctx context.Context, c client.Clusters, reverse *client.Clusters, o Options, of DrillOptions) (*Report, error) {
	report := &Report{Verb: Drill, Flow: c.Flow.Name, Source: c.Flow.Source, Target: c.Flow.Target, Who: o.Who, Steps: []Step{}}
	source, target, err := c.Open()
	if err != nil {
		return report, err
	}
	defer source.Close()
	defer target.Close()
	plan, err := o.excludes(ctx, c)
	if err != nil {
		return report, err
	}
	p := preflight{clusters: c, reverse: reverse, o: o, source: source, target: target}
	report.Checks = p.check(ctx)
	if o.DryRun || ctx.Err() != nil {
		report.Plan = plan
		return report, ctx.Err()
	}
	d := &drill{o: o, d: of, source: source, target: target, found: Drilled{RPO: []Sample{}, Findings: []Finding{}, Notes: []string{}, Groups: []DrilledGroup{}}}
	if d.positions, err = newPositions(c, reverse, source, target, o.LeaveGroups); err != nil {
		return report, err
	}
	if d.translator, err = groups.OpenTranslator(ctx, c); err != nil {
		return report, err
	}
	defer d.translator.Close()
	if d.run, err = begin(ctx, c, Drill, o, report.Checks); err != nil {
		return report, err
	}
	defer d.close()
	err = d.execute(ctx, d.steps())
	return d.report(), err
}

// excludes returns an error if somebody carries out a switchover or a failover, or another drill: its steps would be taken for faults of the flow. Else it
// returns the steps of a drill.
func (o *Options) excludes(ctx context.Context, c client.Clusters) ([]Planned, error) {
	_, state, done, err := control.Open(ctx, c)
	if err != nil {
		return nil, err
	}
	done()
	for _, what := range []string{control.Drill, ""} {
		if r := state.RecoveryOf(what); r != nil && r.IsHeld(time.Now()) && !o.isGone(r.Holder) {
			return nil, &HeldError{Recovery: *r, Flow: c.Flow.Name}
		}
	}
	return planOf(Drill, state), nil
}

func (d *drill) steps() []step {
	return []step{
		{name: StepClean, do: d.remove},
		{name: StepRPO, do: d.measureRPO},
		{name: StepLoss, do: d.readLoss},
		{name: StepTranslate, do: d.translate},
		{name: StepCommit, do: d.commit, undo: d.remove},
		{name: StepConsume, do: d.consume},
		{name: StepRemove, do: d.remove},
		{name: StepCompare, do: d.compare},
		{name: StepCommitted, do: d.compareCommitted},
		{name: StepJudge, do: d.judge},
	}
}

func (d *drill) finding(kind FindingKind, group, format string, args ...any) {
	d.found.Findings = append(d.found.Findings, Finding{kind, group, fmt.Sprintf(format, args...)})
}

func (d *drill) notef(format string, args ...any) {
	d.found.Notes = append(d.found.Notes, fmt.Sprintf(format, args...))
}

// groupsOf begins the names of the groups that drills of a flow create.
func (d *drill) groupsOf() string { return policy.DrillGroups + d.clusters.Flow.Name + "." }

// shadow is the name under which this drill commits the positions of a group.
func (d *drill) shadow(group string) string { return d.groupsOf() + d.record.ID + "." + group }

// isShadow reports whether a drill of this flow has created a group. The name of another flow may begin with that of this one: what follows it must be an id.
func (d *drill) isShadow(group string) bool {
	rest, ok := strings.CutPrefix(group, d.groupsOf())
	return ok && control.BeginsWithID(rest)
}

// remove deletes the groups that this drill, or an earlier one that was killed, has created.
func (d *drill) remove(ctx context.Context) (string, error) {
	admin := kadm.NewClient(d.target)
	removed := 0
	for {
		listed, err := admin.ListGroups(ctx)
		if err != nil {
			return "", fmt.Errorf("list groups of cluster %s: %w", d.clusters.Flow.Target, d.clusters.TargetError(err))
		}
		left := slices.DeleteFunc(listed.Groups(), func(name string) bool { return !d.isShadow(name) })
		if len(left) == 0 {
			return fmt.Sprintf("%s deleted", counted(removed, "group")), nil
		}
		answers, err := admin.DeleteGroups(ctx, left...)
		for _, a := range answers {
			switch {
			case a.Err == nil:
				removed++
			case errors.Is(a.Err, kerr.GroupIDNotFound): // it has gone meanwhile
			default:
				err = fmt.Errorf("delete group %s of cluster %s: %w", a.Group, d.clusters.Flow.Target, d.clusters.TargetError(a.Err))
			}
		}
		if err != nil {
			d.waiting("%v", err) // a consumer that was killed is a member until its session ends
		}
		if sleep := client.Sleep(ctx, lookEvery); sleep != nil {
			return "", errors.Join(err, sleep)
		}
	}
}

// measureRPO reads a few times what a failover would lose.
func (d *drill) measureRPO(ctx context.Context) (string, error) {
	unknown := false
	for i := range max(1, d.d.Samples) {
		if i > 0 {
			if err := client.Sleep(ctx, d.d.Pause); err != nil {
				return "", err
			}
		}
		r, err := fleet.Read(ctx, d.clusters)
		if err != nil {
			return "", err
		}
		sample := Sample{At: now(), MissingRecords: r.RPO.MissingRecords}
		switch at := r.RPO.CompleteUpTo; {
		case !at.IsZero():
			age := max(0, r.At.Sub(at).Seconds())
			sample.AgeSeconds = &age
			if d.found.RPOSeconds == nil || age > *d.found.RPOSeconds {
				d.found.RPOSeconds = &age
			}
		case r.RPO.Partitions+r.RPO.Unknown > 0:
			unknown = true
		}
		d.found.RPO = append(d.found.RPO, sample)
	}
	if unknown {
		d.found.RPOSeconds = nil
		return "the copy was never complete, or that is not known of some partitions", nil
	}
	if d.found.RPOSeconds == nil {
		return "nothing is copied", nil
	}
	return fmt.Sprintf("%.1f s at most in %s", *d.found.RPOSeconds, counted(len(d.found.RPO), "sample")), nil
}

// readLoss reads what the target lacks, because a failover does so, too.
func (d *drill) readLoss(ctx context.Context) (string, error) {
	r, err := fleet.Read(ctx, d.clusters)
	if err != nil {
		return "", err
	}
	return lossText(r.RPO), d.change(ctx, func(doc *document) { doc.Report.Loss = &r.RPO })
}

// judge compares what was measured with the objectives, and writes what was found.
func (d *drill) judge(ctx context.Context) (string, error) {
	for _, row := range d.doc.Report.Checks {
		if row.Result == Refuse {
			d.finding(FindingCheck, "", "%s: %s", row.Name, row.Detail)
		}
	}
	d.sumRTO()
	if o := d.d.RPO; o != nil {
		d.found.RPOObjectiveSeconds = o.Seconds()
		switch of := d.found.RPOSeconds; {
		case of == nil:
			d.finding(FindingRPO, "", "it is not known that a failover would lose no more than the objective of %v", *o)
		case *of > o.Seconds():
			d.finding(FindingRPO, "", "a failover would lose what is up to %.1f s old, and the objective is %v", *of, *o)
		}
	}
	if o := d.d.RTO; o != nil {
		d.found.RTOObjectiveSeconds = o.Seconds()
		if of := d.found.RTOSeconds; of != nil && *of > o.Seconds() {
			d.finding(FindingRTO, "", "the steps of a failover took %.1f s, and the objective is %v", *of, *o)
		}
	}
	if now, err := d.otherRecovery(ctx); err == nil && now != "" {
		d.notef("%s", now)
	}
	for _, g := range d.groups {
		d.found.Groups = append(d.found.Groups, g.result)
		d.found.Positions += g.result.Positions
		d.found.Checked += g.result.Checked
	}
	findings := len(d.found.Findings)
	d.found.settle()
	d.mu.Lock()
	d.doc.Report.Drilled, d.doc.Report.Groups, d.doc.Report.Positions = &d.found, len(d.groups), d.found.Checked
	d.record.Drilled = &control.Drilled{Passed: d.found.Passed, RPOSeconds: d.found.RPOSeconds, RTOSeconds: d.found.RTOSeconds, Findings: findings}
	d.mu.Unlock()
	if d.found.Passed {
		return "passed", nil
	}
	return counted(findings, "finding"), nil
}

// sumRTO adds up the steps that a failover has, too. What a failover has besides is that the instances stop, or are found to be gone, and a person's decision.
func (d *drill) sumRTO() {
	sum := time.Duration(0)
	for _, s := range d.doc.Report.Steps {
		if isOfFailover(s.Name) {
			sum += s.Took()
		}
	}
	took := sum.Seconds()
	d.found.RTOSeconds = &took
}

// otherRecovery says if somebody has begun a switchover or a failover meanwhile, which a drill does not hold up.
func (d *drill) otherRecovery(ctx context.Context) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.read(ctx); err != nil {
		return "", err
	}
	if r := d.state.Recovery(); r != nil && !r.Seen.Before(d.record.When) {
		return fmt.Sprintf("%s began a %s during the drill, which may be why something was found", r.Who, r.What), nil
	}
	return "", nil
}
