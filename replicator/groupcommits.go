package replicator

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"golang.org/x/sync/errgroup"

	"github.com/milena-kafka/milena/policy"
)

// commitsAtATime bounds the groups that are committed at one time.
const commitsAtATime = 8

// commit moves the groups on the target that have no members, and only forward.
func (g *groups) commit(ctx context.Context, positions []*groupPosition) error {
	byGroup := make(map[string][]*groupPosition)
	for _, p := range positions {
		if p.refusal == "" {
			byGroup[p.group] = append(byGroup[p.group], p)
		}
	}
	if len(byGroup) == 0 {
		return nil
	}
	admin := kadm.NewClient(g.flow.target)
	there, err := admin.ListGroups(ctx)
	if err != nil {
		// A group that is not in a list with a hole may be active for all we know.
		return fmt.Errorf("list groups of cluster %s: %w", g.flow.targetAlias, err)
	}
	var known []string
	for group := range byGroup {
		if _, ok := there[group]; ok {
			known = append(known, group)
		}
	}
	slices.Sort(known)
	committed := readCommitted(ctx, admin, known)
	var work errgroup.Group
	work.SetLimit(commitsAtATime)
	for group, list := range byGroup {
		work.Go(func() error {
			moved := commitGroup(ctx, admin, there[group], committed[group], list)
			g.flow.metrics.groupCommits.Add(float64(moved))
			return nil
		})
	}
	return work.Wait()
}

// readCommitted reads where groups stand. An offset that a transaction is about to commit is waited for (KIP-447): the one before it would
// make the group look further behind than it is. A group that the answer leaves out has an error.
func readCommitted(ctx context.Context, admin *kadm.Client, groups []string) kadm.FetchOffsetsResponses {
	committed := make(kadm.FetchOffsetsResponses)
	for part := range slices.Chunk(groups, groupsPerRequest) {
		answers := admin.FetchManyOffsets(kadm.RequireStable(ctx), part...)
		for _, group := range part {
			answer, ok := answers[group]
			if !ok {
				answer.Err = errors.New("the answer does not name the group")
			}
			committed[group] = answer
		}
	}
	return committed
}

// commitGroup commits one group's positions, those that may be, and says how many were. The others are refused.
func commitGroup(ctx context.Context, admin *kadm.Client, there kadm.ListedGroup, committed kadm.FetchOffsetsResponse, list []*groupPosition) int {
	if committed.Err != nil {
		refuseAll(list, committed.Err)
		return 0
	}
	moves := make(kadm.Offsets)
	var moved []*groupPosition
	for _, p := range list {
		group := policy.TargetGroup{Protocol: there.ProtocolType, State: there.State, Committed: -1}
		if o, ok := committed.Fetched.Lookup(p.target.Topic, p.target.Partition); ok {
			if o.Err != nil {
				refuseAll([]*groupPosition{p}, o.Err) // it may stand anywhere
				continue
			}
			group.Committed = o.At
		}
		may, why := group.Commit(p.to)
		if why != "" {
			p.refuse(why, fmt.Sprintf("%s: at %d, translated %d", p.target, group.Committed, p.to))
		}
		if may {
			// No leader epoch: the source's means nothing here, and a wrong one would look like a truncated log (KIP-320).
			moves.Add(kadm.Offset{Topic: p.target.Topic, Partition: p.target.Partition, At: p.to, LeaderEpoch: -1, Metadata: p.metadata})
			moved = append(moved, p)
		}
	}
	if len(moved) == 0 {
		return 0
	}
	answer, err := admin.CommitOffsets(ctx, moved[0].group, moves)
	if err != nil {
		refuseAll(moved, err)
		return 0
	}
	n := 0
	for _, p := range moved {
		o, _ := answer.Lookup(p.target.Topic, p.target.Partition)
		if o.Err != nil {
			refuseAll([]*groupPosition{p}, o.Err)
			continue
		}
		n++
	}
	return n
}

// refuseAll notes why a request about a group failed.
func refuseAll(list []*groupPosition, err error) {
	why := policy.RefusedFailed
	switch {
	case errors.Is(err, kerr.UnknownMemberID), errors.Is(err, kerr.IllegalGeneration), errors.Is(err, kerr.RebalanceInProgress), errors.Is(err, kerr.StaleMemberEpoch):
		why = policy.RefusedActive // it became active between our look and our commit
	case errors.Is(err, kerr.GroupAuthorizationFailed), errors.Is(err, kerr.TopicAuthorizationFailed):
		why = policy.RefusedRights
	}
	for _, p := range list {
		p.refuse(why, fmt.Sprintf("%s: %v", p.target, err))
	}
}
