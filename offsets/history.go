package offsets

import (
	"cmp"
	"slices"
	"sync/atomic"
)

// chunkRef is where a chunk is in the journal, and its segments while they are in memory. It is immutable except for
// the cache's fields: a chunk that is written again gets a new chunkRef.
type chunkRef struct {
	generation      uint32
	first, previous int64
	begin, end      Pair // of its segments; unset for an empty chunk
	empty           bool
	at              int64 // offset in the journal

	segments atomic.Pointer[[]Segment] // nil: not in memory
	used     atomic.Bool               // since the clock hand of the cache last passed it
	slot     int                       // in the cache's ring, guarded by the cache's lock
}

func newChunkRef(c *Chunk, at int64) *chunkRef {
	ref := &chunkRef{generation: c.Generation, first: c.First, previous: c.Previous, at: at, empty: len(c.Segments) == 0, slot: slotNone}
	if n := len(c.Segments); n > 0 {
		last := c.Segments[n-1]
		ref.begin = Pair{Source: c.Segments[0].Source, Target: c.Segments[0].Target}
		ref.end = Pair{Source: last.SourceEnd(), Target: last.TargetEnd()}
	}
	return ref
}

// is reports whether a chunk that was read again is this one.
func (c *chunkRef) is(k *Chunk) bool {
	return k.First == c.first && k.Generation == c.generation && k.Previous == c.previous
}

// history is the map of one partition as the journal has it.
type history struct {
	state  *PartitionState     // nil if only chunks were read
	chunks map[int64]*chunkRef // by First, of all generations
	refs   []*chunkRef         // those of the state's map, in order
}

// loadedChunk is a chunk that was read from the journal again. The cache may have evicted it already.
type loadedChunk struct {
	ref      *chunkRef
	segments []Segment
}

// sortRefs rebuilds the ordered list of the chunks of the state's map. It follows the links from the open chunk back, because the journal
// may also have chunks that were written ahead of a state that never followed. Below a missing chunk, whatever the generation has is taken:
// translations next to it are errors, those elsewhere are answered.
func (h *history) sortRefs() {
	h.refs = h.refs[:0]
	if h.state == nil {
		return
	}
	for next := h.state.Chunk; next != noChunk; {
		ref := h.chunks[next]
		if ref == nil || ref.generation != h.state.Generation {
			if ref = h.newestBelow(next); ref == nil {
				break
			}
		}
		h.refs = append(h.refs, ref)
		next = ref.previous
	}
	slices.Reverse(h.refs)
}

// newestBelow returns the last chunk of the state's generation below a missing one, nil if there is none.
func (h *history) newestBelow(first int64) (found *chunkRef) {
	for _, ref := range h.chunks {
		if ref.generation == h.state.Generation && ref.first < first && (found == nil || ref.first > found.first) {
			found = ref
		}
	}
	return found
}

// replace puts a chunk in the place of an older one with the same name, and reports whether it could. If not, the
// list has to be rebuilt.
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

// translate is [Map.Forward] and [Map.Reverse] over chunks that may not be in memory. If it needs one that is not, it
// returns it as missing; the caller loads it and passes it in. What RestoreMap checks for all chunks is checked here for
// those that the answer depends on.
func (h *history) translate(side Side, wanted int64, loaded loadedChunk) (offset int64, exact bool, missing *chunkRef, err error) {
	if offset, exact, done, err := h.translateEdge(side, wanted); done || err != nil {
		return offset, exact, nil, err
	}
	other := side.other()
	c := chunkAt(h.refs, side, wanted)
	ref := h.refs[c]
	if why := h.problem(c); why != "" {
		return 0, false, nil, h.corrupt("chunk %d %s", ref.first, why)
	}
	segments := loaded.segments
	if loaded.ref != ref {
		kept := ref.segments.Load()
		if kept == nil {
			return 0, false, ref, nil
		}
		segments = *kept
	}
	if !ref.used.Load() { // an unneeded write would move the cache line between cores
		ref.used.Store(true)
	}
	i := segmentAt(segments, side, wanted)
	if i >= 0 {
		s := segments[i]
		if into := wanted - s.on(side); into < s.Count {
			return s.on(other) + into, true, nil, nil
		}
	}
	if i+1 < len(segments) { // of the open chunk it may be ahead of the state
		return min(segments[i+1].on(other), h.state.End.on(other)), false, nil, nil
	}
	offset, err = h.startAfter(c, other)
	return offset, false, nil, err
}

// segment returns the segment that has a source offset, or the first one behind it, without what is beyond the end; its Count is 0 if there is none. A
// chunk that is needed and not in memory is returned as missing, as by translate.
func (h *history) segment(source int64, loaded loadedChunk) (found Segment, missing *chunkRef, err error) {
	end := h.state.End.Source
	begin := h.state.Start
	switch {
	case len(h.refs) == 0:
		return Segment{}, nil, h.corrupt("has no chunks")
	case h.refs[0].previous != noChunk:
		begin = h.refs[0].begin // the oldest chunks were deleted from the journal
	}
	if source < begin.Source {
		return Segment{}, nil, &BeforeStartError{Side: Source, Wanted: source, Start: begin.Source, Begin: begin}
	}
	for c := chunkAt(h.refs, Source, source); c < len(h.refs); c++ {
		ref := h.refs[c]
		if why := h.problem(c); why != "" {
			return Segment{}, nil, h.corrupt("chunk %d %s", ref.first, why)
		}
		if ref.empty || source >= ref.end.Source {
			continue // it is in the next chunk
		}
		segments := loaded.segments
		if loaded.ref != ref {
			kept := ref.segments.Load()
			if kept == nil {
				return Segment{}, ref, nil
			}
			segments = *kept
		}
		i := segmentAt(segments, Source, source)
		if i < 0 || segments[i].SourceEnd() <= source {
			i++
		}
		if found = segments[i]; found.Source >= end { // the open chunk may be ahead of the state
			return Segment{}, nil, nil
		}
		found.Count = min(found.Count, end-found.Source)
		return found, nil, nil
	}
	return Segment{}, nil, nil
}

// translateEdge answers for offsets outside of the chunks: at or above the end, and below the start. The done result is false if a
// chunk has to answer.
func (h *history) translateEdge(side Side, wanted int64) (offset int64, exact, done bool, err error) {
	begin, end, other := h.state.Start, h.state.End.on(side), side.other()
	switch {
	case wanted > end:
		return 0, false, true, &NotCopiedError{Side: side, Wanted: wanted, End: end}
	case wanted == end:
		return h.state.End.on(other), true, true, nil
	case len(h.refs) == 0:
		return 0, false, true, h.corrupt("has no chunks")
	case h.refs[0].previous != noChunk:
		begin = h.refs[0].begin // the oldest chunks were deleted from the journal
	case wanted >= 0 && wanted < begin.on(side) && h.state.Start.Target == 0:
		return h.state.Start.on(other), false, true, nil // the target has nothing before the first copied record
	}
	if start := begin.on(side); wanted < start {
		return 0, false, true, &BeforeStartError{Side: side, Wanted: wanted, Start: start, Begin: begin}
	}
	return 0, false, false, nil
}

// startAfter returns the offset on one side at which the map continues after chunk c: the start of the next chunk, or the
// end of the map.
func (h *history) startAfter(c int, side Side) (int64, error) {
	if c+1 == len(h.refs) {
		return h.state.End.on(side), nil
	}
	if why := h.problem(c + 1); why != "" {
		return 0, h.corrupt("chunk %d %s", h.refs[c+1].first, why)
	}
	return h.refs[c+1].begin.on(side), nil
}

// problem says why a chunk cannot be trusted: how it follows the previous chunk, and how the next one follows it. It
// returns "" if it can.
func (h *history) problem(c int) string {
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
		return "does not follow the chunk before it"
	case c == 0 && ref.previous == noChunk && ref.first != h.state.Start.Source, ref.first < h.state.Start.Source:
		return "is the first one, but the map starts elsewhere"
	case c+1 == len(h.refs) && ref.first != h.state.Chunk:
		return "is the last one, but the open chunk is missing"
	case c+1 < len(h.refs) && h.refs[c+1].previous != ref.first:
		return "is not the one that the next chunk follows"
	case ref.empty:
		return ""
	case ref.begin.Source < before.Source, ref.begin.Target < before.Target:
		return "starts before the previous chunk ends"
	case c+1 < len(h.refs) && (ref.end.Source > after.Source || ref.end.Target > after.Target): // the open one may be ahead of its state
		return "ends after the next one starts"
	}
	return ""
}

func (h *history) corrupt(format string, args ...any) error {
	args = append([]any{h.state.Topic, h.state.Partition}, args...)
	return corrupt(KindChunk, "%s/%d "+format, args...)
}

// chunkAt returns the last chunk that starts at or below an offset, or the first chunk.
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
