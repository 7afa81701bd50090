package replicator

import (
	"time"

	"golang.org/x/sys/unix"
)

// bootTime returns a clock that reads the time since boot, including the time during which the host slept.
func bootTime() func() time.Duration {
	return func() time.Duration {
		var t unix.Timespec
		_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) // never fails: Linux has this clock since 2.6.39
		return time.Duration(t.Nano())
	}
}
