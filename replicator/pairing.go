package replicator

import (
	"encoding/binary"
	"hash/maphash"
	"sort"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// pairer finds the source record that each record of a copy was made of, by what they hold. The copy was made by somebody else, record by
// record and at least once: in order, with stretches that are there twice (a restart, a resent batch), perhaps without the records of some
// transactions, and either log may have lost records to compaction since.
//
// Records may look alike, so what they hold is not enough: to take a record for one further on would pass what lies between, and that would
// never be copied. A pair that is new must therefore fit in one of these ways: the copier noted it; it is the next record of the source; it
// stands as far from the last pair on both sides; or the copy has lost at least as many records since the last pair as are passed.
//
// Both logs are given in order: source records with add, target records with pair. It keeps a window of the source: a hash and an offset per
// record.
type pairer struct {
	pins       []offsets.Position // pairs that the copier noted, ascending on the target: at each start, at each gap of the source, and now and then
	unpinned   int64              // target offsets behind the pin in use that never held a record of the copy
	timestamps bool               // they are part of the hashes, so that records seldom look alike
	// Loose lets a new pair pass whatever it likes, if no record before looks like it: for who counts what differs, and decides nothing by it.
	loose       bool
	ahead, back int // how many records of the window are kept at most from the cursor on and before it

	window []windowRecord
	must   uint32           // what the next record of the window gets
	ended  bool             // nothing more will be added: that was all of the source
	from   int              // what the window's first record is counted as, so that numbers stay when it moves
	newest map[uint64]int32 // by hash: the last record of the window that has it, as number modulo 2^32

	stand
	before *stand // where it was before a leap that has not proved right yet
	runs   []alignedRun
	unsure int64 // target records that were not found, with more of the source to come: they may be further on
	result pairing
}

// stand is how far a pairer has come.
type stand struct {
	cursor   int   // number of the first record behind the newest pair: what the copy should hold next
	next     int64 // one above the newest pair's source offset, -1: none yet
	last     int64 // target offset of the newest pair
	since    int64 // target records since then
	tail     int64 // those of them that are not on the source
	blank    int64 // target offsets since then that never held a record of the copy
	missing  int64 // source records below next that the copy lacks
	replayed int   // number of the record that a repetition should hold next, -1: none is going on
	certain  bool  // the copier noted that repetition
}

// windowRecord is one source record.
type windowRecord struct {
	offset int64
	hash   uint64
	before int32  // how many records earlier the window has one with this hash, 0 none
	must   uint32 // how many records before it the copy must have, modulo 2^32: all but those of transactions that may not have ended
}

// pairing is what was found.
type pairing struct {
	runs []alignedRun // each source record once, where it first stands; ascending on both sides
	// Counts of target records that are there a second time, and of those that are not on the source: compacted or deleted there, or written
	// by somebody else.
	twice, strange int64
}

// What one target record led to.
type paired int

const (
	pairedYes  paired = iota
	pairedMore        // more of the source must be added before it can be said
	pairedNo          // the source does not hold it
)

const (
	windowBack  = 1 << 19 // those that a restarted copier may have copied again
	windowAhead = 1 << 20
)

func newPairer(pins []offsets.Position, timestamps bool) *pairer {
	return &pairer{
		newest: make(map[uint64]int32), pins: pins, timestamps: timestamps, ahead: windowAhead, back: windowBack,
		stand: stand{next: -1, last: -1, replayed: -1},
	}
}

// sourceRecord is a record of the source as a pairer knows it.
type sourceRecord struct {
	offset   int64
	hash     uint64
	optional bool // the copier may have left it out: it is part of a transaction that may not have ended
}

// add appends one source record to the window.
func (p *pairer) add(s sourceRecord) {
	number := p.end()
	r := windowRecord{offset: s.offset, hash: s.hash, must: p.must}
	if !s.optional {
		p.must++
	}
	if n, ok := p.newest[s.hash]; ok {
		r.before = int32(number) - n //nolint:gosec // both are cut to 32 bits, the difference is right
	}
	p.newest[s.hash] = int32(number) //nolint:gosec // see above
	p.window = append(p.window, r)
	if s.offset < p.next {
		p.cursor = p.end() // it is on the target already
	}
}

func (p *pairer) end() int { return p.from + len(p.window) }

func (p *pairer) record(number int) *windowRecord { return &p.window[number-p.from] }

// pair takes the next target record.
func (p *pairer) pair(target int64, hash uint64) paired {
	lost := p.lost(target)
	pin := p.pin(target, hash)
	reached := p.ended || p.full() || !p.loose && p.reaches(target, lost)
	n, leap := p.newPair(target, hash, lost, pin)
	switch {
	case n >= 0 && (reached || p.loose || n == p.cursor || n == pin):
		if leap {
			p.leap(n, target)
		} else {
			p.take(n, target)
			p.trim()
		}
		return pairedYes
	case !reached && !p.loose:
		return pairedMore
	case p.before != nil && p.refuted(target): // it led to a record that only looks alike
		p.land()
		return p.pair(target, hash)
	}
	n = p.repetition(target, hash, pin)
	if n < 0 && !reached {
		return pairedMore
	}
	p.since++
	if n >= 0 {
		p.result.twice++
		p.replayed, p.certain = n+1, p.certain && n == p.replayed || n == pin
		return pairedYes
	}
	p.result.strange++
	p.tail++
	if !p.ended && p.full() && p.next >= 0 { // before the first pair it may simply be older than the source's log
		p.unsure++
	}
	return pairedNo
}

// pass tells of target offsets [from, to) that hold a marker or an aborted transaction: MirrorMaker 2 makes them in its exactly-once mode
// (KIP-618), and they stand for no record of the source.
func (p *pairer) pass(from, to int64) {
	p.noted(from)
	p.blank += to - from
	p.unpinned += to - from
}

// refuted says whether the source holds something else where this target record would stand after the leap.
func (p *pairer) refuted(target int64) bool {
	_, ok := p.at(p.beside(target))
	return ok
}

// lost is how many target offsets between the newest pair and another offset hold nothing now and did once.
func (p *pairer) lost(target int64) int64 { return max(0, target-p.last-1-p.since-p.blank) }

// full says that no more may be added in search of a record.
func (p *pairer) full() bool { return p.end()-p.cursor >= p.ahead }

// until is how many records of the window lie between the newest pair and a source offset.
func (p *pairer) until(source int64) int64 {
	n, _ := p.at(source)
	return int64(n - p.cursor)
}

// proved says whether the newest pair needs no further proof.
func (p *pairer) proved() bool { return p.before == nil }

// land goes back to before a leap.
func (p *pairer) land() {
	leapt := p.stand
	p.stand, p.before = *p.before, nil
	p.result.runs = p.runs
	p.since += 1 + leapt.since
	p.blank += leapt.blank
	p.tail += 1 + leapt.tail
	p.result.strange++
}

// reaches says whether the window holds everything that this target record may be paired with.
func (p *pairer) reaches(target, lost int64) bool {
	if p.cursor == p.end() {
		return false
	}
	if source, ok := p.noted(target); ok && p.record(p.end()-1).offset < source {
		return false
	}
	return p.next >= 0 && (lost == 0 || p.passed(p.end()-1) >= lost)
}

// passed is how many records, which the copy must have, lie between the newest pair and a record of the window behind it.
func (p *pairer) passed(number int) int64 {
	return int64(p.record(number).must - p.record(p.cursor).must)
}

// noted is where a target record came from by the copier's notes: it notes a pair at every gap of the source, so both sides go on alike from
// the last one. (A note may have been lost: that is why the records are compared.)
func (p *pairer) noted(target int64) (source int64, ok bool) {
	for len(p.pins) > 1 && p.pins[1].Target <= target {
		p.pins, p.unpinned = p.pins[1:], 0
	}
	if len(p.pins) == 0 || p.pins[0].Target > target {
		p.unpinned = 0
		return 0, false
	}
	return p.pins[0].Source + target - p.pins[0].Target - p.unpinned, true
}

// beside is where a target record comes from if it stands as far from the newest pair on both sides.
func (p *pairer) beside(target int64) int64 { return p.next - 1 + target - p.last - p.blank }

// pin is the record that the copier's notes give for a target offset, -1: none that holds the same.
func (p *pairer) pin(target int64, hash uint64) int {
	source, ok := p.noted(target)
	if !ok {
		return -1
	}
	if n, ok := p.at(source); ok && p.record(n).hash == hash {
		return n
	}
	return -1
}

// newPair finds the new pair of a target record, -1: none. A leap is one that has to prove right with the next record.
func (p *pairer) newPair(target int64, hash uint64, lost int64, pin int) (number int, leap bool) {
	exact := pin >= 0 && p.pins[0].Target == target
	switch {
	case !exact && p.repeats(hash):
		return -1, false // it is in a repetition, whatever else looks like it
	case !exact && (p.replayed < 0 || p.replayed == p.cursor) && lost == 0 && p.cursor < p.end() && p.record(p.cursor).hash == hash:
		return p.cursor, false // a note of a gap may have been lost since the last one
	case pin >= p.cursor:
		return pin, false
	case pin >= 0:
		return -1, false
	}
	if p.next >= 0 {
		if n, ok := p.at(p.beside(target)); ok && n >= p.cursor && p.record(n).hash == hash && p.passed(n) <= lost {
			return n, false
		}
	}
	if p.cursor < p.end() && p.record(p.cursor).hash == hash {
		return p.cursor, false
	}
	n := p.nearest(hash, p.cursor)
	if n < 0 || p.before != nil {
		return -1, false
	}
	passed := p.passed(n)
	if p.loose {
		if passed == 0 || p.repetition(target, hash, pin) < 0 {
			return n, passed > 0 && p.next >= 0
		}
		return -1, false
	}
	if passed == 0 || p.timestamps && (passed <= lost || p.next < 0) {
		return n, passed > 0
	}
	return -1, false
}

// repeats says whether a record is the next one of a repetition that the copier noted.
func (p *pairer) repeats(hash uint64) bool {
	return p.certain && p.replayed < p.cursor && p.record(p.replayed).hash == hash
}

// repetition finds where a record stands that is there already, -1: nowhere.
func (p *pairer) repetition(target int64, hash uint64, pin int) int {
	if pin >= 0 && (p.pins[0].Target == target || !p.repeats(hash)) {
		return pin
	}
	if p.replayed >= p.from && p.replayed < p.cursor && p.record(p.replayed).hash == hash {
		return p.replayed
	}
	n := p.nearest(hash, p.from)
	for n >= 0 && n < p.cursor { // the last one before the cursor
		later := p.nearest(hash, n+1)
		if later < 0 || later >= p.cursor {
			return n
		}
		n = later
	}
	return -1
}

// at is the number of the window's record with a source offset.
func (p *pairer) at(source int64) (int, bool) {
	i := sort.Search(len(p.window), func(i int) bool { return p.window[i].offset >= source })
	return p.from + i, i < len(p.window) && p.window[i].offset == source
}

// nearest gives the first record with a hash at or behind a number; -1: none.
func (p *pairer) nearest(hash uint64, number int) int {
	last, ok := p.newest[hash]
	if !ok {
		return -1
	}
	found := -1
	for n := p.end() - int(int32(p.end())-last); n >= number; { //nolint:gosec // the window is far below 2^31 records
		found = n
		before := int(p.record(n).before)
		if before == 0 {
			break
		}
		n -= before
	}
	return found
}

// take makes the record number n the newest pair.
func (p *pairer) take(n int, target int64) {
	p.before = nil
	r := p.record(n)
	if p.next >= 0 {
		p.missing += p.passed(n)
	}
	p.stand = stand{cursor: n + 1, next: r.offset + 1, last: target, missing: p.missing, replayed: -1}
	runs := p.result.runs
	if k := len(runs) - 1; k >= 0 && runs[k].source+int64(runs[k].count) == r.offset && runs[k].target+int64(runs[k].count) == target {
		runs[k].count++
	} else {
		p.result.runs = append(runs, alignedRun{source: r.offset, target: target, count: 1})
	}
}

// leap takes a record that has to prove right with the next one. It passes others, so it begins a run of its own.
func (p *pairer) leap(n int, target int64) {
	before, runs := p.stand, p.result.runs
	p.take(n, target)
	p.before, p.runs = &before, runs
}

// trim forgets what lies far before the cursor, in large steps, as it costs a new index.
func (p *pairer) trim() {
	drop := p.cursor - p.from - p.back
	if drop < p.back {
		return
	}
	for i, r := range p.window[:drop] {
		if p.newest[r.hash] == int32(p.from+i) { //nolint:gosec // see add
			delete(p.newest, r.hash)
		}
	}
	p.window = append([]windowRecord(nil), p.window[drop:]...)
	p.from += drop
	for i := range p.window {
		if r := &p.window[i]; int(r.before) > i {
			r.before = 0
		}
	}
}

// hasher gives records the same number if a reader could not tell them apart, their offsets aside.
type hasher struct {
	seed       maphash.Seed
	timestamps bool // they count: neither log has the broker's own
	buffer     []byte
}

func (h *hasher) hash(r *recordbatch.Record) uint64 {
	b := h.buffer[:0]
	if h.timestamps {
		b = binary.BigEndian.AppendUint64(b, uint64(r.Timestamp)) //nolint:gosec // any distinct bytes will do
	}
	b = appendNullable(appendNullable(b, r.Key), r.Value)
	for _, header := range r.Headers {
		b = appendNullable(append(binary.AppendVarint(b, int64(len(header.Key))), header.Key...), header.Value)
	}
	h.buffer = b
	return maphash.Bytes(h.seed, b)
}

// appendNullable tells null from empty.
func appendNullable(b, value []byte) []byte {
	if value == nil {
		return append(b, 1)
	}
	return append(binary.AppendVarint(b, int64(len(value))), value...)
}
