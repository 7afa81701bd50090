package replicator

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
)

func TestClassifyProduce(t *testing.T) {
	tests := map[outcome][]*kerr.Error{
		refused:      {kerr.NotEnoughReplicas, kerr.ThrottlingQuotaExceeded, kerr.PolicyViolation},
		unauthorized: {kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.TransactionalIDAuthorizationFailed},
		fenced:       {kerr.InvalidProducerEpoch, kerr.ProducerFenced},
		oversized:    {kerr.MessageTooLarge, kerr.RecordListTooLarge},
		unacceptable: {kerr.CorruptMessage, kerr.InvalidRecord, kerr.InvalidTimestamp, kerr.UnsupportedCompressionType, kerr.UnsupportedForMessageFormat},
		unplaced:     {kerr.UnknownTopicOrPartition, kerr.UnknownTopicID, kerr.InconsistentTopicID},
		doubtful: {
			kerr.RequestTimedOut, kerr.NotEnoughReplicasAfterAppend, kerr.NotLeaderForPartition, kerr.LeaderNotAvailable, kerr.FencedLeaderEpoch,
			kerr.OutOfOrderSequenceNumber, kerr.DuplicateSequenceNumber, kerr.UnknownProducerID, kerr.InvalidProducerIDMapping, kerr.InvalidTxnState,
			kerr.ConcurrentTransactions, kerr.KafkaStorageError, kerr.UnknownServerError, kerr.NetworkException, kerr.BrokerNotAvailable,
		},
	}
	for want, errs := range tests {
		for _, e := range errs {
			if got := classifyProduce(e.Code); got != want {
				t.Errorf("%s is %v, want %v", e.Message, got, want)
			}
		}
	}
	if got := classifyProduce(0); got != acked {
		t.Errorf("no error is %v", got)
	}
	for _, code := range []int16{-2, 999, 32767} {
		if got := classifyProduce(code); got != doubtful {
			t.Errorf("the unknown code %d is %v, want doubtful", code, got)
		}
	}
}

// Whatever code a broker may invent, only those of which it is certain that nothing was written may be sent again.
func TestEveryCodeThatIsNotNamedIsDoubtful(t *testing.T) {
	certain := 0
	for code := int16(-1); code < 500; code++ {
		if o := classifyProduce(code); o != doubtful {
			certain++
		}
	}
	if certain != 19 {
		t.Errorf("%d codes are not doubtful, 19 are known: no error and the 18 of TestClassifyProduce", certain)
	}
}

func TestClassifyFetch(t *testing.T) {
	tests := map[fetchOutcome][]*kerr.Error{
		moved:  {kerr.NotLeaderForPartition, kerr.FencedLeaderEpoch, kerr.UnknownLeaderEpoch, kerr.ReplicaNotAvailable, kerr.LeaderNotAvailable, kerr.KafkaStorageError},
		absent: {kerr.OffsetOutOfRange},
		gone:   {kerr.UnknownTopicOrPartition, kerr.UnknownTopicID, kerr.InconsistentTopicID},
		denied: {kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed},
		later:  {kerr.UnknownServerError, kerr.OffsetNotAvailable, kerr.RequestTimedOut, kerr.FetchSessionIDNotFound, kerr.ThrottlingQuotaExceeded, kerr.CorruptMessage},
	}
	for want, errs := range tests {
		for _, e := range errs {
			if got := classifyFetch(e.Code); got != want {
				t.Errorf("%s is %v, want %v", e.Message, got, want)
			}
		}
	}
	if got := classifyFetch(0); got != fetched {
		t.Errorf("no error is %v", got)
	}
	if got := classifyFetch(999); got != later {
		t.Errorf("an unknown code is %v, want later", got)
	}
}
