package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/proc"
)

// replicator is what is measured.
type replicator interface {
	name() string
	// copied is the target's name of a topic.
	copied(topic string) string
	start(ctx context.Context, b *bench) (*proc.Process, error)
}

type milena struct{}

func (milena) name() string               { return "milena" }
func (milena) copied(topic string) string { return "source." + topic }

func (milena) start(ctx context.Context, b *bench) (*proc.Process, error) {
	d, err := daemon.New(ctx, b.milena, filepath.Join(b.dir, "milena"), daemon.Map{
		"clusters": daemon.Map{"source": daemon.Map{"brokers": b.source.Addrs()}, "target": daemon.Map{"brokers": b.target.Addrs()}},
		"flows":    []daemon.Map{{"source": "source", "target": "target", "topics": []string{b.name + "-.*"}}},
	})
	if err != nil {
		return nil, err
	}
	err = d.Start(ctx)
	return d.Process(), err
}

// mirrorMaker is MirrorMaker 2 in dedicated mode, tuned for throughput as its documentation and its users advise. Heartbeats and
// checkpoints are on, as they are by default. The reverse direction is off, its heartbeats too, which would be a second Connect worker in
// the process.
type mirrorMaker struct{}

func (mirrorMaker) name() string               { return "MirrorMaker 2" }
func (mirrorMaker) copied(topic string) string { return "primary." + topic }

func (mirrorMaker) start(ctx context.Context, b *bench) (*proc.Process, error) {
	properties := fmt.Sprintf(`clusters = primary, dr
primary.bootstrap.servers = %s
dr.bootstrap.servers = %s
primary->dr.enabled = true
primary->dr.topics = %s-.*
dr->primary.enabled = false
dr->primary.emit.heartbeats.enabled = false
tasks.max = 4
refresh.topics.interval.seconds = 5
replication.factor = 1
checkpoints.topic.replication.factor = 1
heartbeats.topic.replication.factor = 1
offset-syncs.topic.replication.factor = 1
offset.storage.replication.factor = 1
status.storage.replication.factor = 1
config.storage.replication.factor = 1
primary.consumer.fetch.max.bytes = 52428800
primary.consumer.max.partition.fetch.bytes = 52428800
primary.consumer.max.poll.records = 10000
dr.producer.batch.size = 262144
dr.producer.linger.ms = 1
dr.producer.buffer.memory = 134217728
dr.producer.max.request.size = 10485760
dr.producer.compression.type = %s
`, strings.Join(b.source.Addrs(), ","), strings.Join(b.target.Addrs(), ","), b.name, b.codec)
	file := filepath.Join(b.dir, "mm2.properties")
	if err := os.WriteFile(file, []byte(properties), 0o600); err != nil {
		return nil, err
	}
	return proc.Start(ctx, "MirrorMaker 2", filepath.Join(b.dir, "mm2.log"),
		b.jars.Class([]string{"-Xms512m", "-Xmx2g", "-XX:+UseG1GC"}, "org.apache.kafka.connect.mirror.MirrorMaker", file))
}
