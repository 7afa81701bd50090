package main

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/mm2"
	"github.com/milena-kafka/milena/e2e/proc"
)

// replicator is a program under measurement.
type replicator interface {
	name() string
	// remoteTopic is the name of a topic's copy on the target.
	remoteTopic(topic string) string
	// start starts it with its files in dir.
	start(ctx context.Context, b *bench, dir string) (*proc.Process, error)
}

// addrs are where a replicator reaches a cluster: directly, with TLS, or through the proxies if the delay is on that side.
func (b *bench) addrs(c *kafka.Cluster, side string) []string {
	switch {
	case b.tls:
		return c.SecureAddrs()
	case b.rtt > 0 && b.side == side:
		return c.ProxyAddrs()
	}
	return c.Addrs()
}

type milena struct{}

func (milena) name() string                    { return "milena" }
func (milena) remoteTopic(topic string) string { return "source." + topic }

func (milena) start(ctx context.Context, b *bench, dir string) (*proc.Process, error) {
	cluster := func(c *kafka.Cluster, side string) daemon.Map {
		section := daemon.Map{"brokers": b.addrs(c, side)}
		if b.tls {
			section["tls"] = daemon.Map{"ca_file": b.keys.ca, "cert_file": b.keys.client}
		}
		return section
	}
	all := daemon.Map{
		"clusters": daemon.Map{sourceSide: cluster(b.source, sourceSide), targetSide: cluster(b.target, targetSide)},
		"flows":    []daemon.Map{{"source": sourceSide, "target": targetSide, "topics": []string{b.pattern()}}},
	}
	if b.buffer > 0 {
		all["buffer"] = b.buffer.String()
	}
	d, err := daemon.New(ctx, b.milena, dir, all)
	if err != nil {
		return nil, err
	}
	err = d.Start(ctx)
	return d.Process(), err
}

// mirrorMaker is MirrorMaker 2 in dedicated mode, tuned for throughput as its documentation and its users recommend. Heartbeats and checkpoints
// are on, as by default.
type mirrorMaker struct{}

func (mirrorMaker) name() string                    { return "MirrorMaker 2" }
func (mirrorMaker) remoteTopic(topic string) string { return mm2.RemoteTopic(topic) }

func (mirrorMaker) start(ctx context.Context, b *bench, dir string) (*proc.Process, error) {
	properties := map[string]string{
		"tasks.max":          "4",
		"replication.factor": fmt.Sprint(b.brokers),
		// One fetch at a time is under way to a broker: it must be large to fill a long distance.
		"primary.consumer.fetch.max.bytes":           "52428800",
		"primary.consumer.max.partition.fetch.bytes": "52428800",
		"primary.consumer.max.poll.records":          "10000",
		"primary.consumer.receive.buffer.bytes":      "-1",
		"dr.producer.batch.size":                     "524288",
		"dr.producer.linger.ms":                      "1",
		"dr.producer.buffer.memory":                  "134217728",
		"dr.producer.max.request.size":               "10485760",
		"dr.producer.compression.type":               b.codec,
		"dr.producer.send.buffer.bytes":              "-1",
		// Connect's default is one request at a time. With an idempotent producer five keep the order.
		"dr.producer.enable.idempotence":                    "true",
		"dr.producer.max.in.flight.requests.per.connection": "5",
	}
	for _, topic := range []string{"checkpoints.topic", "heartbeats.topic", "offset-syncs.topic", "offset.storage", "status.storage", "config.storage"} {
		properties[topic+".replication.factor"] = fmt.Sprint(b.brokers)
	}
	if b.rtt > 0 {
		// More tasks have more requests under way, and batches that wait longer are fuller. Without delay neither is faster.
		properties["tasks.max"] = fmt.Sprint(min(8, b.topics*b.partitions))
		properties["dr.producer.linger.ms"] = "10"
	}
	if b.tls {
		for _, cluster := range []string{"primary.", "dr."} {
			maps.Copy(properties, map[string]string{
				cluster + "security.protocol":       "SSL",
				cluster + "ssl.truststore.type":     "PEM",
				cluster + "ssl.truststore.location": b.keys.ca,
				cluster + "ssl.keystore.type":       "PEM",
				cluster + "ssl.keystore.location":   b.keys.client,
			})
		}
	}
	return mm2.Start(ctx, b.jars, dir, mm2.Options{
		Primary: b.addrs(b.source, sourceSide), DR: b.addrs(b.target, targetSide), Topics: b.pattern(), Properties: properties,
	})
}

// tlsKeys are the PEM files with which a replicator logs in.
type tlsKeys struct{ ca, client string }

func newKeys(dir string) tlsKeys {
	return tlsKeys{ca: filepath.Join(dir, "ca.pem"), client: filepath.Join(dir, "client.pem")}
}
