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

// topicPartition names one log.
type topicPartition struct {
	topic     string
	partition int32
}

// demoTopics appear after a while each, to show that nobody has to announce them.
func demoTopics() []demoTopic {
	return []demoTopic{
		{name: "orders", partitions: 6},
		{name: "payments", partitions: 4},
		{name: "clicks", partitions: 8},
		{name: "refunds", partitions: 6, after: 4 * time.Second},
	}
}

type demoTopic struct {
	name       string
	partitions int32
	after      time.Duration
}

// Both clusters keep everything in memory, so that the end can compare all of it: the load rests when this much is there.
const demoMaxBytes = 1 << 30

// load writes records into the source until it is told to stop.
type load struct {
	client   *kgo.Client
	admin    *kadm.Client
	rate     int
	produced atomic.Int64
	bytes    atomic.Int64
	failure  atomic.Pointer[error]
	done     chan struct{}
}

func newLoad(brokers []string, rate int) (*load, error) {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(brokers...), kgo.ClientID("milena-demo-load"),
		kgo.ProducerBatchCompression(kgo.Lz4Compression()),
		kgo.ProducerLinger(5*time.Millisecond), // batches of some size, as busy producers have
	)
	if err != nil {
		return nil, fmt.Errorf("make the load: %w", err)
	}
	return &load{client: client, admin: kadm.NewClient(client), rate: rate, done: make(chan struct{})}, nil
}

func (l *load) close() { l.client.Close() }

// run produces until ctx ends, then waits for the answers.
func (l *load) run(ctx context.Context) error {
	defer close(l.done)
	const slice = 10 * time.Millisecond
	tick := time.NewTicker(slice)
	defer tick.Stop()
	began, later := time.Now(), demoTopics()
	var topics []string
	for made := 0; ; {
		for len(later) > 0 && time.Since(began) >= later[0].after {
			if _, err := l.admin.CreateTopic(ctx, later[0].partitions, 1, nil, later[0].name); err != nil {
				if ctx.Err() != nil {
					return l.flush(ctx)
				}
				return fmt.Errorf("create topic %s: %w", later[0].name, err)
			}
			topics, later = append(topics, later[0].name), later[1:]
		}
		select {
		case <-ctx.Done():
			return l.flush(ctx)
		case <-tick.C:
		}
		if l.bytes.Load() > demoMaxBytes {
			continue
		}
		// A second behind is given up: after a pause the load goes on, it doesn't burst.
		due := int(time.Since(began).Seconds() * float64(l.rate))
		for made = max(made, due-l.rate); made < due; made++ {
			l.produce(ctx, topics[rand.IntN(len(topics))], made)
		}
		if failed := l.failure.Load(); failed != nil {
			return fmt.Errorf("load the source: %w", *failed)
		}
	}
}

// produce writes one record as shops write them. It outlives ctx: a record whose fate nobody waited for can't be verified.
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

func (l *load) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), demoDrain)
	defer cancel()
	if err := l.client.Flush(ctx); err != nil {
		return fmt.Errorf("flush the load: %w", err)
	}
	return nil
}

// wait until run has ended.
func (l *load) wait(ctx context.Context) error {
	select {
	case <-l.done:
		return nil
	case <-ctx.Done():
		return errors.New("the load does not end")
	}
}

// ends are the end offsets of every partition of the source's topics.
func (l *load) ends(ctx context.Context) (map[topicPartition]int64, error) {
	return endOffsets(ctx, l.admin)
}

// endOffsets of all topics that aren't internal.
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
