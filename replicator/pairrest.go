package replicator

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/control"
)

// pairPoll is how often it is looked whether shards can come to rest, or may copy.
const pairPoll = 500 * time.Millisecond

// restID is what the shard came to rest under, empty if it never did.
func (s *shard) restID() string {
	if rest := s.rest.Load(); rest != nil {
		return *rest
	}
	return ""
}

// keepPair lets the shards of a half that is stopped come to rest, and those of one that is started begin once the other half is at rest.
func (f *Flow) keepPair(ctx context.Context) {
	if f.pair == nil {
		return
	}
	f.controls.pairs = false
	if stopped := f.controls.stopped(); stopped != nil {
		for _, s := range f.held.all() {
			if s.restID() != stopped.ID {
				f.controls.pairs = true
				f.comeToRest(s, stopped)
			}
		}
		return
	}
	f.beginWaiting(ctx)
}

// beginWaiting takes those shards over again that may copy now.
func (f *Flow) beginWaiting(ctx context.Context) {
	if !f.instance.isAssigned() { // before that, a takeover finds out
		return
	}
	var waiting []*shard
	for _, s := range f.held.all() {
		if !s.copies.Load() && (s.waits.Load() || s.isIdle()) {
			waiting = append(waiting, s)
		}
	}
	f.controls.pairs = len(waiting) > 0
	if len(waiting) == 0 || time.Since(f.pair.asked) < pairPoll {
		return
	}
	f.pair.asked = time.Now()
	for _, s := range waiting {
		if now := f.pair.standing(ctx, s); !now.copies() {
			s.setProblem(fmt.Sprintf("shard %d copies nothing: %s", s.number, now.why()))
			return // the others wait for the same, most likely
		}
		s.setProblem("")
		f.holdAnew(s)
	}
}

// isIdle reports whether the shard is taken over, and nothing of it is being recovered.
func (s *shard) isIdle() bool {
	return s.ownership.isOwned() && !slices.ContainsFunc(s.members(), func(p *partition) bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.state == recovering || p.state == waiting && !p.outside.held
	})
}

// comeToRest journals that the shard is at rest, if it is: the flow is stopped, and all that its owners ever wrote is in the journal.
func (f *Flow) comeToRest(s *shard, stopped *control.Decision) {
	if !s.mu.TryLock() { // it is being taken over, or written
		return
	}
	defer s.mu.Unlock()
	if !s.ownership.isOwned() || !s.ownership.isCertain() || s.fencer.open || f.unsettled(s, false) != "" {
		return
	}
	if _, err := f.journalShard(s); err != nil {
		f.warn("a shard has not come to rest", "shard", s.number, "err", err)
		return
	}
	if f.unsettled(s, true) != "" {
		return
	}
	if !f.pair.endShard(s) {
		return
	}
	state := &offsets.ShardState{ProducerIDs: s.producerIDs, Claim: s.claim, Rest: stopped.ID}
	switch confirmed, err := f.journalShard(s, state); {
	case err != nil:
		f.warn("a shard has not come to rest", "shard", s.number, "err", err)
	case confirmed:
		s.rest.Store(&stopped.ID)
		f.log.Info("a shard has come to rest", "shard", s.number, "decision", stopped.ID)
	}
}

// unsettled says what of the shard is not known to be in its journal, empty if all is. Partitions that are held have been at rest before.
func (f *Flow) unsettled(s *shard, journaled bool) string {
	members := make(map[offsets.TopicPartition]bool)
	for _, p := range s.members() {
		members[p.source()] = true
		p.mu.Lock()
		settled := p.state == retired || p.state == waiting && p.outside.held ||
			p.state == replicating && p.pause != nil && p.inFlight == 0 && (!journaled || !p.progress.hasChanges())
		p.mu.Unlock()
		if !settled {
			return fmt.Sprintf("%s is not settled", p)
		}
	}
	source := f.sourceView()
	for _, tp := range s.journaled() {
		if _, exists := source.ByName[tp.Topic]; !members[tp] && (exists || len(source.ByName) == 0) {
			return fmt.Sprintf("%s is in the journal, and not a partition of the flow", tp)
		}
	}
	return ""
}
