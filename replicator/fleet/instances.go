package fleet

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/membership"
)

// describer reads the consumer group of a flow. A group that does not exist has no members.
type describer func(ctx context.Context, cl *kgo.Client, flow string) (membership.Group, error)

// members are the members of the flow's group, or why they are not known.
type members struct {
	list []Instance
	// moving is the state of a group that rebalances, empty if it does not: then the coordinator does not say which member has which shards.
	moving string
	err    error
}

const (
	// A group that rebalances is asked again for this long.
	rebalanceTimeout = 5 * time.Second
	rebalancePause   = 200 * time.Millisecond
)

func (r *reading) readMembers(ctx context.Context, describe describer) members {
	ctx, cancel := context.WithTimeout(ctx, targetTimeout)
	defer cancel()
	group, err := describe(ctx, r.target, r.flow.Name)
	for began := time.Now(); err == nil && group.IsMoving() && time.Since(began) < rebalanceTimeout; group, err = describe(ctx, r.target, r.flow.Name) {
		if err := client.Sleep(ctx, rebalancePause); err != nil {
			break
		}
	}
	if err != nil {
		return members{err: r.clusters.TargetError(err)}
	}
	var m members
	if group.IsMoving() {
		m.moving = group.State
	}
	for _, member := range group.Instances {
		instance := Instance{ID: member.ID, Host: strings.TrimPrefix(member.Host, "/"), Version: member.Version} // Kafka has a / before an address
		if m.moving == "" {
			instance.Shards = append([]int32{}, member.Shards...)
		}
		m.list = append(m.list, instance)
	}
	return m
}

// instances returns who runs the flow.
func (r *reading) instances(now time.Time) (Mode, []Instance) {
	if r.members.err != nil {
		return ModeUnknown, nil
	}
	if len(r.members.list) > 0 {
		list := slices.Clone(r.members.list)
		for i := range list {
			r.addOwner(&list[i])
		}
		return ModeGroup, list
	}
	owner := r.journal.lastOwner()
	if owner == nil || now.Sub(owner.Confirmed).Abs() > r.freshness() {
		return ModeStopped, nil
	}
	one := Instance{ID: owner.Instance, Host: owner.Host, Version: owner.Version, Since: owner.Since, Confirmed: owner.Confirmed}
	for k := range r.journal {
		one.Shards = append(one.Shards, int32(k))
	}
	return ModeOne, []Instance{one}
}

// freshness is how old an owner record may be that stands for a running instance. An owner renews it several times per lease, and may write nothing
// without that. The rest is for clocks that differ.
func (r *reading) freshness() time.Duration { return 2 * r.flow.Lease }

// addOwner adds what the journal says of an instance. The owner writes one record for many shards.
func (r *reading) addOwner(i *Instance) {
	for _, s := range r.journal {
		if o := s.owner; o != nil && o.Instance == i.ID && o.Confirmed.After(i.Confirmed) {
			i.Host, i.Since, i.Confirmed = o.Host, o.Since, o.Confirmed
		}
	}
}

// owners returns the instance of each shard, empty for those without.
func owners(shards int, instances []Instance) []string {
	byShard := make([]string, shards)
	for _, i := range instances {
		for _, k := range i.Shards {
			if k >= 0 && int(k) < shards {
				byShard[k] = i.ID
			}
		}
	}
	return byShard
}

// describe asks the target.
func describe(ctx context.Context, cl *kgo.Client, flow string) (membership.Group, error) {
	return membership.Describe(ctx, cl, membership.GroupName(flow))
}
