package main

import (
	"context"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
)

// configReading is the config file as it was read once, with the flows of it that this process runs.
type configReading struct {
	file   *config.File
	config *config.Config
	flows  []config.Flow
}

// flow returns a flow that this process runs, nil if there is none of that name.
func (r *configReading) flow(name string) *config.Flow {
	for i := range r.flows {
		if r.flows[i].Name == name {
			return &r.flows[i]
		}
	}
	return nil
}

// daemon is a running milena: its HTTP server, its metrics and its flows. A reload changes them; see reload.go.
type daemon struct {
	*program
	log        *slog.Logger
	adjust     func(*replicator.Options) // from the command line
	registry   *prometheus.Registry
	admin      *admin
	manager    *serviceManager
	supervisor *supervisor
	endMemory  func()     // ends the memory limit
	telemetry  *telemetry // nil without a collector

	now     *configReading // the config in force
	flows   []*runningFlow
	reloads *reloadMetrics
}

// runningFlow is a flow with its metrics.
type runningFlow struct {
	*replicator.Flow
	metrics *flowMetrics
}

// newDaemon creates a daemon for a config. It does no I/O.
func newDaemon(p *program, r *configReading, log *slog.Logger, adjust func(*replicator.Options)) *daemon {
	registry := newRegistry()
	manager := &serviceManager{log: log}
	manager.allow(r.config.ShutdownTimeout)
	d := &daemon{
		program: p, log: log, adjust: adjust, registry: registry, admin: newAdmin(registry, r.config.HTTP), manager: manager, supervisor: newSupervisor(log, len(r.flows)),
		endMemory: func() {}, now: r, reloads: newReloadMetrics(registry),
	}
	d.admin.instance = d.instanceID(r.config)
	return d
}

// run serves HTTP and copies the flows of the config until ctx ends or none of them can work. It watches the file, if it is not nil.
func (d *daemon) run(ctx context.Context, source *configSource) error {
	d.admin.access.Log = d.log
	if err := d.admin.listen(ctx); err != nil {
		return refusedHTTP(d.now.file, err)
	}
	defer d.admin.close(ctx)
	if d.now.config.HTTP.Listen != "" {
		d.log.Info("listening", "address", d.admin.address())
	}
	d.limitMemory(ctx, d.now)
	defer func() { d.endMemory() }()
	if c := d.now.config; c.OTel.Endpoint != "" {
		var err error
		if d.telemetry, err = startTelemetry(ctx, c.OTel.Endpoint, d.instanceID(c), d.registry, d.log); err != nil {
			return err
		}
	}
	defer d.telemetry.close(ctx)
	for _, flow := range d.now.flows {
		f, err := d.newFlow(d.now.config, flow)
		if err != nil {
			return err
		}
		d.flows = append(d.flows, f)
	}
	d.serve()
	return runApart(ctx, d.supervisor, d.flows, d.stopping, func(ctx context.Context) { d.started(ctx, source) })
}

// started is called when the flows run. It tells the service manager so, and watches the file, until ctx ends.
func (d *daemon) started(ctx context.Context, source *configSource) {
	d.manager.ready(d.statusLine())
	var following sync.WaitGroup
	following.Go(func() { d.manager.follow(ctx, d.statusLine, d.admin.stalled) })
	d.watch(ctx, source)
	following.Wait()
}

// stopping is called when a stop begins.
func (d *daemon) stopping() {
	d.admin.stopping()
	d.manager.stopping()
}

func (d *daemon) statusLine() string { return statusLine(d.admin.statuses(), d.admin.refused()) }

// limitMemory sets the memory limit of a config in place of the last one.
func (d *daemon) limitMemory(ctx context.Context, r *configReading) {
	d.endMemory()
	d.endMemory = limitMemory(ctx, r.config, d.env)
}

// serve shows the flows.
func (d *daemon) serve() {
	flows := make([]*replicator.Flow, len(d.flows))
	for i, f := range d.flows {
		flows[i] = f.Flow
	}
	d.admin.serveFlows(flows)
}

// newFlow creates a flow of a config. It does no I/O.
func (d *daemon) newFlow(c *config.Config, flow config.Flow) (*runningFlow, error) {
	m := &flowMetrics{Registerer: d.registry}
	f, err := replicator.New(d.flowOptions(c, flow, m))
	if err != nil {
		m.unregister()
		return nil, err
	}
	return &runningFlow{f, m}, nil
}

// flowOptions are the options of a flow of a config.
func (d *daemon) flowOptions(c *config.Config, flow config.Flow, r prometheus.Registerer) replicator.Options {
	o := d.options(c, flow, d.log, r)
	d.adjust(&o)
	o.Tracer = d.telemetry.tracer()
	o.Began = func(err error) bool { return d.supervisor.note(flow.Name, err) }
	return o
}

// flowMetrics remembers what a flow registers, so that a flow that is removed leaves no series behind.
type flowMetrics struct {
	prometheus.Registerer
	registered []prometheus.Collector
}

// Register implements prometheus.Registerer.
func (m *flowMetrics) Register(c prometheus.Collector) error {
	err := m.Registerer.Register(c)
	if err == nil {
		m.registered = append(m.registered, c)
	}
	return err
}

// MustRegister implements prometheus.Registerer.
func (m *flowMetrics) MustRegister(list ...prometheus.Collector) {
	for _, c := range list {
		if err := m.Register(c); err != nil {
			panic(err)
		}
	}
}

// unregister removes the series of the flow.
func (m *flowMetrics) unregister() {
	for _, c := range m.registered {
		m.Unregister(c)
	}
	m.registered = nil
}
