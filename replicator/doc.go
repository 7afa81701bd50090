// Package replicator copies topics from one Kafka cluster to another. Record batches pass through as bytes, in order, and every record is
// written exactly once, also after kill -9, a takeover by another process, and any fault of the network or of brokers.
//
// This package is the engine. Each neighbour is a package of its own and does not know the engine: wire (requests and error codes), client
// (connections), recordbatch (batches as bytes), match (which records of two logs are the same), topics, groups, control (what people decided), mm2,
// plan, fleet (all instances as the clusters show them), compare, verify (are copies equal to their source), diverged
// (what a source has that its target does not, after a failover).
//
// # The life of a batch
//
//	source.go      fetch     one loop or more per source broker: a Fetch for the partitions that it leads, within the byte budget
//	                         (budget.go), in an incremental session (wire)
//	anomaly.go     check     does the source still have what was there before? retention, truncation and recreation show here; the bounds of a
//	                         log are requested outside the loop (bounds.go)
//	recordbatch    admit     by its header: forward, rebuild or drop, with a reason
//	partition.go   enqueue   in order: the cursor advances (cursor.go), the batch is in the outbox (outbox.go)
//	target.go      stamp     on the lane of the copy's replicas: producer id, epoch and sequence into the header, CRC by algebra; the payload is not touched
//	               produce   one connection per lane: one batch per partition and request, many partitions per request, many requests in flight
//	               judge     wire says what an error code means; an acknowledgement extends the map by its BaseOffset (progress.go)
//	journal.go     persist   every few seconds the shard's journal partition gets the new end and the changed part of the map
//
// # A partition
//
// A partition is three things. A cursor is where the source is read; an outbox is what is queued and in flight, with producer, epoch and
// sequence; a progress is what is acknowledged and journaled, and the map. Only their own methods assign their fields, under the partition's
// lock. The invariants:
//
//	journaled <= acked <= next                 exclusive source offsets
//	targetEnd = target offset of acked         the BaseOffset that the next response must have; with provenance, at least
//	the batches in flight are the first ones of the outbox, in the order of their sequences, on one lane
//	a batch is sent once; if the target refuses it, the queue is discarded and fetched again
//
// Every result that comes from outside the partition's lock carries a ticket of what it was asked under, and changes the partition only
// through the ticket's apply, which checks and acts in one critical section (ticket.go). The results of a takeover count while it recovers the
// partition.
//
// # Many batches in flight
//
// Over a line with round-trip time R, a partition with one batch in flight moves one batch per R. So a lane sends without waiting for responses: a
// broker works at the requests of a connection in order, and has no limit on how many of them it is sent. What is in flight is bounded by the
// bytes that a partition and a lane may queue. Both, and the size of a fetch, grow with the round-trip time (aheadOf), which the connections measure.
// More than the way to the broker and back holds is not sent (window.go), because it would only wait there: what waits here shares requests, and is
// merged if it is tiny (merge.go).
//
// On the source, up to eight loops fetch from a broker over a long line, and up to four from a near one that leads many partitions. What a loop
// reserves of the byte budget follows its last responses (appetite), and partitions that are behind get equal parts of a response.
//
// A broker that refuses one batch refuses those that follow it as out of order. If all responses say that nothing was written, the partition goes on
// with the first batch; else a takeover reads what was. A broker that does not know the producer accepts any sequence, so the first batch after a
// fence, a refusal, a pause or a move of the leader is in flight alone. One hole is left: while old records are copied, the broker may forget the
// producer after it wrote one batch, refuse the next, and write the one behind. These three are seconds apart at most, and brokers look for producers
// to forget every 10 minutes. What makes a broker refuse one batch and not the next is checked before sending, as far as milena can know it. What
// still slips in is a gap of sequences in the tail, an anomaly (match.Gap).
//
// # Isolation
//
// What one partition, topic or broker suffers costs no other one anything but its share of bandwidth:
//
//   - While the target refuses the batches of a partition, one batch at a time is fetched and tried, with growing pauses. Without a leader on
//     the target, or while it is halted, nothing is fetched. A copy that lacks a leader, a right, or replicas in sync stays outside the fence of
//     its shard, because its marker could not be written, and is fenced when it can be.
//   - A produce request is answered when its last partition is replicated, so partitions with different replicas have different lanes: four sets
//     of replicas per broker have lanes of their own. On a long line a set whose lane is full gets more, if they carry more (spread.go).
//   - A lane may queue as much as is free of the byte budget, so that a share is left whatever hangs. While the budget is short, what waits is copied
//     out of responses that are otherwise done with.
//   - Loops request metadata and bounds of logs, and do not wait for them (refresh.go, bounds.go).
//   - A quota delays batches, not the journal, which has connections of its own and a new one whenever a broker mutes the last one for long
//     (journalline.go).
//   - A takeover takes a slot only when it has the lock of its shard, gives up after a while, and backs off up to a minute.
//
// # Exactly once
//
// The target's log is the truth; the journal only says how to read it. Data batches are plain idempotent batches: no transactions, no markers
// per batch, nothing that consumers have to wait for. The transactional id of a shard serves only as a fence.
//
// A takeover of a shard (takeover.go says when, recover.go how) has this order:
//
//  1. Ask the target about the producers of copies whose log is empty (producerstates.go), because the marker of a fence makes it forget the last
//     sequence. Fence (fence.go): InitProducerId, AddPartitionsToTxn, EndTxn(abort). The coordinator writes an abort marker with the new epoch into each
//     partition, which from then on rejects every write of an earlier owner.
//  2. Read the journal partition up to that marker: (s, t) per partition, where all source records below s are on the target below t.
//  3. Reconcile: read the target's log tail from t to the marker (logtail.go). What is before the marker is all there will ever be of earlier
//     owners. What this process has sent itself is known by producer id, epoch and sequence, so the tail alone tells which of it was written
//     (settle.go). After a crash these identities number the records behind t, also those that the target has deleted since, and content
//     tells which source records they are, also if the source has deleted some (replay.go, package match). That gives the exact resume point.
//     What remains possible in more than one way is an anomaly. Any other batch is a foreign write.
//  4. Continue at the new epoch with sequence 0.
//
// Every doubt is resolved this way: a lost connection, a timeout, OUT_OF_ORDER_SEQUENCE, a BaseOffset that is not the expected one. Nothing is
// ever resent on a guess. A broker expires a producer by the timestamps of its records, so while old records are copied it forgets the producer
// within minutes and would append a resent batch again. Only the partitions in doubt are fenced again. The other partitions of the shard
// continue with the epoch of their own last fence, because a partition only knows the epochs that it has seen. A later fence of the same
// process names its id and epoch (KIP-360), so the coordinator rejects it if another process has taken over. It also rejects it if it has raised the
// epoch itself. Then the group decides, or without a group the owner record in the journal: another owner is a [FencedError].
//
// A target without transactions has no fence (fence: lease). There the group gives a shard to one owner at a time, the log of its journal is read to a quiet
// end and claimed with the next epoch, and a copy is read to a quiet end instead of a marker (quiet.go; claim.go says what is weaker).
//
// A marker may be missing for good: the coordinator leaves it out of a partition without a leader, and DeleteRecords deletes it. When the coordinator
// says that none is missing and none comes, the partition is fenced again (latemarkers.go).
//
// A partition that the journal does not list needs no fence: its start is journaled before its first batch, and the journal partition is
// fenced, so no earlier owner can have begun it.
//
// With provenance others write the same topics. What changes then is one policy, chosen when the flow is made: writers (provenance.go).
//
// # Migration from MirrorMaker 2
//
// A partition that the journal does not list, and whose copy has records, may be a copy of MirrorMaker 2, if the flow says so. It is fenced
// like any other, and package mm2 compares the end of the copy with the source, record by record (migrate.go). Its verdict is an offset to
// continue at, or an anomaly.
//
// # Two flows that copy in turn
//
// Of two identity flows over the same topics, one each way, one copies at a time (pair.go). A flow that is stopped comes to rest, shard by shard (pairrest.go):
// when nothing is in flight and all is journaled, its journal gets the id of the decision that stopped it. Before a shard copies, its takeover reads, after the
// fence, the control topic of its own flow, then that of the other one: that must be stopped, and its shard at rest under that very decision. Of two that are
// started at once, each has written its start before it reads that of the other, so at least one finds the other started.
//
// The marker of a fence is a record in a topic of clients. So the takeover of a half fences its journal first (pairfence.go), and then only what copies from now
// on, and what may have been written since the last rest. A half that is stopped and at rest, or waits, writes nothing there, however often it is begun.
//
// What has not copied since the last rest continues behind what the other flow has copied (pairrecover.go): its map gets the segments of the other's map, the
// other way round, and it begins at the end of that map, behind whatever the target has. That is journaled before the first batch, together with the rest after
// which it was begun, so a later takeover knows that it is done. A shard that has come to rest, and copies again, is a new value.
//
// # Several instances
//
// The processes that run a flow are its instances: one consumer group on the target over the journal topic (package membership). An instance holds
// shard k while journal partition k is assigned to it (instance.go, instanceloops.go, shards.go). It has the partitions of the shards that it holds, and no others.
// The group decides who works, not who may write. That is decided by the fence of a shard, so a wrong belief costs a takeover and no record:
//
//   - A hand-over (handover.go) ends the takeovers of a shard, waits for batches in flight for a moment, and writes the journal. Only then the group
//     gives the shard to another instance, whose takeover finds nothing behind the journal. A shard that comes back is a new value.
//   - An instance that was not heard of for the session timeout has lost its shards. When it learns that, it drops them and joins again.
//   - A member id is of one stay in the group. A heartbeat with the id under which the shards were assigned confirms the lease for all of them.
//   - Whoever finds its shard fenced, and is still a member, fences again without naming an epoch. Whoever is not gives it up.
//   - An instance that finds the group empty claims all shards, as brokers hold back the first join for seconds. It joins before its first topic sync,
//     which may take seconds too, so that those who start a moment later find it. Until the group assigns the shards, shard 0 decides between claims:
//     who loses it gives everything up and waits for the group.
//   - An instance that stops while it joins waits for its member id, and leaves. Otherwise the group would give it shards.
//
// The holder of shard 0 does the work that needs one doer, as long as its lease holds: it creates topics (topicsync.go), keeps configs and ACLs
// in sync (configsync.go, aclsync.go), and translates and commits groups and writes the internal topics (package groups, behind
// groupshost.go). Positions in partitions of other instances are translated by the journal. The others read metadata and configs only, for the limits of
// the topics, and write the offset-syncs of their own partitions.
//
// With instances: one there is no group. A second process takes all shards over, and the first one ends with a [FencedError].
//
// # Control
//
// What people decided is in the control topic (package control), which controls.go follows: a pause takes effect in setPause (pause.go), a throttle when a
// fetch is planned (throttle.go), and what is done once in controlact.go and repair.go. What happened without a decision, such as takeovers, is noted there
// too (controlevents.go): few records, whatever happens. Anomalies are not, because the journal has them. One loop reads the topic, acts, and writes what became of it. It is
// read before the first fetch of a process. A pause is no state of a partition: it is taken over and fenced like any other, and only not fetched. A repair
// replaces the partition by a new one, which is restored from the journal as after a restart. What it permits (permit) differs from policy for that long
// only. What is left out or begun anew by a decision is in the journal, with the id of the decision, before anything behind it is copied.
//
// # Reload
//
// What a running flow can change of its config is in one value that never changes, live (live.go). Whoever needs several things of it takes it once for a
// pass. A reload (reconfigure.go) prepares another value, with parts of package topics and groups where they are concerned, and then puts it in force at once,
// so it takes all or nothing. The rest is left to the topic syncs, which the reload requests:
//
//   - A topic that is not selected any more sends nothing more at once. When what is in flight is acknowledged, its shards are journaled and its partitions
//     retire. If it is selected again, they are restored from the journal as after a restart, which fences whatever was still on its way.
//   - A sync that began with the config before looks at the end whether it is still in force, and leaves what it added in between to the next one.
//   - A halted partition whose anomaly has another action now is taken over again, as a retry does.
//
// Keys that cannot change are in Flow.config, and a test holds that no live key is read of it.
//
// # Verification
//
// With verify.rate the flow verifies its own copies (verifying.go, package verify), round by round: each round is a verification of a few partitions that were
// not verified for longest, with clients of its own, limited in rate and time, and held up while the byte budget is short. It reads by the journal, as
// a verification from outside does, so it needs nothing of a partition but its name. How far each partition is, and what differs, is in the control topic,
// from which the next owner of the shard goes on. That a copy differs changes nothing about how it is copied.
//
// # Goroutines
//
//	one to four per source broker    sourceBroker.loop, by the number of partitions that it leads
//	two per lane of a target broker  targetBroker.send
//	bounds of logs                   one per source broker, while an offset is out of range
//	metadata                         one loop per cluster (refresh.go)
//	topics, configs, journal         one loop each
//	pruning of the journal           one loop (prune.go), which reads one shard at a time
//	source ends                      one loop, for the partitions that no fetch confirms
//	one per target broker            a pass over the journal partitions that it leads, every few seconds
//	control topic                    one loop, which also acts on what people decided
//	parts                            one loop, which a reload makes begin anew the loops of groups, ACLs and heartbeats (one per cluster)
//
//	groups                           one loop; heartbeats: one per cluster
//	verification                     one loop, with a goroutine per side while it reads
//	instances                        three loops: what the group assigned is taken over, the membership is confirmed, the group is described; the group client has its own
//	throttles                        one loop, which logs when throttling has ended
//	TLS files                        one loop per cluster, which logs what changes and what cannot be read
//	takeovers                        one loop; one goroutine per shard that is being fenced, one per takeover that recovers partitions, and one
//	                                 per partition whose log tail was read
//
// None lives as long as a partition. Memory is bounded by the byte budget, whatever the number of partitions or the lag.
//
// # Liveness
//
// A loop that moves batches, and the one that writes the journal, say whether they work or wait (pulse.go). Waiting may take for ever: a cluster is down, a
// quota delays, nothing is to be done. Working does not. Flow.Stalled names a loop that works for longer than a limit, and blocks while a lock that is held
// for moments only is not let go. The watchdog of systemd and /healthz ask it, so a process with a deadlock is started again, and one that waits is not.
//
// # Locks, in the order they are taken
//
//	instance.mu                       which shards are held; held over a hand-over
//	controls.pausing                  who decides what is paused; never with the lock of a partition or of the topology held
//	topology.syncing                  one addition of partitions at a time; no lock is held over the creation of topics
//	shard.mu                          one fence or journal write of a shard at a time; held over requests; a journal pass holds several, and waits for none
//	pruning.mu                        which chunks of a shard's journal nobody needs
//	topology.mu                       views of both clusters, topics, partitions, brokers
//	changes.mu                        what a reload has left to the topic syncs
//	sourceBroker.mu, targetBroker.mu  which partitions a loop serves
//	partition.mu                      held for moments only, never over a request
//	topology.brokersMu, shards.mu, controls.mu, events.mu, startTopics.mu, verifying.mu, throttle.mu, tasks.mu, shard.partsMu, topicLink.mu, recovery.mu, journalLines.mu, budget.mu, lease.mu, clock.mu, warnings.mu, pulses.mu, and those of client, topics and groups
//
// The takeover of another shard holds its own shard.mu while it confirms shard 0, whose lock it only tries to take. The lock of migration is held over the one read of MirrorMaker 2's progress, and under it no other lock is taken.
//
// # Not obvious
//
//   - ListOffsets(latest) is the high watermark. A batch that is appended and not yet replicated is invisible to it, so it cannot replace
//     reading up to the marker.
//   - The response to EndTxn comes before the markers are written, and with KIP-890 it has a newer epoch, which the marker carries.
//   - AddPartitionsToTxn is sent through Client.Request. Version 4 and later are for brokers only, and a broker that gets one directly never
//     responds.
//   - A fetch always names LastFetchedEpoch. Without it, a log that was truncated and has grown past our offset returns foreign records without
//     an error.
//   - The lease (lease.go) stops a process that was paused, or cut off from its group. It alone protects old records once the broker has forgotten the producer. Its
//     clock (clock.go) runs while the host sleeps. It is looked at when the bytes of a request are handed to the kernel, behind all waits of
//     a client. Once it has expired, only the membership or, without a group, a fence confirms it: that a broker accepts a write
//     proves nothing.
//   - A DENY is created before its topic, and before any ALLOW: between two requests no principal has more rights than at the end.
//   - A fetch session does not advance offsets. A partition that is held back must be forgotten, or it is sent again with each
//     response. A partition that a response omits is unchanged: the last stable offset never moves without the high watermark.
//   - A quota holds up one connection, but kgo writes a client's requests to a broker one after the other, so the client's other connections
//     wait too. That is why the journal and requests about transactions have clients of their own, and batches connections of their own
//     (connections.go). Abandoning a request that waits closes the connection, and a new one would evade the quota.
//   - The buffers of responses are used again. A batch holds its buffer until it is acknowledged or discarded, and also while it is written: a takeover
//     may discard a batch in the middle of that.
package replicator
