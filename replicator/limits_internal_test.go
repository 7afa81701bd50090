package replicator

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// reserve reserves exactly n bytes.
func reserve(ctx context.Context, b *budget, n int64) error {
	_, err := b.reserveUpTo(ctx, n, n)
	return err
}

func TestBudgetBlocksUntilBytesAreReturned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(100)
		if err := reserve(t.Context(), b, 60); err != nil {
			t.Fatal(err)
		}
		var reserved atomic.Bool
		go func() {
			if reserve(t.Context(), b, 60) == nil {
				reserved.Store(true)
			}
		}()
		synctest.Wait()
		if reserved.Load() {
			t.Fatal("120 of 100 bytes are reserved")
		}
		b.add(-10)
		synctest.Wait()
		if reserved.Load() {
			t.Fatal("110 of 100 bytes are reserved")
		}
		b.add(-10)
		synctest.Wait()
		if !reserved.Load() || b.held() != 100 {
			t.Fatalf("reserved: %v, held: %d, although the bytes were returned", reserved.Load(), b.held())
		}
	})
}

func TestBudgetAllowsAnOversizedReservationAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(100)
		if err := reserve(t.Context(), b, 250); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := reserve(ctx, b, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("beside an oversized reservation: %v", err)
		}
		if b.held() != 250 {
			t.Fatalf("%d bytes are held after a reservation that was cancelled", b.held())
		}
	})
}

func TestSlabCountsUntilItsLastBatchIsDone(t *testing.T) {
	b, freed := newBudget(100), 0
	b.add(80)
	s := newSlab(b, 80, func() { freed++ })
	s.hold(10)
	s.hold(10)
	for n := range 2 {
		s.release(0)
		if b.held() != 80 || freed > 0 {
			t.Fatalf("%d bytes are held after %d of 3 releases", b.held(), n+1)
		}
	}
	s.release(0)
	if b.held() != 0 || freed != 1 {
		t.Fatalf("%d bytes are held at the end, the memory was freed %d times", b.held(), freed)
	}
}

func TestLeaseExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClock(monotonicTime(), time.Now)
		ago := func(d time.Duration) instant { return c.now() - instant(d) }
		time.Sleep(time.Minute) // of the bubble's clock: instants before now
		l := newLease(10*time.Second, c.now)
		if l.holds() {
			t.Fatal("a lease that was never confirmed is valid")
		}
		l.confirm(c.now())
		if err := l.wait(t.Context()); err != nil || !l.holds() {
			t.Fatalf("wait: %v, holds: %v", err, l.holds())
		}
		time.Sleep(10*time.Second - 1)
		if !l.holds() {
			t.Fatal("the lease ends before its time")
		}
		time.Sleep(time.Nanosecond)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := l.wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("wait returned %v after the lease expired", err)
		}
		var sent atomic.Bool
		go func() {
			if l.wait(t.Context()) == nil {
				sent.Store(true)
			}
		}()
		l.confirm(ago(10 * time.Second)) // its response took as long as the lease
		synctest.Wait()
		if sent.Load() {
			t.Fatal("a confirmation counts from when its request was sent")
		}
		l.confirm(ago(4 * time.Second))
		synctest.Wait()
		if !sent.Load() {
			t.Fatal("nothing is sent after a confirmation that took 4 s")
		}
		l.confirm(ago(9 * time.Second)) // an older confirmation that arrives late
		time.Sleep(6*time.Second - 1)
		if !l.holds() {
			t.Fatal("an older confirmation shortened the lease")
		}
		time.Sleep(time.Nanosecond)
		if l.holds() {
			t.Fatal("the lease holds 10 s after the request of its last confirmation")
		}
	})
}

// While the host sleeps, Go's clock stands still. While a hypervisor keeps the machine paused, the time since boot does, too, and the wall
// clock is corrected later.
func TestLeaseExpiresWhileTheHostSleeps(t *testing.T) {
	for name, tt := range map[string]struct {
		boot, wall time.Duration // by which the clocks jump
		holds      bool
	}{
		"the host slept":                      {boot: time.Hour, wall: time.Hour},
		"the wall clock is not corrected yet": {boot: time.Hour},
		"the machine was paused":              {wall: time.Hour},
		"the wall clock was set back":         {wall: -time.Hour, holds: true},
		"slept, and the clock was set back":   {boot: time.Hour, wall: -time.Hour},
		"a moment":                            {boot: time.Second, wall: time.Second, holds: true},
	} {
		t.Run(name, func(t *testing.T) {
			boot, wall := time.Duration(0), time.Unix(1e9, 0)
			c := newClock(func() time.Duration { return boot }, func() time.Time { return wall })
			l := newLease(10*time.Second, c.now)
			l.confirm(c.now())
			boot, wall = boot+tt.boot, wall.Add(tt.wall)
			if l.holds() != tt.holds {
				t.Errorf("the lease holds: %v", l.holds())
			}
			for _, key := range []kmsg.Key{kmsg.Produce, kmsg.OffsetCommit, kmsg.CreateACLs, kmsg.DeleteACLs} {
				if err := l.permit(key); (err == nil) != tt.holds {
					t.Errorf("%s: %v", key.Name(), err)
				}
			}
			for _, key := range []kmsg.Key{kmsg.InitProducerID, kmsg.AddPartitionsToTxn, kmsg.EndTxn, kmsg.Metadata, kmsg.Fetch} {
				if err := l.permit(key); err != nil {
					t.Errorf("a fence needs %s, and was refused: %v", key.Name(), err)
				}
			}
		})
	}
}

// A wall clock that goes wrong once must not lengthen later leases.
func TestClockRunsAfterTheWallClockWasSetForwardAndBack(t *testing.T) {
	boot, wall := time.Duration(0), time.Unix(1e9, 0)
	c := newClock(func() time.Duration { return boot }, func() time.Time { return wall })
	wall = wall.Add(time.Hour)
	c.now()
	wall = wall.Add(-time.Hour)
	l := newLease(10*time.Second, c.now)
	l.confirm(c.now())
	boot, wall = boot+10*time.Second, wall.Add(10*time.Second)
	if l.holds() {
		t.Error("the clock stands still until the wall clock is where it was")
	}
}

func TestBootTimeRuns(t *testing.T) {
	for name, read := range map[string]func() time.Duration{"boot": bootTime(), "monotonic": monotonicTime()} {
		if before := read(); before <= 0 || read() < before {
			t.Errorf("%s time goes from %v to %v", name, before, read())
		}
	}
}
