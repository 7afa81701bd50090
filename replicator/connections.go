package replicator

import (
	"cmp"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/plugin/kprom"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/wire"
)

// connections are the clients of a flow. Clients connect lazily.
//
// Batches have connections of their own: one line to each broker per fetch loop and per lane. A kgo client writes its requests to one broker one after
// the other, across its connections: a request that a quota delays (KIP-219) delays all others. So batches share no client with the journal, on
// which the lease depends, nor with requests about transactions.
type connections struct {
	source, target *kgo.Client // for topics, groups and transactions
	internal       *kgo.Client // of the target, for the journal
	control        *kgo.Client // of the target, for the control topic, whose requests wait at the broker
	// groupsSource and groupsTarget are for package groups alone: its requests are large, and giving one up closes the connection.
	groupsSource, groupsTarget *kgo.Client
	// quorumSource and quorumTarget are for questions to active controllers alone, for which brokers may wait long.
	quorumSource, quorumTarget *kgo.Client

	sourceWire   wire.Fetcher             // for single reads, as in a recovery
	targetWire   wire.Fetcher             // likewise
	journal      *journalLines            // to the target
	fetchLines   [sourceLoops]*wire.Lines // for batches, one per loop of a source broker
	produceLines [targetLanes]*wire.Lines // for batches, one per lane

	throttles                *client.Throttles
	sourceDials, targetDials *client.Dials
	all                      []*kgo.Client
	lines                    []*wire.Lines
}

// addresses return host:port of the brokers of both clusters, empty if a broker is unknown.
type addresses struct{ source, target func(broker int32) string }

// newConnections creates the clients, whose requests need the permission of guard. It does not connect.
func newConnections(o client.Clusters, a addresses, guard client.Guard, log *slog.Logger, m *flowMetrics, r prometheus.Registerer) (*connections, error) {
	c := &connections{throttles: client.NewThrottles(log), sourceDials: &client.Dials{Guard: guard}, targetDials: &client.Dials{Guard: guard}}
	source := &clientMaker{
		connections: c, side: "source", alias: o.Flow.Source, log: log, metrics: m, dials: c.sourceDials,
		series: kprom.NewMetrics("milena", kprom.Subsystem("source_client"), kprom.Registerer(r)),
	}
	target := &clientMaker{
		connections: c, side: "target", alias: o.Flow.Target, log: log, metrics: m, dials: c.targetDials,
		series: kprom.NewMetrics("milena", kprom.Subsystem("target_client"), kprom.Registerer(r)),
	}
	c.source, c.target, c.internal, c.control = source.make(o), target.make(o), target.make(o), target.make(o)
	c.groupsSource, c.groupsTarget = source.make(o), target.make(o)
	c.quorumSource, c.quorumTarget = source.make(o), target.make(o)
	c.targetWire = target.wire(c.internal)
	c.journal = newJournalLines(o.Flow.Lease/4, target.wire(c.internal), func() (*journalLine, error) {
		cl, err := target.open(o)
		if err != nil {
			return nil, err
		}
		return &journalLine{Producer: target.wire(cl), close: cl.Close}, nil
	})
	buffers := &wire.Buffers{}
	for i := range c.fetchLines {
		c.fetchLines[i] = source.lines(o.Source, a.source, buffers)
	}
	c.sourceWire = source.lines(o.Source, a.source, buffers)
	for i := range c.produceLines {
		c.produceLines[i] = target.lines(o.Target, a.target, buffers)
	}
	for _, maker := range []*clientMaker{source, target} {
		if maker.err != nil {
			c.close()
			return nil, fmt.Errorf("cluster %s: %w", maker.alias, maker.err)
		}
	}
	return c, nil
}

// memberOptions returns the options of the client that joins the group of the instances. It is a client of its own, because a join waits for the
// other members, and has a client id of its own, because a quota of the client id would delay its heartbeats for longer than the session (KIP-219).
func (c *connections) memberOptions(o client.Clusters) ([]kgo.Opt, error) {
	options, err := client.Options(o.Target, c.targetDials, o.Log.With("client", "group"))
	return append(options, kgo.ClientID(cmp.Or(o.Target.ClientID, "milena")+"-group")), err
}

func (c *connections) close() {
	c.journal.closeAll()
	for _, l := range c.lines {
		l.Close()
	}
	for _, cl := range c.all {
		cl.Close()
	}
}

// clientMaker creates the clients of one side, which share dials and metrics.
type clientMaker struct {
	connections *connections
	side, alias string
	log         *slog.Logger
	metrics     *flowMetrics
	dials       *client.Dials
	series      *kprom.Metrics
	made        int
	err         error // of the first client that could not be created
}

// make creates a client that lives as long as the flow. It returns nil after an error.
func (m *clientMaker) make(o client.Clusters) *kgo.Client {
	cl, err := m.open(o)
	if err != nil {
		if m.err == nil {
			m.err = err
		}
		return nil
	}
	m.connections.all = append(m.connections.all, cl)
	return cl
}

// open creates a client, which the caller closes. The first client registers the series that all clients of the side share.
func (m *clientMaker) open(o client.Clusters) (*kgo.Client, error) {
	cluster := o.Source
	if m.side == "target" {
		cluster = o.Target
	}
	options, err := client.Options(cluster, m.dials, m.log.With("client", m.side), m.hooks()...)
	if err != nil {
		return nil, err
	}
	return kgo.NewClient(options...)
}

// hooks returns the hooks of the next client. All but the first count into the series that the first one registers.
func (m *clientMaker) hooks() []kgo.Hook {
	var series kgo.Hook = m.series
	if m.made++; m.made > 1 {
		series = sharedMetrics{m.series}
	}
	return []kgo.Hook{series, m.connections.throttles.Hook(m.side, m.alias, m.metrics.throttled.WithLabelValues(m.alias))}
}

// lines creates connections for batches, which live as long as the flow.
func (m *clientMaker) lines(cluster config.Cluster, address func(broker int32) string, buffers *wire.Buffers) *wire.Lines {
	network, err := client.NewNetwork(cluster, m.dials)
	if err != nil && m.err == nil {
		m.err = err
	}
	l := wire.NewLines(wire.Access{
		Network: network, Address: address, Guard: m.dials.Guard, Hooks: m.hooks(), Observe: m.metrics.observer(m.alias), Buffers: buffers,
	})
	m.connections.lines = append(m.connections.lines, l)
	return l
}

// wire wraps a client so that its fetch and produce requests are measured.
func (m *clientMaker) wire(cl *kgo.Client) wire.Transport {
	return wire.Kgo{Client: cl, Observe: m.metrics.observer(m.alias)}
}

// sharedMetrics lets a further client count into the series of the first one, which registers them.
type sharedMetrics struct{ *kprom.Metrics }

// OnNewClient hides the method of kprom, which would register the series again.
func (sharedMetrics) OnNewClient(*kgo.Client) {}

// OnClientClosed hides the method of kprom, which would unregister the series of the other clients.
func (sharedMetrics) OnClientClosed(*kgo.Client) {}
