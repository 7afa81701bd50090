// Package replicator copies topics from one Kafka cluster to another: record batches pass through as bytes, in order, and every record
// lands exactly once, also after kill -9, a take-over by another process, and any fault of the network or of brokers.
//
// # The life of a batch
//
//	source.go     fetch    loops per source broker: a raw Fetch for the partitions it leads, within a byte budget (budget.go),
//	                       in a session, so that only what moved is named (session.go)
//	loss.go       check    is what the source answers what was there before? retention, truncation and recreation show here
//	recordbatch/  admit    by its header: forward, rebuild or drop, with a reason
//	partition.go  enqueue  in order; next moves
//	target.go     stamp    producer id, epoch and sequence into the header, CRC by algebra; the payload is not touched
//	              produce  produceConnections per target broker, a connection each: one batch per partition per request, many partitions per request
//	              obey     failure.go says what an error code means; acked moves and the map grows by the answer's BaseOffset
//	journal.go    persist  every few seconds the shard's journal partition gets the new end and the changed part of the map
//
// # Exactly once
//
// The target's log is the truth; the journal only says how to read it. Data batches are plain idempotent batches: no transactions, no
// markers per batch, nothing for readers to wait for. A transactional id per shard serves only as a fence.
//
// Taking a shard over (recover.go; takeovers.go says when), in this order:
//
//  1. fence (shard.go): InitProducerId, AddPartitionsToTxn, EndTxn(abort). The coordinator writes an abort marker with the new epoch into
//     each partition, which from then on refuses every write of an earlier owner.
//  2. read the journal partition to our own marker: (s, t) per partition, all source records below s stand below t.
//  3. reconcile: read the target from t to our own marker (tail.go). What stands before it is all there will ever be of earlier owners.
//     Batches of ours are paired with source batches from s on (walk.go, align.go), which gives the exact resume point. Anything else is foreign.
//  4. go on at the new epoch with sequence 0.
//
// Every doubt takes the same way: a lost connection, a timeout, OUT_OF_ORDER_SEQUENCE, a BaseOffset that is not the expected one. Nothing
// is ever resent on a guess: a broker dates a producer by its records' timestamps, so while old records are copied it forgets the producer
// within minutes and would append a resent batch a second time. Only the partitions in doubt are fenced again; the other partitions of the
// shard go on with the epoch of their own last fence, because a partition only knows the epochs it has seen. A later fence of the same
// process names the id and epoch it has (KIP-360), so the coordinator refuses it when somebody else took over: that is a [FencedError].
//
// A partition that the journal does not know needs no fence: its start is journalled before its first batch, and the journal partition is
// fenced, so no earlier owner can have begun it.
//
// # Going on with MirrorMaker 2's copies
//
// A partition that the journal does not know, and whose copy holds records, may be one that MirrorMaker 2 made, if the flow says so. It takes
// the way of every take-over, and reconciles by what records hold:
//
//	predecessor.go  wait     until nothing shows a MirrorMaker 2 at work: two copiers would both append
//	                read     its positions, which are a minute behind, and its offset-syncs, which are exact and few
//	inherit.go      anchor   at the newest sync before which nothing was copied that lies behind it; else at the beginning
//	                scan     the copy to our own marker, beside the source
//	pairing.go      pair     record by record; what only looks alike is no pair
//	inherit.go      accept   the map, and the source record to go on at; a doubt halts the partition
//	handback.go              the way back: the positions as Connect keeps them
//
// # Consumer groups
//
//	groupshost.go  the flow and its partitions as package groups sees them; that package translates and commits the groups, and writes
//	               heartbeats, checkpoints and offset-syncs
//
// # Topic configs and ACLs
//
//	topicconfigs.go  compare, alter   by difference; a topic that is refused is tried key by key, so that one bad key stops no other
//	acls.go          compare, create, delete   by difference; policy/acls.go says which. Who asks is the owner of shard 0
//
// # Shadow mode
//
//	compare.go           look      topics, plan, leaders, checkpoints; nothing is written, and nothing is asked for that makes a broker write
//	comparefetch.go      fetch     the target's news first, then the source's: what is on the target was on the source before
//	comparepartition.go  pair      by what the records hold (pairing.go), with a window that all partitions share
//	comparison.go        tell      counts, lag, sentences
//
// # Invariants
//
//	journaled <= acked <= next                 per partition, exclusive source offsets
//	targetEnd = target offset of acked         the BaseOffset that the next answer must have; with provenance, at least
//	at most one batch of a partition is in flight
//	a batch's bytes are never touched again after a request without an answer
//
// # Goroutines
//
//	one per source broker      sourceBroker.loop; up to four where it leads many partitions
//	two per target broker      targetBroker.lane
//	topics, configs, journal   one loop each, a pass each tick (syncTopics, SyncConfigs, syncJournal)
//	groups, ACLs, heartbeats   one loop each; for heartbeats one per cluster. They work while shard 0 is owned and the lease holds
//	throttles                  one loop, which says when a quota throttles no more
//	take-over                  one loop; one goroutine for each shard that is being taken over
//
// None per partition, and memory is bounded by the byte budget whatever the number of partitions or the lag.
//
// # Locks, in the order they are taken
//
//	shard.mu             one fence or journal write of a shard at a time; the only lock that is held over a request
//	topology.mu          views, partitions, brokers
//	sourceBroker.mu, targetBroker.mu
//	partition.mu
//	topology.brokersMu, shard.partsMu, shard.namedMu, topicLink.mu, budget.mu, lease.mu, throttles.mu, acls.mu, those of package groups
//
// # Not obvious
//
//   - ListOffsets(latest) is the high watermark: a batch that is appended and not yet replicated is invisible to it, so it cannot replace
//     reading to the marker.
//   - EndTxn answers before the markers are written, and with KIP-890 it returns a newer epoch, which the marker carries.
//   - AddPartitionsToTxn goes through Client.Request: version 4 and later are for brokers only, and a broker sent one directly never answers.
//   - A fetch always names LastFetchedEpoch: without it a log that was cut and has grown past our offset gives foreign records with no error.
//   - The lease (lease.go) stops a process that was paused: old records are protected by it alone once the broker forgot the producer.
//   - A DENY stands on the target before its topic does, and is sent before any ALLOW: between two requests nobody may do more than at the end.
//   - A fetch session moves nothing by itself: a partition that is held back must be forgotten, or it is sent again with each answer. What
//     an answer does not name has no news; the last stable offset never moves without the high watermark, which is news.
//   - A quota (throttle.go) holds up one connection, but kgo writes a broker's requests of one client one after the other, so that the others
//     of that client wait as well: batches, the journal, and requests about transactions have clients of their own. Giving up on a request
//     that waits closes the connection, and a new one would get around the quota.
//   - A fetch in flight is never cancelled: kgo would close the connection and fail everything on it.
package replicator
