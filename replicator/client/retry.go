package client

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff grows from 20 ms to 1 s with the number of tries. Half of it is random, so that shards do not knock together.
func Backoff(attempt int) time.Duration {
	d := 20 * time.Millisecond << min(attempt, 6)
	d = min(d, time.Second)
	return d/2 + rand.N(d/2)
}

// Sleep waits unless ctx ends first.
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
