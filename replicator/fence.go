package replicator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
)

// transactionTimeout is how long the coordinator lets our fencing transaction stay open. It is open for milliseconds; a long timeout keeps the
// coordinator from aborting it during a cut between AddPartitionsToTxn and EndTxn, which would bump the epoch behind our back.
const transactionTimeout = 5 * time.Minute

// marker is the abort marker of a fence: what is before a control batch with this producer id and at least this epoch is all there will ever
// be of earlier owners.
type marker struct {
	producerID int64
	epoch      int16 // the marker carries this epoch or, with KIP-890, the next one
}

// fencer makes the writes of earlier owners of a transactional id impossible. It knows a client and the id, no partitions of the flow. It
// belongs to one shard, under the shard's lock.
type fencer struct {
	client          *kgo.Client
	cluster         string // alias
	transactionalID string
	// fenced makes the error that another process has taken over. waiting is told why a request is not answered.
	fenced  func(cause error) error
	waiting func(why string)

	claimed    bool // this process owns the id: producerID and epoch are the newest
	open       bool // a transaction may be open: EndTxn comes before anything else
	producerID int64
	epoch      int16 // as EndTxn returned it
}

// fence makes every earlier write attempt on these partitions impossible: a new epoch from the coordinator, then an abort marker with that
// epoch in each partition. It returns those that could be fenced: a missing topic is left out, unless it is the first of them.
//
// The first fence of a process asks without an id, which fences whoever owned it. Every later one names the id and epoch that it has
// (KIP-360): if another process took over meanwhile the coordinator refuses.
func (f *fencer) fence(ctx context.Context, partitions []offsets.TopicPartition) (marker, []offsets.TopicPartition, error) {
	if f.open {
		if err := f.endTransaction(ctx); err != nil {
			return marker{}, nil, err
		}
	}
	if err := f.initProducer(ctx); err != nil {
		return marker{}, nil, err
	}
	m := marker{producerID: f.producerID, epoch: f.epoch}
	added, err := f.addPartitions(ctx, partitions)
	if err != nil {
		return marker{}, nil, err
	}
	return m, added, f.endTransaction(ctx)
}

func (f *fencer) initProducer(ctx context.Context) error {
	request := kmsg.NewPtrInitProducerIDRequest()
	request.TransactionalID = &f.transactionalID
	request.TransactionTimeoutMillis = int32(transactionTimeout.Milliseconds())
	request.ProducerID, request.ProducerEpoch = -1, -1
	if f.claimed {
		request.ProducerID, request.ProducerEpoch = f.producerID, f.epoch
	}
	return f.coordinator(ctx, "InitProducerId", func(ctx context.Context) (int16, error) {
		response, err := request.RequestWith(ctx, f.client)
		if err != nil {
			return 0, err
		}
		if response.ErrorCode == 0 {
			f.producerID, f.epoch = response.ProducerID, response.ProducerEpoch
		}
		return response.ErrorCode, nil
	})
}

// addPartitions adds partitions to the transaction. The broker answers all or nothing: when one topic is missing, the others get
// OPERATION_NOT_ATTEMPTED and are asked for again without it.
func (f *fencer) addPartitions(ctx context.Context, partitions []offsets.TopicPartition) ([]offsets.TopicPartition, error) {
	f.open = true // also when the answer is lost
	for {
		missing, err := f.tryToAdd(ctx, partitions)
		if err != nil {
			return nil, err
		}
		if len(missing) == 0 {
			return partitions, nil
		}
		if missing[partitions[0]] {
			return nil, fmt.Errorf("journal partition %s is missing on the target: was the journal topic deleted? Nothing is copied without it", partitions[0])
		}
		partitions = slices.DeleteFunc(slices.Clone(partitions), func(tp offsets.TopicPartition) bool { return missing[tp] })
	}
}

func (f *fencer) tryToAdd(ctx context.Context, partitions []offsets.TopicPartition) (missing map[offsets.TopicPartition]bool, err error) {
	request := kmsg.NewPtrAddPartitionsToTxnRequest()
	request.TransactionalID, request.ProducerID, request.ProducerEpoch = f.transactionalID, f.producerID, f.epoch
	byTopic := make(map[string][]int32)
	for _, tp := range partitions {
		byTopic[tp.Topic] = append(byTopic[tp.Topic], tp.Partition)
	}
	for name, numbers := range byTopic {
		t := kmsg.NewAddPartitionsToTxnRequestTopic()
		t.Topic, t.Partitions = name, numbers
		request.Topics = append(request.Topics, t)
	}
	missing = make(map[offsets.TopicPartition]bool)
	return missing, f.coordinator(ctx, "AddPartitionsToTxn", func(ctx context.Context) (int16, error) {
		response, err := request.RequestWith(ctx, f.client)
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
}

// endTransaction aborts, which writes the markers. It is repeated until the answer is certain: KIP-890 makes a repetition safe, and a new
// InitProducerId after a lost answer could not be told from another owner's.
func (f *fencer) endTransaction(ctx context.Context) error {
	request := kmsg.NewPtrEndTxnRequest()
	request.TransactionalID, request.ProducerID, request.ProducerEpoch = f.transactionalID, f.producerID, f.epoch
	err := f.coordinator(ctx, "EndTxn", func(ctx context.Context) (int16, error) {
		response, err := request.RequestWith(ctx, f.client)
		if err != nil {
			return 0, err
		}
		if response.ErrorCode == 0 && response.ProducerID >= 0 && response.ProducerEpoch >= 0 {
			f.producerID, f.epoch = response.ProducerID, response.ProducerEpoch // KIP-890: markers and later writes carry the new epoch
		}
		if response.ErrorCode == kerr.InvalidTxnState.Code {
			return 0, nil // the transaction never got a partition: nothing to end
		}
		return response.ErrorCode, nil
	})
	if err == nil {
		f.open = false
	}
	return err
}

// coordinator sends one coordinator request until it is answered for certain. A lost answer, a moving coordinator and a transaction that is
// still being completed are retried; a fence and missing rights are not.
func (f *fencer) coordinator(ctx context.Context, name string, ask func(context.Context) (int16, error)) error {
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
			return f.fenced(fmt.Errorf("%s: %w", name, err))
		case errors.Is(err, kerr.TransactionalIDAuthorizationFailed):
			return fmt.Errorf("%s for transactional id %q: %w; grant WRITE and DESCRIBE on transactional id %q (prefix milena.) to milena's principal on cluster %s",
				name, f.transactionalID, err, f.transactionalID, f.cluster)
		case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed):
			return fmt.Errorf("%s for transactional id %q: %w; grant WRITE on the target topics and on the flow's journal topic", name, f.transactionalID, err)
		}
		if attempt > 3 {
			f.waiting(fmt.Sprintf("%s on cluster %s: %v", name, f.cluster, err))
		}
		if err := client.Sleep(ctx, coordinatorPause(err, attempt)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
}

// coordinatorPause is how long to wait before the next attempt. CONCURRENT_TRANSACTIONS means that an earlier transaction is still writing
// its markers: milliseconds, or for as long as a partition of it is below min.insync.replicas.
func coordinatorPause(err error, attempt int) time.Duration {
	if errors.Is(err, kerr.ConcurrentTransactions) && attempt < 50 {
		return time.Duration(min(2+attempt, 50)) * time.Millisecond
	}
	return client.Backoff(attempt)
}
