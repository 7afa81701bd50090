package groups

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
)

// maxCommits is the maximum number of groups that are committed at the same time.
const maxCommits = 8

// commit commits translated positions on the target: of groups without members, and only forward.
func (s *Syncer) commit(ctx context.Context, positions []*position) error {
	byGroup := make(map[string][]*position)
	for _, p := range notRefused(positions) {
		byGroup[p.group] = append(byGroup[p.group], p)
	}
	if len(byGroup) == 0 {
		return nil
	}
	admin := kadm.NewClient(s.deps.TargetClient)
	listed, err := admin.ListGroups(ctx)
	if err != nil {
		// A group that is missing in an incomplete list may be active.
		return fmt.Errorf("list groups of cluster %s: %w", s.deps.Flow.Target, err)
	}
	var existing []string
	for group := range byGroup {
		if _, ok := listed[group]; ok {
			existing = append(existing, group)
		}
	}
	slices.Sort(existing)
	committed := readCommitted(ctx, admin, existing)
	var work errgroup.Group
	work.SetLimit(maxCommits)
	for group, list := range byGroup {
		work.Go(func() error {
			n := commitGroup(ctx, admin, listed[group], committed[group], list)
			s.deps.Metrics.Commits.Add(float64(n))
			return nil
		})
	}
	return work.Wait()
}

// clampToLogStart moves positions whose record was deleted to the log start of the partition; see [offsets.LogStarts]. It refuses positions
// in partitions whose log start is not known. The alias names the cluster of the client.
func clampToLogStart(ctx context.Context, client *kgo.Client, alias string, positions []*position) error {
	positions = notRefused(positions)
	starts, err := readLogStarts(ctx, client, alias, positions)
	for _, p := range positions {
		at, unknown := starts.Clamp(p.target, p.targetOffset)
		if p.targetOffset = at; unknown != nil {
			p.refuse(policy.RefusedFailed, fmt.Sprintf("%v (cluster %s)", unknown, alias))
		}
	}
	return err
}

// readLogStarts reads the log starts of the partitions of positions. With an error some may still be known.
func readLogStarts(ctx context.Context, client *kgo.Client, alias string, positions []*position) (offsets.LogStarts, error) {
	var names []string
	for _, p := range positions {
		names = append(names, p.target.Topic)
	}
	slices.Sort(names)
	starts, err := offsets.ReadLogStarts(ctx, client, slices.Compact(names))
	if err != nil {
		return starts, fmt.Errorf("list start offsets of cluster %s: %w", alias, err)
	}
	return starts, nil
}

// readCommitted reads the committed offsets of groups. It waits for an offset that an open transaction is about to commit (KIP-447): with the
// one before it, the group would seem to be further behind than it is. A group that the answer does not name gets an error.
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

// commitGroup commits the positions of one group that may be committed, refuses the others, and returns how many were committed. Listed and
// committed are the group's state and offsets on the cluster; both are zero if it does not exist there.
func commitGroup(ctx context.Context, admin *kadm.Client, listed kadm.ListedGroup, committed kadm.FetchOffsetsResponse, list []*position) int {
	if committed.Err != nil {
		refuseAll(list, committed.Err)
		return 0
	}
	var allowed []*position
	for _, p := range list {
		if mayCommit(p, listed, committed) {
			allowed = append(allowed, p)
		}
	}
	if len(allowed) == 0 {
		return 0
	}
	requested := make(kadm.Offsets)
	for _, p := range allowed {
		// No leader epoch: the one of the source means nothing here, and a wrong one would look like a truncated log (KIP-320).
		requested.Add(kadm.Offset{Topic: p.target.Topic, Partition: p.target.Partition, At: p.targetOffset, LeaderEpoch: -1, Metadata: p.metadata})
	}
	answer, err := admin.CommitOffsets(ctx, allowed[0].group, requested)
	if err != nil {
		refuseAll(allowed, err)
		return 0
	}
	n := 0
	for _, p := range allowed {
		if o, _ := answer.Lookup(p.target.Topic, p.target.Partition); o.Err != nil {
			refuseAll([]*position{p}, o.Err)
		} else {
			n++
		}
	}
	return n
}

// mayCommit reports whether a position is to be committed. If it is not, it is refused or committed already.
func mayCommit(p *position, listed kadm.ListedGroup, committed kadm.FetchOffsetsResponse) bool {
	group := policy.TargetGroup{Protocol: listed.ProtocolType, State: listed.State, Committed: -1}
	if o, ok := committed.Fetched.Lookup(p.target.Topic, p.target.Partition); ok {
		if o.Err != nil {
			refuseAll([]*position{p}, o.Err) // its committed offset is unknown
			return false
		}
		group.Committed = o.At
	}
	may, why := group.Commit(p.targetOffset)
	if why != "" {
		p.refuse(why, fmt.Sprintf("%s: at %d, translated %d", p.target, group.Committed, p.targetOffset))
	}
	return may
}

// refuseAll refuses positions because a request about their group failed.
func refuseAll(list []*position, err error) {
	why := policy.RefusedFailed
	switch {
	case errors.Is(err, kerr.UnknownMemberID), errors.Is(err, kerr.IllegalGeneration), errors.Is(err, kerr.RebalanceInProgress), errors.Is(err, kerr.StaleMemberEpoch):
		why = policy.RefusedActive // it became active after it was listed
	case errors.Is(err, kerr.GroupAuthorizationFailed), errors.Is(err, kerr.TopicAuthorizationFailed):
		why = policy.RefusedRights
	}
	for _, p := range list {
		p.refuse(why, fmt.Sprintf("%s: %v", p.target, err))
	}
}
