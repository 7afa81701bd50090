package main

import (
	"context"

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
	c.addScopes()
	c.flags.BoolVar(&c.order.Groups, "groups", false, "pause the sync of consumer groups, and nothing else unless it is named")
	c.flags.StringVar(&c.order.Until, "until", "", "`WHEN` it ends by itself: a duration such as 2h, or a time such as 2026-01-31T15:04:05Z")
	clusters, err := c.parse(p, args, 0)
	if err != nil {
		return err
	}
	return p.carryOut(ctx, c, control.Pause, clusters)
}
