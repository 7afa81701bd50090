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
		if h := &s.horizon; s.journalFails || now.Sub(h.at) < horizonEvery-f.config.JournalInterval/2 && h.count == len(partitions) && !f.released.Load() {
			continue
		}
		entry := newJournalEntry(horizonOf(partitions))
		if s.horizon.at, s.horizon.count = now, len(partitions); len(partitions) > 0 && !bytes.Equal(entry.value, s.horizon.value) {
			entry.what, entry.optional = "the horizon", true
			entry.written = func() { s.horizon.value = entry.value }
			w.put(entry)
		}
	}
}

// horizonOf returns what the copies of partitions lack. Most of them lack nothing and share one time.
func horizonOf(partitions []*partition) *offsets.Horizon {
	var complete, behind []offsets.Behind
	var newest time.Time
	for _, p := range partitions {
		b, ok := p.behind()
		if !ok {
			continue
		}
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

// addTo adds what the partition lacks to that of the flow.
func (p *partition) addTo(rpo *offsets.RPO) {
	if b, ok := p.behind(); ok {
		rpo.Add(b)
	}
}
