package match

import "github.com/milena-kafka/milena/offsets"

// Matcher finds by content which source record each record of a copy came from. MirrorMaker 2 copied record by record, at least once: in
// order, with duplicates after a restart or a resent batch, perhaps without the records of some transactions. Either log may have lost
// records to compaction since.
//
// Different records may have equal content, so content is not enough: a match too far ahead would skip records, which would then never be
// copied. A new match must therefore meet one of these conditions:
//
//   - a sync point names it
//   - it is the next record of the source, optional records aside
//   - it is as far from the newest match on both sides
//   - the hashes include timestamps, and either the copy has lost at least as many records since the newest match as the new match skips, or
//     there is no match yet
//
// A match that meets only the last condition and skips records is tentative until the next match confirms it.
//
// Both logs are passed in order: source records with Add, target records with Match. A Matcher is not safe for concurrent use.
type Matcher struct {
	// Ended says that the window reaches the end of the source: no more records will be added for now.
	Ended bool

	syncPoints []offsets.Pair // ascending on the target; the first one is current
	blankSince int64          // target offsets after the current sync point that never held a record of the copy
	timestamps bool           // the hashes include timestamps, so equal hashes of different records are rare
	loose      bool

	window
	progress
	before         *progress         // state before the tentative match, nil if the newest match is not tentative
	beforeSegments []offsets.Segment // the same for the segments
	segments       []offsets.Segment
	duplicates     int64
	unmatched      int64
	uncertain      int64
}

// progress is how far a Matcher has come.
type progress struct {
	cursor         int   // number of the source record after the newest match: what the copy should hold next
	next           int64 // source offset after the newest match, -1 before the first match
	last           int64 // target offset of the newest match
	since          int64 // target records since the newest match
	unmatchedSince int64 // unmatched target records since the newest match
	blank          int64 // target offsets since the newest match that never held a record of the copy
	missing        int64 // source records below next that the copy lacks
	repeated       int   // number of the source record that comes next if the copy repeats a range, -1 if it does not
	certain        bool  // a sync point shows that the copy repeats a range
}

// Verdict is the result of matching one target record.
type Verdict int

const (
	// Matched says that the source holds the record.
	Matched Verdict = iota
	// NeedMore says that source records must be added before this record can be judged. Call Match for it again then.
	NeedMore
	// Unmatched says that the source does not hold the record.
	Unmatched
)

// New creates a Matcher. Sync points are the offset pairs that MirrorMaker 2 wrote, ascending on the target: at each start, at each gap of
// the source, and from time to time. The flag timestamps says whether the hashes include timestamps.
func New(syncPoints []offsets.Pair, timestamps bool) *Matcher {
	return &Matcher{
		syncPoints: syncPoints, timestamps: timestamps,
		window:   window{newest: make(map[uint64]int32), ahead: windowAhead, back: windowBack},
		progress: progress{next: -1, last: -1, repeated: -1},
	}
}

// NewLoose creates a Matcher that counts differences but must not decide what is copied: a new match may skip any number of records, unless
// the target record may be a duplicate.
func NewLoose(syncPoints []offsets.Pair, timestamps bool) *Matcher {
	m := New(syncPoints, timestamps)
	m.loose = true
	return m
}

// Restart creates an empty Matcher of the same kind, without sync points, that continues after the newest match of m. The next target record
// is at offset target.
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
	// Optional says that the copy may lack the record: it is part of a transaction that may not have ended.
	Optional bool
}

// Add appends one source record to the window.
func (m *Matcher) Add(s SourceRecord) {
	m.add(s)
	if s.Offset < m.next {
		m.cursor = m.end() // already matched
	}
}

// candidate is a target record to be matched.
type candidate struct {
	target int64
	hash   uint64
	lost   int64 // target offsets since the newest match that once held a record and no longer do
	synced int   // number of the source record that the sync points point to, if it has the same hash; -1 otherwise
	exact  bool  // a sync point is at exactly this target offset
}

// Match judges the next target record.
func (m *Matcher) Match(target int64, hash uint64) Verdict {
	c := m.candidate(target, hash)
	sufficient := m.windowSuffices(c)
	if n, tentative := m.newMatch(c); n >= 0 && (sufficient || m.loose || n == m.cursor || n == c.synced) {
		m.addMatch(n, target, tentative)
		return Matched
	}
	if !sufficient && !m.loose {
		return NeedMore
	}
	if m.before != nil && m.refuted(target) { // the tentative match had only equal content
		m.undo()
		return m.Match(target, hash)
	}
	if n := m.duplicateOf(c); n >= 0 {
		m.addDuplicate(n, c)
		return Matched
	}
	if !sufficient {
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

// windowSuffices reports whether the window holds every source record that a candidate may match.
func (m *Matcher) windowSuffices(c candidate) bool {
	if m.Ended || m.Full() {
		return true
	}
	if m.loose || m.cursor == m.end() {
		return false
	}
	if source, ok := m.synced(c.target); ok && m.record(m.end()-1).offset < source {
		return false
	}
	return m.next >= 0 && (c.lost == 0 || m.skipped(m.end()-1) >= c.lost)
}

// newMatch returns the source record at or after the cursor that a candidate matches, -1 if there is none.
func (m *Matcher) newMatch(c candidate) (number int, tentative bool) {
	if n, decided := m.bySyncPoint(c); decided {
		return n, false
	}
	if n := m.bySequence(c); n >= 0 {
		return n, false
	}
	return m.byContent(c)
}

// bySyncPoint decides by the sync points: they point to a source record, or show that the copy repeats a range.
func (m *Matcher) bySyncPoint(c candidate) (number int, decided bool) {
	if !c.exact {
		if m.repeats(c.hash) {
			return -1, true // a repeated record, whatever else has the same content
		}
		if m.isNext(c.hash) && c.lost == 0 && (m.repeated < 0 || m.repeated == m.cursor) {
			return m.cursor, true // the sync point of a later gap may have been lost
		}
	}
	if c.synced >= m.cursor {
		return c.synced, true
	}
	return -1, c.synced >= 0
}

// bySequence returns the source record that is as far from the newest match on both sides, or else the next one; -1 if neither matches.
func (m *Matcher) bySequence(c candidate) int {
	if m.next >= 0 {
		if n, ok := m.at(m.expected(c.target)); ok && n >= m.cursor && m.record(n).hash == c.hash && m.skipped(n) <= c.lost {
			return n
		}
	}
	if m.isNext(c.hash) {
		return m.cursor
	}
	return -1
}

// byContent returns the nearest source record with the same content, -1 if it may not be used. The match is tentative if it skips records
// that the copy must have.
func (m *Matcher) byContent(c candidate) (number int, tentative bool) {
	n := m.nearest(c.hash, m.cursor)
	if n < 0 || m.before != nil {
		return -1, false
	}
	skipped := m.skipped(n)
	switch {
	case skipped == 0:
		return n, false
	case m.loose && m.duplicateOf(c) < 0:
		return n, m.next >= 0
	case !m.loose && m.timestamps && (skipped <= c.lost || m.next < 0):
		return n, true
	}
	return -1, false
}

// addMatch makes a source record the newest match. A tentative match always begins a segment, because it skips records.
func (m *Matcher) addMatch(n int, target int64, tentative bool) { //nolint:revive // not a flag: a property of the match
	before, segments := m.progress, m.segments
	r := m.record(n)
	missing := m.missing
	if m.next >= 0 {
		missing += m.skipped(n)
	}
	m.progress = progress{cursor: n + 1, next: r.offset + 1, last: target, missing: missing, repeated: -1}
	m.appendSegment(r.offset, target)
	m.before, m.beforeSegments = nil, nil
	if tentative {
		m.before, m.beforeSegments = &before, segments
		return
	}
	m.trim(m.cursor)
}

func (m *Matcher) appendSegment(source, target int64) {
	if k := len(m.segments) - 1; k >= 0 && m.segments[k].SourceEnd() == source && m.segments[k].TargetEnd() == target {
		m.segments[k].Count++
		return
	}
	m.segments = append(m.segments, offsets.Segment{Source: source, Target: target, Count: 1})
}

// refuted reports whether the source holds a record where this target record would come from after the tentative match. Match has found that
// its content differs.
func (m *Matcher) refuted(target int64) bool {
	_, ok := m.at(m.expected(target))
	return ok
}

// undo restores the state before the tentative match. Its target record becomes unmatched.
func (m *Matcher) undo() {
	undone := m.progress
	m.progress, m.segments = *m.before, m.beforeSegments
	m.before, m.beforeSegments = nil, nil
	m.since += 1 + undone.since
	m.blank += undone.blank
	m.unmatchedSince += 1 + undone.unmatchedSince
	m.unmatched++
}

// duplicateOf returns the source record before the cursor that a candidate is another copy of, -1 if there is none.
func (m *Matcher) duplicateOf(c candidate) int {
	if c.synced >= 0 && (c.exact || !m.repeats(c.hash)) {
		return c.synced
	}
	if m.repeated >= m.from && m.repeated < m.cursor && m.record(m.repeated).hash == c.hash {
		return m.repeated
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
	m.repeated, m.certain = n+1, m.certain && n == m.repeated || n == c.synced
}

func (m *Matcher) addUnmatched() {
	m.since++
	m.unmatchedSince++
	m.unmatched++
	if !m.Ended && m.Full() && m.next >= 0 { // before the first match it may be older than the log of the source
		m.uncertain++
	}
}

// repeats reports whether a record is the next one of a range that the copy repeats, as a sync point shows.
func (m *Matcher) repeats(hash uint64) bool {
	return m.certain && m.repeated < m.cursor && m.record(m.repeated).hash == hash
}

// isNext reports whether the source record at the cursor has this hash.
func (m *Matcher) isNext(hash uint64) bool {
	return m.cursor < m.end() && m.record(m.cursor).hash == hash
}

// Skip skips the target offsets [from, to), which hold a transaction marker or an aborted transaction. MirrorMaker 2 writes them in its
// exactly-once mode (KIP-618); they are not copies.
func (m *Matcher) Skip(from, to int64) {
	m.synced(from)
	m.blank += to - from
	m.blankSince += to - from
}

// synced returns the source offset of a target record according to the sync points. MirrorMaker 2 writes a sync point at each gap of the
// source, so both offsets advance together after the last one. As a sync point may have been lost, the content is compared as well.
func (m *Matcher) synced(target int64) (source int64, ok bool) {
	for len(m.syncPoints) > 1 && m.syncPoints[1].Target <= target {
		m.syncPoints, m.blankSince = m.syncPoints[1:], 0
	}
	if len(m.syncPoints) == 0 || m.syncPoints[0].Target > target {
		m.blankSince = 0
		return 0, false
	}
	return m.syncPoints[0].Source + target - m.syncPoints[0].Target - m.blankSince, true
}

// expected returns the source offset of a target record if it is as far from the newest match on both sides.
func (m *Matcher) expected(target int64) int64 { return m.next - 1 + target - m.last - m.blank }

// skipped returns how many records that the copy must have lie between the newest match and a later record of the window.
func (m *Matcher) skipped(number int) int64 {
	return int64(m.record(number).requiredBefore - m.record(m.cursor).requiredBefore)
}

// Lost returns how many target offsets between the newest match and target once held a record and no longer do.
func (m *Matcher) Lost(target int64) int64 { return max(0, target-m.last-1-m.since-m.blank) }

// Full reports whether the window has sufficient its limit after the newest match.
func (m *Matcher) Full() bool { return m.end()-m.cursor >= m.ahead }

// CountBefore returns how many records of the window lie between the newest match and a source offset, both exclusive.
func (m *Matcher) CountBefore(source int64) int64 {
	n, _ := m.at(source)
	return int64(n - m.cursor)
}

// CountFrom returns how many records of the window are at or after a source offset.
func (m *Matcher) CountFrom(source int64) int64 {
	n, _ := m.at(source)
	return int64(m.end() - n)
}

// Next returns the source offset after the newest match, -1 before the first match.
func (m *Matcher) Next() int64 { return m.next }

// Proven reports whether the newest match is not tentative.
func (m *Matcher) Proven() bool { return m.before == nil }
