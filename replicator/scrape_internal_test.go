package replicator

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/control"
)

// idleFlow returns a flow that does not connect.
func idleFlow(t testing.TB) *Flow {
	t.Helper()
	cluster := config.Cluster{Brokers: []string{"127.0.0.1:1"}}
	f, err := New(Options{
		Clusters: client.Clusters{
			Flow: config.DefaultFlow("a", "b"), Source: cluster, Target: cluster, Log: slog.New(slog.DiscardHandler),
		},
		Registerer: prometheus.NewRegistry(), Buffer: 32 << 20, ShutdownTimeout: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	f.holdAll()
	t.Cleanup(f.connections.close)
	return f
}

// setSeries sets which partitions have series.
func setSeries(f *Flow, series string) {
	l := *f.live()
	l.series = series
	f.current.Store(&l)
}

// scrapedFlow returns a flow with one partition in each situation, by name of its topic.
func scrapedFlow(t testing.TB, series string) *Flow {
	f := idleFlow(t)
	setSeries(f, series)
	now := time.Now()
	add := func(topic string, number int32, change func(p *partition)) {
		link := f.topology.links[topic]
		if link == nil {
			link = &topicLink{source: topic, target: "a." + topic, metrics: f.metrics.forTopic(topic, &f.totals)}
			f.topology.links[topic] = link
		}
		p := newPartition(link, number, f.held.get(0), listed{sourceLast: 100})
		p.state, p.targetLeader = replicating, 1
		p.progress.acked, p.progress.meanBytes, p.progress.lastTimestamp = 100, 10, now.Add(-time.Minute).UnixMilli()
		change(p)
		f.topology.put(p)
	}
	add("orders", 0, func(*partition) {})
	add("orders", 1, func(p *partition) { p.progress.acked = 93 })
	add("orders", 2, func(p *partition) { p.progress.acked = 98 })
	add("transaction", 0, func(p *partition) { p.cursor.sourceOpen = 5 })
	add("halted", 0, func(p *partition) { p.setHaltedLocked(&anomaly{kind: policy.Truncated}) })
	add("leaderless", 0, func(p *partition) { p.targetLeader = -1 })
	add("paused", 0, func(p *partition) { p.pause = &control.Decision{} })
	add("recovering", 0, func(p *partition) { p.state = recovering })
	add("unseen", 0, func(p *partition) { p.cursor.sourceSeen = now.Add(-time.Hour) })
	f.topology.unbegun = map[offsets.TopicPartition]unbegun{{Topic: "missing"}: {wait: wait{reason: WaitTargetMissing}}}
	return f
}

// The partitions with series of their own are those that the config asks for. What counts all partitions does not depend on it.
func TestPartitionSeries(t *testing.T) {
	attention := []string{"halted-0", "leaderless-0", "missing-0", "orders-1", "orders-2", "paused-0", "recovering-0", "transaction-0", "unseen-0"}
	sums := make(map[string]string)
	for series, want := range map[string][]string{
		config.SeriesAll: append([]string{"orders-0"}, attention...), config.SeriesLagging: attention, config.SeriesNone: nil,
	} {
		t.Run(series, func(t *testing.T) {
			registry := prometheus.NewPedanticRegistry()
			registry.MustRegister(newCollector(scrapedFlow(t, series)))
			families, err := registry.Gather()
			if err != nil {
				t.Fatal(err)
			}
			got, paused := make(map[string]bool), 0
			var rest strings.Builder
			for _, family := range families {
				for _, m := range family.GetMetric() {
					labels := make(map[string]string)
					for _, l := range m.GetLabel() {
						labels[l.GetName()] = l.GetValue()
					}
					if family.GetName() == "milena_partition_paused" && labels["topic"] == "paused" {
						paused++
					}
					if number, ok := labels["partition"]; ok {
						got[labels["topic"]+"-"+number] = true
					} else if !strings.HasSuffix(family.GetName(), "_lag_seconds") { // which grow
						fmt.Fprintln(&rest, family.GetName(), labels, m.GetGauge().GetValue())
					}
				}
			}
			slices.Sort(want)
			if list := slices.Sorted(maps.Keys(got)); !slices.Equal(list, want) {
				t.Errorf("series of %v, want %v", list, want)
			}
			if named := slices.Contains(want, "paused-0"); named != (paused == 1) {
				t.Errorf("%d series say that a partition is paused", paused)
			}
			sums[series] = rest.String()
		})
	}
	if sums[config.SeriesLagging] != sums[config.SeriesAll] || sums[config.SeriesNone] != sums[config.SeriesAll] {
		t.Errorf("the sums differ:\n%s\n%s\n%s", sums[config.SeriesAll], sums[config.SeriesLagging], sums[config.SeriesNone])
	}
	if strings.Contains(sums[config.SeriesNone], "milena_topic_lag_records map[topic:unseen]") {
		t.Error("a topic has a sum although the lag of none of its partitions is known")
	}
	for _, line := range []string{
		"milena_flow_lag_records map[] 9", "milena_flow_lag_bytes map[] 90", "milena_topic_lag_records map[topic:orders] 9",
		"milena_partitions map[state:waiting] 1", "milena_partitions map[state:halted] 1", "milena_lag_unknown_partitions map[] 2",
	} {
		if !strings.Contains(sums[config.SeriesNone], line+"\n") {
			t.Errorf("no series %s in\n%s", line, sums[config.SeriesNone])
		}
	}
}

// NotReady says what the status says.
func TestNotReadyIsThatOfTheStatus(t *testing.T) {
	f := scrapedFlow(t, config.SeriesNone)
	if got, want := f.NotReady(), f.Status().NotReady; !slices.Equal(got, want) || len(got) == 0 {
		t.Errorf("not ready: %q, and by the status: %q", got, want)
	}
}

func BenchmarkScrape(b *testing.B) {
	for _, series := range []string{config.SeriesAll, config.SeriesLagging, config.SeriesNone} {
		b.Run(series, func(b *testing.B) {
			f := manyPartitions(b, 10_000)
			setSeries(f, series)
			registry := prometheus.NewRegistry()
			registry.MustRegister(newCollector(f))
			for b.Loop() {
				if _, err := registry.Gather(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkStatus(b *testing.B) {
	f := manyPartitions(b, 10_000)
	b.Run("status", func(b *testing.B) {
		for b.Loop() {
			f.Status()
		}
	})
	b.Run("ready", func(b *testing.B) {
		for b.Loop() {
			f.NotReady()
		}
	})
}

// manyPartitions returns a flow with partitions that are in step, a hundred per topic.
func manyPartitions(b *testing.B, count int) *Flow {
	b.Helper()
	f := idleFlow(b)
	var link *topicLink
	for n := range count {
		if n%100 == 0 {
			name := fmt.Sprintf("many-%05d", n/100)
			link = &topicLink{source: name, target: "a." + name, metrics: f.metrics.forTopic(name, &f.totals)}
		}
		p := newPartition(link, int32(n%100), f.held.get(int32(n)%f.config.Shards), listed{sourceLast: 100})
		p.state, p.targetLeader = replicating, 1
		p.progress.acked, p.cursor.sourceSeen = 100, time.Now().Add(time.Hour)
		f.topology.put(p)
		p.shard.add(p)
	}
	return f
}

// An objective has a series once the config has one. A partition that was never complete is counted, as no figure in seconds says so.
func TestObjectiveSeries(t *testing.T) {
	f := idleFlow(t)
	link := &topicLink{source: "orders", target: "a.orders", metrics: f.metrics.forTopic("orders", &f.totals)}
	for number := range int32(2) {
		p := newPartition(link, number, f.held.get(0), listed{})
		p.cursor.sourceSeen = time.Now()
		if number == 0 {
			p.sight.see(0, 0, 0, time.Now())
		}
		f.topology.put(p)
	}
	f.topology.unbegun = map[offsets.TopicPartition]unbegun{{Topic: "missing"}: {wait: wait{reason: WaitTargetMissing}}}
	read := func() map[string]float64 {
		registry, values := prometheus.NewPedanticRegistry(), make(map[string]float64)
		registry.MustRegister(newCollector(f))
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			if strings.Contains(family.GetName(), "_rpo_") || strings.Contains(family.GetName(), "_rto_") {
				values[family.GetName()] = family.GetMetric()[0].GetGauge().GetValue()
			}
		}
		return values
	}
	want := map[string]float64{"milena_rpo_records": 0, "milena_rpo_unknown_partitions": 2}
	if got := read(); !maps.Equal(got, want) {
		t.Errorf("without objectives: %v, want %v", got, want)
	}
	rpo, rto := 30*time.Second, 5*time.Minute
	l := *f.live()
	l.RPO, l.RTO = &rpo, &rto
	f.current.Store(&l)
	want["milena_rpo_objective_seconds"], want["milena_rto_objective_seconds"] = 30, 300
	if got := read(); !maps.Equal(got, want) {
		t.Errorf("with objectives: %v, want %v", got, want)
	}
}
