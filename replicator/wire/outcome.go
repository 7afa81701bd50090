package wire

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Outcome says what happened to one batch of a produce request. The engine acts on outcomes and never on error codes.
type Outcome uint8

const (
	// Acked means that the batch was written, at the base offset of the response.
	Acked Outcome = iota
	// Refused means that the batch was certainly not written, for a reason that may pass: send it again after a pause.
	Refused
	// Doubtful means that the batch may have been written. Never resend and never skip: the partition needs a takeover.
	Doubtful
	// Fenced means that the batch was certainly not written, because the partition has seen a newer epoch, either of another owner or of a
	// later fence of our own. The takeover finds out which, as the coordinator only lets the newest owner fence again (KIP-360).
	Fenced
	// Oversized means that the batch was certainly not written, because it is too large for the target.
	Oversized
	// Unacceptable means that the batch was certainly not written, because of its content.
	Unacceptable
	// Unplaced means that the batch was certainly not written, because the topic or partition does not exist, or does not exist yet.
	Unplaced
	// Unauthorized means that the batch was certainly not written, because rights are missing.
	Unauthorized
	// Unordered means that the batch was certainly not written, because its sequence is not the next one. That is expected of the batches that follow
	// one that was not written; else the broker knows something about the producer that the client does not, which is a doubt.
	Unordered
)

// IsNotWritten reports whether the batch was certainly not written.
func (o Outcome) IsNotWritten() bool { return o != Acked && o != Doubtful }

// String returns the label of milena_produce_errors_total.
func (o Outcome) String() string {
	return [...]string{"acked", "refused", "doubtful", "fenced", "oversized", "unacceptable", "unplaced", "unauthorized", "unordered"}[o]
}

// ClassifyProduce returns the outcome of an error code of a produce response.
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
	case isOneOf(code, kerr.OutOfOrderSequenceNumber):
		return Unordered
	}
	// After any other code, known or not, the batch may be in the log: REQUEST_TIMED_OUT, NOT_ENOUGH_REPLICAS_AFTER_APPEND,
	// NOT_LEADER_OR_FOLLOWER (the leader may have moved while the append waited for its replicas), DUPLICATE_SEQUENCE_NUMBER, UNKNOWN_PRODUCER_ID,
	// KAFKA_STORAGE_ERROR, and UNKNOWN_SERVER_ERROR, which Kafka 4.x returns for corrupt compressed data.
	return Doubtful
}

// FetchOutcome says what to do after the part of a fetch response about one partition.
type FetchOutcome uint8

const (
	// Fetched means that the records may be used.
	Fetched FetchOutcome = iota
	// Moved means that the broker does not lead the partition (any more), or not with the expected epoch.
	Moved
	// OutOfRange means that the offset is not in the log, because of retention or truncation, or because a new leader is still behind.
	OutOfRange
	// Gone means that the topic or partition does not exist, or that another topic has its name.
	Gone
	// Denied means that rights are missing.
	Denied
	// RetryLater means any other error: fetch again after a pause.
	RetryLater
)

// ClassifyFetch returns the outcome of an error code of a fetch response.
func ClassifyFetch(code int16) FetchOutcome {
	if code == 0 {
		return Fetched
	}
	switch {
	case isOneOf(code, kerr.NotLeaderForPartition, kerr.FencedLeaderEpoch, kerr.UnknownLeaderEpoch, kerr.ReplicaNotAvailable, kerr.LeaderNotAvailable, kerr.KafkaStorageError):
		return Moved
	case isOneOf(code, kerr.OffsetOutOfRange):
		return OutOfRange
	case isOneOf(code, kerr.UnknownTopicOrPartition, kerr.UnknownTopicID, kerr.InconsistentTopicID):
		return Gone
	case isOneOf(code, kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed):
		return Denied
	}
	return RetryLater
}

func isOneOf(code int16, errs ...*kerr.Error) bool {
	return slices.ContainsFunc(errs, func(e *kerr.Error) bool { return e.Code == code })
}
