package offsets

import (
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of the gap ledger, which is rewritten with every journal write.
const (
	// MaxGaps is the maximum number of gaps in a partition's ledger.
	MaxGaps = 64
	// MaxGapDetail is the maximum length of a gap's detail, in bytes.
	MaxGapDetail = 256
	// MixedGaps is the Kind and the Action of a merged gap whose parts differ in it.
	MixedGaps = "mixed"
)

// Gap is one entry in the ledger of offsets that were not copied as they should have been.
type Gap struct {
	Kind   string // what happened: an anomaly kind
	Action string // what was done about it
	// From and To are the source offsets concerned, [From, To), or -1 if unknown. They are equal if no source record
	// is concerned, as by a foreign write.
	From, To int64
	At       time.Time // when it was recorded, in milliseconds
	Detail   string    // for humans, at most MaxGapDetail bytes
	// Merged is the number of other gaps that this one also stands for. If it is not 0, [From, To) spans all of them
	// and what was copied between them, and At and Detail are those of the newest.
	Merged int
}

// AddGap adds a gap to the ledger. If the ledger is full, its two oldest gaps are merged: their exact offsets are
// lost, their number is not. A detail that is too long is truncated at a character boundary.
func (s *PartitionState) AddGap(g Gap) {
	g.Detail = clip(g.Detail, MaxGapDetail)
	s.Gaps = foldGaps(append(s.Gaps, g))
}

// foldGaps merges the oldest gaps, so that at most MaxGaps are left.
func foldGaps(gaps []Gap) []Gap {
	excess := len(gaps) - MaxGaps
	if excess <= 0 {
		return gaps
	}
	first := gaps[0]
	for _, g := range gaps[1 : excess+1] {
		first = mergeGaps(first, g)
	}
	return append([]Gap{first}, gaps[excess+1:]...)
}

// mergeGaps merges two neighbors of the ledger.
func mergeGaps(older, newer Gap) Gap {
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

// clip truncates a text to at most limit bytes at a character boundary. It makes the text valid UTF-8 first, which
// may make it longer.
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
