package main

import (
	"context"

	"github.com/milena-kafka/milena/replicator/control"
)

const throttleHelp = `milena throttle limits how many bytes per second a flow or topics of it fetch, besides the quotas of the
brokers. The rate is for all instances together: each uses the part of it that its shards are of all
shards. A rate of 0 ends a throttle.

Examples:
  milena throttle -c milena.yaml --rate 20MiB --reason "office hours" --until 10h
  milena throttle -c milena.yaml --topic logs --rate 1MiB --reason "ticket 17"
  milena throttle -c milena.yaml --rate 0 --reason "over"
`

func (p *program) throttle(ctx context.Context, args []string) error {
	c := p.controlFlags("throttle", throttleHelp)
	c.flags.StringSliceVar(&c.order.Topics, "topic", nil, "`TOPICS` of the source, separated by commas; the flow if not given")
	c.flags.StringVar(&c.order.Rate, "rate", "", "`BYTES` per second, such as 5MiB; 0 ends the throttle")
	c.flags.StringVar(&c.order.Until, "until", "", "`WHEN` it ends by itself: a duration such as 2h, or a time such as 2026-01-31T15:04:05Z")
	clusters, err := c.parse(p, args, 0)
	if err != nil {
		return err
	}
	return p.carryOut(ctx, c, control.Throttle, clusters)
}
