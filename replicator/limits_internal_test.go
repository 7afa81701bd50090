package replicator

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestBudgetBlocksUntilBytesAreReturned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(100)
		if err := b.reserve(t.Context(), 60); err != nil {
			t.Fatal(err)
		}
		var reserved atomic.Bool
		go func() {
			if b.reserve(t.Context(), 60) == nil {
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
		if err := b.reserve(t.Context(), 250); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := b.reserve(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("beside an oversized reservation: %v", err)
		}
		if b.held() != 250 {
			t.Fatalf("%d bytes are held after a reservation that was cancelled", b.held())
		}
	})
}

func TestSlabCountsUntilItsLastBatchIsDone(t *testing.T) {
	b := newBudget(100)
	b.add(80)
	s := newSlab(b, 80)
	s.hold()
	s.hold()
	for n := range 2 {
		s.release()
		if b.held() != 80 {
			t.Fatalf("%d bytes are held after %d of 3 releases", b.held(), n+1)
		}
	}
	s.release()
	if b.held() != 0 {
		t.Fatalf("%d bytes are held at the end", b.held())
	}
}

func TestLeaseExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLease(10 * time.Second)
		if l.left() > 0 {
			t.Fatal("a lease that was never confirmed is valid")
		}
		l.confirm(time.Now())
		if err := l.wait(t.Context()); err != nil || l.left() != 10*time.Second {
			t.Fatalf("wait: %v, left: %v", err, l.left())
		}
		time.Sleep(10 * time.Second) // of the bubble's clock
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
		l.confirm(time.Now().Add(-10 * time.Second)) // its response took as long as the lease
		synctest.Wait()
		if sent.Load() {
			t.Fatal("a confirmation counts from when its request was sent")
		}
		l.confirm(time.Now().Add(-4 * time.Second))
		synctest.Wait()
		if !sent.Load() || l.left() != 6*time.Second {
			t.Fatalf("sent: %v, left: %v after a confirmation that took 4 s", sent.Load(), l.left())
		}
		l.confirm(time.Now().Add(-9 * time.Second)) // an older confirmation that arrives late
		if l.left() != 6*time.Second {
			t.Fatalf("an older confirmation left %v", l.left())
		}
	})
}
