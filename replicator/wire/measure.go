package wire

import (
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// roundTrip estimates the round-trip time of a line: the shortest time between the end of a request and the start of its response lately, of requests
// that wait for no other. The versions, which every connection requests first, are answered at once. Without new requests, the estimate stays.
type roundTrip struct {
	mu          sync.Mutex
	now, before time.Duration // shortest of this window and of the one before it; 0 if there is none
	since       time.Time     // start of the window
}

// tripWindow is how long the shortest time counts, once or twice. The way between two clusters seldom changes.
const tripWindow = time.Minute

func (t *roundTrip) add(at time.Time, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.since.IsZero() || at.Sub(t.since) > tripWindow {
		t.before, t.now, t.since = t.now, 0, at
	}
	if t.now == 0 || took < t.now {
		t.now = max(took, 1)
	}
}

// lower lowers the estimate, if there is one.
func (t *roundTrip) lower(took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now > 0 && took < t.now {
		t.now = max(took, 1)
	}
}

// get returns the estimate, 0 if there is none.
func (t *roundTrip) get() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.before > 0 && (t.now == 0 || t.before < t.now) {
		return t.before
	}
	return t.now
}

// hookWrite tells the hooks about a request that could not be written.
func (l *line) hookWrite(c call, err error) {
	l.hook(c, kgo.BrokerE2E{WriteErr: err})
}

// hookRead tells the hooks about a request and its response.
func (l *line) hookRead(c call, arrived time.Time, size int, throttled int32) {
	e2e := kgo.BrokerE2E{BytesWritten: c.size, BytesRead: size, TimeToRead: time.Since(arrived)}
	if !c.written.IsZero() { // else the response has overtaken the note that the request was written
		e2e.TimeToWrite, e2e.ReadWait = c.written.Sub(c.began), max(0, arrived.Sub(c.written))
	}
	l.hook(c, e2e)
	if throttled <= 0 {
		return
	}
	for _, h := range l.access.Hooks {
		if h, ok := h.(kgo.HookBrokerThrottle); ok {
			h.OnBrokerThrottle(l.meta, time.Duration(throttled)*time.Millisecond, c.throttlesAfterwards())
		}
	}
}

func (l *line) hook(c call, e2e kgo.BrokerE2E) {
	for _, h := range l.access.Hooks {
		if h, ok := h.(kgo.HookBrokerE2E); ok {
			h.OnBrokerE2E(l.meta, c.key.Int16(), e2e)
		}
	}
}

// throttlesAfterwards reports whether the broker answers a fetch or produce request before it throttles (KIP-219), and not after.
func (c *call) throttlesAfterwards() bool {
	if c.key == kmsg.Produce {
		return c.version >= 6
	}
	return c.version >= 8
}
