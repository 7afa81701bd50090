package offsets

import (
	"cmp"
	"slices"
	"sync/atomic"
)

// chunkRef is where a chunk is in the journal, and its segments while they are in memory. A chunk that was written again
// gets a new one: only what says so changes.
type chunkRef struct {
	generation      uint32
	first, previous int64
	begin, end      Position // of its segments; of an empty chunk unknown
	empty           bool
	at              int64 // offset in the journal

	segments atomic.Pointer[[]Segment] // nil: not in memory
	used     atomic.Bool               // since memory was last short
	slot     int                       // in memory's ring, and guarded by its lock
}

func newChunkRef(c *Chunk, at int64) *chunkRef {
	ref := &chunkRef{generation: c.Generation, first: c.First, previous: c.Previous, at: at, empty: len(c.Segments) == 0, slot: slotNone}
	if n := len(c.Segments); n > 0 {
		last := c.Segments[n-1]
		ref.begin = Position{Source: c.Segments[0].Source, Target: c.Segments[0].Target}
		ref.end = Position{Source: last.SourceEnd(), Target: last.TargetEnd()}
	}
	return ref
}

// is says whether a chunk that was read again is this one.
func (c *chunkRef) is(k *Chunk) bool {
	return k.First == c.first && k.Generation == c.generation && k.Previous == c.previous
}

// history is the map of one partition as the journal has it.
type history struct {
	state  *PartitionState     // nil while only chunks were seen
	chunks map[int64]*chunkRef // by First, of all generations
	refs   []*chunkRef         // of the state's generation, in order
}

// loaded is a chunk that was read back, perhaps only for the one who asked.
type loaded struct {
	ref      *chunkRef
	segments []Segment
}

// arrange puts the chunks of the state's generation in order.
func (h *history) arrange() {
	h.refs = h.refs[:0]
	if h.state == nil {
		return
	}
	for _, ref := range h.chunks {
		if ref.generation == h.state.Generation {
			h.refs = append(h.refs, ref)
		}
	}
	slices.SortFunc(h.refs, func(a, b *chunkRef) int { return cmp.Compare(a.first, b.first) })
}

// replace puts a chunk in the place of an older one of the same name, if no other order follows from that.
func (h *history) replace(old, ref *chunkRef) bool {
	if old == nil || ref == nil || old.generation != ref.generation || h.state == nil {
		return false
	}
	i, found := slices.BinarySearchFunc(h.refs, ref.first, func(r *chunkRef, first int64) int { return cmp.Compare(r.first, first) })
	if found {
		h.refs[i] = ref
	}
	return found
}

// translate is [Map.Forward] and [Map.Reverse] over chunks that may not be in memory: then it names the one it needs. What
// RestoreMap checks for all chunks is checked here for those that an answer depends on.
func (h *history) translate(side Side, wanted int64, back loaded) (offset int64, exact bool, missing *chunkRef, err error) {
	start, end, other := h.state.Start.on(side), h.state.End.on(side), side.other()
	switch {
	case wanted > end:
		return 0, false, nil, &NotCopiedError{Side: side, Wanted: wanted, End: end}
	case wanted == end:
		return h.state.End.on(other), true, nil, nil
	case len(h.refs) == 0:
		return 0, false, nil, h.corrupt("has no chunks")
	case h.refs[0].previous != none:
		start = h.refs[0].begin.on(side) // the beginning was deleted from the journal
	case wanted >= 0 && wanted < start && h.state.Start.Target == 0:
		return h.state.Start.on(other), false, nil, nil // nothing stands before the first record that was copied
	}
	if wanted < start {
		return 0, false, nil, &BeforeStartError{Side: side, Wanted: wanted, Start: start}
	}
	c := chunkAt(h.refs, side, wanted)
	ref := h.refs[c]
	if why := h.fault(c); why != "" {
		return 0, false, nil, h.corrupt("chunk %d %s", ref.first, why)
	}
	segments := back.segments
	if back.ref != ref {
		kept := ref.segments.Load()
		if kept == nil {
			return 0, false, ref, nil
		}
		segments = *kept
	}
	if !ref.used.Load() { // a write that is not needed would make the cores take turns
		ref.used.Store(true)
	}
	i := segmentAt(segments, side, wanted)
	if i >= 0 {
		s := segments[i]
		if into := wanted - s.on(side); into < s.Count {
			return s.on(other) + into, true, nil, nil
		}
	}
	switch {
	case i+1 < len(segments):
		return segments[i+1].on(other), false, nil, nil
	case c+1 == len(h.refs):
		return h.state.End.on(other), false, nil, nil
	}
	if why := h.fault(c + 1); why != "" {
		return 0, false, nil, h.corrupt("chunk %d %s", h.refs[c+1].first, why)
	}
	return h.refs[c+1].begin.on(other), false, nil, nil
}

// fault says what keeps a chunk from being believed: how it follows the one before, and how it is followed.
func (h *history) fault(c int) string {
	ref := h.refs[c]
	before, after := h.state.Start, h.state.End
	if c > 0 {
		before = h.refs[c-1].end
	}
	if c+1 < len(h.refs) {
		after = h.refs[c+1].begin
	}
	switch {
	case c > 0 && ref.previous != h.refs[c-1].first, c > 0 && h.refs[c-1].empty:
		return "does not follow the one that is before it"
	case c == 0 && ref.previous == none && ref.first != h.state.Start.Source, ref.first < h.state.Start.Source:
		return "is not where the map begins"
	case c+1 == len(h.refs) && ref.first != h.state.Chunk:
		return "is the last one, and another one is missing"
	case c+1 < len(h.refs) && h.refs[c+1].previous != ref.first:
		return "is not the one before the next one"
	case ref.empty:
		return ""
	case ref.begin.Source < before.Source, ref.begin.Target < before.Target:
		return "begins before the one before it ends"
	case ref.end.Source > after.Source, ref.end.Target > after.Target:
		return "ends behind the beginning of what follows it"
	}
	return ""
}

func (h *history) corrupt(format string, args ...any) error {
	args = append([]any{h.state.Topic, h.state.Partition}, args...)
	return corrupt(KindChunk, "%s/%d "+format, args...)
}

// chunkAt returns the last chunk that begins at or below an offset, or the first one.
func chunkAt(refs []*chunkRef, side Side, offset int64) int {
	low, high := 0, len(refs)-1
	for low < high {
		mid := int(uint(low+high+1) >> 1)
		if refs[mid].begin.on(side) <= offset {
			low = mid
		} else {
			high = mid - 1
		}
	}
	return low
}
