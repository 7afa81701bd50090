package wire

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Outcome is what follows from the answer to one partition's batch. The engine acts on outcomes and never looks at error codes.
type Outcome uint8

const (
	// Acked means that the batch was written, at the offset of the answer.
	Acked Outcome = iota
	// Refused means that the batch was certainly not written and is not at fault: send it again after a pause.
	Refused
	// Doubtful means that the batch may have been written. Never resend and never skip: the partition needs a takeover.
	Doubtful
	// Fenced means that the batch was certainly not written, because the partition has seen a newer epoch: another owner's, or that of a
	// later fence of our own. The takeover tells which, as the coordinator refuses a fence that is not from the newest owner (KIP-360).
	Fenced
	// Oversized means that the batch was certainly not written, because it is too large for the target.
	Oversized
	// Unacceptable means that the batch was certainly not written, because of its content.
	Unacceptable
	// Unplaced means that the batch was certainly not written, because the topic or partition does not exist (yet or any more).
	Unplaced
	// Unauthorized means that the batch was certainly not written, because rights are missing.
	Unauthorized
)

func (o Outcome) String() string {
	return [...]string{"acked", "refused", "doubtful", "fenced", "oversized", "unacceptable", "unplaced", "unauthorized"}[o]
}

// ClassifyProduce is the one place that knows the error codes of a produce response.
func ClassifyProduce(code int16) Outcome {
	if code == 0 {
		return Acked
	}
	switch {
	case isOneOf(code, kerr.NotEnoughReplicas, kerr.ThrottlingQuotaExceeded, kerr.PolicyViolation):
		return Refused
	case isOneOf(code, kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.TransactionalIDAuthorizationFailed):
		return Unauthorized
	case isOneOf(code, kerr.InvalidProducerEpoch, kerr.ProducerFenced):
		return Fenced
	case isOneOf(code, kerr.MessageTooLarge, kerr.RecordListTooLarge):
		return Oversized
	case isOneOf(code, kerr.CorruptMessage, kerr.InvalidRecord, kerr.InvalidTimestamp, kerr.UnsupportedCompressionType, kerr.UnsupportedForMessageFormat):
		return Unacceptable
	case isOneOf(code, kerr.UnknownTopicOrPartition, kerr.UnknownTopicID, kerr.InconsistentTopicID):
		return Unplaced
	}
	// Any other code, known or not, may mean that the batch is in the log: REQUEST_TIMED_OUT, NOT_ENOUGH_REPLICAS_AFTER_APPEND,
	// NOT_LEADER_OR_FOLLOWER (the leader may have moved while the append waited for its replicas), OUT_OF_ORDER_SEQUENCE_NUMBER,
	// DUPLICATE_SEQUENCE_NUMBER, UNKNOWN_PRODUCER_ID, KAFKA_STORAGE_ERROR, and UNKNOWN_SERVER_ERROR, which 4.x answers for compressed garbage.
	return Doubtful
}

// FetchOutcome is what follows from one partition's part of a fetch response.
type FetchOutcome uint8

const (
	// Fetched means that the records may be used.
	Fetched FetchOutcome = iota
	// Moved means that another broker leads the partition now.
	Moved
	// Absent means that the offset is not in the log, because of retention or truncation, or because a new leader is still behind.
	Absent
	// Gone means that the topic or partition does not exist, or that another topic has its name.
	Gone
	// Denied means that rights are missing.
	Denied
	// Later means any other error: fetch again after a pause.
	Later
)

// ClassifyFetch is the one place that knows the error codes of a fetch response.
func ClassifyFetch(code int16) FetchOutcome {
	if code == 0 {
		return Fetched
	}
	switch {
	case isOneOf(code, kerr.NotLeaderForPartition, kerr.FencedLeaderEpoch, kerr.UnknownLeaderEpoch, kerr.ReplicaNotAvailable, kerr.LeaderNotAvailable, kerr.KafkaStorageError):
		return Moved
	case isOneOf(code, kerr.OffsetOutOfRange):
		return Absent
	case isOneOf(code, kerr.UnknownTopicOrPartition, kerr.UnknownTopicID, kerr.InconsistentTopicID):
		return Gone
	case isOneOf(code, kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed):
		return Denied
	}
	return Later
}

func isOneOf(code int16, errs ...*kerr.Error) bool {
	return slices.ContainsFunc(errs, func(e *kerr.Error) bool { return e.Code == code })
}
