package replicator

import (
	"encoding/binary"
	"hash/maphash"

	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// pairer finds the source record that each record of a copy was made of, by what they hold. The copy was made by somebody else, record by
// record and at least once: in order, with stretches that are there twice (a restart, a resent batch), without records that the copier left
// out, and either log may have lost records to compaction since.
//
// Both logs are given in order: source records with add, target records with pair. It keeps a window of the source: a hash and an offset per
// record.
type pairer struct {
	window []windowRecord
	from   int              // what the window's first record is counted as, so that numbers stay when it moves
	newest map[uint64]int32 // by hash: the last record of the window that has it, as number modulo 2^32
	cursor int              // number of the record that the copy should hold next
	pins   map[int64]int64  // target offset → source offset, as the copier noted them
	next   int64            // one above the highest source offset that is on the target, -1: none yet
	unsure int64            // target records that were not found within windowAhead: they may be further on
	result pairing
}

// windowRecord is one source record.
type windowRecord struct {
	offset int64
	hash   uint64
	before int32 // how many records earlier the window has one with this hash, 0 none
	left   bool  // it may be missing from the copy: part of a transaction, which the copier may have waited for
}

// pairing is what was found.
type pairing struct {
	runs []alignedRun // each source record once, where it first stands; ascending on both sides
	// Counts of target records that are there a second time, of target records that are not on the source (compacted or deleted there, or
	// written by somebody else), and of source records below next that the copy lacks.
	twice, strange, missing int64
}

// What one target record led to.
type paired int

const (
	pairedYes  paired = iota
	pairedMore        // more of the source must be added before it can be said
	pairedNo          // the window does not hold it
)

const (
	windowBack  = 1 << 19 // how many records before the cursor are kept: those that a restarted copier may have copied again
	windowAhead = 1 << 21 // how many behind it are kept at most in search of a record
)

func newPairer(pins map[int64]int64) *pairer {
	return &pairer{newest: make(map[uint64]int32), pins: pins, next: -1}
}

// add appends one source record to the window.
func (p *pairer) add(offset int64, hash uint64, left bool) {
	number := p.from + len(p.window)
	r := windowRecord{offset: offset, hash: hash, left: left}
	if n, ok := p.newest[hash]; ok {
		r.before = int32(number) - n //nolint:gosec // both are cut to 32 bits, the difference is right
	}
	p.newest[hash] = int32(number) //nolint:gosec // see above
	p.window = append(p.window, r)
}

// full says that no more may be added in search of one record.
func (p *pairer) full() bool { return p.from+len(p.window)-p.cursor >= windowAhead }

// pair takes the next target record. ended says that the source holds nothing more that could be added.
func (p *pairer) pair(target int64, hash uint64, ended bool) paired {
	end := p.from + len(p.window)
	if source, ok := p.pins[target]; ok {
		if n, ok := p.at(source); ok && p.window[n-p.from].hash == hash {
			p.take(n, target)
			return pairedYes
		}
	}
	switch {
	case p.cursor < end && p.window[p.cursor-p.from].hash == hash:
		p.take(p.cursor, target)
		return pairedYes
	case p.cursor == end && !ended:
		return pairedMore
	}
	ahead, behind := p.find(hash)
	switch {
	case ahead >= 0 && (behind < 0 || p.mayLeave(ahead)):
		p.take(ahead, target)
	case behind >= 0:
		p.take(behind, target)
	case !ended && !p.full():
		return pairedMore
	default:
		if p.result.strange++; !ended {
			p.unsure++
		}
		return pairedNo
	}
	return pairedYes
}

// at is the number of the window's record with a source offset.
func (p *pairer) at(source int64) (int, bool) {
	low, high := 0, len(p.window)
	for low < high {
		mid := int(uint(low+high) >> 1)
		if p.window[mid].offset < source {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return p.from + low, low < len(p.window) && p.window[low].offset == source
}

// find gives the nearest records with a hash, from the cursor on and before it; -1: none.
func (p *pairer) find(hash uint64) (ahead, behind int) {
	last, ok := p.newest[hash]
	if !ok {
		return -1, -1
	}
	end := p.from + len(p.window)
	n := end - int(int32(end)-last) //nolint:gosec // the window is far below 2^31 records
	for ahead = -1; n >= p.from; {
		if n < p.cursor {
			return ahead, n
		}
		ahead = n
		before := int(p.window[n-p.from].before)
		if before == 0 {
			break
		}
		n -= before
	}
	return ahead, -1
}

// mayLeave says whether all records from the cursor to n may be missing from the copy.
func (p *pairer) mayLeave(n int) bool {
	for i := p.cursor; i < n; i++ {
		if !p.window[i-p.from].left {
			return false
		}
	}
	return true
}

// take pairs the record number n with a target offset and goes on behind it.
func (p *pairer) take(n int, target int64) {
	r := &p.window[n-p.from]
	if r.offset < p.next {
		p.result.twice++
		p.cursor = n + 1
		return
	}
	for i := p.cursor; i < n; i++ {
		if w := &p.window[i-p.from]; !w.left && w.offset >= p.next {
			p.result.missing++
		}
	}
	p.cursor, p.next = n+1, r.offset+1
	runs := p.result.runs
	if k := len(runs) - 1; k >= 0 && runs[k].source+int64(runs[k].count) == r.offset && runs[k].target+int64(runs[k].count) == target {
		runs[k].count++
	} else {
		p.result.runs = append(runs, alignedRun{source: r.offset, target: target, count: 1})
	}
	p.trim()
}

// trim forgets what lies far before the cursor, in large steps, as it costs a new index.
func (p *pairer) trim() {
	drop := p.cursor - p.from - windowBack
	if drop < windowBack {
		return
	}
	for _, r := range p.window[:drop] {
		if n, ok := p.newest[r.hash]; ok && n-int32(p.from) < int32(drop) { //nolint:gosec // see add
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
