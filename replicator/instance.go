package replicator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/membership"
	"github.com/milena-kafka/milena/replicator/topics"
)

// holding is how this process came to hold the shards that it holds.
type holding int32

const (
	// alone: the config says instances: one. It holds all shards until another process fences it, and then ends.
	alone holding = iota
	// joining: the group has not assigned shards yet. It holds none.
	joining
	// claimed: the group had no other instance, so it holds all shards while it joins. Brokers hold back the first join of an empty group for
	// group.initial.rebalance.delay.ms, 3 s by default. If several processes do this at the same time, fences decide until the group does.
	claimed
	// assigned: it holds what the group has assigned.
	assigned
)

func (h holding) String() string {
	return [...]string{"alone", "joining", "claimed", "assigned"}[h]
}

// instance is this process among the instances of the flow, which are one consumer group on the target. The group assigns the partitions of
// the journal topic, which are the shards. That decides who does the work, and no more: what makes an earlier owner's writes impossible is the
// fence of a shard, whoever believes to hold it.
type instance struct {
	id      string
	group   string
	member  atomic.Pointer[membership.Member]
	changed chan struct{} // the shards that are held have changed
	lost    chan struct{} // the membership has ended
	// joinedAt is when this process last began to join, in Unix nanoseconds.
	joinedAt atomic.Int64

	mu      sync.Mutex // serializes changes of what is held; held over a hand-over
	leaving bool       // nothing more is held; guarded by mu
	holding atomic.Int32
	seen    atomic.Pointer[membership.Group] // as the group was last described
	problem atomic.Pointer[string]           // why the membership last ended, nil once the group has assigned shards
}

func (i *instance) init(id string, flow config.Flow) {
	i.id, i.group, i.changed, i.lost = id, membership.GroupName(flow.Name), make(chan struct{}, 1), make(chan struct{}, 1)
	if flow.Instances != config.InstancesOne {
		i.holding.Store(int32(joining))
	}
}

func (i *instance) how() holding { return holding(i.holding.Load()) }

func (i *instance) joined() time.Time { return time.Unix(0, i.joinedAt.Load()) }

// isAssigned reports whether the group decides who holds a shard. Then its heartbeats confirm the lease. Otherwise fences and journal writes do:
// whoever owns shard 0 owns all of them.
func (i *instance) isAssigned() bool { return i.how() == assigned }

const (
	// DescribeEvery is how often the group is described.
	describeEvery = 3 * time.Second
	// ConfirmEvery is how often the membership is confirmed, well below the session timeout and the shortest lease.
	confirmEvery = 750 * time.Millisecond
	// HandOverDrain is how long a hand-over waits for batches in flight. The next owner finds out about those that are left.
	handOverDrain = time.Second
	// ConfirmTimeout is how long one heartbeat may take: if its coordinator hangs, the next one may find another.
	confirmTimeout = 1500 * time.Millisecond
)

// leaseOf is how long a process of the flow may write without confirmation. In a group it is not longer than the session timeout: the coordinator gives
// the shards of a member away when it has not heard of it for that long. Then an owner and its successor never write at the same time, even where
// the target has forgotten the fence between them.
func leaseOf(flow config.Flow) time.Duration {
	if flow.Instances == config.InstancesOne {
		return flow.Lease
	}
	return min(flow.Lease, membership.SessionTimeout)
}

// lookAround lets this process claim all shards if no other instance is there. It waits as long as the group cannot be read.
func (f *Flow) lookAround(ctx context.Context) error {
	for attempt := 0; ; attempt++ {
		began := f.lease.now()
		group, err := f.describeGroup(ctx)
		switch {
		case errors.Is(err, kerr.GroupAuthorizationFailed) && f.instance.how() != alone:
			return &fatalError{fmt.Errorf("flow %s: %w; or set instances: one, and run one process", f.config.Name, err)}
		case f.instance.how() == alone:
			return f.holdAlone(group)
		case err == nil:
			f.problem.Store(nil)
			if len(f.others(group)) == 0 && !f.claims() { // without a fence only the group says who may write
				f.claim(began)
			}
			return nil
		}
		text := err.Error()
		f.problem.Store(&text)
		f.warn("waiting for the group of the instances", "group", f.instance.group, "err", err)
		if err := client.Sleep(ctx, client.Backoff(attempt)); err != nil {
			return err
		}
	}
}

// describeGroup reads who is in the group. On a cluster that never had a group it is empty: its coordinator is created by the first one.
func (f *Flow) describeGroup(ctx context.Context) (membership.Group, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if !f.targetView().ByName["__consumer_offsets"].Exists() {
		request := kmsg.NewPtrFindCoordinatorRequest()
		request.CoordinatorKey, request.CoordinatorKeys = f.instance.group, []string{f.instance.group}
		response, err := f.target.Request(ctx, request)
		if err != nil {
			return membership.Group{}, f.options.TargetError(err)
		}
		found := response.(*kmsg.FindCoordinatorResponse)
		code := found.ErrorCode
		if len(found.Coordinators) > 0 {
			code = found.Coordinators[0].ErrorCode
		}
		if code == kerr.CoordinatorNotAvailable.Code {
			return membership.Group{State: "Dead"}, nil
		}
	}
	group, err := membership.Describe(ctx, f.target, f.instance.group)
	if err != nil {
		return group, err
	}
	f.instance.seen.Store(&group)
	return group, nil
}

// others returns the other instances of the group.
func (f *Flow) others(group membership.Group) []membership.Instance {
	return slices.DeleteFunc(slices.Clone(group.Instances), func(i membership.Instance) bool { return i.ID == f.instance.id })
}

// holdAlone holds all shards without a group. It refuses to do so next to instances that are one: they would fence each other for ever.
func (f *Flow) holdAlone(group membership.Group) error {
	if others := group.Instances; len(others) > 0 {
		return &fatalError{fmt.Errorf("flow %s has instances: one, and %s of it run as group %s on cluster %s, such as %s; stop them, or remove instances: one",
			f.config.Name, counted(len(others), "instance"), f.instance.group, f.config.Target, others[0].ID)}
	}
	f.holdAll()
	return nil
}

// claim holds all shards until the group decides. At an instant, no other instance was in it. That is all that the lease needs: it begins with the
// claim, or an assignment that comes before the first fence is complete would begin the takeover again.
func (f *Flow) claim(at instant) {
	f.instance.mu.Lock()
	defer f.instance.mu.Unlock()
	if f.instance.how() == joining {
		f.instance.holding.Store(int32(claimed))
		f.lease.confirm(at)
		f.holdAll()
	}
}

func (f *Flow) holdAll() {
	for k := range f.config.Shards {
		f.held.put(newShard(f, k))
	}
}

// join begins to join the group, if that was not done.
func (f *Flow) join(ctx context.Context) error {
	if f.instance.how() == alone || f.instance.member.Load() != nil {
		return nil
	}
	options, err := f.connections.memberOptions(f.options.Clusters)
	if err != nil {
		return err
	}
	member, err := membership.Join(ctx, membership.Config{
		Options: options, Cluster: f.config.Target, Group: f.instance.group, Topic: f.journalTopic, Instance: f.instance.id, Info: f.instanceInfo,
		Assigned: f.assigned, Settled: func() { requestSoon(f.instance.changed) }, Revoked: f.revoked, Lost: f.lost,
		Failed:  func(err error) { f.fail(&fatalError{fmt.Errorf("flow %s: %w", f.config.Name, err)}) },
		Retried: f.rejoins,
		Log:     f.log,
	})
	if err != nil {
		return err
	}
	f.instance.member.Store(member)
	f.instance.joinedAt.Store(time.Now().UnixNano())
	return nil
}

// rejoins reports why the membership ended, after which this process joins again, with the broker config that is the cause, if one is.
func (f *Flow) rejoins(err error) {
	ctx, cancel := context.WithTimeout(f.hard, explainTimeout)
	defer cancel()
	if cause := topics.ExplainGroups(ctx, f.target, f.config.Target, err); cause != nil {
		err = fmt.Errorf("%w (%w)", cause, err)
	}
	text := err.Error()
	f.instance.problem.Store(&text)
	f.log.Warn("the membership of the group ended, joining again", "group", f.instance.group, "err", err)
}

// explainTimeout is how long it may take to find out why brokers have no coordinator.
const explainTimeout = 5 * time.Second

// instanceInfo is what the other instances learn of this one when it joins.
func (f *Flow) instanceInfo() membership.Info {
	info := membership.Info{Version: f.options.Version, Process: f.process(), Weights: f.loads()}
	if f.lease.holds() || f.instance.how() == claimed {
		info.Claimed = f.held.numbers()
	}
	return info
}

// assigned holds exactly these shards from now on, because the group has assigned them. It blocks while shards are released that this process
// claimed and others are going to have.
func (f *Flow) assigned(numbers []int32) {
	f.instance.mu.Lock()
	defer f.instance.mu.Unlock()
	if f.instance.leaving {
		return
	}
	was := f.instance.how()
	f.instance.problem.Store(nil)
	f.instance.holding.Store(int32(assigned))
	if !f.lease.holds() { // others may have had since what this process holds
		f.giveUp(f.held.take(f.held.numbers()))
	}
	before := f.held.numbers()
	claims := slices.DeleteFunc(before, func(k int32) bool { return slices.Contains(numbers, k) })
	f.handOver(claims)
	added := 0
	for _, k := range numbers {
		if f.held.put(newShard(f, k)) {
			added++
		}
	}
	if added > 0 || was != assigned {
		f.log.Info("the group has assigned shards to this instance", "instance", f.instance.id, "shards", len(numbers), "new", added)
	}
}

// revoked hands shards over to other instances, to which they go when it returns.
func (f *Flow) revoked(numbers []int32) {
	f.instance.mu.Lock()
	defer f.instance.mu.Unlock()
	began := time.Now()
	f.handOver(numbers)
	f.log.Info("shards were handed over to other instances", "shards", len(numbers), "left", len(f.held.numbers()), "took", time.Since(began).Round(time.Millisecond))
}

// lost gives up all shards, because others may have them already.
func (f *Flow) lost(err error) {
	f.lease.lose() // before the lock, which a hand-over may hold for longer than others need to begin
	f.instance.mu.Lock()
	defer f.instance.mu.Unlock()
	f.instance.holding.Store(int32(joining))
	list := f.held.take(f.held.numbers())
	f.giveUp(list)
	if errors.Is(err, kerr.FencedInstanceID) {
		f.log.Warn("another process has this instance id now; this one has lost its shards", "instance", f.instance.id, "shards", len(list), "err", err)
	} else {
		f.log.Warn("the group has removed this instance; it has lost its shards and joins again", "shards", len(list), "err", err)
	}
	requestSoon(f.instance.lost)
}

// yield gives up what this process has claimed, because another one has fenced it. The group decides who has what.
func (f *Flow) yield() {
	f.instance.mu.Lock()
	defer f.instance.mu.Unlock()
	if f.instance.how() != claimed {
		return
	}
	f.instance.holding.Store(int32(joining))
	f.giveUp(f.held.take(f.held.numbers()))
	f.log.Info("another instance takes the shards over as well, waiting for the group to assign them", "group", f.instance.group)
}

// holdAnew gives a shard up and holds it again, so that its journal is read again.
func (f *Flow) holdAnew(s *shard) {
	f.instance.mu.Lock()
	defer f.instance.mu.Unlock()
	if f.held.get(s.number) != s {
		return // the group has taken it away meanwhile
	}
	f.giveUp(f.held.take([]int32{s.number}))
	f.held.put(newShard(f, s.number))
	requestSoon(f.instance.changed)
}

// isOwnedElsewhere reports whether an owner record is one of another instance that runs. That of the same instance id is of the process before.
func (f *Flow) isOwnedElsewhere(o *offsets.Owner) bool {
	return o != nil && o.Instance != f.owner.Instance && time.Since(o.Confirmed).Abs() < f.config.Lease
}

// confirmOwnership records that a fence or a journal write of a shard succeeded, which was sent at an instant. While the group assigns shards, that
// says nothing about the other ones.
func (f *Flow) confirmOwnership(at instant) {
	if !f.instance.isAssigned() {
		f.lease.confirm(at)
	}
}

// standDown hands all shards over at a clean stop, if other instances are there to take them, and takes no more.
func (f *Flow) standDown() {
	f.instance.mu.Lock()
	defer f.instance.mu.Unlock()
	f.instance.leaving = true
	group := f.instance.seen.Load()
	if f.instance.isAssigned() && group != nil && len(f.others(*group)) > 0 {
		f.handOver(f.held.numbers())
	}
}

// standBack leaves the group, because the flow cannot begin. It may try again.
func (f *Flow) standBack(ctx context.Context) {
	f.leave(ctx)
	f.instance.mu.Lock()
	defer f.instance.mu.Unlock()
	if f.instance.how() == alone {
		return
	}
	f.instance.member.Store(nil)
	f.instance.holding.Store(int32(joining))
	f.giveUp(f.held.take(f.held.numbers()))
}

// leave leaves the group, once all shards are journaled, so that they go to others at once. It does nothing if that was done.
func (f *Flow) leave(ctx context.Context) {
	member := f.instance.member.Load()
	if member == nil {
		return
	}
	if err := member.Leave(ctx, f.target); err != nil {
		f.log.Warn("the group could not be left; its shards go to others after the session timeout", "group", f.instance.group, "timeout", membership.SessionTimeout, "err", err)
	}
}

// elsewhere reports whether another instance of the flow holds the shard of a source partition. This process then has no such partition, also
// if the flow copies it, and the journal is all that it knows of it. It is also true while nobody holds the shard.
func (f *Flow) elsewhere(source offsets.TopicPartition) bool {
	return f.held.get(f.shardOf(source)) == nil
}

// shardOf returns the number of the shard that a source partition belongs to.
func (f *Flow) shardOf(source offsets.TopicPartition) int32 {
	return offsets.ShardOf(source.Topic, source.Partition, f.config.Shards)
}
