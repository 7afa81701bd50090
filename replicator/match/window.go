package match

import "sort"

// How many records the window keeps: before the newest match, as a restarted MirrorMaker 2 may have copied them again, and after it.
const (
	windowBack  = 1 << 19
	windowAhead = 1 << 20
)

// window is the part of the source that a Matcher keeps. Its records are numbered; a number stays the same when the window moves.
type window struct {
	records     []windowRecord
	from        int              // number of the first record
	required    uint32           // requiredBefore of the record that is added next
	newest      map[uint64]int32 // by hash: number modulo 2^32 of the last record that has it
	ahead, back int              // how many records are kept at most after and before the newest match
}

// windowRecord is one source record.
type windowRecord struct {
	offset         int64
	hash           uint64
	previous       int32  // distance to the previous record with this hash, 0 if the window has none
	requiredBefore uint32 // modulo 2^32: how many records before it the copy must have, all but the optional ones
}

func (w *window) add(s SourceRecord) {
	number := w.end()
	r := windowRecord{offset: s.Offset, hash: s.Hash, requiredBefore: w.required}
	if !s.Optional {
		w.required++
	}
	if n, ok := w.newest[s.Hash]; ok {
		r.previous = int32(number) - n //nolint:gosec // both are truncated to 32 bits, the difference is right
	}
	w.newest[s.Hash] = int32(number) //nolint:gosec // see above
	w.records = append(w.records, r)
}

// end returns the number of the record that is added next.
func (w *window) end() int { return w.from + len(w.records) }

func (w *window) record(number int) *windowRecord { return &w.records[number-w.from] }

// at returns the number of the first record at or after a source offset; ok says that it is exactly at it.
func (w *window) at(source int64) (number int, ok bool) {
	i := sort.Search(len(w.records), func(i int) bool { return w.records[i].offset >= source })
	return w.from + i, i < len(w.records) && w.records[i].offset == source
}

// nearest returns the number of the first record with this hash whose number is at least number, -1 if there is none.
func (w *window) nearest(hash uint64, number int) int {
	last, ok := w.newest[hash]
	if !ok {
		return -1
	}
	found := -1
	for n := w.end() - int(int32(w.end())-last); n >= number; { //nolint:gosec // the window is far below 2^31 records
		found = n
		previous := int(w.record(n).previous)
		if previous == 0 {
			break
		}
		n -= previous
	}
	return found
}

// trim removes records far before the cursor. It does so in large steps, as each one copies the window.
func (w *window) trim(cursor int) {
	drop := cursor - w.from - w.back
	if drop < w.back {
		return
	}
	for i, r := range w.records[:drop] {
		if w.newest[r.hash] == int32(w.from+i) { //nolint:gosec // see add
			delete(w.newest, r.hash)
		}
	}
	w.records = append([]windowRecord(nil), w.records[drop:]...)
	w.from += drop
	for i := range w.records {
		if r := &w.records[i]; int(r.previous) > i {
			r.previous = 0
		}
	}
}

// Window returns how many records the window holds.
func (m *Matcher) Window() int { return len(m.records) }

// WindowStart returns the source offset of the first record of the window; ok is false if the window is empty.
func (m *Matcher) WindowStart() (offset int64, ok bool) {
	if len(m.records) == 0 {
		return 0, false
	}
	return m.records[0].offset, true
}

// Size returns how many records the window holds up to the newest match, inclusive, and after it.
func (m *Matcher) Size() (behind, ahead int) { return m.cursor - m.from, m.end() - m.cursor }

// Limit bounds both parts of the window, in records, and removes records that are too far back.
func (m *Matcher) Limit(records int) {
	m.ahead, m.back = records, records
	m.trim(m.cursor)
}
