package client

import (
	"context"
	"sync"
	"time"
)

// Mutes are the brokers that read nothing from one connection for a while, because of a quota (KIP-219). A request that is given to the client
// earlier waits there, with what was decided when it was built: its batches, and the lease that allowed it. So it is built afterwards. The zero
// Mutes has none. Mutes is safe for concurrent use.
type Mutes struct {
	mu    sync.Mutex
	until map[int32]time.Time
}

// Answered records the throttle time of a response, in milliseconds.
func (m *Mutes) Answered(broker, throttleMillis int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if throttleMillis <= 0 {
		return
	}
	if m.until == nil {
		m.until = make(map[int32]time.Time)
	}
	m.until[broker] = time.Now().Add(time.Duration(throttleMillis) * time.Millisecond)
}

// Wait blocks until the broker reads the connection, or ctx ends.
func (m *Mutes) Wait(ctx context.Context, broker int32) error {
	m.mu.Lock()
	until := m.until[broker]
	m.mu.Unlock()
	if d := time.Until(until); d > 0 {
		return Sleep(ctx, d)
	}
	return ctx.Err()
}
