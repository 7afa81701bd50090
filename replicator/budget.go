package replicator

import (
	"context"
	"sync"
	"sync/atomic"
)

// budget bounds the bytes of batches that a flow holds. A fetch loop reserves before it asks, gives back what the answer did not
// use, and the rest comes back when the last batch of the answer is acknowledged.
type budget struct {
	limit int64
	mu    sync.Mutex
	used  int64
	freed chan struct{} // closed and replaced whenever bytes come back
}

func newBudget(limit int64) *budget {
	return &budget{limit: limit, freed: make(chan struct{})}
}

// reserve blocks until n bytes fit, or nothing else is held: a single answer larger than the whole budget must not block for ever.
func (b *budget) reserve(ctx context.Context, n int64) error {
	for {
		b.mu.Lock()
		if b.used == 0 || b.used+n <= b.limit {
			b.used += n
			b.mu.Unlock()
			return nil
		}
		freed := b.freed
		b.mu.Unlock()
		select {
		case <-freed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// add changes what is held without waiting: up for batches that were rebuilt larger, down for bytes that came back.
func (b *budget) add(n int64) {
	if n == 0 {
		return
	}
	b.mu.Lock()
	b.used += n
	if n < 0 {
		close(b.freed)
		b.freed = make(chan struct{})
	}
	b.mu.Unlock()
}

func (b *budget) held() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// slab is the body of one fetch response. Every batch of it aliases the same memory, so the bytes count as held until the last of
// its batches is done: counting per batch would let slow partitions pin far more memory than the budget says.
type slab struct {
	budget *budget
	bytes  int64
	refs   atomic.Int32
}

// newSlab takes over bytes that are already reserved and starts with the caller's own reference.
func newSlab(b *budget, bytes int64) *slab {
	s := &slab{budget: b, bytes: bytes}
	s.refs.Store(1)
	return s
}

func (s *slab) hold() { s.refs.Add(1) }

func (s *slab) release() {
	if s.refs.Add(-1) == 0 {
		s.budget.add(-s.bytes)
	}
}
