package replicator

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/topics"
)

// fencerOf returns a fencer that uses a fake cluster, and the cluster.
func fencerOf(t *testing.T) (*fencer, *kfake.Cluster) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return &fencer{
		client: cl, cluster: "b", transactionalID: "milena.a-b.0", journal: "journal", timeout: transactionTimeout,
		waiting: func(context.Context, string, error) {},
	}, c
}

var journalPartition = []offsets.TopicPartition{{Topic: "journal"}}

// A coordinator that knows a newer epoch proves no takeover: it may have raised the epoch itself. The next fence can claim the id again.
func TestNewerEpochIsClaimedAgain(t *testing.T) {
	for _, key := range []kmsg.Key{kmsg.InitProducerID, kmsg.AddPartitionsToTxn, kmsg.EndTxn} {
		t.Run(key.Name(), func(t *testing.T) {
			f, c := fencerOf(t)
			if _, _, err := f.fence(t.Context(), journalPartition); err != nil {
				t.Fatal(err)
			}
			f.claimed = true
			fault := c.Fault(kfake.Fault{Keys: []kmsg.Key{key}, Err: kerr.ProducerFenced, Count: 1})
			_, _, err := f.fence(t.Context(), journalPartition)
			fault.Remove()
			if !errors.Is(err, errEpochTaken) {
				t.Fatalf("the fence failed with %v", err)
			}
			before := f.epoch
			f.disown()
			if m, _, err := f.fence(t.Context(), journalPartition); err != nil || m.epoch <= before {
				t.Errorf("fenced again at epoch %d, was %d: %v", m.epoch, before, err)
			}
		})
	}
}

// A stop does not cut a fence in the middle: what this process journals last would have an old epoch.
func TestFenceIsCompletedAtAStop(t *testing.T) {
	for _, key := range []kmsg.Key{kmsg.InitProducerID, kmsg.AddPartitionsToTxn, kmsg.EndTxn} {
		t.Run(key.Name(), func(t *testing.T) {
			f, c := fencerOf(t)
			if _, _, err := f.fence(t.Context(), journalPartition); err != nil {
				t.Fatal(err)
			}
			before := f.epoch
			ctx, stop := context.WithCancel(t.Context())
			c.Fault(kfake.Fault{Keys: []kmsg.Key{key}, Observe: true, When: func(kmsg.Request) bool {
				stop()
				return true
			}})
			if _, _, err := f.fence(ctx, journalPartition); err != nil || f.open || f.epoch <= before {
				t.Errorf("epoch %d, was %d, open %v: %v", f.epoch, before, f.open, err)
			}
			if _, _, err := f.fence(ctx, journalPartition); !errors.Is(err, context.Canceled) {
				t.Errorf("a fence begins after the stop: %v", err)
			}
		})
	}
}

// The coordinator has forgotten the transactional id when the shard claims it again. The new producer id fences no write with the old one, so every
// partition is fenced with it before it writes again.
func TestNewProducerIDOfAReclaimedShardReachesEveryPartition(t *testing.T) {
	f := testFlow(t)
	p := replicatingPartition(f, 0)
	s := p.shard
	used, _ := fencerOf(t)
	s.fencer = *used
	if _, _, err := s.fenceLocked(t.Context(), journalPartition); err != nil {
		t.Fatal(err)
	}
	s.fencer.claimed = true
	s.ownership.own()
	s.fencer.disown()
	s.fencer.transactionalID = "milena.a-b.forgotten"
	if _, _, err := s.fenceLocked(t.Context(), journalPartition); err != nil {
		t.Fatal(err)
	}
	if p.state != waiting || len(f.takeovers.queue) != 1 {
		t.Errorf("the partition is %s; %d takeovers are requested", p.state, len(f.takeovers.queue))
	}
}

// A cluster may allow only shorter transactions.
func TestFenceLearnsTheTransactionTimeout(t *testing.T) {
	f, c := fencerOf(t)
	limit := int32(time.Minute.Milliseconds())
	c.ControlKey(int16(kmsg.InitProducerID), func(request kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if request.(*kmsg.InitProducerIDRequest).TransactionTimeoutMillis <= limit {
			return nil, nil, false
		}
		response := request.ResponseKind().(*kmsg.InitProducerIDResponse)
		response.ErrorCode = kerr.InvalidTransactionTimeout.Code
		return response, nil, true
	})
	if _, _, err := f.fence(t.Context(), journalPartition); err != nil {
		t.Fatal(err)
	}
	if f.timeout > time.Minute || f.timeout < 30*time.Second {
		t.Errorf("the timeout is %v", f.timeout)
	}
}

// A broker that finds no leader of a partition completes the transaction of a fence without its marker. So the takeover that waits for it ends, and
// another one fences the partition when it has a leader.
func TestTakeoverEndsWhenTheCopyHasNoLeader(t *testing.T) {
	f := testFlow(t)
	p := replicatingPartition(f, 0)
	f.topology.put(p)
	p.shard.ownership.own()
	p.state = waiting
	r := &recovery{flow: f, shard: p.shard}
	p.beginRecovery(r)
	if p.setTargetLocked(topics.Partition{Leader: 1}, targetLane{}, nil); !r.recovers(p) {
		t.Fatal("the takeover ends although the copy has a leader")
	}
	p.setTargetLocked(topics.Partition{Leader: -1}, targetLane{}, nil)
	if f.takeOverFenceable(); r.recovers(p) || len(f.takeovers.queue) > 0 {
		t.Errorf("the takeover recovers the partition: %v; %d others are requested", r.recovers(p), len(f.takeovers.queue))
	}
	p.setTargetLocked(topics.Partition{Leader: 1}, targetLane{}, nil)
	if f.takeOverFenceable(); len(f.takeovers.queue) != 1 {
		t.Error("no takeover is requested when the copy has a leader again")
	}
}
