package recordbatch

import (
	"encoding/binary"
	"math"
	"slices"
)

// RecordHeader is one header of a record. Keys may repeat and need not be UTF-8.
type RecordHeader struct {
	Key string
	// Value is nil for null; an empty value is not nil.
	Value []byte
}

// Record is one decoded record.
type Record struct {
	// Offset is the offset of the record in the log that the batch was fetched from.
	Offset int64
	// Timestamp is in ms; -1 for none.
	Timestamp int64
	// Key and Value are nil for null; an empty key or value is not nil.
	Key, Value []byte
	// Headers is nil if the record has none.
	Headers []RecordHeader
}

// entry is one record whose key, value and headers stay encoded: Rebuild does not need them decoded.
type entry struct {
	offset    int64
	timestamp int64
	body      []byte // in the encoding of version 2, from the key length to the end of the headers
}

// minRecordSize is the size of the smallest version 2 record: seven fields of one byte each. It bounds a declared record count.
const minRecordSize = 7

// Decode returns the records of a batch of any format and codec, in order, with the timestamps that consumers see: with LogAppendTime, every
// record has the max timestamp of the batch. It decodes control batches too; [ParseMarker] reads their content.
//
// It verifies the checksum first and returns a *[CorruptError] if it does not match. Anything else that is wrong (compressed data, counts,
// lengths, offsets that do not ascend, trailing bytes) is a *[FormatError]. There is no partial result.
//
// Keys, values and header values alias batch if it is uncompressed, otherwise a buffer that only the records refer to. A batch decompresses to
// at most [MaxDecodedBytes].
func Decode(batch []byte) ([]Record, error) { return DecodeUpTo(batch, MaxDecodedBytes) }

// DecodeUpTo is [Decode] of a batch that decompresses to at most limit bytes. One that is larger is a *[FormatError].
func DecodeUpTo(batch []byte, limit int) ([]Record, error) {
	s := scratch{limit: limit}
	_, entries, err := s.decode(batch)
	if err != nil || len(entries) == 0 {
		return nil, err
	}
	records := make([]Record, len(entries))
	for i, e := range entries {
		records[i] = Record{Offset: e.offset, Timestamp: e.timestamp}
		if problem := readBody(e.body, &records[i]); problem != "" {
			return nil, &FormatError{Offset: e.offset, Problem: problem}
		}
	}
	return records, nil
}

// decode verifies a batch and splits it into entries. The entries alias batch and the buffers of the scratch.
func (s *scratch) decode(batch []byte) (Header, []entry, error) {
	h, err := Parse(batch)
	if err != nil {
		return Header{}, nil, err
	}
	if err := verify(batch, h); err != nil {
		return Header{}, nil, err
	}
	s.entries = s.entries[:0]
	if h.Magic < 2 {
		err = s.decodeMessage(batch, h)
	} else {
		err = s.decodeV2(batch, h)
	}
	if err != nil {
		return Header{}, nil, err
	}
	return h, s.entries, nil
}

func (s *scratch) decodeV2(batch []byte, h Header) error {
	raw := batch[HeaderSize:]
	if len(raw) == 0 && h.Count == 0 {
		return nil
	}
	if codec := h.Attributes.Codec(); codec != None {
		var err error
		if raw, err = s.decompress(raw, codec, h); err != nil {
			return err
		}
	}
	count := int(h.Count)
	if count > len(raw)/minRecordSize {
		return formatError(h, "%d records in %d bytes", count, len(raw))
	}
	s.entries = slices.Grow(s.entries, count)
	last := h.BaseOffset - 1
	for range count {
		e, rest, problem := readEntry(raw, h)
		if problem == "" {
			problem = readBody(e.body, nil)
		}
		if problem != "" {
			return formatError(h, "record %d: %s", len(s.entries), problem)
		}
		if e.offset <= last || e.offset > h.LastOffset() {
			return formatError(h, "record %d: offset %d after %d in a batch that ends at %d", len(s.entries), e.offset, last, h.LastOffset())
		}
		last, raw = e.offset, rest
		s.entries = append(s.entries, e)
	}
	if len(raw) > 0 {
		return formatError(h, "%d trailing bytes after the last record", len(raw))
	}
	return nil
}

// readEntry reads one version 2 record up to its key. The problem is empty on success; the body is not checked yet.
func readEntry(b []byte, h Header) (e entry, rest []byte, problem string) {
	length, n := varint32(b)
	if n <= 0 {
		return entry{}, nil, "length is not a varint"
	}
	b = b[n:]
	if length < minRecordSize-1 || int(length) > len(b) {
		return entry{}, nil, "length does not fit"
	}
	record, rest := b[1:length], b[length:] // without the attributes, which are unused
	timestampDelta, n := varint64(record)
	if n <= 0 {
		return entry{}, nil, "timestamp delta is not a varint"
	}
	record = record[n:]
	offsetDelta, n := varint32(record)
	if n <= 0 {
		return entry{}, nil, "offset delta is not a varint"
	}
	e = entry{offset: h.BaseOffset + int64(offsetDelta), timestamp: h.BaseTimestamp + timestampDelta, body: record[n:]}
	if h.Attributes.LogAppendTime() {
		e.timestamp = h.MaxTimestamp
	}
	return e, rest, ""
}

// readBody checks key, value and headers of a record and, unless r is nil, sets them in r. The problem is empty on success.
func readBody(b []byte, r *Record) (problem string) {
	key, b, ok := nullableBytes(b)
	if !ok {
		return "key does not fit"
	}
	value, b, ok := nullableBytes(b)
	if !ok {
		return "value does not fit"
	}
	count, n := varint32(b)
	if n <= 0 {
		return "header count is not a varint"
	}
	b = b[n:]
	if count < 0 || int(count) > len(b)/2 { // two length fields per header
		return "header count does not fit"
	}
	if r != nil {
		r.Key, r.Value = key, value
		if count > 0 {
			r.Headers = make([]RecordHeader, 0, count)
		}
	}
	for range count {
		if key, b, ok = nullableBytes(b); !ok || key == nil {
			return "header key does not fit"
		}
		if value, b, ok = nullableBytes(b); !ok {
			return "header value does not fit"
		}
		if r != nil {
			r.Headers = append(r.Headers, RecordHeader{Key: string(key), Value: value})
		}
	}
	if len(b) > 0 {
		return "trailing bytes"
	}
	return ""
}

// nullableBytes reads a varint length and that many bytes; length -1 is null. The result is nil only for null, and has no spare capacity.
func nullableBytes(b []byte) (value, rest []byte, ok bool) {
	length, n := varint32(b)
	if n <= 0 || length < -1 {
		return nil, nil, false
	}
	b = b[n:]
	if length == -1 {
		return nil, b, true
	}
	if int(length) > len(b) {
		return nil, nil, false
	}
	return b[:length:length], b[length:], true
}

// varint32 reads a zigzag varint of at most 5 bytes, the limit of Kafka's reader. It returns n <= 0 on failure.
func varint32(b []byte) (value int32, n int) {
	if len(b) > 0 && b[0] < 0x80 { // most are one byte
		return int32(b[0]>>1) ^ -int32(b[0]&1), 1
	}
	wide, n := binary.Varint(b)
	if n > 5 || wide < math.MinInt32 || wide > math.MaxInt32 {
		return 0, 0
	}
	return int32(wide), n
}

// varint64 reads a zigzag varint of at most 10 bytes. It returns n <= 0 on failure.
func varint64(b []byte) (value int64, n int) {
	if len(b) > 0 && b[0] < 0x80 {
		return int64(b[0]>>1) ^ -int64(b[0]&1), 1
	}
	return binary.Varint(b)
}
