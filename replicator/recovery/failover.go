package recovery

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/fleet"
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
	if resumes && len(o.Where)+len(o.LeaveGroups) > 0 {
		o.checked([]Row{{"options", Note, "the failover that was broken off goes on as it was begun: where it puts groups, and which ones it leaves out, was said then"}})
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
		{name: StepOpen, do: f.open},
		{name: StepGroups, do: f.moveGroups},
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
	if text, err := replaced(ctx, c); err != nil {
		return nil, nil, err
	} else if text != "" {
		add("recovery", Note, "%s", text)
	}
	switch answer, seen := isAlive(ctx, c), time.Since(r.RPO.SeenAt); {
	case isAnswer(answer) && o.Force:
		add("source", Note, "cluster %s answers, with an error: %v; --force fails over all the same", c.Flow.Source, answer)
	case isAnswer(answer):
		add("source", Refuse, "cluster %s answers, with an error: %v; mend that and look again, or --force fails over all the same", c.Flow.Source, answer)
	case answer != nil && seen < seenJustNow:
		add("source", Note, "cluster %s does not answer this host: %v; but an instance of the flow saw it %v ago: if that is said again in %v, it is only this host that cannot reach it, and nothing to fail over for",
			c.Flow.Source, answer, seen.Round(time.Second), seenJustNow)
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
	if len(o.Where) > 0 {
		if unknown, err := unknownGroups(ctx, c, o.Where); err != nil {
			return nil, nil, err
		} else if unknown != "" {
			add("groups", Refuse, "%s", unknown)
		}
	}
	add("loss", Note, "%s", lossText(r.RPO))
	return rows, &r.RPO, nil
}

// seenJustNow is how old what the journal has of the source may be while instances see it.
const seenJustNow = 15 * time.Second

// isAnswer reports whether an error says that the source is there: a broker has refused the request or the login, or shown a certificate.
func isAnswer(err error) bool {
	var refused *kerr.Error
	var certificate *tls.CertificateVerificationError
	return errors.As(err, &refused) || errors.As(err, &certificate)
}

// replaced says which other recovery was broken off, whose place a failover takes; empty if there is none.
func replaced(ctx context.Context, c client.Clusters) (string, error) {
	_, state, done, err := control.Open(ctx, c)
	if err != nil {
		return "", err
	}
	done()
	r := state.Recovery()
	if r == nil || !r.IsOpen() || r.What == string(Failover) {
		return "", nil
	}
	text := fmt.Sprintf("a %s that %s began at %s was broken off at step %s; the failover takes its place, and it is not resumed", r.What, r.Who, r.When.UTC().Format(time.DateTime), r.Step)
	doc, err := decodeDocument(r)
	if err == nil && len(doc.freezes()) > 0 {
		text += fmt.Sprintf("; producers of cluster %s stay frozen until milena failback, or milena switchover --flow %s --thaw", c.Flow.Source, c.Flow.Name)
	}
	return text, err
}

// isAlive returns why the source does not answer, nil if it does. Each broker of the config is asked by itself: those that hang would use up the time for those
// that answer.
func isAlive(ctx context.Context, c client.Clusters) (err error) {
	ctx, cancel := context.WithTimeout(ctx, darkWithin)
	defer cancel()
	answers := make(chan error, len(c.Source.Brokers))
	for _, broker := range c.Source.Brokers {
		one := c
		one.Source.Brokers = []string{broker}
		go func() { answers <- askBroker(ctx, one) }()
	}
	for range c.Source.Brokers {
		switch answer := <-answers; {
		case answer == nil:
			return nil
		case err == nil, isAnswer(answer):
			err = answer
		}
	}
	return err
}

// askBroker asks the only broker of the source that is configured for the others.
func askBroker(ctx context.Context, c client.Clusters) error {
	source, err := c.OpenSource()
	if err != nil {
		return err
	}
	defer source.Close()
	_, err = kadm.NewClient(source).BrokerMetadata(ctx)
	return c.SourceError(err)
}

// lossText is what the target lacks, as a sentence.
func lossText(r offsets.RPO) string {
	if r.Partitions == 0 {
		return "nothing is known of what is missing"
	}
	var parts []string
	if r.Unknown > 0 {
		parts = append(parts, fmt.Sprintf("of %s nothing is known", counted(r.Unknown, "partition")))
	}
	switch {
	case !r.CompleteUpTo.IsZero():
		parts = append(parts, "complete up to "+r.CompleteUpTo.UTC().Format(time.DateTime))
	case r.Never > 0:
		parts = append(parts, counted(r.Never, "partition")+" never complete")
	}
	switch {
	case r.MissingRecords > 0:
		parts = append(parts, fmt.Sprintf("%d records that were seen are missing", r.MissingRecords))
	default:
		parts = append(parts, "no record that was seen is missing")
	}
	if !r.SeenAt.IsZero() {
		parts = append(parts, fmt.Sprintf("the source was last seen at %s, and what was written to it since is not known", r.SeenAt.UTC().Format(time.DateTime)))
	}
	return strings.Join(parts, "; ")
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
