package replicator

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// budget limits the bytes of batches that a flow holds. A fetch loop reserves bytes before it sends a request and returns those that the
// response did not need. The rest is returned when the last batch of the response is done.
type budget struct {
	short func() // called while a reservation waits for longer than shortAfter; it may return bytes. Nil for none

	mu    sync.Mutex
	limit int64
	used  int64
	freed chan struct{} // closed and replaced whenever bytes are returned
	eased time.Time     // when short was called last
}

func newBudget(limit int64) *budget {
	return &budget{limit: limit, freed: make(chan struct{})}
}

// shortAfter is how long a reservation waits before the budget counts as short.
const shortAfter = 50 * time.Millisecond

// reserveUpTo blocks until the least number of bytes fits, or until nothing else is held: a response that is larger than the whole budget must not
// block forever. It reserves up to the most if they fit, and returns how many. So what is queued for brokers that hang, which is at most what is
// free, leaves something for the others.
func (b *budget) reserveUpTo(ctx context.Context, least, most int64) (int64, error) {
	var tick *time.Ticker
	var short <-chan time.Time
	for {
		b.mu.Lock()
		if b.used == 0 || b.used+least <= b.limit {
			n := max(least, min(most, b.limit-b.used))
			b.used += n
			b.mu.Unlock()
			return n, nil
		}
		freed := b.freed
		b.mu.Unlock()
		if tick == nil && b.short != nil {
			tick = time.NewTicker(shortAfter)
			defer tick.Stop()
			short = tick.C
		}
		select {
		case <-freed:
		case <-short:
			b.ease()
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// ease calls short, once for all reservations that wait.
func (b *budget) ease() {
	b.mu.Lock()
	due := time.Since(b.eased) >= shortAfter
	if due {
		b.eased = time.Now()
	}
	b.mu.Unlock()
	if due {
		b.short()
	}
}

// setLimit sets another limit. What is held above it stays held until it is returned.
func (b *budget) setLimit(limit int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.limit = limit
	close(b.freed)
	b.freed = make(chan struct{})
}

// size returns the limit.
func (b *budget) size() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.limit
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

// free returns how many bytes are not held, at least 0.
func (b *budget) free() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(0, b.limit-b.used)
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
	free   func() // called when nothing refers to the memory any more; nil if the garbage collector frees it
	refs   atomic.Int32
	live   atomic.Int64 // bytes of the batches that are not done
}

// newSlab returns a slab for bytes that are already reserved. The caller holds the first reference, which is dropped with drop.
func newSlab(b *budget, bytes int64, free func()) *slab {
	s := &slab{budget: b, bytes: bytes, free: free}
	s.refs.Store(1)
	return s
}

// newOwnSlab returns a slab of one batch, which is added to the budget.
func newOwnSlab(b *budget, size int) *slab {
	b.add(int64(size))
	s := newSlab(b, int64(size), nil)
	s.live.Store(int64(size))
	return s
}

// keep adds a reference, for as long as the memory is read.
func (s *slab) keep() { s.refs.Add(1) }

// drop drops a reference. With the last one, the bytes return to the budget.
func (s *slab) drop() {
	if s.refs.Add(-1) == 0 {
		s.budget.add(-s.bytes)
		if s.free != nil {
			s.free()
		}
	}
}

// hold adds a reference for a batch of this size.
func (s *slab) hold(size int) {
	s.live.Add(int64(size))
	s.keep()
}

// release drops the reference of a batch of this size.
func (s *slab) release(size int) {
	s.live.Add(-int64(size))
	s.drop()
}

// isWasteful reports whether most of the slab is held for less than half of its bytes. To copy the rest out then frees more than it takes.
func (s *slab) isWasteful() bool { return 2*s.live.Load() < s.bytes }

// compactQueues lets the queues hold no more memory than their batches need. It is called while the budget is short: a batch that waits
// for a slow broker must not hold the whole response that it came in.
func (f *Flow) compactQueues() {
	for _, p := range f.partitions() {
		p.mu.Lock()
		p.outbox.compact(f.budget)
		p.mu.Unlock()
	}
}
