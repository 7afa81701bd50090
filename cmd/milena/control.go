package main

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/milena-kafka/milena/offsets"
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
	reason  string
	dryRun  bool
	output  string
	timeout time.Duration
}

// controlFlags creates the flag set of a command that decides something.
func (p *program) controlFlags(command, help string) *controlFlags {
	c := &controlFlags{flags: p.flags(command, help)}
	c.config = configFlag(c.flags)
	c.flags.StringVar(&c.flow, "flow", "", "`NAME` of the flow; needed if the config has several")
	c.flags.StringVar(&c.reason, "reason", "", "`TEXT` that says why; status and log show it")
	c.flags.BoolVar(&c.dryRun, "dry-run", false, "print what would be decided; write nothing")
	addOutput(c.flags, &c.output)
	c.flags.DurationVar(&c.timeout, "timeout", 30*time.Second, "time limit for the command, as a `DURATION` such as 1m")
	return c
}

// parse reads the flags, up to n other arguments, and the config.
func (c *controlFlags) parse(p *program, args []string, n int) (client.Clusters, error) {
	if err := parseArgs(c.flags, args, n); err != nil {
		return client.Clusters{}, err
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

// needReason reports a missing --reason.
func (c *controlFlags) needReason() error {
	if strings.TrimSpace(c.reason) == "" {
		return wrong(c.flags, "needs --reason TEXT: others see it in the status and in milena log")
	}
	return nil
}

// scopeFlags name what a decision is about.
type scopeFlags struct {
	topics, partitions []string
}

func (s *scopeFlags) add(f *pflag.FlagSet) {
	f.StringSliceVar(&s.topics, "topic", nil, "`TOPICS` of the source, separated by commas")
	f.StringSliceVar(&s.partitions, "partition", nil, "`PARTITIONS` of the source, such as orders-3, separated by commas")
}

// scopes returns what the flags name, the flow if they name nothing.
func (s *scopeFlags) scopes(f *pflag.FlagSet) (list []control.Scope, err error) {
	for _, topic := range s.topics {
		list = append(list, control.OfTopic(topic))
	}
	for _, text := range s.partitions {
		tp, err := parsePartition(f, text)
		if err != nil {
			return nil, err
		}
		list = append(list, control.OfPartition(tp))
	}
	if len(list) == 0 {
		list = []control.Scope{{Kind: control.Flow}}
	}
	return list, nil
}

// parsePartition reads a partition such as orders-3.
func parsePartition(f *pflag.FlagSet, text string) (offsets.TopicPartition, error) {
	i := strings.LastIndex(text, "-")
	if i > 0 {
		if n, err := strconv.ParseInt(text[i+1:], 10, 32); err == nil && n >= 0 {
			return offsets.TopicPartition{Topic: text[:i], Partition: int32(n)}, nil
		}
	}
	return offsets.TopicPartition{}, wrong(f, "--partition %q is not a partition such as orders-3", text)
}

// parseUntil reads a duration or a time in the future.
func parseUntil(f *pflag.FlagSet, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if d, notDuration := time.ParseDuration(text); notDuration == nil {
		at, err = now.Add(d), nil
	}
	if err != nil || !at.After(now) {
		return at, wrong(f, "--until %q is neither a duration such as 2h nor a time in the future such as 2026-01-31T15:04:05Z", text)
	}
	return at.UTC().Truncate(time.Millisecond), nil
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

// decide returns a decision of now by the user of this process.
func (p *program) decide(c *controlFlags, what control.Verb, scope control.Scope) control.Decision {
	return control.New(what, scope, p.whoDecides(), strings.TrimSpace(c.reason))
}

// submit writes decisions, and prints what the instances did about them. A refusal is the error.
func (p *program) submit(ctx context.Context, c *controlFlags, clusters client.Clusters, decisions []control.Decision) error {
	name := c.flags.Name()
	for i := range decisions {
		if err := decisions[i].Check(); err != nil {
			return wrong(c.flags, "%v", err)
		}
	}
	if c.dryRun {
		if c.output != outputTable {
			return p.printAs(c.output, decisions)
		}
		for _, d := range decisions {
			p.printf("would %s\n", describeDecision(&d))
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	s, err := control.Submit(ctx, clusters, answerWait, decisions...)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if c.output != outputTable {
		err = p.printAs(c.output, s)
	} else {
		p.printSubmission(&s)
	}
	bad := 0
	for _, o := range s.Outcomes {
		if o.Result != control.Done {
			bad++
		}
	}
	if bad > 0 && err == nil {
		return fmt.Errorf("%s: %s of %d not done; see above", name, count(bad, "answer"), len(s.Outcomes))
	}
	return err
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

// openState reads what people decided so far.
func (c *controlFlags) openState(ctx context.Context, clusters client.Clusters) (*control.State, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	_, state, done, err := control.Open(ctx, clusters)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.flags.Name(), err)
	}
	done()
	return state, nil
}

// unique removes scopes that are named twice.
func unique(list []control.Scope) []control.Scope {
	var found []control.Scope
	for _, s := range list {
		if !slices.Contains(found, s) {
			found = append(found, s)
		}
	}
	return found
}
