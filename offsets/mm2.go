package offsets

import (
	"encoding/binary"
	"math"
	"time"
	"unicode/utf8"
)

// MirrorMaker 2's record formats (KIP-382; org.apache.kafka.connect.mirror.Heartbeat, Checkpoint, OffsetSync). Numbers are
// big endian, strings have a length of 2 bytes. Keys have no version; values of heartbeats and checkpoints start with one.

// mm2Version is the only existing version of MirrorMaker 2's values.
const mm2Version = 0

// maxMM2Text is the maximum length of a string: Kafka reads the 2 bytes as a signed number.
const maxMM2Text = math.MaxInt16

// Heartbeat is MirrorMaker 2's heartbeat of one flow, in the topic [HeartbeatsTopic] on the flow's target.
type Heartbeat struct {
	Source, Target string    // aliases
	At             time.Time // in milliseconds
}

// AppendKey appends the record's key to b.
func (h Heartbeat) AppendKey(b []byte) []byte {
	return appendText(appendText(b, h.Source), h.Target)
}

// AppendValue appends the record's value to b.
func (h Heartbeat) AppendValue(b []byte) []byte {
	return appendInt64(binary.BigEndian.AppendUint16(b, mm2Version), h.At.UnixMilli())
}

// DecodeHeartbeat decodes a heartbeat. It returns [ErrTombstone] for a nil value, which readers skip, a
// *[VersionError] for a newer version and a *[CorruptError] for anything else that it cannot decode. The fields of
// the key are set whenever the key can be decoded. Memory use is bounded by the record's length.
func DecodeHeartbeat(key, value []byte) (Heartbeat, error) {
	k, v := mm2Reader("heartbeat", key), mm2Reader("heartbeat", value)
	h := Heartbeat{Source: k.text(), Target: k.text()}
	v.version()
	h.At = v.time()
	return h, mm2Result(k, v, value)
}

// Checkpoint is MirrorMaker 2's record of the translated offset of a source's consumer group. It is in partition 0 of
// [Names.Checkpoints] on the target.
type Checkpoint struct {
	Group     string
	Topic     string // on the target
	Partition int32
	// Source is the offset that the group committed on the source ("upstreamOffset"), Target the one to continue at on the
	// target ("offset", "downstreamOffset").
	Source, Target int64
	Metadata       string // of the commit on the source
}

// AppendKey appends the record's key to b.
func (c Checkpoint) AppendKey(b []byte) []byte {
	return appendInt32(appendText(appendText(b, c.Group), c.Topic), c.Partition)
}

// AppendValue appends the record's value to b.
func (c Checkpoint) AppendValue(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, mm2Version)
	return appendText(appendInt64(appendInt64(b, c.Source), c.Target), c.Metadata)
}

// DecodeCheckpoint decodes a checkpoint. It returns [ErrTombstone] for a nil value, which readers skip, a
// *[VersionError] for a newer version and a *[CorruptError] for anything else that it cannot decode. The fields of
// the key are set whenever the key can be decoded. Memory use is bounded by the record's length.
func DecodeCheckpoint(key, value []byte) (Checkpoint, error) {
	k, v := mm2Reader("checkpoint", key), mm2Reader("checkpoint", value)
	c := Checkpoint{Group: k.text(), Topic: k.text(), Partition: k.partition()}
	v.version()
	c.Source, c.Target, c.Metadata = v.fixedOffset(), v.fixedOffset(), v.text()
	return c, mm2Result(k, v, value)
}

// OffsetSync is MirrorMaker 2's record of the source and target offset of one copied record. It is in partition 0 of
// [Names.OffsetSyncs], on either cluster.
type OffsetSync struct {
	Topic     string // on the source
	Partition int32
	// Source and Target are the offsets of one record ("upstreamOffset", "downstreamOffset").
	Source, Target int64
}

// AppendKey appends the record's key to b.
func (s OffsetSync) AppendKey(b []byte) []byte {
	return appendInt32(appendText(b, s.Topic), s.Partition)
}

// AppendValue appends the record's value to b. It has no version.
func (s OffsetSync) AppendValue(b []byte) []byte {
	return appendInt64(appendInt64(b, s.Source), s.Target)
}

// DecodeOffsetSync decodes an offset-sync. It returns [ErrTombstone] for a nil value, which readers skip, and a
// *[CorruptError] for anything else that it cannot decode. The fields of the key are set whenever the key can be
// decoded. Memory use is bounded by the record's length.
func DecodeOffsetSync(key, value []byte) (OffsetSync, error) {
	k, v := mm2Reader("offset-sync", key), mm2Reader("offset-sync", value)
	s := OffsetSync{Topic: k.text(), Partition: k.partition(), Source: v.fixedOffset(), Target: v.fixedOffset()}
	return s, mm2Result(k, v, value)
}

// appendText replaces invalid UTF-8 by U+FFFD, and truncates a string that is too long for a length of 2 bytes. Names
// are shorter, and the metadata of a commit is the only string that a user writes.
func appendText(b []byte, s string) []byte {
	if !utf8.ValidString(s) {
		s = string([]rune(s))
	}
	if len(s) > maxMM2Text {
		s = s[:maxMM2Text]
		for !utf8.ValidString(s) {
			s = s[:len(s)-1]
		}
	}
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// mm2Fields decodes the fields of one key or value.
type mm2Fields struct {
	decoder
	what  string
	newer uint16 // the version, if it is above mm2Version
}

func mm2Reader(what string, b []byte) *mm2Fields {
	return &mm2Fields{decoder: decoder{rest: b}, what: what}
}

func (r *mm2Fields) text() string {
	n := r.uint16()
	if n > maxMM2Text {
		r.fail("a string has a negative length")
		return ""
	}
	b := r.take(int(n))
	if !utf8.Valid(b) {
		r.fail("a string is not UTF-8")
		return ""
	}
	return string(b)
}

func (r *mm2Fields) partition() int32 {
	p := r.int32()
	if p < 0 {
		r.fail("partition %d", p)
	}
	return p
}

func (r *mm2Fields) fixedOffset() int64 {
	o := r.int64()
	if o < 0 {
		r.fail("offset %d", o)
	}
	return o
}

// version reads the version. Java checks it with an assertion, which is off in production; here a newer one is an
// error.
func (r *mm2Fields) version() {
	switch v := r.uint16(); {
	case v > math.MaxInt16: // Kafka reads it as a signed number
		r.fail("a negative version")
	case v > mm2Version:
		r.newer = v
		r.fail("version %d", v)
	}
}

func mm2Result(key, value *mm2Fields, raw []byte) error {
	if key.reason == "" && len(key.rest) > 0 {
		key.fail("%d bytes too many", len(key.rest))
	}
	if key.reason != "" {
		return &CorruptError{What: key.what, Reason: "the key: " + key.reason}
	}
	if raw == nil {
		return ErrTombstone
	}
	if value.reason == "" && len(value.rest) > 0 {
		value.fail("%d bytes too many", len(value.rest))
	}
	switch {
	case value.newer > mm2Version:
		return &VersionError{What: value.what, Version: value.newer, Supported: mm2Version}
	case value.reason != "":
		return &CorruptError{What: value.what, Reason: "the value: " + value.reason}
	}
	return nil
}
