package main

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/milena-kafka/milena/config"
)

// The limit leaves the collector room above what is live, whatever makes it live.
func TestMemoryLimitFollowsTheHeap(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	end := limitMemory(t.Context(), &config.Config{Buffer: 1 << 20, Flows: make([]config.Flow, 2)}, noEnv)
	defer end()
	base := memoryLimit(2<<20, 0)
	within(t, "the limit is what the buffers explain, or follows a larger heap", func() bool { return debug.SetMemoryLimit(-1) >= base })
	held := make([]byte, 256<<20)
	runtime.GC()
	within(t, "the limit is half above the live heap", func() bool { return debug.SetMemoryLimit(-1) > int64(len(held))*3/2 })
	runtime.KeepAlive(held)
	held = nil
	runtime.GC()
	within(t, "the limit falls with the heap", func() bool { return debug.SetMemoryLimit(-1) < 256<<20 })
}

// What is left of a large heap may use far more memory than it holds. The limit stays above that, so that the collector does not run all the time.
func TestMemoryLimitAboveFragments(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	defer limitMemory(t.Context(), &config.Config{Buffer: 1 << 20, Flows: make([]config.Flow, 1)}, noEnv)()
	const all, each, kept = 1 << 18, 1 << 10, 8 // one object of each page is kept
	objects := make([][]byte, all)
	for i := range objects {
		objects[i] = make([]byte, each)
	}
	runtime.GC()
	for i := range objects {
		if i%kept > 0 {
			objects[i] = nil
		}
	}
	runtime.GC()
	within(t, "the collector rests", func() bool {
		var now, later runtime.MemStats
		runtime.ReadMemStats(&now)
		for range 50 {
			objects[1] = make([]byte, 64<<10) // little garbage
			time.Sleep(20 * time.Millisecond)
		}
		runtime.ReadMemStats(&later)
		return now.HeapInuse-now.HeapAlloc > all*each/2 && later.NumGC-now.NumGC < 3
	})
	runtime.KeepAlive(objects)
}

func TestGOMEMLIMITTakesPrecedence(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	limitMemory(t.Context(), &config.Config{Buffer: 1 << 20}, func(name string) (string, bool) { return "1GiB", name == "GOMEMLIMIT" })()
	if debug.SetMemoryLimit(-1) != before {
		t.Error("the limit of the environment is replaced")
	}
}

// Whatever is live, the limit stays below what would get the process killed.
func TestMemoryLimitStaysWithinTheCgroup(t *testing.T) {
	const cgroup = 512 << 20
	for _, live := range []int64{0, 64 << 20, 400 << 20, 2 << 30} {
		without := memoryLimit(32<<20, live)
		if got := withinCgroup(without, 0); got != without {
			t.Errorf("without a cgroup the limit for %d live bytes is %d, want %d", live, got, without)
		}
		got := withinCgroup(without, cgroup)
		if got > cgroup*9/10+1 || got < min(without, cgroup*8/10) {
			t.Errorf("the limit for %d live bytes in a cgroup of %d is %d", live, cgroup, got)
		}
	}
}
