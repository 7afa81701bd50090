package main

import (
	"context"
	"time"

	"github.com/milena-kafka/milena/replicator/control"
)

const pauseHelp = `milena pause stops the copying of a flow, of topics or of partitions, or the sync of consumer groups,
until milena resume or until a time. It survives restarts and reaches all instances. What is paused is
not read from the source; its lag stays known.

Examples:
  milena pause -c milena.yaml --reason "target upgrade" --until 2h
  milena pause -c milena.yaml --topic orders,bills --reason "ticket 17"
  milena pause -c milena.yaml --partition orders-3 --reason "ticket 17"
  milena pause -c milena.yaml --groups --reason "failover test"
`

func (p *program) pause(ctx context.Context, args []string) error {
	c := p.controlFlags("pause", pauseHelp)
	var s scopeFlags
	s.add(c.flags)
	groups := c.flags.Bool("groups", false, "pause the sync of consumer groups, and nothing else unless it is named")
	until := c.flags.String("until", "", "`WHEN` it ends by itself: a duration such as 2h, or a time such as 2026-01-31T15:04:05Z")
	clusters, err := c.parse(p, args, 0)
	if err != nil {
		return err
	}
	if err := c.needReason(); err != nil {
		return err
	}
	end, err := parseUntil(c.flags, *until, time.Now())
	if err != nil {
		return err
	}
	scopes, err := pausable(c, &s, *groups)
	if err != nil {
		return err
	}
	var decisions []control.Decision
	for _, scope := range scopes {
		d := p.decide(c, control.Pause, scope)
		d.Until = end
		decisions = append(decisions, d)
	}
	return p.submit(ctx, c, clusters, decisions)
}

// pausable returns what the flags of pause and resume name.
func pausable(c *controlFlags, s *scopeFlags, groups bool) ([]control.Scope, error) { //nolint:revive // the flag of the command line
	scopes, err := s.scopes(c.flags)
	if err != nil || !groups {
		return unique(scopes), err
	}
	if len(s.topics)+len(s.partitions) == 0 {
		scopes = nil
	}
	return unique(append(scopes, control.Scope{Kind: control.Groups})), nil
}
