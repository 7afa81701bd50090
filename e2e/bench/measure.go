package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/proc"
)

// bench is one scenario with its clusters.
type bench struct {
	options
	scenario
	dir            string
	jars           kafka.Jars
	source, target *kafka.Cluster
	records        int // per partition
}

type result struct {
	throughput float64 // logical MB/s, from the first record to the last
	cpuPerGB   float64
	peakRSS    int64
	first      time.Duration // from the start of the process to its first record on the target
	p50, p99   time.Duration
}

// writer is a plain idempotent producer with batches of 64 KiB.
func (b *bench) writer() (*kgo.Client, error) {
	codec := kgo.NoCompression()
	if b.codec == "lz4" {
		codec = kgo.Lz4Compression()
	}
	return b.source.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(64<<10), kgo.ProducerBatchCompression(codec),
		kgo.ProducerLinger(20*time.Millisecond), kgo.MaxBufferedRecords(200_000), kgo.MaxBufferedBytes(256<<20))
}

// load fills the source.
func (b *bench) load(ctx context.Context) error {
	err := b.source.Admin(func(adm *kadm.Client) error {
		created, err := adm.CreateTopics(ctx, int32(b.partitions), 1, nil, b.topicNames()...)
		if err != nil {
			return err
		}
		return created.Error()
	})
	if err != nil {
		return err
	}
	client, err := b.writer()
	if err != nil {
		return err
	}
	defer client.Close()
	// Payloads are drawn from a pool that is larger than a compressor's window.
	random := rand.New(rand.NewPCG(1, 2))
	pool := make([][]byte, 16<<20/b.record)
	for i := range pool {
		pool[i] = load.Payload(random, "", b.record)
	}
	b.records = max(1, int(b.bytes)/(b.record*b.topics*b.partitions))
	var mu sync.Mutex
	var failed error
	next := 0
	topics := b.topicNames()
	const run = 64 // records of a partition in a row, so that batches fill
	for done := 0; done < b.records; done += run {
		for _, topic := range topics {
			for partition := range b.partitions {
				for range min(run, b.records-done) {
					r := &kgo.Record{Topic: topic, Partition: int32(partition), Value: pool[next%len(pool)]}
					next++
					client.Produce(ctx, r, func(_ *kgo.Record, err error) {
						if err != nil {
							mu.Lock()
							failed = errors.Join(failed, err)
							mu.Unlock()
						}
					})
				}
			}
		}
	}
	if err := client.Flush(ctx); err != nil {
		return err
	}
	mu.Lock()
	defer mu.Unlock()
	return failed
}

// measure runs a replicator until everything is copied, then measures its latency, and ends it.
func (b *bench) measure(ctx context.Context, r replicator) (result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var got result
	start := time.Now()
	p, err := r.start(ctx, b)
	if err != nil {
		return got, err
	}
	defer p.Kill()
	target, err := b.target.Client()
	if err != nil {
		return got, err
	}
	defer target.Close()
	w := &watch{admin: kadm.NewClient(target), process: p}
	for _, topic := range b.topicNames() {
		w.topics = append(w.topics, r.copied(topic))
	}
	if _, err := w.until(ctx, 10*time.Millisecond, 1); err != nil {
		return got, err
	}
	first := time.Now()
	got.first = first.Sub(start)
	before, err := p.Usage()
	if err != nil {
		return got, err
	}
	all := int64(b.records) * int64(b.topics) * int64(b.partitions)
	// The end of the log counts markers too: the last records may still be missing here, which is less than a batch per partition.
	if _, err := w.until(ctx, 50*time.Millisecond, all); err != nil {
		return got, err
	}
	took := time.Since(first)
	after, err := p.Usage()
	if err != nil {
		return got, err
	}
	logical := float64(all) * float64(b.record)
	got.throughput = logical / 1e6 / took.Seconds()
	got.cpuPerGB = (after.CPU - before.CPU).Seconds() / (logical / 1e9)
	if got.p50, got.p99, err = b.addedLatency(ctx, r); err != nil {
		return got, err
	}
	end, err := p.Usage()
	got.peakRSS = end.PeakRSS
	return got, err
}

// watch looks at the ends of the copied topics.
type watch struct {
	admin   *kadm.Client
	topics  []string
	process *proc.Process
}

// until waits until the topics hold n records together.
func (w *watch) until(ctx context.Context, interval time.Duration, n int64) (int64, error) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	last, moved := int64(0), time.Now()
	for {
		var sum int64
		ends, err := w.admin.ListEndOffsets(ctx, w.topics...)
		if err == nil {
			ends.Each(func(o kadm.ListedOffset) {
				if o.Err == nil {
					sum += o.Offset
				}
			})
		}
		if sum >= n {
			return sum, nil
		}
		if sum > last {
			last, moved = sum, time.Now()
		}
		if time.Since(moved) > 2*time.Minute {
			return sum, fmt.Errorf("stands still at %d of %d records\n%s", sum, n, w.process.Tail(20))
		}
		select {
		case <-tick.C:
		case <-w.process.Done():
			return sum, errors.New("ended\n" + w.process.Tail(20))
		case <-ctx.Done():
			return sum, ctx.Err()
		}
	}
}

// addedLatency writes 40 records/s and compares when a consumer on each side sees them.
func (b *bench) addedLatency(ctx context.Context, r replicator) (p50, p99 time.Duration, err error) {
	topic := b.topicNames()[0]
	ctx, cancel := context.WithTimeout(ctx, b.latency+time.Minute)
	defer cancel()
	n := int(b.latency.Seconds() * 40)
	var wg sync.WaitGroup
	seen := make([][]time.Time, 2)
	errs := make([]error, 2)
	ready := make(chan struct{}, 2)
	for i, side := range []struct {
		cluster *kafka.Cluster
		topic   string
	}{{b.source, topic}, {b.target, r.copied(topic)}} {
		wg.Go(func() { seen[i], errs[i] = sightings(ctx, side.cluster, side.topic, n, ready) })
	}
	client, err := b.source.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0))
	if err != nil {
		return 0, 0, err
	}
	defer client.Close()
	<-ready
	<-ready
	tick := time.NewTicker(time.Second / 40)
	defer tick.Stop()
	for i := range n {
		<-tick.C
		value := binary.BigEndian.AppendUint64([]byte("latency "), uint64(i))
		if err := client.ProduceSync(ctx, &kgo.Record{Topic: topic, Partition: int32(i % b.partitions), Value: value}).FirstErr(); err != nil {
			return 0, 0, err
		}
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return 0, 0, err
	}
	var added []time.Duration
	for i := range n {
		added = append(added, seen[1][i].Sub(seen[0][i]))
	}
	added = added[n/10:] // the first ones warm connections up
	slices.Sort(added)
	return added[len(added)/2], added[len(added)*99/100], nil
}

// sightings consumes from the end of a topic and notes when each of n records is seen.
func sightings(ctx context.Context, c *kafka.Cluster, topic string, n int, ready chan<- struct{}) ([]time.Time, error) {
	offsets := map[string]map[int32]kgo.Offset{topic: {}}
	err := c.Admin(func(adm *kadm.Client) error {
		ends, err := adm.ListEndOffsets(ctx, topic)
		ends.Each(func(o kadm.ListedOffset) { offsets[topic][o.Partition] = kgo.NewOffset().At(o.Offset) })
		return err
	})
	if err != nil {
		ready <- struct{}{}
		return nil, err
	}
	client, err := c.Client(kgo.ConsumePartitions(offsets))
	ready <- struct{}{}
	if err != nil {
		return nil, err
	}
	defer client.Close()
	times := make([]time.Time, n)
	for left := n; left > 0; {
		fetches := client.PollFetches(ctx)
		now := time.Now()
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("%d of %d records seen in %s: %w", n-left, n, topic, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			rest, ok := strings.CutPrefix(string(r.Value), "latency ")
			if !ok || len(rest) != 8 {
				return // a straggler of the load
			}
			if i := binary.BigEndian.Uint64([]byte(rest)); i < uint64(n) && times[i].IsZero() {
				times[i] = now
				left--
			}
		})
	}
	return times, nil
}
