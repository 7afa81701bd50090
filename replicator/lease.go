package replicator

import (
	"context"
	"sync"
	"time"
)

// lease is this process's own clock of ownership. The broker's fence is what makes late writes impossible; but a broker forgets a
// producer whose records are old (it dates producers by their records' timestamps), so a process that was paused must also stop by
// itself: whoever could not confirm for one lease sends nothing until it has.
type lease struct {
	length time.Duration

	mu        sync.Mutex
	confirmed time.Time     // when the last successful confirmation was begun
	changed   chan struct{} // closed and replaced at each confirmation
}

func newLease(length time.Duration) *lease {
	return &lease{length: length, changed: make(chan struct{})}
}

// confirm notes that ownership held at a moment: the moment the request was begun, as the answer may be old.
func (l *lease) confirm(at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at.After(l.confirmed) {
		l.confirmed = at
		close(l.changed)
		l.changed = make(chan struct{})
	}
}

// left is what remains of the lease; zero or less when it has run out.
func (l *lease) left() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.length - time.Since(l.confirmed)
}

// wait blocks while the lease has run out.
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
