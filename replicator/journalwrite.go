package replicator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/wire"
)

const (
	// JournalBatchBytes is the maximum size of a journal batch, half of the default max.message.bytes. A topic with a smaller one gets
	// smaller batches.
	journalBatchBytes = 512 << 10
	// JournalRequestBytes is the size at which a request with batches of several shards is closed.
	journalRequestBytes = 2 << 20
	// JournalRecordBytes is more than a record takes besides its key and value.
	journalRecordBytes = 32
	// SealedPerStep is how many sealed chunks of a partition are copied at a time, each of 1 to 15 KiB.
	sealedPerStep = 64
)

// errJournalLater means that a shard's progress could not be journaled and is written again by the next pass.
var errJournalLater = errors.New("the journal could not be written")

// journalEntry is one record for the journal.
type journalEntry struct {
	key, value []byte
	of         *partition // nil: of the shard itself
	what       string     // for an error
	written    func()     // called once it is written; may be nil
	optional   bool       // it is left out if the topic does not accept it
}

func (e *journalEntry) size() int { return len(e.key) + len(e.value) + journalRecordBytes }

func newJournalEntry(e offsets.Entry) journalEntry {
	return journalEntry{key: e.AppendKey(nil), value: e.AppendValue(nil), what: "state of the shard"}
}

// journalWriter writes what changed in one shard, batch by batch. Sealed chunks come first, then the open chunk and the state: readers ignore
// what is ahead of the state, so a batch may end between any two records, and a failure repeats only what was not written. The shard's lock is
// held while it is used.
type journalWriter struct {
	shard   *shard
	all     []*partition        // that it writes
	members []*partition        // of them, those whose changes were not collected yet
	after   int64               // the last sealed chunk of the first of them that was collected
	left    map[*partition]bool // partitions with a record that the topic does not accept: their state must not be written without it
	pending []journalEntry
	bytes   int // of pending
	sent    []journalEntry
	pruned  bool  // tombstones were added
	wrote   bool  // at least one batch is written
	base    int64 // target offset of the first of them
	err     error // why it ended early
}

// newJournalWriter returns a writer of everything that changed in partitions of the shard, and of the given entries, which come first. The
// shard's lock is held.
func newJournalWriter(s *shard, members []*partition, first ...offsets.Entry) *journalWriter {
	w := &journalWriter{shard: s, all: members, members: members, after: -1, left: make(map[*partition]bool)}
	for _, e := range first {
		w.put(newJournalEntry(e))
	}
	return w
}

func (w *journalWriter) put(entries ...journalEntry) {
	for _, e := range entries {
		w.pending = append(w.pending, e)
		w.bytes += e.size()
	}
}

// next takes the entries of the next batch. There are none when everything is written.
func (w *journalWriter) next() []journalEntry {
	limit := w.shard.journalLimit
	for w.bytes < limit && w.collect() {
	}
	n, bytes := 0, 0
	for n < len(w.pending) && (n == 0 || bytes+w.pending[n].size() <= limit) {
		bytes += w.pending[n].size()
		n++
	}
	w.sent, w.pending, w.bytes = w.pending[:n:n], w.pending[n:], w.bytes-bytes
	return w.sent
}

// collect adds the next changes of the first partition: some sealed chunks or, if there are no more, the open chunk and the state. It returns
// false if no partition is left. The last batch is filled up with tombstones.
func (w *journalWriter) collect() bool {
	if len(w.members) == 0 {
		if !w.pruned {
			w.pruned = true
			w.put(w.shard.tombstones(w.shard.journalLimit - w.bytes)...)
		}
		return false
	}
	p, last := w.members[0], true
	if !w.left[p] {
		var entries []journalEntry
		entries, w.after, last = p.journalEntries(w.after)
		w.put(entries...)
	}
	if last {
		w.members, w.after = w.members[1:], -1
	}
	return true
}

// journalEntries returns the next entries of a journal pass, which has collected the sealed chunks up to the one named after. The last
// entries are the open chunk and the state.
func (p *partition) journalEntries(after int64) (entries []journalEntry, next int64, last bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.progress.beginWrite()
	if p.state == retired || !p.progress.hasChanges() {
		return nil, after, true
	}
	put := func(e offsets.Entry, what string, written func()) {
		entry := newJournalEntry(e)
		entry.of, entry.what = p, what+" of "+p.String()
		entry.written = func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			written()
		}
		entries = append(entries, entry)
	}
	if sealed := p.progress.sealed(after, sealedPerStep); len(sealed) > 0 {
		m := p.offsets
		for _, c := range sealed {
			put(c, "a chunk", func() {
				m.MarkSealed([]*offsets.Chunk{c})
				p.shard.pruning.written.Add(1)
			})
			next = c.First
		}
		return entries, next, false
	}
	open, state, w := p.progress.changes()
	if open != nil {
		put(open, "the open chunk", func() {})
	}
	put(state, "the state", func() { p.progress.markJournaled(w) })
	return entries, after, true
}

// batch encodes the entries to send.
func (w *journalWriter) batch() ([]byte, error) {
	now := time.Now().UnixMilli()
	records := make([]recordbatch.Record, len(w.sent))
	for i, e := range w.sent {
		records[i] = recordbatch.Record{Timestamp: now, Offset: int64(i), Key: e.key, Value: e.value}
	}
	batch, err := recordbatch.Encode(records, recordbatch.None)
	if err != nil {
		return nil, fmt.Errorf("encode journal batch: %w", err)
	}
	recordbatch.Rewrite(batch, w.shard.fencer.producerID, w.shard.fencer.epoch, w.shard.sequence)
	return batch, nil
}

// fail ends the writer. Its batch was not written.
func (w *journalWriter) fail(err error) {
	w.err = fmt.Errorf("shard %d: %w", w.shard.number, err)
	w.shard.journalFails = true
}

// failInDoubt ends the writer. Its batch may have been written, so the next takeover fences the journal partition.
func (w *journalWriter) failInDoubt(err error) {
	w.fail(err)
	w.shard.ownership.doubt()
}

// settle processes the response to the batch.
func (w *journalWriter) settle(rp *kmsg.ProduceResponseTopicPartition) {
	s := w.shard
	if rp == nil {
		w.failInDoubt(fmt.Errorf("journal write to %s: the response does not contain the partition", s.journal()))
		return
	}
	code := kerr.ErrorForCode(rp.ErrorCode)
	switch wire.ClassifyProduce(rp.ErrorCode) {
	case wire.Acked:
		s.sequence = nextSequence(s.sequence, len(w.sent))
		if !w.wrote {
			w.base = rp.BaseOffset
		}
		s.journalFails, w.wrote = false, true
		s.flow.metrics.journalWrites.WithLabelValues("written").Inc()
		for _, e := range w.sent {
			if e.written != nil {
				e.written()
			}
		}
	case wire.Oversized:
		w.divide(code)
	case wire.Unauthorized:
		w.fail(fmt.Errorf("journal write: %w; grant WRITE on topic %s of cluster %s", code, s.journal().Topic, s.flow.config.Target))
	case wire.Doubtful, wire.Fenced, wire.Unordered:
		w.failInDoubt(fmt.Errorf("journal write to %s: %w", s.journal(), code))
	case wire.Refused, wire.Unacceptable, wire.Unplaced:
		w.fail(fmt.Errorf("journal write to %s: %w", s.journal(), code))
	}
}

// divide lets the entries of a batch that was too large be sent in smaller ones. A single record that is too large is left out, and with it
// the rest of its partition, whose state must not be written without it.
func (w *journalWriter) divide(code error) {
	if len(w.sent) > 1 {
		bytes := 0
		for _, e := range w.sent {
			bytes += e.size()
		}
		w.shard.journalLimit = bytes / 2
		w.pending, w.bytes = append(w.sent, w.pending...), w.bytes+bytes
		return
	}
	s, e := w.shard, w.sent[0]
	err := fmt.Errorf("journal record of %d bytes, %s: %w; set max.message.bytes of topic %s on cluster %s to its default, 1048588",
		e.size(), e.what, code, s.journal().Topic, s.flow.config.Target)
	if e.optional {
		s.flow.warn("a journal record is too large and is left out", "err", err)
		return
	}
	if e.of == nil {
		w.fail(err)
		return
	}
	w.left[e.of] = true
	w.pending = slices.DeleteFunc(w.pending, func(other journalEntry) bool {
		if other.of != e.of {
			return false
		}
		w.bytes -= other.size()
		return true
	})
	s.flow.metrics.journalWrites.WithLabelValues("failed").Inc()
	s.flow.warn("a journal record is too large, the progress of its partition is not journaled", "err", err)
}

// writeJournals writes to the journal partitions of shards that one broker leads, several in one request, so that a partition whose replicas
// are slow costs the others one timeout at most. It calls finished for each writer, whose shard may then be unlocked, and returns when all
// have finished. Batches are written by the shard's own producer, so that a fenced owner cannot write the journal either.
func (f *Flow) writeJournals(ctx context.Context, leader int32, writers []*journalWriter, finished func(*journalWriter)) {
	for len(writers) > 0 {
		round, rest := f.sendJournals(ctx, leader, writers)
		writers = rest
		for _, w := range round {
			if w.err == nil && len(w.sent) > 0 {
				writers = append(writers, w) // behind those that had no turn
				continue
			}
			if w.err != nil {
				f.journalFailed(ctx, w)
			}
			w.end()
			finished(w)
		}
	}
}

// end notes the partitions of which something is left, because it was not written or is new.
func (w *journalWriter) end() {
	for _, p := range w.all {
		p.mu.Lock()
		if p.state != retired {
			p.progress.noteAgain()
		}
		p.mu.Unlock()
	}
}

// sendJournals sends the next batches of as many writers as one request takes. It returns these, and the others.
func (f *Flow) sendJournals(ctx context.Context, leader int32, writers []*journalWriter) (round, rest []*journalWriter) {
	id := f.targetView().ByName[f.journalTopic].ID
	request := wire.NewProduceRequest(f.journalTimeout())
	bytes := 0
	for len(round) < len(writers) && bytes < journalRequestBytes {
		w := writers[len(round)]
		round = append(round, w)
		if len(w.next()) == 0 {
			continue
		}
		batch, err := w.batch()
		if err != nil {
			w.fail(err)
			continue
		}
		request.Add(w.shard.journal(), id, batch)
		bytes += len(batch)
	}
	rest = writers[len(round):]
	if bytes == 0 {
		return round, rest
	}
	line, throttle := f.journal.take(ctx, leader), int32(0)
	defer func() { f.journal.give(line, throttle) }()
	if !f.lease.holds() { // a fence must confirm it
		later(writers)
		return append(round, rest...), nil
	}
	began := f.lease.now() // not before the wait, or a confirmation would often be too old when it comes
	response, err := line.Produce(ctx, leader, request)
	if err != nil {
		for _, w := range round {
			if len(w.sent) > 0 {
				w.failInDoubt(err)
			}
		}
		later(rest) // they would wait for the same timeout
		return append(round, rest...), nil
	}
	throttle = response.ThrottleMillis
	answers, confirmed := wire.IndexProduce(response), false
	for _, w := range round {
		if len(w.sent) > 0 && w.err == nil {
			w.settle(answers.Of(w.shard.journal(), id))
			confirmed = confirmed || w.err == nil && w.wrote
		}
	}
	if confirmed { // not only at the end: if a quota delays each write, a pass takes longer than the lease
		f.confirmOwnership(began)
	}
	return round, rest
}

// later leaves what these writers have for the next pass.
func later(writers []*journalWriter) {
	for _, w := range writers {
		w.err = errJournalLater
	}
}

// journalTimeout is how long a broker may wait for the replicas of a journal partition. It is below the lease, which the other partitions of
// the request confirm.
func (f *Flow) journalTimeout() time.Duration { return min(produceTimeout, f.config.Lease/3) }

// journalFailed reports a failed write, and requests a takeover if its outcome is unknown.
func (f *Flow) journalFailed(ctx context.Context, w *journalWriter) {
	if errors.Is(w.err, errJournalLater) {
		return
	}
	f.metrics.journalWrites.WithLabelValues("failed").Inc()
	f.warn("journal write failed, retrying", "err", w.err) // one line for all shards, which fail together
	f.refreshTarget(ctx)
	if !w.shard.ownership.isCertain() {
		f.requestTakeover(w.shard)
	}
}

// writeShardJournal writes the journal of one shard. It returns whether at least one batch was written, which confirms that this process is the
// owner. The signal to stop does not cancel the write, because the final write could not follow one whose outcome is unknown. The shard's lock is
// held.
func (f *Flow) writeShardJournal(w *journalWriter) (confirmed bool, err error) {
	ctx, leader := f.hard, f.targetLeader(w.shard.journal())
	if leader < 0 {
		w.end()
		f.refreshTarget(ctx)
		return false, fmt.Errorf("journal partition %s has no leader on cluster %s", w.shard.journal(), f.config.Target)
	}
	f.writeJournals(ctx, leader, []*journalWriter{w}, func(*journalWriter) {})
	return w.wrote, w.err
}
