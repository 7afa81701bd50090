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

// journalBatchBytes bounds one batch of the journal, far below the default max.message.bytes. What belongs to one partition is never
// torn: its state and its changed chunks go into the same batch, which a broker appends whole or not at all.
const journalBatchBytes = 512 << 10

// journalBatch is one batch for one journal partition and what to note when it is written.
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

// journalLoop writes progress every interval. An idle flow writes one owner record each time, which is how this process learns that it
// still is the owner.
func (f *Flow) journalLoop(ctx context.Context) {
	tick := time.NewTicker(min(f.config.JournalInterval, f.config.Lease/4))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := f.syncJournal(f.hard); err != nil { //nolint:contextcheck // a write under way is not cut off by the signal
			f.fail(err)
			return
		}
	}
}

// syncJournal is one pass: every shard that has something new writes it. A shard that is being taken over is left for the next pass.
func (f *Flow) syncJournal(ctx context.Context) error {
	confirmed := false
	failures := make(map[int32]int) // by leader
	for _, s := range f.shards {
		leader := f.targetLeader(s.journal())
		if failures[leader] > 1 {
			continue // that broker is not well: the rest would only knock at its door as well
		}
		if !s.mu.TryLock() {
			continue
		}
		var owner *offsets.Owner
		if !confirmed {
			owner = f.ownerNow()
		}
		began, wrote := time.Now(), false
		err := f.journalShard(ctx, s, owner, &wrote)
		s.mu.Unlock()
		if wrote { // at once: with a quota that holds up each write a pass takes longer than the lease
			f.lease.confirm(began)
			confirmed = true
		}
		if errors.Is(err, errJournalLater) {
			failures[leader]++
		} else if err != nil {
			return err
		}
	}
	return nil
}

// errJournalLater says that a shard's progress could not be journalled now.
var errJournalLater = errors.New("the journal could not be written")

// ownerNow is the owner record of this process.
func (f *Flow) ownerNow() *offsets.Owner {
	owner := f.owner
	owner.Confirmed = time.Now()
	return &owner
}

// journalShard writes what is new in one shard, and the owner record when there is one. The shard's lock is held.
func (f *Flow) journalShard(ctx context.Context, s *shard, owner *offsets.Owner, confirmed *bool) error {
	if !s.ownership.isCertain() || s.fencer.open {
		return nil
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
			f.warn("journal write failed; it is tried again", "err", fmt.Errorf("shard %d: %w", s.number, err)) // one line for all shards: they fail together
			if !s.ownership.isCertain() {
				f.requestTakeover(s)
			}
			return errJournalLater // the next pass tries again; the edges did not move
		}
		f.metrics.journalWrites.WithLabelValues("written").Inc()
		*confirmed = true
	}
	return nil
}

// journalBatches collects what changed since the last write.
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
		if p.progress.unjournaled() {
			p.journalInto(current)
		}
		p.mu.Unlock()
	}
	if owner != nil {
		current().put(owner)
	}
	return batches
}

// journalInto adds the partition's state and the chunks of its map that changed. The partition's lock is held. The map of a new partition
// that was taken over from MirrorMaker 2 may be long: its chunks may go into batches before, since nothing counts without the state, which
// is written last.
func (p *partition) journalInto(current func() *journalBatch) {
	b := current()
	chunks, state, w := p.progress.journal()
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
		p.progress.written(w)
	})
	b.failed = append(b.failed, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.progress.unwritten()
	})
}

// writeJournal produces one batch to the shard's journal partition with the shard's own producer, so that a late owner cannot write it
// either. The shard's lock is held. After a doubtful answer the shard is marked, and the next take-over fences it.
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
	response, err := f.targetWire.Produce(ctx, leader, request.ProduceRequest)
	if err != nil {
		s.ownership.doubt()
		f.refreshTarget(ctx)
		return err
	}
	rp := wire.IndexProduce(response).Of(s.journal(), topic.ID)
	if rp == nil {
		s.ownership.doubt()
		return fmt.Errorf("journal write to %s: the answer does not name the partition", s.journal())
	}
	code := kerr.ErrorForCode(rp.ErrorCode)
	switch wire.ClassifyProduce(rp.ErrorCode) {
	case wire.Acked:
		s.sequence = int32((int64(s.sequence) + int64(len(b.records))) & 0x7fffffff)
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
	err := s.readJournal(ctx, &tail{from: 0, until: toMarker, mark: mark}, func(r recordbatch.Record) error { return s.load(loaded, r) })
	if err == nil {
		s.loaded = loaded
	}
	return err
}

// readJournal gives every record of one stretch of the shard's journal partition to visit.
func (s *shard) readJournal(ctx context.Context, t *tail, visit func(recordbatch.Record) error) error {
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
	err := f.readTails(ctx, []*tail{t}, func(*tail) {})
	return errors.Join(err, t.err)
}

// findOwner asks the journal who took over; empty when it does not say so soon.
func (f *Flow) findOwner(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	s := f.shards[0]
	for {
		start, end, err := wire.Bounds(ctx, f.target, f.targetLeader(s.journal()), s.journal())
		var owner *offsets.Owner
		if err == nil && start < end {
			err = s.readJournal(ctx, &tail{from: start, until: end}, func(r recordbatch.Record) error {
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

// load takes one journal record. A record that cannot be read is counted and left out, except one from a newer milena: writing on
// without understanding it could copy records twice.
func (s *shard) load(loaded map[offsets.TopicPartition]*loadedState, r recordbatch.Record) error {
	f := s.flow
	entry, err := offsets.DecodeJournal(r.Key, r.Value)
	var newer *offsets.VersionError
	if errors.As(err, &newer) {
		return fmt.Errorf("journal %s at offset %d: %w; run the newer milena, or delete the journal topic to begin again (which copies everything again)", s.journal(), r.Offset, err)
	}
	if err != nil {
		f.metrics.journalCorrupt.Inc()
		f.log.Warn("unreadable journal record is left out", "shard", s.number, "target_offset", r.Offset, "err", err)
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
		s.noteJournaled(offsets.TopicPartition{Topic: e.Topic, Partition: e.Partition})
	case *offsets.Chunk:
		at(e.Topic, e.Partition).chunks[e.First] = e
	case *offsets.Tombstone:
		if e.Kind == offsets.KindChunk {
			delete(at(e.Topic, e.Partition).chunks, e.First)
		}
	case *offsets.Owner:
	}
	return nil
}

// noteProducerLocked journals the shard's producer id before the first batch is written with it: a batch of an id that the journal does
// not know would later look like a foreign write. The shard's lock is held.
func (s *shard) noteProducerLocked(ctx context.Context) error {
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
	s.ours = make(map[int64]bool, len(ids))
	for _, id := range ids {
		s.ours[id] = true
	}
}

// ownsProducer says whether a batch on the target was written by this shard, now or under an earlier owner.
func (s *shard) ownsProducer(id int64) bool {
	s.partsMu.Lock()
	defer s.partsMu.Unlock()
	return s.ours[id]
}
