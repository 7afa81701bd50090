package kafka

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/milena-kafka/milena/e2e/proc"
	"github.com/milena-kafka/milena/e2e/proxy"
)

// Broker is one broker or the controller, running or not.
type Broker struct {
	name    string
	id      int
	addr    string
	secure  string // address of the SASL_SSL or SSL listener
	proxy   *proxy.Proxy
	lines   []*proxy.Proxy
	dir     string
	cluster *Cluster
	process *proc.Process

	// With Sites:
	across    []*proxy.Proxy // what comes from the other site
	siteAddrs [2]string      // for the clients at each site
	jvm       []string
}

func (b *Broker) start(ctx context.Context) error {
	var err error
	b.process, err = proc.Start(ctx, b.name, filepath.Join(b.dir, "out.log"),
		b.cluster.jars.Class(slices.Concat(b.cluster.jvm, b.jvm), "kafka.Kafka", filepath.Join(b.dir, "server.properties")))
	return err
}

// ID is the id of the broker.
func (b *Broker) ID() int32 { return int32(b.id) }

// Proxy is the proxy of the broker; nil if the cluster is not proxied.
func (b *Broker) Proxy() *proxy.Proxy { return b.proxy }

// Line is the proxy of one of the lines of Options.Lines.
func (b *Broker) Line(n int) *proxy.Proxy { return b.lines[n] }

// DataDir is log.dirs, with one directory per partition.
func (b *Broker) DataDir() string { return filepath.Join(b.dir, "data") }

// Running reports whether the broker's process runs.
func (b *Broker) Running() bool { return b.process.Running() }

// Kill ends the broker with SIGKILL.
func (b *Broker) Kill() { b.process.Kill() }

// Stop ends the broker with SIGTERM, so that it moves leadership to other brokers first.
func (b *Broker) Stop(ctx context.Context) error {
	if err := b.process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	_, err := b.process.Wait(ctx)
	return err
}

// Pause freezes the broker with SIGSTOP.
func (b *Broker) Pause() error { return b.process.Signal(syscall.SIGSTOP) }

// Resume continues a paused broker.
func (b *Broker) Resume() error { return b.process.Signal(syscall.SIGCONT) }

// Restart starts a broker that has ended, with the same ports and data. It does not wait until the broker is in the cluster.
func (b *Broker) Restart(ctx context.Context) error {
	if b.process.Running() {
		return errors.New(b.name + " is still running")
	}
	return b.start(ctx)
}
