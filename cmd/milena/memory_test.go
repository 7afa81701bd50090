package main

import (
	"runtime"
	"runtime/debug"
	"testing"

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

func TestGOMEMLIMITTakesPrecedence(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	limitMemory(t.Context(), &config.Config{Buffer: 1 << 20}, func(name string) (string, bool) { return "1GiB", name == "GOMEMLIMIT" })()
	if debug.SetMemoryLimit(-1) != before {
		t.Error("the limit of the environment is replaced")
	}
}
