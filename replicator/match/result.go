package match

import "github.com/milena-kafka/milena/offsets"

// Result is what a Matcher has found.
type Result struct {
	// Segments hold each matched source record once, where its first copy is; ascending on both sides.
	Segments []offsets.Segment
	// Duplicates are target records whose source record has an earlier copy.
	Duplicates int64
	// Unmatched are target records that are not on the source: compacted or deleted there, or written by somebody else.
	Unmatched int64
	// Missing are source records below Next that the copy lacks.
	Missing int64
}

// Result is what was found so far.
func (m *Matcher) Result() Result {
	return Result{Segments: m.segments, Duplicates: m.duplicates, Unmatched: m.unmatched, Missing: m.missing}
}

// Take is Result, and begins to count anew; the window stays. The segments are valid until the next call of Match. The newest match must be
// [Matcher.Proven].
func (m *Matcher) Take() Result {
	r := m.Result()
	m.segments, m.duplicates, m.unmatched, m.missing = m.segments[:0], 0, 0, 0
	return r
}

// Uncertain is how many target records were not found within the window while the source has more: they may be further on.
func (m *Matcher) Uncertain() int64 { return m.uncertain }

// Retract takes back the verdict Unmatched on the last target record, which will be given again.
func (m *Matcher) Retract() { m.unmatched-- }

// ForgetMissing sets the count of missing records to 0.
func (m *Matcher) ForgetMissing() { m.missing = 0 }

// ForgetUnmatched sets the count of unmatched records to 0.
func (m *Matcher) ForgetUnmatched() { m.unmatched = 0 }
