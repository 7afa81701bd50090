package groups

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
)

// groupsPerRequest is the maximum number of groups in one OffsetFetch request, which takes many since KIP-709.
const groupsPerRequest = 100

// read reads the committed offsets of all selected groups on the source, and counts the groups. With an error, those of other groups may
// still be there.
func (s *Syncer) read(ctx context.Context) (positions []*position, count int, err error) {
	if !s.deps.Flow.Checkpoints && !s.deps.Flow.GroupsSync {
		return nil, 0, nil // nothing is written anywhere
	}
	names, err := s.list(ctx)
	for part := range slices.Chunk(names, groupsPerRequest) {
		answers := kadm.NewClient(s.deps.SourceClient).FetchManyOffsets(ctx, part...)
		for _, name := range slices.Sorted(maps.Keys(answers)) {
			fetched := answers[name]
			if fetched.Err != nil {
				err = errors.Join(err, fmt.Errorf("read the offsets of group %s on cluster %s: %w", fetched.Group, s.deps.Flow.Source, fetched.Err))
				continue
			}
			positions = append(positions, positionsOf(fetched)...)
		}
	}
	return positions, len(names), err
}

// list returns the selected groups of the source. With an error from one broker, the groups of the others are still there.
func (s *Syncer) list(ctx context.Context) ([]string, error) {
	listed, err := kadm.NewClient(s.deps.SourceClient).ListGroups(ctx)
	if err != nil {
		err = fmt.Errorf("list groups of cluster %s: %w", s.deps.Flow.Source, err)
	}
	var names []string
	for _, group := range listed.Sorted() {
		if policy.Translatable(group.ProtocolType) && s.rules.Selected(group.Group) {
			names = append(names, group.Group)
		}
	}
	return s.known(names, err), err
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

func positionsOf(fetched kadm.FetchOffsetsResponse) []*position {
	var positions []*position
	for _, o := range fetched.Fetched.Sorted() {
		if o.Err == nil && o.At >= 0 {
			positions = append(positions, &position{
				group: fetched.Group, metadata: o.Metadata,
				source: offsets.TopicPartition{Topic: o.Topic, Partition: o.Partition}, sourceOffset: o.At,
			})
		}
	}
	return positions
}
