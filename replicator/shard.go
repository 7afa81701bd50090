package replicator

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/topics"
)

// FencedError means that another instance has taken over a shard that this one owned.
type FencedError struct {
	Flow  string
	Shard int32
	By    string // the new owner, from the journal
	Cause error
}

func (e *FencedError) Error() string {
	return fmt.Sprintf("flow %s: the instance %s has taken over shard %d; this instance stops and wrote nothing after the takeover (%v)", e.Flow, e.By, e.Shard, e.Cause)
}

func (e *FencedError) Unwrap() error { return e.Cause }

// shard is the unit of ownership: a transactional id, a partition of the journal topic, and the topic-partitions that hash to it. Its owner
// is the only process that writes to them.
type shard struct {
	flow      *Flow
	number    int32
	ownership ownership
	tasks     *tasks
	released  atomic.Bool  // nothing of it is sent any more
	failures  atomic.Int32 // recoveries in a row that failed

	// mu serializes fences and journal writes of this shard. It is held during requests, and is taken before any partition's lock.
	mu           sync.Mutex
	fencer       fencer
	sequence     int32          // of the next journal batch
	journalLimit int            // maximum bytes of a journal batch, lowered when the topic refuses it
	journalFails bool           // the last write failed
	producerIDs  []int64        // all producer ids that the shard ever had
	claim        *offsets.Claim // the newest one, see claim.go; nil if there never was one
	before       *offsets.Owner // the newest owner record when the journal was read, nil if there was none
	ownerAt      time.Time      // when an owner record was last added
	horizon      horizonState
	journalTime  time.Time // when an earlier process last wrote the journal, zero before it is loaded

	rest   atomic.Pointer[string] // the id of what the shard came to rest under, as the journal has it; see pair
	rested bool                   // this value has come to rest, so it does not copy again; guarded by the lock of pauses
	copies atomic.Bool            // of a half of a pair: it may copy
	waits  atomic.Bool            // its takeover found that it may not copy yet

	pruning pruning
	load    shardLoad

	producer atomic.Int64 // the producer id of the newest fence

	partsMu    sync.Mutex
	partitions []*partition
	changed    []*partition                              // those that may have something to journal
	inJournal  map[offsets.TopicPartition]bool           // partitions that the journal has, or may have, entries of
	fetched    map[offsets.TopicPartition]time.Time      // when this process last fetched partitions that it takes over again
	left       map[offsets.TopicPartition]offsets.Behind // what partitions lacked when they were removed
	ownIDs     []int64                                   // producerIDs
	rereads    bool                                      // the next takeover reads the journal, because the source lacks a partition that it has
	problem    string                                    // why the shard is not recovered, for the status
}

func newShard(f *Flow, number int32) *shard {
	s := &shard{
		flow: f, number: number, inJournal: make(map[offsets.TopicPartition]bool), fetched: make(map[offsets.TopicPartition]time.Time),
		left: make(map[offsets.TopicPartition]offsets.Behind), journalLimit: journalBatchBytes,
	}
	s.tasks = newTasks(f.fail)
	s.fencer = fencer{
		client: f.target, cluster: f.config.Target, transactionalID: fmt.Sprintf("milena.%s.%d", f.config.Name, number), journal: f.journalTopic,
		waiting: s.reportWait, timeout: transactionTimeout,
	}
	return s
}

// reportWait reports why a request to the transaction coordinator is still retried, with the broker config that is the cause, if one is.
func (s *shard) reportWait(ctx context.Context, name string, err error) {
	err = fmt.Errorf("%s on cluster %s: %w", name, s.flow.config.Target, err)
	if cause := topics.ExplainTransactions(ctx, s.flow.target, s.flow.config.Target, err); cause != nil {
		err = fmt.Errorf("%w (%w)", cause, err)
	}
	s.setProblem(fmt.Sprintf("shard %d: %v", s.number, err))
	s.flow.warn("waiting for a transaction coordinator", "err", err)
}

// journal returns the shard's partition of the journal topic.
func (s *shard) journal() offsets.TopicPartition {
	return offsets.TopicPartition{Topic: s.flow.journalTopic, Partition: s.number}
}

// markInJournal records that the journal has, or may have, entries of a partition. Then no partition of that name is fresh.
func (s *shard) markInJournal(tp offsets.TopicPartition) {
	s.partsMu.Lock()
	defer s.partsMu.Unlock()
	s.inJournal[tp] = true
}

// isInJournal reports whether the journal has, or may have, entries of a partition.
func (s *shard) isInJournal(tp offsets.TopicPartition) bool {
	s.partsMu.Lock()
	defer s.partsMu.Unlock()
	return s.inJournal[tp]
}

// journaled returns the partitions that the journal has, or may have, entries of.
func (s *shard) journaled() []offsets.TopicPartition {
	s.partsMu.Lock()
	defer s.partsMu.Unlock()
	return slices.Collect(maps.Keys(s.inJournal))
}

func (s *shard) add(p *partition) {
	s.partsMu.Lock()
	defer s.partsMu.Unlock()
	s.partitions = append(s.partitions, p)
}

// remove retires a partition whose topic no longer exists under its id. The journal is read again when the next partition of that name is
// restored.
func (s *shard) remove(p *partition) {
	p.retire()
	b, _ := p.behind()
	restored := p.isRestored()
	p.mu.Lock()
	fetched := p.fetchedAt
	if p.next < p.holesUntil {
		fetched = time.UnixMilli(1) // the watch for holes goes on
	}
	p.mu.Unlock()
	s.partsMu.Lock()
	defer s.partsMu.Unlock()
	s.fetched[p.source()] = fetched
	if restored {
		s.left[p.source()] = b
	}
	rest := make([]*partition, 0, len(s.partitions))
	for _, q := range s.partitions {
		if q != p {
			rest = append(rest, q)
		}
	}
	s.partitions = rest // a new slice, because members returns the old one to readers without the lock
	s.inJournal[p.source()] = true
}

// lastFetch returns when this process last fetched a partition of that name that it has removed, the zero time if it did not.
func (s *shard) lastFetch(tp offsets.TopicPartition) time.Time {
	s.partsMu.Lock()
	defer s.partsMu.Unlock()
	return s.fetched[tp]
}

// rereadShrunk lets the next takeover read the journal if it has partitions of a topic from a number on: the source does not have them any more.
func (s *shard) rereadShrunk(topic string, from int32) (wanted bool) {
	s.partsMu.Lock()
	defer s.partsMu.Unlock()
	for tp := range s.inJournal {
		wanted = wanted || tp.Topic == topic && tp.Partition >= from
	}
	s.rereads = s.rereads || wanted
	return wanted
}

// isReread reports whether the next takeover must read the journal for the sake of partitions that the source lacks.
func (s *shard) isReread() bool {
	s.partsMu.Lock()
	defer s.partsMu.Unlock()
	return s.rereads
}

// noteReread records that the journal was read.
func (s *shard) noteReread() {
	s.partsMu.Lock()
	defer s.partsMu.Unlock()
	s.rereads = false
}

// members returns all partitions of the shard.
func (s *shard) members() []*partition {
	s.partsMu.Lock()
	defer s.partsMu.Unlock()
	return s.partitions[:len(s.partitions):len(s.partitions)]
}

// noteChanged records that a partition may have something to journal. The partition's lock is held.
func (s *shard) noteChanged(p *partition) {
	s.partsMu.Lock()
	defer s.partsMu.Unlock()
	s.changed = append(s.changed, p)
}

// takeChanged returns the partitions that may have something to journal, each once. Whoever takes them writes them, and notes those again of
// which something is left.
func (s *shard) takeChanged() []*partition {
	s.partsMu.Lock()
	defer s.partsMu.Unlock()
	changed := s.changed
	s.changed = nil
	return changed
}

// waiting returns the partitions that wait for a takeover.
func (s *shard) waiting() []*partition {
	var list []*partition
	for _, p := range s.members() {
		p.mu.Lock()
		if p.state == waiting {
			list = append(list, p)
		}
		p.mu.Unlock()
	}
	return list
}

// fenceLocked fences partitions of the shard, the first of which is the journal's. A fence with one producer id does not stop writes with
// another, neither those of an earlier owner nor our own in flight. So an id whose epochs run out is replaced while it can still fence: after a
// fence of all members, which wait, and before another one with the new id. If the coordinator assigns a new id on its own, because it has
// forgotten the transactional id, all members are fenced with it before any of them writes again. The shard's lock is held.
func (s *shard) fenceLocked(ctx context.Context, partitions []offsets.TopicPartition) (marker, map[offsets.TopicPartition]error, error) {
	before := s.fencer.producerID
	mark, outside, err := s.fencer.fence(ctx, partitions)
	if err == nil && s.fencer.isNearlyExhausted() {
		if err = s.fencer.replaceProducer(ctx, s.journal()); err == nil {
			s.flow.log.Info("replaced a producer id whose epochs ran out", "shard", s.number, "producer_id", s.fencer.producerID)
			mark, outside, err = s.fencer.fence(ctx, partitions)
		}
	}
	s.noteProducer(before)
	return mark, outside, err
}

// fenceJournalLocked fences the journal before it is said which partitions are to be fenced too. So it replaces no producer id: an earlier owner may still
// write partitions with that. The shard's lock is held.
func (s *shard) fenceJournalLocked(ctx context.Context, partitions []offsets.TopicPartition) (marker, map[offsets.TopicPartition]error, error) {
	before := s.fencer.producerID
	mark, outside, err := s.fencer.fence(ctx, partitions)
	s.noteProducer(before)
	return mark, outside, err
}

// noteProducer lets all members wait for another takeover if the producer id is a new one. The shard's lock is held.
func (s *shard) noteProducer(before int64) {
	s.producer.Store(s.fencer.producerID)
	if s.ownership.isOwned() && s.fencer.producerID != before {
		s.doubtMembers() // a partition that a takeover is about to start notices it there
		s.flow.requestTakeover(s)
	}
}

// doubtMembers lets every partition of the shard wait for the next takeover, so that all get the same epoch. Kafka keeps the producer epoch
// per partition, but some other brokers keep one per producer. There, a fence of one partition would fence the others, which would then be
// fenced again, and so on forever.
func (s *shard) doubtMembers() {
	for _, p := range s.members() {
		p.mu.Lock()
		if p.state == replicating {
			p.doubtLocked()
		}
		p.mu.Unlock()
	}
}

func (s *shard) setProblem(text string) {
	s.partsMu.Lock()
	defer s.partsMu.Unlock()
	s.problem = text
}

func (s *shard) getProblem() string {
	s.partsMu.Lock()
	defer s.partsMu.Unlock()
	return s.problem
}
