package membership

import (
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Protocol is the name of the group protocol. Instances with different protocols cannot be in one group.
const Protocol = "milena-1"

// metadataVersion is the first version of a member's metadata that has a generation, and a rack behind it.
const metadataVersion = 3

// assignor is the group balancer of an instance. The group's leader plans for all. The client calls it from one goroutine.
type assignor struct {
	info func() Info
	// moving are the loads of the shards that the last plan has taken from their instance and not yet given to the next. In the plan that
	// gives them, nobody holds them, so nobody reports their load.
	moving map[int32]int64
	// claimed are the shards that the last metadata claims.
	claimed []int32
}

// newAssignor returns a cooperative, sticky balancer. It calls info whenever the instance joins the group, so info must not block.
func newAssignor(info func() Info) *assignor { return &assignor{info: info} }

var _ kgo.GroupBalancer = (*assignor)(nil)

func (*assignor) ProtocolName() string { return Protocol }

func (*assignor) IsCooperative() bool { return true }

func (a *assignor) JoinGroupMetadata(topics []string, assigned map[string][]int32, generation int32) []byte {
	meta := kmsg.NewConsumerMemberMetadata()
	meta.Version = metadataVersion
	meta.Topics = topics
	meta.Generation = generation
	for _, topic := range slices.Sorted(maps.Keys(assigned)) {
		owned := kmsg.NewConsumerMemberMetadataOwnedPartition()
		owned.Topic, owned.Partitions = topic, assigned[topic]
		meta.OwnedPartitions = append(meta.OwnedPartitions, owned)
	}
	info := a.info()
	a.claimed = nil
	if len(assigned) == 0 && len(info.Claimed) > 0 {
		a.claimed = info.Claimed
		owned := kmsg.NewConsumerMemberMetadataOwnedPartition()
		owned.Topic, owned.Partitions = topics[0], info.Claimed // the group has one topic
		meta.OwnedPartitions = append(meta.OwnedPartitions, owned)
	}
	meta.UserData = info.encode()
	return meta.AppendTo(nil)
}

func (*assignor) ParseSyncAssignment(assignment []byte) (map[string][]int32, error) {
	return kgo.ParseConsumerSyncAssignment(assignment)
}

func (a *assignor) MemberBalancer(members []kmsg.JoinGroupResponseMember) (kgo.GroupMemberBalancer, map[string]struct{}, error) {
	b, err := kgo.NewConsumerBalancer(a, members)
	return b, b.MemberTopics(), err
}

// Balance plans for the one topic that all members subscribe to.
func (a *assignor) Balance(b *kgo.ConsumerBalancer, topics map[string]int32) kgo.IntoSyncAssignment {
	plan := b.NewPlan()
	for topic := range b.MemberTopics() {
		if topics[topic] == 0 {
			// A plan without shards would stop the whole flow. With an error only the leader lets go of its shards, and joins again with new metadata.
			b.SetError(fmt.Errorf("topic %s has no partitions in the cluster's metadata", topic))
			return nil
		}
		shards := make([]int32, topics[topic])
		for i := range shards {
			shards[i] = int32(i)
		}
		holders := resolve(b, topic)
		known := a.known(b, holders)
		assigned := balance(shards, holders, weights(shards, known))
		for member, planned := range plan.AsMemberIDMap() {
			planned[topic] = assigned[member]
		}
		plan.AdjustCooperative(b)
		a.moving = known
		for _, planned := range plan.AsMemberIDMap() {
			for _, shard := range planned[topic] {
				delete(a.moving, shard)
			}
		}
	}
	return plan
}

// resolve returns who holds which shard. Of two members that claim a shard the one of the newer generation holds it: the other has missed a
// rebalance. If both are of the same generation none holds it.
func resolve(b *kgo.ConsumerBalancer, topic string) []holder {
	type claim struct {
		generation int32
		holder     int // -1 if none
	}
	claims := make(map[int32]claim)
	var holders []holder
	b.EachMember(func(member *kmsg.JoinGroupResponseMember, meta *kmsg.ConsumerMemberMetadata) {
		i := len(holders)
		holders = append(holders, holder{id: member.MemberID})
		for _, owned := range meta.OwnedPartitions {
			if owned.Topic != topic {
				continue
			}
			for _, shard := range owned.Partitions {
				switch other, claimed := claims[shard]; {
				case !claimed, meta.Generation > other.generation:
					claims[shard] = claim{meta.Generation, i}
				case meta.Generation == other.generation && i != other.holder:
					claims[shard] = claim{meta.Generation, -1}
				}
			}
		}
	})
	for _, shard := range slices.Sorted(maps.Keys(claims)) {
		if i := claims[shard].holder; i >= 0 {
			holders[i].owned = append(holders[i].owned, shard)
		}
	}
	return holders
}

// known returns the loads that are known. Of the shards that have a holder, the holder's word counts.
func (a *assignor) known(b *kgo.ConsumerBalancer, holders []holder) map[int32]int64 {
	known := make(map[int32]int64)
	maps.Copy(known, a.moving)
	for i, h := range holders {
		_, meta := b.MemberAt(i)
		loads := decodeInfo(meta.UserData).Weights
		for _, shard := range h.owned {
			if load := loads[shard]; load > 0 {
				known[shard] = load
			}
		}
	}
	return known
}
