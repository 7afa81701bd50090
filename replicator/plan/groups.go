package plan

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
)

// groupsShown is how many groups a warning names.
const groupsShown = 10

// checkGroups checks what the group sync would leave alone. Records are copied without it, so problems are warnings.
func (c *check) checkGroups(ctx context.Context) {
	if !c.flow.GroupsSync && !c.flow.Checkpoints {
		return // the lists of groups have no effect
	}
	selected := c.selectedGroups(ctx)
	c.checkProtocols(selected)
	if !c.flow.GroupsSync {
		return
	}
	c.checkWayBack(ctx)
	c.checkGroupMetadata(ctx, selected)
	own, err := c.ownGroups(ctx, selected)
	if err != nil {
		c.warn("it is not known which groups on cluster %s are not milena's: %v", c.flow.Target, err)
	}
	if len(own) > 0 {
		text := strings.Join(own[:min(groupsShown, len(own))], ", ")
		if n := len(own) - groupsShown; n > 0 {
			text += fmt.Sprintf(" and %d more", n)
		}
		c.warn("%s on cluster %s with committed offsets that milena did not put there, and leaves where they are: %s", counted(len(own), "group"), c.flow.Target, text)
	}
}

// selectedGroups returns the selected groups of the source, sorted, and finds the items of the group lists that select none. If a broker does not
// answer, the groups of the others are still there.
func (c *check) selectedGroups(ctx context.Context) []kadm.ListedGroup {
	rules, err := policy.NewGroups(c.flow)
	if err != nil {
		c.refuse("%v", err)
		return nil
	}
	listed, err := kadm.NewClient(c.sourceClient).ListGroups(ctx)
	if err != nil {
		c.warn("it is not known which groups cluster %s has: %v", c.flow.Source, err)
	} else {
		c.plan.Unused = append(c.plan.Unused, rules.Unused(slices.Sorted(maps.Keys(listed)))...)
	}
	return slices.DeleteFunc(listed.Sorted(), func(g kadm.ListedGroup) bool { return !rules.Selected(g.Group) })
}

// checkProtocols names the groups that are not followed, because they are not groups of consumers.
func (c *check) checkProtocols(selected []kadm.ListedGroup) {
	left := slices.DeleteFunc(slices.Clone(selected), func(g kadm.ListedGroup) bool { return policy.Translatable(g.ProtocolType) })
	for _, g := range left[:min(groupsShown, len(left))] {
		c.warn("group %s on cluster %s is not followed: it %s", g.Group, c.flow.Source, policy.ExplainProtocol(g.ProtocolType))
	}
	if n := len(left) - groupsShown; n > 0 {
		c.warn("%s on cluster %s are not followed, as they are no consumer groups", counted(n, "more group"), c.flow.Source)
	}
}

// checkWayBack checks groups_back.
func (c *check) checkWayBack(ctx context.Context) {
	if len(c.flow.GroupsBack) == 0 {
		if len(c.clusters.Reverse) > 0 {
			c.warn("groups that consume copies on cluster %s are not moved back to their home on cluster %s: groups_back is not set", c.flow.Source, c.flow.Target)
		}
		return
	}
	if len(c.clusters.Reverse) == 0 {
		c.warn("groups_back has no effect: no flow of the config goes from %s to %s", c.flow.Target, c.flow.Source)
	}
	for _, reverse := range c.clusters.Reverse {
		if journal := offsets.JournalTopic(reverse.Name); c.source.ByName[journal].Exists() {
			c.checkRightsOn(ctx, c.sourceClient, c.flow.Source, []string{journal}, c.warn, kmsg.ACLOperationRead)
		}
	}
}

// groupsPerRequest is the largest number of groups in one OffsetFetch request.
const groupsPerRequest = 100

// groupPartition identifies the committed offset of a group in one partition of the target.
type groupPartition struct {
	group string
	offsets.TopicPartition
}

// ownGroups returns those of the selected groups that have committed offsets in copies on the target which milena did not put there.
func (c *check) ownGroups(ctx context.Context, selected []kadm.ListedGroup) ([]string, error) {
	target := kadm.NewClient(c.targetClient)
	onTarget, err := target.ListGroups(ctx)
	if err != nil {
		return nil, err
	}
	var both []string
	for _, g := range selected {
		if _, ok := onTarget[g.Group]; ok {
			both = append(both, g.Group)
		}
	}
	if len(both) == 0 {
		return nil, nil
	}
	put, err := c.putByMilena(ctx)
	if err != nil {
		return nil, err
	}
	own := make(map[string]bool)
	for some := range slices.Chunk(both, groupsPerRequest) {
		for group, fetched := range target.FetchManyOffsets(ctx, some...) {
			fetched.Fetched.Each(func(o kadm.OffsetResponse) {
				key := groupPartition{group, offsets.TopicPartition{Topic: o.Topic, Partition: o.Partition}}
				if _, ok := c.topics.Rules.Source(o.Topic); ok && o.Err == nil && o.At >= 0 && !slices.Contains(put[key], o.At) {
					own[group] = true
				}
			})
		}
	}
	return slices.Sorted(maps.Keys(own)), nil
}

// putByMilena returns the offsets on the target that count as put by milena: by the journal or, before the first sync of groups, by the
// checkpoints.
func (c *check) putByMilena(ctx context.Context) (map[groupPartition][]int64, error) {
	var put map[groupPartition][]int64
	began := false
	reset := func() { put, began = make(map[groupPartition][]int64), false }
	reset()
	err := offsets.NewLineageReader(c.targetClient, offsets.JournalTopic(c.flow.Name), c.clusters.Log, reset, func(e offsets.Entry) {
		switch e := e.(type) {
		case *offsets.Lineage:
			began = true
		case *offsets.GroupPositions:
			for _, o := range e.Placed {
				put[groupPartition{e.Group, offsets.TopicPartition{Topic: e.Topic, Partition: o.Partition}}] = []int64{o.Put, o.Before}
			}
		case *offsets.ShardState, *offsets.Owner, *offsets.PartitionState, *offsets.Chunk, *offsets.Tombstone:
		}
	}).Follow(ctx)
	var noJournal *offsets.NoJournalError
	if err != nil && !errors.As(err, &noJournal) || began {
		return put, err
	}
	err = offsets.VisitCheckpoints(ctx, c.targetClient, c.clusters.InternalTopics(), c.flow.Source, func(w offsets.Checkpoint) {
		key := groupPartition{w.Group, offsets.TopicPartition{Topic: w.Topic, Partition: w.Partition}}
		put[key] = append(put[key], w.Target)
	})
	var none *offsets.NoCheckpointsError
	if errors.As(err, &none) {
		err = nil
	}
	return put, err
}
