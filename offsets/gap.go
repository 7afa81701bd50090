package offsets

import (
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of the gap ledger: it is rewritten with every journal pass.
const (
	// MaxGaps is the number of gaps that a partition's ledger keeps.
	MaxGaps = 64
	// MaxGapDetail is the length of a gap's detail in bytes.
	MaxGapDetail = 256
	// MixedGaps is the Kind and the Action of a merged gap whose parts differ in it.
	MixedGaps = "mixed"
)

// Gap is one note in the ledger of what was not copied as it should have been.
type Gap struct {
	Kind   string // what happened: a kind of anomaly
	Action string // what was done about it
	// From and To are the source offsets concerned, [From, To); -1 if unknown. They are the same if it concerns a place
	// and no record, as a foreign write does.
	From, To int64
	At       time.Time // when it was noted, in milliseconds
	Detail   string    // for people, at most MaxGapDetail bytes
	// Merged is how many other gaps this one also stands for. If it is not 0, [From, To) spans all of them, with what
	// was copied between them, and At, Detail are the newest one's.
	Merged int
}

// AddGap adds a gap to the ledger. If that is full, its two oldest become one: their exact offsets are lost, their
// number is not. A detail that is too long is cut at a character.
func (s *PartitionState) AddGap(g Gap) {
	g.Detail = clip(g.Detail, MaxGapDetail)
	s.Gaps = fold(append(s.Gaps, g))
}

// fold makes one gap of the oldest ones, so that at most MaxGaps are left.
func fold(gaps []Gap) []Gap {
	excess := len(gaps) - MaxGaps
	if excess <= 0 {
		return gaps
	}
	first := gaps[0]
	for _, g := range gaps[1 : excess+1] {
		first = merge(first, g)
	}
	return append([]Gap{first}, gaps[excess+1:]...)
}

// merge makes one gap of two neighbours in the ledger.
func merge(older, newer Gap) Gap {
	m := newer
	m.Merged += older.Merged + 1
	m.To = max(older.To, newer.To)
	if older.From >= 0 && (newer.From < 0 || older.From < newer.From) {
		m.From = older.From
	}
	if older.Kind != newer.Kind {
		m.Kind = MixedGaps
	}
	if older.Action != newer.Action {
		m.Action = MixedGaps
	}
	return m
}

// clip cuts a text to at most limit bytes without cutting a character in two. It makes it UTF-8 first, as that may make
// it longer.
func clip(text string, limit int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
}

func (g *Gap) append(b []byte) []byte {
	b = appendString(b, g.Kind)
	b = appendString(b, g.Action)
	b = appendVarint(b, g.From)
	b = appendVarint(b, g.To)
	b = appendTime(b, g.At)
	b = appendString(b, clip(g.Detail, MaxGapDetail))
	return appendUvarint(b, uint64(g.Merged))
}
