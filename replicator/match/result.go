package match

import "github.com/milena-kafka/milena/offsets"

// Result is what a [Matcher] has found.
type Result struct {
	// Segments hold each matched source record once, at its first copy. They ascend on both sides.
	Segments []offsets.Segment
	// Duplicates are target records whose source record has an earlier copy.
	Duplicates int64
	// Unmatched are target records that are not on the source: compacted or deleted there, or written by another producer.
	Unmatched int64
	// Missing are source records below [Matcher.Next] that the copy lacks.
	Missing int64
}

// Result returns what was found so far. The segments are valid until the next call of Match.
func (m *Matcher) Result() Result {
	return Result{Segments: m.segments, Duplicates: m.duplicates, Unmatched: m.unmatched, Missing: m.missing}
}

// TakeResult returns the result and resets it; the window stays. The segments are valid until the next call of Match. The newest match must
// be [Matcher.Proven].
func (m *Matcher) TakeResult() Result {
	r := m.Result()
	m.segments, m.duplicates, m.unmatched, m.missing = m.segments[:0], 0, 0, 0
	return r
}

// Uncertain returns how many unmatched target records may be on the source after all, beyond the end of the full window.
func (m *Matcher) Uncertain() int64 { return m.uncertain }

// RetractUnmatched removes the last target record from the unmatched ones, because Match will be called for it again.
func (m *Matcher) RetractUnmatched() { m.unmatched-- }

// ForgetMissing resets the number of missing records.
func (m *Matcher) ForgetMissing() { m.missing = 0 }

// ForgetUnmatched resets the number of unmatched records.
func (m *Matcher) ForgetUnmatched() { m.unmatched = 0 }
