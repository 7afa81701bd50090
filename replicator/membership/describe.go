package membership

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The states of a group without members.
const (
	stateDead  = "Dead" // there is no such group
	stateEmpty = "Empty"
	// StateStable is that of a group whose members have their shards.
	stateStable = "Stable"
)

// Group is the group of a flow's instances as its coordinator describes it.
type Group struct {
	// State is the coordinator's name for it: Stable, PreparingRebalance, CompletingRebalance, Empty or Dead.
	State string
	// Instances are sorted by ID.
	Instances []Instance
}

// Instance is a member of the group. Version, Process and Shards are empty while the group rebalances: the coordinator does not tell them then.
type Instance struct {
	ID       string  `json:"id"` // group.instance.id, or else the member id
	MemberID string  `json:"-"`
	Process  string  `json:"-"` // Info.Process
	Host     string  `json:"host"`
	Version  string  `json:"version"`
	Shards   []int32 `json:"shards"` // sorted; null while they are not known
}

// IsEmpty reports whether the group has no members.
func (g Group) IsEmpty() bool { return g.State == stateDead || g.State == stateEmpty }

// IsMoving reports whether the group rebalances.
func (g Group) IsMoving() bool { return !g.IsEmpty() && g.State != stateStable }

// Describe returns the state of a group. A group that does not exist is Dead, which is no error.
func Describe(ctx context.Context, cl *kgo.Client, group string) (Group, error) {
	answers, err := kadm.NewClient(cl).DescribeGroups(ctx, group)
	var failed *kadm.ShardErrors
	if errors.As(err, &failed) && len(failed.Errs) > 0 {
		err = failed.Errs[0].Err
	}
	described, answered := answers[group]
	if err == nil {
		err = described.Err
	}
	switch {
	case errors.Is(err, kerr.GroupIDNotFound): // KIP-1043; earlier versions describe a group that is Dead
		return Group{State: stateDead}, nil
	case err != nil:
		return Group{}, fmt.Errorf("describe group %s: %w%s", group, err, remedy(group, err))
	case !answered:
		return Group{}, fmt.Errorf("describe group %s: the cluster's answer does not have the group", group)
	}
	g := Group{State: described.State}
	for _, m := range described.Members {
		g.Instances = append(g.Instances, instanceOf(m))
	}
	slices.SortFunc(g.Instances, func(a, b Instance) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.MemberID, b.MemberID))
	})
	return g, nil
}

func instanceOf(m kadm.DescribedGroupMember) Instance {
	i := Instance{ID: m.MemberID, MemberID: m.MemberID, Host: strings.TrimPrefix(m.ClientHost, "/")}
	if m.InstanceID != nil {
		i.ID = *m.InstanceID
	}
	if joined, ok := m.Join.AsConsumer(); ok {
		info := decodeInfo(joined.UserData)
		i.Version, i.Process = info.Version, info.Process
	}
	if assigned, ok := m.Assigned.AsConsumer(); ok {
		for _, topic := range assigned.Topics {
			i.Shards = append(i.Shards, topic.Partitions...)
		}
	}
	slices.Sort(i.Shards)
	return i
}

// remedy says what to do about an error of a group, as the end of a sentence.
func remedy(group string, err error) string {
	switch {
	case errors.Is(err, kerr.GroupAuthorizationFailed):
		return fmt.Sprintf("; grant DESCRIBE, and READ to join, on group %s of the cluster", group)
	case errors.Is(err, kerr.CoordinatorLoadInProgress), errors.Is(err, kerr.CoordinatorNotAvailable), errors.Is(err, kerr.NotCoordinator):
		return "; the cluster's coordinator of the group is not ready: try again, and if it stays so see whether __consumer_offsets has leaders"
	}
	return ""
}
