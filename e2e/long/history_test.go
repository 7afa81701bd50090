package long_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/offsets"
)

// What a start with a long history may cost more than one without.
const (
	moreMemory = 64 << 20
	moreTime   = 5 * time.Second
)

const journalTopic = "milena.source-target.journal"

// history is a flow between two brokers.
type history struct {
	t              *testing.T
	source, target *kafka.Cluster
	milena         *daemon.Daemon
}

func newHistory(t *testing.T, partitions int32) *history {
	t.Helper()
	jars := requireLong(t)
	dir := t.TempDir()
	bin, err := daemon.Build(t.Context(), dir)
	must(t, err)
	clusters, err := kafka.StartAll(t.Context(), jars, kafka.Options{Name: "source", Dir: dir}, kafka.Options{Name: "target", Dir: dir})
	must(t, err)
	h := &history{t: t, source: clusters[0], target: clusters[1]}
	must(t, h.source.Admin(func(admin *kadm.Client) error {
		return kafka.CreateTopic(t.Context(), admin, "orders", int(partitions), 1)
	}))
	h.milena, err = daemon.New(t.Context(), bin, dir+"/run", daemon.Map{
		"clusters": daemon.Map{"source": daemon.Map{"brokers": h.source.Addrs()}, "target": daemon.Map{"brokers": h.target.Addrs()}},
		"flows":    []daemon.Map{{"source": "source", "target": "target", "topics": []string{"orders"}}},
	})
	must(t, err)
	must(t, h.milena.Start(t.Context()))
	must(t, h.milena.WaitReady(t.Context()))
	return h
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// untilCopied waits until everything is copied.
func (h *history) untilCopied() {
	h.t.Helper()
	ends := make(map[int32]int64)
	must(h.t, h.source.Admin(func(admin *kadm.Client) error {
		listed, err := admin.ListEndOffsets(h.t.Context(), "orders")
		listed.Each(func(o kadm.ListedOffset) { ends[o.Partition] = o.Offset })
		return err
	}))
	must(h.t, h.milena.Until(h.t.Context(), time.Second, func() (bool, string) {
		list, err := h.milena.Partitions(h.t.Context())
		if err != nil {
			return false, err.Error()
		}
		behind, found := int64(0), 0
		for _, p := range list {
			if p.Topic == "orders" { // there is also heartbeats
				behind += max(0, ends[p.Partition]-p.Acked)
				found++
			}
		}
		return found == len(ends) && behind == 0, fmt.Sprintf("%d of %d partitions, %d offsets behind", found, len(ends), behind)
	}))
}

// restart kills milena and starts it again. It returns how long that took until it was ready, and its peak memory.
func (h *history) restart() (took time.Duration, peak int64) {
	h.t.Helper()
	h.milena.Kill()
	began := time.Now()
	must(h.t, h.milena.Start(h.t.Context()))
	must(h.t, h.milena.WaitReady(h.t.Context()))
	took = time.Since(began)
	usage, err := h.milena.Process().Usage()
	must(h.t, err)
	return took, usage.PeakRSS
}

// compare reports a start with a long history beside one without.
func (h *history) compare(what string, shortTook, longTook time.Duration, shortPeak, longPeak int64) {
	h.t.Helper()
	h.t.Logf("%s: ready in %.2f s at %d MiB; without: %.2f s at %d MiB", what, longTook.Seconds(), longPeak>>20, shortTook.Seconds(), shortPeak>>20)
	if longTook-shortTook > moreTime || longPeak-shortPeak > moreMemory {
		h.t.Errorf("more than %v or %d MiB more", moreTime, moreMemory>>20)
	}
}

// A start reads the journal, of which it needs the ends only. The 10 million segments are those of a topic that the flow no longer copies: they
// are in the journal partition that the copied topic's map is in.
func TestStartWithALongHistory(t *testing.T) {
	h := newHistory(t, 1)
	client, err := h.target.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	must(t, err)
	defer client.Close()
	shortTook, shortPeak := h.restart()
	segments := number(t, "MILENA_SEGMENTS", 10_000_000)
	writeHistory(t, client, segments)
	longTook, longPeak := h.restart()
	h.compare(fmt.Sprintf("%d segments", segments), shortTook, longTook, shortPeak, longPeak)
}

// writeHistory writes a map of one-record segments to the journal.
func writeHistory(t *testing.T, client *kgo.Client, segments int64) {
	t.Helper()
	const shards = 64
	m := offsets.NewMap(0, 0)
	state := offsets.PartitionState{Topic: "orders-of-last-year", TargetTopic: "source.orders-of-last-year", LeaderEpoch: -1}
	partition := offsets.ShardOf("orders", 0, shards)
	for n := int64(0); n < segments; {
		for range 64 * offsets.ChunkSegments {
			source, target := m.End()
			must(t, m.Append(source+1, target, 1))
			n++
		}
		c, _ := m.Changed()
		var records []*kgo.Record
		for _, chunk := range state.Apply(c) {
			records = append(records, &kgo.Record{Topic: journalTopic, Partition: partition, Key: chunk.AppendKey(nil), Value: chunk.AppendValue(nil)})
		}
		records = append(records, &kgo.Record{Topic: journalTopic, Partition: partition, Key: state.AppendKey(nil), Value: state.AppendValue(nil)})
		must(t, client.ProduceSync(t.Context(), records...).FirstErr())
		m.MarkJournaled(c)
		m.Forget(state.End.Source)
	}
}

// Every transaction of the source leaves a marker in each of its partitions, so each record is a segment of its own. A transaction here has one
// record in each of the partitions of its producer: to each of them it is a one-record transaction.
func TestAMillionTransactions(t *testing.T) {
	const producers, partitionsEach = 4, 16
	h := newHistory(t, producers*partitionsEach)
	shortTook, shortPeak := h.restart()
	each := number(t, "MILENA_TRANSACTIONS", 1_000_000) / (producers * partitionsEach)
	began := time.Now()
	var all sync.WaitGroup
	failed := make(chan error, producers)
	for n := range int32(producers) {
		all.Go(func() {
			if err := transactions(t.Context(), h.source, n*partitionsEach, partitionsEach, each); err != nil {
				failed <- err
			}
		})
	}
	all.Wait()
	close(failed)
	must(t, <-failed)
	total := each * producers * partitionsEach
	t.Logf("%d one-record transactions in %.0f s", total, time.Since(began).Seconds())
	h.untilCopied()
	longTook, longPeak := h.restart()
	h.untilCopied()
	h.compare(fmt.Sprintf("%d one-record transactions", total), shortTook, longTook, shortPeak, longPeak)
}

// transactions writes n transactions of one record in each of the given partitions.
func transactions(ctx context.Context, source *kafka.Cluster, first, partitions int32, n int64) error {
	client, err := source.Client(kgo.TransactionalID(fmt.Sprintf("orders-%d", first)), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0))
	if err != nil {
		return err
	}
	defer client.Close()
	records := make([]*kgo.Record, partitions)
	for i := range n {
		if err := client.BeginTransaction(); err != nil {
			return err
		}
		for k := range records {
			records[k] = &kgo.Record{Topic: "orders", Partition: first + int32(k), Value: fmt.Appendf(nil, "order %d", i)}
		}
		if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
			return err
		}
		if err := client.EndTransaction(ctx, kgo.TryCommit); err != nil {
			return err
		}
	}
	return nil
}
