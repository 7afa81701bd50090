package replicator

import (
	"sync"
	"time"
)

// instant is a reading of a clock: the time since some moment before the process started. The zero instant is no reading.
type instant time.Duration

func (i instant) sub(earlier instant) time.Duration { return time.Duration(i - earlier) }

// clock measures how much time has passed for the rest of the world, as leases need it. Go's monotonic clock does not: it stands still while
// the host sleeps. A clock advances by the larger of two measures. One is the time since boot, which runs while the host sleeps, but not
// while a hypervisor keeps the machine paused. The other is the wall clock, which is corrected after such a pause, but may be set back at
// any time. A clock that is wrong because the wall clock was set forward lets a lease end early, which costs a fence and no more.
type clock struct {
	boot func() time.Duration
	wall func() time.Time

	mu       sync.Mutex
	elapsed  time.Duration
	lastBoot time.Duration
	lastWall time.Time
}

func newClock(boot func() time.Duration, wall func() time.Time) *clock {
	return &clock{boot: boot, wall: wall, elapsed: 1, lastBoot: boot(), lastWall: wall().Round(0)}
}

// now returns the present instant. Instants never go backwards.
func (c *clock) now() instant {
	c.mu.Lock()
	defer c.mu.Unlock()
	boot, wall := c.boot(), c.wall().Round(0) // without Go's monotonic reading, which Sub would prefer
	c.elapsed += max(0, boot-c.lastBoot, wall.Sub(c.lastWall))
	c.lastBoot, c.lastWall = boot, wall
	return instant(c.elapsed)
}

// monotonicTime returns a clock that reads Go's monotonic time.
func monotonicTime() func() time.Duration {
	start := time.Now()
	return func() time.Duration { return time.Since(start) }
}
