package replicator

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/milena-kafka/milena/replicator/wire"
)

// LeastShare is the least number of bytes that a loop requests at a time, unless a quota demands less, or there are very many loops. SmallestShare is
// the least then: a broker exceeds it if a batch is larger (KIP-74).
const leastShare, smallestShare = 256 << 10, 16 << 10

// reserve reserves the bytes of the next request, over a line with a round-trip time.
func (b *sourceBroker) reserve(ctx context.Context, trip time.Duration) (share int64, err error) {
	b.pulse.rest()
	defer b.pulse.work()
	least, most := b.flow.fetchShare(trip)
	share, err = b.flow.reserveFetch(ctx, least, int64(b.pace.Of(int(b.appetite.of(least, most)))))
	if err == nil {
		b.reserved.Store(share)
	}
	return share, err
}

// fetchShare returns the bytes that one loop may request at a time over a line with a round-trip time, from the least to the most. The loops that need
// much divide half of the budget, less what those that were alone before still wait for, and what all of them need at least is a quarter of it: so
// requests that wait for a broker leave room for what others answer.
func (f *Flow) fetchShare(trip time.Duration) (least, most int64) {
	t := &f.topology
	t.mu.Lock()
	loops, large := int64(max(1, len(t.sourceBrokers))), int64(0)
	for _, b := range t.sourceBrokers {
		if b.appetite.isLarge() {
			large++
		}
	}
	least = max(smallestShare, min(leastShare, f.budget.size()/(4*loops)))
	left := f.budget.size() / 2
	for _, b := range t.sourceBrokers {
		left -= max(0, b.reserved.Load()-least)
	}
	t.mu.Unlock()
	return least, max(least, min(wire.MaxFetchBytes+2*(aheadOf(trip)-partitionBytes), f.budget.size()/(2*max(1, large)), least+left))
}

// reserveFetch reserves the bytes of a fetch from the budget: a power of two, as far as that leaves the least. Responses then have few sizes, and their
// buffers can be used again.
func (f *Flow) reserveFetch(ctx context.Context, least, most int64) (int64, error) {
	share, err := f.budget.reserveUpTo(ctx, min(most, least), most)
	if even := powerOfTwo(share+1) / 2; err == nil && even >= least {
		f.budget.add(even - share)
		share = even
	}
	return share, err
}

// appetite is how many bytes a loop requests at a time, as far as its last responses show: where little is written, the budget is left to other loops.
// The zero appetite is the least.
type appetite struct{ bytes atomic.Int64 }

// of returns how many bytes to request.
func (a *appetite) of(least, most int64) int64 { return min(max(a.bytes.Load(), least), most) }

// forget makes it the least.
func (a *appetite) forget() { a.bytes.Store(0) }

// isLarge reports whether the loop needs more than the least.
func (a *appetite) isLarge() bool { return a.bytes.Load() > leastShare }

// fed records the size of a response and how many bytes it could have had. Over a long line it takes a round trip each time to grow, so it grows fast.
func (a *appetite) fed(held, share int64) {
	switch {
	case 2*held >= share:
		a.bytes.Store(min(4*share, wire.MaxFetchBytes+2*maxAhead))
	case 8*held < share:
		a.bytes.Store(share / 2)
	}
}
