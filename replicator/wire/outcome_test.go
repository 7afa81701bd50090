package wire_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/milena-kafka/milena/replicator/wire"
)

func TestClassifyProduce(t *testing.T) {
	tests := map[wire.Outcome][]*kerr.Error{
		wire.Refused:      {kerr.NotEnoughReplicas, kerr.ThrottlingQuotaExceeded, kerr.PolicyViolation},
		wire.Unauthorized: {kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.TransactionalIDAuthorizationFailed},
		wire.Fenced:       {kerr.InvalidProducerEpoch, kerr.ProducerFenced},
		wire.Oversized:    {kerr.MessageTooLarge, kerr.RecordListTooLarge},
		wire.Unacceptable: {kerr.CorruptMessage, kerr.InvalidRecord, kerr.InvalidTimestamp, kerr.UnsupportedCompressionType, kerr.UnsupportedForMessageFormat},
		wire.Unplaced:     {kerr.UnknownTopicOrPartition, kerr.UnknownTopicID, kerr.InconsistentTopicID},
		wire.Unordered:    {kerr.OutOfOrderSequenceNumber},
		wire.Doubtful: {
			kerr.RequestTimedOut, kerr.NotEnoughReplicasAfterAppend, kerr.NotLeaderForPartition, kerr.LeaderNotAvailable, kerr.FencedLeaderEpoch,
			kerr.DuplicateSequenceNumber, kerr.UnknownProducerID, kerr.InvalidProducerIDMapping, kerr.InvalidTxnState,
			kerr.ConcurrentTransactions, kerr.KafkaStorageError, kerr.UnknownServerError, kerr.NetworkException, kerr.BrokerNotAvailable,
		},
	}
	for want, errs := range tests {
		for _, e := range errs {
			if got := wire.ClassifyProduce(e.Code); got != want {
				t.Errorf("%s is %v, want %v", e.Message, got, want)
			}
		}
	}
	if got := wire.ClassifyProduce(0); got != wire.Acked {
		t.Errorf("no error is %v", got)
	}
	for _, code := range []int16{-2, 999, 32767} {
		if got := wire.ClassifyProduce(code); got != wire.Doubtful {
			t.Errorf("the unknown code %d is %v, want doubtful", code, got)
		}
	}
}

// A batch may be sent again only after a code that proves that nothing was written.
func TestUnlistedProduceCodesAreDoubtful(t *testing.T) {
	certain := 0
	for code := int16(-1); code < 500; code++ {
		if o := wire.ClassifyProduce(code); o != wire.Doubtful {
			certain++
		}
	}
	if certain != 20 {
		t.Errorf("%d codes are not doubtful, want 20: no error and the 19 of TestClassifyProduce", certain)
	}
}

func TestClassifyFetch(t *testing.T) {
	tests := map[wire.FetchOutcome][]*kerr.Error{
		wire.Moved:      {kerr.NotLeaderForPartition, kerr.FencedLeaderEpoch, kerr.UnknownLeaderEpoch, kerr.ReplicaNotAvailable, kerr.LeaderNotAvailable, kerr.KafkaStorageError},
		wire.OutOfRange: {kerr.OffsetOutOfRange},
		wire.Gone:       {kerr.UnknownTopicOrPartition, kerr.UnknownTopicID, kerr.InconsistentTopicID},
		wire.Denied:     {kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed},
		wire.RetryLater: {kerr.UnknownServerError, kerr.OffsetNotAvailable, kerr.RequestTimedOut, kerr.FetchSessionIDNotFound, kerr.ThrottlingQuotaExceeded, kerr.CorruptMessage},
	}
	for want, errs := range tests {
		for _, e := range errs {
			if got := wire.ClassifyFetch(e.Code); got != want {
				t.Errorf("%s is %v, want %v", e.Message, got, want)
			}
		}
	}
	if got := wire.ClassifyFetch(0); got != wire.Fetched {
		t.Errorf("no error is %v", got)
	}
	if got := wire.ClassifyFetch(999); got != wire.RetryLater {
		t.Errorf("an unknown code is %v, want RetryLater", got)
	}
}
