package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/milena-kafka/milena/replicator/freeze"
	"github.com/milena-kafka/milena/replicator/recovery"
)

const switchoverHelp = `milena switchover moves clients from the source of a flow to its target without loss. It stops the
producers, waits until all is copied, proves that, puts the consumer groups where they continue, stops
the flow, and prints what clients must change. If a step fails or the time is up, everything is as
before. A switchover that was broken off is resumed by the same command.

Examples:
  milena switchover -c milena.yaml --flow primary-dr --dry-run
  milena switchover -c milena.yaml --flow primary-dr --reason "maintenance of primary"
  milena switchover -c milena.yaml --flow primary-dr --freeze none --max-lag 100000
  milena switchover -c milena.yaml --flow primary-dr --thaw
`

// switchoverTimeout is how long a switchover may take unless --timeout says otherwise.
const switchoverTimeout = 5 * time.Minute

func (p *program) switchover(ctx context.Context, args []string) error {
	r := p.recoveryFlags("switchover", switchoverHelp, switchoverTimeout)
	how := r.flags.String("freeze", string(freeze.ACL), "`HOW` the producers of the source are stopped: acl denies them WRITE, quota throttles them, none leaves it to you")
	r.flags.Int64Var(&r.options.MaxLag, "max-lag", 100_000, "at most so many `RECORDS` may be left to copy when it begins")
	r.flags.BoolVar(&r.options.NoReverse, "no-reverse", false, "go although no flow copies back")
	thaw := r.flags.Bool("thaw", false, "only take back the freeze that the last switchover of the flow left on its source")
	clusters, reverse, err := r.parse(p, args)
	if err != nil {
		return err
	}
	r.options.Freeze = freeze.Method(*how)
	if !slices.Contains([]freeze.Method{freeze.ACL, freeze.Quota, freeze.None}, r.options.Freeze) {
		return wrong(r.flags, "--freeze %q must be acl, quota or none", *how)
	}
	if *thaw {
		ctx, cancel := context.WithTimeout(ctx, r.timeout)
		defer cancel()
		text, err := recovery.Thaw(ctx, clusters, reverse, r.options.Who)
		if err != nil {
			return fmt.Errorf("switchover: %w", err)
		}
		if text == "" {
			text = "no switchover of flow " + clusters.Flow.Name + " has left a freeze"
		}
		p.printf("%s\n", text)
		return nil
	}
	return p.carryOutRecovery(ctx, r, func(ctx context.Context, o recovery.Options) (*recovery.Report, error) {
		return recovery.SwitchOver(ctx, clusters, reverse, o)
	})
}

const failoverHelp = `milena failover makes the target of a flow the cluster that clients use, because the source is gone. It
stops the flow for good, so that nothing is copied when the source comes back, says what the target
lacks, puts the consumer groups where they continue, and prints what clients must change. It needs the
target only, and is repeated if a step fails. It takes the place of a switchover or a failback that was
broken off. milena failback brings the clients home again.

Examples:
  milena failover -c milena.yaml --flow primary-dr --dry-run
  milena failover -c milena.yaml --flow primary-dr --reason "primary has no power"
  milena failover -c milena.yaml --flow primary-dr --force --reason "primary is half dead"
  milena failover -c milena.yaml --flow primary-dr --from-time now-15m --group-positions audit=latest
`

// failoverTimeout is how long a failover may take unless --timeout says otherwise.
const failoverTimeout = 5 * time.Minute

func (p *program) failover(ctx context.Context, args []string) error {
	r := p.recoveryFlags("failover", failoverHelp, failoverTimeout)
	fromTime := r.flags.String("from-time", "", "put groups at the first record of this `TIME`, such as now-15m, instead of where they continue: for clusters that producers write to on both sides")
	where := r.flags.StringToString("group-positions", nil, "put single groups elsewhere: `GROUP=WHERE`, separated by commas, where WHERE is translated, latest or a time as of --from-time")
	r.flags.BoolVar(&r.options.Force, "force", false, "fail over although the source answers")
	clusters, reverse, err := r.parse(p, args)
	if err != nil {
		return err
	}
	r.options.Where = make(map[string]recovery.Where)
	now := time.Now()
	if *fromTime != "" {
		if r.options.Where["*"], err = recovery.ParseWhere(*fromTime, now); err != nil {
			return wrong(r.flags, "--from-time %v", err)
		}
	}
	for group, text := range *where {
		if r.options.Where[group], err = recovery.ParseWhere(text, now); err != nil {
			return wrong(r.flags, "--group-positions: group %s: %v", group, err)
		}
	}
	return p.carryOutRecovery(ctx, r, func(ctx context.Context, o recovery.Options) (*recovery.Report, error) {
		return recovery.FailOver(ctx, clusters, reverse, o)
	})
}
