package replicator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/wire"
)

// journalFetchBytes limits one fetch of a journal partition, so that reading a long one takes little memory. A larger batch is returned all
// the same.
const journalFetchBytes = 1 << 20

// journalTail is the tail of the shard's journal partition from its start to our own marker.
func (s *shard) journalTail(mark marker) *logTail {
	t, late := &logTail{until: toMarker, mark: mark}, lateMarkers{shard: s}
	t.late = func(ctx context.Context, since time.Time) {
		if late.isLost(ctx, t, since) {
			t.err = errNotYet
		}
	}
	return t
}

// loadJournalLocked reads the shard's journal partition. It returns what the journal has of each partition. The shard's lock is held.
func (s *shard) loadJournalLocked(ctx context.Context, t *logTail) (map[offsets.TopicPartition]*offsets.Restored, error) {
	var found offsets.Restorer
	newest := int64(0) // timestamp
	err := s.readJournal(ctx, t, func(r recordbatch.Record) error {
		newest = max(newest, r.Timestamp)
		return s.loadRecord(&found, r)
	})
	if err != nil {
		return nil, err
	}
	s.noteJournalTime(newest)
	s.before, s.horizon.found = found.Owner, found.Horizon
	s.pruning.noteLoaded(&found, time.Now())
	s.setProducerIDs(found.ProducerIDs)
	s.claim = found.Claim
	s.rest.Store(&found.Rest)
	if found.Rest != "" && s.flow.pair == nil {
		return nil, &fatalError{fmt.Errorf("flow %s: the journal was written for one of two flows of which only one may copy, and this file has no flow in the other direction with reverse_of; without it, records would be copied back where they came from; put that flow back into the file",
			s.flow.config.Name)}
	}
	for tp := range found.Partitions() {
		s.markInJournal(tp)
	}
	return found.Partitions(), nil
}

// noteJournalTime keeps when the shard's journal was last written before this process took it over. The owner of shard 0 confirms its ownership
// there every few seconds, so that shard's time says when the flow last ran.
func (s *shard) noteJournalTime(newest int64) {
	if !s.journalTime.IsZero() {
		return
	}
	s.journalTime = time.UnixMilli(newest)
	if s.number == 0 {
		s.flow.predecessorAlive.Store(newest)
	}
}

// loadRecord takes one journal record. Unreadable records are counted and skipped, but a record of a newer version of milena is an error:
// to continue without understanding it could duplicate records.
func (s *shard) loadRecord(found *offsets.Restorer, r recordbatch.Record) error {
	found.Time = r.Timestamp
	err := found.Add(r.Key, r.Value)
	var newer *offsets.VersionError
	switch {
	case errors.As(err, &newer):
		return fmt.Errorf("journal %s at offset %d: %w; run the newer milena, or, to copy everything again, stop milena and delete the journal topic and the copies on cluster %s", s.journal(), r.Offset, err, s.flow.config.Target)
	case err != nil:
		s.flow.metrics.journalCorrupt.Inc()
		s.flow.log.Warn("skipped unreadable journal record", "shard", s.number, "target_offset", r.Offset, "err", err)
	}
	return nil
}

// readJournal passes every record of a range of the shard's journal partition to visit.
func (s *shard) readJournal(ctx context.Context, t *logTail, visit func(recordbatch.Record) error) error {
	f := s.flow
	t.partition, t.id, t.maxBytes = s.journal(), f.targetView().ByName[f.journalTopic].ID, journalFetchBytes
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

func describeOwner(owner *offsets.Owner) string {
	return fmt.Sprintf("on host %s (pid %d, since %s)", owner.Host, owner.PID, owner.Since.Format(time.RFC3339))
}

// readOwner reads the newest owner record of the journal, nil if it has none. Every owner writes one into the journal of shard 0 before it
// takes over any other shard.
func (f *Flow) readOwner(ctx context.Context) (owner *offsets.Owner, err error) {
	s := newShard(f, 0) // which this process may not hold
	start, end, err := wire.Bounds(ctx, f.target, f.targetLeader(s.journal()), s.journal())
	if err != nil || start >= end {
		return nil, err
	}
	err = s.readJournal(ctx, &logTail{from: start, until: end}, func(r recordbatch.Record) error {
		if entry, err := offsets.DecodeJournal(r.Key, r.Value); err == nil {
			if o, ok := entry.(*offsets.Owner); ok {
				owner = o
			}
		}
		return nil
	})
	return owner, err
}
