package replicator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// On a target without transactions (fence: lease) no coordinator fences an earlier owner. The group of the instances says who owns a shard, and by
// the lease an earlier owner has stopped before the group gives the shard away. What remains is done with what every broker has, idempotent
// producers: a producer without a transactional id may raise its epoch itself (KIP-360), and a partition then refuses its lower epochs.
//
//   - The journal partition is claimed: its log is read to a quiet end, and the claim is written with the next epoch. If the broker appends it
//     right behind what was read, and a read finds this claim there and not that of another process, then nobody else has the epoch, and the
//     broker refuses what earlier owners still send to the journal.
//   - A producer id whose epochs run out is claimed once more with the last one, with which nothing else is written, and then a new id is claimed: a
//     new one alone would not make the broker refuse the old one.
//   - A copy is read to a quiet end. Its first batch carries the epoch of the claim, and from that batch on the broker refuses earlier owners.
//
// What is weaker than a fence: a batch of an earlier owner that arrives between the quiet end and that first batch. Then the first batch is not
// where it was expected, the copy is read again, and the earlier owner's batch is a foreign_write. With provenance no batch is expected at an offset,
// and that may go unnoticed.

// claims reports whether shards are claimed instead of fenced.
func (f *Flow) claims() bool { return f.config.Fence == config.FenceLease }

// claimLocked is fenceLocked on a target without transactions. It reads the journal before, because the journal has the last epoch. The shard's lock
// is held.
func (r *recovery) claimLocked(ctx context.Context) error {
	f, s, end := r.flow, r.shard, int64(-1)
	if r.reload {
		t := &logTail{until: toQuiet}
		var err error
		if r.loaded, err = s.loadJournalLocked(ctx, t); err != nil {
			return err
		}
		end = t.end
		f.raiseShrunk(s, r.loaded)
	}
	before := s.fencer.producerID
	for claimed := false; !claimed; claimed = s.fencer.epoch < math.MaxInt16 {
		var err error
		if end, err = s.claimLocked(ctx, end); err != nil {
			return err
		}
	}
	r.reload, r.mark, s.fencer.claimed = false, marker{s.fencer.producerID, s.fencer.epoch}, true
	s.ownership.refenced()
	s.noteProducer(before)
	return nil
}

// claimLocked claims the shard's journal partition, and returns the target offset behind the claim. End is the target offset at which the claim must
// be, -1 if this process has claimed the partition before, so that only its own batches can be behind what it knows. Until the claim is certain, the
// journal is in doubt: nothing is written with its epoch, which may be that of another process.
func (s *shard) claimLocked(ctx context.Context, end int64) (behind int64, err error) {
	if err := s.fencer.raise(ctx, s.claim); err != nil {
		return -1, err
	}
	s.ownership.doubt()
	s.sequence, s.journalLimit = 0, journalBatchBytes
	state := &offsets.ShardState{
		ProducerIDs: withNewest(s.producerIDs, s.fencer.producerID),
		Claim:       &offsets.Claim{ProducerID: s.fencer.producerID, Epoch: s.fencer.epoch},
		Rest:        s.restID(),
	}
	entries := []journalEntry{newJournalEntry(state), newJournalEntry(s.flow.ownerNow())}
	w := newJournalWriter(s, nil)
	w.put(entries...)
	_, err = s.flow.writeShardJournal(w)
	switch {
	case isFencing(err), end < 0 && (errors.Is(err, kerr.OutOfOrderSequenceNumber) || errors.Is(err, kerr.DuplicateSequenceNumber)): // a new epoch begins with sequence 0, unless another process has begun it
		return -1, fmt.Errorf("%w: %w", errEpochTaken, err)
	case err != nil:
		return -1, err
	case end >= 0 && w.base != end:
		return -1, fmt.Errorf("%w: the journal was read up to offset %d, and the claim is at %d", errNotYet, end, w.base)
	}
	if err := s.verifyClaim(ctx, w.base, entries); err != nil {
		return -1, err
	}
	s.claim = state.Claim
	s.setProducerIDs(state.ProducerIDs)
	return w.base + int64(s.sequence), nil
}

// verifyClaim reads a claim back. Two processes that claim the same epoch send the same sequence, and the broker takes the second batch for a repetition
// of the first one: it answers as if it had appended it.
func (s *shard) verifyClaim(ctx context.Context, at int64, entries []journalEntry) error {
	i := 0
	err := s.readJournal(ctx, &logTail{from: at, until: at + int64(len(entries))}, func(r recordbatch.Record) error {
		if i < len(entries) && (!bytes.Equal(r.Key, entries[i].key) || !bytes.Equal(r.Value, entries[i].value)) {
			return fmt.Errorf("%w: another process has claimed the shard at offset %d of its journal", errEpochTaken, at)
		}
		i++
		return nil
	})
	if err == nil && i < len(entries) {
		err = fmt.Errorf("%w: the claim at offset %d of the journal is gone", errNotYet, at)
	}
	return err
}

// raise takes the epoch behind those that this process and the newest claim in the journal have used, or a new producer id if there is none.
func (f *fencer) raise(ctx context.Context, newest *offsets.Claim) error {
	if newest != nil && (!f.claimed || f.producerID == newest.ProducerID) {
		if f.producerID != newest.ProducerID || f.epoch < newest.Epoch {
			f.producerID, f.epoch = newest.ProducerID, newest.Epoch
		}
		if f.epoch < math.MaxInt16 {
			f.epoch++
			return nil
		}
	}
	request := kmsg.NewPtrInitProducerIDRequest()
	request.ProducerID, request.ProducerEpoch = -1, -1
	response, err := request.RequestWith(ctx, f.client)
	if err == nil {
		err = kerr.ErrorForCode(response.ErrorCode)
	}
	switch {
	case errors.Is(err, kerr.ClusterAuthorizationFailed):
		return fmt.Errorf("a producer id on cluster %s: %w; grant WRITE on topic %s, and before Kafka 3.0 also IDEMPOTENT_WRITE on the cluster", f.cluster, err, f.journal)
	case err != nil:
		return fmt.Errorf("a producer id on cluster %s: %w", f.cluster, err)
	}
	f.producerID, f.epoch = response.ProducerID, response.ProducerEpoch
	return nil
}

// toQuiet means that a log tail is read to a quiet end, because no marker ends it.
const toQuiet = -2

// tailEnd says up to where the log tails of known partitions are read.
func (r *recovery) tailEnd() int64 {
	if r.flow.claims() {
		return toQuiet
	}
	return toMarker
}
