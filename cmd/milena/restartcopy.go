package main

import (
	"context"
	"fmt"

	"github.com/milena-kafka/milena/replicator/control"
)

const restartCopyHelp = `milena restart-copy copies a topic again from its beginning: everything that the source still has is
appended to the copy, behind what is there. Consumers of the copy see it a second time, unless the target
topic was deleted and created again.

Examples:
  milena restart-copy orders -c milena.yaml --reason "the copy was deleted" --dry-run
  milena restart-copy orders -c milena.yaml --partition 3 --reason "the copy was deleted"
`

func (p *program) restartCopy(ctx context.Context, args []string) error {
	c := p.controlFlags("restart-copy", restartCopyHelp)
	only := c.flags.Int32("partition", 0, "a partition `NUMBER` of the topic; all if not given")
	clusters, err := c.parse(p, args, 1)
	switch {
	case err != nil:
		return err
	case c.flags.NArg() == 0:
		return wrong(c.flags, "needs a TOPIC of the source")
	}
	c.order.Topics = c.flags.Args()
	if c.flags.Changed("partition") {
		c.order.Partitions = []string{fmt.Sprintf("%s-%d", c.flags.Arg(0), *only)}
	}
	return p.carryOut(ctx, c, control.RestartCopy, clusters)
}
