package control

import (
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	// MaxSpoiled is how many keys a state remembers whose newest record is not what holds, besides those of decisions.
	maxSpoiled = 1000
	// MaxSpoiledKey is the longest such key, in bytes.
	maxSpoiledKey = 4 << 10
	// MaxOffsets is for how many keys a state knows their newest record, and keptOffsets how far back it does when there are more.
	maxOffsets, keptOffsets = 4 * MaxDecisions, 10_000
)

// housekeeping is what a state knows of how the topic differs from what holds.
type housekeeping struct {
	next    int64            // the offset behind what was read
	offsets map[string]int64 // of the newest record of a decision's key
	spoiled map[string]bool  // keys whose newest record is not what holds: nonsense, gone, or overtaken
	urgent  bool             // something was overtaken, and is to be written again soon
}

// read notes that a record was read.
func (h *housekeeping) read(key string, offset int64) {
	h.next = max(h.next, offset+1)
	if !strings.HasPrefix(key, decisionPrefix) && key != currentRecovery && key != currentDrill || len(key) > maxKey {
		return // nobody else writes the key of what has an id
	}
	h.offsets[key] = offset
	if len(h.offsets) > maxOffsets {
		maps.DeleteFunc(h.offsets, func(_ string, at int64) bool { return at < h.next-keptOffsets })
	}
}

// isOvertaken reports whether a record of a key came since the topic was read up to an offset, 0 if that does not matter.
func (h *housekeeping) isOvertaken(key string, readTo int64) bool {
	at, ok := h.offsets[key]
	return ok && readTo > 0 && at >= readTo
}

// spoil notes that the newest record of a key is not what holds.
func (h *housekeeping) spoil(key string) {
	if strings.HasPrefix(key, decisionPrefix) && len(key) <= maxKey && len(h.spoiled) < MaxDecisions+maxSpoiled || len(h.spoiled) < maxSpoiled && len(key) <= maxSpoiledKey {
		h.spoiled[key] = true
	}
}

// IsUrgent reports whether something that people decided was overtaken by housekeeping, so that it is to be written again at once.
func (s *State) IsUrgent() bool { return s.urgent }

// held returns the value that a key should have, nil for none.
func (s *State) held(key string) []byte {
	if d := s.decisions[key]; d != nil {
		return encode(d)
	}
	if d, ok := s.history[strings.TrimPrefix(key, historyPrefix)]; ok && strings.HasPrefix(key, historyPrefix) {
		return encode(d)
	}
	if e, ok := s.events[strings.TrimPrefix(key, eventPrefix)]; ok && strings.HasPrefix(key, eventPrefix) {
		return encode(e)
	}
	if strings.HasPrefix(key, recoveryPrefix) {
		return s.recovery.value(key)
	}
	if strings.HasPrefix(key, runPrefix) || strings.HasPrefix(key, ownPrefix) {
		return s.progress.value(key)
	}
	id, instance, _ := strings.Cut(strings.TrimPrefix(key, outcomePrefix), "/")
	if o, ok := s.outcomes[id][instance]; ok && strings.HasPrefix(key, outcomePrefix) {
		return encode(o)
	}
	return nil
}

// spare returns commands that were done, but for skips and the newest [MaxHistory]: else what was done once to many partitions would leave no room for
// other decisions.
func (s *State) spare() map[*Decision]bool {
	var done []*Decision
	for _, d := range s.Decisions() {
		if d.What.IsCommand() && d.What != Skip && len(s.outcomes[d.ID]) > 0 {
			done = append(done, d)
		}
	}
	spare := make(map[*Decision]bool)
	for _, d := range done[:max(0, len(done)-MaxHistory)] {
		spare[d] = true
	}
	return spare
}

// Housekeep returns records that keep the topic short and right: tombstones of what is too old, too much or nonsense, and what holds where its newest
// record is nonsense or gone. Whoever writes them reads them like any others. They count only if nobody has written about the same since.
func (s *State) Housekeep(now time.Time) (entries []Entry) {
	s.urgent = false
	for _, key := range slices.Sorted(maps.Keys(s.spoiled)) {
		entries = append(entries, Entry{Key: key, Value: s.held(key)})
	}
	entries = append(entries, s.oldEvents(now)...)
	kept := make(map[string]bool)
	history := s.History()
	for i, d := range history {
		if len(history)-i > MaxHistory || now.Sub(d.When) > HistoryAge {
			entries = append(entries, Entry{Key: historyPrefix + d.ID})
		} else {
			kept[d.ID] = true
		}
	}
	spare := s.spare()
	for _, key := range slices.Sorted(maps.Keys(s.decisions)) {
		d := s.decisions[key]
		// A start stays: without it a way back would count as never started.
		over := d.What == Resume || d.What == Throttle && d.Rate == 0 || !d.Until.IsZero() && !now.Before(d.Until) || d.What.IsCommand() && d.What != Skip && len(s.outcomes[d.ID]) > 0
		if over && now.Sub(d.When) > HistoryAge && now.Sub(d.Until) > HistoryAge || spare[d] {
			entries = append(entries, Entry{Key: key})
		} else {
			kept[d.ID] = true
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.outcomes)) {
		if kept[id] {
			continue
		}
		for instance := range s.outcomes[id] {
			entries = append(entries, Entry{Key: outcomePrefix + id + "/" + instance})
		}
	}
	entries = append(entries, s.progress.housekeep(now)...)
	entries = append(entries, s.recovery.housekeep()...)
	for i := range entries {
		entries[i].ReadTo = s.next
	}
	return entries
}

// oldEvents returns tombstones of the events that are too old or too many.
func (s *State) oldEvents(now time.Time) (entries []Entry) {
	events := s.Events()
	for i := range events {
		if e := &events[i]; len(events)-i > MaxEvents || now.Sub(e.Latest()) > HistoryAge {
			entries = append(entries, Entry{Key: e.key()})
		}
	}
	return entries
}
