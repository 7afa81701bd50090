package replicator

import (
	"fmt"
	"sync"

	"github.com/milena-kafka/milena/offsets"
)

// FencedError says that another instance has taken over what this one owned.
type FencedError struct {
	Flow  string
	Shard int32
	By    string // the new owner as the journal names it, empty when unknown
	Cause error
}

func (e *FencedError) Error() string {
	by := "another instance"
	if e.By != "" {
		by = "the instance " + e.By
	}
	return fmt.Sprintf("flow %s: %s has taken over shard %d; this one stops, nothing was written after the take-over (%v)", e.Flow, by, e.Shard, e.Cause)
}

func (e *FencedError) Unwrap() error { return e.Cause }

// shard is the unit of ownership: one transactional id, one journal partition and the topic-partitions that hash to it. Whoever owns it
// is the only writer of all of them.
type shard struct {
	flow      *Flow
	number    int32
	ownership ownership

	// mu serializes fences and journal writes of this shard. It is held over requests, and taken before any partition's lock.
	mu          sync.Mutex
	fencer      fencer
	sequence    int32                                   // of the next journal batch
	producerIDs []int64                                 // all that the shard ever had
	loaded      map[offsets.TopicPartition]*loadedState // from the journal

	partsMu    sync.Mutex
	partitions []*partition
	named      map[offsets.TopicPartition]bool // what the journal has, or may have, a state of
	ours       map[int64]bool                  // producerIDs as a set
	problem    string                          // why the shard is not recovered, for people
}

func newShard(f *Flow, number int32) *shard {
	s := &shard{flow: f, number: number, named: make(map[offsets.TopicPartition]bool)}
	s.fencer = fencer{
		client: f.target, cluster: f.config.Target, transactionalID: fmt.Sprintf("milena.%s.%d", f.config.Name, number),
		fenced:  func(cause error) error { return &FencedError{Flow: f.config.Name, Shard: number, Cause: cause} },
		waiting: func(why string) { s.setProblem(fmt.Sprintf("shard %d: %s", number, why)) },
	}
	return s
}

// loadedState is what the journal says of one partition.
type loadedState struct {
	state  *offsets.PartitionState // nil when only chunks were found
	chunks map[int64]*offsets.Chunk
}

// journal names the shard's partition of the journal topic.
func (s *shard) journal() offsets.TopicPartition {
	return offsets.TopicPartition{Topic: s.flow.journalTopic, Partition: s.number}
}

// noteJournaled notes that the journal has, or may have, something to say of a partition: the next one of that name is not fresh.
func (s *shard) noteJournaled(tp offsets.TopicPartition) {
	s.partsMu.Lock()
	defer s.partsMu.Unlock()
	s.named[tp] = true
}

func (s *shard) isJournaled(tp offsets.TopicPartition) bool {
	s.partsMu.Lock()
	defer s.partsMu.Unlock()
	return s.named[tp]
}

func (s *shard) add(p *partition) {
	s.partsMu.Lock()
	defer s.partsMu.Unlock()
	s.partitions = append(s.partitions, p)
}

// remove retires a partition whose topic exists no longer under its id. Its journal is read again when the next one of that name is restored.
func (s *shard) remove(p *partition) {
	p.retire()
	s.partsMu.Lock()
	defer s.partsMu.Unlock()
	rest := make([]*partition, 0, len(s.partitions))
	for _, q := range s.partitions {
		if q != p {
			rest = append(rest, q)
		}
	}
	s.partitions = rest // a copy: members are read without the lock
	s.named[p.source()] = true
}

func (s *shard) members() []*partition {
	s.partsMu.Lock()
	defer s.partsMu.Unlock()
	return s.partitions[:len(s.partitions):len(s.partitions)]
}

// waiting lists the partitions that a take-over has to fence.
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

// doubtMembers sends every partition of the shard to the next take-over, so that all get the same epoch. Kafka knows epochs per partition,
// but some other brokers know one per producer: there a fence for one partition would fence the others, and so on for ever.
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
