package offsets_test

import (
	"runtime"
	"testing"
	"time"

	"github.com/milena-kafka/milena/offsets"
)

// A start with a long history: a new owner reads a journal of 10 million segments, one per source transaction. The metric heap-MiB is the
// memory that the process took from the system for it.
func BenchmarkRestore10M(b *testing.B) {
	const segments = 10_000_000
	var keys, values [][]byte
	put := func(e entry) { keys, values = append(keys, e.AppendKey(nil)), append(values, e.AppendValue(nil)) }
	m := offsets.NewMap(0, 0)
	state := offsets.PartitionState{Topic: "orders", TargetTopic: "a.orders"}
	for n := 0; n < segments; {
		for range 64 * offsets.ChunkSegments {
			source, target := m.End()
			mustAppend(b, m, source+1, target, 1)
			n++
		}
		c, _ := m.Changed()
		for _, chunk := range state.Apply(c) {
			put(chunk)
		}
		put(&state)
		m.MarkJournaled(c)
		m.Forget(state.End.Source)
	}
	bytes := 0
	for i := range keys {
		bytes += len(keys[i]) + len(values[i])
	}
	b.SetBytes(int64(bytes))
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		began := time.Now()
		var r offsets.Restorer
		for i := range keys {
			if err := r.Add(keys[i], values[i]); err != nil {
				b.Fatal(err)
			}
		}
		restored, err := r.Partitions()[orders].Map()
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(began).Seconds(), "s/start")
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(max(after.HeapSys, before.HeapSys)-before.HeapSys)/(1<<20), "heap-MiB")
		b.ReportMetric(float64(restored.Len()), "segments-kept")
	}
}
