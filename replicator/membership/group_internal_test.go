package membership

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/replicator/kafkatest"
)

const (
	flowGroup = "milena.flow"
	patience  = 3 * time.Minute
)

// groupTest is a group over a journal of 64 partitions on a fake cluster.
type groupTest struct {
	*testing.T
	cluster *kfake.Cluster
	client  *kgo.Client

	mu     sync.Mutex
	owners map[int32]string // by shard, as the members' callbacks say
	errs   []string
	events chan struct{} // has a value after a callback
}

func newGroupTest(t *testing.T) *groupTest {
	t.Helper()
	test := &groupTest{T: t, cluster: kafkatest.New(t), owners: make(map[int32]string), events: make(chan struct{}, 1)}
	test.client = kafkatest.Client(t, test.cluster)
	kafkatest.CreateTopic(t, test.cluster, journal, 64, nil)
	return test
}

// member joins the group. It is static if it has an instance id.
func (test *groupTest) member(name, instance string, loads map[int32]int64) *kgo.Client {
	test.Helper()
	info := func() Info {
		test.mu.Lock()
		defer test.mu.Unlock()
		held := make(map[int32]int64)
		for shard, owner := range test.owners {
			if owner == name {
				held[shard] = loads[shard]
			}
		}
		return Info{Version: "version of " + name, Weights: held}
	}
	let := func(_ context.Context, _ *kgo.Client, revoked map[string][]int32) {
		test.change(func() {
			for _, shard := range revoked[journal] {
				if test.owners[shard] != name {
					test.errs = append(test.errs, fmt.Sprintf("%s let go of shard %d of %q", name, shard, test.owners[shard]))
				}
				delete(test.owners, shard)
			}
		})
	}
	opts := []kgo.Opt{
		kgo.SeedBrokers(test.cluster.ListenAddrs()...),
		kgo.ConsumerGroup(flowGroup), kgo.ConsumeTopics(journal), kgo.DisableAutoCommit(),
		kgo.Balancers(newAssignor(info)), kgo.HeartbeatInterval(20 * time.Millisecond),
		kgo.OnPartitionsRevoked(let), kgo.OnPartitionsLost(let),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, assigned map[string][]int32) {
			test.change(func() {
				for _, shard := range assigned[journal] {
					if owner, ok := test.owners[shard]; ok {
						test.errs = append(test.errs, fmt.Sprintf("%s was assigned shard %d of %s", name, shard, owner))
					}
					test.owners[shard] = name
				}
			})
		}),
	}
	if instance != "" {
		opts = append(opts, kgo.InstanceID(instance))
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		test.Fatal(err)
	}
	test.Cleanup(cl.Close)
	return cl
}

func (test *groupTest) change(f func()) {
	test.mu.Lock()
	f()
	test.mu.Unlock()
	select {
	case test.events <- struct{}{}:
	default:
	}
}

// settled waits until each shard is owned once, by that many members which fair accepts, and the coordinator says the same of a stable group.
func (test *groupTest) settled(members int, fair func(shards []int32) bool) Group {
	test.Helper()
	ctx, cancel := context.WithTimeout(test.Context(), patience)
	defer cancel()
	poll := time.NewTicker(20 * time.Millisecond) // the coordinator has no events
	defer poll.Stop()
	for {
		g, err := Describe(ctx, test.client, flowGroup)
		if err != nil {
			test.Fatal(err)
		}
		test.mu.Lock()
		owners, errs := maps.Clone(test.owners), test.errs
		test.mu.Unlock()
		if len(errs) > 0 {
			test.Fatal(strings.Join(errs, "\n"))
		}
		if isSettled(g, owners, members, fair) {
			return g
		}
		select {
		case <-ctx.Done():
			test.Fatalf("not within %v; %d shards are owned, the group is %+v", patience, len(owners), g)
		case <-test.events:
		case <-poll.C:
		}
	}
}

func isSettled(g Group, owners map[int32]string, members int, fair func([]int32) bool) bool {
	if g.State != "Stable" || len(g.Instances) != members || len(owners) != 64 {
		return false
	}
	count := 0
	for _, i := range g.Instances {
		count += len(i.Shards)
		for _, shard := range i.Shards {
			if "version of "+owners[shard] != i.Version {
				return false
			}
		}
		if !fair(i.Shards) {
			return false
		}
	}
	return count == 64
}

func between(low, high int) func([]int32) bool {
	return func(shards []int32) bool { return low <= len(shards) && len(shards) <= high }
}

// leave removes a member from the group, as its process does when it ends for good.
func (test *groupTest) leave(cl *kgo.Client, instance string) {
	test.Helper()
	cl.Close()
	if instance == "" {
		return
	}
	// A static member stays until it is removed or its session times out.
	left, err := kadm.NewClient(test.client).LeaveGroup(test.Context(), kadm.LeaveGroup(flowGroup).InstanceIDs(instance))
	if err != nil || !left.Ok() {
		test.Fatal(err, left)
	}
}

func TestMembersJoinAndLeave(t *testing.T) {
	for _, static := range []bool{false, true} {
		t.Run(fmt.Sprintf("static=%v", static), func(t *testing.T) {
			test := newGroupTest(t)
			id := func(name string) string {
				if static {
					return "instance-" + name
				}
				return ""
			}
			if g, err := Describe(t.Context(), test.client, flowGroup); err != nil || !g.IsEmpty() || g.State != "Dead" {
				t.Fatal(g, err)
			}
			a := test.member("a", id("a"), nil)
			test.settled(1, between(64, 64))
			b := test.member("b", id("b"), nil)
			before := test.settled(2, between(32, 32))
			c := test.member("c", id("c"), nil)
			test.mustStay(before, test.settled(3, between(21, 22)), 22)
			test.leave(a, id("a"))
			before = test.settled(2, between(32, 32))
			if static {
				if before.Instances[0].ID != "instance-b" || before.Instances[1].ID != "instance-c" || before.Instances[0].Host == "" {
					t.Fatal(before)
				}
				b.Close()
				b = test.member("b", id("b"), nil) // again, and keeps its shards
				test.mustStay(before, test.settled(2, between(32, 32)), 0)
			}
			test.leave(b, id("b"))
			test.settled(1, between(64, 64))
			test.leave(c, id("c"))
			if g, err := Describe(t.Context(), test.client, flowGroup); err != nil || !g.IsEmpty() {
				t.Fatal(g, err)
			}
		})
	}
}

// mustStay checks that most shards have the instance that they had before.
func (test *groupTest) mustStay(before, after Group, mayMove int) {
	test.Helper()
	moves := 0
	for _, was := range before.Instances {
		for _, is := range after.Instances {
			if was.ID != is.ID {
				continue
			}
			for _, shard := range was.Shards {
				if !slices.Contains(is.Shards, shard) {
					moves++
				}
			}
		}
	}
	if moves > mayMove {
		test.Fatalf("%d shards have moved:\n%+v\n%+v", moves, before, after)
	}
}

// The loads decide once they are known: who holds the one heavy shard ends with few others.
func TestMembersWithLoads(t *testing.T) {
	test := newGroupTest(t)
	loads := make(map[int32]int64)
	for shard := range int32(64) {
		loads[shard] = 1_000_000
	}
	loads[13] = 63_000_000
	test.member("a", "", loads)
	test.settled(1, between(64, 64))
	test.member("b", "", loads)
	fair := func(shards []int32) bool {
		sum := int64(0)
		for _, shard := range shards {
			sum += loads[shard]
		}
		return sum < 63_000_000*12/10
	}
	g := test.settled(2, fair)
	if n := min(len(g.Instances[0].Shards), len(g.Instances[1].Shards)); n > 15 {
		t.Errorf("the one with the heavy shard has %d", n)
	}
}

// A member that has joined and waits for its assignment has no shards, and the coordinator does not tell its version.
func TestDescribeWhileRebalancing(t *testing.T) {
	test := newGroupTest(t)
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.ProtocolType, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = flowGroup, "consumer", 30_000, 30_000
	join.InstanceID = kmsg.StringPtr("b")
	protocol := kmsg.NewJoinGroupRequestProtocol()
	protocol.Name, protocol.Metadata = Protocol, newAssignor(func() Info { return Info{Version: "v1"} }).JoinGroupMetadata([]string{journal}, nil, -1)
	join.Protocols = append(join.Protocols, protocol)
	resp, err := join.RequestWith(t.Context(), test.client)
	if err != nil || resp.ErrorCode != 0 {
		t.Fatal(err, resp)
	}
	g, err := Describe(t.Context(), test.client, flowGroup)
	if err != nil || g.IsEmpty() {
		t.Fatal(g, err)
	}
	want := Group{State: "CompletingRebalance", Instances: []Instance{{ID: "b", MemberID: resp.MemberID, Host: g.Instances[0].Host}}}
	if d := cmp.Diff(want, g); d != "" {
		t.Error(d)
	}
}

func TestDescribeErrors(t *testing.T) {
	for _, test := range []struct {
		err  *kerr.Error
		want string
	}{
		{kerr.GroupAuthorizationFailed, "; grant DESCRIBE, and READ to join, on group milena.flow of the cluster"},
		{kerr.InvalidGroupID, "describe group milena.flow: INVALID_GROUP_ID"},
	} {
		cluster := kafkatest.New(t)
		cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeGroups}, Err: test.err, Count: -1})
		g, err := Describe(t.Context(), kafkatest.Client(t, cluster), flowGroup)
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), test.err.Message) {
			t.Errorf("want %q in %v; the group is %v", test.want, err, g)
		}
	}
	if got := remedy(flowGroup, kerr.CoordinatorLoadInProgress); !strings.Contains(got, "try again") {
		t.Error(got)
	}
}
