package replicator

import (
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/plugin/kprom"

	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/wire"
)

// connections are the clients of a flow. They open their connections when they need them.
//
// A client has one connection to a broker for its fetches and one for its produce requests, and sends one request after the other to a
// broker on all of its connections: one that a quota holds up (KIP-219) holds up the others. So each fetch loop and each produce connection
// has a client of its own, and neither the journal, on which the lease depends, nor the requests about transactions share one with batches.
type connections struct {
	source, target *kgo.Client // for topics, groups and transactions
	internal       *kgo.Client // of the target, for the journal and the internal topics

	sourceWire   wire.Fetcher              // for what is read once, as in a recovery
	targetWire   wire.Transport            // the same, and the journal
	fetchWires   [sourceLoops]wire.Fetcher // for batches, one per loop of a source broker
	produceWires [produceConnections]wire.Producer

	throttles   *client.Throttles
	targetDials *client.DialLimits
	all         []*kgo.Client
}

// newConnections makes the clients. It reaches no network.
func newConnections(o client.Clusters, log *slog.Logger, m *flowMetrics, r prometheus.Registerer) (*connections, error) {
	c := &connections{throttles: client.NewThrottles(log), targetDials: &client.DialLimits{}}
	source := &clientMaker{
		connections: c, side: "source", alias: o.Flow.Source, log: log, metrics: m, limits: &client.DialLimits{},
		series: kprom.NewMetrics("milena", kprom.Subsystem("source_client"), kprom.Registerer(r)),
	}
	target := &clientMaker{
		connections: c, side: "target", alias: o.Flow.Target, log: log, metrics: m, limits: c.targetDials,
		series: kprom.NewMetrics("milena", kprom.Subsystem("target_client"), kprom.Registerer(r)),
	}
	c.source, c.target, c.internal = source.make(o), target.make(o), target.make(o)
	c.targetWire = target.wire(c.internal)
	for i := range c.fetchWires {
		c.fetchWires[i] = source.wire(source.make(o))
	}
	c.sourceWire = c.fetchWires[0]
	for i := range c.produceWires {
		c.produceWires[i] = target.wire(target.make(o))
	}
	for _, maker := range []*clientMaker{source, target} {
		if maker.err != nil {
			c.close()
			return nil, fmt.Errorf("cluster %s: %w", maker.alias, maker.err)
		}
	}
	return c, nil
}

func (c *connections) close() {
	for _, cl := range c.all {
		cl.Close()
	}
}

// clientMaker makes the clients of one side, which share limits and metrics.
type clientMaker struct {
	connections *connections
	side, alias string
	log         *slog.Logger
	metrics     *flowMetrics
	limits      *client.DialLimits
	series      *kprom.Metrics
	made        int
	err         error // of the first client that could not be made
}

// make makes one client; nil after an error. The first one registers the series that all of them count into.
func (m *clientMaker) make(o client.Clusters) *kgo.Client {
	cluster := o.Source
	if m.side == "target" {
		cluster = o.Target
	}
	var series kgo.Hook = m.series
	if m.made++; m.made > 1 {
		series = sharedMetrics{m.series}
	}
	options, err := client.Options(cluster, m.limits, m.log.With("client", m.side), series, m.connections.throttles.Hook(m.side, m.alias, m.metrics.throttled.WithLabelValues(m.alias)))
	var cl *kgo.Client
	if err == nil {
		cl, err = kgo.NewClient(options...)
	}
	if err != nil {
		if m.err == nil {
			m.err = err
		}
		return nil
	}
	m.connections.all = append(m.connections.all, cl)
	return cl
}

func (m *clientMaker) wire(cl *kgo.Client) wire.Transport {
	return wire.Kgo{Client: cl, Observe: m.metrics.observer(m.alias)}
}

// sharedMetrics counts for a second client into the series of the first, which registers them.
type sharedMetrics struct{ *kprom.Metrics }

// OnNewClient is for kgo.HookNewClient.
func (sharedMetrics) OnNewClient(*kgo.Client) {}

// OnClientClosed is for kgo.HookClientClosed.
func (sharedMetrics) OnClientClosed(*kgo.Client) {}
