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

func TestEveryCodecAndShape(t *testing.T) {
	p := startPair(t, kafka.Options{}, kafka.Options{})
	ctx := t.Context()
	const partitions = 20
	small := []load.Shape{load.Sized(1 << 10), load.Sized(100), load.Tombstone, load.Headers, load.Empty, load.NullKey, load.Nothing, load.Binary}
	var topics, codecTopics []string
	writers := map[string]*load.Writer{}
	for _, codec := range load.Codecs() {
		topic := "codec." + string(codec)
		codecTopics = append(codecTopics, topic)
		p.createTopic(topic, partitions, 1, "max.message.bytes=2097152", "retention.ms=-1")
		o := load.Options{Topic: topic, Partitions: partitions, Codec: codec, BatchBytes: 2 << 20}
		if codec == "gzip" {
			o.From = in2023
		}
		w := p.writer(o)
		writers[topic] = w
		check(t, w.WriteShapes(ctx, 12, small...))
		check(t, w.WriteShapes(ctx, 1, load.Sized(1<<20)))
		check(t, w.Write(ctx, 3)) // single records: small batches
	}
	topics = append(topics, codecTopics...)

	// A record of 10 MiB, uncompressed and compressed.
	for _, codec := range []load.Codec{"none", "gzip"} {
		topic := "huge." + string(codec)
		topics = append(topics, topic)
		p.createTopic(topic, 1, 1, "max.message.bytes=12582912")
		check(t, p.writer(load.Options{Topic: topic, Partitions: 1, Codec: codec, BatchBytes: 12 << 20, Shapes: []load.Shape{load.Sized(10 << 20), load.Sized(10)}}).Write(ctx, 3))
	}

	// Brokers of the source set the timestamps, those of the target do not.
	topics = append(topics, "stamped")
	p.createTopic("stamped", 2, 1, "message.timestamp.type=LogAppendTime")
	check(t, p.writer(load.Options{Topic: "stamped", Partitions: 2, From: in2023}).Write(ctx, 200))

	// Transactions, and other records in the same partitions.
	topics = append(topics, "transactions")
	p.createTopic("transactions", 4, 1)
	committed, err := load.Transactions(ctx, p.source, load.Options{Topic: "transactions", Partitions: 4, Codec: "zstd"}, 60, 40)
	check(t, err)
	check(t, p.writer(load.Options{Topic: "transactions", Partitions: 4}).Write(ctx, 50))

	// The log starts in the middle of a batch.
	topics = append(topics, "midbatch")
	p.createTopic("midbatch", 1, 1)
	check(t, p.writer(load.Options{Topic: "midbatch", Partitions: 1, Shapes: []load.Shape{load.Sized(100)}}).Write(ctx, 500))
	deleted := kadm.Offsets{}
	deleted.Add(kadm.Offset{Topic: "midbatch", Partition: 0, At: 137})
	done, err := p.sourceAdmin.DeleteRecords(ctx, deleted)
	check(t, err)
	check(t, done.Error())

	// A compacted log with holes.
	topics = append(topics, "compacted")
	compact(t, p, "compacted")

	m := p.startMilena(p.config(".*"))
	start := time.Now()
	// More records are written during the copy.
	for _, topic := range codecTopics {
		check(t, writers[topic].WriteShapes(ctx, 5, small...))
	}
	p.waitAndVerify(m, 2*time.Minute, committed+5*partitions*(17*8+1), topics...)
	t.Logf("copied in %.1f s", time.Since(start).Seconds())

	t.Run("Kafka's own consumer prints the same on both sides", func(t *testing.T) {
		seed := maphash.MakeSeed()
		n := 5 * partitions * (17*len(small) + 1 + 3)
		source, err := p.source.Consume(ctx, seed, `codec\..*`, n)
		check(t, err)
		target, err := p.target.Consume(ctx, seed, `source\.codec\..*`, n)
		check(t, err)
		if source != target {
			t.Errorf("the console consumer prints %+v from the source and %+v from the target", source, target)
		}
		t.Logf("%d records, %d lines on both sides", n, source.Lines)
	})
	t.Run("DumpLogSegments finds no wrong CRC in the target's files", func(t *testing.T) {
		for _, topic := range topics {
			d, err := p.target.Broker(1).DumpLog(ctx, remoteTopic(topic))
			check(t, err)
			t.Logf("%s: %d files, %d batches, %d records", remoteTopic(topic), d.Files, d.Batches, d.Records)
			if len(d.Invalid) > 0 {
				t.Errorf("%s: %d invalid batches, the first: %s", topic, len(d.Invalid), d.Invalid[0])
			}
		}
	})
	t.Run("batches are forwarded without decompression", func(t *testing.T) {
		forwarded, err := m.Metric(ctx, "milena_batches_total", `lane="forward"`, `topic="codec.lz4"`)
		check(t, err)
		if rebuilt, err := m.Metric(ctx, "milena_batches_total", `lane="rebuild"`, `topic="codec.lz4"`); err == nil && rebuilt > 0 || forwarded == 0 {
			t.Errorf("%v batches of codec.lz4 were forwarded and %v rebuilt", forwarded, rebuilt)
		}
	})
	m.stop()
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
