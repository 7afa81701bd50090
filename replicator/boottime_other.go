//go:build !linux

package replicator

import "time"

// bootTime returns a clock that reads Go's monotonic time, because not every system has a clock that runs while the host sleeps. The wall
// clock shows a sleep too.
func bootTime() func() time.Duration { return monotonicTime() }
