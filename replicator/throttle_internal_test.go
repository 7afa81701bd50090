package replicator

import (
	"testing"
	"time"

	"github.com/milena-kafka/milena/replicator/control"
)

// What was fetched takes as long as it takes at the rate, by the instance's share of it, and a pause earns no burst.
func TestThrottle(t *testing.T) {
	var h throttle
	now := time.Unix(1000, 0)
	h.take(1<<20, 1, now)
	if h.wait(now) != 0 || h.size(1<<20) != 1<<20 {
		t.Error("without a rate there is a wait, or a limit")
	}
	h.set(&control.Decision{What: control.Throttle, Rate: 1 << 20})
	if h.size(8<<20) != 256<<10 || h.size(1000) != 1000 {
		t.Errorf("a fetch is limited to %d bytes", h.size(8<<20))
	}
	for range 4 {
		h.take(256<<10, 0.5, now)
	}
	if w := h.wait(now); w != 2*time.Second {
		t.Errorf("1 MiB at half of 1 MiB/s takes %v", w)
	}
	later := now.Add(time.Minute)
	if h.wait(later) != 0 {
		t.Error("what was paid is not over")
	}
	h.take(512<<10, 0.5, later)
	if w := h.wait(later); w != time.Second {
		t.Errorf("after a pause, 512 KiB take %v", w)
	}
	h.take(1<<30, 1e-9, later)
	if w := h.wait(later); w > maxThrottle+time.Second {
		t.Errorf("one response takes %v", w)
	}
	h.set(&control.Decision{What: control.Throttle, Rate: 1 << 20})
	if h.wait(later) == 0 {
		t.Error("the same rate once more forgives what was fetched")
	}
	h.set(&control.Decision{What: control.Throttle, Rate: 1 << 30})
	if w := h.wait(later); w != 0 {
		t.Errorf("at a higher rate, what was fetched at the lower one still takes %v", w)
	}
	h.set(nil)
	if h.wait(later) != 0 {
		t.Error("a throttle that has ended lasts")
	}
}
