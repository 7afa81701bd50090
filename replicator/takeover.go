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

// takeoverSlots is how many shards are fenced at a time: enough to hide round trips, few enough not to flood a coordinator.
const takeoverSlots = 8

// takeovers are the shards that wait to be taken over, each once.
type takeovers struct {
	queue          chan *shard
	slots          *semaphore.Weighted
	firstConfirmed atomic.Int64 // when ownership of shard 0 was last confirmed, in Unix nanoseconds
}

func newTakeovers(shards int32) takeovers {
	return takeovers{queue: make(chan *shard, shards), slots: semaphore.NewWeighted(takeoverSlots)}
}

// takeOverLoop runs the take-overs that partitions and journal writes ask for, several shards at a time. A take-over that fails is
// tried again with backoff: it is the one way out of every doubt, so it must not give up.
func (f *Flow) takeOverLoop(ctx context.Context) {
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
				if err := f.takeOverUntilDone(ctx, s); err != nil && ctx.Err() == nil {
					f.fail(err)
				}
			})
		}
	}
}

// renewEvery is far below transactional.id.expiration.ms (7 days): a coordinator that forgot a transactional id would give out a new
// producer id, which fences nobody.
const renewEvery = 24 * time.Hour

// renew uses the shard's transactional id with a fence of its journal partition alone.
func (s *shard) renew() {
	s.mu.Lock()
	s.ownership.doubt()
	s.mu.Unlock()
	s.flow.requestTakeover(s)
}

// requestTakeover asks for a take-over of the shard. It never blocks: one that is asked for and not begun covers everything.
func (f *Flow) requestTakeover(s *shard) {
	if s.ownership.request() {
		f.takeovers.queue <- s // as many places as shards, one request each
	}
}

func (f *Flow) takeOverUntilDone(ctx context.Context, s *shard) error {
	for attempt := 0; ; attempt++ {
		if err := f.takeovers.slots.Acquire(ctx, 1); err != nil {
			return nil //nolint:nilerr // ctx ended: the flow stops
		}
		s.ownership.begin()
		began := time.Now()
		err := f.takeOver(ctx, s)
		if err == nil {
			f.metrics.takeOvers.WithLabelValues("done").Inc()
			f.metrics.takeOverSeconds.Observe(time.Since(began).Seconds())
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
		f.metrics.takeOvers.WithLabelValues("failed").Inc()
		s.setProblem(fmt.Sprintf("shard %d: %v", s.number, err))
		f.warn("take-over", "shard", s.number, "err", err)
		f.refreshTarget(ctx)
		if err := client.Sleep(ctx, client.Backoff(attempt)); err != nil {
			return nil //nolint:nilerr // ctx ended: the flow stops
		}
	}
}

// errNotYet says that a shard cannot be taken over at this moment, which is nothing to warn of.
var errNotYet = errors.New("not yet")

// ownsFirst says whether this process owns shard 0 just now. A first fence names no owner and fences anybody, so two processes that start
// at the same moment could fence each other on different shards, and both would stop. Shard 0 is therefore taken first, and confirmed again
// and again while the others are taken: who has lost it takes no more.
func (f *Flow) ownsFirst(ctx context.Context) bool {
	zero := f.shards[0]
	if time.Since(time.Unix(0, f.takeovers.firstConfirmed.Load())) < refreshEvery {
		return true
	}
	zero.mu.Lock()
	defer zero.mu.Unlock()
	confirmed, began := false, time.Now()
	if err := f.journalShard(ctx, zero, f.ownerNow(), &confirmed); err != nil || !confirmed {
		return false
	}
	f.takeovers.firstConfirmed.Store(began.UnixNano())
	return true
}

// hosted says whether the leader of a target partition really has it. Metadata and the transaction coordinator know a new partition before
// its broker has made the log; a marker that is sent meanwhile is held up for request.timeout.ms (30 s), and with it all others of that
// coordinator.
func (f *Flow) hosted(ctx context.Context, tp offsets.TopicPartition) bool {
	leader := f.targetLeader(tp)
	if leader < 0 {
		return false
	}
	_, err := wire.ListOffset(ctx, f.target, leader, tp, wire.Latest)
	return err == nil
}

// busyFirst orders the shards so that those with something to copy are taken over first.
func (f *Flow) busyFirst() []*shard {
	shards := slices.Clone(f.shards)
	slices.SortStableFunc(shards, func(a, b *shard) int { return cmp.Compare(len(b.members()), len(a.members())) })
	return shards
}
