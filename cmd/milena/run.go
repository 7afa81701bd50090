package main

import (
	"context"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
)

const runHelp = `milena run copies the flows of the config until SIGINT or SIGTERM. When the file changes, and at
SIGHUP, it reads the config again. With --compare it writes nothing
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
	hangups := make(chan os.Signal, 1)
	source := &configSource{program: p, path: *path, flags: f, clusters: *clusters, hangups: hangups}
	if f.Changed("listen") {
		source.listen = listen
	}
	r, err := source.read()
	if err != nil {
		return err
	}
	if compare.mode != "" {
		return p.runComparison(ctx, r.config, r.flows, compare)
	}
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	migrates := slices.ContainsFunc(r.flows, func(flow config.Flow) bool { return flow.MigrateFrom != "" })
	for _, name := range []string{"rebuild-map", "beside-mirrormaker"} {
		if f.Changed(name) && !migrates {
			return wrong(f, "--%s has no effect: no flow of the config has migrate_from", name)
		}
	}
	log := p.logger(r.config.Log)
	if p.logsJSON(r.config.Log) {
		p.log = log
	}
	d := newDaemon(p, r, log, func(o *replicator.Options) { o.RebuildMap, o.BesideMirrorMaker = *rebuild, *beside })
	for _, text := range insecure(r.config) {
		log.Warn("a connection is not secure", "why", text)
	}
	for _, n := range r.file.Notes {
		d.logNote(n)
	}
	return d.run(ctx, source)
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
