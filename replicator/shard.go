package replicator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
)

// transactionTimeout is how long the coordinator lets our fencing transaction stay open. It is open for milliseconds; a long timeout
// keeps the coordinator from aborting it during a cut between AddPartitionsToTxn and EndTxn, which would bump the epoch behind our back.
const transactionTimeout = 5 * time.Minute

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
	flow            *Flow
	number          int32
	transactionalID string

	// mu serializes fences and journal writes of this shard; it is held over requests, and taken before any partition's lock.
	mu          sync.Mutex
	owned       bool // fenced and journal read at least once
	open        bool // a fencing transaction may be open: EndTxn comes before anything else
	inDoubt     bool // a journal write has an unknown result: the next take-over fences the journal partition too
	producerID  int64
	epoch       int16 // the newest, as EndTxn returned it
	sequence    int32 // of the next journal batch
	producerIDs []int64
	loaded      map[offsets.TopicPartition]*loadedState // from the journal, until the partition is adopted

	known     atomic.Bool // owned, to be read without mu
	requested atomic.Bool // a take-over is asked for and not begun

	namedMu sync.Mutex
	named   map[offsets.TopicPartition]bool // what the journal has a state of

	partsMu    sync.Mutex
	partitions []*partition
	ours       map[int64]bool // producerIDs as a set
	problem    string         // why the shard is not recovered, for people
}

// loadedState is what the journal says of one partition.
type loadedState struct {
	state  *offsets.PartitionState // nil when only chunks were found
	chunks map[int64]*offsets.Chunk
}

// fence is the result of fencing: batches of the shard's producer that stand before a control batch with this id and at least this
// epoch are all there will ever be of earlier owners.
type fence struct {
	producerID  int64
	markerEpoch int16 // the marker carries this epoch or, with KIP-890, the next one
}

// journal names the shard's partition of the journal topic.
func (s *shard) journal() offsets.TopicPartition {
	return offsets.TopicPartition{Topic: s.flow.journalTopic, Partition: s.number}
}

// hasOwner says whether this process owns the shard.
func (s *shard) hasOwner() bool { return s.known.Load() }

// journalled notes that the journal has, or may have, something to say of a partition: the next one of that name is not fresh.
func (s *shard) journalled(tp offsets.TopicPartition) {
	s.namedMu.Lock()
	defer s.namedMu.Unlock()
	if s.named == nil {
		s.named = make(map[offsets.TopicPartition]bool)
	}
	s.named[tp] = true
}

func (s *shard) isJournalled(tp offsets.TopicPartition) bool {
	s.namedMu.Lock()
	defer s.namedMu.Unlock()
	return s.named[tp]
}

func (s *shard) add(p *partition) {
	s.partsMu.Lock()
	defer s.partsMu.Unlock()
	s.partitions = append(s.partitions, p)
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

// fenceLocked makes every earlier write attempt on the given target partitions and on the journal partition impossible: a new epoch
// from the coordinator, then an abort marker with that epoch in each partition. It returns the partitions that could be fenced: a
// missing topic is left out. The shard's lock is held.
//
// The first fence of a process asks without an id, which fences whoever owned the shard. Every later one names the id and epoch it has
// (KIP-360): if somebody else took over meanwhile the coordinator refuses, and this process stops.
func (s *shard) fenceLocked(ctx context.Context, parts []*partition) (fence, []*partition, error) {
	if s.open {
		if err := s.endTransaction(ctx); err != nil {
			return fence{}, nil, err
		}
	}
	if err := s.initProducer(ctx); err != nil {
		return fence{}, nil, err
	}
	f := fence{producerID: s.producerID, markerEpoch: s.epoch}
	fenced, err := s.addPartitions(ctx, parts)
	if err != nil {
		return fence{}, nil, err
	}
	if err := s.endTransaction(ctx); err != nil {
		return fence{}, nil, err
	}
	s.sequence, s.inDoubt = 0, false
	return f, fenced, nil
}

func (s *shard) initProducer(ctx context.Context) error {
	request := kmsg.NewPtrInitProducerIDRequest()
	request.TransactionalID = &s.transactionalID
	request.TransactionTimeoutMillis = int32(transactionTimeout.Milliseconds())
	request.ProducerID, request.ProducerEpoch = -1, -1
	if s.owned {
		request.ProducerID, request.ProducerEpoch = s.producerID, s.epoch
	}
	return s.coordinator(ctx, "InitProducerId", func(ctx context.Context) (int16, error) {
		response, err := request.RequestWith(ctx, s.flow.target)
		if err != nil {
			return 0, err
		}
		if response.ErrorCode == 0 {
			s.producerID, s.epoch = response.ProducerID, response.ProducerEpoch
		}
		return response.ErrorCode, nil
	})
}

// addPartitions adds the journal partition and the targets of parts to the transaction. The broker answers all or nothing: when one
// topic is missing, the others get OPERATION_NOT_ATTEMPTED and are asked for again without it.
func (s *shard) addPartitions(ctx context.Context, parts []*partition) ([]*partition, error) {
	s.open = true // also when the answer is lost
	for {
		request := s.addPartitionsRequest(parts)
		missing := make(map[offsets.TopicPartition]bool)
		err := s.coordinator(ctx, "AddPartitionsToTxn", func(ctx context.Context) (int16, error) {
			response, err := request.RequestWith(ctx, s.flow.target)
			if err != nil {
				return 0, err
			}
			code := response.ErrorCode
			for _, t := range response.Topics {
				for _, p := range t.Partitions {
					switch p.ErrorCode {
					case 0, kerr.OperationNotAttempted.Code:
					case kerr.UnknownTopicOrPartition.Code:
						missing[offsets.TopicPartition{Topic: t.Topic, Partition: p.Partition}] = true
					default:
						code = p.ErrorCode
					}
				}
			}
			return code, nil
		})
		if err != nil {
			return nil, err
		}
		if len(missing) == 0 {
			return parts, nil
		}
		if missing[s.journal()] {
			return nil, fmt.Errorf("journal partition %s is missing on the target: was the journal topic deleted? Nothing is copied without it", s.journal())
		}
		var rest []*partition
		for _, p := range parts {
			if !missing[p.remote()] {
				rest = append(rest, p)
			}
		}
		parts = rest
	}
}

func (s *shard) addPartitionsRequest(parts []*partition) *kmsg.AddPartitionsToTxnRequest {
	byTopic := map[string][]int32{s.flow.journalTopic: {s.number}}
	for _, p := range parts {
		byTopic[p.topic.target] = append(byTopic[p.topic.target], p.number)
	}
	request := kmsg.NewPtrAddPartitionsToTxnRequest()
	request.TransactionalID, request.ProducerID, request.ProducerEpoch = s.transactionalID, s.producerID, s.epoch
	for name, numbers := range byTopic {
		t := kmsg.NewAddPartitionsToTxnRequestTopic()
		t.Topic, t.Partitions = name, numbers
		request.Topics = append(request.Topics, t)
	}
	return request
}

// endTransaction aborts, which writes the markers. It is repeated until the answer is certain: KIP-890 makes a repetition safe, and a
// new InitProducerId after a lost answer could not be told from another owner's.
func (s *shard) endTransaction(ctx context.Context) error {
	request := kmsg.NewPtrEndTxnRequest()
	request.TransactionalID, request.ProducerID, request.ProducerEpoch = s.transactionalID, s.producerID, s.epoch
	err := s.coordinator(ctx, "EndTxn", func(ctx context.Context) (int16, error) {
		response, err := request.RequestWith(ctx, s.flow.target)
		if err != nil {
			return 0, err
		}
		if response.ErrorCode == 0 && response.ProducerID >= 0 && response.ProducerEpoch >= 0 {
			s.producerID, s.epoch = response.ProducerID, response.ProducerEpoch // KIP-890: markers and later writes carry the new epoch
		}
		if response.ErrorCode == kerr.InvalidTxnState.Code {
			return 0, nil // the transaction never got a partition: nothing to end
		}
		return response.ErrorCode, nil
	})
	if err == nil {
		s.open = false
	}
	return err
}

// coordinator runs one coordinator request until it is answered for certain. A lost answer, a moving coordinator and a transaction that
// is still being completed are asked again; a fence and missing rights are not.
func (s *shard) coordinator(ctx context.Context, name string, ask func(context.Context) (int16, error)) error {
	for attempt := 0; ; attempt++ {
		code, err := ask(ctx)
		if err == nil {
			if code == 0 {
				return nil
			}
			err = kerr.ErrorForCode(code)
		}
		switch {
		case errors.Is(err, kerr.ProducerFenced), errors.Is(err, kerr.InvalidProducerEpoch), errors.Is(err, kerr.InvalidProducerIDMapping):
			return &FencedError{Flow: s.flow.name, Shard: s.number, Cause: fmt.Errorf("%s: %w", name, err)}
		case errors.Is(err, kerr.TransactionalIDAuthorizationFailed):
			return fmt.Errorf("%s for transactional id %q: %w; grant WRITE and DESCRIBE on transactional id %q (prefix milena.) to milena's principal on cluster %s",
				name, s.transactionalID, err, s.transactionalID, s.flow.targetAlias)
		case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed):
			return fmt.Errorf("%s for transactional id %q: %w; grant WRITE on the target topics and on %s", name, s.transactionalID, err, s.flow.journalTopic)
		}
		// CONCURRENT_TRANSACTIONS means that an earlier transaction is still writing its markers: milliseconds, or for as long as a
		// partition of it is below min.insync.replicas.
		if attempt > 3 {
			s.setProblem(fmt.Sprintf("shard %d: %s on cluster %s: %v", s.number, name, s.flow.targetAlias, err))
		}
		if errors.Is(err, kerr.ConcurrentTransactions) && attempt < 50 {
			err = client.Sleep(ctx, time.Duration(min(2+attempt, 50))*time.Millisecond)
		} else {
			err = client.Sleep(ctx, client.Backoff(attempt))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
}
