package offsets_test

import (
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/milena-kafka/milena/offsets"
)

const benchSegments = 1_000_000

func benchMap(b *testing.B) (m *offsets.Map, heapBytes float64) {
	b.Helper()
	before := heap()
	m = offsets.NewMap(0, 0)
	for range benchSegments {
		source, target := m.End()
		mustAppend(b, m, source+1, target, 10)
	}
	return m, heap() - before
}

// heap returns the bytes in use.
func heap() float64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return float64(stats.HeapAlloc)
}

func BenchmarkForward(b *testing.B) {
	m, heapBytes := benchMap(b)
	end, _ := m.End()
	random := rand.New(rand.NewPCG(1, 2))
	wanted := make([]int64, 1<<16)
	for i := range wanted {
		wanted[i] = random.Int64N(end)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if _, _, err := m.Forward(wanted[i&(len(wanted)-1)]); err != nil {
			b.Fatal(err)
		}
		i++
	}
	b.ReportMetric(heapBytes/benchSegments, "heap-B/segment")
}

func BenchmarkAppendDense(b *testing.B) {
	m := offsets.NewMap(0, 0)
	b.ReportAllocs()
	for b.Loop() {
		source, target := m.End()
		if err := m.Append(source, target, 100); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeChunk(b *testing.B) {
	m := offsets.NewMap(0, 0)
	holes(b, m, offsets.ChunkSegments)
	c, _ := m.Changed()
	key, value := c.Chunks[0].AppendKey(nil), c.Chunks[0].AppendValue(nil)
	b.SetBytes(int64(len(value)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := offsets.DecodeJournal(key, value); err != nil {
			b.Fatal(err)
		}
	}
}
