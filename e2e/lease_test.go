package e2e_test

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/verify"
	"github.com/milena-kafka/milena/offsets"
)

// startWithoutTransactions starts clusters of which the target, by its proxies, has no transactions. It returns a config with fence: lease.
func startWithoutTransactions(t *testing.T) (p *pair, lease func(topics ...string) daemon.Map) {
	t.Helper()
	target := delayedGroups()
	target.Proxied = true
	p = startPair(t, kafka.Options{}, target)
	for _, b := range p.target.Brokers() {
		b.Proxy().Hide(kmsg.AddPartitionsToTxn, kmsg.EndTxn, kmsg.AddOffsetsToTxn, kmsg.TxnOffsetCommit, kmsg.DescribeTransactions, kmsg.ListTransactions)
	}
	return p, func(topics ...string) daemon.Map {
		config := p.config(topics...)
		config["clusters"].(daemon.Map)["target"].(daemon.Map)["brokers"] = p.target.ProxyAddrs()
		config["flows"].([]daemon.Map)[0]["fence"] = "lease"
		return config
	}
}

// A target without transactions is refused with the way out. With it, instances that are stopped, killed and frozen lose nothing and copy nothing twice.
func TestFenceByLease(t *testing.T) {
	t.Parallel()
	outer, lease := startWithoutTransactions(t)
	s := outer.share("shared", 60)
	s.settings = func() daemon.Map { return lease(s.topic) }

	t.Run("check and run name the way out", func(t *testing.T) {
		p := s.in(t)
		config := lease(s.topic)
		delete(config["flows"].([]daemon.Map)[0], "fence")
		for _, verb := range []string{"check", "run"} {
			code, output := p.runVerb(t, verb, config)
			if code != 1 {
				t.Errorf("%s: exit code %d", verb, code)
			}
			wantOutput(t, output, "no transactions", "AddPartitionsToTxn or EndTxn", "set fence: lease")
		}
		code, output := p.runVerb(t, "check", lease(s.topic))
		if code != 0 {
			t.Errorf("check with fence: lease: exit code %d", code)
		}
		wantOutput(t, output, "are reported as foreign_write")
	})

	s.startInstances(3)
	s.verifyShared(s.list...)
	began := time.Now()
	s.list[0].stop()
	s.waitHeldOnce(time.Minute, s.list[1:]...)
	s.list[0].start()
	s.waitHeldOnce(time.Minute, s.list...)
	s.verifyShared(s.list...)
	t.Logf("longest standstill of a planned restart: %.2f s", s.longestStandstill(began).Took().Seconds())
	for range 2 {
		began := time.Now()
		s.list[1].Kill()
		s.waitHeldOnce(time.Minute, s.list[0], s.list[2])
		s.verifyShared(s.list[0], s.list[2])
		t.Logf("longest standstill of kill -9: %.2f s", s.longestStandstill(began).Took().Seconds())
		s.list[1].start()
		s.waitHeldOnce(time.Minute, s.list...)
	}
	check(t, s.list[2].Pause())
	s.waitHeldOnce(time.Minute, s.list[0], s.list[1])
	s.verifyShared(s.list[0], s.list[1])
	check(t, s.list[2].Resume())
	s.waitHeldOnce(time.Minute, s.list...)

	_, err := s.stream.Stop(t.Context())
	check(t, err)
	s.verifyShared(s.list...)
	s.verify(remoteTopic, s.topic)
	for _, m := range s.list {
		m.stop()
	}
}

// A batch of an earlier owner arrives late, after its successor has read the copy. The successor finds it at its next batch and halts the partition.
// From then on the broker refuses what the earlier owner still sends, as it does for the journal from the start.
func TestLateBatchOfAnEarlierOwner(t *testing.T) {
	t.Parallel()
	p, lease := startWithoutTransactions(t)
	p.createTopic("orders", 2, 1)
	w := p.writer(load.Options{Topic: "orders", Partitions: 2})
	check(t, w.Write(t.Context(), 100))
	m := p.startMilena(lease("orders"))
	p.waitAndVerify(m, 30*time.Second, 200, "orders")
	m.stop()
	before := p.journalOf("orders", 0)

	m = p.newMilena("successor", lease("orders"))
	m.start()
	m.waitReady(30 * time.Second)
	late := func(topic string, partition int32, sequence int32) error {
		return produceRaw(t, p.targetClient, topic, partition, batchOf(*before.Producer, sequence))
	}
	if err := late(offsets.JournalTopic("source-target"), before.shard, 0); !errors.Is(err, kerr.InvalidProducerEpoch) {
		t.Errorf("a late write to the journal: %v", err)
	}
	check(t, late(remoteTopic("orders"), 0, before.Producer.Sequence))
	check(t, w.Write(t.Context(), 10))
	a := (&anomalyTest{pair: p}).waitHalted(m, "orders", "foreign_write", 0)[0]
	wantOutput(t, a.Detail, "an earlier instance of milena appended after it was replaced")
	if err := late(remoteTopic("orders"), 0, before.Producer.Sequence+1); !errors.Is(err, kerr.InvalidProducerEpoch) {
		t.Errorf("a late write behind the successor's first batch: %v", err)
	}
	p.waitPartitionCopied(m, "orders", 1)
	m.stop()
}

// A takeover reads a copy up to the end of its leader's log, because what is behind the high watermark may be replicated later. A leader tells that end to
// the replica id of a debugging tool only.
func TestLeaderTellsTheEndOfItsLog(t *testing.T) {
	t.Parallel()
	p := startPair(t, kafka.Options{}, kafka.Options{Brokers: 2})
	check(t, kafka.CreateTopic(t.Context(), p.targetAdmin, "lagging", 1, 2, "min.insync.replicas=1"))
	oneAck, err := p.target.Client(kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite(), kgo.DefaultProduceTopic("lagging"))
	check(t, err)
	t.Cleanup(oneAck.Close)
	check(t, oneAck.ProduceSync(t.Context(), kgo.StringRecord("replicated")).FirstErr())
	leader, follower := leaderOf(t, p.targetAdmin, "lagging") // which is known now
	end := func(replica int32) int64 {
		request := kmsg.NewPtrListOffsetsRequest()
		request.ReplicaID = replica
		rt, rp := kmsg.NewListOffsetsRequestTopic(), kmsg.NewListOffsetsRequestTopicPartition()
		rp.Timestamp = -1
		rt.Topic, rt.Partitions = "lagging", append(rt.Partitions, rp)
		request.Topics = append(request.Topics, rt)
		response, err := oneAck.Broker(int(leader)).Request(t.Context(), request)
		check(t, err)
		found := response.(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
		check(t, kerr.ErrorForCode(found.ErrorCode))
		return found.Offset
	}
	eventually(t, 30*time.Second, "the first record is replicated", func() (bool, string) { return end(-1) == 1, "" })
	broker := p.target.Broker(int(follower))
	check(t, broker.Pause())
	t.Cleanup(func() { _ = broker.Resume() })
	check(t, oneAck.ProduceSync(t.Context(), kgo.StringRecord("not replicated")).FirstErr())
	if high, log := end(-1), end(-2); high != 1 || log != 2 {
		t.Errorf("the high watermark is %d and the end of the log %d, want 1 and 2", high, log)
	}
}

// leaderOf returns the leader of a topic's first partition, and the other replica.
func leaderOf(t *testing.T, admin *kadm.Client, topic string) (leader, follower int32) {
	t.Helper()
	listed, err := admin.ListTopics(t.Context(), topic)
	check(t, err)
	partition := listed[topic].Partitions[0]
	for _, replica := range partition.Replicas {
		if replica != partition.Leader {
			follower = replica
		}
	}
	return partition.Leader, follower
}

// journaled is what the journal says of a partition.
type journaled struct {
	*offsets.PartitionState
	shard int32
}

// journalOf reads the newest state of a source partition from the flow's journal.
func (p *pair) journalOf(topic string, partition int32) (found journaled) {
	p.t.Helper()
	journal := offsets.JournalTopic("source-target")
	for shard := range int32(defaultShards) {
		check(p.t, verify.Sequence(p.t.Context(), p.targetClient, journal, shard, func(r *kgo.Record) error {
			entry, err := offsets.DecodeJournal(r.Key, r.Value)
			if state, ok := entry.(*offsets.PartitionState); ok && state.Topic == topic && state.Partition == partition {
				found = journaled{state, shard}
			}
			return err
		}))
	}
	if found.PartitionState == nil || found.Producer == nil {
		p.t.Fatalf("the journal has no producer of %s[%d]", topic, partition)
	}
	return found
}

// batchOf is a batch of one record from a producer, with another sequence.
func batchOf(producer offsets.Producer, sequence int32) []byte {
	now := time.Now().UnixMilli()
	r := kmsg.Record{Key: []byte("late"), Value: []byte("late")}
	r.Length = int32(len(r.AppendTo(nil)) - 1) // without the length itself, which takes one byte
	b := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, FirstTimestamp: now, MaxTimestamp: now, NumRecords: 1, Records: r.AppendTo(nil),
		ProducerID: producer.ID, ProducerEpoch: producer.Epoch, FirstSequence: sequence,
	}
	bytes := b.AppendTo(nil)
	binary.BigEndian.PutUint32(bytes[8:], uint32(len(bytes)-12))
	binary.BigEndian.PutUint32(bytes[17:], crc32.Checksum(bytes[21:], crc32.MakeTable(crc32.Castagnoli)))
	return bytes
}

// produceRaw sends one batch as it is.
func produceRaw(t *testing.T, client *kgo.Client, topic string, partition int32, batch []byte) error {
	t.Helper()
	request := kmsg.NewPtrProduceRequest()
	request.Acks, request.TimeoutMillis = -1, 10_000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Partition, rp.Records = partition, batch
	rt.Partitions = append(rt.Partitions, rp)
	request.Topics = append(request.Topics, rt)
	metadata := kmsg.NewPtrMetadataRequest()
	mt := kmsg.NewMetadataRequestTopic()
	mt.Topic = &topic
	metadata.Topics = append(metadata.Topics, mt)
	known, err := metadata.RequestWith(t.Context(), client)
	check(t, err)
	request.Topics[0].TopicID = known.Topics[0].TopicID
	response, err := request.RequestWith(t.Context(), client)
	check(t, err)
	return kerr.ErrorForCode(response.Topics[0].Partitions[0].ErrorCode)
}

// waitPartitionCopied waits until a partition has acknowledged all that its source holds now.
func (p *pair) waitPartitionCopied(m *milena, topic string, partition int32) {
	p.t.Helper()
	ends, err := verify.ReadEnds(p.t.Context(), p.sourceClient, topic)
	check(p.t, err)
	eventually(p.t, 30*time.Second, "the other partition is copied", func() (bool, string) {
		for _, part := range m.partitions() {
			if part.Topic == topic && part.Partition == partition {
				return part.Acked >= ends.End[partition], part.State
			}
		}
		return false, "the partition is unknown"
	})
}
