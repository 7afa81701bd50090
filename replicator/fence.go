package replicator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
)

// transactionTimeout is how long the coordinator keeps the transaction of a fence open. Normally it is open for milliseconds. If the
// network fails between AddPartitionsToTxn and EndTxn, a short timeout would let the coordinator abort it, which bumps the epoch without
// our knowing. A cluster may allow less (transaction.max.timeout.ms).
const transactionTimeout = 5 * time.Minute

// quietWait is how long a coordinator may be unavailable before that is reported: as long as it takes to create the transaction log.
const quietWait = 5 * time.Second

// errEpochTaken means that the coordinator knows a newer epoch of the transactional id. Another process may have taken over. Or the coordinator has
// raised the epoch itself: because it aborted the transaction of a fence that was open for too long, or for a request whose answer was lost. It
// accepts a repetition of that request only as long as it does not move: the previous epoch (KIP-360) is not in the transaction log. The journal
// says which it is.
var errEpochTaken = errors.New("the transactional id has a newer epoch")

// errFenceWaits means that the coordinator does not complete a request. The reason is reported.
var errFenceWaits = errors.New("the fence is not completed yet")

// marker is the abort marker of a fence, a control batch with this producer id and at least this epoch. Earlier owners cannot write behind
// it, so everything that they wrote is before it.
type marker struct {
	producerID int64
	epoch      int16 // the marker carries this epoch or, with KIP-890, the next one
}

// fencer fences earlier owners of a transactional id. It knows a client and the id, but not the partitions of the flow. It belongs to one
// shard, whose lock is held when its methods are called.
type fencer struct {
	client          *kgo.Client
	cluster         string // alias
	transactionalID string
	journal         string // name of the topic that every fence includes, for an error
	// waiting receives the reason why a request is still retried.
	waiting func(ctx context.Context, name string, err error)

	claimed    bool // this process owns the id: producerID and epoch are the newest
	open       bool // a transaction may be open, so EndTxn must be sent before anything else
	producerID int64
	epoch      int16 // as EndTxn returned it

	timeout time.Duration // of a transaction; transactionTimeout, or what the coordinator allows
}

// fence makes these partitions reject all writes of earlier owners: it gets a new epoch from the coordinator, then lets it write an abort
// marker with that epoch into each partition. It returns why some could not be fenced. The first partition, which is that of the journal, is
// always fenced.
//
// The first fence of a process names no producer id and fences any owner. Every later one names the current producer id and epoch (KIP-360),
// so the coordinator refuses it if another process has taken over in the meantime.
//
// A fence that is cut in the middle leaves this process with an old epoch, so that the last journal write of a stop is refused. So it goes on for
// fenceGrace after ctx ended.
func (f *fencer) fence(ctx context.Context, partitions []offsets.TopicPartition) (marker, map[offsets.TopicPartition]error, error) {
	if err := ctx.Err(); err != nil {
		return marker{}, nil, err
	}
	ctx, cancel := client.Linger(ctx, fenceGrace)
	defer cancel()
	if f.open {
		if err := f.endTransaction(ctx); err != nil {
			return marker{}, nil, err
		}
	}
	if err := f.initProducer(ctx); err != nil {
		return marker{}, nil, err
	}
	m := marker{producerID: f.producerID, epoch: f.epoch}
	outside, err := f.addPartitions(ctx, partitions)
	if err != nil {
		return marker{}, nil, err
	}
	return m, outside, f.endTransaction(ctx)
}

// fenceGrace is much longer than a fence takes if all brokers answer.
const fenceGrace = time.Second

// reservedEpochs is how many epochs of a producer id are left when it is replaced. A fence takes at most two.
const reservedEpochs = 8

// isNearlyExhausted reports whether the producer id should be replaced, before the coordinator does so in the middle of a fence.
func (f *fencer) isNearlyExhausted() bool {
	return f.claimed && f.epoch >= math.MaxInt16-reservedEpochs
}

// replaceProducer uses up the epochs of a producer id, so that the coordinator assigns a new one. The partition is that of the journal.
func (f *fencer) replaceProducer(ctx context.Context, partition offsets.TopicPartition) error {
	for used := f.producerID; f.producerID == used; {
		if _, _, err := f.fence(ctx, []offsets.TopicPartition{partition}); err != nil {
			return err
		}
	}
	return nil
}

// initProducer gets the producer id and a new epoch from the coordinator.
func (f *fencer) initProducer(ctx context.Context) error {
	request := kmsg.NewPtrInitProducerIDRequest()
	request.TransactionalID = &f.transactionalID
	request.ProducerID, request.ProducerEpoch = -1, -1
	if f.claimed {
		request.ProducerID, request.ProducerEpoch = f.producerID, f.epoch
	}
	return f.coordinator(ctx, "InitProducerId", func(ctx context.Context) (int16, error) {
		request.TransactionTimeoutMillis = int32(f.timeout.Milliseconds())
		response, err := request.RequestWith(ctx, f.client)
		if err != nil {
			return 0, err
		}
		switch {
		case response.ErrorCode == 0:
			f.producerID, f.epoch = response.ProducerID, response.ProducerEpoch
		case response.ErrorCode == kerr.InvalidTransactionTimeout.Code && f.timeout > time.Second:
			f.timeout /= 2 // transaction.max.timeout.ms is lower, and only a broker's configs say what it is
		}
		return response.ErrorCode, nil
	})
}

// addPartitions adds partitions to the transaction. It returns why some could not be added. The coordinator adds all or none: if it refuses
// some, the others get OPERATION_NOT_ATTEMPTED and are added in another request without those.
func (f *fencer) addPartitions(ctx context.Context, partitions []offsets.TopicPartition) (map[offsets.TopicPartition]error, error) {
	f.open = true // even if the response is lost
	outside := make(map[offsets.TopicPartition]error)
	for {
		refused, err := f.tryToAdd(ctx, partitions)
		if err != nil {
			return nil, err
		}
		if len(refused) == 0 {
			return outside, nil
		}
		if err := refused[partitions[0]]; err != nil {
			return nil, fmt.Errorf("journal partition %s cannot be fenced: was the journal topic deleted? Nothing is copied without it: %w", partitions[0], err)
		}
		maps.Copy(outside, refused)
		partitions = slices.DeleteFunc(slices.Clone(partitions), func(tp offsets.TopicPartition) bool { return refused[tp] != nil })
	}
}

// tryToAdd sends one AddPartitionsToTxn request. It returns the partitions that were refused; if there are any, none was added.
func (f *fencer) tryToAdd(ctx context.Context, partitions []offsets.TopicPartition) (refused map[offsets.TopicPartition]error, err error) {
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
	refused = make(map[offsets.TopicPartition]error)
	return refused, f.coordinator(ctx, "AddPartitionsToTxn", func(ctx context.Context) (int16, error) {
		response, err := request.RequestWith(ctx, f.client)
		if err != nil {
			return 0, err
		}
		clear(refused)
		code := response.ErrorCode
		for _, t := range response.Topics {
			for _, p := range t.Partitions {
				tp := offsets.TopicPartition{Topic: t.Topic, Partition: p.Partition}
				switch p.ErrorCode {
				case 0, kerr.OperationNotAttempted.Code:
				case kerr.UnknownTopicOrPartition.Code:
					refused[tp] = fmt.Errorf("%s does not exist on cluster %s", tp, f.cluster)
				case kerr.TopicAuthorizationFailed.Code:
					refused[tp] = fmt.Errorf("fence %s: %w; grant WRITE on topic %s of cluster %s", tp, kerr.TopicAuthorizationFailed, tp.Topic, f.cluster)
				default:
					code = p.ErrorCode
				}
			}
		}
		return code, nil
	})
}

// endTransaction aborts the transaction, which writes the markers. It retries until the result is certain: KIP-890 makes a retry safe,
// whereas a new InitProducerId after a lost response could not be distinguished from that of another owner.
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
			return 0, nil // no partition was added, so there is no transaction to end
		}
		return response.ErrorCode, nil
	})
	if err == nil {
		f.open = false
	}
	return err
}

// FencePatience is how long one request about a transaction is retried before the fence fails, and another one begins after a pause. The
// transaction stays open until then, so nothing is lost. Without an end, a transaction that cannot be completed would hold up what waits for
// the shard.
const (
	fencePatience = 20 * time.Second
	// CompletionPatience is the same for the completion of an earlier transaction. That takes milliseconds, or as long as one of its
	// partitions is offline or below min.insync.replicas.
	completionPatience = 2 * time.Second
)

// coordinator sends a request to the transaction coordinator until the result is certain. It retries after a lost response, while the
// coordinator moves, and while an earlier transaction is still being completed. It does not retry after a fence or without the rights.
func (f *fencer) coordinator(ctx context.Context, name string, send func(context.Context) (int16, error)) error {
	began := time.Now()
	for attempt := 0; ; attempt++ {
		code, err := send(ctx)
		if err == nil {
			if code == 0 {
				return nil
			}
			err = kerr.ErrorForCode(code)
		}
		switch {
		case isFencing(err):
			return fmt.Errorf("%w: %s: %w", errEpochTaken, name, err)
		case errors.Is(err, kerr.TransactionalIDAuthorizationFailed):
			return fmt.Errorf("%s for transactional id %q: %w; grant WRITE and DESCRIBE on transactional id %q (prefix milena.) to milena's principal on cluster %s",
				name, f.transactionalID, err, f.transactionalID, f.cluster)
		case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed):
			return fmt.Errorf("%s for transactional id %q: %w; grant WRITE on the target topics and on %s", name, f.transactionalID, err, f.journal)
		}
		patience := fencePatience
		if errors.Is(err, kerr.ConcurrentTransactions) {
			patience = completionPatience
			err = fmt.Errorf("%w: an earlier fence is not completed, because one of its partitions is offline or below min.insync.replicas", err)
		}
		if time.Since(began) > patience {
			f.waiting(ctx, name, err)
			return fmt.Errorf("%w: %s on cluster %s: %w", errFenceWaits, name, f.cluster, err)
		}
		if time.Since(began) > quietWait {
			f.waiting(ctx, name, err)
		}
		if err := client.Sleep(ctx, coordinatorPause(err, attempt)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
}

// isFencing reports whether the coordinator knows a newer owner of the transactional id.
func isFencing(err error) bool {
	return errors.Is(err, kerr.ProducerFenced) || errors.Is(err, kerr.InvalidProducerEpoch) || errors.Is(err, kerr.InvalidProducerIDMapping)
}

// disown lets the next fence name no producer id, as the first fence of a process.
func (f *fencer) disown() {
	f.claimed, f.open = false, false
}

// coordinatorPause is how long to wait before the next attempt. CONCURRENT_TRANSACTIONS means that the markers of an earlier transaction are
// still being written, which takes milliseconds, or as long as one of its partitions is below min.insync.replicas.
func coordinatorPause(err error, attempt int) time.Duration {
	if errors.Is(err, kerr.ConcurrentTransactions) && attempt < 50 {
		return time.Duration(min(2+attempt, 50)) * time.Millisecond
	}
	return client.Backoff(attempt)
}
