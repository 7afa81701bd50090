package replicator_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/membership"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// Instances come and go under load. Each shard has one owner at a time, and nothing is lost or written twice.
func TestInstancesShareAFlow(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 2)
	c.Source.CreateTopic("orders", 20)
	stop := c.Source.Load("orders", 20)
	flows := replicatortest.Flows{c.Start()}
	flows.UntilShared(64)
	for range 2 {
		flows = append(flows, c.Start())
		flows.UntilShared(1)
		flows.UntilProgress(200)
	}
	for len(flows) > 1 {
		flows[0].Stop()
		flows = flows[1:]
		flows.UntilShared(1)
		flows.UntilProgress(200)
	}
	stop()
	flows.UntilCopied("orders")
	if n := flows[0].Metric("milena_anomalies_total"); n > 0 {
		t.Errorf("%v anomalies", n)
	}
	flows.Stop()
	c.Verify("orders", "a.orders", 20)
}

// All instances start at once and find the group empty. Fences decide until the group does.
func TestInstancesStartAtOnce(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 12)
	stop := c.Source.Load("orders", 12)
	var flows replicatortest.Flows
	for range 4 {
		flows = append(flows, c.Start())
	}
	flows.UntilShared(1)
	flows.UntilProgress(200)
	stop()
	flows.UntilCopied("orders")
	flows.Stop()
	c.Verify("orders", "a.orders", 12)
}

// An instance is stopped while it joins the group, which does not tell its member id before the join is complete. It waits for that, and leaves:
// otherwise the group would give shards to it, and find out after the session timeout.
func TestInstanceThatIsStoppedWhileItJoinsLeaves(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 12)
	stop := c.Source.Load("orders", 12)
	stays := c.Start()
	replicatortest.Flows{stays}.UntilShared(64)
	joins := c.Target.Spoil(kmsg.JoinGroup, nil, replicatortest.SlowResponse, 1)
	comes := c.Start()
	replicatortest.Await(t, "the other one joins", joins)
	comes.Stop()
	group, err := membership.Describe(t.Context(), c.Target.Client, membership.GroupName("a-b"))
	if err != nil || len(group.Instances) != 1 {
		t.Errorf("after the stop, the group is %+v, %v", group, err)
	}
	replicatortest.Flows{stays}.UntilShared(64)
	stop()
	stays.UntilCopied("orders")
	stays.Stop()
	c.Verify("orders", "a.orders", 12)
}

// The coordinator removes an instance. It gives its shards up at once, joins again, and gets shards again.
func TestRemovedInstanceJoinsAgain(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 12)
	stop := c.Source.Load("orders", 12)
	flows := replicatortest.Flows{c.Start(), c.Start()}
	flows.UntilShared(1)
	for range 3 {
		flows.UntilProgress(200)
		c.Target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat}, Err: kerr.UnknownMemberID, Count: 2})
		flows.UntilProgress(200)
		flows.UntilShared(1)
	}
	stop()
	flows.UntilCopied("orders")
	flows.Stop()
	c.Verify("orders", "a.orders", 12)
}

// Brokers that have no coordinator for the group let nobody join. Records are copied all the same, and the status says that the instance is not in
// the group until it is.
func TestInstanceThatCannotJoinIsVisible(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	fault := c.Target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.JoinGroup}, Err: kerr.CoordinatorNotAvailable, Count: -1})
	f := c.Start()
	c.Source.Produce("orders", 1, 10, "alone")
	f.UntilCopied("orders")
	replicatortest.Eventually(t, "the status says why the instance is not in the group", func() (bool, string) {
		i := f.Status().Instance
		return i.State == "claimed" && strings.Contains(i.Problem, "COORDINATOR_NOT_AVAILABLE"), fmt.Sprint(i)
	})
	fault.Remove()
	replicatortest.Flows{f}.UntilShared(64)
	if problem := f.Status().Instance.Problem; problem != "" {
		t.Errorf("the instance is in the group, and the status says: %s", problem)
	}
	f.Stop()
	c.Verify("orders", "a.orders", 1)
}

// Somebody fences a shard that the group assigns to this instance, as a process that was paused does. It fences it back.
func TestAssignedShardIsFencedBack(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 6)
	flow := c.Start(replicatortest.FastJournal)
	replicatortest.Flows{flow}.UntilShared(64)
	c.Source.Produce("orders", 6, 10, "before")
	flow.UntilCopied("orders")
	for _, p := range replicatortest.Partitions(flow.Status(), "orders") {
		c.Target.Fence(fmt.Sprintf("milena.a-b.%d", p.Shard))
	}
	c.Source.Produce("orders", 6, 10, "after")
	flow.UntilLogged("the group still assigns it to this instance")
	flow.UntilCopied("orders")
	flow.Stop()
	c.Verify("orders", "a.orders", 6)
}

// A controller that does not answer delays the topics that it should create, and nobody who gets a shard.
func TestHangingCreationDoesNotDelayAHandOver(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 12)
	var creator atomic.Pointer[string]
	c.Target.Observe(func(client string, request kmsg.Request) {
		create, ok := request.(*kmsg.CreateTopicsRequest)
		if ok && slices.ContainsFunc(create.Topics, func(topic kmsg.CreateTopicsRequestTopic) bool { return topic.Topic == "a.late" }) {
			creator.CompareAndSwap(nil, &client)
		}
	})
	two := func(f *config.Flow) { f.Shards, f.TopicsInterval, f.Heartbeats = 2, 100*time.Millisecond, false }
	flows := replicatortest.Flows{c.Start(two), c.Start(two)}
	flows.UntilShared(1)
	hangs := c.Target.Spoil(kmsg.CreateTopics, []byte("a.late"), replicatortest.Swallow, replicatortest.All)
	c.Source.CreateTopic("late", 1)
	replicatortest.Await(t, "the topic is being created", hangs)
	waits, leaves := flows[0], flows[1]
	if *creator.Load() == leaves.ClientID {
		waits, leaves = leaves, waits
	}
	syncs := func() float64 { return waits.Metric("milena_passes_total", "pass", "topics") }
	before := syncs()
	flows.UntilHeld(1) // the shards may have changed hands since
	leaves.Stop()
	c.Source.Produce("orders", 12, 10, "later")
	waits.UntilCopied("orders")
	if syncs() != before {
		t.Error("the shard waited for the creation")
	}
	waits.Stop()
	c.Verify("orders", "a.orders", 12)
}

// A second process with the same id replaces the first one, which ends with a sentence.
func TestSameInstanceIDReplacesTheOlderProcess(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 6)
	stop := c.Source.Load("orders", 6)
	c.Instance = "node-1"
	first := c.Start()
	replicatortest.Flows{first}.UntilShared(64)
	second := c.Start()
	if err := first.Wait(); err == nil || !strings.Contains(err.Error(), `the instance id "node-1"`) {
		t.Errorf("the first process ended with: %v", err)
	}
	replicatortest.Flows{second}.UntilShared(64)
	stop()
	second.UntilCopied("orders")
	second.Stop()
	c.Verify("orders", "a.orders", 6)
}

// With fewer shards than instances, one of them is a hot standby: it is ready, says what it is, and takes over.
func TestStandby(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	one := func(f *config.Flow) { f.Shards = 1 }
	c.Source.CreateTopic("orders", 3)
	stop := c.Source.Load("orders", 3)
	flows := replicatortest.Flows{c.Start(one), c.Start(one)}
	flows.UntilShared(0)
	owner, standby := flows[0], flows[1]
	if owner.Status().Instance.Held == 0 {
		owner, standby = standby, owner
	}
	s := standby.Until("the standby is ready", func(s replicator.Status) bool {
		return s.Ready && s.Instance.State == "standby" && len(s.Partitions) == 0
	})
	if s.Instance.Held > 0 || standby.Metric("milena_ready") != 1 {
		t.Errorf("the standby: %+v", s)
	}
	owner.Stop()
	replicatortest.Flows{standby}.UntilShared(1)
	stop()
	standby.UntilCopied("orders")
	standby.Stop()
	c.Verify("orders", "a.orders", 3)
}

// A process without a group and instances with one would fence each other for ever.
func TestOneInstanceRefusesToRunBesideAGroup(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 3)
	flow := c.Start()
	replicatortest.Flows{flow}.UntilShared(64)
	alone := c.Start(replicatortest.OneInstance)
	if err := alone.Wait(); err == nil || !strings.Contains(err.Error(), "instances: one") {
		t.Errorf("it ended with: %v", err)
	}
	c.Source.Produce("orders", 3, 10, "after")
	flow.UntilCopied("orders")
	flow.Stop()
}

// Whoever cannot be understood by the instances that run does not join them.
func TestAnotherProtocolRefusesToJoin(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 3)
	first := c.Start()
	replicatortest.Flows{first}.UntilShared(64)
	first.Stop()
	joined := make(chan struct{}, 10)
	other, err := kgo.NewClient(kgo.SeedBrokers(c.Target.ListenAddrs()...), kgo.ConsumerGroup("milena.a-b"), kgo.ConsumeTopics("milena.a-b.journal"),
		kgo.Balancers(kgo.RangeBalancer()), kgo.OnPartitionsAssigned(func(context.Context, *kgo.Client, map[string][]int32) { joined <- struct{}{} }))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	replicatortest.Await(t, "another member joins", joined)
	flow := c.Start()
	if err := flow.Wait(); err == nil || !strings.Contains(err.Error(), "do not understand this version") {
		t.Errorf("it ended with: %v", err)
	}
}

// Without the right to join, the error says what to grant.
func TestInstanceWithoutTheRightToJoin(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]kmsg.Key{"describe": kmsg.DescribeGroups, "join": kmsg.JoinGroup} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := replicatortest.NewClusters(t, 1)
			c.Source.CreateTopic("orders", 3)
			first := c.Start()
			first.UntilReady() // and the cluster has a coordinator
			first.Stop()
			c.Target.Fault(kfake.Fault{Keys: []kmsg.Key{key}, Err: kerr.GroupAuthorizationFailed})
			flow := c.Start()
			if err := flow.Wait(); err == nil || !strings.Contains(err.Error(), "grant") || !strings.Contains(err.Error(), "group milena.a-b") {
				t.Errorf("it ended with: %v", err)
			}
		})
	}
}

// Of several instances, only the one that syncs the groups says when: the time of one that did so before would stand still.
func TestOnlyTheDoerExportsSyncs(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 3)
	flows := replicatortest.Flows{c.Start(replicatortest.FastGroups), c.Start(replicatortest.FastGroups)}
	flows.UntilShared(1)
	replicatortest.Eventually(t, "exactly one instance exports the sync of groups", func() (bool, string) {
		exports := 0
		for _, f := range flows {
			if f.Metric("milena_groups_last_pass_timestamp_seconds") > 0 {
				exports++
			}
		}
		return exports == 1, fmt.Sprint(exports)
	})
	flows.Stop()
}
