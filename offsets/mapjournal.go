package offsets

import (
	"cmp"
	"fmt"
	"slices"
)

// Changes is what one journal write has to contain for one map, taken at one moment. It shares no memory with the
// map, which may grow during the write.
type Changes struct {
	Start  Pair     // where the map starts
	End    Pair     // its ends at that moment
	Open   int64    // First of the open chunk, the last chunk
	Chunks []*Chunk // the chunks that differ from the journal, oldest first; often only the open one

	version uint64 // of the map, at that moment
}

// Sealed returns copies of sealed chunks that the journal does not have, at most limit, oldest first: those behind the
// chunk named after, -1 for all. Fill in their names with [PartitionState.NameChunks] and write them in this order, in
// as many batches as needed, before the state. Once they are written pass them to [Map.MarkSealed]. Until the state
// follows, no reader sees them.
func (m *Map) Sealed(after int64, limit int) []*Chunk {
	sealed := len(m.chunks) - 1
	first := m.unwritten()
	for first < sealed && (m.chunks[first].written || m.chunks[first].first <= after) {
		first++
	}
	var chunks []*Chunk
	for _, k := range m.chunks[first:max(first, min(sealed, first+limit))] {
		chunks = append(chunks, k.entry())
	}
	return chunks
}

// MarkSealed records that results of Sealed were written. They are not returned again, whatever happens to the state.
func (m *Map) MarkSealed(chunks []*Chunk) {
	sealed := m.chunks[:len(m.chunks)-1]
	for _, c := range chunks {
		at := func(k chunk, first int64) int { return cmp.Compare(k.first, first) }
		if i, found := slices.BinarySearchFunc(sealed, c.First, at); found {
			sealed[i].written = true
		}
	}
}

// unwritten returns the index of the oldest chunk that changed since the state was last written. A chunk changes only
// while it is the last one, so the changed chunks are the last ones.
func (m *Map) unwritten() int {
	i := len(m.chunks)
	for i > 0 && m.chunks[i-1].version > m.journaled {
		i--
	}
	return i
}

// entry returns a copy of the chunk without the partition's names.
func (k *chunk) entry() *Chunk {
	return &Chunk{First: k.first, Previous: k.previous, Segments: slices.Clone(k.segments)}
}

// Changed returns the differences to the journal, and false if there are none. Chunks is empty if only the ends
// moved. Pass the result to [PartitionState.Apply] to get the entries, write them with the state last, and once the
// write is acknowledged pass it to [Map.MarkJournaled]. After a failed write call Changed again: its result includes
// the failed changes and those made since. Chunks that were passed to [Map.MarkSealed] are not in it.
func (m *Map) Changed() (Changes, bool) {
	if m.version == m.journaled {
		return Changes{}, false
	}
	c := Changes{Start: m.origin, End: m.end, Open: m.chunks[len(m.chunks)-1].first, version: m.version}
	for _, k := range m.chunks[m.unwritten():] {
		if !k.written {
			c.Chunks = append(c.Chunks, k.entry())
		}
	}
	return c, true
}

// MarkJournaled records that the write of a result of Changed was acknowledged. Changes made after that result was
// taken stay pending. Calls may come late and in any order: an older result never undoes a newer one.
func (m *Map) MarkJournaled(c Changes) {
	m.journaled = max(m.journaled, c.version)
}

// Apply updates the state with the changes of its map, and returns their chunks with the partition's names filled in.
// The state must be written after the chunks. Readers ignore what chunks have beyond the end of the state, so the write
// may end between any two entries.
func (s *PartitionState) Apply(c Changes) []*Chunk {
	s.Start, s.End, s.Chunk = c.Start, c.End, c.Open
	s.NameChunks(c.Chunks)
	return c.Chunks
}

// NameChunks fills in the names of the partition and the generation of its map.
func (s *PartitionState) NameChunks(chunks []*Chunk) {
	for _, k := range chunks {
		k.Topic, k.Partition, k.Generation = s.Topic, s.Partition, s.Generation
	}
}

// RestoreMap builds a map from a journaled state and its chunks, in any order. To replicate, pass only the open chunk
// (First == state.Chunk); the map then starts there. To translate, pass all chunks. Chunks of other generations are
// left out: they are leftovers of a map that was restarted. So is what was written ahead of the state: chunks behind the
// open one, and what the open chunk has beyond the end. The map takes ownership of the chunks' memory. It returns
// a *[CorruptError] if the open chunk is missing, if a chunk is missing between two that were passed, or if the parts
// contradict each other.
func RestoreMap(state *PartitionState, chunks ...*Chunk) (*Map, error) {
	chunks = slices.Clone(chunks)
	chunks = slices.DeleteFunc(chunks, func(c *Chunk) bool { return c.Generation != state.Generation || c.First > state.Chunk })
	slices.SortFunc(chunks, func(a, b *Chunk) int { return cmp.Compare(a.First, b.First) })
	if n := len(chunks); n == 0 || chunks[n-1].First != state.Chunk {
		return nil, corrupt(KindChunk, "%s/%d: the open chunk, which starts at source offset %d, is missing or not the last one",
			state.Topic, state.Partition, state.Chunk)
	}
	m := &Map{origin: state.Start, start: state.Start, end: state.Start, version: 1, journaled: 1}
	cut := false
	for _, c := range chunks {
		if c.First == state.Chunk {
			c, cut = c.below(state.End.Source)
		}
		if err := m.restoreChunk(c); err != nil {
			return nil, corrupt(KindChunk, "%s/%d: chunk %d: %s", state.Topic, state.Partition, c.First, err)
		}
	}
	if err := m.Advance(state.End.Source, state.End.Target); err != nil {
		return nil, corrupt(KindPartition, "%s/%d: %s", state.Topic, state.Partition, err)
	}
	m.version = 1 // nothing differs from the journal
	if cut {
		m.touch()
	}
	return m, nil
}

// touch marks the open chunk as changed.
func (m *Map) touch() {
	m.version++
	m.chunks[len(m.chunks)-1].version = m.version
}

// below returns the chunk without what it has at or above a source offset, and whether that is less than it had.
func (c *Chunk) below(source int64) (_ *Chunk, cut bool) {
	n := segmentAt(c.Segments, Source, source-1) + 1
	if n == len(c.Segments) && (n == 0 || c.Segments[n-1].SourceEnd() <= source) {
		return c, false
	}
	kept := *c
	kept.Segments = slices.Clone(c.Segments[:n])
	if n > 0 {
		last := &kept.Segments[n-1]
		last.Count = min(last.Count, source-last.Source)
	}
	return &kept, true
}

// restoreChunk adds a chunk after the existing ones. [DecodeJournal] checks the order within a chunk; it is checked
// again here because a chunk may come from elsewhere, and a map out of order would silently translate wrongly.
func (m *Map) restoreChunk(c *Chunk) error {
	lowest := len(m.chunks) == 0
	if err := c.check(); err != nil {
		return err
	}
	switch {
	case c.Previous == noChunk && c.First != m.origin.Source:
		return fmt.Errorf("claims to be the first of a map that starts at source offset %d", m.origin.Source)
	case c.Previous != noChunk && c.First <= m.origin.Source:
		return fmt.Errorf("follows chunk %d, before the map's start at source offset %d", c.Previous, m.origin.Source)
	case !lowest && c.Previous != m.chunks[len(m.chunks)-1].first:
		return fmt.Errorf("follows chunk %d, but the chunk before it is %d", c.Previous, m.chunks[len(m.chunks)-1].first)
	}
	if n := len(c.Segments); n > 0 {
		first, last := c.Segments[0], c.Segments[n-1]
		if first.Source < m.end.Source || first.Target < m.end.Target {
			return &OrderError{Source: first.Source, Target: first.Target, Count: first.Count, End: m.end}
		}
		m.end = Pair{Source: last.SourceEnd(), Target: last.TargetEnd()}
		if lowest && c.Previous != noChunk {
			m.start = Pair{Source: first.Source, Target: first.Target}
		}
	}
	m.chunks = append(m.chunks, chunk{first: c.First, previous: c.Previous, version: 1, segments: c.Segments})
	m.length += len(c.Segments)
	return nil
}
