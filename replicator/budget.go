package replicator

import (
	"context"
	"sync"
	"sync/atomic"
)

// budget limits the bytes of batches that a flow holds. A fetch loop reserves bytes before it sends a request and returns those that the
// response did not need. The rest is returned when the last batch of the response is done.
type budget struct {
	limit int64
	mu    sync.Mutex
	used  int64
	freed chan struct{} // closed and replaced whenever bytes are returned
}

func newBudget(limit int64) *budget {
	return &budget{limit: limit, freed: make(chan struct{})}
}

// reserve blocks until n bytes fit, or until nothing else is held: a response that is larger than the whole budget must not block forever.
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

// add changes the bytes held, without blocking. N is positive for rebuilt batches and negative for bytes that are returned.
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

// slab is the body of one fetch response. All its batches share the same memory, so its bytes count as held until the last batch is done.
// If bytes were counted per batch, slow partitions could keep far more memory in use than the budget allows.
type slab struct {
	budget *budget
	bytes  int64
	refs   atomic.Int32
}

// newSlab returns a slab for bytes that are already reserved. The caller holds the first reference.
func newSlab(b *budget, bytes int64) *slab {
	s := &slab{budget: b, bytes: bytes}
	s.refs.Store(1)
	return s
}

// hold adds a reference.
func (s *slab) hold() { s.refs.Add(1) }

// release drops a reference. With the last one, the bytes return to the budget.
func (s *slab) release() {
	if s.refs.Add(-1) == 0 {
		s.budget.add(-s.bytes)
	}
}
