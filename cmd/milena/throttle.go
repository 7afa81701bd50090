package main

import (
	"context"
	"time"

	"github.com/milena-kafka/milena/config"
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
	topics := c.flags.StringSlice("topic", nil, "`TOPICS` of the source, separated by commas; the flow if not given")
	rate := c.flags.String("rate", "", "`BYTES` per second, such as 5MiB; 0 ends the throttle")
	until := c.flags.String("until", "", "`WHEN` it ends by itself: a duration such as 2h, or a time such as 2026-01-31T15:04:05Z")
	clusters, err := c.parse(p, args, 0)
	if err != nil {
		return err
	}
	var bytes config.Bytes
	if *rate == "" {
		return wrong(c.flags, "needs --rate, such as 5MiB")
	}
	if err := bytes.UnmarshalText([]byte(*rate)); err != nil || bytes < 0 {
		return wrong(c.flags, "--rate %q is not a number of bytes per second such as 5MiB", *rate)
	}
	if err := c.needReason(); err != nil {
		return err
	}
	end, err := parseUntil(c.flags, *until, time.Now())
	if err != nil {
		return err
	}
	if bytes == 0 && !end.IsZero() {
		return wrong(c.flags, "--rate 0 ends a throttle at once; remove --until")
	}
	scopes, err := (&scopeFlags{topics: *topics}).scopes(c.flags)
	if err != nil {
		return err
	}
	var decisions []control.Decision
	for _, scope := range unique(scopes) {
		d := p.decide(c, control.Throttle, scope)
		d.Rate, d.Until = int64(bytes), end
		decisions = append(decisions, d)
	}
	return p.submit(ctx, c, clusters, decisions)
}
