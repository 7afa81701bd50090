package offsets

import (
	"fmt"
	"iter"
	"math"
	"slices"
)

// ChunkSegments is the number of segments after which a chunk is sealed. A sealed chunk never changes.
const ChunkSegments = 512

// noChunk is the previous chunk of a map's first chunk. No offset is negative.
const noChunk int64 = -1

// chunk is the part of a map that is journaled as one record and forgotten as a whole.
type chunk struct {
	first    int64  // its name: the source offset of the map's start for the first chunk, otherwise of its first segment
	previous int64  // first of the previous chunk, noChunk if there is none; kept when that chunk is forgotten
	version  uint64 // of the map when this chunk last changed
	written  bool   // a sealed chunk that the journal has, before the state that needs it
	segments []Segment
}

// Map holds the ordered segments of one partition, and its start and end. The zero value is not usable: see [NewMap]
// and [RestoreMap]. A Map is not safe for concurrent use.
//
//	start <= segments[0];  segments[i].end <= segments[i+1];  segments[n-1].end <= end    on both sides
//	segments[i].end = segments[i+1] on one side at most, otherwise the two would be one
//	0 <= journaled <= version;  chunks[i].version <= chunks[i+1].version <= version
type Map struct {
	origin Pair // where the map starts, including forgotten chunks
	start  Pair // inclusive: offsets below it cannot be translated from memory
	end    Pair // exclusive

	// Never empty. Only the last chunk, the open one, changes. Only the first chunk of a map can have no segments.
	chunks []chunk
	length int // segments in all chunks

	version   uint64 // counts the changes
	journaled uint64 // the version up to which the journal has everything
}

// NewMap returns an empty map that starts and ends at the given offsets: the map does not describe offsets below
// them, and the next record will be at or above both. It panics if one is negative.
func NewMap(source, target int64) *Map {
	if source < 0 || target < 0 {
		panic(fmt.Sprintf("offsets: start of a map must be 0 <= source (%d), 0 <= target (%d)", source, target))
	}
	p := Pair{Source: source, Target: target}
	return &Map{
		origin: p, start: p, end: p,
		chunks:  []chunk{{first: source, previous: noChunk, version: 1}},
		version: 1,
	}
}

// Append records that the source offsets [source, source+count) are at the target offsets [target, target+count), and
// moves both ends after them. If both sides continue where the last segment ended, the records become part of it.
// Offsets between the old ends and the new records have no copied record. It returns an *[OrderError] and changes
// nothing if a side would go backwards, count is below 1 or an offset would overflow.
func (m *Map) Append(source, target, count int64) error {
	if source < m.end.Source || target < m.end.Target || count < 1 || max(source, target) > math.MaxInt64-count {
		return &OrderError{Source: source, Target: target, Count: count, End: m.end}
	}
	m.version++
	m.end = Pair{Source: source + count, Target: target + count}
	open := &m.chunks[len(m.chunks)-1]
	if n := len(open.segments); n > 0 {
		last := &open.segments[n-1]
		if last.SourceEnd() == source && last.TargetEnd() == target {
			last.Count += count
			open.version = m.version
			return nil
		}
		if n >= ChunkSegments {
			m.chunks = append(m.chunks, chunk{first: source, previous: open.first})
			open = &m.chunks[len(m.chunks)-1]
		}
	}
	open.segments = append(open.segments, Segment{Source: source, Target: target, Count: count})
	open.version = m.version
	m.length++
	return nil
}

// Advance moves the ends over offsets without copied records: dropped records and markers on the source, markers and
// foreign writes on the target. Both are exclusive and may stay where they are. It returns an *[OrderError] and
// changes nothing if one would go backwards.
func (m *Map) Advance(source, target int64) error {
	if source < m.end.Source || target < m.end.Target {
		return &OrderError{Source: source, Target: target, End: m.end}
	}
	if to := (Pair{Source: source, Target: target}); to != m.end {
		m.end = to
		m.version++
	}
	return nil
}

// Start returns the lowest offsets that can be translated, inclusive. [Map.Forget] moves it.
func (m *Map) Start() (source, target int64) { return m.start.Source, m.start.Target }

// End returns the exclusive ends: all source records below source that have to be copied are on the target, below
// target.
func (m *Map) End() (source, target int64) { return m.end.Source, m.end.Target }

// Len returns the number of segments in memory.
func (m *Map) Len() int { return m.length }

// Segments yields the segments in memory, in order. The map must not change during the iteration.
func (m *Map) Segments() iter.Seq[Segment] {
	return func(yield func(Segment) bool) {
		for i := range m.chunks {
			for _, s := range m.chunks[i].segments {
				if !yield(s) {
					return
				}
			}
		}
	}
}

// Forward returns the target offset of the record at a source offset. If that record was not copied (compacted,
// aborted, dropped), exact is false and target is that of the next copied record, or the target end if there is none
// yet. So a consumer that would continue at source on the source continues at target on the target: it reads nothing
// twice and skips nothing. The source end translates to the target end, exactly. Errors: *[BeforeStartError],
// *[NotCopiedError].
func (m *Map) Forward(source int64) (target int64, exact bool, err error) {
	return m.translate(Source, source)
}

// Reverse returns the source offset of the record at a target offset. If no copied record is there (a marker, a
// foreign write), exact is false and source is that of the next copied record, or the source end if there is none
// yet. The target end translates to the source end, exactly. Errors: *[BeforeStartError], *[NotCopiedError].
func (m *Map) Reverse(target int64) (source int64, exact bool, err error) {
	return m.translate(Target, target)
}

// translate is Forward and Reverse, which differ only in the side.
func (m *Map) translate(side Side, wanted int64) (offset int64, exact bool, err error) {
	switch start, end := m.start.on(side), m.end.on(side); {
	case wanted < start:
		return 0, false, &BeforeStartError{
			Side: side, Wanted: wanted, Start: start, Forgotten: wanted >= m.origin.on(side), Begin: m.start,
		}
	case wanted > end:
		return 0, false, &NotCopiedError{Side: side, Wanted: wanted, End: end}
	case wanted == end:
		return m.end.on(side.other()), true, nil
	}
	c := m.chunkAt(side, wanted)
	segments := m.chunks[c].segments
	i := segmentAt(segments, side, wanted)
	if i >= 0 {
		s := segments[i]
		if into := wanted - s.on(side); into < s.Count {
			return s.on(side.other()) + into, true, nil
		}
	}
	// No copied record is there: answer with the next segment, which may be in the next chunk or not exist yet.
	if i+1 < len(segments) {
		return segments[i+1].on(side.other()), false, nil
	}
	if c+1 < len(m.chunks) {
		return m.chunks[c+1].segments[0].on(side.other()), false, nil
	}
	return m.end.on(side.other()), false, nil
}

// chunkAt returns the last chunk that starts at or below an offset, or the first chunk.
func (m *Map) chunkAt(side Side, offset int64) int {
	low, high := 0, len(m.chunks)-1 // the answer is in [low, high]
	for low < high {
		mid := int(uint(low+high+1) >> 1)
		if m.chunks[mid].segments[0].on(side) <= offset { // mid >= 1, and only chunk 0 can be empty
			low = mid
		} else {
			high = mid - 1
		}
	}
	return low
}

// segmentAt returns the last segment that starts at or below an offset, or -1.
func segmentAt(segments []Segment, side Side, offset int64) int {
	low, high := 0, len(segments) // the number of such segments is in [low, high]
	for low < high {
		mid := int(uint(low+high) >> 1)
		if segments[mid].on(side) <= offset {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low - 1
}

// Forget drops chunks from memory whose segments are all below a source offset, if the journal has them. The open
// chunk always stays. Start moves up to the first segment that is left. Forgotten chunks stay in the journal.
func (m *Map) Forget(beforeSource int64) {
	n := 0
	for n+1 < len(m.chunks) && m.chunks[n+1].first <= beforeSource && m.chunks[n].version <= m.journaled {
		m.length -= len(m.chunks[n].segments)
		n++
	}
	if n == 0 {
		return
	}
	m.chunks = slices.Delete(m.chunks, 0, n) // zeroes the removed elements, so their memory is freed
	first := m.chunks[0].segments[0]
	m.start = Pair{Source: first.Source, Target: first.Target}
}
