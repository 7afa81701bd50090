package client

import (
	"context"
	"sync"
	"time"
)

// Mute is until when a broker reads nothing from a connection, because of a quota (KIP-219). A request that is given to the client earlier waits
// there, with what was decided when it was built: its batches, and the lease that allowed it. So that is decided afterwards. The zero Mute is over.
// Mute is safe for concurrent use.
type Mute struct {
	mu    sync.Mutex
	until time.Time
}

// Answered records the throttle time of a response, in milliseconds.
func (m *Mute) Answered(throttleMillis int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if until := time.Now().Add(time.Duration(throttleMillis) * time.Millisecond); throttleMillis > 0 && until.After(m.until) {
		m.until = until
	}
}

// Left returns how much longer the mute lasts, at most 0 if it is over.
func (m *Mute) Left() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Until(m.until)
}

// Wait blocks until the broker reads the connection, or ctx ends.
func (m *Mute) Wait(ctx context.Context) error {
	if d := m.Left(); d > 0 {
		return Sleep(ctx, d)
	}
	return ctx.Err()
}
