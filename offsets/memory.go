package offsets

import (
	"sync"
	"unsafe"
)

// memory bounds the segments that are kept, for all chunks of one journal. It gives every chunk a second chance before it
// is dropped, which costs a reader no lock.
type memory struct {
	limit int64

	mu   sync.Mutex
	held int64
	ring []*chunkRef // those in memory, in the order in which they are looked at
}

const segmentSize = int64(unsafe.Sizeof(Segment{}))

func sizeOf(segments []Segment) int64 { return int64(len(segments)+4) * segmentSize }

// keep puts a chunk's segments in memory, and others out of it if it is full.
func (m *memory) keep(ref *chunkRef, segments []Segment) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ref.used.Store(true)
	m.held += sizeOf(segments)
	if before := ref.segments.Swap(&segments); before != nil {
		m.held -= sizeOf(*before)
	} else {
		m.ring = append(m.ring, ref)
	}
	for looked := 0; m.held > m.limit && len(m.ring) > 1 && looked < 2*len(m.ring); looked++ {
		oldest := m.ring[0]
		m.ring = m.ring[1:]
		if oldest == ref || oldest.used.Swap(false) {
			m.ring = append(m.ring, oldest)
			continue
		}
		if dropped := oldest.segments.Swap(nil); dropped != nil {
			m.held -= sizeOf(*dropped)
		}
	}
}

// forget drops a chunk that is no longer in the journal.
func (m *memory) forget(ref *chunkRef) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if dropped := ref.segments.Swap(nil); dropped != nil {
		m.held -= sizeOf(*dropped)
	}
	for i, other := range m.ring {
		if other == ref {
			m.ring = append(m.ring[:i:i], m.ring[i+1:]...)
			return
		}
	}
}
