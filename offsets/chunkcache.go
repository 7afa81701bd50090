package offsets

import (
	"sync"
	"unsafe"
)

// chunkCache bounds the segments that are in memory, for all chunks of one journal. Chunks are evicted with the clock
// algorithm (second chance), for which readers need no lock.
type chunkCache struct {
	limit int64 // bytes

	mu   sync.Mutex
	held int64
	ring []*chunkRef // the chunks in memory: ring[ref.slot] == ref
	hand int         // index of the next candidate for eviction
}

// Slots of chunks that are not in the ring.
const (
	slotNone = -1 // not in memory
	slotGone = -2 // no longer in the journal, so never loaded again
)

const (
	segmentSize = int64(unsafe.Sizeof(Segment{}))
	refSize     = int64(unsafe.Sizeof(chunkRef{})) + 64 // plus roughly its share of the indexes
)

func sizeOf(segments []Segment) int64 { return int64(len(segments))*segmentSize + refSize }

// put stores a chunk's segments, and evicts others if the cache is full.
func (m *chunkCache) put(ref *chunkRef, segments []Segment) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ref.slot != slotNone {
		return
	}
	ref.used.Store(true)
	ref.segments.Store(&segments)
	ref.slot = len(m.ring)
	m.ring = append(m.ring, ref)
	m.held += sizeOf(segments)
	for looked := 2 * len(m.ring); m.held > m.limit && len(m.ring) > 1 && looked > 0; looked-- {
		m.hand %= len(m.ring)
		if r := m.ring[m.hand]; r == ref || r.used.Swap(false) {
			m.hand++
		} else {
			m.drop(r, slotNone)
		}
	}
}

// remove evicts a chunk that is no longer in the journal.
func (m *chunkCache) remove(ref *chunkRef) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drop(ref, slotGone)
}

// drop evicts a chunk and sets its slot to the given special value. The lock is held.
func (m *chunkCache) drop(ref *chunkRef, slot int) {
	if ref.slot >= 0 {
		m.held -= sizeOf(*ref.segments.Swap(nil))
		last := m.ring[len(m.ring)-1]
		m.ring[ref.slot], last.slot = last, ref.slot
		m.ring[len(m.ring)-1] = nil
		m.ring = m.ring[:len(m.ring)-1]
	}
	ref.slot = slot
}
