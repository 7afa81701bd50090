package offsets

import (
	"sync"
	"unsafe"
)

// memory bounds the segments that are kept, for all chunks of one journal. Every chunk has a second chance before it is
// dropped (the clock algorithm), which costs a reader no lock.
type memory struct {
	limit int64 // bytes

	mu   sync.Mutex
	held int64
	ring []*chunkRef // ring[ref.slot] = ref: those in memory
	hand int         // looks at the next one
}

// The places that a chunk has outside of the ring.
const (
	slotNone = -1 // not in memory
	slotGone = -2 // no longer in the journal: never again in memory
)

const (
	segmentSize = int64(unsafe.Sizeof(Segment{}))
	refSize     = int64(unsafe.Sizeof(chunkRef{})) + 64 // and about what the index around it takes
)

func sizeOf(segments []Segment) int64 { return int64(len(segments))*segmentSize + refSize }

// keep puts a chunk's segments in memory, and others out of it if it is full.
func (m *memory) keep(ref *chunkRef, segments []Segment) {
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

// forget drops a chunk that is no longer in the journal.
func (m *memory) forget(ref *chunkRef) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drop(ref, slotGone)
}

func (m *memory) drop(ref *chunkRef, slot int) {
	if ref.slot >= 0 {
		m.held -= sizeOf(*ref.segments.Swap(nil))
		last := m.ring[len(m.ring)-1]
		m.ring[ref.slot], last.slot = last, ref.slot
		m.ring[len(m.ring)-1] = nil
		m.ring = m.ring[:len(m.ring)-1]
	}
	ref.slot = slot
}
