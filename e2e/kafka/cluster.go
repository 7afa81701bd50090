// Package kafka starts clusters of real Apache Kafka brokers on loopback and runs Kafka's own tools.
package kafka

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/milena-kafka/milena/e2e/proc"
	"github.com/milena-kafka/milena/e2e/proxy"
)

// Options say what a cluster is like. The zero value of each means the usual.
type Options struct {
	// Name appears in messages and paths.
	Name string
	// Dir holds data and logs.
	Dir string
	// Brokers is how many; 1 if zero. From 2 brokers on the controller is a process of its own, so that every broker can die alone.
	Brokers int
	// Properties are added to each broker's server.properties.
	Properties map[string]string
	// Proxied adds a listener that is reached through a proxy per broker. Brokers among each other and the test itself don't use it.
	Proxied bool
	// Security adds a SASL_SSL or SSL listener.
	Security *Security
	// Classes is a directory of Java classes that brokers may be told to use, beside Kafka's own.
	Classes string
	// JVM options of the brokers; small and cheap to start if empty.
	JVM []string
}

// Cluster is a running cluster.
type Cluster struct {
	name       string
	id         string
	jars       Jars
	jvm        []string
	controller *Broker // nil if the only broker is the controller too
	brokers    []*Broker
}

// Broker is one broker, running or not.
type Broker struct {
	name       string
	id         int
	addr       string
	securePort int
	proxy      *proxy.Proxy
	dir        string
	cluster    *Cluster
	process    *proc.Process
}

// Start starts a cluster and returns when every broker is known to it. All processes end with ctx.
func Start(ctx context.Context, jars Jars, o Options) (*Cluster, error) {
	o.Brokers = max(o.Brokers, 1)
	if len(o.JVM) == 0 {
		// The brokers share two cores with the rest of the test: a quick start is worth more than a fast steady state.
		o.JVM = []string{"-Xms384m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"}
	}
	ports, err := proc.FreePorts(ctx, 1+4*o.Brokers)
	if err != nil {
		return nil, err
	}
	jars.classes = o.Classes
	c := &Cluster{name: o.Name, id: uuid(), jars: jars, jvm: o.JVM}
	voter := fmt.Sprintf("%d@127.0.0.1:%d", 1, ports[0])
	if o.Brokers > 1 {
		voter = fmt.Sprintf("%d@127.0.0.1:%d", controllerID, ports[0])
		c.controller = &Broker{name: o.Name + "-controller", id: controllerID, dir: filepath.Join(o.Dir, o.Name, "controller"), cluster: c}
		if err := c.controller.prepare(map[string]string{
			"process.roles": "controller",
			"listeners":     fmt.Sprintf("CONTROLLER://127.0.0.1:%d", ports[0]),
		}, voter, o); err != nil {
			return nil, err
		}
	}
	for i := range o.Brokers {
		id, p := i+1, ports[1+4*i:]
		b := &Broker{name: fmt.Sprintf("%s-%d", o.Name, id), id: id, addr: fmt.Sprintf("127.0.0.1:%d", p[0]), dir: filepath.Join(o.Dir, o.Name, fmt.Sprint(id)), cluster: c}
		listeners := []string{"PLAINTEXT://" + b.addr}
		advertised := slices.Clone(listeners)
		if o.Proxied {
			backend, front := fmt.Sprintf("127.0.0.1:%d", p[1]), fmt.Sprintf("127.0.0.1:%d", p[2])
			listeners = append(listeners, "PROXIED://"+backend)
			advertised = append(advertised, "PROXIED://"+front)
			if b.proxy, err = proxy.Start(ctx, front, backend); err != nil {
				return nil, err
			}
		}
		if o.Security != nil {
			b.securePort = p[3]
			listeners = append(listeners, fmt.Sprintf("SECURE://127.0.0.1:%d", p[3]))
			advertised = append(advertised, fmt.Sprintf("SECURE://127.0.0.1:%d", p[3]))
		}
		props := map[string]string{"process.roles": "broker", "advertised.listeners": strings.Join(advertised, ",")}
		if o.Brokers == 1 {
			props["process.roles"] = "broker,controller"
			listeners = append(listeners, fmt.Sprintf("CONTROLLER://127.0.0.1:%d", ports[0]))
		}
		props["listeners"] = strings.Join(listeners, ",")
		if err := b.prepare(props, voter, o); err != nil {
			return nil, err
		}
		c.brokers = append(c.brokers, b)
	}
	if c.controller != nil {
		if err := c.controller.start(ctx); err != nil {
			return nil, err
		}
	}
	for _, b := range c.brokers {
		if err := b.start(ctx); err != nil {
			return nil, err
		}
	}
	if err := c.WaitBrokers(ctx, o.Brokers); err != nil {
		return nil, err
	}
	if o.Security != nil {
		if err := o.Security.createUsers(ctx, c); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// StartAll starts several clusters at once.
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

const controllerID = 100

// prepare writes what a formatted node has on disk, and its server.properties.
func (b *Broker) prepare(props map[string]string, voter string, o Options) error {
	rf, minISR := min(o.Brokers, 3), 1
	if o.Brokers >= 3 {
		minISR = 2
	}
	all := map[string]string{
		"node.id":                        fmt.Sprint(b.id),
		"controller.quorum.voters":       voter,
		"controller.listener.names":      "CONTROLLER",
		"listener.security.protocol.map": protocols("SASL_SSL"),
		"inter.broker.listener.name":     "PLAINTEXT",
		"log.dirs":                       filepath.Join(b.dir, "data"),
		"num.partitions":                 "1",
		"default.replication.factor":     fmt.Sprint(rf),
		"min.insync.replicas":            fmt.Sprint(minISR),

		"offsets.topic.replication.factor":                 fmt.Sprint(rf),
		"offsets.topic.num.partitions":                     "4",
		"transaction.state.log.replication.factor":         fmt.Sprint(rf),
		"transaction.state.log.min.isr":                    fmt.Sprint(minISR),
		"transaction.state.log.num.partitions":             "4",
		"share.coordinator.state.topic.replication.factor": fmt.Sprint(rf),
		"share.coordinator.state.topic.min.isr":            fmt.Sprint(minISR),

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
	if o.Security != nil {
		maps.Copy(all, o.Security.properties(b.dir))
	}
	maps.Copy(all, props)
	maps.Copy(all, o.Properties)
	if b.id == controllerID {
		delete(all, "inter.broker.listener.name")
		delete(all, "advertised.listeners")
	}
	data := all["log.dirs"]
	if err := os.MkdirAll(data, 0o755); err != nil {
		return err
	}
	var text strings.Builder
	for _, k := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&text, "%s=%s\n", k, all[k])
	}
	bootstrap, err := os.ReadFile(filepath.Join(b.cluster.jars.dir, "bootstrap.checkpoint"))
	if err != nil {
		return err
	}
	meta := fmt.Sprintf("version=1\ncluster.id=%s\nnode.id=%d\ndirectory.id=%s\n", b.cluster.id, b.id, uuid())
	for path, content := range map[string]string{
		filepath.Join(b.dir, "server.properties"):   text.String(),
		filepath.Join(data, "meta.properties"):      meta,
		filepath.Join(data, "bootstrap.checkpoint"): string(bootstrap),
	} {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return err
		}
	}
	if o.Security != nil {
		return o.Security.writeKeystores(b.dir)
	}
	return nil
}

func (b *Broker) start(ctx context.Context) error {
	var err error
	b.process, err = proc.Start(ctx, b.name, filepath.Join(b.dir, "out.log"),
		b.cluster.jars.Class(b.cluster.jvm, "kafka.Kafka", filepath.Join(b.dir, "server.properties")))
	return err
}

// uuid is random, in Kafka's text form; a leading dash would be taken for an option.
func uuid() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	return "A" + base64.RawURLEncoding.EncodeToString(b)[1:]
}

// Name of the cluster.
func (c *Cluster) Name() string { return c.name }

// Jars that the cluster runs.
func (c *Cluster) Jars() Jars { return c.jars }

// Broker with this id; they count from 1.
func (c *Cluster) Broker(id int) *Broker { return c.brokers[id-1] }

// Brokers of the cluster.
func (c *Cluster) Brokers() []*Broker { return c.brokers }

// Addrs of the brokers, without proxies.
func (c *Cluster) Addrs() []string {
	return c.addrs(func(b *Broker) string { return b.addr })
}

// ProxyAddrs are the addresses of the brokers' proxies.
func (c *Cluster) ProxyAddrs() []string {
	return c.addrs(func(b *Broker) string { return b.proxy.Addr() })
}

// SecureAddrs are the addresses of the SASL_SSL listeners.
func (c *Cluster) SecureAddrs() []string {
	return c.addrs(func(b *Broker) string { return fmt.Sprintf("127.0.0.1:%d", b.securePort) })
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

// Accepted counts the connections that the proxies have accepted.
func (c *Cluster) Accepted() int64 {
	var n int64
	for _, b := range c.brokers {
		n += b.proxy.Accepted()
	}
	return n
}

// Client connects to the cluster, past the proxies.
func (c *Cluster) Client(opts ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.Addrs()...), kgo.MetadataMinAge(100 * time.Millisecond), kgo.DisableClientMetrics()}, opts...)...)
}

// Admin connects to the cluster, past the proxies, and hands an admin client to do.
func (c *Cluster) Admin(do func(*kadm.Client) error) error {
	cl, err := c.Client()
	if err != nil {
		return err
	}
	defer cl.Close()
	return do(kadm.NewClient(cl))
}

// WaitBrokers waits until n brokers are alive in the eyes of the cluster.
func (c *Cluster) WaitBrokers(ctx context.Context, n int) error {
	cl, err := c.Client(kgo.DialTimeout(time.Second), kgo.RequestRetries(0))
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, fmt.Errorf("cluster %s did not see %d brokers within a minute", c.name, n))
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
			return fmt.Errorf("%w (last answer: %v brokers, %w)\n%s", context.Cause(ctx), len(brokers), err, c.Tail(30))
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

// Tail is the end of each broker's log.
func (c *Cluster) Tail(lines int) string {
	var s strings.Builder
	for _, b := range c.brokers {
		fmt.Fprintf(&s, "--- %s\n%s\n", b.name, b.process.Tail(lines))
	}
	return s.String()
}

// Usage of all processes of the cluster.
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

// ID of the broker.
func (b *Broker) ID() int32 { return int32(b.id) }

// Proxy in front of the broker; nil if the cluster is not proxied.
func (b *Broker) Proxy() *proxy.Proxy { return b.proxy }

// DataDir holds one directory per partition.
func (b *Broker) DataDir() string { return filepath.Join(b.dir, "data") }

// Running reports whether the broker's process lives.
func (b *Broker) Running() bool { return b.process.Running() }

// Kill ends the broker with SIGKILL.
func (b *Broker) Kill() { b.process.Kill() }

// Stop ends the broker with SIGTERM, so that it hands over its partitions first.
func (b *Broker) Stop(ctx context.Context) error {
	if err := b.process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	_, err := b.process.Wait(ctx)
	return err
}

// Pause freezes the broker with SIGSTOP.
func (b *Broker) Pause() error { return b.process.Signal(syscall.SIGSTOP) }

// Resume wakes a paused broker.
func (b *Broker) Resume() error { return b.process.Signal(syscall.SIGCONT) }

// Restart starts a broker that has ended, on the same ports and data. It doesn't wait until it serves.
func (b *Broker) Restart(ctx context.Context) error {
	if b.process.Running() {
		return errors.New(b.name + " runs")
	}
	return b.start(ctx)
}
