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

func (b *bench) createTopics(ctx context.Context, c *kafka.Cluster, topics ...string) error {
	configs := map[string]*string{}
	if b.old {
		forever := "-1" // or the records are deleted at once
		configs["retention.ms"] = &forever
	}
	return c.Admin(func(adm *kadm.Client) error {
		created, err := adm.CreateTopics(ctx, int32(b.partitions), int16(b.brokers), configs, topics...)
		return errors.Join(err, created.Error())
	})
}

// perBatch is how many records a batch has.
func (d dataset) perBatch() int { return max(1, d.batch/d.record) }

// fill writes records of the data set as fast as possible.
func (b *bench) fill(ctx context.Context, c *kafka.Cluster, topics []string, bytes int64) error {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	// The client counts a record as in the old format, with 34 bytes besides its value, and a batch has a header. One more record has no room.
	full := b.perBatch()*(b.record+34) + 100
	client, err := c.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(int32(full)), kgo.ProducerBatchCompression(codecs[b.codec]),
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
	var from time.Time // records have the time at which they are written
	if b.old {
		from = time.Now().Add(-30 * 24 * time.Hour)
	}
	for left > 0 && ctx.Err() == nil {
		for _, topic := range topics {
			for partition := range b.partitions {
				for range min(left, int64(b.perBatch())) { // in a row, so that batches are full
					r := &kgo.Record{Topic: topic, Partition: int32(partition), Value: pool[next%len(pool)]}
					if b.old {
						r.Timestamp = from.Add(time.Duration(next) * time.Millisecond)
					}
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
