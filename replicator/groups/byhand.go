package groups

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
)

// Commit commits a group's translated offsets on one cluster, because a person says so: only if the group has no members, and only
// forward. Who put the offset there does not matter. It returns how many were committed and why others were not.
func (t *Translator) Commit(ctx context.Context, side offsets.Side, group string, translated []offsets.GroupOffset) (int, []Refusal, error) {
	return t.commit(ctx, side, group, translated, (*position).mayCommitByHand)
}

// Follow is Commit on the target that moves a group only from where the flow has put it, as isPut says, or from nowhere: any other position is one of
// consumers or of a person there.
func (t *Translator) Follow(ctx context.Context, group string, translated []offsets.GroupOffset, isPut func(tp offsets.TopicPartition, at int64) bool) (int, []Refusal, error) {
	return t.commit(ctx, offsets.Target, group, translated, func(p *position, listed kadm.ListedGroup, now committed) bool {
		may := p.mayCommitByHand(listed, now)
		if may && now.at >= 0 && !isPut(p.target, now.at) {
			p.refuse(policy.RefusedOwn, fmt.Sprintf("%s: at %d, translated %d", p.target, now.at, p.targetOffset))
			return false
		}
		return may
	})
}

// Put is Commit on the target that also moves backward: a person has said where the group is to be.
func (t *Translator) Put(ctx context.Context, group string, chosen []offsets.GroupOffset) (int, []Refusal, error) {
	return t.commit(ctx, offsets.Target, group, chosen, (*position).mayPutByHand)
}

func (t *Translator) commit(ctx context.Context, side offsets.Side, group string, translated []offsets.GroupOffset, may func(*position, kadm.ListedGroup, committed) bool) (int, []Refusal, error) {
	positions := toCommit(side, group, translated)
	if len(positions) == 0 {
		return 0, nil, nil
	}
	client, alias := t.target, t.clusters.Flow.Target
	if side == offsets.Source {
		client, alias = t.source, t.clusters.Flow.Source
	}
	starts, err := readLogStarts(ctx, client, alias, positions)
	if err != nil {
		return 0, nil, err
	}
	for _, p := range positions {
		// Unlike the sync, which comes again, a person commits once, and perhaps during a failover: what is not known is committed as translated.
		p.targetOffset, _ = starts.Clamp(p.target, p.targetOffset)
	}
	listed, err := kadm.NewClient(client).ListGroups(ctx)
	if err != nil {
		return 0, nil, fmt.Errorf("list groups of cluster %s: %w", alias, err)
	}
	if _, ok := listed[group]; !ok {
		return commitGroup(ctx, client, positions), refusalPerPartition(positions), nil
	}
	answer := readCommits(ctx, client, []string{group}, true)[group]
	if answer.err != nil {
		refuseAll(positions, answer.err)
		return 0, refusalPerPartition(positions), nil //nolint:nilerr // the refusals say it
	}
	commits := answer.byPartition()
	var allowed []*position
	for _, p := range positions {
		if may(p, listed[group], lookUp(commits, p.target)) {
			allowed = append(allowed, p)
		}
	}
	return commitGroup(ctx, client, allowed), refusalPerPartition(positions), nil
}

// mayCommitByHand reports whether a position is to be committed because a person says so. If it is not, it is refused or committed already.
func (p *position) mayCommitByHand(listed kadm.ListedGroup, now committed) bool {
	if now.err != nil {
		refuseAll([]*position{p}, now.err)
		return false
	}
	may, why := policy.TargetGroup{Protocol: listed.ProtocolType, State: listed.State, Committed: now.at}.Commit(p.targetOffset)
	if why != "" {
		p.refuse(why, fmt.Sprintf("%s: at %d, translated %d", p.target, now.at, p.targetOffset))
	}
	return may
}

// mayPutByHand is mayCommitByHand for a position that may be behind the committed one.
func (p *position) mayPutByHand(listed kadm.ListedGroup, now committed) bool {
	if now.at > p.targetOffset {
		now.at = -1 // as if there was none
	}
	return p.mayCommitByHand(listed, now)
}

// toCommit returns the positions to commit on one side.
func toCommit(side offsets.Side, group string, translated []offsets.GroupOffset) []*position {
	var list []*position
	for _, t := range translated {
		if t.Err != nil {
			continue
		}
		p := &position{group: group, metadata: t.Metadata, target: offsets.TopicPartition{Topic: t.TargetTopic, Partition: t.Partition}, targetOffset: t.Target}
		if side == offsets.Source {
			p.target, p.targetOffset = offsets.TopicPartition{Topic: t.Topic, Partition: t.Partition}, t.Source
		}
		list = append(list, p)
	}
	return list
}

func refusalPerPartition(positions []*position) []Refusal {
	var list []Refusal
	for _, p := range positions {
		list = append(list, refusals([]*position{p})...)
	}
	return list
}
