package replicator

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/match"
	"github.com/milena-kafka/milena/replicator/topics"
)

// state is what may be done with a partition. All transitions are methods of partition, in this file.
//
//	waiting ──▶ recovering ──▶ replicating ──▶ waiting (a doubt: its shard takes it over again)
//	    any ──▶ halted (an anomaly that policy does not skip)
//	    any ──▶ retired
type state uint8

const (
	// waiting: nobody may fetch or produce it until its shard has taken it over.
	waiting state = iota
	// recovering: it is fenced, and the target's log tail is being reconciled with the source.
	recovering
	// replicating: it is fetched, produced, acknowledged.
	replicating
	// halted: an anomaly needs a person or a changed policy. What was read before it is still produced.
	halted
	// retired: its topic exists no longer under its id. Nothing is done with it any more.
	retired
)

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

// topicLink is one source topic and its remote topic; its partitions share it. The ids never change: a topic that was deleted and recreated
// is another topic (KIP-516).
type topicLink struct {
	source, target     string
	sourceID, targetID [16]byte
	metrics            *topicMetrics
	migrated           atomic.Bool // the log says that MirrorMaker 2's copy is continued
	missed             int         // syncs in a row that did not find it on the source; the topology's lock guards it

	mu     sync.Mutex
	limits topics.Limits // of the target topic, as last described
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

// placement is who leads a partition on both sides, by the metadata that was read last.
type placement struct {
	sourceLeader, targetLeader int32 // broker ids, -1 unknown
	sourceLeaderEpoch          int32
	sourceLoop                 sourceLoop // that fetches it
	sourceGone                 bool       // the source topic or partition does not exist now
}

// listed are the offsets of both logs when the partition was found: where a new copy begins, and what the target held.
type listed struct {
	sourceStart, sourceLast, targetFirst, targetLast int64
}

// partition is one source partition and its copy. It has three parts: a cursor, where the source is read; an outbox, what is queued and in
// flight; a progress, what is acknowledged and journaled. Only their own methods assign their fields. The lock is held for moments only,
// never over a request.
//
// Invariant: journaled <= acked <= next, all exclusive source offsets.
type partition struct {
	topic  *topicLink
	number int32
	shard  *shard
	listed

	mu      sync.Mutex
	state   state
	anomaly *anomaly // why it is halted, nil if it is not
	placement
	cursor
	outbox
	progress

	endScan context.CancelFunc // of a scan of MirrorMaker 2's copy that is under way
	own     []match.OwnBatch   // during recovery: our batches in the target's log tail
	foreign []int64            // during recovery: target offsets of other producers' batches
}

// newPartition makes a partition that waits for its shard.
func newPartition(topic *topicLink, number int32, s *shard, l listed) *partition {
	return &partition{
		topic: topic, number: number, shard: s, listed: l,
		placement: placement{sourceLeader: -1, targetLeader: -1},
		cursor:    cursor{sourceEnd: l.sourceLast, fromEpoch: -1},
		progress:  progress{doneEpoch: -1},
	}
}

// newGonePartition makes a partition that the journal knows and the source no longer has.
func newGonePartition(topic *topicLink, s *shard, known *offsets.PartitionState) *partition {
	p := newPartition(topic, known.Partition, s, listed{sourceLast: -1})
	p.progress = progress{
		acked: known.End.Source, journaled: known.End.Source, targetEnd: known.End.Target, doneEpoch: -1, record: *known,
	}
	p.cursor = cursor{next: known.End.Source, fromEpoch: -1, sourceEnd: -1}
	return p
}

func (p *partition) String() string { return p.source().String() }

// source names the partition on the source, remote its copy on the target.
func (p *partition) source() offsets.TopicPartition {
	return offsets.TopicPartition{Topic: p.topic.source, Partition: p.number}
}

func (p *partition) remote() offsets.TopicPartition {
	return offsets.TopicPartition{Topic: p.topic.target, Partition: p.number}
}

func (p *partition) logAttrs() []any {
	return []any{"topic", p.topic.source, "partition", p.number}
}

// recover enters recovery.
func (p *partition) recover() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == waiting {
		p.state = recovering
	}
}

// replicate leaves recovery: fetch from acked on, produce at sequence 0 of the given producer.
func (p *partition) replicate(producerID int64, epoch int16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != recovering {
		return
	}
	p.state, p.anomaly = replicating, nil
	p.outbox.restart(producerID, epoch)
	p.resetLocked()
}

// doubtLocked sends a partition back to its shard: what is in the target's log is not known for sure. Its queue is discarded and read again
// from the resume point. An answer that arrives later belongs to an earlier generation and is ignored: the fence decides.
func (p *partition) doubtLocked() {
	if p.state != halted && p.state != retired {
		p.state = waiting
	}
	p.resetLocked()
}

// giveBack undoes recover when a takeover ended before it reached this partition.
func (p *partition) giveBack() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == recovering {
		p.state = waiting
	}
}

// haltLocked stops the reading of this partition and nothing else. What was read before the anomaly is still produced.
func (p *partition) haltLocked(a *anomaly) {
	if p.state != retired {
		p.state, p.anomaly = halted, a
	}
}

// retire ends all work on the partition: its topic exists no longer under its id.
func (p *partition) retire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state, p.anomaly = retired, nil
	p.resetLocked()
	if p.endScan != nil {
		p.endScan()
	}
}

// resetLocked discards what was fetched and not acknowledged.
func (p *partition) resetLocked() {
	p.shard.flow.pending.Add(-int64(p.outbox.clear()))
	p.cursor.reset(p.acked, p.doneEpoch)
}

// beginMapLocked begins an empty map at these offsets.
func (p *partition) beginMapLocked(from origin, source, target int64) {
	p.progress.begin(from, source, target)
	p.cursor.reset(source, -1)
}

// restartLocked begins the map of another generation.
func (p *partition) restartLocked(source, target int64) {
	p.progress.restart(p.topic.sourceID, p.topic.targetID, source, target)
	p.cursor.reset(source, -1)
}

// fetchableLocked says whether the next fetch may ask for this partition, and whether it is only held back because the target is slower.
func (p *partition) fetchableLocked(now time.Time, room int64) (ok, behind bool) {
	if p.state != replicating || p.fetching || p.sourceGone || now.Before(p.fetchAfter) {
		return false, false
	}
	if p.queuedBytes >= room {
		return false, true
	}
	return true, false
}

// enqueueLocked adds a batch behind next.
func (p *partition) enqueueLocked(b prepared) {
	p.outbox.push(b)
	p.shard.flow.pending.Add(1)
	p.cursor.advance(b.next, b.leaderEpoch)
}

// dropLocked moves over source offsets that have nothing to copy: the last batch that is queued carries them, if there is one.
func (p *partition) dropLocked(next int64, leaderEpoch int32) error {
	p.cursor.advance(next, leaderEpoch)
	if p.outbox.carry(next, leaderEpoch) {
		return nil
	}
	return p.progress.pass(next, leaderEpoch)
}

// moveLocked lets next be behind a batch of which nothing, or not the end, was queued.
func (p *partition) moveLocked(next int64, leaderEpoch int32) error {
	if p.next >= next {
		return nil
	}
	return p.dropLocked(next, leaderEpoch)
}

// ackLocked extends the map by the batch at the head of the queue, which the target put at base.
func (p *partition) ackLocked(base int64, now time.Time) (prepared, error) {
	b := p.outbox.sent()
	p.shard.flow.pending.Add(-1)
	return b, p.progress.acknowledge(b, base, now)
}

func (p *partition) peekNext() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.next
}

// delayFetch leaves the partition out of fetches for a moment.
func (p *partition) delayFetch(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cursor.delay(d)
}

func (p *partition) leaderOnSource() int32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sourceLeader
}

// isFresh says that nothing was ever written to this partition by this flow: every start is journaled before the first batch, and the
// journal that this process owns does not name it. Such a partition needs no fence, because an earlier owner could not begin it either:
// its journal write would be refused.
func (p *partition) isFresh() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.offsets == nil && !p.shard.isJournaled(p.source())
}

// isRestored says that the partition has a map.
func (p *partition) isRestored() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.offsets != nil
}

// isDurable says that the journal has the start of the map.
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

// anomaly is why a partition is halted. From and to are the offsets concerned, [from, to).
type anomaly struct {
	kind     policy.Kind
	from, to int64
	detail   string
	since    time.Time
}

// state describes the anomaly for the status; nil for none.
func (a *anomaly) state() *AnomalyState {
	if a == nil {
		return nil
	}
	return &AnomalyState{Kind: string(a.kind), Detail: a.detail, Hint: a.kind.Hint(), From: a.from, To: a.to, Since: a.since}
}

// hasAnomaly reports whether the partition is halted by an anomaly of a kind.
func (p *partition) hasAnomaly(kind policy.Kind) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.anomaly != nil && p.anomaly.kind == kind
}
