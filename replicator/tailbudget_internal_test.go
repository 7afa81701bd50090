package replicator

import (
	"context"
	"encoding/binary"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/topics"
	"github.com/milena-kafka/milena/replicator/wire"
)

// tailBroker is a broker whose partitions hold one batch after the other, as many as a fetch allows.
type tailBroker struct {
	t      *testing.T
	budget *budget
	batch  []byte

	mu      sync.Mutex
	fetches int
	allowed int64 // bytes that the fetches in flight may return
	most    int64 // that they could at one time
}

// Fetch implements wire.Fetcher. All fetches in flight return as many bytes as they may.
func (b *tailBroker) Fetch(_ context.Context, _ int32, request *wire.FetchRequest) (*wire.FetchResponse, error) {
	b.mu.Lock()
	b.fetches++
	b.allowed += int64(request.MaxBytes)
	b.most = max(b.most, b.allowed)
	if held := b.budget.held(); held < b.allowed {
		b.t.Errorf("%d bytes of the budget are held, and the fetches in flight may return %d", held, b.allowed)
	}
	b.mu.Unlock()
	response := kmsg.NewPtrFetchResponse()
	left := int(request.MaxBytes)
	for _, t := range request.Topics {
		rt := kmsg.NewFetchResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewFetchResponseTopicPartition()
			rp.Partition = p.Partition
			for bytes := 0; left > 0 && bytes < int(p.PartitionMaxBytes); bytes += len(b.batch) {
				batch := append([]byte(nil), b.batch...)
				binary.BigEndian.PutUint64(batch, uint64(p.FetchOffset+int64(bytes/len(b.batch))))
				rp.RecordBatches = append(rp.RecordBatches, batch...)
				left -= len(batch)
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		response.Topics = append(response.Topics, rt)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.allowed -= int64(request.MaxBytes)
	return &wire.FetchResponse{FetchResponse: response}, nil
}

// tailFlow returns a flow with a budget, and a target that returns as much of a log tail as a fetch allows.
func tailFlow(t *testing.T, budget int64) (*Flow, *tailBroker) {
	t.Helper()
	batch, err := recordbatch.Encode([]recordbatch.Record{{Value: make([]byte, 10_000)}}, recordbatch.None)
	if err != nil {
		t.Fatal(err)
	}
	f := testFlow(t)
	f.budget = newBudget(budget)
	b := &tailBroker{t: t, budget: f.budget, batch: batch}
	f.targetWire = b
	f.topology.setTarget(topics.View{ByName: map[string]topics.Topic{"a.orders": {Name: "a.orders", Partitions: make([]topics.Partition, 100)}}})
	return f, b
}

// tails returns tails of some partitions, each of 200 batches: 2 MB.
func tails(first, count int) (list []*logTail) {
	for n := range count {
		list = append(list, &logTail{
			partition: offsets.TopicPartition{Topic: "a.orders", Partition: int32(first + n)}, until: 200,
			visit: func(recordbatch.Header, []byte) error { return nil },
		})
	}
	return list
}

// Takeovers of many shards read log tails at the same time. What they may hold of them is in the budget.
func TestLogTailsAreReadWithinTheBudget(t *testing.T) {
	const limit = 4 << 20
	f, b := tailFlow(t, limit)
	var all sync.WaitGroup
	for shard := range 8 {
		all.Go(func() {
			if err := f.readTails(t.Context(), tails(10*shard, 10), func(*logTail) {}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if b.most == 0 || b.most > limit {
		t.Errorf("fetches in flight could return %d bytes, and the budget is %d", b.most, limit)
	}
	if held := f.budget.held(); held != 0 {
		t.Errorf("%d bytes are held although nothing is read", held)
	}
}

// While batches hold the budget, a takeover waits for them. The journal is read all the same, because its shard is locked meanwhile.
func TestLogTailsWaitForTheBudget(t *testing.T) {
	f, b := tailFlow(t, 4<<20)
	waits := make(chan struct{}, 1)
	f.budget.short = func() {
		select {
		case waits <- struct{}{}:
		default:
		}
	}
	f.budget.add(4 << 20)
	read := make(chan error, 1)
	go func() { read <- f.readTails(t.Context(), tails(0, 1), func(*logTail) {}) }()
	select {
	case <-waits:
	case err := <-read:
		t.Fatalf("%d fetches were sent although the budget is used up (%v)", b.fetches, err)
	}
	journal := tails(1, 1)
	journal[0].maxBytes = journalFetchBytes
	if err := f.readTails(t.Context(), journal, func(*logTail) {}); err != nil {
		t.Error(err)
	}
	f.budget.add(-4 << 20)
	if err := <-read; err != nil {
		t.Error(err)
	}
	if held := f.budget.held(); held != 0 {
		t.Errorf("%d bytes are held although nothing is read", held)
	}
}

// A budget that is smaller than the least that a fetch has lets it through when nothing else is held.
func TestLogTailsOfATinyBudget(t *testing.T) {
	f, _ := tailFlow(t, 64<<10)
	if err := f.readTails(t.Context(), tails(0, 3), func(*logTail) {}); err != nil {
		t.Error(err)
	}
}

// A takeover that is given up does not wait for the budget.
func TestLogTailsDoNotWaitWhenTheFlowEnds(t *testing.T) {
	f, _ := tailFlow(t, 4<<20)
	f.budget.add(4 << 20)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.readTails(ctx, tails(0, 1), func(*logTail) {}); err == nil {
		t.Error("the tail is read although the flow ends")
	}
}
