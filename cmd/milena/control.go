package main

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/control"
)

// answerWait is how long a command waits for the instances to say what they did.
const answerWait = 5 * time.Second

// controlFlags are the flags of the commands that decide something about a flow.
type controlFlags struct {
	flags   *pflag.FlagSet
	config  *string
	flow    string
	remote  remote // with a URL: a milena to ask, instead of the clusters
	output  string
	timeout time.Duration
	order   order
}

// controlFlags creates the flag set of a command that decides something.
func (p *program) controlFlags(command, help string) *controlFlags {
	c := &controlFlags{flags: p.flags(command, help)}
	c.config = configFlag(c.flags)
	c.flags.StringVar(&c.flow, "flow", "", "`NAME` of the flow; needed if the config has several")
	c.addURL()
	c.flags.StringVar(&c.order.Reason, "reason", "", "`TEXT` that says why; status and log show it")
	c.flags.BoolVar(&c.order.DryRun, "dry-run", false, "print what would be decided; write nothing")
	addOutput(c.flags, &c.output)
	c.flags.DurationVar(&c.timeout, "timeout", 30*time.Second, "time limit for the command, as a `DURATION` such as 1m")
	return c
}

// parse reads the flags, up to n other arguments, and the config, unless a milena is asked by its URL.
func (c *controlFlags) parse(p *program, args []string, n int) (client.Clusters, error) {
	if err := parseArgs(c.flags, args, n); err != nil {
		return client.Clusters{}, err
	}
	if c.remote.url != "" {
		return client.Clusters{}, c.checkURL(p)
	}
	file, err := p.readConfig(*c.config)
	if err != nil {
		return client.Clusters{}, err
	}
	flow, err := chooseFlow(c.flags, file.Config, c.flow)
	if err != nil {
		return client.Clusters{}, err
	}
	return silent(file.Config, flow), nil
}

// addScopes adds the flags that name topics and partitions.
func (c *controlFlags) addScopes() {
	c.flags.StringSliceVar(&c.order.Topics, "topic", nil, "`TOPICS` of the source, separated by commas")
	c.flags.StringSliceVar(&c.order.Partitions, "partition", nil, "`PARTITIONS` of the source, such as orders-3, separated by commas")
}

// whoDecides is the user of this process, as others see it. Only Kafka's ACLs say who may decide.
func (p *program) whoDecides() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if behind, ok := p.env("SUDO_USER"); ok && behind != "" {
		name = behind
	}
	host, err := os.Hostname()
	if err != nil {
		return name
	}
	return name + "@" + host
}

// carryOut carries out the order of the flags, and prints what the instances did about it. A refusal is the error.
func (p *program) carryOut(ctx context.Context, c *controlFlags, verb control.Verb, clusters client.Clusters) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	name := c.flags.Name()
	var a answer
	var err error
	if c.remote.url != "" {
		a, err = c.askToCarryOut(ctx, verb)
	} else {
		var made planned
		if made, err = c.order.plan(ctx, verb, p.whoDecides(), clusters); err == nil {
			a, err = made.carryOut(ctx, clusters, c.order.DryRun)
		}
	}
	switch {
	case isWrong(err):
		return wrong(c.flags, "%v", err)
	case err != nil:
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := p.printAnswer(c, &a); err != nil {
		return err
	}
	bad := 0
	for _, o := range a.Outcomes {
		if o.Result != control.Done {
			bad++
		}
	}
	if bad > 0 {
		return fmt.Errorf("%s: %s of %d not done; see above", name, count(bad, "answer"), len(a.Outcomes))
	}
	return nil
}

// printAnswer prints what became of an order.
func (p *program) printAnswer(c *controlFlags, a *answer) error {
	switch {
	case c.output != outputTable && c.order.DryRun:
		return p.printAs(c.output, a.Decisions)
	case c.output != outputTable:
		return p.printAs(c.output, a)
	}
	for _, note := range a.Notes {
		p.printf("%s\n", note)
	}
	if c.order.DryRun {
		for i := range a.Decisions {
			p.printf("would %s\n", describeDecision(&a.Decisions[i]))
		}
	} else {
		p.printSubmission(&a.Submission)
	}
	for _, text := range a.StillPaused {
		p.printf("%s\n", text)
	}
	return nil
}

// printSubmission prints the decisions with the answers.
func (p *program) printSubmission(s *control.Submission) {
	for i := range s.Decisions {
		d := &s.Decisions[i]
		p.printf("%s\n", describeDecision(d))
		answered := false
		for _, o := range s.Outcomes {
			if o.ID == d.ID {
				answered = true
				p.printf("  %s: %s: %s\n", o.Instance, o.Result, o.Detail)
			}
		}
		switch {
		case answered:
		case !s.Running:
			p.printf("  written; no instance answered within %v, and none is in the group of the flow: it holds from the next start on\n", answerWait)
		default:
			p.printf("  written; not answered within %v: see milena log\n", answerWait)
		}
	}
	if s.Unknown != "" {
		p.printf("it is not known which other instances run: %s\n", s.Unknown)
	}
	if len(s.Missing) > 0 {
		p.printf("no answer yet from %s: see milena log\n", strings.Join(s.Missing, ", "))
	}
}

// describeDecision is a decision as a clause, such as pause topic orders until 2026-01-31T15:04:05Z.
func describeDecision(d *control.Decision) string {
	text := fmt.Sprintf("%s %s", d.What, d.Scope)
	if d.What == control.Throttle && d.Rate > 0 {
		text += fmt.Sprintf(" to %s/s", size(d.Rate))
	} else if d.What == control.Throttle {
		text = fmt.Sprintf("no throttle of %s", d.Scope)
	}
	if d.To != nil {
		text += fmt.Sprintf(", source offsets %d to %d", *d.From, *d.To-1)
	}
	if !d.Until.IsZero() {
		text += " until " + d.Until.Format(time.RFC3339)
	}
	if d.Why != "" {
		text += ": " + d.Why
	}
	return text
}
