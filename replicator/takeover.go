package replicator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/wire"
)

// takeoverSlots is how many shards are fenced at a time: enough to hide the latency of requests, too few to overload a coordinator.
const takeoverSlots = 8

// takeovers is the queue of requested takeovers. Each shard is in it at most once.
type takeovers struct {
	queue              chan *shard
	slots              *semaphore.Weighted
	shardZeroConfirmed atomic.Int64 // the instant at which ownership of shard 0 was last confirmed
}

func newTakeovers(shards int32) takeovers {
	return takeovers{queue: make(chan *shard, shards), slots: semaphore.NewWeighted(takeoverSlots)}
}

// takeoverLoop runs the requested takeovers, several at a time, and renews the transactional ids every day.
func (f *Flow) takeoverLoop(ctx context.Context) {
	renew := time.NewTicker(renewEvery)
	defer renew.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-renew.C:
			for _, s := range f.shards {
				s.renew()
			}
		case s := <-f.takeovers.queue:
			f.background.Go(func() {
				if err := f.takeOverWithRetry(ctx, s); err != nil && ctx.Err() == nil {
					f.fail(err)
				}
			})
		}
	}
}

// renewEvery is far below transactional.id.expiration.ms (7 days by default). A coordinator that has forgotten a transactional id assigns a
// new producer id, which fences no earlier owner.
const renewEvery = 24 * time.Hour

// renew uses the shard's transactional id, by a fence of its journal partition only.
func (s *shard) renew() {
	s.mu.Lock()
	s.ownership.doubt()
	s.mu.Unlock()
	s.flow.requestTakeover(s)
}

// requestTakeover requests a takeover of the shard, unless one is already requested and has not started. It never blocks.
func (f *Flow) requestTakeover(s *shard) {
	if s.ownership.request() {
		f.takeovers.queue <- s // never blocks: the queue has room for one request of each shard
	}
}

// takeOverWithRetry takes a shard over. It retries with backoff for as long as it takes, because a takeover is the only way to resolve an
// unknown outcome. It returns a fatal error, or nil if the takeover succeeded or the flow stops.
func (f *Flow) takeOverWithRetry(ctx context.Context, s *shard) error {
	for attempt := 0; ; attempt++ {
		if err := f.takeovers.slots.Acquire(ctx, 1); err != nil {
			return nil //nolint:nilerr // ctx ended: the flow stops
		}
		s.ownership.begin()
		began := time.Now()
		err := f.takeOver(ctx, s)
		if err == nil {
			f.metrics.takeovers.WithLabelValues("done").Inc()
			f.metrics.takeoverSeconds.Observe(time.Since(began).Seconds())
			s.setProblem("")
			return nil
		}
		if isFatal(err) || ctx.Err() != nil {
			return err
		}
		if errors.Is(err, errNotYet) {
			f.refreshTarget(ctx)
			if err := client.Sleep(ctx, client.Backoff(min(attempt, 2))); err != nil {
				return nil //nolint:nilerr // ctx ended: the flow stops
			}
			continue
		}
		f.metrics.takeovers.WithLabelValues("failed").Inc()
		s.setProblem(fmt.Sprintf("shard %d: %v", s.number, err))
		f.warn("takeover failed, retrying", "shard", s.number, "err", err)
		f.refreshTarget(ctx)
		if err := client.Sleep(ctx, client.Backoff(attempt)); err != nil {
			return nil //nolint:nilerr // ctx ended: the flow stops
		}
	}
}

// errNotYet means that a shard cannot be taken over yet, which is no reason for a warning.
var errNotYet = errors.New("not yet")

// ownsShardZero confirms that this process owns shard 0, by a journal write. The first fence of a process names no producer id and fences
// any owner, so two processes that start at the same time could fence each other on different shards, and both would stop. Shard 0 is
// therefore taken over first, and its ownership is confirmed again before each of the others is. A process that has lost shard 0 takes over
// no more.
func (f *Flow) ownsShardZero() bool {
	zero := f.shards[0]
	began := f.lease.now()
	if last := f.takeovers.shardZeroConfirmed.Load(); last > 0 && began.sub(instant(last)) < refreshEvery {
		return true
	}
	zero.mu.Lock()
	defer zero.mu.Unlock()
	if confirmed, err := f.journalShard(zero, f.ownerNow()); err != nil || !confirmed {
		return false
	}
	f.takeovers.shardZeroConfirmed.Store(int64(began))
	return true
}

// isHosted reports whether the leader of a target partition has created its log. Metadata and the transaction coordinator know a new
// partition before that. A marker sent in the meantime is delayed for request.timeout.ms (30 s), together with all other markers of that
// coordinator.
func (f *Flow) isHosted(ctx context.Context, tp offsets.TopicPartition) bool {
	leader := f.targetLeader(tp)
	if leader < 0 {
		return false
	}
	_, err := wire.ListOffset(ctx, f.target, leader, tp, wire.Latest)
	return err == nil
}

// busiestFirst returns the shards ordered by their number of partitions, so that those with the most to copy are taken over first.
func (f *Flow) busiestFirst() []*shard {
	shards := slices.Clone(f.shards)
	slices.SortStableFunc(shards, func(a, b *shard) int { return cmp.Compare(len(b.members()), len(a.members())) })
	return shards
}
