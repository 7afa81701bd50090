package e2e_test

import (
	"context"
	"fmt"
	"hash/maphash"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/verify"
)

// in2023 is a time of records that are so old that brokers forget their producers.
var in2023 = time.Date(2023, 5, 1, 12, 0, 0, 0, time.UTC)

// codecs are topics with every codec, shape and timestamp type, with transactions, with holes, and with a start in the middle of a batch.
type codecs struct {
	*pair
	topics  []string
	writers map[string]*load.Writer // of the topics with one codec each
}

const codecPartitions = 20

// smallShapes are all shapes that fit into one batch many times.
func smallShapes() []load.Shape {
	return []load.Shape{load.Sized(1 << 10), load.Sized(100), load.Tombstone, load.Headers, load.Empty, load.NullKey, load.Nothing, load.Binary}
}

func TestEveryCodecAndShape(t *testing.T) {
	c := &codecs{pair: startPair(t, kafka.Options{}, kafka.Options{}), writers: map[string]*load.Writer{}}
	c.writeCodecs()
	c.writeHuge()
	c.writeLogAppendTime()
	committed := c.writeTransactions()
	c.writeMidBatch()
	c.topics = append(c.topics, "compacted")
	compact(t, c.pair, "compacted")

	m := c.startMilena(c.config(".*"))
	start := time.Now()
	for _, w := range c.writers { // more records, while the first ones are copied
		check(t, w.WriteShapes(t.Context(), 5, smallShapes()...))
	}
	c.waitAndVerify(m, 2*time.Minute, committed+5*codecPartitions*(17*8+1), c.topics...)
	t.Logf("copied in %.1f s", time.Since(start).Seconds())
	t.Run("Kafka's own consumer prints the same on both sides", c.consumersPrintTheSame)
	t.Run("DumpLogSegments finds no wrong CRC in the target's files", c.noWrongCRC)
	t.Run("batches are forwarded without decompression", func(t *testing.T) {
		forwarded, err := m.Metric(t.Context(), "milena_batches_total", `lane="forward"`, `topic="codec.lz4"`)
		check(t, err)
		if rebuilt, err := m.Metric(t.Context(), "milena_batches_total", `lane="rebuild"`, `topic="codec.lz4"`); err == nil && rebuilt > 0 || forwarded == 0 {
			t.Errorf("%v batches of codec.lz4 were forwarded and %v rebuilt", forwarded, rebuilt)
		}
	})
	m.stop()
}

// writeCodecs writes every shape with every codec. The records with gzip are so old that brokers forget their producer.
func (c *codecs) writeCodecs() {
	c.t.Helper()
	ctx := c.t.Context()
	for _, codec := range load.Codecs() {
		topic := "codec." + string(codec)
		c.topics = append(c.topics, topic)
		c.createTopic(topic, codecPartitions, 1, "max.message.bytes=2097152", "retention.ms=-1")
		o := load.Options{Topic: topic, Partitions: codecPartitions, Codec: codec, BatchBytes: 2 << 20}
		if codec == "gzip" {
			o.From = in2023
		}
		w := c.writer(o)
		c.writers[topic] = w
		check(c.t, w.WriteShapes(ctx, 12, smallShapes()...))
		check(c.t, w.WriteShapes(ctx, 1, load.Sized(1<<20)))
		check(c.t, w.Write(ctx, 3)) // batches of one record
	}
}

// writeHuge writes records of 10 MiB, uncompressed and compressed.
func (c *codecs) writeHuge() {
	c.t.Helper()
	for _, codec := range []load.Codec{"none", "gzip"} {
		topic := "huge." + string(codec)
		c.topics = append(c.topics, topic)
		c.createTopic(topic, 1, 1, "max.message.bytes=12582912")
		w := c.writer(load.Options{Topic: topic, Partitions: 1, Codec: codec, BatchBytes: 12 << 20, Shapes: []load.Shape{load.Sized(10 << 20), load.Sized(10)}})
		check(c.t, w.Write(c.t.Context(), 3))
	}
}

// writeLogAppendTime writes to a topic whose brokers set the timestamps. Those of the target do not: the type is not copied.
func (c *codecs) writeLogAppendTime() {
	c.t.Helper()
	c.topics = append(c.topics, "stamped")
	c.createTopic("stamped", 2, 1, "message.timestamp.type=LogAppendTime")
	check(c.t, c.writer(load.Options{Topic: "stamped", Partitions: 2, From: in2023}).Write(c.t.Context(), 200))
}

// writeTransactions writes transactions, and other records to the same partitions. It returns how many records of transactions are committed.
func (c *codecs) writeTransactions() int64 {
	c.t.Helper()
	ctx := c.t.Context()
	c.topics = append(c.topics, "transactions")
	c.createTopic("transactions", 4, 1)
	committed, err := load.Transactions(ctx, c.source, load.Options{Topic: "transactions", Partitions: 4, Codec: "zstd"}, 60, 40)
	check(c.t, err)
	check(c.t, c.writer(load.Options{Topic: "transactions", Partitions: 4}).Write(ctx, 50))
	return committed
}

// writeMidBatch creates a log that starts in the middle of a batch.
func (c *codecs) writeMidBatch() {
	c.t.Helper()
	ctx := c.t.Context()
	c.topics = append(c.topics, "midbatch")
	c.createTopic("midbatch", 1, 1)
	check(c.t, c.writer(load.Options{Topic: "midbatch", Partitions: 1, Shapes: []load.Shape{load.Sized(100)}}).Write(ctx, 500))
	deleted := kadm.Offsets{}
	deleted.Add(kadm.Offset{Topic: "midbatch", Partition: 0, At: 137})
	done, err := c.sourceAdmin.DeleteRecords(ctx, deleted)
	check(c.t, err)
	check(c.t, done.Error())
}

func (c *codecs) consumersPrintTheSame(t *testing.T) {
	seed := maphash.MakeSeed()
	n := 5 * codecPartitions * (17*len(smallShapes()) + 1 + 3)
	source, err := c.source.Consume(t.Context(), seed, `codec\..*`, n)
	check(t, err)
	target, err := c.target.Consume(t.Context(), seed, `source\.codec\..*`, n)
	check(t, err)
	if source != target {
		t.Errorf("the console consumer prints %+v from the source and %+v from the target", source, target)
	}
	t.Logf("%d records, %d lines on both sides", n, source.Lines)
}

func (c *codecs) noWrongCRC(t *testing.T) {
	for _, topic := range c.topics {
		d, err := c.target.Broker(1).DumpLog(t.Context(), remoteTopic(topic))
		check(t, err)
		t.Logf("%s: %d files, %d batches, %d records", remoteTopic(topic), d.Files, d.Batches, d.Records)
		if len(d.Invalid) > 0 {
			t.Errorf("%s: %d invalid batches, the first: %s", topic, len(d.Invalid), d.Invalid[0])
		}
	}
}

// compact fills a topic, waits until the log cleaner has left holes in it, and then stops the cleaner by min.compaction.lag.ms, so that both
// sides stay equal.
func compact(t *testing.T, p *pair, topic string) {
	t.Helper()
	ctx := t.Context()
	p.createTopic(topic, 2, 1, "cleanup.policy=compact", "segment.bytes=1048576", "min.cleanable.dirty.ratio=0.01", "max.message.bytes=2097152")
	// A small set of keys, so that most records are superseded. Every tenth record is a tombstone.
	keyed := make([]load.Shape, 97)
	for i := range keyed {
		shape := load.Sized(1 << 10)
		if i%10 == 9 {
			shape = load.Tombstone
		}
		keyed[i] = load.Keyed(fmt.Sprintf("key-%d", i), shape)
	}
	w := p.writer(load.Options{Topic: topic, Partitions: 2, Shapes: keyed})
	check(t, w.Write(ctx, 12_000))
	contents := func() map[int32]verify.Content {
		c, err := verify.Contents(ctx, p.sourceClient, topic)
		check(t, err)
		return c
	}
	eventually(t, 30*time.Second, "the cleaner has run", func() (bool, string) {
		c := contents()
		return c[0].Records < 6000 && c[1].Records < 6000, fmt.Sprint(c)
	})
	never := "86400000"
	altered, err := p.sourceAdmin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: "min.compaction.lag.ms", Value: &never}}, topic)
	check(t, err)
	_, err = altered.On(topic, nil)
	check(t, err)
	last, since := contents(), time.Now()
	eventually(t, 30*time.Second, "the cleaner has stopped", func() (bool, string) {
		if c := contents(); c[0] != last[0] || c[1] != last[1] {
			last, since = c, time.Now()
		}
		return time.Since(since) > 2*time.Second, fmt.Sprint(last)
	})
	t.Logf("compacted to %d and %d of 12000 records", last[0].Records, last[1].Records)
}

// The source holds larger batches than the target accepts.
func TestOversizedBatchesAreSplit(t *testing.T) {
	p := startPair(t, kafka.Options{}, kafka.Options{Properties: map[string]string{"message.max.bytes": "100000"}})
	ctx := context.WithoutCancel(t.Context())
	var topics []string
	for _, codec := range load.Codecs() {
		topic := "split." + string(codec)
		topics = append(topics, topic)
		p.createTopic(topic, 2, 1, "max.message.bytes=4000000")
		w := p.writer(load.Options{Topic: topic, Partitions: 2, Codec: codec, BatchBytes: 1 << 20})
		check(t, w.WriteShapes(ctx, 600, load.Sized(2000), load.Headers))
	}
	c := p.config("split.*")
	c["flows"].([]daemon.Map)[0]["configs_exclude"] = []string{`max\.message\.bytes`}
	m := p.startMilena(c)
	p.waitAndVerify(m, time.Minute, 5*2*1200, topics...)
	m.stop()
}
