package replicator

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// lease limits how long this process may write to the target without confirming that it is still the owner. Fencing normally makes the
// broker reject late writes. But a broker dates a producer by the timestamps of its records, and forgets a producer of old records within
// minutes. So a process that was paused must also stop on its own: once its last confirmation is older than the lease, it writes nothing
// until the next one.
//
// A pause may fall between any two instructions. So the lease is not only awaited before a batch is chosen: permit looks at it again for
// every part of a request, when its bytes are handed to the kernel.
type lease struct {
	length time.Duration
	now    func() instant

	mu        sync.Mutex
	confirmed instant       // when the request of the newest confirmation was sent; zero before the first one, and once it is lost
	lost      instant       // when it was last known that this process is not the owner; confirmations from before count no more
	changed   chan struct{} // closed and replaced at each confirmation
}

func newLease(length time.Duration, now func() instant) *lease {
	return &lease{length: length, now: now, changed: make(chan struct{})}
}

// confirm records that this process was the owner at an instant. That is when the request was sent, because its response may be delayed.
func (l *lease) confirm(at instant) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at > l.confirmed && at > l.lost {
		l.confirmed = at
		close(l.changed)
		l.changed = make(chan struct{})
	}
}

// lose records that this process is not the owner: others may be, so nothing is sent until a later request confirms the lease.
func (l *lease) lose() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.confirmed, l.lost = 0, l.now()
}

// holds reports whether this process may write.
func (l *lease) holds() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.confirmed > 0 && l.now().sub(l.confirmed) < l.length
}

// confirmedSince reports whether a request that was sent at an instant or later confirmed the lease.
func (l *lease) confirmedSince(at instant) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.confirmed >= at
}

// wait blocks while the lease is expired.
func (l *lease) wait(ctx context.Context) error {
	for {
		l.mu.Lock()
		changed := l.changed
		l.mu.Unlock()
		if l.holds() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// errLeaseExpired means that a request was not sent, because this process may not be the owner any more.
var errLeaseExpired = errors.New("not sent: the lease has expired, so another instance may have taken over")

// permit refuses requests that only the owner may send while the lease is expired. It is a [client.Guard]. What every process may do, such
// as creating a topic, needs no lease, and the requests of a fence must not need it, because a fence confirms the lease again.
func (l *lease) permit(key kmsg.Key) error {
	ownersOnly := key == kmsg.Produce || key == kmsg.OffsetCommit || key == kmsg.CreateACLs || key == kmsg.DeleteACLs
	if ownersOnly && !l.holds() {
		return errLeaseExpired
	}
	return nil
}
