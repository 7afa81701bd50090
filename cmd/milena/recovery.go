package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/recovery"
)

// recoveryFlags are the flags that switchover, failover and failback share.
type recoveryFlags struct {
	flags   *pflag.FlagSet
	config  *string
	flow    string
	output  string
	timeout time.Duration
	options recovery.Options
}

func (p *program) recoveryFlags(command, help string, timeout time.Duration) *recoveryFlags {
	r := &recoveryFlags{flags: p.flags(command, help)}
	r.config = configFlag(r.flags)
	r.flags.StringVar(&r.flow, "flow", "", "`NAME` of the flow; needed if the config has several")
	r.flags.StringVar(&r.options.Reason, "reason", "", "`TEXT` that says why; the report has it")
	r.flags.StringSliceVar(&r.options.LeaveGroups, "leave-groups", nil, "`GROUPS` that are neither waited for nor moved, separated by commas")
	r.flags.BoolVar(&r.options.DryRun, "dry-run", false, "check, print the steps, and change nothing")
	addOutput(r.flags, &r.output)
	r.flags.DurationVar(&r.timeout, "timeout", timeout, "time limit, as a `DURATION` such as 2m")
	return r
}

// parse reads the flags and the config, and returns the clusters of the flow, and those of the flow back, nil if there is none.
func (r *recoveryFlags) parse(p *program, args []string) (c client.Clusters, reverse *client.Clusters, err error) {
	if err := parse(r.flags, args); err != nil {
		return c, nil, err
	}
	file, err := p.readConfig(*r.config)
	if err != nil {
		return c, nil, err
	}
	flow, err := chooseFlow(r.flags, file.Config, r.flow)
	if err != nil {
		return c, nil, err
	}
	r.options.Who = p.whoDecides()
	return silent(file.Config, flow), reverseOf(file.Config, flow), nil
}

// reverseOf are the clusters of the flow back, nil if there is none. Of several, the first one that copies the same topics counts; config checks that they do
// not write the same ones.
func reverseOf(c *config.Config, flow config.Flow) *client.Clusters {
	for _, back := range c.ReverseOf(flow) {
		found := silent(c, back)
		return &found
	}
	return nil
}

// carryOutRecovery prints what a recovery does while it does it, and its report.
func (p *program) carryOutRecovery(ctx context.Context, r *recoveryFlags, what func(context.Context, recovery.Options) (*recovery.Report, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, r.timeout, context.DeadlineExceeded)
	defer cancel()
	progress := recoveryProgress{program: p, quiet: r.output != outputTable}
	r.options.Watch = progress.tell
	report, err := what(ctx, r.options)
	if r.output != outputTable {
		if printed := p.printAs(r.output, report); printed != nil {
			return printed
		}
	} else {
		p.printDiverged(report.Diverged)
		p.printRecovery(report, r.options.DryRun && err == nil)
	}
	if refused, ok := errors.AsType[*recovery.RefusedError](err); ok {
		return fmt.Errorf("%s: nothing was begun; %s", r.flags.Name(), refused.Count())
	}
	if err != nil {
		return fmt.Errorf("%s: %w", r.flags.Name(), err)
	}
	return nil
}

// recoveryProgress prints the steps of a recovery while it is under way.
type recoveryProgress struct {
	*program
	quiet   bool
	waiting string
}

// tell prints the checks, a step when it has ended, and what it waits for when that changes.
func (p *recoveryProgress) tell(e recovery.Event) {
	switch {
	case p.quiet:
	case len(e.Checks) > 0:
		p.printChecks(e.Checks)
	case e.Waiting != "" && withoutDigits(e.Waiting) != p.waiting:
		p.waiting = withoutDigits(e.Waiting)
		p.printf("  %-9s ...       %s\n", e.Step.Name, e.Waiting)
	case e.Waiting != "", e.Step.Result == recovery.Begun:
	default:
		p.printf("  %-9s ", e.Step.Name)
		p.paint(resultColour(e.Step.Result), fmt.Sprintf("%-6s", e.Step.Result))
		p.printf(" %6s  %s\n", tookText(e.Step.Took()), e.Step.Detail)
	}
}

// withoutDigits is a text by which it is told whether another one says something new.
func withoutDigits(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, text)
}

func tookText(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }

func resultColour(r recovery.Result) colour {
	switch r {
	case recovery.OK:
		return green
	case recovery.Refuse, recovery.Failed:
		return red
	case recovery.Note, recovery.Undone, recovery.Begun:
	}
	return yellow
}

// printChecks prints the checks.
func (p *recoveryProgress) printChecks(rows []recovery.Row) {
	for _, row := range rows {
		p.printf("  ")
		p.paint(resultColour(row.Result), fmt.Sprintf("%-6s", row.Result))
		p.printf(" %s: %s\n", row.Name, row.Detail)
	}
}

// printRecovery prints how a recovery ended.
func (p *program) printRecovery(r *recovery.Report, dryRun bool) {
	switch {
	case dryRun:
		p.printf("nothing was changed; without --dry-run, %s of flow %s does:\n", r.Verb, r.Flow)
		for _, s := range r.Plan {
			took := "-"
			if s.TookSeconds != nil {
				took = fmt.Sprintf("%.1fs", *s.TookSeconds)
			}
			p.printf("  %-9s %6s  %s\n", s.Name, took, s.Does)
		}
		p.printf("The times are those of the last %s of the flow.\n", r.Verb)
		return
	case r.State == "":
		return
	case r.Ended.IsZero():
		p.printf("%s %s of flow %s has not ended\n", r.Verb, r.ID, r.Flow)
		return
	}
	from, to := r.Source, r.Target
	if r.Verb == recovery.Failback {
		from, to = to, from
	}
	p.printf("%s of flow %s from %s to %s: %s after %s\n", r.Verb, r.Flow, from, to, r.State, tookText(r.Ended.Sub(r.Began)))
	if r.Clients == nil || r.Failure != "" {
		return
	}
	p.printf("clients now use cluster %s: %s\n", r.Clients.Cluster, strings.Join(r.Clients.Brokers, ","))
	for _, text := range r.Clients.Topics {
		p.printf("  %s\n", text)
	}
}
