package offsets

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// GroupOffset is the translated offset of a group in one partition.
type GroupOffset struct {
	Translation
	Group    string
	Metadata string // of the translated commit
	// Lag is the number of offsets between Target and the end of the partition on this cluster, -1 if unknown.
	Lag int64
	// Err is why there is no translation. Then only the partition, and the side of the question, are set.
	Err error
	// Doubt is why the journal that describes the partition did not answer, if the translation is from a checkpoint.
	// It is nil if no journal describes the partition, or if the journal is only behind.
	Doubt error
}

// Group translates the offsets of a source's group to this cluster, by topic and partition. The source is named by
// its alias and need not be reachable. The group's offsets on the source are those of the newest checkpoints,
// translated by the journal. Without a journal, the checkpoint is the answer. An offset whose record was deleted on
// this cluster is moved to the oldest record that is left, and one above the end of the copy to that end; both are
// not exact. It may block for reading. Errors: *[NoCheckpointsError], *[UnknownGroupError], a *[VersionError] if a
// newer version wrote the group's checkpoints, errors of the cluster.
func (c *Client) Group(ctx context.Context, source, group string) ([]GroupOffset, error) {
	checkpoints, newer, err := c.checkpoints(ctx, source, &group)
	switch {
	case err != nil:
		return nil, err
	case newer != nil:
		return nil, fmt.Errorf("checkpoints of group %q: %w", group, newer)
	case len(checkpoints) == 0:
		return nil, &UnknownGroupError{Group: group, Where: "the checkpoints of " + source}
	}
	positions := make([]GroupOffset, len(checkpoints))
	err = forEach(len(positions), func(i int) error {
		positions[i] = c.groupPosition(ctx, checkpoints[i])
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	return positions, c.Complete(ctx, positions)
}

// forEach runs do for [0, n), up to maxParallel at a time: each call may read another partition of the journal.
func forEach(n int, do func(int) error) error {
	indices := make([]int, n)
	for i := range indices {
		indices[i] = i
	}
	return inParallel(indices, do)
}

// groupPosition translates a checkpoint by the journal, or uses the checkpoint's own translation.
func (c *Client) groupPosition(ctx context.Context, checkpoint WrittenCheckpoint) GroupOffset {
	p := GroupOffset{Group: checkpoint.Group, Metadata: checkpoint.Metadata, Lag: -1}
	p.Translation = Translation{
		TargetTopic: checkpoint.Topic, Partition: checkpoint.Partition, Source: checkpoint.Source, Target: checkpoint.Target,
		Origin: FromCheckpoint, AsOf: checkpoint.At,
	}
	j, state, err := c.find(ctx, checkpoint.Topic, checkpoint.Partition)
	var unknown *NotReplicatedError
	if err != nil {
		if !errors.As(err, &unknown) {
			p.Doubt = err
		}
		return p
	}
	p.Topic, p.Flow = state.Topic, j.flow
	if checkpoint.Target < state.Start.Target {
		return p // older than the map: its source offset may be of a topic that was deleted and created again
	}
	t, err := j.Forward(ctx, state.Topic, checkpoint.Partition, checkpoint.Source)
	var late *NotCopiedError
	switch {
	case err == nil:
		p.Translation = t
	case errors.As(err, &late): // the group is ahead of the copy, or the journal is behind: stay within the copy
		p.End = t.End
		p.Target = max(p.Target, t.End.Target)
	default:
		p.Doubt = err
	}
	return p
}

// GroupFrom is [Client.Group] with the group's current offsets on the source, read with a client of the source. From
// is the name of the flow or the alias of the source, as in [Client.ForwardFrom]. Offsets in topics that are not
// copied here have an Err. It returns an *[UnknownGroupError] if the group committed nothing there.
func (c *Client) GroupFrom(ctx context.Context, source *kgo.Client, from, group string) ([]GroupOffset, error) {
	commits, err := CommittedOffsets(ctx, source, group, "the source")
	if err != nil {
		return nil, err
	}
	positions := make([]GroupOffset, len(commits))
	err = forEach(len(positions), func(i int) error {
		o := commits[i]
		t, err := c.ForwardFrom(ctx, from, o.Topic, o.Partition, o.At)
		t, err = t.UpToEnd(err)
		t.Topic, t.Partition, t.Source = o.Topic, o.Partition, o.At
		positions[i] = GroupOffset{Translation: t, Group: group, Metadata: o.Metadata, Lag: -1, Err: err}
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	return positions, c.Complete(ctx, positions)
}

// ReverseGroup translates the offsets that a group committed on this cluster back to the source, by topic and partition,
// as [Client.Reverse] does. An offset above the end of the copy translates to its end, not exactly. Topics that are
// not copies are left out. It returns an *[UnknownGroupError] if the group committed nothing here.
func (c *Client) ReverseGroup(ctx context.Context, group string) ([]GroupOffset, error) {
	commits, err := CommittedOffsets(ctx, c.kafka, group, "this cluster")
	if err != nil {
		return nil, err
	}
	positions := make([]GroupOffset, len(commits))
	err = forEach(len(positions), func(i int) error {
		o := commits[i]
		t, err := c.Reverse(ctx, o.Topic, o.Partition, o.At)
		t, err = t.UpToEnd(err) // what is above was written by another producer, or the journal is behind
		t.TargetTopic, t.Partition, t.Target = o.Topic, o.Partition, o.At
		positions[i] = GroupOffset{Translation: t, Group: group, Metadata: o.Metadata, Lag: -1, Err: err}
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	positions = slices.DeleteFunc(positions, func(p GroupOffset) bool {
		var unknown *NotReplicatedError
		return errors.As(p.Err, &unknown)
	})
	return positions, c.addLag(ctx, positions)
}

// CommittedOffsets returns a group's committed offsets on a cluster, by topic and partition. Where names the cluster in
// errors. It returns an *[UnknownGroupError] if the group committed nothing there.
func CommittedOffsets(ctx context.Context, client *kgo.Client, group, where string) ([]kadm.Offset, error) {
	fetched, err := kadm.NewClient(client).FetchOffsets(ctx, group)
	if errors.Is(err, kerr.GroupIDNotFound) {
		return nil, &UnknownGroupError{Group: group, Where: where}
	}
	if err != nil {
		return nil, fmt.Errorf("fetch offsets of group %q on %s: %w", group, where, err)
	}
	var offsets []kadm.Offset
	for _, o := range fetched.Sorted() {
		switch {
		case o.Err != nil:
			return nil, fmt.Errorf("fetch offset of group %q in %s-%d on %s: %w", group, o.Topic, o.Partition, where, o.Err)
		case o.At >= 0:
			offsets = append(offsets, o.Offset)
		}
	}
	if len(offsets) == 0 {
		return nil, &UnknownGroupError{Group: group, Where: where}
	}
	return offsets, nil
}

// Complete adds the lag to offsets that were translated one by one, and moves those whose records were deleted on
// this cluster to the oldest record that is left, as [Client.Group] does.
func (c *Client) Complete(ctx context.Context, positions []GroupOffset) error {
	return errors.Join(c.clamp(ctx, positions), c.addLag(ctx, positions))
}

// clamp moves an offset whose record was deleted on this cluster to the oldest record that is left; see [LogStarts].
func (c *Client) clamp(ctx context.Context, positions []GroupOffset) error {
	starts, err := ReadLogStarts(ctx, c.kafka, topicsOf(positions))
	for i := range positions {
		p := &positions[i]
		if p.Err != nil {
			continue
		}
		if at, err := starts.Clamp(TopicPartition{p.TargetTopic, p.Partition}, p.Target); err == nil && at != p.Target {
			p.Target, p.Exact = at, false
		}
	}
	return err
}

// addLag adds the lag, from the end offsets of the partitions on this cluster.
func (c *Client) addLag(ctx context.Context, positions []GroupOffset) error {
	topics := topicsOf(positions)
	if len(topics) == 0 {
		return nil
	}
	ends, err := kadm.NewClient(c.kafka).ListEndOffsets(ctx, topics...)
	for i := range positions {
		p := &positions[i]
		if end, ok := ends.Lookup(p.TargetTopic, p.Partition); ok && p.Err == nil && end.Err == nil {
			p.Lag = max(0, end.Offset-p.Target)
		}
	}
	return err
}

// topicsOf returns the target topics of translated offsets. Callers must check for an empty result, which kadm treats as all
// topics.
func topicsOf(positions []GroupOffset) []string {
	var topics []string
	for _, p := range positions {
		if p.Err == nil && p.TargetTopic != "" {
			topics = append(topics, p.TargetTopic)
		}
	}
	slices.Sort(topics)
	return slices.Compact(topics)
}

// Watch yields the result of [Client.Group], at once and then whenever it changes, until ctx ends or the loop is
// left. It polls every MaxAge. An error is yielded once and does not end the loop, because a cluster may come back.
func (c *Client) Watch(ctx context.Context, source, group string) iter.Seq2[[]GroupOffset, error] {
	return func(yield func([]GroupOffset, error) bool) {
		tick := time.NewTicker(c.journal.MaxAge)
		defer tick.Stop()
		var last []groupOffset
		var lastErr string
		for first := true; ; first = false {
			positions, err := c.Group(ctx, source, group)
			if ctx.Err() != nil {
				return
			}
			text := ""
			if err != nil {
				text = err.Error()
			}
			offsets := groupOffsetsOf(positions)
			if first || text != lastErr || !slices.Equal(offsets, last) {
				if !yield(positions, err) {
					return
				}
			}
			last, lastErr = offsets, text
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}
}

// groupOffset is the part of a GroupOffset that Watch compares.
type groupOffset struct {
	topic     string
	partition int32
	Pair
	exact    bool
	metadata string
}

func groupOffsetsOf(positions []GroupOffset) []groupOffset {
	offsets := make([]groupOffset, 0, len(positions))
	for _, p := range positions {
		offsets = append(offsets, groupOffset{p.TargetTopic, p.Partition, Pair{p.Source, p.Target}, p.Exact, p.Metadata})
	}
	return offsets
}
