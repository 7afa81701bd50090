package main

import (
	"context"

	"github.com/milena-kafka/milena/replicator/control"
)

const skipHelp = `milena skip lets one halted partition continue behind what halted it: what the action skip of its
anomaly does, once. With --to or --records it leaves out source offsets instead, of a partition that is
halted or paused. It prints first what is left out. The gap ledger keeps it, with who and why.

Examples:
  milena skip -c milena.yaml --partition orders-3 --reason "expected gap" --dry-run
  milena skip -c milena.yaml --partition orders-3 --reason "expected gap"
  milena skip -c milena.yaml --partition orders-3 --records 1 --reason "poisoned record"
  milena skip -c milena.yaml --partition orders-3 --to 1200 --reason "test data"
`

func (p *program) skip(ctx context.Context, args []string) error {
	c := p.controlFlags("skip", skipHelp)
	c.flags.StringSliceVar(&c.order.Partitions, "partition", nil, "the `PARTITION` of the source, such as orders-3")
	to := c.flags.Int64("to", 0, "leave out everything below this source `OFFSET`")
	records := c.flags.Int64("records", 0, "leave out this `NUMBER` of source offsets")
	clusters, err := c.parse(p, args, 0)
	if err != nil {
		return err
	}
	if c.flags.Changed("to") {
		c.order.To = to
	}
	if c.flags.Changed("records") {
		c.order.Records = records
	}
	return p.carryOut(ctx, c, control.Skip, clusters)
}
