package recordbatch

import "slices"

// RebuildRules say what to rebuild, and how.
type RebuildRules struct {
	// From is the first wanted source offset. Records below it are left out.
	From int64
	// MaxBytes is the maximum size of a part: max.message.bytes of the target topic. 0 means no limit.
	MaxBytes int32
	// MaxRecords is the maximum number of records of a part. 0 means no limit.
	MaxRecords int32
	// SkipTooLarge says of the record at an offset whether it is left out, and its offset reported, if it exceeds MaxBytes even in a batch of its own.
	// Without it, or where it says no, that is an error.
	SkipTooLarge func(offset int64) bool
	// Provenance, unless nil, marks the records and leaves out those that have been on the target.
	Provenance *Provenance
}

// Run is a range of source offsets without holes: from Source, inclusive, to Source+Count, exclusive.
type Run struct {
	Source int64
	Count  int32
}

// Part is one rebuilt batch for a produce request. [Rewrite] must set its producer.
type Part struct {
	// Batch is owned by the caller.
	Batch []byte
	// Count is the number of records in Batch, and of the sequence numbers that it uses.
	Count int32
	// Runs are the source offsets of the records, in order. Their counts add up to Count.
	Runs []Run
	// Next is the source offset at which to continue once this part is written: NextOffset of the source batch for the last part, the offset
	// after the last record of the part for the others.
	Next int64
	// MaxTimestamp is the maximum timestamp of the records, in ms.
	MaxTimestamp int64
}

// Rebuild decodes one batch of the source, of any format, and encodes its wanted records as version 2 batches with the same codec. Offsets
// count from 0 without holes; timestamps are those that consumers of the source see; keys, values, headers and nulls are kept. There is
// usually one part. There are several if the records exceed a limit of the rules, and none if all records are left out. The result skipped holds the
// source offsets of the records that were left out because of their size.
//
// The checksum is verified first: a damaged batch is a *[CorruptError] and never gets a new checksum. Bytes that cannot be decoded are a
// *[FormatError], and so is a control batch, whose markers would become records. A record that is too large is a *[RecordTooLargeError]
// unless rules.SkipTooLarge leaves it out. With an error there are no parts.
func Rebuild(batch []byte, rules RebuildRules) (parts []Part, skipped []int64, err error) {
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
	wanted := entries[first:]
	if rules.Provenance != nil {
		if wanted = s.mark(wanted, rules.Provenance); len(wanted) == 0 {
			return nil, nil, nil
		}
	}
	r := rebuilder{scratch: s, codec: h.Attributes.Codec(), rules: rules}
	limit := len(wanted)
	if rules.MaxRecords > 0 {
		limit = int(rules.MaxRecords)
	}
	for chunk := range slices.Chunk(wanted, limit) {
		if err := r.add(chunk); err != nil {
			return nil, nil, err
		}
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
	parts   []Part
	skipped []int64
}

// add encodes the entries as one part, or as several if one is too large. The size of a compressed batch is only known after encoding, so add
// encodes, splits according to the size, and encodes again.
func (r *rebuilder) add(entries []entry) error {
	batch, err := r.scratch.encode(entries, r.codec)
	if err != nil {
		return err
	}
	size, limit := len(batch), int(r.rules.MaxBytes)
	last := entries[len(entries)-1].offset
	switch {
	case limit <= 0 || size <= limit:
		r.parts = append(r.parts, Part{
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
	case r.rules.SkipTooLarge != nil && r.rules.SkipTooLarge(last):
		r.skipped = append(r.skipped, last)
		return nil
	default:
		return &RecordTooLargeError{Offset: last, Size: size, Max: limit}
	}
}

// cut splits two or more entries into at least two chunks of about 1/n of their bytes; n is at least 2. The n of the caller has a margin, as
// short blocks compress slightly worse than long ones.
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
