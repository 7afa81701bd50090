package replicator

import (
	"bytes"
	"time"

	"github.com/milena-kafka/milena/offsets"
)

const (
	// HorizonEvery is about how often the journal gets the horizon of a shard: in a pass over the journal.
	horizonEvery = 5 * time.Second
	// Partitions that were complete within this time of each other share one time in the horizon. An idle partition is confirmed by each fetch, which
	// waits for half a second, or else by listEnds.
	horizonWidth = 2 * listEndsEvery
)

// horizonState is what the journal of a shard has of its horizon. The shard's lock is held while it is used.
type horizonState struct {
	found *offsets.Horizon // by an earlier owner, when the journal was read; nil if there was none
	at    time.Time        // when the last one was written
	count int              // partitions that it was about
	value []byte           // of its record, once that is written
}

// putHorizons adds the horizons that are due: those of an idle flow change with time alone, and those of a source that is gone do not change.
func (f *Flow) putHorizons(writers []*journalWriter, now time.Time) {
	for _, w := range writers {
		s := w.shard
		partitions := s.members()
		if h := &s.horizon; s.journalFails || now.Sub(h.at) < horizonEvery-f.config.JournalInterval/2 && h.count == len(partitions) && !f.released.Load() && !f.wantsHorizon(h.at) {
			continue
		}
		entry := newJournalEntry(horizonOf(append(s.behind(partitions), f.absent(s, partitions)...)))
		if s.horizon.at, s.horizon.count = now, len(partitions); len(partitions) > 0 && !bytes.Equal(entry.value, s.horizon.value) {
			entry.what, entry.optional = "the horizon", true
			entry.written = func() { s.horizon.value = entry.value }
			w.put(entry)
		}
	}
}

// wantsHorizon reports whether horizons are asked for that are newer than one.
func (f *Flow) wantsHorizon(at time.Time) bool {
	due := f.horizonsDue.Load()
	return due != nil && at.Before(*due)
}

// behind returns what the copies of partitions lack that the source has. One that is not restored yet lacks what it did before.
func (s *shard) behind(partitions []*partition) []offsets.Behind {
	list := make([]offsets.Behind, 0, len(partitions))
	for _, p := range partitions {
		b, ok := p.behind()
		switch {
		case !ok:
		case !p.isRestored() && s.isInJournal(p.source()):
			list = append(list, s.lastBehind(p.source()))
		default:
			list = append(list, b)
		}
	}
	return list
}

// absent returns partitions of the source that the flow has copied, or should copy, and does not now: their topics are not selected any more, or they
// cannot be begun yet. A horizon that left them out would say that they lack nothing. The shard's lock is held.
func (f *Flow) absent(s *shard, partitions []*partition) (list []offsets.Behind) {
	known := make(map[offsets.TopicPartition]bool, len(partitions))
	for _, p := range partitions {
		known[p.source()] = true
	}
	source := f.sourceView()
	add := func(tp offsets.TopicPartition) {
		if !known[tp] && int(tp.Partition) < len(source.ByName[tp.Topic].Partitions) {
			known[tp] = true
			list = append(list, s.lastBehind(tp))
		}
	}
	for _, tp := range s.journaled() {
		add(tp)
	}
	for tp, u := range f.unbegunPartitions() {
		if u.isWanting() && f.shardOf(tp) == s.number {
			add(tp)
		}
	}
	return list
}

// lastBehind returns what was known last of a partition that the shard does not have now. The shard's lock is held.
func (s *shard) lastBehind(tp offsets.TopicPartition) offsets.Behind {
	s.partsMu.Lock()
	b, ok := s.left[tp]
	inJournal := s.inJournal[tp]
	s.partsMu.Unlock()
	if ok {
		return b
	}
	b = offsets.Behind{Topic: tp.Topic, Partition: tp.Partition}
	if h := s.horizon.found; h != nil && inJournal {
		if seen, listed := h.Of(tp.Topic, tp.Partition); seen != nil {
			return *seen
		} else if listed {
			b.Seen, b.Complete = h.At, h.At
		}
	}
	return b
}

// horizonOf returns the horizon of a shard. Most partitions lack nothing and share one time.
func horizonOf(partitions []offsets.Behind) *offsets.Horizon {
	var complete, behind []offsets.Behind
	var newest time.Time
	for _, b := range partitions {
		if b.Missing() > 0 || b.Complete.IsZero() {
			behind = append(behind, b)
			continue
		}
		complete = append(complete, b)
		if b.Complete.After(newest) {
			newest = b.Complete
		}
	}
	var at time.Time
	for _, b := range complete {
		switch {
		case newest.Sub(b.Complete) > horizonWidth:
			behind = append(behind, b)
		case at.IsZero() || b.Complete.Before(at):
			at = b.Complete
		}
	}
	return offsets.NewHorizon(at, behind)
}
