package main

import (
	"context"

	"github.com/milena-kafka/milena/replicator/control"
)

const retryHelp = `milena retry lets halted partitions be taken over again, as a restart of milena would, after the cause
was removed. What is not halted is left alone.

Examples:
  milena retry -c milena.yaml
  milena retry -c milena.yaml --topic orders --reason "max.message.bytes was raised"
  milena retry -c milena.yaml --partition orders-3
`

func (p *program) retry(ctx context.Context, args []string) error {
	c := p.controlFlags("retry", retryHelp)
	c.addScopes()
	clusters, err := c.parse(p, args, 0)
	if err != nil {
		return err
	}
	return p.carryOut(ctx, c, control.Retry, clusters)
}
