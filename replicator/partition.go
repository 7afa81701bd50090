package replicator

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/topics"
)

// state is the state of a partition. All transitions are methods of partition, in this file.
//
//	waiting ──▶ recovering ──▶ replicating ──▶ waiting (the outcome of a write is unknown: a takeover follows)
//	recovering ──▶ waiting (the takeover failed, or the copy has no leader)
//	    any ──▶ halted (an anomaly that policy does not skip)
//	    any ──▶ retired
type state uint8

const (
	// waiting: it is neither fetched nor produced until its shard has taken it over.
	waiting state = iota
	// recovering: it is fenced, and the log tail on the target is being reconciled with the source.
	recovering
	// replicating: it is fetched and produced.
	replicating
	// halted: it is not fetched, because of an anomaly that needs an operator or another policy. Batches fetched before are still produced.
	halted
	// retired: its topic no longer exists under its id. Nothing is done with it.
	retired
)

// isRecovered reports whether a shard with this partition counts as recovered.
func (s state) isRecovered() bool { return s != waiting && s != recovering }

func (s state) String() string {
	switch s {
	case waiting:
		return "waiting"
	case recovering:
		return "recovering"
	case replicating:
		return "replicating"
	case halted:
		return "halted"
	case retired:
		return "retired"
	}
	return "unknown"
}

// topicLink is a source topic and its remote topic. All partitions of the topic share it. A topic that was deleted and recreated is another
// topic and has another link.
type topicLink struct {
	source, target string
	metrics        *topicMetrics
	throttle       throttle
	migrated       atomic.Bool // it was logged that the copy of MirrorMaker 2 is continued
	missed         int         // syncs in a row that did not find the source topic; guarded by the topology's lock

	mu     sync.Mutex
	ids    topicIDs
	limits topics.Limits         // of the target topic, by the last sync of configs
	former map[int32]*formerCopy // by partition, if the topic was created again while milena knew an earlier one
}

// topicIDs are the ids of a source topic and its remote topic (KIP-516), zero as long as they are unknown.
type topicIDs struct{ source, target [16]byte }

// isAnother reports whether one of the topics is not the one that it was.
func (i topicIDs) isAnother(now topicIDs) bool {
	return offsets.IsAnotherTopic(i.source, now.source) || offsets.IsAnotherTopic(i.target, now.target)
}

// learn fills in the ids that were unknown.
func (i *topicIDs) learn(now topicIDs) {
	if i.source == [16]byte{} {
		i.source = now.source
	}
	if i.target == [16]byte{} {
		i.target = now.target
	}
}

func (t *topicLink) learnIDs(now topicIDs) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ids.learn(now)
}

func (t *topicLink) getIDs() topicIDs {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ids
}

func (t *topicLink) setLimits(l topics.Limits) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.limits = l
}

func (t *topicLink) getLimits() topics.Limits {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.limits
}

// placement is where a partition is led on both sides, by the newest metadata.
type placement struct {
	sourceLeader, targetLeader int32 // broker ids, -1 unknown
	sourceLeaderEpoch          int32
	targetLane                 targetLane // on which the copy is written, if it has a leader
	targetInSync               int32      // replicas of the copy that are in sync
	targetReplicas             int32      // replicas of the copy
	sourceLoop                 sourceLoop // the loop that fetches it
	sourceGone                 bool       // the source topic or partition does not exist
	// RequestIDs are the ids by which the brokers know the topics now. They are zero while the brokers use names, even if the ids of the topics
	// are known from before.
	requestIDs topicIDs
}

// outside is why a partition is left out of the fences of its shard. It waits, and the others do not wait for it: a marker that cannot be
// written would keep the transaction of the fence from being completed, and without that there is no other fence of the shard.
type outside struct {
	attempts int32
	held     bool // of a half of a pair that does not copy: it is not fenced before the shard is held anew
	starved  bool // the target has told that it is below min.insync.replicas
	why      string
	after    time.Time // it may be fenced again
}

// listed are the offsets of both logs when the partition was discovered: where a new copy begins on the source, and the start and end of the
// target's log.
type listed struct {
	sourceStart, sourceLast, targetFirst, targetLast int64
}

// partition is a source partition and its copy. It has three parts: the cursor is where the source is read, the outbox is what is queued
// and in flight, and the progress is what is acknowledged and journaled. Only their own methods assign their fields. The lock is held
// briefly, never during a request.
//
// A process may have 100,000 partitions, so their size counts (see TestSizeOfAPartition), and so does the memory that a fetch without news touches.
//
// Invariant: journaled <= acked <= next, all exclusive source offsets.
type partition struct {
	topic *topicLink
	shard *shard
	listed
	number int32

	mu      sync.Mutex
	state   state
	anomaly *anomaly          // why it is halted, nil if it is not
	pause   *control.Decision // by which it is not fetched, nil if it is
	placement
	cursor
	outbox
	progress
	sight *sight // apart, because a partition fills a size class of the allocator

	outside  outside   // why it is left out of fences
	recovery *recovery // the takeover that recovers it; what others find out about it counts no more

	endScan context.CancelFunc // ends a running scan of MirrorMaker 2's copy, or a replay of the source
}

// newPartition returns a partition that waits for its shard.
func newPartition(topic *topicLink, number int32, s *shard, l listed) *partition {
	p := &partition{
		topic: topic, number: number, shard: s, listed: l,
		placement: placement{sourceLeader: -1, targetLeader: -1, requestIDs: topic.getIDs()},
		cursor:    cursor{sourceEnd: l.sourceLast, sourceSeen: time.Now(), fromEpoch: -1},
		sight:     new(sight),
	}
	p.progress = progress{doneEpoch: -1, changed: func() { s.noteChanged(p) }}
	return p
}

// newGonePartition returns a partition that the journal has and the source no longer has.
func newGonePartition(topic *topicLink, s *shard, known *offsets.PartitionState) *partition {
	p := newPartition(topic, known.Partition, s, listed{sourceLast: -1})
	p.progress = progress{
		acked: known.End.Source, journaled: known.End.Source, targetEnd: known.End.Target, doneEpoch: -1, record: *known,
	}
	p.cursor = cursor{next: known.End.Source, fromEpoch: -1, sourceEnd: -1}
	return p
}

func (p *partition) String() string { return p.source().String() }

// source is the name of the partition on the source.
func (p *partition) source() offsets.TopicPartition {
	return offsets.TopicPartition{Topic: p.topic.source, Partition: p.number}
}

// remote is the name of its copy on the target.
func (p *partition) remote() offsets.TopicPartition {
	return offsets.TopicPartition{Topic: p.topic.target, Partition: p.number}
}

func (p *partition) logAttrs() []any {
	return []any{"topic", p.topic.source, "partition", p.number}
}

// leaveOutside leaves the partition out of the next fences, less and less often.
func (p *partition) leaveOutside(why string, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.outside.attempts++
	p.outside.why, p.outside.after = why, now.Add(min(time.Second<<min(p.outside.attempts-1, 8), maxTakeoverPause))
}

// delayFence leaves the partition out of the fences of the next moments, if it waits.
func (p *partition) delayFence(until time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == waiting {
		p.outside.after = until
	}
}

// starveLocked records that the target has told that the partition is below min.insync.replicas. Metadata may show that a moment later.
func (p *partition) starveLocked(now time.Time) {
	p.outside.starved = true
	p.outside.after = now.Add(p.shard.flow.options.Pauses.Starved)
}

// isFenceable reports whether a marker can be written into the copy, as far as is known.
func (p *partition) isFenceable(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.targetLeader >= 0 && !p.outside.held && !now.Before(p.outside.after) && !p.isStarvedLocked()
}

// isStarvedLocked reports whether the copy is below min.insync.replicas. If it has fewer replicas than that, only the target can tell, because
// some brokers ignore the config.
func (p *partition) isStarvedLocked() bool {
	least := p.topic.getLimits().MinInSyncReplicas
	return p.targetInSync < least && (p.targetReplicas >= least || p.outside.starved)
}

// beginRecovery enters recovery by a takeover.
func (p *partition) beginRecovery(r *recovery) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == waiting {
		p.state, p.recovery = recovering, r
	}
}

// isRecoveredByLocked reports whether this takeover still recovers the partition. If not, its results change nothing: the topic was deleted,
// or another takeover has begun. The partition's lock is held.
func (p *partition) isRecoveredByLocked(r *recovery) bool {
	return p.state == recovering && p.recovery == r
}

// continueWith sets the producer of a recovered partition, before its start is journaled.
func (p *partition) continueWith(r *recovery) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isRecoveredByLocked(r) {
		p.progress.continueWith(r.producerID, r.producerEpoch)
	}
}

// startReplicating leaves recovery. The partition is fetched from acked on, and produced from sequence 0 of the takeover's producer on.
func (p *partition) startReplicating(r *recovery) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.isRecoveredByLocked(r) {
		return
	}
	if r.producerID != p.shard.producer.Load() { // a later fence has replaced it
		p.doubtLocked()
		p.shard.flow.requestTakeover(p.shard)
		return
	}
	p.state, p.anomaly, p.recovery, p.outside, p.endScan = replicating, nil, nil, outside{}, nil
	p.outbox.setProducer(r.producerID, r.producerEpoch)
	p.resetLocked()
}

// doubtLocked lets the partition wait for a takeover, because the content of the target's log is uncertain. The queue is discarded and
// fetched again from where the takeover resumes. A produce response that arrives later belongs to an earlier generation and is ignored,
// because the takeover reads what was written. The partition's lock is held.
func (p *partition) doubtLocked() {
	if p.state != halted && p.state != retired {
		p.state = waiting
	}
	p.resetLocked()
}

// keepOutLocked leaves the partition out of all fences of its shard, because it is a half of a pair that does not copy. The partition's lock is held.
func (p *partition) keepOutLocked(why string) {
	p.state, p.recovery = waiting, nil
	p.outside = outside{held: true, why: why}
}

// cancelRecovery undoes beginRecovery after the takeover failed before this partition was recovered.
func (p *partition) cancelRecovery(r *recovery) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isRecoveredByLocked(r) {
		p.state, p.recovery = waiting, nil
	}
}

// setHaltedLocked stops fetching this partition. Batches fetched before the anomaly are still produced. The partition's lock is held.
func (p *partition) setHaltedLocked(a *anomaly) {
	if p.state != retired {
		p.state, p.anomaly = halted, a
	}
}

// endHaltLocked lets a halted partition wait for a takeover. The partition's lock is held.
func (p *partition) endHaltLocked() {
	if p.state == halted {
		p.state, p.anomaly = waiting, nil
	}
}

// retire ends all work on the partition, because its topic no longer exists under its id.
func (p *partition) retire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state, p.anomaly = retired, nil
	p.resetLocked()
	if p.endScan != nil {
		p.endScan()
	}
}

// resetLocked discards what was fetched and is not acknowledged. What is in flight stays known, because the target may have it. The
// partition's lock is held, here and in the following methods.
func (p *partition) resetLocked() {
	for _, b := range p.outbox.unanswered() {
		p.progress.addUnsettled(b)
	}
	p.shard.flow.pending.Add(-int64(p.outbox.clear()))
	p.cursor.reset(p.acked, p.doneEpoch)
}

// closeLocked ends what the partition sends, because the flow stops or does not select the topic any more. The source is read again when the partition is taken
// over again, so only what is in flight matters.
func (p *partition) closeLocked() { p.shard.flow.pending.Add(-int64(p.outbox.close())) }

// beginMapLocked begins an empty map at these offsets.
func (p *partition) beginMapLocked(from origin, source, target int64) {
	p.progress.begin(from, source, target)
	p.cursor.reset(source, -1)
}

// restartLocked begins an empty map of the next generation at these offsets. No tombstone behind the first one can have been missed.
func (p *partition) restartLocked(source, target int64) {
	p.progress.restart(p.topic.getIDs(), source, target)
	p.sight.forget()
	p.cursor.reset(source, -1)
	p.cursor.noteFetch(time.Time{})
	p.cursor.endWatch()
}

// fetchableLocked reports whether the next fetch may include this partition, or else whether it waits for room in its queue, which may have a limit
// of bytes, or in its lane. What cannot be sent is not fetched: without a leader on the target nothing is, and while the target refuses its batches,
// one at a time is.
func (p *partition) fetchableLocked(now time.Time, free, limit int64) (ok, full bool) {
	switch {
	case p.state != replicating, p.pause != nil, p.closed, p.fetching, p.sourceGone, p.targetLeader < 0, now.Before(p.fetchAfter), p.throttleWait(now) > 0:
		return false, false
	case p.hold.isHeldBack():
		return len(p.queue) == 0, false
	case p.refused != nil: // what is queued is going to be discarded
		return false, false
	}
	full = p.outbox.block(limit) || p.account.block(free)
	return !full, full
}

// fetchSizeLocked returns how many bytes of the partition the next fetch may return.
func (p *partition) fetchSizeLocked(limit int32) int32 {
	limit = p.topic.throttle.size(p.shard.flow.throttle.size(limit))
	if p.hold.isHeldBack() {
		return min(p.hold.probe, limit)
	}
	return limit
}

// growProbeLocked lets the next attempt of a partition that is held back fetch more, if the source has records and none fitted.
func (p *partition) growProbeLocked() {
	if p.sourceEnd > p.next && p.hold.isHeldBack() {
		p.outbox.growProbe()
	}
}

// sendableLocked reports whether a batch may be sent to the leader of the copy, and the partition is not scheduled.
func (p *partition) sendableLocked() bool { return p.outbox.sendable(p.targetLane) }

// holdBackLocked discards the queue after the target refused its first batch for a reason that may pass.
func (p *partition) holdBackLocked(why string, now time.Time) {
	pause := p.outbox.holdBack(why, now)
	p.outbox.markNotWritten()
	p.resetLocked()
	p.cursor.delay(pause)
}

// setTargetLocked sets the leader of the copy and the account of its lane. Without a leader, what is queued is discarded, unless a response
// about it may still come, and a takeover of the partition ends.
func (p *partition) setTargetLocked(copied topics.Partition, lane targetLane, a *account) {
	leader := copied.Leader
	p.targetLane = lane
	p.targetLeader, p.targetInSync, p.targetReplicas = leader, copied.InSync, copied.Replicas
	p.outbox.assign(a)
	switch {
	case leader < 0 && p.state == recovering:
		p.doubtLocked() // the coordinator leaves out the marker of a partition without a leader, as if its topic was deleted: it may never come
	case leader < 0 && len(p.queue) > 0 && p.inFlight == 0:
		p.resetLocked()
	}
}

// enqueueLocked queues a batch and moves next behind it.
func (p *partition) enqueueLocked(b prepared) {
	p.outbox.push(b)
	p.shard.flow.pending.Add(1)
	p.cursor.advance(b.next, b.leaderEpoch)
}

// dropLocked moves next over source offsets without anything to copy. If a batch is queued, acked moves over them when that is acknowledged,
// otherwise at once.
func (p *partition) dropLocked(next int64, leaderEpoch int32) error {
	from := p.next
	p.cursor.advance(next, leaderEpoch)
	if p.outbox.extendLast(next, leaderEpoch) {
		return nil
	}
	if from != p.acked {
		return fmt.Errorf("source offsets from %d on were dropped, but the records from %d on are not acknowledged", from, p.acked)
	}
	return p.progress.skipDropped(next, leaderEpoch)
}

// dropRestLocked moves next to the end of a batch whose last records were not queued.
func (p *partition) dropRestLocked(next int64, leaderEpoch int32) error {
	if p.next >= next {
		return nil
	}
	return p.dropLocked(next, leaderEpoch)
}

// ackLocked removes the first batch of the queue, which the target appended at offset base, and adds it to the map.
func (p *partition) ackLocked(base int64, now time.Time) (prepared, error) {
	b := p.outbox.popSent(now)
	p.shard.flow.pending.Add(-1)
	p.outside.starved = false
	p.shard.load.copied.Add(int64(b.size))
	if b.from != p.acked {
		return b, fmt.Errorf("source %s: the batch from offset %d was acknowledged, but the records from %d on are not", p, b.from, p.acked)
	}
	return b, p.progress.acknowledge(b, base, now)
}

func (p *partition) leaderOnSource() int32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sourceLeader
}

// isFresh reports whether no owner of this flow has ever written to the partition. The start of every copy is journaled before its first
// batch, and the journal, which this process owns, does not have one. Such a partition needs no fence: an earlier owner cannot begin it now
// either, because the target would reject its journal write.
func (p *partition) isFresh() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.offsets == nil && p.origin != originRewound && !p.shard.isInJournal(p.source())
}

// isRestored reports whether the partition has a map.
func (p *partition) isRestored() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.offsets != nil
}

// isDurable reports whether the journal has the start of the map.
func (p *partition) isDurable() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stage == mapDurable
}

func (p *partition) getState() state {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// hasAnomaly reports whether an anomaly of a kind halted the partition.
func (p *partition) hasAnomaly(kind policy.Kind) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.anomaly != nil && p.anomaly.kind == kind
}
