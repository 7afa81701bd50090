package replicator

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/match"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/topics"
)

// state is where a partition stands. All transitions are methods of partition, in this file.
//
//	waiting ──▶ recovering ──▶ replicating ──▶ waiting (a doubt: its shard takes it over again)
//	    any ──▶ halted (an anomaly that policy does not skip)
type state uint8

const (
	// waiting: nobody may fetch or produce it until its shard has taken it over.
	waiting state = iota
	// recovering: fenced; the target's tail is being read and aligned with the source.
	recovering
	// replicating: fetched, produced, acknowledged.
	replicating
	// halted: an anomaly stands; only a person or a changed policy moves it.
	halted
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
	}
	return "unknown"
}

// topicLink is one source topic and its copy; its partitions share it. The ids never change: a topic that was deleted and made again
// is another topic (KIP-516).
type topicLink struct {
	source, target     string
	sourceID, targetID [16]byte
	metrics            *topicMetrics
	migrated           atomic.Bool // the log says that MirrorMaker 2's copy is continued
	missed             int         // passes in a row that did not find it on the source; the topology's lock guards it

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

// prepared is one batch that is ready to be produced.
type prepared struct {
	batch        []byte
	count        int32
	runs         []recordbatch.Run // source offsets in the order of the records
	next         int64             // source offset behind this batch and behind what was dropped after it, exclusive
	leaderEpoch  int32             // of the source batch
	maxTimestamp int64             // ms
	slab         *slab
}

// partition is one source partition and the edges of its copy. Its lock is held for moments only, never over a request.
//
// Invariant: journaled <= acked <= next, all exclusive source offsets; targetEnd is the target offset that belongs to acked.
type partition struct {
	topic  *topicLink
	number int32
	shard  *shard

	mu      sync.Mutex
	state   state
	anomaly *anomaly // why it is halted, nil if it is not
	// generation counts the times next was set back; what was fetched for an earlier one is thrown away.
	generation int

	next      int64
	acked     int64
	journaled int64
	targetEnd int64
	offsets   *offsets.Map           // nil until adopted
	record    offsets.PartitionState // what the journal says besides the map: whose it is, its generation, the gap ledger
	dirty     bool                   // something to journal that is not an offset
	rewindTo  int64                  // where the source's log was cut and the next map begins, -1 none
	settled   bool                   // where the map of a new partition begins is decided, after a look at what the target holds
	accepted  bool                   // what the target held before the start is known and accepted
	inherited bool                   // the map begins with what MirrorMaker 2 copied
	endScan   context.CancelFunc     // of a comparison with what MirrorMaker 2 copied that is under way
	started   bool                   // the start of the map is journalled: the partition may be produced to
	fromEpoch int32                  // partition leader epoch of the batch before next (KIP-320), -1 unknown
	doneEpoch int32                  // the same, before acked

	sourceLeader, targetLeader int32 // broker ids, -1 unknown
	sourceLeaderEpoch          int32
	sourceLoop                 sourceLoop // that fetches it
	// As listed when the partition was found: where a new copy begins, and what the target held.
	sourceStart, sourceLast, targetFirst, targetLast int64
	own                                              []match.OwnBatch // during recovery: our batches in the target's tail
	foreign                                          []int64          // during recovery: target offsets of other producers' batches
	sourceGone                                       bool             // the source topic or partition does not exist now
	sourceEnd                                        int64            // end of what may be read there, -1 unknown
	fetching                                         bool
	fetchAfter                                       time.Time // backoff after an error
	beyondSince                                      time.Time // since when the source says that next lies beyond its end

	queue       []prepared
	queuedBytes int64
	inFlight    bool
	scheduled   bool   // stands in a target broker's ready list
	maxBytes    int32  // a batch limit learned from a refusal, 0 unknown
	skipping    bool   // policy skips the batch at next, which the target refused
	refusal     string // the target's last words about it
	refused     int    // times in a row that the target refused the batch at acked as damaged

	// The producer of this partition: the shard's id at the epoch of this partition's last fence. Other partitions of the shard may
	// still use an earlier epoch; each target partition only knows the epochs it has seen.
	producerID    int64
	producerEpoch int16
	sequence      int32

	lastProgress  time.Time
	lastTimestamp int64   // ms, of the last acknowledged record
	meanBytes     float64 // per record, of what was acknowledged lately
}

func (p *partition) String() string { return fmt.Sprintf("%s-%d", p.topic.source, p.number) }

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

// mapStart is the lowest target offset that the map describes.
func (p *partition) mapStart() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, target := p.offsets.Start()
	return target
}

// begin enters recovery with what the journal says, or what is known in memory.
func (p *partition) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == waiting {
		p.state = recovering
	}
}

// replicate leaves recovery: fetch from next on, produce at sequence 0 of the given producer.
func (p *partition) replicate(producerID int64, epoch int16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != recovering {
		return
	}
	p.state, p.anomaly = replicating, nil
	p.producerID, p.producerEpoch, p.sequence = producerID, epoch, 0
	p.resetLocked()
}

// doubt sends a partition back to its shard: what stands in the target's log is not known for sure. Its queue is thrown away and read
// again from the resume point. An answer that arrives later belongs to an earlier generation and is ignored: the fence decides.
func (p *partition) doubt() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.doubtLocked()
}

func (p *partition) doubtLocked() {
	if p.state != halted {
		p.state = waiting
	}
	p.resetLocked()
}

// giveBack undoes begin when a take-over ended before it reached this partition.
func (p *partition) giveBack() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == recovering {
		p.state = waiting
	}
}

// haltLocked stops the reading of this partition and nothing else. What was read before the anomaly is still produced.
func (p *partition) haltLocked(a *anomaly) {
	p.state, p.anomaly = halted, a
}

// resetLocked throws away what was fetched and not acknowledged.
func (p *partition) resetLocked() {
	p.generation++
	for i := range p.queue {
		p.queue[i].slab.release()
	}
	p.shard.flow.pending.Add(-int64(len(p.queue)))
	p.queue, p.queuedBytes, p.inFlight = nil, 0, false
	p.next, p.fromEpoch = p.acked, p.doneEpoch
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

// enqueueLocked adds a batch, or lets the last one carry dropped offsets that follow it.
func (p *partition) enqueueLocked(b prepared) {
	p.queue = append(p.queue, b)
	p.queuedBytes += int64(len(b.batch))
	p.shard.flow.pending.Add(1)
	p.next = b.next
	p.fromEpoch = b.leaderEpoch
}

// dropLocked moves over source offsets that have nothing to copy.
func (p *partition) dropLocked(next int64, leaderEpoch int32) error {
	p.next, p.fromEpoch = next, leaderEpoch
	if n := len(p.queue); n > 0 {
		p.queue[n-1].next, p.queue[n-1].leaderEpoch = next, leaderEpoch
		return nil
	}
	p.acked, p.doneEpoch = next, leaderEpoch
	p.lastProgress = time.Now()
	return p.offsets.Advance(p.acked, p.targetEnd)
}

// ackLocked extends the map by the batch at the head of the queue, which the target put at base.
func (p *partition) ackLocked(base int64, now time.Time) (prepared, error) {
	b := p.queue[0]
	target := base
	for _, run := range b.runs {
		if err := p.offsets.Append(run.Source, target, int64(run.Count)); err != nil {
			return b, err
		}
		target += int64(run.Count)
	}
	p.targetEnd, p.acked, p.doneEpoch = target, b.next, b.leaderEpoch
	if err := p.offsets.Advance(p.acked, p.targetEnd); err != nil {
		return b, err
	}
	p.sequence = int32((int64(p.sequence) + int64(b.count)) & 0x7fffffff) // wraps at 2^31 as the broker's does
	p.queue[0] = prepared{}
	p.queue = p.queue[1:]
	p.queuedBytes -= int64(len(b.batch))
	p.shard.flow.pending.Add(-1)
	p.inFlight, p.refused = false, 0
	p.lastProgress, p.lastTimestamp = now, b.maxTimestamp
	mean := float64(len(b.batch)) / float64(b.count)
	if p.meanBytes == 0 {
		p.meanBytes = mean
	}
	p.meanBytes += (mean - p.meanBytes) / 16
	return b, nil
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

func (p *partition) getState() state {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// hasAnomaly reports whether the partition is halted by an anomaly of a kind.
func (p *partition) hasAnomaly(kind policy.Kind) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.anomaly != nil && p.anomaly.kind == kind
}
