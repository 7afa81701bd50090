package replicator

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
)

// journalPasses are the passes over the journal that run: at most one per target broker, so that a broker that does not answer delays only
// the shards whose journal it leads.
type journalPasses struct {
	mu      sync.Mutex
	leaders map[int32]bool // that a pass runs for
}

// begin reports whether a pass may begin, which is if the last one of this leader has ended.
func (p *journalPasses) begin(leader int32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.leaders[leader] {
		return false
	}
	if p.leaders == nil {
		p.leaders = make(map[int32]bool)
	}
	p.leaders[leader] = true
	return true
}

func (p *journalPasses) end(leader int32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.leaders, leader)
}

// journalLoop writes the journal every JournalInterval, or more often if the lease requires it, as while no group confirms it. Each pass writes one
// owner record per leader, which confirms that this process is still the owner, also of an idle flow.
func (f *Flow) journalLoop(ctx context.Context) {
	every := min(f.config.JournalInterval, f.lease.length/3)
	last := time.Now()
	var own pulse
	defer f.pulses.watch(&own, "writes the journal")()
	client.Every(ctx, every, func(now time.Time) {
		own.work()
		defer own.rest()
		if f.instance.isAssigned() && now.Sub(last) < f.config.JournalInterval-every/2 {
			return
		}
		last = now
		for leader, shards := range f.byJournalLeader(f.held.all()) {
			if f.passes.begin(leader) {
				f.background.Go(func() {
					defer f.passes.end(leader)
					f.journalPass(f.hard, leader, shards)
				})
			}
		}
	})
}

// syncJournal writes what changed, for every shard. It blocks until all brokers have answered, also to passes that run, or ctx ends.
func (f *Flow) syncJournal(ctx context.Context) {
	for left := f.held.all(); len(left) > 0 && ctx.Err() == nil; _ = client.Sleep(ctx, time.Millisecond) {
		var mu sync.Mutex
		var all sync.WaitGroup
		var busy []*shard
		for leader, shards := range f.byJournalLeader(left) {
			all.Go(func() {
				skipped := f.journalPass(ctx, leader, shards)
				mu.Lock()
				defer mu.Unlock()
				busy = append(busy, skipped...)
			})
		}
		all.Wait()
		left = busy
	}
}

// byJournalLeader groups shards by the brokers that lead their journal partitions, -1 for none.
func (f *Flow) byJournalLeader(shards []*shard) map[int32][]*shard {
	view := f.targetView()
	byLeader := make(map[int32][]*shard)
	for _, s := range shards {
		leader := view.Leader(s.journal())
		byLeader[leader] = append(byLeader[leader], s)
	}
	return byLeader
}

// journalPass writes what changed in shards whose journal one broker leads. It returns the shards that are busy: they are being taken over, or
// another pass writes them.
func (f *Flow) journalPass(ctx context.Context, leader int32, shards []*shard) (busy []*shard) {
	if leader < 0 {
		f.warn("journal write failed, retrying", "err", fmt.Errorf("journal partition %s has no leader on cluster %s", shards[0].journal(), f.config.Target))
		f.refreshTarget(ctx)
		return nil
	}
	var writers []*journalWriter
	for _, s := range shards {
		switch {
		case !s.mu.TryLock():
			busy = append(busy, s)
		case !s.ownership.isCertain() || s.fencer.open:
			s.mu.Unlock()
		case len(writers) == 0 && !f.lease.holds():
			f.doubtLease(s)
			s.mu.Unlock()
			return busy // the fence of this one shard confirms the lease for all
		default:
			writers = append(writers, newJournalWriter(s, s.takeChanged()))
		}
	}
	f.putOwner(writers)
	f.putHorizons(writers, time.Now())
	f.writeJournals(ctx, leader, writers, func(w *journalWriter) { w.shard.mu.Unlock() })
	return busy
}

// ownerEvery is how often each shard gets an owner record, also if nothing changes: its journal then says until when the shard had an owner.
const ownerEvery = time.Minute

// putOwner adds the owner record to the first shard whose journal can be written, and to those that have had none for ownerEvery.
func (f *Flow) putOwner(writers []*journalWriter) {
	done, now := false, time.Now()
	for _, w := range writers {
		if s := w.shard; !s.journalFails && (!done || now.Sub(s.ownerAt) > ownerEvery || f.released.Load()) {
			w.put(newJournalEntry(f.ownerNow()))
			s.ownerAt, done = now, true
		}
	}
	if done {
		return
	}
	for _, w := range writers { // all have failed: any of them may work again
		w.put(newJournalEntry(f.ownerNow()))
	}
}

// journalShard writes what changed in one shard, and the given entries. It returns whether that confirms that this process is the owner. The
// shard's lock is held.
func (f *Flow) journalShard(s *shard, first ...offsets.Entry) (confirmed bool, err error) {
	if !s.ownership.isCertain() || s.fencer.open {
		return false, nil
	}
	if !f.lease.holds() {
		f.doubtLease(s)
		return false, errLeaseExpired
	}
	w := newJournalWriter(s, s.takeChanged(), first...)
	f.putHorizons([]*journalWriter{w}, time.Now()) // with the start of a new partition: a horizon from before does not know it
	return f.writeShardJournal(w)
}

// doubtLease requests a takeover of a shard because the lease has expired. A write that the broker accepts proves nothing now: it may have
// forgotten the producer that fenced this one. The coordinator has not, so a fence confirms the lease. The shard's lock is held.
func (f *Flow) doubtLease(s *shard) {
	if f.instance.isAssigned() {
		return // the membership confirms it
	}
	s.ownership.doubt()
	f.requestTakeover(s)
}

// ownerNow returns the owner record of this process. Once the process writes nothing more, the record has no time of confirmation.
func (f *Flow) ownerNow() *offsets.Owner {
	owner := f.owner
	if !f.released.Load() {
		owner.Confirmed = time.Now()
	}
	return &owner
}

// journalProducerLocked journals the shard's producer id before the first batch is produced with it. A batch with a producer id that the
// journal does not list would later be taken for a foreign write. The shard's lock is held.
func (s *shard) journalProducerLocked() error {
	state := &offsets.ShardState{ProducerIDs: withNewest(s.producerIDs, s.fencer.producerID), Claim: s.claim, Rest: s.restID()}
	if slices.Equal(state.ProducerIDs, s.producerIDs) && s.number != 0 {
		return nil
	}
	w := newJournalWriter(s, nil, state)
	if s.number == 0 {
		w.put(newJournalEntry(s.flow.ownerNow()))
	}
	if _, err := s.flow.writeShardJournal(w); err != nil {
		return err
	}
	s.setProducerIDs(state.ProducerIDs)
	return nil
}

func (s *shard) setProducerIDs(ids []int64) {
	s.producerIDs = ids
	s.partsMu.Lock()
	defer s.partsMu.Unlock()
	s.ownIDs = ids
}

// ownsProducer reports whether a producer id belongs to this shard, including the ids of earlier owners.
func (s *shard) ownsProducer(id int64) bool {
	s.partsMu.Lock()
	defer s.partsMu.Unlock()
	return slices.Contains(s.ownIDs, id)
}

// owners returns all producer ids of the shard, the newest last.
func (s *shard) owners() []int64 {
	s.partsMu.Lock()
	defer s.partsMu.Unlock()
	return s.ownIDs
}

// withNewest returns a list of producer ids that ends with one. An id may be in it already, from before the fence of the flow was changed.
func withNewest(ids []int64, id int64) []int64 {
	if n := len(ids); n > 0 && ids[n-1] == id {
		return ids
	}
	return append(slices.DeleteFunc(slices.Clone(ids), func(other int64) bool { return other == id }), id)
}
