package offsets

import (
	"fmt"
	"time"
)

// Version is the newest format of a journal's entries that this build reads. An entry is written in the oldest format that has all its
// fields, so that an older milena reads what it can understand.
const Version uint16 = 3

const (
	// ProducerFormat is the format of a [PartitionState] with a Producer.
	producerFormat uint16 = 2
	// ClaimFormat is the format of a [ShardState] with a Claim.
	claimFormat uint16 = 2
	// RestFormat is the format of a [ShardState] with a Rest, and of a [PartitionState] with an After. All other entries have format 1.
	restFormat uint16 = 3
)

// newestFormat returns the newest format of a kind.
func newestFormat(k Kind) uint16 {
	switch k {
	case KindPartition, KindShard:
		return restFormat
	case KindOwner, KindChunk, KindGroup, KindLineage, KindHorizon:
	}
	return 1
}

// Kind is the first byte of an entry's key. Existing journals have these numbers, so they never change.
type Kind uint8

// The entry kinds.
const (
	// KindShard is a [ShardState].
	KindShard Kind = 1
	// KindOwner is an [Owner].
	KindOwner Kind = 2
	// KindPartition is a [PartitionState].
	KindPartition Kind = 3
	// KindChunk is a [Chunk].
	KindChunk Kind = 4
	// KindGroup is a [GroupPositions].
	KindGroup Kind = 5
	// KindLineage is a [Lineage].
	KindLineage Kind = 6
	// KindHorizon is a [Horizon].
	KindHorizon Kind = 7
)

func (k Kind) String() string {
	switch k {
	case KindShard:
		return "shard"
	case KindOwner:
		return "owner"
	case KindPartition:
		return "partition"
	case KindChunk:
		return "chunk"
	case KindGroup:
		return "group"
	case KindLineage:
		return "lineage"
	case KindHorizon:
		return "horizon"
	}
	return fmt.Sprintf("unknown kind %d", uint8(k))
}

// Entry is one record of a journal: *[ShardState], *[Owner], *[PartitionState], *[Chunk], *[GroupPositions], *[Lineage],
// *[Horizon] or *[Tombstone], and nothing else. Both methods append to b, return the result, and do not change the entry.
type Entry interface {
	// AppendKey appends the record's key. The topic is compacted, so the newest record of a key is the valid one.
	AppendKey(b []byte) []byte
	// AppendValue appends the record's value. A Tombstone appends nothing, so that AppendValue(nil) is nil, which
	// Kafka treats as a tombstone.
	AppendValue(b []byte) []byte

	entry() // closes the set
}

// ShardState is the state of a shard as a whole. There is one in each journal partition.
type ShardState struct {
	// ProducerIDs are all producer ids that the shard has ever used, the newest last. A batch on the target with one
	// of them was written by milena, so an id is never removed.
	ProducerIDs []int64
	// Claim is the newest claim of an owner with fence: lease, which raises the epoch of this producer itself. It is nil if there never was one.
	// The batch of the record has this producer id and epoch.
	Claim *Claim
	// Rest is the id of the decision by which the flow was last stopped when the shard came to rest: all that its owners ever wrote is in the maps, and
	// nothing more is written before the flow is started again. It is empty for a flow that is no half of a pair.
	Rest string
}

// Claim is the producer id and epoch with which an owner claimed a shard on a target without transactions.
type Claim struct {
	ProducerID int64
	Epoch      int16
}

// Owner is the owner of a shard. It is rewritten every few seconds, and is for humans and status pages: the fence
// decides who may write, never this record. There is one in each journal partition.
type Owner struct {
	Instance  string // the instance id in the consumer group
	Host      string
	PID       int
	Version   string    // of the binary
	Since     time.Time // in milliseconds and UTC, as all times here; the zero time stays zero
	Confirmed time.Time // when the owner last confirmed its ownership
}

// PartitionState is the state of one source partition without its segments, which are in [Chunk] entries.
type PartitionState struct {
	Topic     string // on the source
	Partition int32  // the same on both sides

	// Generation counts the maps of this partition, from 0. A restarted partition gets a new generation, which
	// invalidates the chunks of the old one without having to know and delete them.
	Generation uint32

	SourceClusterID string
	SourceTopicID   [16]byte // zero if the broker has none
	TargetTopic     string
	TargetTopicID   [16]byte // zero if the broker has none

	Start Pair // where the map starts, inclusive
	End   Pair // exclusive: all copied source records below End.Source are on the target, below End.Target

	// LeaderEpoch is the partition leader epoch of the last source batch that was processed (KIP-320), -1 if unknown.
	LeaderEpoch int32
	// Chunk is the First of the open chunk, the last chunk. To continue replication, no other chunk is needed.
	Chunk int64
	// Gaps is the gap ledger, newest last, at most [MaxGaps]. See [PartitionState.AddGap].
	Gaps []Gap
	// Producer is what the first batch behind End carries, nil if unknown.
	Producer *Producer
	// After is the Rest of the shard after which the copy was begun, or begun again: the map then has all that was copied in the other direction before. It
	// is nil for a flow that is no half of a pair.
	After *string
}

// Producer is the identity of a batch: no two batches of a partition have the same one, unless 2^31 records are between them.
type Producer struct {
	ID       int64
	Epoch    int16
	Sequence int32 // of the batch's first record
}

// Chunk holds up to [ChunkSegments] consecutive segments of one partition's map.
type Chunk struct {
	Topic      string // on the source
	Partition  int32
	Generation uint32 // of the map that it belongs to, see [PartitionState]
	// First is the chunk's name: the source offset of its first segment, or, for the first chunk of a map, which may
	// be empty, the source offset at which the map starts.
	First int64
	// Previous is the First of the previous chunk, -1 for the map's first chunk. It shows readers that no chunk is
	// missing.
	Previous int64
	Segments []Segment
}

// Tombstone deletes the entry with the same key.
type Tombstone struct {
	Kind      Kind
	Group     string // of KindGroup
	Topic     string // of KindPartition, KindChunk and KindGroup
	Partition int32  // of KindPartition and KindChunk
	First     int64  // of KindChunk
}

func (*ShardState) entry()     {}
func (*Owner) entry()          {}
func (*PartitionState) entry() {}
func (*Chunk) entry()          {}
func (*Tombstone) entry()      {}

// AppendKey implements [Entry].
func (*ShardState) AppendKey(b []byte) []byte { return append(b, byte(KindShard)) }

// AppendKey implements [Entry].
func (*Owner) AppendKey(b []byte) []byte { return append(b, byte(KindOwner)) }

// AppendKey implements [Entry].
func (s *PartitionState) AppendKey(b []byte) []byte {
	return appendPartition(append(b, byte(KindPartition)), s.Topic, s.Partition)
}

// AppendKey implements [Entry].
func (c *Chunk) AppendKey(b []byte) []byte {
	return appendInt64(appendPartition(append(b, byte(KindChunk)), c.Topic, c.Partition), c.First)
}

// AppendKey implements [Entry].
func (t *Tombstone) AppendKey(b []byte) []byte {
	b = append(b, byte(t.Kind))
	if t.Kind == KindPartition || t.Kind == KindChunk {
		b = appendPartition(b, t.Topic, t.Partition)
	}
	if t.Kind == KindChunk {
		b = appendInt64(b, t.First)
	}
	if t.Kind == KindGroup {
		b = appendString(appendString(b, t.Group), t.Topic)
	}
	return b
}

// AppendValue implements [Entry].
func (s *ShardState) AppendValue(b []byte) []byte {
	format := uint16(1)
	if s.Claim != nil {
		format = claimFormat
	}
	if s.Rest != "" {
		format = restFormat
	}
	b = appendFormat(b, format)
	b = appendUvarint(b, uint64(len(s.ProducerIDs)))
	for _, id := range s.ProducerIDs {
		b = appendUvarint(b, uint64(id))
	}
	b = appendPresence(b, format, s.Claim != nil)
	if c := s.Claim; c != nil {
		b = appendUvarint(b, uint64(c.ProducerID))
		b = appendUvarint(b, uint64(uint16(c.Epoch)))
	}
	if format == restFormat {
		b = appendString(b, s.Rest)
	}
	return b
}

// appendPresence appends whether a part follows that is optional. In older formats the format says so.
func appendPresence(b []byte, format uint16, present bool) []byte {
	switch {
	case format < restFormat:
		return b
	case present:
		return append(b, 1)
	}
	return append(b, 0)
}

// AppendValue implements [Entry].
func (o *Owner) AppendValue(b []byte) []byte {
	b = appendFormat(b, 1)
	b = appendString(b, o.Instance)
	b = appendString(b, o.Host)
	b = appendUvarint(b, uint64(o.PID))
	b = appendString(b, o.Version)
	b = appendTime(b, o.Since)
	return appendTime(b, o.Confirmed)
}

// AppendValue implements [Entry].
func (s *PartitionState) AppendValue(b []byte) []byte {
	format := uint16(1)
	if s.Producer != nil {
		format = producerFormat
	}
	if s.After != nil {
		format = restFormat
	}
	b = appendFormat(b, format)
	b = appendUvarint(b, uint64(s.Generation))
	b = appendString(b, s.SourceClusterID)
	b = append(b, s.SourceTopicID[:]...)
	b = appendString(b, s.TargetTopic)
	b = append(b, s.TargetTopicID[:]...)
	for _, offset := range [...]int64{s.Start.Source, s.Start.Target, s.End.Source, s.End.Target} {
		b = appendUvarint(b, uint64(offset))
	}
	b = appendInt32(b, s.LeaderEpoch)
	b = appendUvarint(b, uint64(s.Chunk))
	gaps := foldGaps(s.Gaps) // a ledger that was filled without AddGap must not result in an unreadable entry
	b = appendUvarint(b, uint64(len(gaps)))
	for i := range gaps {
		b = gaps[i].append(b)
	}
	b = appendPresence(b, format, s.Producer != nil)
	if p := s.Producer; p != nil {
		b = appendUvarint(b, uint64(p.ID))
		b = appendUvarint(b, uint64(uint16(p.Epoch)))
		b = appendUvarint(b, uint64(uint32(p.Sequence)))
	}
	if format == restFormat {
		b = appendString(b, *s.After)
	}
	return b
}

// AppendValue implements [Entry].
func (c *Chunk) AppendValue(b []byte) []byte {
	b = appendFormat(b, 1)
	b = appendUvarint(b, uint64(c.Generation))
	var back int64 // distance to the previous chunk; 0 means none, because no chunk follows itself
	if c.Previous != noChunk {
		back = c.First - c.Previous
	}
	b = appendUvarint(b, uint64(back))
	b = appendUvarint(b, uint64(len(c.Segments)))
	at := Pair{Source: c.First, Target: c.First}
	for i, s := range c.Segments {
		b = appendUvarint(b, uint64(s.Source-at.Source))
		if i == 0 {
			// Offsets of both logs are often similar, so their difference is shorter than the offset.
			b = appendVarint(b, s.Target-at.Target)
		} else {
			b = appendUvarint(b, uint64(s.Target-at.Target))
		}
		b = appendUvarint(b, uint64(s.Count))
		at = Pair{Source: s.SourceEnd(), Target: s.TargetEnd()}
	}
	return b
}

// AppendValue implements [Entry]. It returns b unchanged.
func (*Tombstone) AppendValue(b []byte) []byte { return b }

// check returns what is wrong with the chunk itself.
func (c *Chunk) check() error {
	switch n := len(c.Segments); {
	case c.First < 0, c.Previous < noChunk, c.Previous >= c.First && c.Previous != noChunk:
		return fmt.Errorf("starts at source offset %d and follows chunk %d", c.First, c.Previous)
	case n > ChunkSegments:
		return fmt.Errorf("has %d segments, more than %d", n, ChunkSegments)
	case c.Previous == noChunk:
	case n == 0:
		return fmt.Errorf("has no segments and is not the first chunk")
	case c.Segments[0].Source != c.First:
		return fmt.Errorf("starts at source offset %d, but its first segment at %d", c.First, c.Segments[0].Source)
	}
	end := Pair{Source: c.First}
	for i, s := range c.Segments {
		switch {
		case s.Count < 1, s.SourceEnd() < s.Source, s.TargetEnd() < s.Target, // overflow
			s.Source < end.Source, s.Target < end.Target:
			return fmt.Errorf("has %d records at source %d target %d, after source %d target %d",
				s.Count, s.Source, s.Target, end.Source, end.Target)
		case i > 0 && s.Source == end.Source && s.Target == end.Target:
			return fmt.Errorf("has two adjacent segments that should be one, at source offset %d", s.Source)
		}
		end = Pair{Source: s.SourceEnd(), Target: s.TargetEnd()}
	}
	return nil
}
