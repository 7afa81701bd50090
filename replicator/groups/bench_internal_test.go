package groups

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/kafkatest"
	"github.com/milena-kafka/milena/replicator/topics"
)

// The size of the benchmarks: a large cluster, where every group has a position in every partition.
const (
	benchGroups     = 10_000
	benchPartitions = 100
)

// manyGroups is a world with many groups, all at one offset.
func manyGroups(b *testing.B) *world {
	b.Helper()
	w := newWorld(b)
	kafkatest.CreateTopic(b, w.source, "orders", benchPartitions, nil)
	kafkatest.CreateTopic(b, w.target, "a.orders", benchPartitions, nil)
	kafkatest.CreateTopic(b, w.target, "a.checkpoints.internal", 1, nil)
	source, target := w.host.View(offsets.Source).ByName["orders"].ID, w.host.View(offsets.Target).ByName["a.orders"].ID
	producer, err := kgo.NewClient(kgo.SeedBrokers(w.target.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		b.Fatal(err)
	}
	defer producer.Close()
	for partition := range int32(benchPartitions) {
		tp := offsets.TopicPartition{Topic: "orders", Partition: partition}
		w.host.copies[tp] = &fakeCopy{tp: tp, end: 100, source: source, target: target}
		var records []*kgo.Record
		for range 20 {
			records = append(records, &kgo.Record{Topic: "a.orders", Partition: partition, Value: []byte("x")})
		}
		if err := producer.ProduceSync(b.Context(), records...).FirstErr(); err != nil {
			b.Fatal(err)
		}
	}
	w.moveAll(b, 10)
	w.host.views = map[offsets.Side]topics.View{offsets.Source: w.host.View(offsets.Source), offsets.Target: w.host.View(offsets.Target)}
	return w
}

// moveAll commits an offset for all groups in all partitions of the source.
func (w *world) moveAll(b *testing.B, at int64) {
	b.Helper()
	var work errgroup.Group
	work.SetLimit(16)
	for i := range benchGroups {
		work.Go(func() error {
			requested := make(kadm.Offsets)
			for partition := range int32(benchPartitions) {
				requested.Add(kadm.Offset{Topic: "orders", Partition: partition, At: at, LeaderEpoch: -1})
			}
			return kadm.NewClient(w.host.source).CommitAllOffsets(b.Context(), fmt.Sprintf("group-%05d", i), requested)
		})
	}
	if err := work.Wait(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkIdleSync is a sync of 10,000 groups with 100 positions each that have not moved. It reports also the sync that finds all of them new,
// and the memory that is kept between two syncs.
func BenchmarkIdleSync(b *testing.B) {
	w := manyGroups(b)
	s, err := New(w.deps)
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	if err := s.syncUntil(b.Context(), time.Now().Add(time.Hour)); err != nil {
		b.Fatal(err)
	}
	first := time.Since(began)
	if n := counted(b, w.deps.Metrics.Commits); n != benchGroups*benchPartitions {
		b.Fatalf("%v committed", n)
	}
	if err := s.sync(b.Context()); err != nil { // notes that the commits have succeeded
		b.Fatal(err)
	}
	s.deps.Flow.GroupsInterval = time.Minute // no rechecks
	b.ResetTimer()
	used := cpuTime(b)
	for range b.N {
		if err := s.sync(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	b.ReportMetric((cpuTime(b)-used).Seconds()/float64(b.N), "cpu-s/sync") // that of the fake brokers included
	with := heap()
	*s = Syncer{}
	b.ReportMetric(float64(with-heap())/(1<<20), "MiB-kept")
	runtime.KeepAlive(s)
	b.ReportMetric(first.Seconds(), "s/first-sync")
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/sync")
}

// cpuTime is the processor time that this process has used, which does not depend on what else the machine does.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkSyncOverASlowLine is a sync of 10,000 groups with 100 positions each that have all moved, over a line on which every request takes
// 100 ms, in the time that a sync may take.
func BenchmarkSyncOverASlowLine(b *testing.B) {
	w := manyGroups(b)
	w.deps.SourceClient, w.deps.TargetClient = slowClient(b, w.source), slowClient(b, w.target)
	s, err := New(w.deps)
	if err != nil {
		b.Fatal(err)
	}
	before := 0.0
	for range b.N {
		_ = s.sync(b.Context()) // ends with errOutOfTime
		after := counted(b, w.deps.Metrics.Commits)
		b.ReportMetric(after-before, "commits/sync")
		before = after
	}
}

// slowClient is a client whose requests take 100 ms longer.
func slowClient(b *testing.B, cluster *kfake.Cluster) *kgo.Client {
	b.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.Dialer(func(ctx context.Context, network, host string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, host)
		if err != nil {
			return nil, err
		}
		slow := &slowConn{Conn: conn, queue: make(chan delayed, 4096)}
		go slow.deliver()
		return slow, nil
	}))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(cl.Close)
	return cl
}

// slowConn delivers what is written 100 ms later, without limiting how much is under way.
type slowConn struct {
	net.Conn

	queue chan delayed
}

type delayed struct {
	at   time.Time
	data []byte
}

func (c *slowConn) Write(data []byte) (int, error) {
	c.queue <- delayed{time.Now().Add(100 * time.Millisecond), append([]byte(nil), data...)}
	return len(data), nil
}

func (c *slowConn) deliver() {
	for d := range c.queue {
		time.Sleep(time.Until(d.at))
		if _, err := c.Conn.Write(d.data); err != nil {
			return
		}
	}
}
