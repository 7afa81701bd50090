package e2e_test

import (
	"hash/maphash"
	"testing"
	"time"

	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/proxy"
	"github.com/milena-kafka/milena/e2e/verify"
)

// The parts that the other tests rely on: brokers that are killed and restarted, proxies, the load and the readers.
func TestHarness(t *testing.T) {
	p := startPair(t, kafka.Options{Brokers: 3}, kafka.Options{Proxied: true})
	ctx := t.Context()
	p.createTopic("t", 3, 3)

	t.Run("the load survives the failure of each broker", func(t *testing.T) {
		w := p.writer(load.Options{Topic: "t", Partitions: 3})
		s := w.Stream(ctx, 500)
		for _, b := range p.source.Brokers() {
			b.Kill()
			check(t, p.source.WaitBrokers(within(t, 30*time.Second, "the failure of a broker is noticed"), 2))
			start := time.Now()
			check(t, b.Restart(ctx))
			check(t, p.source.WaitBrokers(within(t, time.Minute, "a broker is back"), 3))
			t.Logf("broker %d is back after %.1f s", b.ID(), time.Since(start).Seconds())
		}
		acked, err := s.Stop(ctx)
		check(t, err)
		report, err := verify.Run(ctx, p.sourceClient, p.sourceClient, verify.Options{Topics: []string{"t"}})
		check(t, err)
		if report.Records != acked || len(report.Differences) > 0 {
			t.Errorf("%d records of %d acknowledged ones exist, %v", report.Records, acked, report.Differences)
		}
	})
	t.Run("Kafka's own tools read every shape", func(t *testing.T) {
		p.createTopic("shapes", 2, 1, "max.message.bytes=20000000")
		w := p.writer(load.Options{Topic: "shapes", Partitions: 2, Codec: "zstd", BatchBytes: 2 << 20})
		shapes := []load.Shape{load.Sized(100), load.Tombstone, load.NullKey, load.Empty, load.Nothing, load.Headers, load.Binary, load.Sized(1 << 20)}
		check(t, w.WriteShapes(ctx, 5, shapes...))
		n := 2 * 5 * len(shapes)
		seed := maphash.MakeSeed()
		one, err := p.source.Consume(ctx, seed, "shapes", n)
		check(t, err)
		two, err := p.source.Consume(ctx, seed, "shapes", n)
		check(t, err)
		if one != two || one.Lines < n {
			t.Errorf("the console consumer prints %+v and then %+v, want %d records", one, two, n)
		}
		var records int
		for _, b := range p.source.Brokers() {
			d, err := b.DumpLog(ctx, "shapes")
			if err == nil {
				records += d.Records
			}
			if len(d.Invalid) > 0 {
				t.Errorf("invalid batches: %v", d.Invalid)
			}
		}
		if records != n {
			t.Errorf("DumpLogSegments sees %d records, want %d", records, n)
		}
	})
	t.Run("aborted transactions are not read", func(t *testing.T) {
		p.createTopic("txn", 2, 1)
		committed, err := load.Transactions(ctx, p.source, load.Options{Topic: "txn", Partitions: 2}, 12, 40)
		check(t, err)
		report, err := verify.Run(ctx, p.sourceClient, p.sourceClient, verify.Options{Topics: []string{"txn"}})
		check(t, err)
		if report.Records != committed || committed != 8*40 {
			t.Errorf("%d records read, %d committed", report.Records, committed)
		}
	})
	t.Run("only clients of the proxied listener use the proxy", func(t *testing.T) {
		before := p.target.Accepted()
		check(t, kafka.CreateTopic(ctx, p.targetAdmin, "t", 1, 1))
		if p.target.Accepted() != before {
			t.Error("the test's own client went through the proxy")
		}
		check(t, p.target.Network(ctx, proxy.Refuse))
		check(t, p.target.Network(ctx, proxy.Pass))
	})
}
