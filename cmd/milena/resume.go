package main

import (
	"context"

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
	c.addScopes()
	c.flags.BoolVar(&c.order.Groups, "groups", false, "resume the sync of consumer groups, and nothing else unless it is named")
	c.flags.BoolVar(&c.order.All, "all", false, "end every pause")
	clusters, err := c.parse(p, args, 0)
	if err != nil {
		return err
	}
	return p.carryOut(ctx, c, control.Resume, clusters)
}
