package main

import (
	"context"
	"path/filepath"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/mm2"
	"github.com/milena-kafka/milena/e2e/proc"
)

// replicator is a program under measurement.
type replicator interface {
	name() string
	// remoteTopic is the name of a topic's copy on the target.
	remoteTopic(topic string) string
	start(ctx context.Context, b *bench) (*proc.Process, error)
}

type milena struct{}

func (milena) name() string                    { return "milena" }
func (milena) remoteTopic(topic string) string { return "source." + topic }

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

// mirrorMaker is MirrorMaker 2 in dedicated mode, tuned for throughput as its documentation and its users recommend. Heartbeats and checkpoints
// are on, as by default.
type mirrorMaker struct{}

func (mirrorMaker) name() string                    { return "MirrorMaker 2" }
func (mirrorMaker) remoteTopic(topic string) string { return mm2.RemoteTopic(topic) }

func (mirrorMaker) start(ctx context.Context, b *bench) (*proc.Process, error) {
	return mm2.Start(ctx, b.jars, b.dir, mm2.Options{
		Primary: b.source.Addrs(), DR: b.target.Addrs(), Topics: b.name + "-.*",
		Properties: map[string]string{
			"tasks.max":                                  "4",
			"primary.consumer.fetch.max.bytes":           "52428800",
			"primary.consumer.max.partition.fetch.bytes": "52428800",
			"primary.consumer.max.poll.records":          "10000",
			"dr.producer.batch.size":                     "262144",
			"dr.producer.linger.ms":                      "1",
			"dr.producer.buffer.memory":                  "134217728",
			"dr.producer.max.request.size":               "10485760",
			"dr.producer.compression.type":               b.codec,
		},
	})
}
