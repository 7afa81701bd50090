package main

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"
)

const (
	groupName = "milena.flow"
	journal   = "milena.flow.journal"
	timeout   = 6 * time.Second
	patience  = 20 * time.Second
)

// joined is a member and what it is told.
type joined struct {
	client   *kgo.Client
	assigned chan int // how many shards it has
	failed   chan error
}

// OnGroupManageError implements kgo.HookGroupManageError.
func (j joined) OnGroupManageError(err error) { j.failed <- err }

func join(t *testing.T, addresses []string, id string) joined {
	t.Helper()
	j := joined{assigned: make(chan int, 100), failed: make(chan error, 100)}
	held := 0
	less := func(_ context.Context, _ *kgo.Client, taken map[string][]int32) { held -= len(taken[journal]) }
	var err error
	j.client, err = kgo.NewClient(
		kgo.SeedBrokers(addresses...), kgo.ConsumerGroup(groupName), kgo.ConsumeTopics(journal), kgo.InstanceID(id), kgo.DisableAutoCommit(),
		kgo.SessionTimeout(timeout), kgo.HeartbeatInterval(100*time.Millisecond), kgo.Balancers(kgo.CooperativeStickyBalancer()), kgo.WithHooks(j),
		kgo.OnPartitionsRevoked(less), kgo.OnPartitionsLost(less),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, added map[string][]int32) {
			held += len(added[journal])
			j.assigned <- held
		}),
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(j.client.Close)
	return j
}

// awaits waits until the member is assigned this many shards.
func (j joined) awaits(t *testing.T, count int) {
	t.Helper()
	for {
		select {
		case held := <-j.assigned:
			if held == count {
				return
			}
		case err := <-j.failed:
			t.Fatal(err)
		case <-time.After(patience):
			t.Fatalf("not assigned %d shards", count)
		}
	}
}

func TestGroup(t *testing.T) {
	c := newCluster("thin")
	c.create(journal, 64, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	addresses, err := c.listen(ctx, 2, new(errgroup.Group))
	if err != nil {
		t.Fatal(err)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(addresses...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	a := join(t, addresses, "a")
	a.awaits(t, 64)
	b := join(t, addresses, "b")
	b.awaits(t, 32)
	again := join(t, addresses, "b")
	select {
	case err := <-b.failed:
		if !errors.Is(err, kerr.FencedInstanceID) {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("the member that was replaced is not fenced")
	}
	b.client.Close() // it would join again
	again.awaits(t, 32)
	again.client.Close()
	left, err := kadm.NewClient(client).LeaveGroup(ctx, kadm.LeaveGroup(groupName).InstanceIDs("b"))
	if err != nil || !left.Ok() {
		t.Error(err, left)
	}
	a.awaits(t, 64)
	a.client.Close() // without leaving: it is removed after its session
	began := time.Now()
	for group := (kadm.DescribedGroup{State: stable}); group.State != empty; {
		groups, err := kadm.NewClient(client).DescribeGroups(ctx, groupName)
		if err != nil {
			t.Fatal(err)
		}
		if group = groups[groupName]; time.Since(began) > patience {
			t.Fatalf("the group is %+v", group)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if took := time.Since(began); took < timeout-time.Second {
		t.Errorf("the member is removed after %v", took)
	}
}

// A newer epoch refuses the batches of older ones, in the partitions of the fence.
func TestEpochs(t *testing.T) {
	c := newCluster("thin")
	c.create("t", 1, nil)
	p := c.topics["t"].partitions[0]
	id := "transactional"
	begin := func(version int16, producer int64, epoch int16) *kmsg.InitProducerIDResponse {
		request := kmsg.NewPtrInitProducerIDRequest()
		request.Version, request.TransactionalID, request.ProducerID, request.ProducerEpoch = version, &id, producer, epoch
		return c.initProducer(request).(*kmsg.InitProducerIDResponse)
	}
	add := func(producer int64, epoch int16) int16 {
		request := kmsg.NewPtrAddPartitionsToTxnRequest()
		request.Version, request.TransactionalID, request.ProducerID, request.ProducerEpoch = 3, id, producer, epoch
		request.Topics = []kmsg.AddPartitionsToTxnRequestTopic{{Topic: "t", Partitions: []int32{0}}}
		return c.addPartitions(request).(*kmsg.AddPartitionsToTxnResponse).Topics[0].Partitions[0].ErrorCode
	}
	write := func(producer int64, epoch int16, sequence int32) int16 {
		batch := encode(kmsg.RecordBatch{ProducerID: producer, ProducerEpoch: epoch, FirstSequence: sequence}, nil, []byte("v"))
		_, code := c.produceBatch(p, batch)
		return code
	}
	check := func(what string, got, want int16) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %v, want %v", what, kerr.ErrorForCode(got), kerr.ErrorForCode(want))
		}
	}
	one := begin(4, -1, -1)
	check("a first batch", write(one.ProducerID, one.ProducerEpoch, 0), 0)
	check("the same batch", write(one.ProducerID, one.ProducerEpoch, 0), 0)
	check("a gap", write(one.ProducerID, one.ProducerEpoch, 7), kerr.OutOfOrderSequenceNumber.Code)
	check("add", add(one.ProducerID, one.ProducerEpoch), 0)
	check("another owner while a transaction is open", begin(4, -1, -1).ErrorCode, kerr.ConcurrentTransactions.Code)
	check("the first owner after its transaction was aborted", write(one.ProducerID, one.ProducerEpoch, 1), kerr.InvalidProducerEpoch.Code)
	two := begin(4, -1, -1)
	if two.ProducerID != one.ProducerID || two.ProducerEpoch != one.ProducerEpoch+2 {
		t.Errorf("%+v after %+v", two, one)
	}
	check("add with an old epoch", add(one.ProducerID, one.ProducerEpoch), kerr.ProducerFenced.Code)
	check("a repetition with an old epoch", begin(4, one.ProducerID, one.ProducerEpoch).ErrorCode, kerr.ProducerFenced.Code)
	check("the second owner", write(two.ProducerID, two.ProducerEpoch, 0), 0)
	if p.end != 3 {
		t.Errorf("%d records and markers, want 3", p.end)
	}
}
