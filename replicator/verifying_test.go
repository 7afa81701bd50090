package replicator_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// verifying is a flow that verifies its copies in the background.
func verifying(f *config.Flow) { f.Verify.Rate, f.Heartbeats = 100<<20, false }

// isVerified reports whether everything that is journaled was verified, and is equal.
func isVerified(p replicator.PartitionStatus) bool {
	v := p.Verified
	return v != nil && v.Upto == p.Journaled && p.Journaled == p.Acked && !v.Whole.IsZero() && v.Differing == 0 && v.NotVerified == ""
}

// A flow verifies its copies while it copies. What the control topic has of that is not read again by the next process.
func TestVerifiesInTheBackground(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 2)
	c.ShortPauses()
	c.Pauses.Pass = time.Hour
	c.Source.CreateTopic("orders", 3)
	c.Source.Produce("orders", 3, 50, "early")
	f := c.Start(verifying, replicatortest.FastJournal)
	f.UntilPartitions("the first records are verified", "orders", 3, func(p replicator.PartitionStatus) bool { return isVerified(p) && p.Acked == 50 })
	stop := c.Source.Load("orders", 3)
	f.UntilProgress("orders", 300)
	stop()
	s := f.Until("what came under load is verified", func(s replicator.Status) bool {
		for _, p := range replicatortest.Partitions(s, "orders") {
			if !isVerified(p) || p.SourceEnd == nil || *p.SourceEnd != p.Acked {
				return false
			}
		}
		return true
	})
	if s.Verify == nil || s.Verify.Differing != 0 || s.Verify.BytesPerSecond != 100<<20 || s.Verify.Problem != "" {
		t.Errorf("%+v", s.Verify)
	}
	first := replicatortest.Partitions(s, "orders")[0]
	if got := f.Metric("milena_verified_offset", "topic", "orders", "partition", "0"); got != float64(first.Acked) {
		t.Errorf("milena_verified_offset is %v, want %d", got, first.Acked)
	}
	if f.Metric("milena_verified_timestamp_seconds", "partition", "0") == 0 || f.Metric("milena_verify_differences_total")+f.Metric("milena_differing_partitions") != 0 {
		t.Error("the metrics do not say that everything is equal")
	}
	f.Stop()

	var mu sync.Mutex
	lowest := make(map[int32]int64)
	c.Source.Observe(func(_ string, request kmsg.Request) {
		fetch, ok := request.(*kmsg.FetchRequest)
		if !ok {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, topic := range fetch.Topics {
			for _, p := range topic.Partitions {
				if offset, ok := lowest[p.Partition]; !ok || p.FetchOffset < offset {
					lowest[p.Partition] = p.FetchOffset
				}
			}
		}
	})
	f = c.Start(verifying, replicatortest.FastJournal)
	f.UntilPartitions("the next process knows what is verified", "orders", 3, isVerified)
	c.Source.Produce("orders", 3, 10, "late")
	f.UntilPartitions("what is new is verified", "orders", 3, func(p replicator.PartitionStatus) bool { return isVerified(p) && p.Acked > first.Acked })
	f.Stop()
	mu.Lock()
	defer mu.Unlock()
	for _, p := range replicatortest.Partitions(s, "orders") {
		if lowest[p.Partition] < p.Acked {
			t.Errorf("partition %d was verified up to %d, and the next process read from %d on", p.Partition, p.Acked, lowest[p.Partition])
		}
	}
}

// flipped lets the copy have another byte in each record with a text, with the right checksum, as long as the result is true.
func flipped(t *testing.T, c *replicatortest.Cluster, topic, text string) *atomic.Bool {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	listed, err := kadm.NewClient(cl).ListTopics(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	request := kmsg.NewPtrFetchRequest()
	request.MaxBytes = 1 << 20
	of, part := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
	of.Topic, of.TopicID, part.PartitionMaxBytes = topic, listed[topic].ID, 1<<20
	of.Partitions = append(of.Partitions, part)
	request.Topics = append(request.Topics, of)
	response, err := cl.Broker(int(listed[topic].Partitions[0].Leader)).Request(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	have := response.(*kmsg.FetchResponse).Topics[0].Partitions[0]
	data := bytes.Clone(have.RecordBatches)
	if !bytes.Contains(data, []byte(text)) {
		t.Fatalf("the copy has no %q", text)
	}
	for rest := data; len(rest) > 12; {
		n := 12 + int(binary.BigEndian.Uint32(rest[8:]))
		if at := bytes.Index(rest[:n], []byte(text)); at >= 0 {
			rest[at] ^= 1
			binary.BigEndian.PutUint32(rest[17:], crc32.Checksum(rest[21:n], crc32.MakeTable(crc32.Castagnoli)))
		}
		rest = rest[n:]
	}
	on := &atomic.Bool{}
	on.Store(true)
	c.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		asked := r.(*kmsg.FetchRequest)
		if !on.Load() || len(asked.Topics) != 1 || asked.Topics[0].TopicID != of.TopicID {
			return nil, nil, false
		}
		answer := asked.ResponseKind().(*kmsg.FetchResponse)
		topicAnswer := kmsg.NewFetchResponseTopic()
		topicAnswer.Topic, topicAnswer.TopicID = topic, of.TopicID
		changed := have
		changed.RecordBatches = data
		topicAnswer.Partitions = append(topicAnswer.Partitions, changed)
		answer.Topics = append(answer.Topics, topicAnswer)
		return answer, nil, true
	})
	return on
}

// A byte of the copy flips after it was verified. The next pass finds it and says so everywhere, and the flow copies on. Once the byte is right again, the
// pass after that says so.
func TestVerifyInTheBackgroundFindsADifference(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.ShortPauses()
	c.Source.CreateTopic("orders", 1)
	for _, value := range []string{"one", "the victim", "three"} {
		c.Source.Write(&kgo.Record{Topic: "orders", Value: []byte(value)})
	}
	f := c.Start(verifying, replicatortest.FastJournal)
	f.UntilPartitions("it is equal at first", "orders", 1, func(p replicator.PartitionStatus) bool { return isVerified(p) && p.Acked == 3 })
	on := flipped(t, c.Target, "a.orders", "the victim")
	f.UntilLogged("the copy differs from the source")
	s := f.Until("the status says so", func(s replicator.Status) bool { return s.Verify.Differing == 1 })
	v := replicatortest.Partitions(s, "orders")[0].Verified
	if v.Differing != 1 || len(v.Differences) != 1 || !strings.HasPrefix(v.Differences[0], "1 record from source offset 1, target offset ") || !strings.Contains(v.Differences[0], " on: value: ") {
		t.Errorf("%+v", v)
	}
	if f.Metric("milena_verify_differences_total", "topic", "orders") == 0 || f.Metric("milena_differing_partitions") != 1 {
		t.Error("the metrics do not say so")
	}
	f.Stop()
	on.Store(false)
	c.Pauses.Pass = time.Hour
	f = c.Start(verifying, replicatortest.FastJournal)
	c.Source.Write(&kgo.Record{Topic: "orders", Value: []byte("four")})
	f.UntilAcked("orders", 4)
	f.UntilPartitions("the next process knows it, and verifies only what is new", "orders", 1, func(p replicator.PartitionStatus) bool {
		return p.Verified != nil && p.Verified.Upto == 4 && p.Verified.Differing == 1 && len(p.Verified.Differences) == 1
	})
	f.Stop()
	c.ShortPauses()
	f = c.Start(verifying, replicatortest.FastJournal)
	f.UntilPartitions("it is equal again", "orders", 1, func(p replicator.PartitionStatus) bool { return isVerified(p) && p.Acked == 4 })
}

// A flow that does not verify says nothing of it.
func TestVerifiesNothingByDefault(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.ShortPauses()
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 5, "some")
	f := c.Start(replicatortest.FastJournal)
	f.UntilJournaled("orders")
	if s := f.Status(); s.Verify != nil || replicatortest.Partitions(s, "orders")[0].Verified != nil {
		t.Errorf("%+v", s.Verify)
	}
}

// What was verified of a copy says nothing about the next one: neither that of a topic that was created anew, nor that of a journal that was deleted.
func TestVerifiedIsOfOneCopy(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.ShortPauses()
	c.Pauses.Pass = time.Hour
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 50, "early")
	again := replicatortest.OnAnomaly("recreated", "restart")
	f := c.Start(verifying, replicatortest.FastJournal, again)
	f.UntilPartitions("the first copy is verified", "orders", 1, func(p replicator.PartitionStatus) bool { return isVerified(p) && p.Acked == 50 })
	c.Source.RecreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 5, "another")
	f.UntilPartitions("the next one is verified", "orders", 1, func(p replicator.PartitionStatus) bool { return isVerified(p) && p.Acked == 5 })
	f.Stop()

	c.Target.DeleteTopic("a.orders")
	c.Target.DeleteTopic("milena.a-b.journal")
	c.Source.RecreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 2, "one more")
	f = c.Start(verifying, replicatortest.FastJournal, again)
	f.UntilPartitions("that of another journal is verified", "orders", 1, func(p replicator.PartitionStatus) bool { return isVerified(p) && p.Acked == 2 })
}

// Another rate counts at once, also while a slow one holds up the verification.
func TestVerifyTakesAnotherRate(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.ShortPauses()
	c.Source.CreateTopic("orders", 1)
	random := rand.NewChaCha8([32]byte{}) // its values cannot be compressed
	for range 50 {
		value := make([]byte, 400<<10)
		_, _ = random.Read(value) // it never fails
		c.Source.Write(&kgo.Record{Topic: "orders", Value: value})
	}
	f := c.Start(verifying, replicatortest.FastJournal, func(f *config.Flow) { f.Verify.Rate = 64 << 10 }) // that takes minutes
	f.UntilJournaled("orders")
	f.UntilPartitions("it is verified slowly", "orders", 1, func(p replicator.PartitionStatus) bool { return p.Verified != nil && p.Acked == 50 })
	reconfigure(t, f, verifying, replicatortest.FastJournal)
	f.UntilPartitions("it is verified fast", "orders", 1, func(p replicator.PartitionStatus) bool { return isVerified(p) && p.Acked == 50 })
}

// A topic that a reload selects is verified, like all others.
func TestVerifiesATopicThatIsSelectedLater(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.ShortPauses()
	for _, topic := range []string{"early", "late"} {
		c.Source.CreateTopic(topic, 1)
		c.Source.Produce(topic, 1, 50, "word")
	}
	f := c.Start(verifying, replicatortest.FastJournal, selects("early"))
	f.UntilPartitions("the first topic is verified", "early", 1, isVerified)
	reconfigure(t, f, selects("early", "late"))
	f.UntilPartitions("the other topic is verified", "late", 1, isVerified)
}
