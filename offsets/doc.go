// Package offsets remembers where every copied record stands on both sides, and translates from one to the other: the
// map of a partition, the journal that makes it durable, and a [Client] that asks a cluster.
//
// It has two halves. The pure half does no I/O, reads no clock and knows no Kafka client:
//
//	segment.go map.go               the map, and translation in memory
//	mapjournal.go                   from the map to the journal's entries and back
//	journal.go decode.go gap.go     the entries and their bytes
//	shard.go                        which partition of the journal a map is in
//	mm2.go names.go                 MirrorMaker 2's records and names
//
// The client half reads, and never writes. It sends requests of its own, so that a consumer in a caller's client notices
// nothing:
//
//	client.go                       Open, and what the names of topics tell
//	clienttranslate.go              an offset or a moment, there and back
//	clientgroups.go                 a group, there and back
//	books.go                        MirrorMaker 2's topics
//	progress.go                     how far MirrorMaker 2 had come by its own notes
//	reader.go journalshard.go       the Journal: which partitions are read, and when they are shown
//	history.go memory.go            a map whose chunks are in memory, or in the journal
//	tail.go log.go                  one partition, followed to its end
//
// # Words
//
//   - source and target: the two clusters of a flow, and the two logs of one of its partitions.
//   - segment: the source offsets [s, s+n) stand at the target offsets [t, t+n). See [Segment].
//   - map: the ordered segments of one partition, with a start and an end. See [Map].
//   - position: a pair of offsets, one on each side. See [Position].
//   - chunk: at most [ChunkSegments] segments of a map that follow each other. The last chunk of a map is open; one that
//     another follows is sealed and never changes again.
//   - journal: the compacted topic on the target with the durable copy of a flow's maps. See [JournalTopic].
//   - shard: the unit of ownership. Journal partition k is shard k, see [ShardOf].
//   - gap: a note of offsets that were not copied as they should have been. See [Gap].
//   - generation: which map of a partition this is, counted from 0; a restarted partition begins a new one.
//
// First and last are inclusive. Start is inclusive, end is exclusive, on both sides.
//
// # What a map says
//
// Offsets that no segment covers hold no copied record. On the source they were compacted, aborted, dropped, or are
// transaction markers; on the target they are our abort markers, foreign writes, or other people's markers.
//
//	source   100 101 102 103 104 105 106 107 108          103 was compacted, 107 is a marker
//	          |   |   |       |   |   |       end
//	target    40  41  42      43  44  46  47              45 is our abort marker
//	                                      end
//
//	segments {100 40 3} {104 43 2} {106 46 1}
//	Forward  101 -> 41 exact   103 -> 43   107 -> 47   108 -> 47 exact   109 is not copied
//	Reverse   43 -> 104 exact   45 -> 106   47 -> 108 exact
//
// A translated position is one to go on from. A consumer that did everything below the one has done everything below the
// other:
//
//	record r copied and source(r) <  s    <=>  target(r) <  Forward(s)
//	record r copied and target(r) <  t    <=>  source(r) <  Reverse(t)
//	s <= s'  =>  Forward(s) <= Forward(s');   t <= t'  =>  Reverse(t) <= Reverse(t')
//	Reverse(Forward(s)) = s  and  Forward(Reverse(t)) = t    where a record stands
//	Forward(end.Source) = end.Target;   Reverse(end.Target) = end.Source
//
// An answer behind the last segment, the ends included, may grow later, when the next record exists. None ever shrinks.
//
// # From the map to the journal and back
//
//	c, any := m.Changed()             what the journal does not have yet
//	chunks := state.Take(c)           the entries to write: state and chunks, in one batch
//	... written and acknowledged ...
//	m.MarkJournaled(c)                what was appended meanwhile stays changed
//	m.Forget(math.MaxInt64)           a process that replicates needs no sealed chunk
//
// In the journal a partition is one state and a chain of chunks, each with the name of the one before. A dense partition
// is one chunk with one segment, however long it is. To go on, [RestoreMap] needs the state and its open chunk only; to
// translate it takes every chunk, and refuses a chain with a link missing. A chunk is valid if its generation is the
// state's; others are remains, which whoever comes across them may delete with a [Tombstone]. The oldest chunks of a map
// may be deleted as well, when the source no longer has what they describe: the map then starts later.
//
//	chunk.First = its first segment's Source; of a map's first chunk, which may be empty: state.Start.Source
//	chunk.Previous < chunk.First;   state.Start.Source <= state.Chunk <= state.End.Source
//
// # Format of the journal
//
// Format 1. A key is one byte of [Kind] and its fields, a value is a format number of 2 bytes and its fields. A new field
// or kind raises the number, and whoever meets a number above its own stops with a [VersionError]. Kinds stay below 32 and
// numbers below 256: what is above is no milena's, and passed over.
//
//	entry          key                                     value
//	ShardState     1                                       version, n, n * producer id as uvarint
//	Owner          2                                       version, instance, host, pid as uvarint, binary's version,
//	                                                       since, confirmed
//	PartitionState 3, topic, partition                     version, generation as uvarint, source cluster id,
//	                                                       source topic id, target topic, target topic id,
//	                                                       start source, start target, end source, end target as
//	                                                       uvarint, leader epoch, open chunk's first as uvarint,
//	                                                       n, n * gap
//	Chunk          4, topic, partition, first as 8 bytes   version, generation as uvarint, first - previous as uvarint
//	                                                       (0: no previous), n, n * segment
//	Tombstone      that of the entry it deletes            null
//
//	field          encoding
//	kind           1 byte
//	version        2 bytes, big endian
//	partition      4 bytes, big endian
//	leader epoch   4 bytes, big endian, two's complement
//	time           8 bytes, big endian, two's complement: milliseconds since 1970 UTC
//	topic id       16 bytes
//	uvarint        base 128, lowest 7 bits first, high bit set on all bytes but the last (Go's and protobuf's varint)
//	varint         as uvarint of (v << 1) ^ (v >> 63): 0, -1, 1, -2 become 0, 1, 2, 3 (zigzag)
//	text           length in bytes as uvarint, UTF-8
//	n              number of items, as uvarint
//	gap            kind, action as text; from, to as varint; at as time; detail as text; merged as uvarint
//	segment        three numbers: source and target as uvarint, each less where the segment before ended; count as uvarint.
//	               Of the first segment: source less the chunk's first, as uvarint; target less the chunk's first, as varint
//
// There is one spelling of everything: a number that is longer than it has to be, and bytes after the end, are errors.
//
// # How a cluster is read
//
//	Open         one listing of topics, nothing else
//	a question   the journal partition with the map, to its end; and again what is new, once per MaxAge, and before an
//	             answer that something is not copied or not known
//	a chunk      from where it was in the journal, if memory had no room for it
//
// What was read of a journal is shown when its end is reached, never half of it; meanwhile everybody is answered from what
// was shown before. No lock is held while the network is waited for, and whoever waits can give up by its context. A
// journal that was compacted, shortened or made again is read anew where that matters.
//
// An answer says where it comes from ([Origin]) and how old it is. The journal is exact; offset-syncs and checkpoints skip
// nothing, and may repeat. A record that cannot be read is counted, logged and left out, and what it may have changed is
// an error, not a guess; only a newer format of a journal stops all questions to it.
//
// # What it does not do
//
// It writes nothing and commits nothing. It does not decide who may write a journal (the fence does) and not what follows
// a gap (policy does).
package offsets
