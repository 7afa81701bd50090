package recovery

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/fleet"
	"github.com/milena-kafka/milena/replicator/groups"
)

// The steps of a failover, in their order. The first is StepStop.
const (
	StepLoss = "loss"
)

// failover makes the target of a flow the cluster that clients use, because its source is gone.
type failover struct {
	*run
	o Options
}

// FailOver makes the target of a flow the cluster that clients use, because the source is gone. It stops the flow for good, so that nothing is copied when the
// source comes back, says what the target lacks, and puts the consumer groups where they continue. It needs the target only. What it has done it does not
// undo: a failover that was broken off is resumed. The report is never nil. Errors: a [RefusedError], a [HeldError], and why it was broken off.
func FailOver(ctx context.Context, c client.Clusters, reverse *client.Clusters, o Options) (*Report, error) {
	report := &Report{Verb: Failover, Flow: c.Flow.Name, Source: c.Flow.Source, Target: c.Flow.Target, Who: o.Who, Steps: []Step{}}
	resumes, plan, err := o.isResumed(ctx, c, Failover)
	if err != nil {
		return report, err
	}
	if !resumes || o.DryRun {
		report.Checks, report.Loss, err = checkFailover(ctx, c, o)
		if err != nil {
			return report, err
		}
		o.checked(report.Checks)
		if isRefused(report.Checks) {
			return report, &RefusedError{report.Checks}
		}
		if o.DryRun {
			report.Plan = plan
			return report, ctx.Err()
		}
	}
	r, err := begin(ctx, c, Failover, o, report.Checks)
	if err != nil {
		return report, err
	}
	defer r.close()
	f := &failover{run: r, o: r.doc.Options}
	err = r.execute(ctx, []step{
		{name: StepStop, do: f.stop, last: true},
		{name: StepLoss, do: f.count},
		{name: StepGroups, do: f.moveGroups},
		{name: StepOpen, do: f.open},
	})
	report = r.report()
	report.Clients = clientsOf(c, reverse)
	return report, err
}

// darkWithin is how long the source may take to answer before it counts as gone.
const darkWithin = 10 * time.Second

// checkFailover finds out whether a failover is what the flow needs.
func checkFailover(ctx context.Context, c client.Clusters, o Options) (rows []Row, loss *offsets.RPO, err error) {
	add := func(name string, result Result, format string, args ...any) {
		rows = append(rows, Row{name, result, fmt.Sprintf(format, args...)})
	}
	r, err := fleet.Read(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	add("target", OK, "cluster %s answers", c.Flow.Target)
	switch answer := isAlive(ctx, c); {
	case answer != nil:
		add("source", OK, "cluster %s does not answer: %v", c.Flow.Source, answer)
	case o.Force:
		add("source", Note, "cluster %s answers; --force fails over all the same, and what is written there from now on is not copied", c.Flow.Source)
	default:
		add("source", Refuse, "cluster %s answers; milena switchover moves the clients without loss, and --force fails over all the same", c.Flow.Source)
	}
	switch stopped := stoppedBy(&r); {
	case r.Shards == 0:
		add("flow", Refuse, "flow %s has no journal on cluster %s: it never ran, so there is nothing to fail over to", c.Flow.Name, c.Flow.Target)
	case stopped != nil && stopped.What == control.FailOver:
		add("flow", Note, "it has failed over already, since %s, by %s: it is done again", stopped.When.UTC().Format(time.DateTime), stopped.Who)
	case r.Mode == fleet.ModeStopped:
		add("flow", Note, "no instance runs; the journal says what was copied")
	default:
		add("flow", OK, "%s", counted(len(r.Instances), "instance"))
	}
	if broken := r.Recovery; broken != nil && broken.What != string(Failover) {
		add("recovery", Note, "a %s that %s began was broken off at step %s; it is given up. What it froze on cluster %s stays so until milena switchover --flow %s --thaw", broken.What, broken.Who, broken.Step, c.Flow.Source, c.Flow.Name)
	}
	halted := 0
	for i := range r.Partitions {
		if r.Partitions[i].Halted != nil {
			halted++
		}
	}
	if halted > 0 {
		add("halted", Note, "%s, which were not copied since then; see milena status -c FILE", counted(halted, "partition"))
	}
	add("loss", Note, "%s", lossText(r.RPO))
	return rows, &r.RPO, nil
}

// isAlive returns why the source does not answer, nil if it does.
func isAlive(ctx context.Context, c client.Clusters) error {
	source, err := c.OpenSource()
	if err != nil {
		return err
	}
	defer source.Close()
	ctx, cancel := context.WithTimeout(ctx, darkWithin)
	defer cancel()
	_, err = kadm.NewClient(source).BrokerMetadata(ctx)
	return c.SourceError(err)
}

// lossText is what the target lacks, as a sentence.
func lossText(r offsets.RPO) string {
	switch {
	case r.Partitions == 0:
		return "nothing is known of what is missing"
	case r.MissingRecords == 0 && r.Unknown == 0:
		return fmt.Sprintf("complete up to %s; no record that was seen is missing", r.CompleteUpTo.UTC().Format(time.DateTime))
	case r.Unknown > 0:
		return fmt.Sprintf("%d records that were seen are missing, and of %s nothing is known", r.MissingRecords, counted(r.Unknown, "partition"))
	}
	return fmt.Sprintf("%d records that were seen are missing; complete up to %s", r.MissingRecords, r.CompleteUpTo.UTC().Format(time.DateTime))
}

// stop fences the source: from now on no instance writes what it may still have of it, also after it has come back.
func (f *failover) stop(ctx context.Context) (string, error) {
	return f.submit(ctx, f.clusters, control.FailOver, control.Scope{Kind: control.Flow})
}

// count says what the target lacks, now that nothing comes any more.
func (f *failover) count(ctx context.Context) (string, error) {
	r, err := fleet.Read(ctx, f.clusters)
	if err != nil {
		return "", err
	}
	return lossText(r.RPO), f.change(ctx, func(d *document) { d.Report.Loss = &r.RPO })
}

// open takes back the freeze of the target that a switchover away from it has left.
func (f *failover) open(ctx context.Context) (string, error) {
	target, err := f.clusters.OpenTarget()
	if err != nil {
		return "", err
	}
	defer target.Close()
	text, err := thawKept(ctx, f.clusters, f.o.Who, target)
	if err == nil && text == "" {
		text = "clients may use cluster " + f.clusters.Flow.Target
	}
	return text, err
}

// moveGroups puts the groups where they continue. The last checkpoints say where they were on the source; the copy may be further than it was then.
func (f *failover) moveGroups(ctx context.Context) (string, error) {
	switch {
	case !f.clusters.Flow.GroupsSync:
		return "the flow does not sync groups (groups_sync: false), so none is moved", nil
	case f.clusters.Flow.Provenance:
		return "the flow keeps provenance, so a group's offset has no single counterpart, and none is moved", nil
	case !f.clusters.Flow.Checkpoints:
		return "the flow writes no checkpoints (checkpoints: false); groups are where the last sync put them", nil
	}
	t, err := groups.OpenTranslator(ctx, f.clusters)
	if err != nil {
		return "", err
	}
	defer t.Close()
	rules, err := policy.NewGroups(f.clusters.Flow)
	if err != nil {
		return "", err
	}
	checkpointed, err := t.Checkpointed(ctx)
	if err != nil {
		return "", err
	}
	names := slices.DeleteFunc(slices.Sorted(keys(checkpointed)), func(name string) bool {
		return !rules.Selected(name) || slices.Contains(f.o.LeaveGroups, name)
	})
	target, err := f.clusters.OpenTarget()
	if err != nil {
		return "", err
	}
	defer target.Close()
	moved, positions, refused := 0, 0, []string{}
	for _, name := range names {
		f.waiting("group %s", name)
		translated, err := t.Translate(ctx, name, checkpointed[name])
		if err != nil {
			return "", fmt.Errorf("translate group %s: %w", name, err)
		}
		commit := func() (int, []groups.Refusal, error) { return t.Commit(ctx, offsets.Target, name, translated) }
		if where := f.o.whereOf(name); !where.isTranslated() {
			if translated, err = where.at(ctx, kadm.NewClient(target), translated); err != nil {
				return "", fmt.Errorf("find %s in the topics of group %s: %w", where, name, f.clusters.TargetError(err))
			}
			commit = func() (int, []groups.Refusal, error) { return t.Put(ctx, name, translated) }
		}
		n, not, err := commit()
		if err != nil {
			return "", fmt.Errorf("commit group %s: %w", name, err)
		}
		for _, o := range translated {
			if o.Err != nil {
				refused = append(refused, fmt.Sprintf("%s in %s-%d: %v", name, o.Topic, o.Partition, o.Err))
			}
		}
		for _, r := range not {
			refused = append(refused, fmt.Sprintf("%s: %s", r.Text, r.Detail))
		}
		moved, positions = moved+n, positions+len(translated)
	}
	text := fmt.Sprintf("%s with %s; %d were moved now", counted(len(names), "group"), counted(positions, "position"), moved)
	if len(refused) > 0 {
		text += "; not moved: " + firstOf(refused)
	}
	return text, f.change(ctx, func(d *document) { d.Report.Groups, d.Report.Positions = len(names), positions })
}
