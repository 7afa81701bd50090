package replicator

import (
	"context"
	"sync"
	"time"
)

// lease limits how long this process may produce without confirming that it is still the owner. Fencing normally makes the broker reject
// late writes. But a broker dates a producer by the timestamps of its records, and forgets a producer of old records within minutes. So a
// process that was paused must also stop on its own: once its last confirmation is older than the lease, it sends nothing until the next
// one.
type lease struct {
	length time.Duration

	mu        sync.Mutex
	confirmed time.Time     // when the request of the newest confirmation was sent
	changed   chan struct{} // closed and replaced at each confirmation
}

func newLease(length time.Duration) *lease {
	return &lease{length: length, changed: make(chan struct{})}
}

// confirm records that this process was the owner at a time. That is when the request was sent, because its response may be delayed.
func (l *lease) confirm(at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at.After(l.confirmed) {
		l.confirmed = at
		close(l.changed)
		l.changed = make(chan struct{})
	}
}

// left returns the remaining time of the lease, zero or less if it has expired.
func (l *lease) left() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.length - time.Since(l.confirmed)
}

// wait blocks while the lease is expired.
func (l *lease) wait(ctx context.Context) error {
	for {
		l.mu.Lock()
		valid, changed := time.Since(l.confirmed) < l.length, l.changed
		l.mu.Unlock()
		if valid {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
