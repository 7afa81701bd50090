package replicator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"golang.org/x/sync/semaphore"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/wire"
)

// TakeoverSlots is how many shards are fenced at a time: enough to hide the latency of requests, too few to overload a coordinator. Over a long line,
// where a fence takes half a second and more, farSlots are.
const takeoverSlots, farSlots = 8, 32

// takeovers is the queue of requested takeovers. Each shard is in it at most once.
type takeovers struct {
	queue              chan *shard
	slots              *semaphore.Weighted
	trip               atomic.Int64 // the shortest time in ns that a request of a takeover took, 0 before the first one
	shardZeroConfirmed atomic.Int64 // the instant at which ownership of shard 0 was last confirmed
}

func newTakeovers(shards int32) takeovers {
	return takeovers{queue: make(chan *shard, 2*shards), slots: semaphore.NewWeighted(farSlots)}
}

// slot returns how much of the slots a takeover takes.
func (t *takeovers) slot() int64 {
	if time.Duration(t.trip.Load()) >= longLine {
		return 1
	}
	return farSlots / takeoverSlots
}

// timed records how long a request took that is answered at once.
func (t *takeovers) timed(took time.Duration) {
	for last := t.trip.Load(); last == 0 || int64(took) < last; last = t.trip.Load() {
		if t.trip.CompareAndSwap(last, int64(took)) {
			return
		}
	}
}

// takeoverLoop starts the requested takeovers, and renews the transactional ids every day. It never waits for a shard.
func (f *Flow) takeoverLoop(ctx context.Context) {
	renew := time.NewTicker(renewEvery)
	defer renew.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-renew.C:
			for _, s := range f.held.all() {
				s.renew()
			}
		case s := <-f.takeovers.queue:
			f.background.Go(func() { s.tasks.run(ctx, func(ctx context.Context) error { return f.takeOver(ctx, s) }) })
		}
	}
}

// renewEvery is far below transactional.id.expiration.ms (7 days by default). A coordinator that has forgotten a transactional id assigns a
// new producer id, which fences no earlier owner.
const renewEvery = 24 * time.Hour

// renew uses the shard's transactional id, by a fence of its journal partition only.
func (s *shard) renew() {
	s.ownership.doubt()
	s.flow.requestTakeover(s)
}

// requestTakeover requests a takeover of the shard, unless it was given up. It never blocks.
func (f *Flow) requestTakeover(s *shard) {
	if !s.tasks.ended() && s.ownership.begin() {
		f.takeovers.queue <- s // never blocks: the queue has room for one request of each shard
	}
}

// takeOver fences a shard for as long as there are requests, and retries for as long as it takes, because a takeover is the only way to
// resolve an unknown outcome. What follows the fence may wait for markers and for the source, so it has a goroutine of its own, and does not
// delay the next fence of the shard. An error is fatal.
func (f *Flow) takeOver(ctx context.Context, s *shard) error {
	for failures := 0; ; {
		s.ownership.attend()
		began := time.Now()
		traced, end := f.span(ctx, "fence shard", attribute.Int("milena.shard", int(s.number)))
		r, err := f.fenceShard(traced, s)
		end(err)
		pause := time.Duration(0)
		switch {
		case err == nil:
			failures = 0
			f.background.Go(func() {
				s.tasks.run(f.soft, func(ctx context.Context) error { return f.recoverPartitions(ctx, r, began) }) // not ctx, which ends with the fence
			})
			if s.ownership.end() {
				return nil
			}
		case errors.Is(err, errEpochTaken):
			if err := f.reclaim(ctx, s, err); err != nil {
				return err
			}
			pause = client.Backoff(2)
		case isFatal(err) || ctx.Err() != nil:
			return err
		case errors.Is(err, errNotYet):
			f.refreshTargetSoon()
			pause = client.Backoff(2)
		default:
			failures++
			pause = f.takeoverFailed(s, failures, err)
		}
		if client.Sleep(ctx, pause) != nil {
			return nil //nolint:nilerr // ctx ended: the flow stops
		}
	}
}

// ownerPatience is how long a process that took over shard 0 may need to write its owner record: it reads the shard's journal before.
const ownerPatience = 30 * time.Second

// reclaim decides what a newer epoch of the shard's transactional id means. If the journal has another owner, that one has taken over: this is a
// FencedError. Otherwise the coordinator has raised the epoch itself, and the next fence names no producer id.
//
// While the group assigns the shards, the group decides instead.
func (f *Flow) reclaim(ctx context.Context, s *shard, cause error) error {
	if f.instance.isAssigned() {
		return f.reclaimAssigned(ctx, s, cause)
	}
	began := time.Now()
	for {
		owner, err := f.readOwner(ctx)
		switch {
		case f.instance.isAssigned():
			return nil // since the last fence; the next one asks the group
		case err != nil:
			f.warn("takeover failed, retrying", "shard", s.number, "err", fmt.Errorf("%w; who owns it is not known: %w", cause, err))
			return nil
		case owner != nil && !f.isThisProcess(owner):
			if f.instance.how() != alone {
				f.background.Go(f.yield) // which ends this takeover
				<-ctx.Done()
				return nil
			}
			return &FencedError{Flow: f.config.Name, Shard: s.number, By: describeOwner(owner), Cause: cause}
		case s.number > 0 || time.Since(began) > ownerPatience: // the owner record was written before the fence of another shard
			f.log.Info("the coordinator raised the epoch of a shard that no other instance owns, fencing again", "shard", s.number, "err", cause)
			if f.instance.how() != alone { // an instance that was assigned this shard alone writes no owner record there
				f.background.Go(func() { f.holdAnew(s) })
				<-ctx.Done()
				return nil
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.fencer.disown()
			return nil
		}
		if client.Sleep(ctx, 5*refreshEvery) != nil {
			return nil
		}
	}
}

// reclaimAssigned begins a shard anew if the group still assigns it to this process. Whoever fenced it has not been assigned it any more, as a
// process that was paused, but may have copied and journaled before it learned that. Otherwise the shard is going to be given up.
func (f *Flow) reclaimAssigned(ctx context.Context, s *shard, cause error) error {
	began := f.lease.now()
	f.confirmMembership(ctx)
	if !f.lease.confirmedSince(began) {
		f.warn("takeover failed, retrying", "shard", s.number, "err", fmt.Errorf("%w; the membership of group %s is not confirmed", cause, f.instance.group))
		return nil
	}
	f.log.Info("a shard was fenced, and the group still assigns it to this instance, taking it over again", "shard", s.number, "err", cause)
	f.background.Go(func() { f.holdAnew(s) }) // which ends this takeover
	<-ctx.Done()
	return nil
}

// recoverPartitions lets the partitions of a takeover continue. If that fails, it requests another takeover after a pause. An error is fatal.
func (f *Flow) recoverPartitions(ctx context.Context, r *recovery, began time.Time) error {
	s := r.shard
	traced, end := f.span(ctx, "recover partitions", attribute.Int("milena.shard", int(s.number)))
	err := r.reconcile(traced)
	end(err)
	switch {
	case err == nil:
		s.failures.Store(0)
		f.metrics.takeovers.WithLabelValues("done").Inc()
		f.metrics.takeoverSeconds.Observe(time.Since(began).Seconds())
		f.noteTakeover(r, time.Since(began))
		s.setProblem("")
	case isFatal(err) || ctx.Err() != nil:
		return err
	default:
		pause := f.takeoverFailed(s, int(s.failures.Add(1)), err)
		for _, p := range r.partitions() {
			p.delayFence(time.Now().Add(pause)) // whoever else requests a takeover
		}
		if client.Sleep(ctx, pause) == nil {
			f.requestTakeover(s)
		}
	}
	return nil
}

// takeoverFailed reports a failed takeover, and returns how long to wait before the next one.
func (f *Flow) takeoverFailed(s *shard, failures int, err error) time.Duration {
	f.metrics.takeovers.WithLabelValues("failed").Inc()
	if !errors.Is(err, errFenceWaits) {
		s.setProblem(fmt.Sprintf("shard %d: %v", s.number, err))
		f.warn("takeover failed, retrying", "shard", s.number, "err", err)
	}
	f.refreshTargetSoon()
	return takeoverPause(failures)
}

// maxTakeoverPause is the longest pause after a failed takeover. Each one may use up an epoch, and with all of them a producer id.
const maxTakeoverPause = time.Minute

// takeoverPause is how long to wait after a number of failures in a row.
func takeoverPause(failures int) time.Duration {
	if failures < 7 {
		return client.Backoff(failures)
	}
	pause := min(time.Second<<min(failures-6, 8), maxTakeoverPause)
	return pause/2 + rand.N(pause/2)
}

// errNotYet means that a shard cannot be taken over yet, which is no reason for a warning.
var errNotYet = errors.New("not yet")

// mayClaim reports whether this process may fence a shard that it does not own.
func (f *Flow) mayClaim(s *shard) bool {
	if f.instance.isAssigned() {
		return f.lease.holds() // by the membership
	}
	return s.number == 0 || f.ownsShardZero()
}

// ownsShardZero confirms that this process owns shard 0, by a journal write. The first fence of a process names no producer id and fences
// any owner, so two processes that start at the same time could fence each other on different shards, and both would stop. Shard 0 is
// therefore taken over first, and its ownership is confirmed again before each of the others is. A process that has lost shard 0 takes over
// no more.
func (f *Flow) ownsShardZero() bool {
	zero := f.held.get(0)
	if zero == nil {
		return false
	}
	began := f.lease.now()
	if last := f.takeovers.shardZeroConfirmed.Load(); last > 0 && began.sub(instant(last)) < refreshEvery {
		return true
	}
	if !zero.mu.TryLock() {
		return false // it is being fenced; nobody waits for that with a lock of its own
	}
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
	began := time.Now()
	_, err := wire.ListOffset(ctx, f.target, leader, tp, wire.Latest)
	if err == nil {
		f.takeovers.timed(time.Since(began))
	}
	return err == nil
}

// busiestFirst returns the shards ordered by their number of partitions, so that those with the most to copy are taken over first.
func (f *Flow) busiestFirst() []*shard {
	shards := slices.Clone(f.held.all())
	slices.SortStableFunc(shards, func(a, b *shard) int { return cmp.Compare(len(b.members()), len(a.members())) })
	return shards
}
