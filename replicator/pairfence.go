package replicator

import (
	"context"
	"slices"
	"time"
)

// fenceHalfLocked fences the shard of a half: its journal first, which says what may have been written since the shard was last at rest, and after which it can
// be read who may copy. The marker of a fence is a record too, so nothing else of the target is fenced than what copies from now on, and what an earlier
// owner may still write. The shard's lock is held.
func (r *recovery) fenceHalfLocked(ctx context.Context) error {
	s, waiting, reload := r.shard, r.known, r.reload
	if r.known = nil; reload || !s.ownership.isCertain() || s.fencer.open {
		if err := r.fenceKnownLocked(ctx, s.fenceJournalLocked); err != nil {
			return err
		}
	}
	r.stand(ctx, waiting)
	r.known = slices.DeleteFunc(waiting, func(p *partition) bool { return !r.isFenced(p) })
	if len(r.known) == 0 && !s.fencer.isNearlyExhausted() {
		return nil
	}
	if reload {
		r.readProducerStates(ctx)
	}
	return r.fenceKnownLocked(ctx, s.fenceLocked)
}

// stand finds out whether the shard may copy, unless that is known, and lets it. It is asked for the sake of partitions that wait.
func (r *recovery) stand(ctx context.Context, waiting []*partition) {
	p, s := r.flow.pair, r.shard
	pending := slices.ContainsFunc(waiting, func(known *partition) bool { return !known.isRestored() && s.isPending(r.loaded[known.source()]) })
	if s.copies.Load() && !pending {
		return
	}
	r.standing = p.standing(ctx, s)
	if r.standing.copies() && !p.permit(s, r.standing.turn) {
		r.standing.wait = "somebody has stopped or started the flow meanwhile"
	}
	if !r.standing.copies() {
		s.waits.Store(!r.standing.stopped)
		r.flow.log.Info("a shard copies nothing", "shard", s.number, "why", r.standing.why())
	}
}

// isFenced reports whether a partition that waits is to be fenced now. One that does not copy, and that nobody has written since the shard was last at rest, is
// held instead.
func (r *recovery) isFenced(p *partition) bool {
	s, l := r.shard, r.loaded[p.source()]
	if r.standing == nil || r.standing.copies() {
		return true
	}
	rested := r.flow.pair.hasEnded(s)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.state != waiting: // it has retired
		return false
	case p.offsets != nil:
		if !rested {
			return true
		}
	case l != nil && l.State != nil && !s.isPending(l):
		return true
	}
	if s.copies.Load() { // the others of the shard copy already
		p.outside = outside{why: r.standing.why(), after: time.Now().Add(refreshEvery)}
		return false
	}
	p.keepOutLocked(r.standing.why())
	return false
}

// hasEnded reports whether this value of a shard has come to rest.
func (p *pair) hasEnded(s *shard) bool {
	c := &p.flow.controls
	c.pausing.Lock()
	defer c.pausing.Unlock()
	return s.rested
}
