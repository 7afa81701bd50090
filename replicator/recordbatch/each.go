package recordbatch

import (
	"bytes"
	"errors"
	"iter"
)

// Batch is one batch of a log: its parsed header and all its bytes, including the header. Bytes alias the data that they were read from.
type Batch struct {
	Header
	Bytes []byte
}

// Each iterates over the batches of a fetch response in order. It leaves out a truncated batch at the end: a response that reached its size
// limit ends with one. Bytes that are not a batch yield an error of [Next] or [Parse] and end the iteration, as it is unknown where the next
// batch begins.
func Each(data []byte) iter.Seq2[Batch, error] {
	return func(yield func(Batch, error) bool) {
		for len(data) > 0 {
			batch, rest, err := Next(data)
			if errors.Is(err, ErrTruncated) {
				return
			}
			var h Header
			if err == nil {
				h, err = Parse(batch)
			}
			if err != nil {
				yield(Batch{}, err)
				return
			}
			if !yield(Batch{Header: h, Bytes: batch}, nil) {
				return
			}
			data = rest
		}
	}
}

// Verify returns a *[CorruptError] unless the bytes of the batch match its checksum. It reads the whole batch.
func (b Batch) Verify() error { return verify(b.Bytes, b.Header) }

// HasSameRecords reports whether two version 2 batches have the same records, byte for byte: the same number with the same offset deltas and create
// times, compressed alike. It does not look at the checksums, the producers and who set the timestamps.
func (b Batch) HasSameRecords(other Batch) bool {
	return b.Magic == 2 && other.Magic == 2 && b.Length == other.Length && b.Count == other.Count && b.LastOffsetDelta == other.LastOffsetDelta &&
		b.BaseTimestamp == other.BaseTimestamp && b.Attributes.Codec() == other.Attributes.Codec() && bytes.Equal(b.Bytes[HeaderSize:], other.Bytes[HeaderSize:])
}
