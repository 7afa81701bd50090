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

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
)

// How long the end of a demo may take: to copy the rest, and to read both sides.
const (
	demoDrain  = 30 * time.Second
	demoVerify = time.Minute
)

// demonstration is two clusters in this process and a flow between them.
type demonstration struct {
	p              *program
	source, target *kfake.Cluster
	load           *load
	flow           *replicator.Flow
	seen           map[string]bool // topics that were announced
}

func (p *program) demo(ctx context.Context, args []string) error {
	f := p.flags("demo", "two clusters, load and a flow in this process; ends with a check of every record")
	span := f.Duration("for", 0, "how long to load; 0 means until Ctrl-C")
	listen := f.String("listen", config.Default().HTTP.Listen, "where to serve the page")
	rate := f.Int("rate", 20_000, "records per second")
	if err := parse(f, args); err != nil {
		return err
	}
	if *span < 0 || *rate < 1 {
		return &usageError{"demo: --for can't be negative and --rate must be at least 1"}
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
	a.serveFlows([]*replicator.Flow{d.flow})
	p.printf("Two clusters, %s and %s, run in this process, and a flow between them.\n", demoSource, demoTarget)
	if address := a.address(); address != "" {
		p.printf("Open http://%s/ to watch.", address)
	}
	if *span == 0 {
		p.printf(" Ctrl-C ends the load and checks every record.")
	}
	p.printf("\n\n")
	if *span > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, *span)
		defer cancel()
	}
	return d.run(ctx, a.stopping)
}

// listenSomewhere takes any free port where the wanted one is busy: a demo has no configured readers.
func (p *program) listenSomewhere(ctx context.Context, registry *prometheus.Registry, listen string) (*admin, error) {
	if listen != "" {
		if _, _, err := net.SplitHostPort(listen); err != nil {
			return nil, &usageError{fmt.Sprintf("demo: --listen %q is not host:port", listen)}
		}
	}
	a := newAdmin(registry, config.HTTP{Listen: listen})
	err := a.listen(ctx)
	if !errors.Is(err, errBusy) {
		return a, err
	}
	p.printf("%s is in use, so the page is at another port.\n", listen)
	host, _, _ := net.SplitHostPort(listen)
	a = newAdmin(registry, config.HTTP{Listen: net.JoinHostPort(host, "0")})
	return a, a.listen(ctx)
}

// The aliases of the demo's clusters.
const (
	demoSource = "primary"
	demoTarget = "dr"
)

func (p *program) newDemonstration(registry prometheus.Registerer, rate int) (_ *demonstration, err error) {
	d := &demonstration{p: p, seen: make(map[string]bool)}
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
	c := config.Default()
	source, target := config.DefaultCluster(), config.DefaultCluster()
	source.Brokers, target.Brokers = d.source.ListenAddrs(), d.target.ListenAddrs()
	c.Clusters = map[string]config.Cluster{demoSource: source, demoTarget: target}
	flow := config.DefaultFlow(demoSource, demoTarget)
	flow.HeartbeatsInterval = 0 // what is compared in the end has to stand still
	c.Flows = []config.Flow{flow}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	log := slog.New(slog.NewTextHandler(p.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	d.flow, err = replicator.New(options(&c, c.Flows[0], log, registry))
	return d, err
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

// run loads until ctx ends, then lets the flow catch up, stops it and compares both sides. The flow lives longer than ctx,
// as the end of the load is where the interesting part begins; a second Ctrl-C kills.
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
		defer stopLoad() // without a flow there is nothing to see
		return d.flow.Run(flowCtx)
	})
	group.Go(func() error {
		defer stopLoad()
		return d.load.run(ctx)
	})
	d.watch(ctx)
	caught := d.catchUp(alive)
	onStop()
	stopFlow()
	if err := group.Wait(); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	if caught != nil {
		return fmt.Errorf("demo: %w", caught)
	}
	verifyCtx, cancel := context.WithTimeout(outer, demoVerify)
	defer cancel()
	result, err := verifyCopy(verifyCtx, d.source.ListenAddrs(), d.target.ListenAddrs(), func(topic string) string {
		return demoSource + "." + topic
	})
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	d.p.printf("verified %s in %s: same bytes, same order, nothing missing, nothing twice\n",
		count(result.records, "record"), count(result.partitions, "partition"))
	return nil
}

// watch tells every second how it goes, until ctx ends.
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
		d.announce(s)
		took := now.Sub(at).Seconds()
		d.p.printf("%4.0f s  %8s/s  %7.0f records/s  lag %6d records  total %9d records in %2d partitions\n",
			now.Sub(began).Seconds(), size(float64(s.Bytes-previous.Bytes)/took), float64(s.Records-previous.Records)/took,
			s.LagRecords, s.Records, len(s.Partitions))
		for _, e := range newOverview(s).Attention {
			if e.State == "halted" {
				d.p.printf("        %s-%d needs attention: %s\n", e.Topic, e.Partition, e.Why)
			}
		}
		previous, at = s, now
	}
}

// announce tells once about each topic.
func (d *demonstration) announce(s replicator.Status) {
	for _, t := range newOverview(s).Topics {
		if !d.seen[t.Topic] {
			d.seen[t.Topic] = true
			d.p.printf("        %s -> %s appeared (%s)\n", t.Topic, t.TargetTopic, count(t.Partitions, "partition"))
		}
	}
}

// catchUp waits until everything that the source holds is acknowledged by the target.
func (d *demonstration) catchUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, demoDrain)
	defer cancel()
	if err := d.load.wait(ctx); err != nil {
		return err
	}
	d.p.printf("\nThe load has ended with %s; copying the rest.\n", count(d.load.produced.Load(), "record"))
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		ends, err := d.load.ends(ctx)
		if err != nil {
			return fmt.Errorf("read where the source ends: %w", err)
		}
		missing := int64(0)
		acked := make(map[topicPartition]int64)
		for _, p := range d.flow.Status().Partitions {
			acked[topicPartition{p.Topic, p.Partition}] = p.Acked
		}
		for tp, end := range ends {
			missing += max(0, end-acked[tp])
		}
		if missing == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s more to copy, and it does not go on", count(missing, "record"))
		case <-tick.C:
		}
	}
}
