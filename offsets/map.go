package offsets

import (
	"fmt"
	"iter"
	"math"
	"slices"
)

// ChunkSegments is the number of segments after which a chunk is sealed. A sealed chunk never changes again.
const ChunkSegments = 512

// none stands for "no chunk before this one": no offset is negative.
const none int64 = -1

// chunk is the part of a map that is journalled as one record and forgotten as a whole.
type chunk struct {
	first    int64  // its name: the map's start for the first chunk, else its first segment's source offset
	previous int64  // first of the chunk before, none for the first; also known when that one is forgotten
	version  uint64 // of the map, when this chunk last changed
	segments []Segment
}

// Map is the ordered segments of one partition plus its two ends. The zero value is not usable: see [NewMap] and
// [RestoreMap]. A Map is not safe for concurrent use.
//
//	start <= segments[0];  segments[i].end <= segments[i+1];  segments[n-1].end <= end    on both sides
//	segments[i].end = segments[i+1] on one side at most, or the two would be one
//	0 <= journalled <= version;  chunks[i].version <= chunks[i+1].version <= version
type Map struct {
	origin Position // where the map began, whatever was forgotten since
	start  Position // inclusive: below it nothing can be translated from memory
	end    Position // exclusive

	// Never empty. Only the last chunk, the open one, changes; only the first chunk of all can be without segments.
	chunks []chunk
	length int // segments in all chunks

	version    uint64 // counts the changes
	journalled uint64 // the version up to which the journal has everything
}

// NewMap returns an empty map that starts and ends at the given offsets: what is below them is not described, and the
// next record will be at or above both. It panics if one is negative.
func NewMap(source, target int64) *Map {
	if source < 0 || target < 0 {
		panic(fmt.Sprintf("offsets: start of a map must be 0 <= source (%d), 0 <= target (%d)", source, target))
	}
	p := Position{Source: source, Target: target}
	return &Map{
		origin: p, start: p, end: p,
		chunks:  []chunk{{first: source, previous: none, version: 1}},
		version: 1,
	}
}

// Append notes that the records at the source offsets [source, source+count) stand at the target offsets
// [target, target+count), and moves both ends behind them. It becomes part of the last segment if both sides go on where
// that one ended. Offsets between the old ends and the new records are ones without a copied record. It returns an
// *[OrderError], and changes nothing, if a side would go backwards, count is below 1 or an offset would overflow.
func (m *Map) Append(source, target, count int64) error {
	if source < m.end.Source || target < m.end.Target || count < 1 || max(source, target) > math.MaxInt64-count {
		return &OrderError{Source: source, Target: target, Count: count, End: m.end}
	}
	m.version++
	m.end = Position{Source: source + count, Target: target + count}
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

// Advance moves the ends over offsets that hold no copied record: dropped records and markers on the source, markers
// and foreign writes on the target. Both are exclusive ends and may stay where they are. It returns an *[OrderError],
// and changes nothing, if one would go backwards.
func (m *Map) Advance(source, target int64) error {
	if source < m.end.Source || target < m.end.Target {
		return &OrderError{Source: source, Target: target, End: m.end}
	}
	if to := (Position{Source: source, Target: target}); to != m.end {
		m.end = to
		m.version++
	}
	return nil
}

// Start returns the lowest offsets that can be translated, inclusive. [Map.Forget] moves it.
func (m *Map) Start() (source, target int64) { return m.start.Source, m.start.Target }

// End returns the exclusive ends: all source records below source that are to be copied are at the target, below target.
func (m *Map) End() (source, target int64) { return m.end.Source, m.end.Target }

// Len is the number of segments in memory.
func (m *Map) Len() int { return m.length }

// Segments yields the segments in memory, in order. The map must not change meanwhile.
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

// Forward returns the target offset of the record at a source offset. If that record was not copied (compacted, aborted,
// dropped), exact is false and target is that of the next record that was, or the target end if none was yet. So a
// consumer of the source that would go on at source goes on at target: it reads nothing twice and skips nothing.
// The source end translates to the target end, exactly. Errors: *[BeforeStartError], *[NotCopiedError].
func (m *Map) Forward(source int64) (target int64, exact bool, err error) {
	return m.translate(Source, source)
}

// Reverse returns the source offset of the record at a target offset. If no copied record is there (a marker, a foreign
// write), exact is false and source is that of the next copied record, or the source end if there is none yet. The
// target end translates to the source end, exactly. Errors: *[BeforeStartError], *[NotCopiedError].
func (m *Map) Reverse(target int64) (source int64, exact bool, err error) {
	return m.translate(Target, target)
}

// translate is Forward and Reverse: the two differ in nothing but the side they look at.
func (m *Map) translate(side Side, wanted int64) (offset int64, exact bool, err error) {
	switch start, end := m.start.on(side), m.end.on(side); {
	case wanted < start:
		return 0, false, &BeforeStartError{
			Side: side, Wanted: wanted, Start: start, Forgotten: wanted >= m.origin.on(side),
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
	// Nothing is there: the next segment's first record, which may be in the next chunk or not exist yet.
	if i+1 < len(segments) {
		return segments[i+1].on(side.other()), false, nil
	}
	if c+1 < len(m.chunks) {
		return m.chunks[c+1].segments[0].on(side.other()), false, nil
	}
	return m.end.on(side.other()), false, nil
}

// chunkAt returns the last chunk that begins at or below an offset, or the first one.
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

// segmentAt returns the last segment that begins at or below an offset, or -1.
func segmentAt(segments []Segment, side Side, offset int64) int {
	low, high := 0, len(segments) // how many do is in [low, high]
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

// Forget drops from memory the chunks whose segments all lie below a source offset, if the journal has them; the open
// chunk always stays. Start moves up to the first segment that is left. What is forgotten stays in the journal.
func (m *Map) Forget(beforeSource int64) {
	n := 0
	for n+1 < len(m.chunks) && m.chunks[n+1].first <= beforeSource && m.chunks[n].version <= m.journalled {
		m.length -= len(m.chunks[n].segments)
		n++
	}
	if n == 0 {
		return
	}
	m.chunks = slices.Delete(m.chunks, 0, n) // it zeroes what it leaves behind, so the memory is really free
	first := m.chunks[0].segments[0]
	m.start = Position{Source: first.Source, Target: first.Target}
}
