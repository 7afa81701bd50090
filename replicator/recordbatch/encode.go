package recordbatch

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"sync"
)

// scratch holds the buffers of one Decode, Encode, Rebuild or Merge.
type scratch struct {
	limit   int // of decompressed bytes, MaxDecodedBytes if 0
	entries []entry
	raw     []byte // decompressed records section or message set of the source
	bodies  []byte // bodies of entries that do not alias a version 2 batch
	plain   []byte // records section of the result, not compressed yet
	result  []byte // the encoded batch
}

var scratches = sync.Pool{New: func() any { return new(scratch) }} //nolint:gochecknoglobals // serves every batch of the process

// How much a pooled scratch keeps per buffer at most, so that one huge batch does not stay in memory.
const (
	keptBytes   = 4 << 20
	keptEntries = 64 << 10
)

// release returns the scratch to the pool. Nothing may alias its buffers afterwards.
func (s *scratch) release() {
	for _, b := range []*[]byte{&s.raw, &s.bodies, &s.plain, &s.result} {
		if cap(*b) > keptBytes {
			*b = nil
		}
	}
	clear(s.entries) // they alias the source batch
	if cap(s.entries) > keptEntries {
		s.entries = nil
	}
	scratches.Put(s)
}

// Encode builds one version 2 batch from records. It has base offset 0, offset deltas 0 to n-1 (Record.Offset is ignored), the timestamp of the
// first record as base timestamp, leader epoch -1 and no producer; [Rewrite] sets one. The caller owns the result.
//
// It returns an error for no records (brokers refuse an empty batch), for an unknown codec and for a result beyond 2 GiB.
func Encode(records []Record, codec Codec) ([]byte, error) {
	s := scratches.Get().(*scratch)
	defer s.release()
	s.entries, s.bodies = s.entries[:0], s.bodies[:0]
	for i := range records {
		start := len(s.bodies)
		s.bodies = appendBody(s.bodies, &records[i])
		s.entries = append(s.entries, entry{timestamp: records[i].Timestamp, body: s.bodies[start:]})
	}
	batch, err := s.encode(s.entries, codec)
	if err != nil {
		return nil, err
	}
	return slices.Clone(batch), nil
}

// encode builds one version 2 batch, see [Encode]. The result aliases the scratch and is valid until the next call.
func (s *scratch) encode(entries []entry, codec Codec) ([]byte, error) {
	if len(entries) == 0 {
		return nil, errNoRecords
	}
	base := entries[0].timestamp
	s.plain = s.plain[:0]
	for i := range entries {
		e := &entries[i]
		length := 1 + varintSize(e.timestamp-base) + varintSize(int64(i)) + len(e.body)
		if length > math.MaxInt32-len(s.plain) {
			return nil, fmt.Errorf("encode batch: more than %d bytes of records", math.MaxInt32)
		}
		s.plain = binary.AppendVarint(s.plain, int64(length))
		s.plain = append(s.plain, 0)
		s.plain = binary.AppendVarint(s.plain, e.timestamp-base)
		s.plain = binary.AppendVarint(s.plain, int64(i))
		s.plain = append(s.plain, e.body...)
	}
	s.result = append(s.result[:0], make([]byte, HeaderSize)...)
	batch, err := compress(s.result, s.plain, codec)
	if err != nil {
		return nil, err
	}
	s.result = batch
	if len(batch)-logOverhead > math.MaxInt32 {
		return nil, fmt.Errorf("encode batch: %d bytes", len(batch))
	}
	putHeader(batch, Header{
		Length:          int32(len(batch) - logOverhead),
		LeaderEpoch:     -1,
		Magic:           2,
		Attributes:      Attributes(codec),
		LastOffsetDelta: int32(len(entries) - 1),
		BaseTimestamp:   base,
		MaxTimestamp:    maxTimestamp(entries),
		ProducerID:      -1,
		ProducerEpoch:   -1,
		BaseSequence:    -1,
		Count:           int32(len(entries)),
	})
	return batch, nil
}

// putHeader writes the header of a version 2 batch that holds its records already, and computes the checksum.
func putHeader(batch []byte, h Header) {
	binary.BigEndian.PutUint64(batch, uint64(h.BaseOffset))
	binary.BigEndian.PutUint32(batch[offsetOfLength:], uint32(h.Length))
	binary.BigEndian.PutUint32(batch[offsetOfEpoch:], uint32(h.LeaderEpoch))
	batch[offsetOfMagic] = byte(h.Magic)
	binary.BigEndian.PutUint16(batch[offsetOfAttributes:], uint16(h.Attributes))
	binary.BigEndian.PutUint32(batch[23:], uint32(h.LastOffsetDelta))
	binary.BigEndian.PutUint64(batch[27:], uint64(h.BaseTimestamp))
	binary.BigEndian.PutUint64(batch[35:], uint64(h.MaxTimestamp))
	binary.BigEndian.PutUint64(batch[offsetOfProducerID:], uint64(h.ProducerID))
	binary.BigEndian.PutUint16(batch[51:], uint16(h.ProducerEpoch))
	binary.BigEndian.PutUint32(batch[53:], uint32(h.BaseSequence))
	binary.BigEndian.PutUint32(batch[57:], uint32(h.Count))
	binary.BigEndian.PutUint32(batch[offsetOfCRC:], crc32.Checksum(batch[offsetOfAttributes:], castagnoli))
}

func maxTimestamp(entries []entry) int64 {
	latest := entries[0].timestamp
	for i := range entries {
		latest = max(latest, entries[i].timestamp)
	}
	return latest
}

// appendBody encodes key, value and headers of a record.
func appendBody(b []byte, r *Record) []byte {
	b = appendNullable(b, r.Key)
	b = appendNullable(b, r.Value)
	b = binary.AppendVarint(b, int64(len(r.Headers)))
	for _, h := range r.Headers {
		b = binary.AppendVarint(b, int64(len(h.Key)))
		b = append(b, h.Key...)
		b = appendNullable(b, h.Value)
	}
	return b
}

func appendNullable(b, value []byte) []byte {
	if value == nil {
		return append(b, 1) // -1 in zigzag
	}
	b = binary.AppendVarint(b, int64(len(value)))
	return append(b, value...)
}

// varintSize returns the size in bytes of v as a zigzag varint.
func varintSize(v int64) int {
	size := 1
	for u := uint64(v)<<1 ^ uint64(v>>63); u >= 0x80; u >>= 7 {
		size++
	}
	return size
}
