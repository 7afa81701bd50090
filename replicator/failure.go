package replicator

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
)

// outcome is what has to happen after the answer to one partition's batch. Whoever gets one obeys it and never looks at codes.
type outcome uint8

const (
	// acked: written, at the offset of the answer.
	acked outcome = iota
	// refused: certainly not written and nothing is wrong with the batch; send the same again after a pause.
	refused
	// doubtful: perhaps written. Never resend, never skip: the shard is taken over again for this partition.
	doubtful
	// fenced: certainly not written, because the partition has seen a newer epoch: another owner's, or that of a later fence of our own. The
	// take-over finds out, as the coordinator refuses a fence that does not come from the newest owner (KIP-360).
	fenced
	// oversized: certainly not written, because it is too large for the target.
	oversized
	// unacceptable: certainly not written, because of the batch itself.
	unacceptable
	// unplaced: certainly not written, because the topic or partition is not (yet, any more) there.
	unplaced
	// unauthorized: certainly not written, because rights are missing.
	unauthorized
)

func (o outcome) String() string {
	return [...]string{"acked", "refused", "doubtful", "fenced", "oversized", "unacceptable", "unplaced", "unauthorized"}[o]
}

// classifyProduce is the one place that knows the error codes of a produce response.
func classifyProduce(code int16) outcome {
	if code == 0 {
		return acked
	}
	switch {
	case isOneOf(code, kerr.NotEnoughReplicas, kerr.ThrottlingQuotaExceeded, kerr.PolicyViolation):
		return refused
	case isOneOf(code, kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.TransactionalIDAuthorizationFailed):
		return unauthorized
	case isOneOf(code, kerr.InvalidProducerEpoch, kerr.ProducerFenced):
		return fenced
	case isOneOf(code, kerr.MessageTooLarge, kerr.RecordListTooLarge):
		return oversized
	case isOneOf(code, kerr.CorruptMessage, kerr.InvalidRecord, kerr.InvalidTimestamp, kerr.UnsupportedCompressionType, kerr.UnsupportedForMessageFormat):
		return unacceptable
	case isOneOf(code, kerr.UnknownTopicOrPartition, kerr.UnknownTopicID, kerr.InconsistentTopicID):
		return unplaced
	}
	// Everything else, known or not, may stand in the log: REQUEST_TIMED_OUT, NOT_ENOUGH_REPLICAS_AFTER_APPEND, NOT_LEADER_OR_FOLLOWER (the
	// leader may have moved while the append waited for its replicas), OUT_OF_ORDER_SEQUENCE_NUMBER, DUPLICATE_SEQUENCE_NUMBER,
	// UNKNOWN_PRODUCER_ID, KAFKA_STORAGE_ERROR, and UNKNOWN_SERVER_ERROR, which 4.x answers for compressed garbage.
	return doubtful
}

// fetchOutcome is what has to happen after one partition's part of a fetch response.
type fetchOutcome uint8

const (
	fetched fetchOutcome = iota
	// moved: ask for the leader again.
	moved
	// absent: the offset is not in the log: retention, truncation, or only a replica that is behind.
	absent
	// gone: the topic or partition is not there, or another topic has its name.
	gone
	// denied: rights are missing.
	denied
	// later: anything else; ask again after a pause.
	later
)

// classifyFetch is the one place that knows the error codes of a fetch response.
func classifyFetch(code int16) fetchOutcome {
	if code == 0 {
		return fetched
	}
	switch {
	case isOneOf(code, kerr.NotLeaderForPartition, kerr.FencedLeaderEpoch, kerr.UnknownLeaderEpoch, kerr.ReplicaNotAvailable, kerr.LeaderNotAvailable, kerr.KafkaStorageError):
		return moved
	case isOneOf(code, kerr.OffsetOutOfRange):
		return absent
	case isOneOf(code, kerr.UnknownTopicOrPartition, kerr.UnknownTopicID, kerr.InconsistentTopicID):
		return gone
	case isOneOf(code, kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed):
		return denied
	}
	return later
}

func isOneOf(code int16, errs ...*kerr.Error) bool {
	return slices.ContainsFunc(errs, func(e *kerr.Error) bool { return e.Code == code })
}

// codeError is nil for 0 and Kafka's error otherwise.
func codeError(code int16) error { return kerr.ErrorForCode(code) }
