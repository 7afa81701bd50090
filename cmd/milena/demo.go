package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"
	"golang.org/x/sync/errgroup"

	"github.com/milena-kafka/milena/cmd/milena/summary"
	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
)

const demoHelp = `milena demo starts two in-memory Kafka clusters in this process, copies a generated load from one to
the other, and verifies every record at the end. A consumer group follows its topic to the other cluster,
and a record that is too large for it halts one partition until the demo repairs that. It needs no Kafka
and writes no files.

Examples:
  milena demo
  milena demo --for 30s --rate 50000
  milena demo --for 10s --failover
`

// The aliases of the demo's clusters.
const (
	demoSource = "primary"
	demoTarget = "dr"
)

// The time limits for the end of a demo: to copy the rest, and to read and compare both sides.
const (
	demoDrain  = 30 * time.Second
	demoVerify = time.Minute
)

func (p *program) demo(ctx context.Context, args []string) error {
	f := p.flags("demo", demoHelp)
	duration := f.Duration("for", 0, "produce for this `DURATION`, such as 30s (default: until Ctrl-C)")
	listen := f.String("listen", config.Default().HTTP.Listen, "`HOST:PORT` of the status page; if it is in use, another port is taken; \"\" turns HTTP off")
	failover := f.Bool("failover", false, "at the end, the source cluster is lost, and the demo fails over to the target")
	rate := f.Int("rate", 20_000, "`RECORDS` to produce per second")
	if err := parse(f, args); err != nil {
		return err
	}
	if *duration < 0 {
		return wrong(f, "--for must not be negative")
	}
	if *rate < 1 {
		return wrong(f, "--rate must be at least 1 record per second")
	}
	if _, _, err := net.SplitHostPort(*listen); err != nil && *listen != "" {
		return wrong(f, "--listen %q is not host:port", *listen)
	}
	registry := newRegistry()
	a, err := p.listenSomewhere(ctx, registry, *listen)
	if err != nil {
		return err
	}
	defer a.close(ctx)
	d, err := p.newDemonstration(registry, *rate)
	if err != nil {
		return err
	}
	defer d.close()
	d.failsOver = *failover
	a.serveFlows([]*replicator.Flow{d.flow})
	d.welcome(a.address(), *duration)
	if *duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, *duration)
		defer cancel()
	}
	if err := d.run(ctx, a.stopping); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	return nil
}

// listenSomewhere takes any free port if the requested one is in use: nobody has configured the address of a demo elsewhere.
func (p *program) listenSomewhere(ctx context.Context, registry *prometheus.Registry, listen string) (*admin, error) {
	anyone := []string{config.OpenProbes, config.OpenMetrics, config.OpenStatus} // what a demo shows is made up
	a := newAdmin(registry, config.HTTP{Listen: listen, Open: anyone})
	err := a.listen(ctx)
	if !errors.Is(err, errBusy) {
		return a, err
	}
	p.printf("%s is in use; the status page takes another port.\n", listen)
	host, _, _ := net.SplitHostPort(listen) // the listen above has parsed it
	a = newAdmin(registry, config.HTTP{Listen: net.JoinHostPort(host, "0"), Open: anyone})
	return a, a.listen(ctx)
}

// demonstration is two clusters in this process, a load on the source, and a flow between them.
type demonstration struct {
	p              *program
	source, target *kfake.Cluster
	load           *load
	flow           *replicator.Flow
	announced      map[string]bool // topics
	uploaded       chan struct{}   // closed when upload returns
	failsOver      bool
}

func (p *program) newDemonstration(registry prometheus.Registerer, rate int) (_ *demonstration, err error) {
	d := &demonstration{p: p, announced: make(map[string]bool), uploaded: make(chan struct{})}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if d.source, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.ClusterID("demo-"+demoSource)); err != nil {
		return nil, fmt.Errorf("start the source cluster: %w", err)
	}
	if d.target, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.ClusterID("demo-"+demoTarget)); err != nil {
		return nil, fmt.Errorf("start the target cluster: %w", err)
	}
	if d.load, err = newLoad(d.source.ListenAddrs(), rate); err != nil {
		return nil, err
	}
	c, err := demoConfig(d.source.ListenAddrs(), d.target.ListenAddrs())
	if err != nil {
		return nil, err
	}
	log := slog.New(slog.NewTextHandler(p.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	d.flow, err = replicator.New(p.options(c, c.Flows[0], log, registry))
	return d, err
}

func demoConfig(sourceBrokers, targetBrokers []string) (*config.Config, error) {
	c := config.Default()
	source, target := config.DefaultCluster(), config.DefaultCluster()
	source.Brokers, target.Brokers = sourceBrokers, targetBrokers
	c.Clusters = map[string]config.Cluster{demoSource: source, demoTarget: target}
	flow := config.DefaultFlow(demoSource, demoTarget)
	flow.Heartbeats = false // the source must not change any more while both sides are compared
	flow.GroupsInterval = time.Second
	flow.ConfigsExclude = append(flow.ConfigsExclude, "max.message.bytes") // so that a record can be too large
	c.Flows = []config.Flow{flow}
	return &c, c.Validate()
}

func (d *demonstration) close() {
	if d.load != nil {
		d.load.close()
	}
	for _, c := range []*kfake.Cluster{d.source, d.target} {
		if c != nil {
			c.Close()
		}
	}
}

func (d *demonstration) welcome(address string, duration time.Duration) {
	d.p.printf("Started two in-memory Kafka clusters, %s and %s, and a flow from %s to %s.\n", demoSource, demoTarget, demoSource, demoTarget)
	if address != "" {
		d.p.printf("Open http://%s/ to watch it, or run in another terminal: milena status --watch --url http://%s\n", address, address)
	}
	if duration == 0 {
		d.p.printf("Press Ctrl-C to stop the load and verify every record.\n")
	}
	d.p.printf("\n")
}

// run produces until ctx ends, lets the flow catch up, stops it and compares both sides. The flow outlives ctx, because the
// end of the load is where the check begins. A second Ctrl-C kills the process.
func (d *demonstration) run(ctx context.Context, onStop func()) error {
	outer := context.WithoutCancel(ctx)
	flowCtx, stopFlow := context.WithCancel(outer)
	defer stopFlow()
	ctx, stopLoad := context.WithCancel(ctx)
	defer stopLoad()
	alive, died := context.WithCancel(outer)
	defer died()
	var group errgroup.Group
	group.Go(func() error {
		defer died()
		defer stopLoad() // without a flow there is nothing to show
		return d.flow.Run(flowCtx)
	})
	for _, work := range []func(context.Context) error{d.load.run, d.consume, d.upload} {
		group.Go(func() error {
			err := work(ctx)
			if err != nil {
				stopLoad()
			}
			return err
		})
	}
	d.watch(ctx)
	behind := d.catchUp(alive)
	if behind == nil {
		behind = d.compareGroup(alive)
	}
	if behind == nil && d.failsOver {
		behind = d.failOver(alive)
	}
	onStop()
	stopFlow()
	if err := group.Wait(); err != nil {
		return err
	}
	if behind != nil || d.failsOver {
		return behind
	}
	return d.verify(outer)
}

// watch prints one line per second until ctx ends.
func (d *demonstration) watch(ctx context.Context) {
	began := time.Now()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	previous, at := d.flow.Status(), began
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s, now := d.flow.Status(), time.Now()
		o := newOverview(s)
		d.announce(o.Topics)
		took := now.Sub(at).Seconds()
		d.p.printf("%4.0f s  %8s/s  %7.0f records/s  lag %6s records  total %9d records in %2d partitions\n",
			now.Sub(began).Seconds(), size(float64(s.Bytes-previous.Bytes)/took), float64(s.Records-previous.Records)/took,
			optional(s.LagRecords), s.Records, o.PartitionCount)
		for _, e := range o.Attention {
			if e.State == summary.Halted && e.Topic != demoUploads { // of which the story tells
				d.p.printf("        %s-%s is halted: %s\n", e.Topic, e.Partitions, e.Why)
			}
		}
		previous, at = s, now
	}
}

// announce prints each new topic once.
func (d *demonstration) announce(topics []summary.Topic) {
	for _, t := range topics {
		if !d.announced[t.Topic] {
			d.announced[t.Topic] = true
			d.p.printf("        new topic %s -> %s (%s)\n", t.Topic, t.TargetTopic, count(t.Partitions, "partition"))
		}
	}
}

// catchUp waits until the target has acknowledged every record of the source.
func (d *demonstration) catchUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, demoDrain)
	defer cancel()
	if err := d.load.wait(ctx); err != nil {
		return err
	}
	select {
	case <-d.uploaded:
	case <-ctx.Done():
	}
	d.p.printf("\nThe load has stopped after %s. Copying the rest.\n", count(d.load.produced.Load(), "record"))
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		missing, err := d.missing(ctx)
		if err != nil {
			return err
		}
		if missing == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s not copied within %v after the end of the load", count(missing, "record"), demoDrain)
		case <-tick.C:
		}
	}
}

// missing counts the source records that the target has not acknowledged.
func (d *demonstration) missing(ctx context.Context) (int64, error) {
	ends, err := d.load.ends(ctx)
	if err != nil {
		return 0, fmt.Errorf("list the end offsets of the source: %w", err)
	}
	acked := make(map[topicPartition]int64)
	for _, p := range d.flow.Status().Partitions {
		acked[topicPartition{p.Topic, p.Partition}] = p.Acked
	}
	missing := int64(0)
	for tp, end := range ends {
		missing += max(0, end-acked[tp])
	}
	return missing, nil
}

// verify compares every record of both sides.
func (d *demonstration) verify(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, demoVerify)
	defer cancel()
	result, err := verifyCopy(ctx, d.source.ListenAddrs(), d.target.ListenAddrs(), func(topic string) string {
		return demoSource + "." + topic
	})
	if err != nil {
		return err
	}
	d.p.printf("verified %s in %s: same bytes, same order, none missing, none duplicated.\n",
		count(result.records, "record"), count(result.partitions, "partition"))
	return nil
}
