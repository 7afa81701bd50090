package replicator

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/milena-kafka/milena/replicator/client"
)

// handOver gives shards to other instances in order: nothing more is sent, what is in flight is awaited, and the journal is written. The next owner
// finds nothing behind what the journal says. What takes too long is left to its takeover, which reads it from the copy.
func (f *Flow) handOver(numbers []int32) {
	list := f.held.take(numbers)
	if len(list) == 0 {
		return
	}
	for _, s := range list {
		s.tasks.end() // so that the shard is not locked for long, and nothing starts any more
		s.closeOutboxes()
	}
	ctx, cancel := context.WithTimeout(f.hard, handOverDrain)
	for _, s := range list {
		s.drain(ctx)
	}
	cancel()
	var journals sync.WaitGroup
	for _, shards := range f.byJournalLeader(list) {
		journals.Go(func() {
			for _, s := range shards {
				s.journalLast()
			}
		})
	}
	journals.Wait()
	f.giveUp(list)
}

// giveUp ends all work on shards that are not held any more.
func (f *Flow) giveUp(list []*shard) {
	if len(list) == 0 {
		return
	}
	for _, s := range list {
		s.tasks.end()
		s.released.Store(true)
		s.ownership.giveUp()
	}
	t := &f.topology
	t.mu.Lock()
	for _, s := range list {
		for _, p := range s.members() {
			if t.partitions[p.source()] == p {
				t.drop(p.source())
			}
			p.retire()
		}
	}
	for tp := range t.unbegun {
		if f.elsewhere(tp) {
			delete(t.unbegun, tp)
		}
	}
	t.settled = settledViews{}
	t.mu.Unlock()
	f.followLeaders()
}

// closeOutboxes ends what the partitions of the shard send.
func (s *shard) closeOutboxes() {
	for _, p := range s.members() {
		p.mu.Lock()
		p.closeLocked()
		p.mu.Unlock()
	}
}

// drain waits until no batch of the shard is in flight, or ctx ends.
func (s *shard) drain(ctx context.Context) {
	for _, p := range s.members() {
		for p.isInFlight() && client.Sleep(ctx, time.Millisecond) == nil {
		}
	}
}

func (p *partition) isInFlight() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.inFlight > 0
}

// journalLast writes what is not journaled yet. Afterwards the shard's journal is not written any more.
func (s *shard) journalLast() {
	s.mu.Lock()
	defer s.mu.Unlock()
	released := s.flow.owner                                                        // without a time of confirmation
	if _, err := s.flow.journalShard(s, &released); err != nil && !isFencing(err) { // else its next owner is there already
		s.flow.warn("the journal of a shard could not be written before it was handed over; its next owner reads the end of the copies", "shard", s.number, "err", err)
	}
	s.ownership.giveUp()
}

// errGivenUp means that a request was not sent, because it has a batch of a shard that was given up while it waited.
var errGivenUp = errors.New("not sent: a shard of the request was given up")

// permitBatches refuses a request with a batch of a shard that was given up. Such a request may still wait in the client: for a connection that a quota
// has muted, or whose broker hangs.
func permitBatches(list []sentBatch) error {
	for i := range list {
		if s := list[i].partition.shard; s.released.Load() {
			return errGivenUp
		}
	}
	return nil
}
