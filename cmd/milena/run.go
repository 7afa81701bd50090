package main

import (
	"context"
	"log/slog"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/client"
)

func (p *program) run(ctx context.Context, args []string) error {
	f := p.flags("run", "copy what the config says, until a signal")
	file := f.StringP("config", "c", "", "the config, a milena.yaml or mm2.properties `file`")
	listen := f.String("listen", "", "the `address` of HTTP, instead of the config's; an mm2.properties file has none")
	rebuild := f.Bool("rebuild-map", false, "when copies of MirrorMaker 2 are taken over, compare all of them with the source, so that old offsets translate exactly")
	beside := f.Bool("beside-mirrormaker", false, "start although a MirrorMaker 2 seems to run on a flow that is taken over from it")
	var s shadow
	s.flags(f)
	if err := parse(f, args); err != nil {
		return err
	}
	if err := s.check(f); err != nil {
		return err
	}
	read, err := p.read(*file)
	if err != nil {
		return err
	}
	c := read.Config
	if s.compare != "" {
		return p.compareFlows(ctx, c, s)
	}
	if f.Changed("listen") {
		c.HTTP.Listen = *listen
	}
	log := p.logger(c.Log)
	for _, n := range read.Notes {
		log.Info("note on a config key", "key", n.Key, "line", n.Line, "reason", n.Reason)
	}
	registry := newRegistry()
	a := newAdmin(registry, c.HTTP)
	if err := a.listen(ctx); err != nil {
		return err
	}
	defer a.close(ctx)
	if c.HTTP.Listen != "" {
		log.Info("listening", "address", a.address())
	}
	limitMemory(c, p.env)
	flows, err := newFlows(c, log, registry, func(o *replicator.Options) { o.RebuildMap, o.BesideMirrorMaker = *rebuild, *beside })
	if err != nil {
		return err
	}
	a.serveFlows(flows)
	return runAll(ctx, flows, a.stopping)
}

// limitMemory lets the collector work harder before the heap outgrows what the buffers explain: a buffer is held once and its garbage
// about once more. Who sets GOMEMLIMIT knows better.
func limitMemory(c *config.Config, env func(string) (string, bool)) {
	if _, set := env("GOMEMLIMIT"); !set {
		debug.SetMemoryLimit(32<<20 + 2*int64(c.Buffer)*int64(len(c.Flows)))
	}
}

// newFlows makes a Flow of each flow of the config, with what was chosen for all of them.
func newFlows(c *config.Config, log *slog.Logger, registry prometheus.Registerer, choose ...func(*replicator.Options)) ([]*replicator.Flow, error) {
	flows := make([]*replicator.Flow, 0, len(c.Flows))
	for _, flow := range c.Flows {
		o := options(c, flow, log, registry)
		for _, choice := range choose {
			choice(&o)
		}
		f, err := replicator.New(o)
		if err != nil {
			return nil, err
		}
		flows = append(flows, f)
	}
	return flows, nil
}

func options(c *config.Config, flow config.Flow, log *slog.Logger, registry prometheus.Registerer) replicator.Options {
	return replicator.Options{
		Clusters: clustersOf(c, flow, log), Registerer: registry,
		Buffer: int64(c.Buffer), ShutdownTimeout: c.ShutdownTimeout, Version: buildVersion(),
	}
}

// clustersOf is one flow of the config with both of its clusters.
func clustersOf(c *config.Config, flow config.Flow, log *slog.Logger) client.Clusters {
	return client.Clusters{Flow: flow, Source: c.Clusters[flow.Source], Target: c.Clusters[flow.Target], Log: log}
}

// runner is what has to be started and waited for.
type runner interface {
	Run(ctx context.Context) error
}

// runAll runs all until ctx ends or one of them fails, which stops the others cleanly, and gives the first error. It calls
// onStop when the end begins.
//
// The group has no context of its own: the context of errgroup carries the first error as its cause, and a healthy flow
// would take it for its own and stop without a drain.
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
