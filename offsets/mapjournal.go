package offsets

import (
	"cmp"
	"fmt"
	"slices"
)

// Changes is what one journal pass has to write for one map, taken at one moment. It shares no memory with the map,
// which may grow while the write is under way.
type Changes struct {
	Start  Position // where the map began
	End    Position // its ends at that moment
	Open   int64    // First of the open chunk, which is the last one
	Chunks []*Chunk // the chunks that the journal does not have as they are, oldest first; often only the open one

	version uint64 // of the map, at that moment
}

// Changed returns what differs from the journal, and false if nothing does. Chunks is empty if only the ends moved. Hand
// it to [PartitionState.Take] to get the entries, write them as one batch, and once that is acknowledged hand it to
// [Map.MarkJournaled]. After a failure take a new one: it contains this one's changes and those made since.
func (m *Map) Changed() (Changes, bool) {
	if m.version == m.journalled {
		return Changes{}, false
	}
	c := Changes{Start: m.origin, End: m.end, Open: m.chunks[len(m.chunks)-1].first, version: m.version}
	unwritten := len(m.chunks) // a chunk changes only while it is the last one, so these are the last ones
	for unwritten > 0 && m.chunks[unwritten-1].version > m.journalled {
		unwritten--
	}
	for _, k := range m.chunks[unwritten:] {
		c.Chunks = append(c.Chunks, &Chunk{First: k.first, Previous: k.previous, Segments: slices.Clone(k.segments)})
	}
	return c, true
}

// MarkJournaled notes that a write of Changed's answer was acknowledged. What changed after that answer was taken stays
// changed. Calls may come late or in any order: an older answer never takes back a newer one.
func (m *Map) MarkJournaled(c Changes) {
	m.journalled = max(m.journalled, c.version)
}

// Take brings the state up to date with the changes of its map and returns their chunks with the partition's names in
// them. State and chunks must be written in one batch: a reader must never see the one without the other.
func (s *PartitionState) Take(c Changes) []*Chunk {
	s.Start, s.End, s.Chunk = c.Start, c.End, c.Open
	for _, k := range c.Chunks {
		k.Topic, k.Partition, k.Generation = s.Topic, s.Partition, s.Generation
	}
	return c.Chunks
}

// RestoreMap builds a map from a journalled state and its chunks, in any order. One that replicates gives only the open
// chunk (First == state.Chunk) and gets a map that starts there; one that translates gives all it found. Chunks of
// other generations are left out: they are remains of a map that was restarted. The map takes over the memory of the
// chunks. It returns a *[CorruptError] if the open chunk is missing, if one is missing between two that were given, or
// if the parts contradict each other.
func RestoreMap(state *PartitionState, chunks ...*Chunk) (*Map, error) {
	chunks = slices.Clone(chunks)
	chunks = slices.DeleteFunc(chunks, func(c *Chunk) bool { return c.Generation != state.Generation })
	slices.SortFunc(chunks, func(a, b *Chunk) int { return cmp.Compare(a.First, b.First) })
	if n := len(chunks); n == 0 || chunks[n-1].First != state.Chunk {
		return nil, corrupt(KindChunk, "%s/%d: the open chunk must be given, and as the last one; it begins at source offset %d",
			state.Topic, state.Partition, state.Chunk)
	}
	m := &Map{origin: state.Start, start: state.Start, end: state.Start, version: 1, journalled: 1}
	for _, c := range chunks {
		if err := m.restoreChunk(c); err != nil {
			return nil, corrupt(KindChunk, "%s/%d: chunk %d: %s", state.Topic, state.Partition, c.First, err)
		}
	}
	if err := m.Advance(state.End.Source, state.End.Target); err != nil {
		return nil, corrupt(KindPartition, "%s/%d: %s", state.Topic, state.Partition, err)
	}
	m.version = 1 // what came from the journal is in the journal
	return m, nil
}

// restoreChunk adds a chunk behind those that are there. Order within the chunk is what [DecodeJournal] checks; but a
// chunk may also come from elsewhere, and a map out of order would translate wrongly without a sign of it.
func (m *Map) restoreChunk(c *Chunk) error {
	lowest := len(m.chunks) == 0
	if err := c.check(); err != nil {
		return err
	}
	switch {
	case c.Previous == none && c.First != m.origin.Source:
		return fmt.Errorf("is called the first one of a map that starts at source offset %d", m.origin.Source)
	case c.Previous != none && c.First <= m.origin.Source:
		return fmt.Errorf("follows chunk %d, before the map's start at source offset %d", c.Previous, m.origin.Source)
	case !lowest && c.Previous != m.chunks[len(m.chunks)-1].first:
		return fmt.Errorf("follows chunk %d, and what is there ends with chunk %d", c.Previous, m.chunks[len(m.chunks)-1].first)
	}
	if n := len(c.Segments); n > 0 {
		first, last := c.Segments[0], c.Segments[n-1]
		if first.Source < m.end.Source || first.Target < m.end.Target {
			return &OrderError{Source: first.Source, Target: first.Target, Count: first.Count, End: m.end}
		}
		m.end = Position{Source: last.SourceEnd(), Target: last.TargetEnd()}
		if lowest && c.Previous != none {
			m.start = Position{Source: first.Source, Target: first.Target}
		}
	}
	m.chunks = append(m.chunks, chunk{first: c.First, previous: c.Previous, version: 1, segments: c.Segments})
	m.length += len(c.Segments)
	return nil
}
