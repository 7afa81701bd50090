package replicator_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/client"
)

// pair is two clusters in this process and a client on each.
type pair struct {
	faults               []*kfake.FaultHandle // installed, perhaps not all met
	t                    *testing.T
	source, target       *kfake.Cluster
	sourceTrap           *trap
	targetTrap           *trap
	sourceCl, targetCl   *kgo.Client
	sourceAdm, targetAdm *kadm.Client
	shutdown             time.Duration // of the flows that are started from here on
	rebuildMap           bool          // the same
}

func newPair(t *testing.T, brokers int) *pair {
	t.Helper()
	p := &pair{t: t, sourceTrap: &trap{}, targetTrap: &trap{}, shutdown: 5 * time.Second}
	p.source, p.sourceCl = fakeCluster(t, "source-cluster", brokers, p.sourceTrap)
	p.target, p.targetCl = fakeCluster(t, "target-cluster", brokers, p.targetTrap)
	p.targetTrap.epochs.guard(p.target)
	p.sourceAdm, p.targetAdm = kadm.NewClient(p.sourceCl), kadm.NewClient(p.targetCl)
	return p
}

func fakeCluster(t *testing.T, id string, brokers int, tr *trap) (*kfake.Cluster, *kgo.Client) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(brokers), kfake.ClusterID(id), kfake.ListenFn(tr.listen))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return c, cl
}

func (p *pair) createTopic(name string, partitions int32) {
	p.t.Helper()
	if _, err := p.sourceAdm.CreateTopic(p.t.Context(), partitions, 1, nil, name); err != nil {
		p.t.Fatal(err)
	}
}

// produce writes n records to each partition, each with a value that names it.
func (p *pair) produce(topic string, partitions int32, n int, tag string) {
	p.t.Helper()
	var records []*kgo.Record
	for i := range n {
		for part := range partitions {
			records = append(records, &kgo.Record{Topic: topic, Partition: part, Key: fmt.Appendf(nil, "%s-%d", tag, i), Value: fmt.Appendf(nil, "%s-%d-%d", tag, part, i), Headers: []kgo.RecordHeader{{Key: "tag", Value: []byte(tag)}}})
		}
	}
	if err := p.sourceCl.ProduceSync(p.t.Context(), records...).FirstErr(); err != nil {
		p.t.Fatal(err)
	}
}

// running is a flow that runs in this process.
type running struct {
	t    *testing.T
	flow *replicator.Flow
	stop context.CancelFunc
	done chan error
	reg  *prometheus.Registry
}

func (p *pair) start(change func(*config.Flow)) *running {
	p.t.Helper()
	return p.run("a", "b", p.source, p.target, change)
}

// startBack runs the flow in the other direction.
func (p *pair) startBack(change func(*config.Flow)) *running {
	p.t.Helper()
	return p.run("b", "a", p.target, p.source, change)
}

func (p *pair) run(from, to string, source, target *kfake.Cluster, change func(*config.Flow)) *running {
	p.t.Helper()
	flow := config.Flow{
		Name: from + "-" + to, Source: from, Target: to, Topics: []string{".*"}, Naming: "prefix", Separator: ".", Start: "earliest",
		Isolation: "read_committed", TopicsInterval: 50 * time.Millisecond, ConfigsInterval: time.Second, Shards: 4,
		JournalInterval: 50 * time.Millisecond, Lease: 3 * time.Second, Anomalies: map[string]string{},
	}
	if change != nil {
		change(&flow)
	}
	r := &running{t: p.t, done: make(chan error, 1), reg: prometheus.NewRegistry()}
	var err error
	r.flow, err = replicator.New(replicator.Options{
		RebuildMap: p.rebuildMap,
		Clusters: client.Clusters{
			Flow: flow, Source: config.Cluster{Brokers: source.ListenAddrs()}, Target: config.Cluster{Brokers: target.ListenAddrs()},
			Log: slog.New(slog.NewTextHandler(p.t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})),
		},
		Registerer: r.reg, Buffer: 16 << 20, ShutdownTimeout: p.shutdown,
	})
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(p.t.Context()))
	r.stop = cancel
	go func() { r.done <- r.flow.Run(ctx) }()
	p.t.Cleanup(func() {
		cancel()
		if err := <-r.done; err != nil {
			p.t.Logf("the flow ended with: %v", err)
		}
	})
	return r
}

// stopped stops the flow and gives what Run returned.
func (r *running) stopped() error {
	r.t.Helper()
	r.stop()
	err := <-r.done
	r.done <- err
	return err
}

// caughtUp waits until the copy of the topic has the given number of records.
func (r *running) caughtUp(topic string, records int64) {
	r.t.Helper()
	r.until(fmt.Sprintf("%d records of %s copied", records, topic), func(s replicator.Status) bool {
		var n int64
		for _, p := range s.Partitions {
			if p.Topic == topic {
				n += p.Acked
			}
		}
		return n >= records
	})
}

func (r *running) until(what string, ok func(replicator.Status) bool) {
	r.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok(r.flow.Status()) {
		if time.Now().After(deadline) {
			r.t.Fatalf("not within 20 s: %s; status: %+v", what, r.flow.Status())
		}
		select {
		case err := <-r.done:
			r.done <- err
			r.t.Fatalf("the flow ended while waiting for %s: %v", what, err)
		case <-tick.C:
		}
	}
}

// verify is the promise: per partition the target is the source, in order, nothing missing, nothing twice.
func (p *pair) verify(topic, copied string, partitions int32) {
	p.t.Helper()
	want, got := p.read(p.sourceCl, p.source, topic, partitions), p.read(p.targetCl, p.target, copied, partitions)
	for part := range partitions {
		w, g := want[part], got[part]
		if len(w) != len(g) {
			p.t.Errorf("%s-%d has %d records, its copy has %d", topic, part, len(w), len(g))
		}
		for i := range min(len(w), len(g)) {
			if w[i] != g[i] {
				p.t.Fatalf("%s-%d record %d: want %s, got %s", topic, part, i, w[i], g[i])
			}
		}
	}
}

func (p *pair) read(cl *kgo.Client, c *kfake.Cluster, topic string, partitions int32) map[int32][]string {
	p.t.Helper()
	texts := make(map[int32][]string)
	for part, list := range p.records(cl, c, topic, partitions) {
		for _, r := range list {
			texts[part] = append(texts[part], fmt.Sprintf("%s|%s|%s|%d", r.Key, r.Value, r.Headers, r.Timestamp.UnixMilli()))
		}
	}
	return texts
}

// records reads what stands in a topic now, without markers.
func (p *pair) records(cl *kgo.Client, c *kfake.Cluster, topic string, partitions int32) map[int32][]*kgo.Record {
	p.t.Helper()
	ends, err := kadm.NewClient(cl).ListEndOffsets(p.t.Context(), topic)
	if err != nil || ends.Error() != nil {
		p.t.Fatal(err, ends.Error())
	}
	offsets := make(map[int32]kgo.Offset)
	open := make(map[int32]int64)
	for part := range partitions {
		end, _ := ends.Lookup(topic, part)
		if end.Offset > 0 {
			offsets[part], open[part] = kgo.NewOffset().At(0), end.Offset
		}
	}
	read := make(map[int32][]*kgo.Record)
	if len(open) == 0 {
		return read
	}
	reader, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: offsets}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(), kgo.FetchMaxWait(50*time.Millisecond))
	if err != nil {
		p.t.Fatal(err)
	}
	defer reader.Close()
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer cancel()
	for len(open) > 0 {
		fetches := reader.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			p.t.Fatal(err, open)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				read[r.Partition] = append(read[r.Partition], r)
			}
			if r.Offset+1 >= open[r.Partition] {
				delete(open, r.Partition)
			}
		})
	}
	return read
}

func TestTopicIsCopiedAndFollowed(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 3)
	p.produce("orders", 3, 100, "before")
	r := p.start(nil)
	r.caughtUp("orders", 300)
	p.produce("orders", 3, 100, "after")
	r.caughtUp("orders", 600)
	p.createTopic("late", 2)
	p.produce("late", 2, 50, "late")
	r.caughtUp("late", 100)
	if err := r.stopped(); err != nil {
		t.Fatalf("a clean stop returned %v", err)
	}
	p.verify("orders", "a.orders", 3)
	p.verify("late", "a.late", 2)
}

func TestRestartGoesOnWhereItStopped(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 5)
	for round := range 3 {
		p.produce("orders", 5, 40, fmt.Sprint(round))
		r := p.start(nil)
		r.caughtUp("orders", int64(200*(round+1)))
		if err := r.stopped(); err != nil {
			t.Fatal(err)
		}
	}
	p.verify("orders", "a.orders", 5)
}
