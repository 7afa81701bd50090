package main

import (
	"context"

	"github.com/milena-kafka/milena/replicator/control"
)

const groupsHelp = `milena groups adopt lets milena move the positions of a consumer group on the target that it has not put
there itself: that of consumers or of a person counts from now on as put by milena, and follows the group
on the source, forward and back. A group with members is left alone.

Example:
  milena groups adopt billing -c milena.yaml --reason "moved back to primary"
`

func (p *program) groups(ctx context.Context, args []string) error {
	c := p.controlFlags("groups", groupsHelp)
	clusters, err := c.parse(p, args, 2)
	switch {
	case err != nil:
		return err
	case c.flags.NArg() != 2 || c.flags.Arg(0) != "adopt":
		return wrong(c.flags, "needs adopt GROUP")
	}
	c.order.Group = c.flags.Arg(1)
	return p.carryOut(ctx, c, control.Adopt, clusters)
}
