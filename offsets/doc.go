// Package offsets stores which source offset was copied to which target offset, and translates between them: the map of a
// partition, the journal that makes it durable, and a [Client] that answers questions about a cluster.
//
// It has two halves. The pure half does no I/O, reads no clock and uses no Kafka client:
//
//	segment.go map.go               the map, and translation in memory
//	mapjournal.go                   from the map to the journal's entries and back
//	restore.go                      what a new owner keeps of a journal
//	prune.go                        what nobody needs of a journal
//	journal.go decode.go gap.go     the journal's entries and their encoding
//	shard.go                        which partition of the journal a map is in
//	mm2.go names.go                 MirrorMaker 2's records and names
//	errors.go                       the error types
//
// The client half reads and never writes. It sends its own requests, so a consumer in a caller's client is not affected:
//
//	client.go                       Open, and what the names of topics say
//	clienttranslate.go              translation of an offset or a time, in both directions
//	clientgroups.go                 translation of a group, in both directions
//	internaltopics.go               MirrorMaker 2's internal topics
//	mm2progress.go                  MirrorMaker 2's progress, for a migration
//	journalreader.go                the Journal: which of its partitions are read
//	reading.go                      a Journal as of one moment, for many questions
//	journalshard.go                 one partition of the Journal, and when its changes become visible
//	journalvisit.go                 how far a flow is, from all of its journal
//	history.go chunkcache.go        a map whose chunks are in memory or in the journal
//	logtail.go log.go               reading one partition to its end
//
// # Words
//
//   - source and target: the two clusters of a flow, and the two logs of one of its partitions.
//   - segment: the source offsets [s, s+n) are at the target offsets [t, t+n). See [Segment].
//   - map: the ordered segments of one partition, with a start and an end. See [Map].
//   - offset pair: one offset on each side. See [Pair].
//   - chunk: up to [ChunkSegments] consecutive segments of a map. The last chunk of a map is open. All others are sealed and
//     never change.
//   - journal: the compacted topic on the target with the durable copy of a flow's maps. See [JournalTopic].
//   - shard: the unit of ownership. Journal partition k is shard k, see [ShardOf].
//   - lineage: which positions of consumer groups a flow has put on the target. See [GroupPositions].
//   - gap: an entry about offsets that were not copied as they should have been. See [Gap].
//   - generation: the number of a partition's map, from 0. A restarted partition gets a new one.
//   - connector offset: how far MirrorMaker 2 had copied a partition, as Kafka Connect stores it. See [ConnectorOffset].
//   - offset-sync: MirrorMaker 2's record of one offset pair. See [OffsetSync].
//
// First and last are inclusive. Start is inclusive, end is exclusive, on both sides.
//
// # What a map says
//
// Offsets that no segment covers have no copied record. On the source they were compacted, aborted or dropped, or are
// transaction markers. On the target they are abort markers of milena, foreign writes, or other markers.
//
//	source   100 101 102 103 104 105 106 107 108          103 was compacted, 107 is a marker
//	          |   |   |       |   |   |       end
//	target    40  41  42      43  44  46  47              45 is an abort marker of milena
//	                                      end
//
//	segments {100 40 3} {104 43 2} {106 46 1}
//	Forward  101 -> 41 exact   103 -> 43   107 -> 47   108 -> 47 exact   109 is not copied
//	Reverse   43 -> 104 exact   45 -> 106   47 -> 108 exact
//
// A translated offset is one to continue at. A consumer that has processed everything below one offset has processed
// everything below the other:
//
//	record r copied and source(r) <  s    <=>  target(r) <  Forward(s)
//	record r copied and target(r) <  t    <=>  source(r) <  Reverse(t)
//	s <= s'  =>  Forward(s) <= Forward(s');   t <= t'  =>  Reverse(t) <= Reverse(t')
//	Reverse(Forward(s)) = s  and  Forward(Reverse(t)) = t    at a copied record
//	Forward(end.Source) = end.Target;   Reverse(end.Target) = end.Source
//
// A translation above the last segment, including that of an end, may increase later, when the next record exists. No
// translation ever decreases.
//
// # From the map to the journal and back
//
//	sealed := m.Sealed(-1, 64)        sealed chunks that the journal does not have, in as many batches as needed
//	... written and acknowledged ...
//	m.MarkSealed(sealed)              they are not written again
//	c, any := m.Changed()             the rest
//	chunks := state.Apply(c)          the entries to write: the open chunk, then the state
//	... written and acknowledged ...
//	m.MarkJournaled(c)                what was appended since Changed stays pending
//	m.Forget(math.MaxInt64)           a process that replicates needs no sealed chunk
//
// In the journal, a partition is one state and a chain of chunks, each with the name of the previous one. A dense partition
// is one chunk with one segment, however long it is. To continue replication, the state and its open chunk suffice, and a
// [Restorer] keeps no more than these. To translate, [RestoreMap] takes all chunks, and refuses a chain with a missing link.
//
// Chunks are written before the state, and the write may end between any two of them. So what they have beyond the end of the
// state is not part of the map: the rest of the open chunk, and every chunk that the links from the open chunk back do not
// lead to. A chunk is valid if its generation is that of the state. Other chunks are leftovers.
//
//	chunk.First = its first segment's Source; for a map's first chunk, which may be empty: state.Start.Source
//	chunk.Previous < chunk.First;   state.Start.Source <= state.Chunk <= state.End.Source
//
// # What is deleted from the journal
//
// A chunk may be deleted with a [Tombstone], the oldest first, once the next one begins at or below the start of both logs:
// then every offset that one of the logs still has is described by the next one and those after it. The map then begins with
// the first chunk that is left, whose Previous names the deleted one. What is below is a *[BeforeStartError], unless the log of
// the other side begins there or later: then that is where to continue ([BeforeStartError.Continue]). Chunks of earlier
// generations may be deleted once the start of the map is at or below the start of both logs. [Pruner] finds both.
//
// Never deleted are:
//
//   - the open chunk, and the state: whether a topic is gone for good or cannot be seen for a while is not known for certain, and
//     a copy without its state would begin again
//   - chunks of a topic with a log start that is not known, as of one that was deleted
//   - chunks of a topic whose log never starts later, as one that is only compacted: its map grows with what is copied, by a
//     segment for each hole
//
// A reader that paused for longer than the journal's delete.retention.ms may find some of these tombstones and miss others. It
// reads the journal from the start before it calls a map damaged.
//
// # Format of the journal
//
// A key is one byte of [Kind] and its fields. A value is a format number of 2 bytes and its fields. A new field
// increases the number, and a reader that finds a number above its own stops with a [VersionError]. A new kind does not, if
// an earlier milena, which skips it with a warning, still copies every record once. An entry has the lowest number that has
// all its fields: 3 for a PartitionState with an after and a ShardState with a rest,
// 2 for a PartitionState with a producer and a ShardState with a claim, otherwise 1. Kinds stay below 32
// and numbers below 256. Anything above was not written by milena, and is skipped.
//
//	entry          key                                     value
//	ShardState     1                                       version, n, n * producer id as uvarint; in format 2 also the
//	                                                       claim: producer id and epoch as uvarint; in format 3
//	                                                       1 and the claim, or 0, then the rest
//	Owner          2                                       version, instance, host, pid as uvarint, binary's version,
//	                                                       since, confirmed
//	PartitionState 3, topic, partition                     version, generation as uvarint, source cluster id,
//	                                                       source topic id, target topic, target topic id,
//	                                                       start source, start target, end source, end target as
//	                                                       uvarint, leader epoch, open chunk's first as uvarint,
//	                                                       n, n * gap; in format 2 also the producer: id, epoch and
//	                                                       sequence as uvarint; in format 3 1 and the producer, or
//	                                                       0, then the after
//	Chunk          4, topic, partition, first as 8 bytes   version, generation as uvarint, first - previous as uvarint
//	                                                       (0: no previous), n, n * segment
//	GroupPositions 5, group, topic                         version, target topic id, n, n * position
//	Lineage        6                                       version, began
//	Horizon        7                                       version, at, n, n * behind, then those that have no room:
//	                                                       their number as uvarint, and unless it is 0 their missing
//	                                                       records as uvarint, seen, complete
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
//	segment        three numbers: source and target as uvarint, each minus the end of the previous segment; count as uvarint.
//	               For the first segment: source minus the chunk's first, as uvarint; target minus the chunk's first, as varint
//
//	behind         topic, partition, acked, source end minus acked as uvarint, seen, complete
//	position       partition minus the lowest possible one, source offset as uvarint; put minus source, before minus put as varint
//
// Every value has exactly one encoding: a number that is not in its shortest form, and extra bytes at the end, are errors.
//
// # How a cluster is read
//
//	Open         one listing of topics, nothing else
//	a question   the journal partition with the map, to its end; then only what is new, at most once per MaxAge, and before an
//	             answer that something is not copied or not known
//	a chunk      from its offset in the journal, if it is not in memory
//
// For many questions at a time, a [Reading] reads what is new once, whatever the answers are.
//
// Changes of a journal become visible when its end is reached, never partially. Until then all questions are answered from
// the previous state, which is never locked while waiting for the network. One goroutine at a time reads a partition or loads a
// chunk of it; others that need the result wait, and can stop waiting by their context. One goroutine at a time requests the
// metadata of a topic, and waiting for that cannot be canceled. A journal that was compacted, truncated or created again is
// read from its start where needed.
//
// An answer has its origin ([Origin]) and its age. The journal is exact. Offset-syncs and checkpoints skip no record, but may
// repeat some. A record that cannot be decoded is counted, logged and skipped. A question that depends on it gets an error,
// not a guess. Only a newer format of a journal fails all questions to its partition.
//
// # What it does not do
//
// It does not write to Kafka and commits no offsets. It does not decide who may write a journal (the fence does) or what
// follows a gap (policy does).
package offsets
