package main

import (
	"context"
	"math"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"github.com/milena-kafka/milena/config"
)

const (
	// MemoryBesides is what a process needs besides batches and what grows with its flows.
	memoryBesides = 32 << 20
	// MemoryEvery is how often the limit is compared with the live heap. A heap that has outgrown its limit keeps half of all CPUs busy with
	// collecting until then.
	memoryEvery = 250 * time.Millisecond
)

// limitMemory sets a soft memory limit, so that the garbage collector works harder before the heap outgrows what it holds. GOMEMLIMIT takes
// precedence. The limit follows the live heap until the returned function is called, but not beyond what the cgroup of the process, such as a container
// with a memory limit, leaves: a process that collects much is slow, one that outgrows its cgroup is killed.
func limitMemory(ctx context.Context, c *config.Config, env func(string) (string, bool)) (end func()) {
	if _, set := env("GOMEMLIMIT"); set {
		return func() {}
	}
	buffers, cgroup := int64(c.Buffer)*int64(len(c.Flows)), cgroupMemory()
	debug.SetMemoryLimit(withinCgroup(memoryLimit(buffers, 0), cgroup))
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		followHeap(ctx, buffers, cgroup)
	}()
	return func() {
		cancel()
		<-ended
	}
}

// memoryLimit returns the limit for a process whose live heap, by the last collection, has this size: the buffers, and 32 MiB or three
// quarters more than what is live besides them. With less than that the collector would run all the time, as with many partitions, or maps of long histories.
func memoryLimit(buffers, live int64) int64 {
	besides := max(0, live-buffers)
	return buffers + max(memoryBesides, memoryBesides/2+besides+besides*3/4)
}

// cgroupMemory is what the cgroup of the process may use, or 0 if nothing limits it.
func cgroupMemory() int64 {
	limit, err := memlimit.FromCgroup()
	if err != nil || limit > math.MaxInt64 { // an error also means that there is no cgroup or no limit
		return 0
	}
	return int64(limit)
}

// withinCgroup keeps a limit a tenth below the memory of a cgroup, where it has one: Go's limit does not count the binary and the kernel's buffers.
func withinCgroup(limit, cgroup int64) int64 {
	if cgroup == 0 {
		return limit
	}
	return min(limit, cgroup-cgroup/10)
}

// followHeap raises and lowers the limit with the live heap.
func followHeap(ctx context.Context, buffers, cgroup int64) {
	tick := time.NewTicker(memoryEvery)
	defer tick.Stop()
	sample := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"},
		{Name: "/gc/cycles/total:gc-cycles"},
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
	}
	value := func(i int) int64 { return int64(sample[i].Value.Uint64()) }
	var f floor
	for limit := withinCgroup(memoryLimit(buffers, 0), cgroup); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		metrics.Read(sample)
		f.note(value(1), value(2)-value(3)-value(4))
		if now := withinCgroup(max(memoryLimit(buffers, value(0)), f.limit()), cgroup); now != limit {
			limit = now
			debug.SetMemoryLimit(limit)
		}
	}
}

// floor is the memory that collections do not free, although it may be more than the live heap explains: when most of a large heap has become garbage,
// as after shards were handed over, what is left keeps nearly empty pages. With a limit below it the collector would run all the time.
type floor struct {
	cycles int64    // of the collector, at the last sample
	used   [8]int64 // at the last samples with a collection before each
	next   int
}

// note takes a sample: how many collections there were, and the memory in use. Samples between two collections say nothing.
func (f *floor) note(cycles, used int64) {
	if cycles != f.cycles {
		f.cycles = cycles
		f.used[f.next%len(f.used)] = used
		f.next++
	}
}

// limit is the least memory limit: an eighth above the least of the samples, one of which is close behind a collection. It is 0 before there are enough.
func (f *floor) limit() int64 {
	least := slices.Min(f.used[:])
	return least + least/8
}
