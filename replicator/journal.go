package replicator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/wire"
)

// journalBatchBytes is the size at which a journal batch is closed, far below the default max.message.bytes. The state of a partition and
// its changed chunks are not split: they go into the same batch, which a broker appends as a whole or not at all.
const journalBatchBytes = 512 << 10

// journalBatch is one batch for the journal partition of a shard, and what to do when it was or was not written.
type journalBatch struct {
	shard   *shard
	records []recordbatch.Record
	bytes   int
	written []func()
	failed  []func()
}

func (b *journalBatch) put(e offsets.Entry) {
	key, value := e.AppendKey(nil), e.AppendValue(nil)
	b.records = append(b.records, recordbatch.Record{Timestamp: time.Now().UnixMilli(), Offset: int64(len(b.records)), Key: key, Value: value})
	b.bytes += len(key) + len(value) + 16
}

// journalLoop writes the journal every JournalInterval, or more often if the lease requires it. An idle flow writes one owner record each
// time, which confirms that this process is still the owner.
func (f *Flow) journalLoop(ctx context.Context) {
	tick := time.NewTicker(min(f.config.JournalInterval, f.config.Lease/4))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := f.syncJournal(f.hard); err != nil { //nolint:contextcheck // the signal does not cancel a write in flight
			f.fail(err)
			return
		}
	}
}

// syncJournal writes what changed since the last sync, for every shard. A shard that is being taken over is left for the next sync.
func (f *Flow) syncJournal(ctx context.Context) error {
	confirmed := false
	failures := make(map[int32]int) // by leader
	for _, s := range f.shards {
		leader := f.targetLeader(s.journal())
		if failures[leader] > 1 {
			continue // the broker has failed twice: writes of more shards to it would only wait for the same timeout
		}
		if !s.mu.TryLock() {
			continue
		}
		var owner *offsets.Owner
		if !confirmed {
			owner = f.ownerNow()
		}
		began, wrote := f.lease.now(), false
		err := f.journalShard(ctx, s, owner, &wrote)
		s.mu.Unlock()
		if wrote { // not only at the end: if a quota delays each write, a sync takes longer than the lease
			f.lease.confirm(began)
			confirmed = true
		}
		if errors.Is(err, errLeaseExpired) {
			return nil // the fence of this one shard confirms the lease for all
		}
		if errors.Is(err, errJournalLater) {
			failures[leader]++
		} else if err != nil {
			return err
		}
	}
	return nil
}

// errJournalLater means that a shard's progress could not be journaled and is written again by the next sync.
var errJournalLater = errors.New("the journal could not be written")

// ownerNow returns the owner record of this process.
func (f *Flow) ownerNow() *offsets.Owner {
	owner := f.owner
	owner.Confirmed = time.Now()
	return &owner
}

// journalShard writes what changed in one shard, and the owner record if there is one. It sets confirmed as soon as one batch is written.
// The shard's lock is held.
func (f *Flow) journalShard(ctx context.Context, s *shard, owner *offsets.Owner, confirmed *bool) error {
	if !s.ownership.isCertain() || s.fencer.open {
		return nil
	}
	if !f.lease.holds() {
		// A write that the broker accepts proves nothing now: it may have forgotten the producer that fenced this one. The coordinator has
		// not, so a fence confirms the lease.
		s.ownership.doubt()
		f.requestTakeover(s)
		return errLeaseExpired
	}
	for _, b := range f.journalBatches(s, owner) {
		if err := f.writeJournal(ctx, b); err != nil {
			for _, failed := range b.failed {
				failed()
			}
			var lost *FencedError
			if errors.As(err, &lost) {
				return err
			}
			f.metrics.journalWrites.WithLabelValues("failed").Inc()
			f.warn("journal write failed, retrying", "err", fmt.Errorf("shard %d: %w", s.number, err)) // one line for all shards, which fail together
			if !s.ownership.isCertain() {
				f.requestTakeover(s)
			}
			return errJournalLater // the entries of this batch count as not journaled
		}
		f.metrics.journalWrites.WithLabelValues("written").Inc()
		*confirmed = true
	}
	return nil
}

// journalBatches collects what changed in a shard since the last write.
func (f *Flow) journalBatches(s *shard, owner *offsets.Owner) []*journalBatch {
	var batches []*journalBatch
	current := func() *journalBatch {
		if n := len(batches); n > 0 && batches[n-1].bytes < journalBatchBytes {
			return batches[n-1]
		}
		b := &journalBatch{shard: s}
		batches = append(batches, b)
		return b
	}
	for _, p := range s.members() {
		p.mu.Lock()
		if p.progress.hasChanges() {
			p.addJournalEntries(current)
		}
		p.mu.Unlock()
	}
	if owner != nil {
		current().put(owner)
	}
	return batches
}

// addJournalEntries adds the partition's state and the changed chunks of its map. The map of a partition that was migrated from MirrorMaker
// 2 may be long, so the chunks of a map that is not journaled yet may be spread over several batches. That is safe because the state is
// written last, and chunks without a state are ignored. The partition's lock is held.
func (p *partition) addJournalEntries(current func() *journalBatch) {
	b := current()
	chunks, state, w := p.progress.changes()
	for _, chunk := range chunks {
		if p.stage != mapDurable {
			b = current()
		}
		b.put(chunk)
	}
	b.put(state)
	b.written = append(b.written, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.progress.markJournaled(w)
	})
	b.failed = append(b.failed, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.progress.markUnwritten()
	})
}

// writeJournal produces one batch to the shard's journal partition. It uses the shard's own producer, so that a fenced owner cannot write
// the journal either. If the outcome is unknown, ownership of the shard is marked as doubted, and the next takeover fences the journal
// partition. The shard's lock is held.
func (f *Flow) writeJournal(ctx context.Context, b *journalBatch) error {
	s := b.shard
	batch, err := recordbatch.Encode(b.records, recordbatch.None)
	if err != nil {
		return fmt.Errorf("encode journal batch: %w", err)
	}
	view := f.targetView()
	topic, ok := view.ByName[f.journalTopic]
	leader := f.targetLeader(s.journal())
	if !ok || leader < 0 {
		f.refreshTarget(ctx)
		return fmt.Errorf("journal partition %s has no leader on cluster %s", s.journal(), f.config.Target)
	}
	recordbatch.Rewrite(batch, s.fencer.producerID, s.fencer.epoch, s.sequence)
	request := wire.NewProduceRequest(produceTimeout)
	request.Add(s.journal(), topic.ID, batch)
	response, err := f.targetWire.Produce(ctx, leader, request)
	if err != nil {
		s.ownership.doubt()
		f.refreshTarget(ctx)
		return err
	}
	rp := wire.IndexProduce(response).Of(s.journal(), topic.ID)
	if rp == nil {
		s.ownership.doubt()
		return fmt.Errorf("journal write to %s: the response does not contain the partition", s.journal())
	}
	code := kerr.ErrorForCode(rp.ErrorCode)
	switch wire.ClassifyProduce(rp.ErrorCode) {
	case wire.Acked:
		s.sequence = nextSequence(s.sequence, len(b.records))
		for _, written := range b.written {
			written()
		}
		return nil
	case wire.Unauthorized:
		return fmt.Errorf("journal write: %w; grant WRITE on topic %s of cluster %s", code, f.journalTopic, f.config.Target)
	case wire.Doubtful, wire.Fenced:
		s.ownership.doubt()
	case wire.Refused, wire.Oversized, wire.Unacceptable, wire.Unplaced:
	}
	f.refreshTarget(ctx)
	return fmt.Errorf("journal write to %s: %w", s.journal(), code)
}

// loadJournalLocked reads the shard's journal partition from its start to our own marker. The shard's lock is held.
func (s *shard) loadJournalLocked(ctx context.Context, mark marker) error {
	loaded := make(map[offsets.TopicPartition]*loadedState)
	s.producerIDs = nil
	err := s.readJournal(ctx, &logTail{from: 0, until: toMarker, mark: mark}, func(r recordbatch.Record) error { return s.loadRecord(loaded, r) })
	if err == nil {
		s.loaded = loaded
	}
	return err
}

// readJournal passes every record of a range of the shard's journal partition to visit.
func (s *shard) readJournal(ctx context.Context, t *logTail, visit func(recordbatch.Record) error) error {
	f := s.flow
	t.partition, t.id = s.journal(), f.targetView().ByName[f.journalTopic].ID
	t.visit = func(h recordbatch.Header, batch []byte) error {
		if h.Attributes.Control() || h.Count == 0 {
			return nil
		}
		records, err := recordbatch.Decode(batch)
		if err != nil {
			return fmt.Errorf("journal %s at offset %d: %w", s.journal(), h.BaseOffset, err)
		}
		for _, r := range records {
			if err := visit(r); err != nil {
				return err
			}
		}
		return nil
	}
	err := f.readTails(ctx, []*logTail{t}, func(*logTail) {})
	return errors.Join(err, t.err)
}

// findOwner reads from the journal which instance took over. It returns "" if the journal has no record of it within 3 seconds.
func (f *Flow) findOwner(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	s := f.shards[0]
	for {
		start, end, err := wire.Bounds(ctx, f.target, f.targetLeader(s.journal()), s.journal())
		var owner *offsets.Owner
		if err == nil && start < end {
			err = s.readJournal(ctx, &logTail{from: start, until: end}, func(r recordbatch.Record) error {
				if entry, err := offsets.DecodeJournal(r.Key, r.Value); err == nil {
					if o, ok := entry.(*offsets.Owner); ok {
						owner = o
					}
				}
				return nil
			})
		}
		if err == nil && owner != nil && owner.Instance != f.owner.Instance {
			return fmt.Sprintf("on host %s (pid %d, since %s)", owner.Host, owner.PID, owner.Since.Format(time.RFC3339))
		}
		if client.Sleep(ctx, 5*refreshEvery) != nil {
			return ""
		}
	}
}

// loadRecord applies one journal record. Unreadable records are counted and skipped, but a record of a newer version of milena is an error:
// to continue without understanding it could duplicate records.
func (s *shard) loadRecord(loaded map[offsets.TopicPartition]*loadedState, r recordbatch.Record) error {
	f := s.flow
	entry, err := offsets.DecodeJournal(r.Key, r.Value)
	var newer *offsets.VersionError
	if errors.As(err, &newer) {
		return fmt.Errorf("journal %s at offset %d: %w; run the newer milena, or delete the journal topic to copy everything again", s.journal(), r.Offset, err)
	}
	if err != nil {
		f.metrics.journalCorrupt.Inc()
		f.log.Warn("skipped unreadable journal record", "shard", s.number, "target_offset", r.Offset, "err", err)
		return nil
	}
	at := func(topic string, partition int32) *loadedState {
		tp := offsets.TopicPartition{Topic: topic, Partition: partition}
		if loaded[tp] == nil {
			loaded[tp] = &loadedState{chunks: make(map[int64]*offsets.Chunk)}
		}
		return loaded[tp]
	}
	switch e := entry.(type) {
	case *offsets.ShardState:
		s.setProducerIDs(e.ProducerIDs)
	case *offsets.PartitionState:
		at(e.Topic, e.Partition).state = e
		s.markInJournal(offsets.TopicPartition{Topic: e.Topic, Partition: e.Partition})
	case *offsets.Chunk:
		at(e.Topic, e.Partition).chunks[e.First] = e
	case *offsets.Tombstone:
		if e.Kind == offsets.KindChunk {
			delete(at(e.Topic, e.Partition).chunks, e.First)
		}
	case *offsets.Owner:
	case *offsets.GroupPositions, *offsets.Lineage: // package groups reads them itself
	}
	return nil
}

// journalProducerLocked journals the shard's producer id before the first batch is produced with it. A batch with a producer id that the
// journal does not list would later be taken for a foreign write. The shard's lock is held.
func (s *shard) journalProducerLocked(ctx context.Context) error {
	state := &offsets.ShardState{ProducerIDs: s.producerIDs}
	if !slices.Contains(s.producerIDs, s.fencer.producerID) {
		state.ProducerIDs = append(slices.Clone(s.producerIDs), s.fencer.producerID)
	} else if s.number != 0 {
		return nil
	}
	b := &journalBatch{shard: s}
	b.put(state)
	if s.number == 0 {
		b.put(s.flow.ownerNow())
	}
	if err := s.flow.writeJournal(ctx, b); err != nil {
		return err
	}
	s.setProducerIDs(state.ProducerIDs)
	return nil
}

func (s *shard) setProducerIDs(ids []int64) {
	s.producerIDs = ids
	s.partsMu.Lock()
	defer s.partsMu.Unlock()
	s.ownIDs = make(map[int64]bool, len(ids))
	for _, id := range ids {
		s.ownIDs[id] = true
	}
}

// ownsProducer reports whether a producer id belongs to this shard, including the ids of earlier owners.
func (s *shard) ownsProducer(id int64) bool {
	s.partsMu.Lock()
	defer s.partsMu.Unlock()
	return s.ownIDs[id]
}
