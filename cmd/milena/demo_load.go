package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// topicPartition names one partition.
type topicPartition struct {
	topic     string
	partition int32
}

// demoTopic is created some time after the start of the load.
type demoTopic struct {
	name       string
	partitions int32
	after      time.Duration
}

// demoTopics are sorted by the time of their creation. The last one shows that a new topic is found while the flow runs.
func demoTopics() []demoTopic {
	return []demoTopic{
		{name: "orders", partitions: 6},
		{name: "payments", partitions: 4},
		{name: "clicks", partitions: 8},
		{name: "refunds", partitions: 6, after: 4 * time.Second},
	}
}

// demoMaxBytes is how much is produced at most. Both clusters keep every record in memory, for the comparison at the end.
const demoMaxBytes = 1 << 30

// load produces records to the source at a steady rate.
type load struct {
	client   *kgo.Client
	admin    *kadm.Client
	rate     int
	produced atomic.Int64 // acknowledged records
	bytes    atomic.Int64
	failure  atomic.Pointer[error]
	done     chan struct{} // closed when run returns
}

func newLoad(brokers []string, rate int) (*load, error) {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(brokers...), kgo.ClientID("milena-demo-load"),
		kgo.ProducerBatchCompression(kgo.Lz4Compression()),
		kgo.ProducerLinger(5*time.Millisecond), // fills batches as a busy producer does
	)
	if err != nil {
		return nil, fmt.Errorf("create the load's producer: %w", err)
	}
	return &load{client: client, admin: kadm.NewClient(client), rate: rate, done: make(chan struct{})}, nil
}

func (l *load) close() { l.client.Close() }

// run creates the topics when they are due and produces until ctx ends. It returns when every record is acknowledged.
func (l *load) run(ctx context.Context) error {
	defer close(l.done)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	began, later := time.Now(), demoTopics()
	var topics []string
	for made := 0; ; {
		for len(later) > 0 && time.Since(began) >= later[0].after {
			if err := l.create(ctx, later[0]); err != nil {
				return err
			}
			topics, later = append(topics, later[0].name), later[1:]
		}
		if ctx.Err() != nil { // the last topic may not exist
			return l.flush(ctx)
		}
		select {
		case <-ctx.Done():
			return l.flush(ctx)
		case <-tick.C:
		}
		if failed := l.failure.Load(); failed != nil {
			return fmt.Errorf("produce to the source: %w", *failed)
		}
		if l.bytes.Load() > demoMaxBytes {
			continue
		}
		// After a pause, at most one second's worth of records is made up for, so that there is no burst.
		due := int(time.Since(began).Seconds() * float64(l.rate))
		for made = max(made, due-l.rate); made < due; made++ {
			l.produce(ctx, topics[rand.IntN(len(topics))], made)
		}
	}
}

// create creates a topic. It is no error if ctx ends meanwhile: run flushes then.
func (l *load) create(ctx context.Context, t demoTopic) error {
	if _, err := l.admin.CreateTopic(ctx, t.partitions, 1, nil, t.name); err != nil && ctx.Err() == nil {
		return fmt.Errorf("create topic %s: %w", t.name, err)
	}
	return nil
}

// produce sends record n, made up as an event of a shop. The send outlives ctx: a record that may or may not have been written
// could not be verified.
func (l *load) produce(ctx context.Context, topic string, n int) {
	r := &kgo.Record{
		Topic: topic,
		Key:   fmt.Appendf(nil, "customer-%d", rand.IntN(10_000)),
		Value: fmt.Appendf(nil, `{"number":%d,"topic":%q,"amount":%d.%02d,"currency":"EUR","items":[%d,%d,%d],"note":"%x"}`,
			n, topic, rand.IntN(1000), rand.IntN(100), rand.IntN(9999), rand.IntN(9999), rand.IntN(9999), rand.Uint64()),
		Headers: []kgo.RecordHeader{{Key: "trace", Value: fmt.Appendf(nil, "%016x", rand.Uint64())}},
	}
	switch n % 1000 {
	case 1:
		r.Value = nil // a tombstone
	case 2:
		r.Key = nil
	case 3:
		r.Value = []byte{}
	}
	l.bytes.Add(int64(len(r.Key) + len(r.Value)))
	l.client.Produce(context.WithoutCancel(ctx), r, func(_ *kgo.Record, err error) {
		if err != nil {
			l.failure.Store(&err)
			return
		}
		l.produced.Add(1)
	})
}

// flush waits until every record is acknowledged.
func (l *load) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), demoDrain)
	defer cancel()
	if err := l.client.Flush(ctx); err != nil {
		return fmt.Errorf("flush the load's producer: %w", err)
	}
	return nil
}

// wait blocks until run has returned.
func (l *load) wait(ctx context.Context) error {
	select {
	case <-l.done:
		return nil
	case <-ctx.Done():
		return errors.New("the load does not stop")
	}
}

// ends are the end offsets of all partitions of the source.
func (l *load) ends(ctx context.Context) (map[topicPartition]int64, error) {
	return endOffsets(ctx, l.admin)
}

// endOffsets are the end offsets of all partitions that are not internal to Kafka.
func endOffsets(ctx context.Context, admin *kadm.Client) (map[topicPartition]int64, error) {
	listed, err := admin.ListEndOffsets(ctx)
	if err != nil {
		return nil, err
	}
	if err := listed.Error(); err != nil {
		return nil, err
	}
	ends := make(map[topicPartition]int64)
	listed.Each(func(o kadm.ListedOffset) { ends[topicPartition{o.Topic, o.Partition}] = o.Offset })
	return ends, nil
}
