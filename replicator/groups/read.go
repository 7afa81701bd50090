package groups

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
)

// requestTimeout is the maximum time of one step of a sync: a request about at most a chunk of groups. It is long, because a request that is
// given up was in vain.
const requestTimeout = 30 * time.Second

// list returns the selected groups of the source, sorted, and those that are not followed. With an error from one broker, the groups of the
// others are still there.
func (s *Syncer) list(ctx context.Context) (names []string, left []NotFollowed, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	listed, err := kadm.NewClient(s.deps.SourceClient).ListGroups(ctx)
	if err != nil {
		err = fmt.Errorf("list groups of cluster %s: %w", s.deps.Flow.Source, err)
	}
	if err == nil { // else groups of one broker are missing
		s.unused.Look(slices.Collect(maps.Keys(listed)))
	}
	for _, group := range listed.Sorted() {
		switch {
		case !s.rules.Selected(group.Group):
		case policy.Translatable(group.ProtocolType):
			names = append(names, group.Group)
		default:
			left = append(left, notFollowed(group))
		}
	}
	return s.known(names, err), left, err
}

// known returns the names that a flow without groups_refresh has known since its first sync. The first list without an error is kept.
func (s *Syncer) known(names []string, err error) []string {
	switch {
	case s.deps.Flow.GroupsRefresh:
		return names
	case s.atStart == nil && err != nil:
		return nil // a group that one broker did not list now would be missing for ever
	case s.atStart == nil:
		s.atStart = make(map[string]bool, len(names))
		for _, name := range names {
			s.atStart[name] = true
		}
	}
	return slices.DeleteFunc(names, func(name string) bool { return !s.atStart[name] })
}

// commits are the committed offsets of one group, as a broker answered.
type commits struct {
	err    error
	topics []kmsg.OffsetFetchResponseGroupTopic
}

// readCommits reads the committed offsets of groups in one request per coordinator. Every group is in the result, with an error if the answer
// does not name it. A stable read waits for an offset that an open transaction is about to commit (KIP-447): with the one before it, the group
// would seem to be further behind than it is.
func readCommits(ctx context.Context, client *kgo.Client, groups []string, stable bool) map[string]commits {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	read := make(map[string]commits, len(groups))
	for _, group := range groups {
		read[group] = commits{err: errors.New("the answer does not name the group")}
	}
	if len(groups) == 0 {
		return read
	}
	request := kmsg.NewPtrOffsetFetchRequest()
	request.RequireStable = stable
	for _, group := range groups {
		asked := kmsg.NewOffsetFetchRequestGroup()
		asked.Group = group
		request.Groups = append(request.Groups, asked)
	}
	for _, shard := range client.RequestSharded(ctx, request) {
		err := shard.Err
		response, ok := shard.Resp.(*kmsg.OffsetFetchResponse)
		if err == nil && ok {
			err = kerr.ErrorForCode(response.ErrorCode)
		}
		if asked, named := shard.Req.(*kmsg.OffsetFetchRequest); named && err != nil {
			for _, g := range asked.Groups {
				read[g.Group] = commits{err: err}
			}
		}
		if err != nil || !ok {
			continue
		}
		for _, g := range response.Groups {
			err := kerr.ErrorForCode(g.ErrorCode)
			if errors.Is(err, kerr.GroupIDNotFound) {
				err = nil // it has committed nothing
			}
			read[g.Group] = commits{err: err, topics: g.Topics}
		}
	}
	return read
}

// hash returns a number that differs if a committed offset or its metadata differs.
func (c *commits) hash(seed maphash.Seed) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	for i := range c.topics {
		t := &c.topics[i]
		_, _ = h.WriteString(t.Topic)
		for j := range t.Partitions {
			p := &t.Partitions[j]
			maphash.WriteComparable(&h, [3]int64{int64(p.Partition), p.Offset, int64(p.ErrorCode)})
			if p.Metadata != nil {
				_, _ = h.WriteString(*p.Metadata)
			}
		}
	}
	return h.Sum64()
}

// committed is the committed offset of a group in one partition: -1 if there is none, or why it is not known.
type committed struct {
	at  int64
	err error
}

// byPartition returns the committed offsets of partitions. A partition that is absent has none.
func (c *commits) byPartition() map[offsets.TopicPartition]committed {
	found := make(map[offsets.TopicPartition]committed)
	for _, t := range c.topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil || p.Offset >= 0 {
				found[offsets.TopicPartition{Topic: t.Topic, Partition: p.Partition}] = committed{p.Offset, err}
			}
		}
	}
	return found
}

// lookUp returns the committed offset of a partition.
func lookUp(found map[offsets.TopicPartition]committed, tp offsets.TopicPartition) committed {
	if c, ok := found[tp]; ok {
		return c
	}
	return committed{at: -1}
}
