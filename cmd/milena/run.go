package main

import (
	"context"
	"log/slog"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
)

const runHelp = `milena run copies the flows of the config until SIGINT or SIGTERM. With --compare it writes nothing
and reports how the copies of a running MirrorMaker 2 differ from what milena would write.

Examples:
  milena run -c milena.yaml
  milena run -c mm2.properties --listen 127.0.0.1:9644
  milena run -c mm2.properties --clusters dr
  milena run -c mm2.properties --compare --for 5m
  milena run -c mm2.properties --compare=all --output json
`

func (p *program) run(ctx context.Context, args []string) error {
	f := p.flags("run", runHelp)
	path := configFlag(f)
	listen := f.String("listen", "", "`HOST:PORT` for the status page, metrics and probes, instead of http.listen of the config; \"\" turns HTTP off")
	rebuild := f.Bool("rebuild-map", false, "when migrating from MirrorMaker 2, compare its whole copies with the source, so that old offsets translate exactly too")
	beside := f.Bool("beside-mirrormaker", false, "when migrating from MirrorMaker 2, start even though it still seems to run")
	clusters := f.StringSlice("clusters", nil, "`ALIASES` of target clusters: run only the flows to these, as connect-mirror-maker.sh does")
	var compare compareFlags
	compare.add(f)
	if err := parseArgs(f, args, len(args)); err != nil {
		return err
	}
	if *clusters = append(*clusters, f.Args()...); !f.Changed("clusters") && f.NArg() > 0 { // --clusters a b
		return wrong(f, "unexpected argument %q; name the config with -c FILE", f.Arg(0))
	}
	if err := compare.check(f); err != nil {
		return err
	}
	file, err := p.readConfig(*path)
	if err != nil {
		return err
	}
	c := file.Config
	flows, err := flowsTo(f, c, *clusters)
	if err != nil {
		return err
	}
	if compare.mode != "" {
		return p.runComparison(ctx, c, flows, compare)
	}
	migrates := slices.ContainsFunc(flows, func(flow config.Flow) bool { return flow.MigrateFrom != "" })
	for _, name := range []string{"rebuild-map", "beside-mirrormaker"} {
		if f.Changed(name) && !migrates {
			return wrong(f, "--%s has no effect: no flow of the config has migrate_from", name)
		}
	}
	if f.Changed("listen") {
		c.HTTP.Listen = *listen
	}
	log := p.logger(c.Log)
	if p.logsJSON(c.Log) {
		p.log = log
	}
	for _, text := range insecure(c) {
		log.Warn("a connection is not secure", "why", text)
	}
	for _, n := range file.Notes {
		log.Info("note on a config key", "key", n.Key, "line", n.Line, "reason", n.Reason)
	}
	return p.runFlows(ctx, c, flows, log, func(o *replicator.Options) { o.RebuildMap, o.BesideMirrorMaker = *rebuild, *beside })
}

// runFlows serves HTTP and copies flows of the config until ctx ends or none of them can work.
func (p *program) runFlows(ctx context.Context, c *config.Config, list []config.Flow, log *slog.Logger, adjust func(*replicator.Options)) error {
	registry := newRegistry()
	a := newAdmin(registry, c.HTTP)
	if err := a.listen(ctx); err != nil {
		return err
	}
	defer a.close(ctx)
	if c.HTTP.Listen != "" {
		log.Info("listening", "address", a.address())
	}
	defer limitMemory(ctx, c, p.env)()
	var t *telemetry
	if c.OTel.Endpoint != "" {
		var err error
		if t, err = startTelemetry(ctx, c.OTel.Endpoint, p.instanceID(c), registry, log); err != nil {
			return err
		}
	}
	defer t.close(ctx)
	s := newSupervisor(log, len(list))
	flows, err := p.newFlows(c, list, log, registry, func(o *replicator.Options) {
		adjust(o)
		o.Tracer = t.tracer()
		o.Began = func(err error) bool { return s.note(o.Flow.Name, err) }
	})
	if err != nil {
		return err
	}
	a.serveFlows(flows)
	return runApart(ctx, s, flows, a.stopping)
}

// newFlows creates flows of the config. It does no I/O.
func (p *program) newFlows(c *config.Config, list []config.Flow, log *slog.Logger, registry prometheus.Registerer, adjust func(*replicator.Options)) ([]*replicator.Flow, error) {
	flows := make([]*replicator.Flow, 0, len(list))
	for _, flow := range list {
		o := p.options(c, flow, log, registry)
		adjust(&o)
		f, err := replicator.New(o)
		if err != nil {
			return nil, err
		}
		flows = append(flows, f)
	}
	return flows, nil
}

// runner blocks in Run until ctx ends or it fails.
type runner interface {
	Run(ctx context.Context) error
}

// runAll runs all of them until ctx ends or one fails, which stops the others cleanly. It returns the first error, and calls
// onStop when the stop begins.
//
// The group has no context of its own: errgroup's context carries the first error as its cause. A healthy flow would take
// that error for its own and stop without a drain.
func runAll[R runner](ctx context.Context, all []R, onStop func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, onStop)()
	var group errgroup.Group
	for _, r := range all {
		group.Go(func() error {
			err := r.Run(ctx)
			if err != nil {
				cancel()
			}
			return err
		})
	}
	return group.Wait()
}
