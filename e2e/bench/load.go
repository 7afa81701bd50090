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

	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
)

// batchBytes is the maximum size of a batch before compression.
const batchBytes = 64 << 10

// prepare fills the source and warms up both clusters, so that cold brokers do not slow down the replicator that runs first.
func (b *bench) prepare(ctx context.Context) error {
	if err := b.createTopics(ctx, b.source, b.topicNames()...); err != nil {
		return err
	}
	if err := b.fill(ctx, b.source, b.topicNames(), int64(b.bytes)); err != nil {
		return err
	}
	const warm = "warm-up"
	bytes := min(int64(b.bytes), 200e6)
	if err := b.createTopics(ctx, b.target, warm); err != nil {
		return err
	}
	if err := b.fill(ctx, b.target, []string{warm}, bytes); err != nil {
		return err
	}
	if err := drain(ctx, b.source, b.topicNames(), bytes); err != nil {
		return err
	}
	return deleteTopics(ctx, b.target, warm)
}

func (b *bench) createTopics(ctx context.Context, c *kafka.Cluster, topics ...string) error {
	return c.Admin(func(adm *kadm.Client) error {
		created, err := adm.CreateTopics(ctx, int32(b.partitions), 1, nil, topics...)
		return errors.Join(err, created.Error())
	})
}

func deleteTopics(ctx context.Context, c *kafka.Cluster, topics ...string) error {
	return c.Admin(func(adm *kadm.Client) error {
		deleted, err := adm.DeleteTopics(ctx, topics...)
		return errors.Join(err, deleted.Error())
	})
}

// deleteCopy deletes a replicator's copies, to free the disk for the next one.
func (b *bench) deleteCopy(ctx context.Context, r replicator) error {
	return deleteTopics(ctx, b.target, b.copies(r)...)
}

// fill writes records of the scenario as fast as possible.
func (b *bench) fill(ctx context.Context, c *kafka.Cluster, topics []string, bytes int64) error {
	codec := kgo.NoCompression()
	if b.codec == "lz4" {
		codec = kgo.Lz4Compression()
	}
	client, err := c.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(batchBytes), kgo.ProducerBatchCompression(codec),
		kgo.ProducerLinger(20*time.Millisecond), kgo.MaxBufferedRecords(200_000), kgo.MaxBufferedBytes(256<<20))
	if err != nil {
		return err
	}
	defer client.Close()
	// Values come from a pool that is larger than the window of a compressor.
	random := rand.New(rand.NewPCG(1, 2))
	pool := make([][]byte, 16<<20/b.record)
	for i := range pool {
		pool[i] = load.Payload(random, "", b.record)
	}
	var failed atomic.Pointer[error]
	left := bytes / int64(b.record)
	next := 0
	for left > 0 && ctx.Err() == nil {
		for _, topic := range topics {
			for partition := range b.partitions {
				for range min(left, int64(batchBytes/b.record)) { // in a row, so that batches are full
					r := &kgo.Record{Topic: topic, Partition: int32(partition), Value: pool[next%len(pool)]}
					next++
					left--
					client.Produce(ctx, r, func(_ *kgo.Record, err error) {
						if err != nil {
							failed.CompareAndSwap(nil, &err)
						}
					})
				}
			}
		}
	}
	if err := client.Flush(ctx); err != nil {
		return err
	}
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// drain reads and discards this many bytes of values.
func drain(ctx context.Context, c *kafka.Cluster, topics []string, bytes int64) error {
	client, err := c.Client(kgo.ConsumeTopics(topics...), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("not read within two minutes"))
	defer cancel()
	// fill writes a little less than bytes, because it rounds down to whole records.
	for bytes -= bytes / 100; bytes > 0; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("read %s: %w", c.Name(), err)
		}
		fetches.EachRecord(func(r *kgo.Record) { bytes -= int64(len(r.Value)) })
	}
	return nil
}
