package client

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff grows with the number of attempts, up to 1 s. Half of it is random, so that shards do not retry in lockstep.
func Backoff(attempt int) time.Duration {
	d := 20 * time.Millisecond << min(attempt, 6)
	d = min(d, time.Second)
	return d/2 + rand.N(d/2)
}

// Sleep blocks for d. It returns the error of ctx if ctx ends first.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Every calls do once per interval, with the time, until ctx ends. It blocks. A call that takes longer delays the next one.
func Every(ctx context.Context, interval time.Duration, do func(now time.Time)) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			do(now)
		}
	}
}

// Linger returns a context that ends a while after ctx does, for what should not be cut in the middle.
func Linger(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	lingering, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(d, cancel) })
	return lingering, func() {
		stop()
		cancel()
	}
}
