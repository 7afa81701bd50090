package offsets

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"
	"unique"
)

// DecodeJournal decodes one record of a journal. A nil value gives a *[Tombstone]. The entry shares no memory with
// key and value. Only the exact bytes that AppendKey and AppendValue write are accepted: a second encoding of a key
// would be a second record after compaction. It returns a *[VersionError] for a newer format, whatever its kind, and
// a *[CorruptError] for anything else that it cannot decode. Memory use is bounded by a small multiple of the value's
// length.
func DecodeJournal(key, value []byte) (Entry, error) {
	if len(key) == 0 {
		return nil, corrupt(0, "the key is empty")
	}
	kind := Kind(key[0])
	if value == nil {
		return decodeKey(kind, key[1:])
	}
	r := &decoder{rest: value}
	// The version is checked first, because a newer format may also have other keys.
	version := r.uint16()
	switch {
	case r.reason != "":
		return nil, corrupt(kind, "the value: %s", r.reason)
	case version > maxVersion || kind > maxKind:
		return nil, corrupt(kind, "kind %d in format %d is not written by any version of milena", kind, version)
	case version > newestFormat(kind):
		return nil, &VersionError{Kind: kind, Version: version, Supported: newestFormat(kind)}
	case version == 0:
		return nil, corrupt(kind, "the value: format 0 does not exist")
	}
	t, err := decodeKey(kind, key[1:])
	if err != nil {
		return nil, err
	}
	var e Entry
	switch kind {
	case KindShard:
		e = r.shardState(version)
	case KindOwner:
		e = r.owner()
	case KindPartition:
		e = r.partitionState(t, version)
	case KindChunk:
		e = r.chunk(t)
	case KindGroup:
		e = r.groupPositions(t)
	case KindLineage:
		e = r.lineage()
	case KindHorizon:
		e = r.horizon()
	}
	if r.reason == "" && len(r.rest) > 0 {
		r.fail("%d bytes too many", len(r.rest))
	}
	if r.reason != "" {
		return nil, corrupt(kind, "the value: %s", r.reason)
	}
	return e, nil
}

// Kinds and formats will always stay within these limits. So a foreign record, which may start with any bytes, can be told
// from one of a newer milena: the first is skipped, the second is an error.
const (
	maxKind    = 31
	maxVersion = 255
)

// decodeKey decodes the part of a key after the kind. The result is the tombstone with that key.
func decodeKey(kind Kind, rest []byte) (*Tombstone, error) {
	t := &Tombstone{Kind: kind}
	r := &decoder{rest: rest}
	switch kind {
	case KindShard, KindOwner, KindLineage, KindHorizon:
	case KindGroup:
		t.Group, t.Topic = r.string(), r.string()
	case KindPartition, KindChunk:
		t.Topic = r.name()
		t.Partition = r.int32()
		if t.Partition < 0 {
			r.fail("partition %d", t.Partition)
		}
		if kind == KindChunk {
			if t.First = r.int64(); t.First < 0 {
				r.fail("chunk %d", t.First)
			}
		}
	default:
		return nil, corrupt(kind, "this format has no such kind")
	}
	if r.reason == "" && len(r.rest) > 0 {
		r.fail("%d bytes too many", len(r.rest))
	}
	if r.reason != "" {
		return nil, corrupt(kind, "the key: %s", r.reason)
	}
	return t, nil
}

func (r *decoder) shardState(format uint16) *ShardState {
	s := &ShardState{}
	if n := r.count(1, math.MaxInt); n > 0 {
		s.ProducerIDs = make([]int64, n)
	}
	for i := range s.ProducerIDs {
		s.ProducerIDs[i] = r.offset()
	}
	if r.isPresent(format, claimFormat) {
		s.Claim = &Claim{ProducerID: r.offset(), Epoch: int16(r.upTo(math.MaxInt16))}
	}
	if format >= restFormat {
		s.Rest = r.needed()
	}
	return s
}

// isPresent reads whether a part follows that is optional. In formats before the rest format it does from one of them on.
func (r *decoder) isPresent(format, from uint16) bool {
	if format < restFormat {
		return format >= from
	}
	return r.upTo(1) == 1
}

// needed reads a string that an older format would have left out.
func (r *decoder) needed() string {
	s := r.string()
	if s == "" {
		r.fail("a text is empty that this format is for")
	}
	return s
}

func (r *decoder) owner() *Owner {
	return &Owner{
		Instance: r.string(), Host: r.string(), PID: int(r.offset()), Version: r.string(),
		Since: r.time(), Confirmed: r.time(),
	}
}

func (r *decoder) partitionState(key *Tombstone, format uint16) *PartitionState {
	s := &PartitionState{Topic: key.Topic, Partition: key.Partition}
	s.Generation = r.uint32varint()
	s.SourceClusterID = r.name()
	copy(s.SourceTopicID[:], r.take(len(s.SourceTopicID)))
	s.TargetTopic = r.name()
	copy(s.TargetTopicID[:], r.take(len(s.TargetTopicID)))
	s.Start = Pair{Source: r.offset(), Target: r.offset()}
	s.End = Pair{Source: r.offset(), Target: r.offset()}
	if s.End.Source < s.Start.Source || s.End.Target < s.Start.Target {
		r.fail("the map starts at source %d target %d and ends at source %d target %d",
			s.Start.Source, s.Start.Target, s.End.Source, s.End.Target)
	}
	s.LeaderEpoch = r.int32()
	if s.Chunk = r.offset(); s.Chunk < s.Start.Source || s.Chunk > s.End.Source {
		r.fail("the open chunk starts at source offset %d, outside of the map", s.Chunk)
	}
	if n := r.count(14, MaxGaps); n > 0 { // the shortest gap: five varints and empty strings, one time of 8 bytes, one more varint
		s.Gaps = make([]Gap, n)
	}
	for i := range s.Gaps {
		s.Gaps[i] = Gap{
			Kind: r.string(), Action: r.string(), From: r.varint(), To: r.varint(),
			At: r.time(), Detail: r.string(), Merged: int(r.offset()),
		}
		if n := len(s.Gaps[i].Detail); n > MaxGapDetail {
			r.fail("a gap's detail of %d bytes", n)
		}
	}
	if r.isPresent(format, producerFormat) {
		s.Producer = &Producer{ID: r.offset(), Epoch: int16(r.upTo(math.MaxInt16)), Sequence: int32(r.upTo(math.MaxInt32))}
	}
	if format >= restFormat {
		after := r.needed()
		s.After = &after
	}
	return s
}

func (r *decoder) chunk(key *Tombstone) *Chunk {
	c := &Chunk{Topic: key.Topic, Partition: key.Partition, First: key.First, Previous: noChunk}
	c.Generation = r.uint32varint()
	if back := r.offset(); back > 0 {
		if c.Previous = c.First - back; c.Previous < 0 {
			r.fail("the previous chunk starts %d before this one, which starts at source offset %d", back, c.First)
			return c
		}
	}
	if n := r.count(3, ChunkSegments); n > 0 { // the shortest segment: three varints
		c.Segments = make([]Segment, n)
	}
	at := Pair{Source: c.First, Target: c.First}
	for i := range c.Segments {
		s := &c.Segments[i]
		s.Source = at.Source + r.offset()
		if i == 0 {
			s.Target = at.Target + r.varint()
		} else {
			s.Target = at.Target + r.offset()
		}
		s.Count = r.offset()
		at = Pair{Source: s.SourceEnd(), Target: s.TargetEnd()}
	}
	if r.reason == "" {
		// An offset that overflowed is negative here, or below the previous one.
		if err := c.check(); err != nil {
			r.fail("%s", err)
		}
	}
	return c
}

func corrupt(kind Kind, format string, args ...any) error {
	return &CorruptError{Kind: kind, Reason: fmt.Sprintf(format, args...)}
}

// decoder reads fields from the front of a record. After the first failure it returns zero values, so its caller can
// read on and check for a failure once, at the end.
type decoder struct {
	rest   []byte
	reason string // of the first failure
}

func (r *decoder) fail(format string, args ...any) {
	if r.reason == "" {
		r.reason = fmt.Sprintf(format, args...)
		r.rest = nil
	}
}

// take returns the next n bytes, which still belong to the record, or nil.
func (r *decoder) take(n int) []byte {
	if n < 0 || n > len(r.rest) {
		r.fail("the record is too short")
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *decoder) uint16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *decoder) int32() int32 {
	if b := r.take(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (r *decoder) int64() int64 {
	if b := r.take(8); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

func (r *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	switch {
	case n <= 0:
		r.fail("the record is too short, or a varint is too long")
		return 0
	case n > 1 && r.rest[n-1] == 0:
		r.fail("a varint is not in its shortest form")
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *decoder) varint() int64 {
	v := r.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

// offset reads a uvarint that fits into an int64.
func (r *decoder) offset() int64 {
	v := r.uvarint()
	if v > math.MaxInt64 {
		r.fail("a number is negative or too large")
		return 0
	}
	return int64(v)
}

func (r *decoder) uint32varint() uint32 { return uint32(r.upTo(math.MaxUint32)) }

// upTo reads a uvarint that is not above a limit.
func (r *decoder) upTo(limit uint64) uint64 {
	v := r.uvarint()
	if v > limit {
		r.fail("a number is too large")
		return 0
	}
	return v
}

// count reads the length of a list whose items have at least size bytes each. A length that does not fit into the
// record is refused, so a wrong length costs no memory.
func (r *decoder) count(size, limit int) int {
	n := r.uvarint()
	if n > uint64(len(r.rest)/size) || n > uint64(limit) {
		r.fail("a list of %d items does not fit", n)
		return 0
	}
	return int(n)
}

func (r *decoder) string() string {
	b := r.take(r.count(1, math.MaxInt))
	if !utf8.Valid(b) {
		r.fail("text is not UTF-8")
		return ""
	}
	return string(b)
}

// name reads a string that many entries have. They share its memory.
func (r *decoder) name() string { return unique.Make(r.string()).Value() }

func (r *decoder) time() time.Time { return time.UnixMilli(r.int64()).UTC() }

func appendFormat(b []byte, v uint16) []byte  { return binary.BigEndian.AppendUint16(b, v) }
func appendInt32(b []byte, v int32) []byte    { return binary.BigEndian.AppendUint32(b, uint32(v)) }
func appendInt64(b []byte, v int64) []byte    { return binary.BigEndian.AppendUint64(b, uint64(v)) }
func appendUvarint(b []byte, v uint64) []byte { return binary.AppendUvarint(b, v) }
func appendVarint(b []byte, v int64) []byte   { return binary.AppendVarint(b, v) }

// appendString replaces invalid UTF-8 by U+FFFD: an odd host name must not result in an unreadable entry.
func appendString(b []byte, s string) []byte {
	s = strings.ToValidUTF8(s, "\uFFFD")
	return append(appendUvarint(b, uint64(len(s))), s...)
}

func appendTime(b []byte, t time.Time) []byte { return appendInt64(b, t.UnixMilli()) }

func appendPartition(b []byte, topic string, partition int32) []byte {
	return appendInt32(appendString(b, topic), partition)
}
