package main

import (
	"context"
	"slices"
	"time"

	"github.com/milena-kafka/milena/replicator/control"
)

const resumeHelp = `milena resume ends what milena pause began. It ends pauses of exactly what is named: a topic stays
paused while its flow is.

Examples:
  milena resume -c milena.yaml
  milena resume -c milena.yaml --topic orders
  milena resume -c milena.yaml --all
`

func (p *program) resume(ctx context.Context, args []string) error {
	c := p.controlFlags("resume", resumeHelp)
	var s scopeFlags
	s.add(c.flags)
	groups := c.flags.Bool("groups", false, "resume the sync of consumer groups, and nothing else unless it is named")
	all := c.flags.Bool("all", false, "end every pause")
	clusters, err := c.parse(p, args, 0)
	if err != nil {
		return err
	}
	if *all && (*groups || len(s.topics)+len(s.partitions) > 0) {
		return wrong(c.flags, "--all ends every pause and cannot be combined with --topic, --partition or --groups")
	}
	scopes, err := pausable(c, &s, *groups)
	if err != nil {
		return err
	}
	state, err := c.openState(ctx, clusters)
	if err != nil {
		return err
	}
	if *all {
		scopes = nil
		for _, d := range state.InForce(time.Now()) {
			if d.What == control.Pause {
				scopes = append(scopes, d.Scope)
			}
		}
	}
	decisions := p.resumptions(c, state, scopes)
	if len(decisions) > 0 {
		err = p.submit(ctx, c, clusters, decisions)
	} else if c.output != outputTable {
		err = p.printAs(c.output, control.Submission{Decisions: []control.Decision{}, Outcomes: []control.Outcome{}, Missing: []string{}})
	}
	if c.output == outputTable {
		p.printStillPaused(state, scopes)
	}
	return err
}

// resumptions are the decisions that end pauses. A scope that is not paused needs none.
func (p *program) resumptions(c *controlFlags, state *control.State, scopes []control.Scope) (decisions []control.Decision) {
	for _, scope := range scopes {
		paused := state.PauseOf(scope, time.Now())
		if paused == nil {
			if c.output == outputTable {
				p.printf("%s is not paused\n", scope)
			}
			continue
		}
		d := p.decide(c, control.Resume, scope)
		d.Began = paused.Start()
		decisions = append(decisions, d)
	}
	return decisions
}

// printStillPaused prints the pauses that hold besides those of the scopes.
func (p *program) printStillPaused(state *control.State, ended []control.Scope) {
	for _, d := range state.InForce(time.Now()) {
		if d.What != control.Pause || slices.Contains(ended, d.Scope) {
			continue
		}
		p.printf("still paused: %s, by %s since %s%s\n", d.Scope, d.Who, d.When.Format(time.RFC3339), reasonOf(d.Why))
	}
}

// reasonOf is a reason as the end of a sentence.
func reasonOf(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}
