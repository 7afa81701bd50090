package recordbatch

import "slices"

// RebuildRules are what the target asks of a rebuilt batch.
type RebuildRules struct {
	// From is the first source offset that is wanted; records below it are left out.
	From int64
	// MaxBytes is the most a part may have, the target topic's max.message.bytes; 0 means that nothing is split.
	MaxBytes int32
	// SkipTooLarge leaves out records that do not fit MaxBytes in a batch of their own and reports them, instead of failing.
	SkipTooLarge bool
	// Provenance, unless it is nil, marks the records, and leaves out those that have been on the target.
	Provenance *Provenance
}

// Run is a stretch of records that stood side by side on the source: offsets from Source to Source+Count, exclusive.
type Run struct {
	Source int64
	Count  int32
}

// Built is one batch for a produce request, as [Encode] builds it: it needs a producer by [Rewrite].
type Built struct {
	// Batch is fresh; the caller owns it.
	Batch []byte
	// Count is the number of records in Batch, and of sequence numbers it takes.
	Count int32
	// Runs say where the records come from, in order; their counts sum up to Count.
	Runs []Run
	// Next is the source offset behind this part, exclusive: where to go on once it is written. It is the source batch's NextOffset for
	// the last part, and lies behind the part's last record for the others.
	Next int64
	// MaxTimestamp is the latest timestamp of the records, in ms.
	MaxTimestamp int64
}

// Rebuild decodes one batch of the source, of any format, and encodes its live records again as version 2 with the same codec: offsets
// from 0 without holes; timestamps as the source's readers see them; keys, values, headers and null-ness kept. One part is the rule; there
// are more when the records would not fit rules.MaxBytes together, and none when all are left out, by rules.From or by their provenance; skipped has the source offsets
// of records left out for their size.
//
// The checksum is verified first: damage is a *[CorruptError] and never gets a new checksum. Bytes that do not decode are a *[FormatError],
// and so is a control batch, whose markers would become records. A record that cannot land is a *[RecordTooLargeError] unless the rules
// skip it. Beside an error there are no parts.
func Rebuild(batch []byte, rules RebuildRules) (parts []Built, skipped []int64, err error) {
	s := scratches.Get().(*scratch)
	defer s.release()
	h, entries, err := s.decode(batch)
	if err != nil {
		return nil, nil, err
	}
	if h.Magic >= 2 && h.Attributes.Control() {
		return nil, nil, formatError(h, "rebuild of a control batch")
	}
	first := slices.IndexFunc(entries, func(e entry) bool { return e.offset >= rules.From })
	if first < 0 {
		return nil, nil, nil
	}
	live := entries[first:]
	if rules.Provenance != nil {
		if live = s.mark(live, rules.Provenance); len(live) == 0 {
			return nil, nil, nil
		}
	}
	r := rebuilder{scratch: s, codec: h.Attributes.Codec(), rules: rules}
	if err := r.add(live); err != nil {
		return nil, nil, err
	}
	if n := len(r.parts); n > 0 {
		r.parts[n-1].Next = h.NextOffset()
	}
	return r.parts, r.skipped, nil
}

// rebuilder collects the parts of one batch.
type rebuilder struct {
	scratch *scratch
	codec   Codec
	rules   RebuildRules
	parts   []Built
	skipped []int64
}

// add encodes the entries as one part, or in several when that is too large. Only encoding tells the size of a compressed batch, so it
// tries, cuts by what came out, and tries again.
func (r *rebuilder) add(entries []entry) error {
	batch, err := r.scratch.encode(entries, r.codec)
	if err != nil {
		return err
	}
	size, limit := len(batch), int(r.rules.MaxBytes)
	last := entries[len(entries)-1].offset
	switch {
	case limit <= 0 || size <= limit:
		r.parts = append(r.parts, Built{
			Batch:        slices.Clone(batch),
			Count:        int32(len(entries)),
			Runs:         runsOf(entries),
			Next:         last + 1,
			MaxTimestamp: maxTimestamp(entries),
		})
		return nil
	case len(entries) > 1:
		for _, chunk := range cut(entries, size/20*21/limit+1) {
			if err := r.add(chunk); err != nil {
				return err
			}
		}
		return nil
	case r.rules.SkipTooLarge:
		r.skipped = append(r.skipped, last)
		return nil
	default:
		return &RecordTooLargeError{Offset: last, Size: size, Max: limit}
	}
}

// cut splits two entries or more into at least two chunks of about 1/n of their bytes, n being 2 or more. The caller's n allows for
// short blocks compressing a little worse than long ones.
func cut(entries []entry, n int) [][]entry {
	const overhead = 8 // length, attributes and deltas of a record
	total := 0
	for i := range entries {
		total += overhead + len(entries[i].body)
	}
	target := total / max(n, 2)
	var chunks [][]entry
	start, sum := 0, 0
	for i := range entries {
		size := overhead + len(entries[i].body)
		if i > start && sum+size > target {
			chunks = append(chunks, entries[start:i])
			start, sum = i, 0
		}
		sum += size
	}
	return append(chunks, entries[start:])
}

func runsOf(entries []entry) []Run {
	var runs []Run
	for i := range entries {
		if n := len(runs); n > 0 && runs[n-1].Source+int64(runs[n-1].Count) == entries[i].offset {
			runs[n-1].Count++
			continue
		}
		runs = append(runs, Run{Source: entries[i].offset, Count: 1})
	}
	return runs
}
