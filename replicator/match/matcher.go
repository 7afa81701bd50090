package match

import (
	"sort"

	"github.com/milena-kafka/milena/offsets"
)

// Matcher finds the source record that each record of a copy was made from, by content. The copy was made by MirrorMaker 2, record by
// record and at least once: in order, with duplicates after a restart or a resent batch, perhaps without the records of some transactions.
// Either log may have lost records to compaction since.
//
// Records may look alike, so content is not enough: a match that is too far on would pass over records that would then never be copied. A
// new match must therefore meet one of these conditions: a sync point names it; it is the next record of the source; it is as far from the
// last match on both sides; or the copy has lost at least as many records since the last match as the new one passes over. A match that
// only meets the last one is tentative until the next record confirms it.
//
// Both logs are given in order: source records with Add, target records with Match. The Matcher keeps a window of the source: a hash and an
// offset per record.
type Matcher struct {
	// Ended says that the window holds the source up to its end: nothing more will be added now.
	Ended bool

	syncPoints  []offsets.Position // ascending on the target; the first one is in use
	blankSynced int64              // target offsets behind the sync point in use that never held a record of the copy
	timestamps  bool               // they are part of the hashes, so that records seldom look alike
	loose       bool
	ahead, back int // how many records of the window are kept at most from the cursor on and before it

	window   []windowRecord
	required uint32           // of the next record of the window
	from     int              // number of the window's first record; numbers stay when the window moves
	newest   map[uint64]int32 // by hash: the last record of the window that has it, as number modulo 2^32

	progress
	before         *progress         // what a tentative match is undone to, nil if there is none
	beforeSegments []offsets.Segment // the same
	segments       []offsets.Segment
	duplicates     int64
	unmatched      int64
	uncertain      int64
}

// progress is how far a Matcher has come.
type progress struct {
	cursor   int   // number of the record behind the newest match: what the copy should hold next
	next     int64 // source offset behind the newest match, -1: none yet
	last     int64 // target offset of the newest match
	since    int64 // target records since then
	strange  int64 // those of them that are not on the source
	blank    int64 // target offsets since then that never held a record of the copy
	missing  int64 // source records below next that the copy lacks
	replayed int   // number of the record that comes next if the copy repeats a stretch, -1: it does not
	certain  bool  // a sync point says that it does
}

// windowRecord is one source record.
type windowRecord struct {
	offset   int64
	hash     uint64
	previous int32  // how many records earlier the window has one with this hash, 0: none
	required uint32 // how many records before it the copy must have, modulo 2^32: all but those of transactions that may not have ended
}

// Verdict is what one target record led to.
type Verdict int

const (
	// Matched says that the source holds the record.
	Matched Verdict = iota
	// NeedMore says that more of the source must be added before this record can be judged. Give it again then.
	NeedMore
	// Unmatched says that the source does not hold the record.
	Unmatched
)

// How many records of the window are kept before the cursor, which a restarted MirrorMaker 2 may have copied again, and from it on.
const (
	windowBack  = 1 << 19
	windowAhead = 1 << 20
)

// New makes a Matcher. Sync points are the offset pairs that MirrorMaker 2 wrote, ascending on the target: at each start, at each gap of the
// source, and now and then. Timestamps says that they are part of the hashes.
func New(syncPoints []offsets.Position, timestamps bool) *Matcher {
	return &Matcher{
		newest: make(map[uint64]int32), syncPoints: syncPoints, timestamps: timestamps, ahead: windowAhead, back: windowBack,
		progress: progress{next: -1, last: -1, replayed: -1},
	}
}

// NewLoose makes a Matcher for counting differences, where nothing is decided by them: a new match may pass over any number of records, if
// no earlier record looks like it.
func NewLoose(syncPoints []offsets.Position, timestamps bool) *Matcher {
	m := New(syncPoints, timestamps)
	m.loose = true
	return m
}

// Restart makes an empty Matcher of the same kind, without sync points, that continues behind the newest match of m. The next target record
// is at the offset target.
func (m *Matcher) Restart(target int64) *Matcher {
	restarted := New(nil, m.timestamps)
	restarted.loose, restarted.ahead, restarted.back = m.loose, m.ahead, m.back
	restarted.next, restarted.last = m.next, target-1
	return restarted
}

// SourceRecord is a record of the source.
type SourceRecord struct {
	Offset int64
	Hash   uint64
	// Optional says that the copy may lack it: it is part of a transaction that may not have ended.
	Optional bool
}

// Add appends one source record to the window.
func (m *Matcher) Add(s SourceRecord) {
	number := m.end()
	r := windowRecord{offset: s.Offset, hash: s.Hash, required: m.required}
	if !s.Optional {
		m.required++
	}
	if n, ok := m.newest[s.Hash]; ok {
		r.previous = int32(number) - n //nolint:gosec // both are cut to 32 bits, the difference is right
	}
	m.newest[s.Hash] = int32(number) //nolint:gosec // see above
	m.window = append(m.window, r)
	if s.Offset < m.next {
		m.cursor = m.end() // it is matched already
	}
}

// candidate is a target record that is to be matched.
type candidate struct {
	target int64
	hash   uint64
	lost   int64 // target offsets since the newest match that held a record once and do not now
	synced int   // number of the record that the sync points give and that has the same hash, -1: none
	exact  bool  // a sync point is at this very offset
}

// Match judges the next target record.
func (m *Matcher) Match(target int64, hash uint64) Verdict {
	c := m.candidate(target, hash)
	reached := m.reached(c)
	if n, tentative := m.newMatch(c); n >= 0 && (reached || m.loose || n == m.cursor || n == c.synced) {
		m.accept(n, target, tentative)
		return Matched
	}
	if !reached && !m.loose {
		return NeedMore
	}
	if m.before != nil && m.refuted(target) { // the tentative match only looked alike
		m.undo()
		return m.Match(target, hash)
	}
	if n := m.duplicateOf(c); n >= 0 {
		m.addDuplicate(n, c)
		return Matched
	}
	if !reached {
		return NeedMore
	}
	m.addUnmatched()
	return Unmatched
}

func (m *Matcher) candidate(target int64, hash uint64) candidate {
	c := candidate{target: target, hash: hash, lost: m.Lost(target), synced: -1}
	if source, ok := m.synced(target); ok {
		if n, ok := m.at(source); ok && m.record(n).hash == hash {
			c.synced, c.exact = n, m.syncPoints[0].Target == target
		}
	}
	return c
}

// reached says whether the window holds everything that a record may be matched with.
func (m *Matcher) reached(c candidate) bool {
	if m.Ended || m.Full() {
		return true
	}
	if m.loose || m.cursor == m.end() {
		return false
	}
	if source, ok := m.synced(c.target); ok && m.record(m.end()-1).offset < source {
		return false
	}
	return m.next >= 0 && (c.lost == 0 || m.passed(m.end()-1) >= c.lost)
}

// newMatch finds the record at or behind the cursor that a candidate matches, -1: none.
func (m *Matcher) newMatch(c candidate) (number int, tentative bool) {
	if n, decided := m.bySyncPoint(c); decided {
		return n, false
	}
	if n := m.inStep(c); n >= 0 {
		return n, false
	}
	return m.furtherOn(c)
}

// bySyncPoint is decided by what MirrorMaker 2 wrote down: what it is at, or that it repeats a stretch.
func (m *Matcher) bySyncPoint(c candidate) (number int, decided bool) {
	if !c.exact {
		if m.repeats(c.hash) {
			return -1, true // it repeats a stretch, whatever else looks like it
		}
		if m.isNext(c.hash) && c.lost == 0 && (m.replayed < 0 || m.replayed == m.cursor) {
			return m.cursor, true // a gap since the last sync point may have none, as it was lost
		}
	}
	if c.synced >= m.cursor {
		return c.synced, true
	}
	return -1, c.synced >= 0
}

// inStep is the record that is as far from the newest match on both sides, or the next one of the source.
func (m *Matcher) inStep(c candidate) int {
	if m.next >= 0 {
		if n, ok := m.at(m.parallel(c.target)); ok && n >= m.cursor && m.record(n).hash == c.hash && m.passed(n) <= c.lost {
			return n
		}
	}
	if m.isNext(c.hash) {
		return m.cursor
	}
	return -1
}

// furtherOn is the nearest record that looks alike. It is tentative if it passes over records that the copy must have.
func (m *Matcher) furtherOn(c candidate) (number int, tentative bool) {
	n := m.nearest(c.hash, m.cursor)
	if n < 0 || m.before != nil {
		return -1, false
	}
	passed := m.passed(n)
	switch {
	case passed == 0:
		return n, false
	case m.loose && m.duplicateOf(c) < 0:
		return n, m.next >= 0
	case !m.loose && m.timestamps && (passed <= c.lost || m.next < 0):
		return n, true
	}
	return -1, false
}

// accept makes a record the newest match. One that is tentative begins a segment, as it passes over others.
func (m *Matcher) accept(n int, target int64, tentative bool) { //nolint:revive // not a flag: the nature of the match
	before, segments := m.progress, m.segments
	r := m.record(n)
	missing := m.missing
	if m.next >= 0 {
		missing += m.passed(n)
	}
	m.progress = progress{cursor: n + 1, next: r.offset + 1, last: target, missing: missing, replayed: -1}
	m.appendSegment(r.offset, target)
	m.before, m.beforeSegments = nil, nil
	if tentative {
		m.before, m.beforeSegments = &before, segments
		return
	}
	m.trim()
}

func (m *Matcher) appendSegment(source, target int64) {
	if k := len(m.segments) - 1; k >= 0 && m.segments[k].SourceEnd() == source && m.segments[k].TargetEnd() == target {
		m.segments[k].Count++
		return
	}
	m.segments = append(m.segments, offsets.Segment{Source: source, Target: target, Count: 1})
}

// refuted says whether the source holds another record where this target record would be after a tentative match.
func (m *Matcher) refuted(target int64) bool {
	_, ok := m.at(m.parallel(target))
	return ok
}

// undo returns to before the tentative match. Its target record is unmatched.
func (m *Matcher) undo() {
	undone := m.progress
	m.progress, m.segments = *m.before, m.beforeSegments
	m.before, m.beforeSegments = nil, nil
	m.since += 1 + undone.since
	m.blank += undone.blank
	m.strange += 1 + undone.strange
	m.unmatched++
}

// duplicateOf finds the record before the cursor that a candidate is another copy of, -1: none.
func (m *Matcher) duplicateOf(c candidate) int {
	if c.synced >= 0 && (c.exact || !m.repeats(c.hash)) {
		return c.synced
	}
	if m.replayed >= m.from && m.replayed < m.cursor && m.record(m.replayed).hash == c.hash {
		return m.replayed
	}
	last := -1
	for n := m.nearest(c.hash, m.from); n >= 0 && n < m.cursor; n = m.nearest(c.hash, n+1) {
		last = n
	}
	return last
}

func (m *Matcher) addDuplicate(n int, c candidate) {
	m.since++
	m.duplicates++
	m.replayed, m.certain = n+1, m.certain && n == m.replayed || n == c.synced
}

func (m *Matcher) addUnmatched() {
	m.since++
	m.strange++
	m.unmatched++
	if !m.Ended && m.Full() && m.next >= 0 { // before the first match it may simply be older than the source's log
		m.uncertain++
	}
}

// repeats says whether a record is the next one of a stretch that the copy repeats by a sync point.
func (m *Matcher) repeats(hash uint64) bool {
	return m.certain && m.replayed < m.cursor && m.record(m.replayed).hash == hash
}

// isNext says whether the record at the cursor has a hash.
func (m *Matcher) isNext(hash uint64) bool {
	return m.cursor < m.end() && m.record(m.cursor).hash == hash
}

// Skip passes target offsets [from, to), which hold a marker or an aborted transaction: MirrorMaker 2 writes them in its exactly-once mode
// (KIP-618), and they are copies of nothing.
func (m *Matcher) Skip(from, to int64) {
	m.synced(from)
	m.blank += to - from
	m.blankSynced += to - from
}

// synced is where a target record came from by the sync points: MirrorMaker 2 writes one at every gap of the source, so both sides advance
// alike from the last one on. (One may have been lost: that is why the records are compared.)
func (m *Matcher) synced(target int64) (source int64, ok bool) {
	for len(m.syncPoints) > 1 && m.syncPoints[1].Target <= target {
		m.syncPoints, m.blankSynced = m.syncPoints[1:], 0
	}
	if len(m.syncPoints) == 0 || m.syncPoints[0].Target > target {
		m.blankSynced = 0
		return 0, false
	}
	return m.syncPoints[0].Source + target - m.syncPoints[0].Target - m.blankSynced, true
}

// parallel is where a target record comes from if it is as far from the newest match on both sides.
func (m *Matcher) parallel(target int64) int64 { return m.next - 1 + target - m.last - m.blank }

// passed is how many records that the copy must have lie between the newest match and a record of the window behind it.
func (m *Matcher) passed(number int) int64 {
	return int64(m.record(number).required - m.record(m.cursor).required)
}

// Lost is how many target offsets between the newest match and another offset held a record once and do not now.
func (m *Matcher) Lost(target int64) int64 { return max(0, target-m.last-1-m.since-m.blank) }

// Full says that the window takes no more records behind the cursor.
func (m *Matcher) Full() bool { return m.end()-m.cursor >= m.ahead }

// Between is how many records of the window lie between the newest match and a source offset, exclusive.
func (m *Matcher) Between(source int64) int64 {
	n, _ := m.at(source)
	return int64(n - m.cursor)
}

// From is how many records of the window are at or above a source offset.
func (m *Matcher) From(source int64) int64 {
	n, _ := m.at(source)
	return int64(m.end() - n)
}

// Next is the source offset behind the newest match, -1 before the first.
func (m *Matcher) Next() int64 { return m.next }

// Proven says whether the newest match is not tentative.
func (m *Matcher) Proven() bool { return m.before == nil }

// Window is how many records the window holds.
func (m *Matcher) Window() int { return len(m.window) }

// WindowStart is the source offset of the window's first record; false if it is empty.
func (m *Matcher) WindowStart() (int64, bool) {
	if len(m.window) == 0 {
		return 0, false
	}
	return m.window[0].offset, true
}

// Size is how many records the window holds before the newest match, it included, and behind it.
func (m *Matcher) Size() (behind, ahead int) { return m.cursor - m.from, m.end() - m.cursor }

// Limit bounds both parts of the window, in records, and forgets what is too far back.
func (m *Matcher) Limit(records int) {
	m.ahead, m.back = records, records
	m.trim()
}

// end is the number of the record that is added next.
func (m *Matcher) end() int { return m.from + len(m.window) }

func (m *Matcher) record(number int) *windowRecord { return &m.window[number-m.from] }

// at is the number of the first record at or above a source offset; ok if it is at it.
func (m *Matcher) at(source int64) (number int, ok bool) {
	i := sort.Search(len(m.window), func(i int) bool { return m.window[i].offset >= source })
	return m.from + i, i < len(m.window) && m.window[i].offset == source
}

// nearest is the first record with a hash at or behind a number; -1: none.
func (m *Matcher) nearest(hash uint64, number int) int {
	last, ok := m.newest[hash]
	if !ok {
		return -1
	}
	found := -1
	for n := m.end() - int(int32(m.end())-last); n >= number; { //nolint:gosec // the window is far below 2^31 records
		found = n
		previous := int(m.record(n).previous)
		if previous == 0 {
			break
		}
		n -= previous
	}
	return found
}

// trim forgets what is far before the cursor, in large steps, as each needs a new index.
func (m *Matcher) trim() {
	drop := m.cursor - m.from - m.back
	if drop < m.back {
		return
	}
	for i, r := range m.window[:drop] {
		if m.newest[r.hash] == int32(m.from+i) { //nolint:gosec // see Add
			delete(m.newest, r.hash)
		}
	}
	m.window = append([]windowRecord(nil), m.window[drop:]...)
	m.from += drop
	for i := range m.window {
		if r := &m.window[i]; int(r.previous) > i {
			r.previous = 0
		}
	}
}
