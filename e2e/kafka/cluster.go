// Package kafka starts clusters of real Apache Kafka brokers on loopback and runs Kafka's own tools.
package kafka

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/milena-kafka/milena/e2e/proc"
	"github.com/milena-kafka/milena/e2e/proxy"
)

// Options configure a cluster.
type Options struct {
	// Name appears in messages and paths.
	Name string
	// Dir is the directory for data and logs.
	Dir string
	// Brokers is the number of brokers; 1 if zero. With 2 or more, the controller is a separate process, so that any broker can be killed.
	Brokers int
	// Properties are added to each broker's server.properties.
	Properties map[string]string
	// Proxied adds a listener behind a proxy to each broker: with Security, that is the one of Security. The brokers themselves and the test do
	// not use it.
	Proxied bool
	// Lines are further listeners of each broker, each behind a proxy of its own: clients that use different lines can be cut off one by one.
	Lines int
	// Sites makes a stretch cluster of two sites. It excludes Proxied and Security.
	Sites *Sites
	// Mount prepares the data directory of a broker before anything is written to it.
	Mount func(broker int, dir string) error
	// Security adds a SASL_SSL or SSL listener.
	Security *Security
	// Classes is a directory of Java classes that the brokers look at before their own.
	Classes string
	// Version is the version of Kafka, if it is not that of the jars that Start gets. Before 4.0 the cluster runs with ZooKeeper, without a proxy
	// and without security, unless KRaft is set, which needs 3.7.
	Version string
	KRaft   bool
	// JVM are the JVM options of the brokers; if empty, those for a small heap and a quick start.
	JVM []string

	voters string // controller.quorum.voters, if it is not the one controller
}

// Cluster is a running cluster.
type Cluster struct {
	name       string
	id         string
	jars       Jars
	jvm        []string
	controller *Broker // nil if the only broker is the controller as well
	brokers    []*Broker
}

// Start starts a cluster and returns when all brokers have joined it. All processes end with ctx.
func Start(ctx context.Context, jars Jars, o Options) (*Cluster, error) {
	if strings.Contains(o.Dir, ",") {
		return nil, fmt.Errorf("start cluster %s: directory %s has a comma, at which Kafka splits log.dirs", o.Name, o.Dir)
	}
	o.Brokers = max(o.Brokers, 1)
	if len(o.JVM) == 0 {
		// The brokers share two cores with the rest of the test: a quick start is worth more than a fast steady state.
		o.JVM = []string{"-Xms384m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"}
	}
	o.JVM = append(slices.Clone(o.JVM), o.Security.jvm()...)
	ports, err := proc.FreePorts(ctx, 1+portsPerBroker(o)*o.Brokers)
	if err != nil {
		return nil, err
	}
	if o.Version != "" {
		if jars, err = ResolveVersion(ctx, o.Version); err != nil {
			return nil, err
		}
	}
	jars.classes, jars.zooKeeper = o.Classes, jars.isBefore4() && !o.KRaft
	if !jars.zooKeeper {
		if err := jars.format(ctx); err != nil {
			return nil, err
		}
	}
	c := &Cluster{name: o.Name, id: uuid(), jars: jars, jvm: o.JVM}
	if o.Sites != nil {
		o.voters = o.siteVoters(ports)
	}
	controller := fmt.Sprintf("127.0.0.1:%d", ports[0])
	if jars.zooKeeper {
		if err := c.startZooKeeper(ctx, ports[0], filepath.Join(o.Dir, o.Name)); err != nil {
			return nil, err
		}
	} else if o.Sites == nil && o.Brokers > 1 {
		if c.controller, err = c.newController(controller, o); err != nil {
			return nil, err
		}
	}
	for i := range o.Brokers {
		b, err := c.newBroker(ctx, i+1, ports[1+portsPerBroker(o)*i:], controller, o)
		if err != nil {
			return nil, err
		}
		c.brokers = append(c.brokers, b)
	}
	if err := c.startProcesses(ctx); err != nil {
		return nil, err
	}
	if o.Security != nil {
		if err := o.Security.createUsers(ctx, c); err != nil {
			return nil, err
		}
	}
	return c, nil
}

const (
	controllerID = 100
	fixedPorts   = 4 // of a broker: PLAINTEXT, PROXIED, the proxy, SECURE
)

// portsPerBroker is how many ports a broker gets. A line has one of the broker and one of the proxy.
func portsPerBroker(o Options) int {
	n := fixedPorts + 2*o.Lines
	if o.Sites != nil {
		n += sitePorts
	}
	return n
}

// newController prepares a controller that listens on addr and is no broker.
func (c *Cluster) newController(addr string, o Options) (*Broker, error) {
	b := &Broker{name: o.Name + "-controller", id: controllerID, dir: filepath.Join(o.Dir, o.Name, "controller"), cluster: c}
	return b, b.prepare(map[string]string{"process.roles": "controller", "listeners": "CONTROLLER://" + addr}, addr, o)
}

// newBroker prepares a broker and starts its proxy. The address controller is that of the cluster's controller, which may be this broker.
func (c *Cluster) newBroker(ctx context.Context, id int, ports []int, controller string, o Options) (*Broker, error) {
	addr := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", ports[i]) }
	b := &Broker{name: fmt.Sprintf("%s-%d", o.Name, id), id: id, addr: addr(0), dir: filepath.Join(o.Dir, o.Name, fmt.Sprint(id)), cluster: c}
	listeners := []string{"PLAINTEXT://" + b.addr}
	if c.jars.zooKeeper {
		return b, b.prepareWithZooKeeper(listeners[0], controller, o)
	}
	advertised := slices.Clone(listeners)
	switch {
	case o.Proxied && o.Security != nil:
		b.secure = addr(2)
		listeners, advertised = append(listeners, "SECURE://"+addr(3)), append(advertised, "SECURE://"+addr(2))
		var err error
		if b.proxy, err = proxy.Start(ctx, addr(2), addr(3)); err != nil {
			return nil, err
		}
	case o.Security != nil:
		b.secure = addr(3)
		listeners, advertised = append(listeners, "SECURE://"+addr(3)), append(advertised, "SECURE://"+addr(3))
	case o.Proxied:
		listeners = append(listeners, "PROXIED://"+addr(1))
		advertised = append(advertised, "PROXIED://"+addr(2))
		var err error
		if b.proxy, err = proxy.Start(ctx, addr(2), addr(1)); err != nil {
			return nil, err
		}
	}
	for n := range o.Lines {
		name, behind, before := fmt.Sprintf("LINE%d://", n), addr(fixedPorts+2*n), addr(fixedPorts+2*n+1)
		listeners, advertised = append(listeners, name+behind), append(advertised, name+before)
		line, err := proxy.Start(ctx, before, behind)
		if err != nil {
			return nil, err
		}
		b.lines = append(b.lines, line)
	}
	if o.Sites != nil {
		more, names, err := b.settle(ctx, ports[portsPerBroker(o)-sitePorts:], o)
		if err != nil {
			return nil, err
		}
		listeners, advertised = append(listeners, more...), append(advertised, names...)
	}
	properties := map[string]string{"process.roles": "broker", "advertised.listeners": strings.Join(advertised, ",")}
	switch {
	case o.Sites != nil:
		properties["inter.broker.listener.name"] = "SITES"
		if slices.Contains(o.Sites.Voters, id) {
			properties["process.roles"] = "broker,controller"
		}
	case o.Brokers == 1:
		properties["process.roles"] = "broker,controller"
		listeners = append(listeners, "CONTROLLER://"+controller)
	}
	properties["listeners"] = strings.Join(listeners, ",")
	return b, b.prepare(properties, controller, o)
}

// startProcesses starts the controller and the brokers and waits until all brokers have joined. Brokers that are controllers wait for each other.
func (c *Cluster) startProcesses(ctx context.Context) error {
	if c.controller != nil {
		if err := c.controller.start(ctx); err != nil {
			return err
		}
	}
	for _, b := range c.brokers {
		if err := b.start(ctx); err != nil {
			return err
		}
	}
	return c.WaitBrokers(ctx, len(c.brokers))
}

// StartAll starts several clusters in parallel.
func StartAll(ctx context.Context, jars Jars, options ...Options) ([]*Cluster, error) {
	clusters := make([]*Cluster, len(options))
	g := new(errgroup.Group)
	for i, o := range options {
		g.Go(func() (err error) {
			clusters[i], err = Start(ctx, jars, o)
			return err
		})
	}
	return clusters, g.Wait()
}

// prepare writes server.properties and the files of a formatted node. The properties override the defaults, and o.Properties
// override both.
func (b *Broker) prepare(properties map[string]string, controller string, o Options) error {
	voters := o.voters
	switch {
	case voters != "":
	case o.Brokers > 1:
		voters = fmt.Sprintf("%d@%s", controllerID, controller)
	default: // the only broker is the controller
		voters = "1@" + controller
	}
	all := defaultProperties(o.Brokers)
	maps.Copy(all, map[string]string{
		"node.id":                        fmt.Sprint(b.id),
		"controller.quorum.voters":       voters,
		"controller.listener.names":      "CONTROLLER",
		"listener.security.protocol.map": protocols("SASL_SSL") + lineProtocols(o.Lines) + siteProtocols(o.Sites),
		"inter.broker.listener.name":     "PLAINTEXT",
		"log.dirs":                       filepath.Join(b.dir, "data"),
	})
	if o.Security != nil {
		maps.Copy(all, o.Security.properties(b.dir))
	}
	maps.Copy(all, properties)
	maps.Copy(all, o.Properties)
	if b.id == controllerID {
		delete(all, "inter.broker.listener.name")
		delete(all, "advertised.listeners")
	}
	if err := os.MkdirAll(all["log.dirs"], 0o755); err != nil {
		return err
	}
	if o.Mount != nil {
		if err := o.Mount(b.id, all["log.dirs"]); err != nil {
			return err
		}
	}
	if err := b.writeFiles(all); err != nil {
		return err
	}
	if o.Security != nil {
		return b.Secure(o.Security)
	}
	return nil
}

// defaultProperties are those of all nodes of a cluster with n brokers: replicated as far as n allows, quick and small.
func defaultProperties(n int) map[string]string {
	replication, minISR := fmt.Sprint(min(n, 3)), "1"
	if n >= 3 {
		minISR = "2"
	}
	return map[string]string{
		"num.partitions":             "1",
		"default.replication.factor": replication,
		"min.insync.replicas":        minISR,

		"offsets.topic.replication.factor":                 replication,
		"offsets.topic.num.partitions":                     "4",
		"transaction.state.log.replication.factor":         replication,
		"transaction.state.log.min.isr":                    minISR,
		"transaction.state.log.num.partitions":             "4",
		"share.coordinator.state.topic.replication.factor": replication,
		"share.coordinator.state.topic.min.isr":            minISR,

		// Tests wait for these.
		"group.initial.rebalance.delay.ms": "0",
		"broker.session.timeout.ms":        "4000",
		"broker.heartbeat.interval.ms":     "500",
		"replica.lag.time.max.ms":          "4000",
		"log.cleaner.backoff.ms":           "500",
		// The heap is small.
		"log.cleaner.dedupe.buffer.size": "8388608",
		"num.io.threads":                 "4",
		"num.network.threads":            "2",
		"auto.create.topics.enable":      "false",
	}
}

// writeFiles writes server.properties, and meta.properties and what else the storage tool writes when it formats a node.
func (b *Broker) writeFiles(properties map[string]string) error {
	data := properties["log.dirs"]
	if err := os.CopyFS(data, os.DirFS(b.cluster.jars.formatted())); err != nil {
		return err
	}
	meta := fmt.Sprintf("version=1\ncluster.id=%s\nnode.id=%d\ndirectory.id=%s\n", b.cluster.id, b.id, uuid())
	for path, content := range map[string]string{
		filepath.Join(b.dir, "server.properties"): propertiesText(properties),
		filepath.Join(data, "meta.properties"):    meta,
	} {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// propertiesText returns the text of a properties file.
func propertiesText(properties map[string]string) string {
	var text strings.Builder
	for _, k := range slices.Sorted(maps.Keys(properties)) {
		fmt.Fprintf(&text, "%s=%s\n", k, properties[k])
	}
	return text.String()
}

// uuid is a random UUID in Kafka's text form. It never starts with a dash, which the tools would take for an option.
func uuid() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	return "A" + base64.RawURLEncoding.EncodeToString(b)[1:]
}

// Name is the name of the cluster.
func (c *Cluster) Name() string { return c.name }

// Jars are the jars that the cluster runs with.
func (c *Cluster) Jars() Jars { return c.jars }

// Broker returns the broker with this id, which start at 1.
func (c *Cluster) Broker(id int) *Broker { return c.brokers[id-1] }

// Controller is the controller, which is nil if a broker is the controller as well.
func (c *Cluster) Controller() *Broker { return c.controller }

// Brokers are all brokers of the cluster.
func (c *Cluster) Brokers() []*Broker { return c.brokers }

// Addrs are the addresses of the brokers, without proxies.
func (c *Cluster) Addrs() []string {
	return c.addrs(func(b *Broker) string { return b.addr })
}

// ProxyAddrs are the addresses of the brokers' proxies.
func (c *Cluster) ProxyAddrs() []string {
	return c.addrs(func(b *Broker) string { return b.proxy.Addr() })
}

// LineAddrs are the addresses of the brokers' proxies of a line.
func (c *Cluster) LineAddrs(n int) []string {
	return c.addrs(func(b *Broker) string { return b.lines[n].Addr() })
}

// SecureAddrs are the addresses of the SASL_SSL or SSL listeners.
func (c *Cluster) SecureAddrs() []string {
	return c.addrs(func(b *Broker) string { return b.secure })
}

func (c *Cluster) addrs(of func(*Broker) string) []string {
	var addrs []string
	for _, b := range c.brokers {
		addrs = append(addrs, of(b))
	}
	return addrs
}

// Network sets the mode of every broker's proxy.
func (c *Cluster) Network(ctx context.Context, mode proxy.Mode) error {
	for _, b := range c.brokers {
		if err := b.proxy.Set(ctx, mode); err != nil {
			return err
		}
	}
	return nil
}

// Accepted is the number of connections that the proxies have accepted.
func (c *Cluster) Accepted() int64 {
	var n int64
	for _, b := range c.brokers {
		n += b.proxy.Accepted()
	}
	return n
}

// Client connects to the cluster. It bypasses the proxies.
func (c *Cluster) Client(opts ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.Addrs()...), kgo.MetadataMinAge(100 * time.Millisecond), kgo.DisableClientMetrics()}, opts...)...)
}

// Admin calls do with an admin client of the cluster. It bypasses the proxies.
func (c *Cluster) Admin(do func(*kadm.Client) error) error {
	cl, err := c.Client()
	if err != nil {
		return err
	}
	defer cl.Close()
	return do(kadm.NewClient(cl))
}

// WaitBrokers waits, for at most three minutes, until the metadata of the cluster has n brokers. It returns an error at once if no broker runs.
func (c *Cluster) WaitBrokers(ctx context.Context, n int) error {
	cl, err := c.Client(kgo.DialTimeout(5*time.Second), kgo.RequestRetries(0))
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeoutCause(ctx, 3*time.Minute, fmt.Errorf("cluster %s did not see %d brokers within three minutes", c.name, n))
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		brokers, err := kadm.NewClient(cl).ListBrokers(ctx)
		if err == nil && len(brokers) == n {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w (last metadata: %v brokers, %w)\n%s", context.Cause(ctx), len(brokers), err, c.Tail(30))
		}
		for _, b := range c.brokers {
			if b.process.Running() {
				continue
			}
			if alive := slices.ContainsFunc(c.brokers, func(b *Broker) bool { return b.process.Running() }); !alive {
				return fmt.Errorf("no broker of cluster %s runs\n%s", c.name, c.Tail(30))
			}
		}
	}
}

// Tail is the last lines of each broker's log.
func (c *Cluster) Tail(lines int) string {
	var s strings.Builder
	for _, b := range c.brokers {
		fmt.Fprintf(&s, "--- %s\n%s\n", b.name, b.process.Tail(lines))
	}
	return s.String()
}

// Usage is the sum of all brokers.
func (c *Cluster) Usage() (proc.Usage, error) {
	var sum proc.Usage
	for _, b := range c.brokers {
		u, err := b.process.Usage()
		if err != nil {
			return sum, err
		}
		sum.CPU, sum.RSS, sum.PeakRSS = sum.CPU+u.CPU, sum.RSS+u.RSS, sum.PeakRSS+u.PeakRSS
	}
	return sum, nil
}
