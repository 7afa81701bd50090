package recordbatch

import (
	"encoding/binary"
	"fmt"
	"math"
)

// HeaderSize is the size in bytes of a version 2 header, and so of the smallest batch.
const HeaderSize = 61

const (
	logOverhead = 12 // base offset and length field: a batch is this much longer than its length field says

	minLengthV0 = 14 // CRC, magic, attributes, two length fields
	minLengthV1 = 22 // the same and a timestamp
	minLengthV2 = HeaderSize - logOverhead

	offsetOfLength     = 8
	offsetOfEpoch      = 12
	offsetOfMagic      = 16
	offsetOfCRC        = 17
	offsetOfAttributes = 21
	offsetOfProducerID = 43

	offsetOfMessageCRC = 12 // in the formats before version 2
)

// Attributes are the attribute bits of a version 2 batch. Unknown bits are kept: brokers accept and store them.
type Attributes int16

const (
	attributeCodec         Attributes = 0x07
	attributeLogAppendTime Attributes = 0x08
	attributeTransactional Attributes = 0x10
	attributeControl       Attributes = 0x20
	attributeDeleteHorizon Attributes = 0x40
)

// Codec returns the compression codec of the records section. It may be unknown to this package.
func (a Attributes) Codec() Codec { return Codec(a & attributeCodec) }

// LogAppendTime reports whether a broker stamped the batch: every record then has the batch's max timestamp (KIP-32).
func (a Attributes) LogAppendTime() bool { return a&attributeLogAppendTime != 0 }

// Transactional reports whether the batch was written inside a transaction.
func (a Attributes) Transactional() bool { return a&attributeTransactional != 0 }

// Control reports whether the batch holds control records of a broker, such as transaction markers, and no records of a producer.
func (a Attributes) Control() bool { return a&attributeControl != 0 }

// Codec is the compression of a records section.
type Codec uint8

// The codecs of Kafka, with their wire values.
const (
	None Codec = iota
	Gzip
	Snappy
	LZ4
	Zstd // KIP-110: version 2 batches only
)

// String returns the name in Kafka's compression.type, or the number of an unknown codec.
func (c Codec) String() string {
	switch c {
	case None:
		return "none"
	case Gzip:
		return "gzip"
	case Snappy:
		return "snappy"
	case LZ4:
		return "lz4"
	case Zstd:
		return "zstd"
	default:
		return fmt.Sprintf("codec(%d)", uint8(c))
	}
}

// Header is the fixed part of a batch. For the formats before version 2 only BaseOffset, Length, Magic, CRC and the codec bits of
// Attributes are set, and LeaderEpoch and ProducerID are -1; BaseOffset is then the offset of the message or, for a compressed wrapper, of its last inner message.
type Header struct {
	BaseOffset      int64
	Length          int32 // bytes after this field; the batch is 12 bytes longer
	LeaderEpoch     int32 // -1 before version 2
	Magic           int8
	CRC             uint32 // CRC32C of the bytes after it; CRC32 (IEEE) before version 2
	Attributes      Attributes
	LastOffsetDelta int32
	BaseTimestamp   int64 // ms
	MaxTimestamp    int64 // ms
	ProducerID      int64 // -1 for none
	ProducerEpoch   int16
	BaseSequence    int32
	Count           int32 // number of records; fewer than LastOffsetDelta+1 after compaction
}

// LastOffset returns the last offset of the batch, inclusive. After compaction there may be no record at it (KAFKA-5443).
func (h Header) LastOffset() int64 { return h.BaseOffset + int64(h.LastOffsetDelta) }

// NextOffset returns the offset after the batch, the earliest at which the next batch can begin.
func (h Header) NextOffset() int64 { return h.LastOffset() + 1 }

// Next splits the first whole batch off b, of any format up to version 2. Before version 2, a batch is one message or one compressed wrapper.
// Both results alias b, and batch has no spare capacity, so appending to it never writes into rest.
//
// The error is [ErrTruncated] if b is empty or ends inside a batch, and a *[FormatError] if the bytes cannot be a batch. The checks and their
// order are those of Kafka's own reader (ByteBufferLogInputStream).
func Next(b []byte) (batch, rest []byte, err error) {
	if len(b) < logOverhead {
		return nil, b, ErrTruncated
	}
	offset := int64(binary.BigEndian.Uint64(b))
	length := int32(binary.BigEndian.Uint32(b[offsetOfLength:]))
	if length < minLengthV0 {
		return nil, b, &FormatError{Offset: offset, Problem: fmt.Sprintf("length %d is below the minimum of all formats", length)}
	}
	if len(b) <= offsetOfMagic {
		return nil, b, ErrTruncated
	}
	if err := checkMagic(offset, length, int8(b[offsetOfMagic])); err != nil {
		return nil, b, err
	}
	size := int64(length) + logOverhead
	if size > int64(len(b)) {
		return nil, b, ErrTruncated
	}
	return b[:size:size], b[size:], nil
}

// Parse reads the header of one whole batch, as [Next] returns it. It does not verify the checksum and does not read the records. The error
// is a *[FormatError] if the size, the magic or a field is impossible.
func Parse(batch []byte) (Header, error) {
	if len(batch) < logOverhead+minLengthV0 {
		return Header{}, &FormatError{Offset: -1, Problem: fmt.Sprintf("%d bytes are not a batch", len(batch))}
	}
	h := Header{
		BaseOffset: int64(binary.BigEndian.Uint64(batch)),
		Length:     int32(binary.BigEndian.Uint32(batch[offsetOfLength:])),
		Magic:      int8(batch[offsetOfMagic]),
	}
	if int64(h.Length)+logOverhead != int64(len(batch)) {
		return Header{}, formatError(h, "length %d does not match %d bytes", h.Length, len(batch))
	}
	if err := checkMagic(h.BaseOffset, h.Length, h.Magic); err != nil {
		return Header{}, err
	}
	if h.Magic < 2 {
		h.LeaderEpoch, h.ProducerID = -1, -1
		h.CRC = binary.BigEndian.Uint32(batch[offsetOfMessageCRC:])
		h.Attributes = Attributes(batch[offsetOfMagic+1]) & attributeCodec
	} else {
		h.LeaderEpoch = int32(binary.BigEndian.Uint32(batch[offsetOfEpoch:]))
		h.CRC = binary.BigEndian.Uint32(batch[offsetOfCRC:])
		h.Attributes = Attributes(binary.BigEndian.Uint16(batch[offsetOfAttributes:]))
		h.LastOffsetDelta = int32(binary.BigEndian.Uint32(batch[23:]))
		h.BaseTimestamp = int64(binary.BigEndian.Uint64(batch[27:]))
		h.MaxTimestamp = int64(binary.BigEndian.Uint64(batch[35:]))
		h.ProducerID = int64(binary.BigEndian.Uint64(batch[offsetOfProducerID:]))
		h.ProducerEpoch = int16(binary.BigEndian.Uint16(batch[51:]))
		h.BaseSequence = int32(binary.BigEndian.Uint32(batch[53:]))
		h.Count = int32(binary.BigEndian.Uint32(batch[57:]))
	}
	switch {
	case h.BaseOffset < 0 || h.BaseOffset >= math.MaxInt64-int64(math.MaxInt32):
		return Header{}, formatError(h, "base offset is out of range")
	case h.LastOffsetDelta < 0:
		return Header{}, formatError(h, "last offset delta %d", h.LastOffsetDelta)
	case h.Count < 0:
		return Header{}, formatError(h, "record count %d", h.Count)
	}
	return h, nil
}

func checkMagic(offset int64, length int32, magic int8) error {
	var least int32
	switch magic {
	case 0:
		least = minLengthV0
	case 1:
		least = minLengthV1
	case 2:
		least = minLengthV2
	default:
		return &FormatError{Offset: offset, Problem: fmt.Sprintf("unknown magic %d", magic)}
	}
	if length < least {
		return &FormatError{Offset: offset, Problem: fmt.Sprintf("length %d is below the minimum of magic %d", length, magic)}
	}
	return nil
}

func formatError(h Header, problem string, args ...any) error {
	return &FormatError{Offset: h.BaseOffset, Problem: fmt.Sprintf(problem, args...)}
}
