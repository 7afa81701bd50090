package recordbatch

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
)

// message is one message of the formats before version 2 (KIP-32: magic 1 added timestamps and relative inner offsets).
type message struct {
	offset     int64
	timestamp  int64 // -1 in magic 0, which has none
	attributes Attributes
	key, value []byte
}

// decodeMessage decodes a message, or the inner messages of a compressed wrapper, into entries.
func (s *scratch) decodeMessage(batch []byte, h Header) error {
	wrapper, problem := readMessage(batch, h.Magic)
	if problem != "" {
		return formatError(h, "message: %s", problem)
	}
	codec := h.Attributes.Codec()
	if codec == None {
		s.bodies = slices.Grow(s.bodies[:0], len(batch))
		s.addMessage(wrapper)
		return nil
	}
	if wrapper.value == nil {
		return formatError(h, "compressed wrapper without a value")
	}
	if codec >= Zstd {
		return formatError(h, "unknown codec %d in magic %d", codec, h.Magic)
	}
	compressed := wrapper.value
	if codec == LZ4 && h.Magic == 0 {
		compressed = fixLZ4Header(compressed)
	}
	set, err := s.decompress(compressed, codec, h)
	if err != nil {
		return err
	}
	s.bodies = slices.Grow(s.bodies[:0], len(set)) // a body is always shorter than its message
	if err := s.decodeInner(set, wrapper, h); err != nil {
		return err
	}
	return s.placeInner(wrapper, h)
}

// decodeInner adds the messages of a decompressed set, with the offsets that they contain.
func (s *scratch) decodeInner(set []byte, wrapper message, h Header) error {
	for len(set) > 0 {
		one, rest, err := Next(set)
		if err != nil {
			return &FormatError{Offset: h.BaseOffset, Problem: "inner message", Err: err}
		}
		inner, problem := readMessage(one, h.Magic)
		if problem != "" {
			return formatError(h, "inner message %d: %s", len(s.entries), problem)
		}
		if inner.attributes.Codec() != None {
			return formatError(h, "inner message %d is compressed", len(s.entries))
		}
		if stored, computed := binary.BigEndian.Uint32(one[offsetOfMessageCRC:]), crc32.ChecksumIEEE(one[offsetOfMagic:]); stored != computed {
			return &CorruptError{Offset: h.BaseOffset, Stored: stored, Computed: computed}
		}
		if h.Magic == 1 && wrapper.attributes.LogAppendTime() {
			inner.timestamp = wrapper.timestamp // the broker sets its append time on the wrapper only
		}
		s.addMessage(inner)
		set = rest
	}
	if len(s.entries) == 0 {
		return formatError(h, "compressed wrapper without messages")
	}
	return nil
}

// placeInner makes inner offsets absolute. In magic 1 they are relative, and the wrapper has the offset of the last one. In magic 0 they are
// absolute already, because brokers decompressed and numbered every set.
func (s *scratch) placeInner(wrapper message, h Header) error {
	var base int64
	if h.Magic == 1 {
		base = wrapper.offset - s.entries[len(s.entries)-1].offset
		if base < 0 {
			return formatError(h, "last inner offset %d exceeds the offset of the wrapper", s.entries[len(s.entries)-1].offset)
		}
	}
	last := int64(-1)
	for i := range s.entries {
		e := &s.entries[i]
		relative := e.offset
		e.offset += base
		if relative < 0 || e.offset <= last || e.offset > wrapper.offset {
			return formatError(h, "inner message %d: offset %d after %d in a wrapper that ends at %d", i, e.offset, last, wrapper.offset)
		}
		last = e.offset
	}
	return nil
}

// addMessage adds a message as an entry: key and value in the encoding of version 2, without headers.
func (s *scratch) addMessage(m message) {
	start := len(s.bodies)
	s.bodies = appendNullable(s.bodies, m.key)
	s.bodies = appendNullable(s.bodies, m.value)
	s.bodies = append(s.bodies, 0)
	s.entries = append(s.entries, entry{offset: m.offset, timestamp: m.timestamp, body: s.bodies[start:len(s.bodies):len(s.bodies)]})
}

// readMessage reads one whole message whose length field was checked. The problem is empty on success.
func readMessage(b []byte, magic int8) (m message, problem string) {
	if int8(b[offsetOfMagic]) != magic {
		return message{}, "magic differs from that of the wrapper"
	}
	m = message{
		offset:     int64(binary.BigEndian.Uint64(b)),
		timestamp:  -1,
		attributes: Attributes(b[offsetOfMagic+1]),
	}
	b = b[offsetOfMagic+2:]
	if magic == 1 {
		m.timestamp = int64(binary.BigEndian.Uint64(b))
		b = b[8:]
	}
	var ok bool
	if m.key, b, ok = nullableFixed(b); !ok {
		return message{}, "key does not fit"
	}
	if m.value, b, ok = nullableFixed(b); !ok {
		return message{}, "value does not fit"
	}
	if len(b) > 0 {
		return message{}, "trailing bytes"
	}
	return m, ""
}

// nullableFixed reads an int32 length and that many bytes; length -1 is null.
func nullableFixed(b []byte) (value, rest []byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	length := int32(binary.BigEndian.Uint32(b))
	b = b[4:]
	switch {
	case length == -1:
		return nil, b, true
	case length < 0 || int(length) > len(b):
		return nil, nil, false
	default:
		return b[:length:length], b[length:], true
	}
}

// fixLZ4Header returns a copy of an LZ4 frame with the correct checksum of its descriptor. Clients of magic 0 computed that byte over four
// bytes too many (KAFKA-3160), so Kafka's reader ignores it in magic 0; the library always checks it.
func fixLZ4Header(frame []byte) []byte {
	const descriptor = 4 // after the magic number of the frame
	if len(frame) < descriptor+3 {
		return frame
	}
	end := descriptor + 2
	if frame[descriptor]&0x08 != 0 {
		end += 8 // content size
	}
	if frame[descriptor]&0x01 != 0 {
		end += 4 // dictionary id
	}
	if len(frame) <= end {
		return frame
	}
	fixed := slices.Clone(frame)
	fixed[end] = byte(xxh32Short(fixed[descriptor:end]) >> 8)
	return fixed
}

// xxh32Short is XXH32 with seed 0 for inputs below 16 bytes, which do not use its four accumulators.
func xxh32Short(b []byte) uint32 {
	const (
		prime1 uint32 = 2654435761
		prime2 uint32 = 2246822519
		prime3 uint32 = 3266489917
		prime4 uint32 = 668265263
		prime5 uint32 = 374761393
	)
	h := prime5 + uint32(len(b))
	for ; len(b) >= 4; b = b[4:] {
		h += binary.LittleEndian.Uint32(b) * prime3
		h = (h<<17 | h>>15) * prime4
	}
	for _, c := range b {
		h += uint32(c) * prime5
		h = (h<<11 | h>>21) * prime1
	}
	h = (h ^ h>>15) * prime2
	h = (h ^ h>>13) * prime3
	return h ^ h>>16
}
