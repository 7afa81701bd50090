package recordbatch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// ErrNotMergeable says that well-formed batches do not become one batch: they are not [Mergeable] one after the other, or the result exceeds a
// limit. They can still be sent one by one.
var ErrNotMergeable = errors.New("batches cannot be merged")

// Mergeable reports whether next may follow first in a merged batch. Both have the route [RouteForward], and next has the higher offsets; source
// offsets between them, as of markers, do not matter. It is decided by the headers alone:
//
//   - The format is version 2, the codec is known, and each batch has records without holes. There are no control batches.
//   - There is no delete horizon: the base timestamp is then a time of the log cleaner, which should not become that of other batches.
//   - All attributes are the same: the codec, the type of the timestamps, the transactional bit and the bits that have no meaning yet.
//   - Transactional batches have the same producer id and epoch. This keeps the records of two transactional producers in two batches. Two
//     transactions of one producer may be merged. That is safe: markers have decided both before their batches are forwarded, and [Rewrite]
//     makes all batches plain batches of one producer, so no consumer of the target can tell.
//
// Plain batches of different producers may be merged, for the same reason.
func Mergeable(first, next Header) bool {
	return first.mayMerge() && next.mayMerge() && next.BaseOffset > first.LastOffset() && next.Attributes == first.Attributes &&
		(!next.Attributes.Transactional() || next.ProducerID == first.ProducerID && next.ProducerEpoch == first.ProducerEpoch)
}

// mayMerge reports whether a batch may be part of any merged batch.
func (h Header) mayMerge() bool {
	return h.Magic == 2 && h.Attributes.Codec() <= Zstd && h.Attributes&(attributeControl|attributeDeleteHorizon) == 0 &&
		h.Count > 0 && int64(h.LastOffsetDelta)+1 == int64(h.Count)
}

// Merge makes one batch of several, which are in the order of the source and [Mergeable] one after the other. A broker takes one batch per
// partition and request, so a partition of tiny batches is bound by requests per second.
//
// The result has base offset 0, offset deltas 0 to n-1, the base timestamp of the first batch, leader epoch -1, no producer, and the attribute bits
// that [Rewrite] keeps; Rewrite sets the producer. Its source offsets are the runs of the batches, one after the other. Keys, values, headers,
// nulls, the attributes of records and their order are kept. Every record keeps its timestamp: base timestamp plus delta. With append times that
// is the timestamp of the producer, as after Rewrite. Consumers do not see it, because [Admit] forwards such batches only to a topic that has
// append times of its own. If the records must be rebuilt after all, for a changed topic or a refusal, the batches are what to rebuild, and
// not the result: it has neither source offsets nor the append times of the source.
//
// Compressed records are compressed again with the same codec. Without compression the result is usually smaller than the batches together, by a
// header for each but the first, and longer deltas take little of that. It can be larger if the base timestamps of batches of many records are
// years apart: a record may take up to 14 bytes more. With compression the size is known only afterwards. MaxBytes is the maximum size of the
// result, max.message.bytes of the target topic; 0 means no limit. A compressed result holds at most [MaxDecodedBytes] before compression, so
// that it can be decoded.
//
// The checksums of all batches are verified first: a damaged batch is a *[CorruptError] and never gets a new checksum. Bytes that cannot be
// decoded are a *[FormatError]. Otherwise the error is [ErrNotMergeable]. With an error there is no result. The caller owns the result.
func Merge(batches [][]byte, maxBytes int32) ([]byte, error) {
	first, err := verifyMergeable(batches)
	if err != nil {
		return nil, err
	}
	s := scratches.Get().(*scratch)
	defer s.release()
	m := newMerger(s, first, batches, maxBytes)
	for _, batch := range batches {
		if err := m.add(batch); err != nil {
			return nil, err
		}
	}
	return m.finish(maxBytes)
}

// verifyMergeable returns the header of the first batch if all are undamaged, and mergeable one after the other.
func verifyMergeable(batches [][]byte) (first Header, err error) {
	var last Header
	records := int64(0)
	for i, batch := range batches {
		h, err := Parse(batch)
		if err != nil {
			return Header{}, err
		}
		if err := verify(batch, h); err != nil {
			return Header{}, err
		}
		if i == 0 {
			first = h
		}
		if !h.mayMerge() || i > 0 && !Mergeable(last, h) {
			return Header{}, fmt.Errorf("%w: the one at offset %d", ErrNotMergeable, h.BaseOffset)
		}
		last, records = h, records+int64(h.Count)
	}
	if len(batches) == 0 || records > math.MaxInt32 {
		return Header{}, fmt.Errorf("%w: %d batches of %d records", ErrNotMergeable, len(batches), records)
	}
	return first, nil
}

// merger writes the records of several batches into the plain buffer of a scratch, behind room for a header.
type merger struct {
	*scratch
	first  Header
	limit  int // of the plain buffer
	count  int32
	latest int64 // maximum timestamp so far
}

func newMerger(s *scratch, first Header, batches [][]byte, maxBytes int32) merger {
	m := merger{scratch: s, first: first, limit: math.MaxInt32, latest: math.MinInt64}
	switch {
	case first.Attributes.Codec() != None:
		m.limit = HeaderSize + MaxDecodedBytes
	case maxBytes > 0:
		m.limit = int(maxBytes)
	}
	size := 0
	for _, batch := range batches {
		size += len(batch)
	}
	m.plain = append(slices.Grow(m.plain[:0], size), make([]byte, HeaderSize)...)
	return m
}

// add appends the records of a verified batch. The bodies are checked, as a broker would refuse all records of the result for one of them.
func (m *merger) add(batch []byte) error {
	h, err := Parse(batch)
	if err != nil {
		return err
	}
	raw := batch[HeaderSize:]
	if codec := h.Attributes.Codec(); codec != None {
		if raw, err = m.decompress(raw, codec, h); err != nil {
			return err
		}
	}
	h.Attributes &^= attributeLogAppendTime // the timestamps are those of the producer
	for i := range h.Count {
		e, rest, problem := readEntry(raw, h)
		if problem == "" {
			problem = readBody(e.body, nil)
		}
		if problem != "" {
			return formatError(h, "record %d: %s", i, problem)
		}
		if e.offset != h.BaseOffset+int64(i) {
			return formatError(h, "record %d: offset %d in a batch without holes", i, e.offset)
		}
		_, n := varint32(raw)
		if !m.append(raw[n], e) {
			return fmt.Errorf("%w: they exceed the limit of %d bytes", ErrNotMergeable, m.limit)
		}
		raw = rest
	}
	if len(raw) > 0 {
		return formatError(h, "%d trailing bytes after the last record", len(raw))
	}
	return nil
}

// append appends one record, and returns false if it does not fit.
func (m *merger) append(attributes byte, e entry) bool {
	delta := e.timestamp - m.first.BaseTimestamp
	length := 1 + varintSize(delta) + varintSize(int64(m.count)) + len(e.body)
	if length+varintSize(int64(length)) > m.limit-len(m.plain) {
		return false
	}
	m.plain = binary.AppendVarint(m.plain, int64(length))
	m.plain = append(m.plain, attributes)
	m.plain = binary.AppendVarint(m.plain, delta)
	m.plain = binary.AppendVarint(m.plain, int64(m.count))
	m.plain = append(m.plain, e.body...)
	m.count++
	m.latest = max(m.latest, e.timestamp)
	return true
}

// finish compresses the records and writes the header. The max timestamp is that of the records, as a broker computes it.
func (m *merger) finish(maxBytes int32) ([]byte, error) {
	batch := m.plain
	if codec := m.first.Attributes.Codec(); codec != None {
		var err error
		if batch, err = compress(append(m.result[:0], m.plain[:HeaderSize]...), m.plain[HeaderSize:], codec); err != nil {
			return nil, err
		}
		m.result = batch
	}
	if limit := int(maxBytes); limit > 0 && len(batch) > limit {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrNotMergeable, len(batch), limit)
	}
	putHeader(batch, Header{
		Length:          int32(len(batch) - logOverhead),
		LeaderEpoch:     -1,
		Magic:           2,
		Attributes:      m.first.Attributes &^ attributesOfSource,
		LastOffsetDelta: m.count - 1,
		BaseTimestamp:   m.first.BaseTimestamp,
		MaxTimestamp:    m.latest,
		ProducerID:      -1,
		ProducerEpoch:   -1,
		BaseSequence:    -1,
		Count:           m.count,
	})
	return slices.Clone(batch), nil
}
