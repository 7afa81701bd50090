package main

import (
	"context"

	"github.com/milena-kafka/milena/replicator/control"
)

const stopHelp = `milena stop stops a flow until milena start: it copies nothing, creates and changes nothing, and syncs no
groups, whatever happens to its processes and its source. The answer comes when nothing is in flight.
milena pause is for a time, and keeps topics, configs, ACLs and groups in sync.

Examples:
  milena stop -c milena.yaml --reason "primary is retired"
`

func (p *program) stopFlow(ctx context.Context, args []string) error {
	c := p.controlFlags("stop", stopHelp)
	clusters, err := c.parse(p, args, 0)
	if err != nil {
		return err
	}
	return p.carryOut(ctx, c, control.StopFlow, clusters)
}

const startHelp = `milena start lets a flow go on that milena stop, switchover or failover has stopped. It goes on where it
was: what was written to the source meanwhile is copied. After a failover, look first with milena
failback --dry-run at what only the old source has.

Examples:
  milena start -c milena.yaml --reason "primary is back, nothing was written to dr"
`

func (p *program) startFlow(ctx context.Context, args []string) error {
	c := p.controlFlags("start", startHelp)
	clusters, err := c.parse(p, args, 0)
	if err != nil {
		return err
	}
	return p.carryOut(ctx, c, control.StartFlow, clusters)
}
