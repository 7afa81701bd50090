package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
)

const (
	brokers = 3                // of each cluster
	lease   = 15 * time.Second // milena's default
)

// side is one cluster with a client of the test, which bypasses the proxies.
type side struct {
	*kafka.Cluster
	client *kgo.Client
	admin  *kadm.Client
}

// world is everything of a run.
type world struct {
	Options
	source, target side
	milena         *daemon.Daemon
	topics         []*topic
	transactions   *transactions
}

// topic is a topic of the source, and what writes to it. Its copy has the same name after a prefix.
type topic struct {
	name       string
	partitions int
	configs    []string
	perSecond  int
	load       load.Options
	judge      judge
	// life counts how many times the topic was recreated.
	life   int
	writer *load.Writer
	stream *load.Stream
	// deleted are the sequence numbers of the last records that were deleted on the target, by partition.
	deleted map[int32]int64
	written []int64 // acknowledged records of earlier lives
}

func (t *topic) remote() string { return "source." + t.name }

// compactNow makes the source's cleaner work within seconds. Tombstones stay, so that every copy of a record can be told from its loss.
func compactNow() []string {
	return []string{"cleanup.policy=compact", "segment.ms=1000", "min.cleanable.dirty.ratio=0.01", "delete.retention.ms=3600000"}
}

// keyed are shapes with few keys, so that a cleaner finds something to remove. Every seventh one is a tombstone.
func keyed() []load.Shape {
	var shapes []load.Shape
	for i := range 41 {
		shape := load.Sized(200)
		if i%7 == 6 {
			shape = load.MarkedTombstone
		}
		shapes = append(shapes, load.Keyed(fmt.Sprintf("key-%d", i), shape))
	}
	return shapes
}

// single makes batches of one record.
func single(shapes ...load.Shape) load.Options {
	return load.Options{Shapes: shapes, BatchBytes: 512, Client: []kgo.Opt{kgo.ProducerLinger(0), kgo.MaxBufferedRecords(100)}}
}

// allTopics are the topics of a run.
func allTopics() []*topic {
	compactedSingle := single(keyed()...)
	return []*topic{
		{name: "plain", partitions: 4, perSecond: 400, judge: equal, load: load.Options{Shapes: []load.Shape{load.Sized(1 << 10), load.Headers, load.Tombstone, load.Sized(100)}}},
		{name: "old", partitions: 2, perSecond: 150, judge: equal, configs: []string{"retention.ms=-1"}, load: load.Options{From: time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC)}},
		{name: "tiny", partitions: 2, perSecond: 80, judge: equal, load: single(load.Sized(150))},
		{name: "compacted", partitions: 2, perSecond: 160, judge: compacted, configs: compactNow(), load: load.Options{Shapes: keyed()}},
		{
			name: "compacted-single", partitions: 2, perSecond: 60, judge: compacted,
			configs: append(compactNow(), "message.timestamp.type=LogAppendTime"), load: compactedSingle,
		},
		{name: "trimmed", partitions: 2, perSecond: 150, judge: complete, load: load.Options{Shapes: []load.Shape{load.Sized(300)}}},
		{name: "trimmed-target", partitions: 2, deleted: map[int32]int64{}, perSecond: 150, judge: complete, load: load.Options{Shapes: []load.Shape{load.Sized(300)}}},
		{name: "recreated", partitions: 1, perSecond: 60, judge: lives, load: load.Options{Shapes: []load.Shape{load.Sized(200)}}},
	}
}

// newWorld starts the clusters, creates the topics, and starts the writers and milena.
func newWorld(ctx context.Context, o Options) (*world, error) {
	w := &world{Options: o, topics: allTopics()}
	// The target forgets the producer of old records within seconds, so that a blind resend would duplicate them.
	forgetful := map[string]string{"producer.id.expiration.ms": "3000", "producer.id.expiration.check.interval.ms": "1000"}
	clusters, err := kafka.StartAll(ctx, o.Jars,
		kafka.Options{Name: "source", Dir: o.Dir, Brokers: brokers, Proxied: true},
		kafka.Options{Name: "target", Dir: o.Dir, Brokers: brokers, Proxied: true, Properties: forgetful})
	if err != nil {
		return nil, err
	}
	for i, s := range []*side{&w.source, &w.target} {
		s.Cluster = clusters[i]
		if s.client, err = s.Client(); err != nil {
			return nil, err
		}
		s.admin = kadm.NewClient(s.client)
	}
	for _, t := range w.topics {
		if err := w.begin(ctx, t); err != nil {
			return nil, err
		}
	}
	if err := w.createTopic(ctx, "transactional", 3); err != nil {
		return nil, err
	}
	w.transactions = startTransactions(ctx, w.source.Cluster)
	return w, w.startMilena(ctx)
}

func (w *world) close() {
	for _, s := range []side{w.source, w.target} {
		if s.client != nil {
			s.client.Close()
		}
	}
}

// side returns the cluster of a fault.
func (w *world) side(s Side) side {
	if s == Source {
		return w.source
	}
	return w.target
}

// createTopic creates a topic on the source.
func (w *world) createTopic(ctx context.Context, name string, partitions int, configs ...string) error {
	return kafka.CreateTopic(ctx, w.source.admin, name, partitions, brokers, configs...)
}

// begin creates a topic and starts its writer.
func (w *world) begin(ctx context.Context, t *topic) error {
	if err := w.createTopic(ctx, t.name, t.partitions, t.configs...); err != nil {
		return err
	}
	o := t.load
	o.Topic, o.Partitions = t.name, t.partitions
	if t.life > 0 {
		o.Shapes = []load.Shape{inLife(t.life)}
	}
	var err error
	if t.writer, err = load.New(w.source.Cluster, o); err != nil {
		return err
	}
	t.stream = t.writer.Stream(ctx, t.perSecond)
	return nil
}

// inLife is the shape of the records of a recreated topic.
func inLife(life int) load.Shape {
	return func(r *rand.Rand, mark string) kgo.Record {
		record := load.Sized(200)(r, mark)
		record.Headers = []kgo.RecordHeader{{Key: "life", Value: fmt.Append(nil, life)}}
		return record
	}
}

// end stops the writer of a topic and waits until all of its records are acknowledged.
func (t *topic) end(ctx context.Context) error {
	n, err := t.stream.Stop(ctx)
	if err != nil {
		return err
	}
	t.writer.Close()
	t.written = append(t.written, n)
	return nil
}

// startMilena creates the configuration and starts milena. Its connections go through the proxies.
func (w *world) startMilena(ctx context.Context) error {
	config := daemon.Map{
		"clusters": daemon.Map{
			"source": daemon.Map{"brokers": w.source.ProxyAddrs()},
			"target": daemon.Map{"brokers": w.target.ProxyAddrs()},
		},
		"flows": []daemon.Map{{
			"source": "source", "target": "target", "topics": []string{".*"}, "shards": 16, "anomalies": daemon.Map{"recreated": "restart"},
			// Only the source is cleaned within seconds. If both are, what is left of a tail may not decide where it ends, and the partition halts.
			"configs_exclude": []string{`segment\.ms`, `min\.cleanable\.dirty\.ratio`, `message\.timestamp\.type`, `min\.insync\.replicas`},
		}},
	}
	var err error
	if w.milena, err = daemon.New(ctx, w.Binary, filepath.Join(w.Dir, "milena"), config); err != nil {
		return err
	}
	if err := w.milena.Start(ctx); err != nil {
		return err
	}
	ready, cancel := context.WithTimeoutCause(ctx, time.Minute, fmt.Errorf("milena was not ready within a minute"))
	defer cancel()
	return w.milena.WaitReady(ready)
}

// transactions is a writer of short transactions, of which some are aborted.
type transactions struct {
	stop chan struct{}
	done sync.WaitGroup
	last error
}

func startTransactions(ctx context.Context, source *kafka.Cluster) *transactions {
	t := &transactions{stop: make(chan struct{})}
	t.done.Go(func() {
		for run := 0; ; run++ {
			shape := func(r *rand.Rand, mark string) kgo.Record { return load.Sized(200)(r, fmt.Sprintf("%d/%s", run, mark)) }
			_, t.last = load.Transactions(ctx, source, load.Options{Topic: "transactional", Partitions: 3, Shapes: []load.Shape{shape}}, 5, 8)
			pause := 300 * time.Millisecond
			select {
			case <-ctx.Done():
				return
			case <-t.stop:
				if t.last == nil {
					return
				}
				pause = time.Second // the run was broken off: one more aborts what it left open
			case <-time.After(pause):
				continue
			}
			time.Sleep(pause)
		}
	})
	return t
}

// end waits until no transaction is open.
func (t *transactions) end() {
	close(t.stop)
	t.done.Wait()
}
