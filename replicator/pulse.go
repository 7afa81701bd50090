package replicator

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// pulse says whether a loop works or waits. A loop that waits for a broker, for bytes that others return, or for something to do is well, however
// long that takes: the cluster may be down. A loop that works, and does not get to its next wait, is stuck. The zero value waits.
type pulse struct {
	since atomic.Int64 // the loop works since then, in nanoseconds of the clock of pulses; 0 while it waits
}

// work records that the loop goes on with work of its own.
func (p *pulse) work() { p.since.Store(pulseClock()) }

// rest records that the loop waits for something that may take as long as it likes.
func (p *pulse) rest() { p.since.Store(0) }

// pulseEpoch is where the clock of pulses begins. A difference of times is monotonic, so a clock that is set does no harm.
var pulseEpoch = time.Now() //nolint:gochecknoglobals // never changes

// pulseClock is never 0.
func pulseClock() int64 { return int64(time.Since(pulseEpoch)) + 1 }

// pulses are the loops that move batches and confirm the ownership, by what they do.
type pulses struct {
	mu  sync.Mutex
	all map[*pulse]string
}

// watch includes a loop until the function that it returns is called.
func (s *pulses) watch(p *pulse, name string) (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = make(map[*pulse]string)
	}
	s.all[p] = name
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.all, p)
	}
}

// stuck returns the loop that has worked for longest, if that is longer than a limit, as a sentence. It is empty if there is none.
func (s *pulses) stuck(limit time.Duration) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, longest, name := pulseClock(), limit, ""
	for p, n := range s.all {
		since := p.since.Load()
		if d := time.Duration(now - since); since != 0 && d > longest {
			longest, name = d, n
		}
	}
	if name == "" {
		return ""
	}
	return fmt.Sprintf("the loop that %s is stuck for %v", name, longest.Round(time.Second))
}

// Stalled says which loop of the flow is stuck for longer than a limit, empty if none is. A loop that waits for a cluster is not stuck. It also takes the
// locks that are held for moments only, and blocks while one of them is not let go: whoever asks counts no answer as a stall. A flow that has not begun, or
// has ended, is not stalled.
//
// What it does not see: a request that is never answered and never times out, and a loop that goes round without effect. The lag shows those.
func (f *Flow) Stalled(limit time.Duration) string {
	if problem := f.pulses.stuck(limit); problem != "" {
		return problem // without the locks: the loop may hold one
	}
	_ = f.Status()
	_ = f.budget.free()
	return ""
}
