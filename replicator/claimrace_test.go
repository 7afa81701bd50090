package replicator_test

import (
	"math"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// journaled returns the newest state of a shard, and how many claims its journal has.
func journaled(c *replicatortest.Cluster, shard int32) (newest *offsets.ShardState, claims []offsets.Claim) {
	for _, r := range c.Records(offsets.JournalTopic("a-b"), shard+1)[shard] {
		if entry, err := offsets.DecodeJournal(r.Key, r.Value); err == nil {
			if s, ok := entry.(*offsets.ShardState); ok {
				newest = s
				if s.Claim != nil {
					claims = append(claims, *s.Claim)
				}
			}
		}
	}
	return newest, claims
}

// journalAs writes a batch to the journal of shard 0 as a process with that producer does, and returns the broker's answer.
func journalAs(t *testing.T, c *replicatortest.Cluster, p offsets.Producer, entries ...offsets.Entry) error {
	t.Helper()
	var records []recordbatch.Record
	for i, e := range entries {
		records = append(records, recordbatch.Record{Timestamp: time.Now().UnixMilli(), Offset: int64(i), Key: e.AppendKey(nil), Value: e.AppendValue(nil)})
	}
	batch, err := recordbatch.Encode(records, recordbatch.None)
	if err != nil {
		t.Fatal(err)
	}
	recordbatch.Rewrite(batch, p.ID, p.Epoch, p.Sequence)
	topic := kmsg.NewProduceRequestTopic()
	topic.Topic, topic.TopicID = offsets.JournalTopic("a-b"), c.TopicInfo(offsets.JournalTopic("a-b")).TopicID
	part := kmsg.NewProduceRequestTopicPartition()
	part.Records = batch
	topic.Partitions = append(topic.Partitions, part)
	request := kmsg.NewPtrProduceRequest()
	request.Acks, request.TimeoutMillis, request.Topics = -1, 5000, append(request.Topics, topic)
	response, err := c.Client.Broker(0).Request(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	return kerr.ErrorForCode(response.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode)
}

// Another process has claimed the shard and journaled, while this one still counts as its owner. Its next claim finds the epoch taken. It does not take
// the one after that with what it knew before: it asks the group, and reads the journal again.
func TestAClaimOfAnotherProcessIsNotOverruled(t *testing.T) {
	t.Parallel()
	c := clustersWithoutTransactions(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 20, "first")
	flow := c.Start(replicatortest.WithoutTransactions, oneShard)
	flow.UntilCopied("orders")
	before, _ := journaled(c.Target, 0)
	other := offsets.Producer{ID: before.Claim.ProducerID, Epoch: before.Claim.Epoch + 1}
	claim := &offsets.ShardState{ProducerIDs: before.ProducerIDs, Claim: &offsets.Claim{ProducerID: other.ID, Epoch: other.Epoch}}
	for n := range 8 { // more than a broker repeats its answers for
		if err := journalAs(t, c.Target, offsets.Producer{ID: other.ID, Epoch: other.Epoch, Sequence: int32(n)}, claim); err != nil {
			t.Fatal(err)
		}
	}
	flow.UntilLogged("the group still assigns it to this instance, taking it over again")
	c.Source.Produce("orders", 1, 20, "second")
	flow.UntilCopied("orders")
	flow.Stop()
	_, claims := journaled(c.Target, 0)
	if newest := claims[len(claims)-1]; newest.ProducerID != other.ID || newest.Epoch <= other.Epoch {
		t.Errorf("the newest claim is %+v, want one of producer %d above epoch %d", newest, other.ID, other.Epoch)
	}
	c.Verify("orders", "a.orders", 1)
}

// The epochs of the shard's producer run out. Its last one keeps earlier owners out of the journal, and then the shard gets another producer id.
func TestClaimsRunOutOfEpochs(t *testing.T) {
	t.Parallel()
	c := clustersWithoutTransactions(t, 1)
	c.Source.CreateTopic("orders", 2)
	c.Source.Produce("orders", 2, 20, "first")
	flow := c.Start(replicatortest.WithoutTransactions, oneShard)
	flow.UntilCopied("orders")
	flow.Stop()
	state, _ := journaled(c.Target, 0)
	earlier := offsets.Producer{ID: state.Claim.ProducerID, Epoch: math.MaxInt16 - 1}
	state.Claim.Epoch = earlier.Epoch
	if err := journalAs(t, c.Target, earlier, state); err != nil {
		t.Fatal(err)
	}
	c.Source.Produce("orders", 2, 20, "second")
	flow = c.Start(replicatortest.WithoutTransactions, oneShard)
	flow.UntilCopied("orders")
	flow.Stop()
	now, _ := journaled(c.Target, 0)
	if now.Claim.ProducerID == earlier.ID {
		t.Errorf("the shard is claimed with %+v, want another producer id than %d", now.Claim, earlier.ID)
	}
	earlier.Sequence = 1
	if err := journalAs(t, c.Target, earlier, state); err == nil {
		t.Errorf("the journal takes a write of an earlier owner, of epoch %d", earlier.Epoch)
	}
	c.Verify("orders", "a.orders", 2)
}

// What an earlier owner wrote may not be replicated when its successor reads the copy: it is behind the high watermark, which does not move meanwhile.
// The successor waits for it.
func TestTakeoverWaitsForReplicasWithoutTransactions(t *testing.T) {
	t.Parallel()
	c := clustersWithoutTransactions(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 20, "first")
	flow := c.Start(replicatortest.WithoutTransactions, oneShard)
	flow.UntilCopied("orders")
	flow.Stop()
	var asked atomic.Int32
	var replicated atomic.Bool
	c.Target.ControlKey(int16(kmsg.ListOffsets), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.Target.KeepControl()
		request := r.(*kmsg.ListOffsetsRequest)
		if request.ReplicaID != -2 || request.Topics[0].Topic != "a.orders" {
			return nil, nil, false
		}
		if asked.Add(1) > 3 {
			replicated.Store(true)
			return nil, nil, false
		}
		response := request.ResponseKind().(*kmsg.ListOffsetsResponse)
		topic := kmsg.NewListOffsetsResponseTopic()
		topic.Topic = "a.orders"
		part := kmsg.NewListOffsetsResponseTopicPartition()
		part.Offset = 1000
		topic.Partitions = append(topic.Partitions, part)
		response.Topics = append(response.Topics, topic)
		return response, nil, true
	})
	id := c.Target.TopicInfo("a.orders").TopicID
	c.Target.Observe(func(_ string, request kmsg.Request) {
		if r, ok := request.(*kmsg.ProduceRequest); ok && !replicated.Load() {
			for _, topic := range r.Topics {
				if topic.Topic == "a.orders" || topic.TopicID == id {
					t.Error("the copy is written before the end of its log is replicated")
				}
			}
		}
	})
	c.Source.Produce("orders", 1, 20, "second")
	flow = c.Start(replicatortest.WithoutTransactions, oneShard)
	flow.UntilCopied("orders")
	flow.Stop()
	c.Verify("orders", "a.orders", 1)
}
