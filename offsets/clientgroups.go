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

// GroupPosition is where a group has to go on in one partition.
type GroupPosition struct {
	Translation
	Group    string
	Metadata string // of the commit that was translated
	// Lag is how many offsets lie between the position and the end of the partition on this cluster; -1 if that is not known.
	Lag int64
	// Err is why there is no translation; then only the partition, and the side it was asked for, are set.
	Err error
	// Doubt is why the journal that describes the partition did not answer, where the translation is from a checkpoint.
	// It is nil if no journal describes it, and if only the journal is behind.
	Doubt error
}

// Group is where a group of a source, named by its alias, has to go on here, by topic and partition: the source need not
// be there. Where the group was on the source is taken from the newest checkpoints, and translated by the journal; where
// there is none, the checkpoint is the answer. A place whose record this cluster has deleted is moved to the oldest that
// is left, and one behind what is copied to the end of the copy; both are not exact. It may block for reading. Errors:
// *[NoCheckpointsError], *[UnknownGroupError], a *[VersionError] if a newer version wrote the group's checkpoints, errors
// of the cluster.
func (c *Client) Group(ctx context.Context, source, group string) ([]GroupPosition, error) {
	checkpoints, newer, err := c.checkpoints(ctx, source, &group)
	switch {
	case err != nil:
		return nil, err
	case newer != nil:
		return nil, fmt.Errorf("checkpoints of group %q: %w", group, newer)
	case len(checkpoints) == 0:
		return nil, &UnknownGroupError{Group: group, Where: "the checkpoints of " + source}
	}
	positions := make([]GroupPosition, len(checkpoints))
	err = c.each(len(positions), func(i int) error {
		positions[i] = c.groupPosition(ctx, checkpoints[i])
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	return positions, c.Complete(ctx, positions)
}

// each runs do for [0, n), a few at a time: each may have to read another partition of the journal.
func (*Client) each(n int, do func(int) error) error {
	indices := make([]int, n)
	for i := range indices {
		indices[i] = i
	}
	return inParallel(indices, do)
}

// groupPosition translates a checkpoint by the journal, or takes its word for it.
func (c *Client) groupPosition(ctx context.Context, checkpoint WrittenCheckpoint) GroupPosition {
	p := GroupPosition{Group: checkpoint.Group, Metadata: checkpoint.Metadata, Lag: -1}
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
		return p // it is older than the map: its source offset may be one of a topic that was deleted and made again
	}
	t, err := j.Forward(ctx, state.Topic, checkpoint.Partition, checkpoint.Source)
	var late *NotCopiedError
	switch {
	case err == nil:
		p.Translation = t
	case errors.As(err, &late): // the group is ahead of the copy, or the journal a moment behind: never past what is copied
		p.End = t.End
		p.Target = max(p.Target, t.End.Target)
	default:
		p.Doubt = err
	}
	return p
}

// GroupFrom is as [Client.Group], with the group's positions as they are on the source now, read with a client of the
// source. From is the name of the flow or the alias of the source, as in [Client.ForwardFrom]. Positions in topics that
// are not copied here have an Err. It returns an *[UnknownGroupError] if the group committed nothing there.
func (c *Client) GroupFrom(ctx context.Context, source *kgo.Client, from, group string) ([]GroupPosition, error) {
	commits, err := committed(ctx, source, group, "the source")
	if err != nil {
		return nil, err
	}
	positions := make([]GroupPosition, len(commits))
	err = c.each(len(positions), func(i int) error {
		o := commits[i]
		t, err := c.ForwardFrom(ctx, from, o.Topic, o.Partition, o.At)
		var late *NotCopiedError
		if errors.As(err, &late) {
			t.Target, t.Exact, err = t.End.Target, false, nil
		}
		t.Topic, t.Partition, t.Source = o.Topic, o.Partition, o.At
		positions[i] = GroupPosition{Translation: t, Group: group, Metadata: o.Metadata, Lag: -1, Err: err}
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	return positions, c.Complete(ctx, positions)
}

// GroupBack is where a group of this cluster has to go on in the topics that it was copied from, by topic and partition:
// what it committed here for copied topics, translated back as [Client.Reverse] does. An offset behind the end of the copy
// leads to its end, not exactly. Topics that are no copies are left out. It returns an *[UnknownGroupError] if the group
// committed nothing here.
func (c *Client) GroupBack(ctx context.Context, group string) ([]GroupPosition, error) {
	commits, err := committed(ctx, c.kafka, group, "this cluster")
	if err != nil {
		return nil, err
	}
	positions := make([]GroupPosition, len(commits))
	err = c.each(len(positions), func(i int) error {
		o := commits[i]
		t, err := c.Reverse(ctx, o.Topic, o.Partition, o.At)
		var late *NotCopiedError
		if errors.As(err, &late) { // written by somebody else, or the journal is a moment behind
			t.Source, t.Exact, err = t.End.Source, false, nil
		}
		t.TargetTopic, t.Partition, t.Target = o.Topic, o.Partition, o.At
		positions[i] = GroupPosition{Translation: t, Group: group, Metadata: o.Metadata, Lag: -1, Err: err}
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	positions = slices.DeleteFunc(positions, func(p GroupPosition) bool {
		var unknown *NotReplicatedError
		return errors.As(p.Err, &unknown)
	})
	return positions, c.addLag(ctx, positions)
}

// committed are a group's positions on a cluster, by topic and partition.
func committed(ctx context.Context, client *kgo.Client, group, where string) ([]kadm.Offset, error) {
	fetched, err := kadm.NewClient(client).FetchOffsets(ctx, group)
	if errors.Is(err, kerr.GroupIDNotFound) {
		return nil, &UnknownGroupError{Group: group, Where: where}
	}
	if err != nil {
		return nil, fmt.Errorf("read the offsets of group %q on %s: %w", group, where, err)
	}
	var offsets []kadm.Offset
	for _, o := range fetched.Sorted() {
		switch {
		case o.Err != nil:
			return nil, fmt.Errorf("read the offset of group %q in %s-%d on %s: %w", group, o.Topic, o.Partition, where, o.Err)
		case o.At >= 0:
			offsets = append(offsets, o.Offset)
		}
	}
	if len(offsets) == 0 {
		return nil, &UnknownGroupError{Group: group, Where: where}
	}
	return offsets, nil
}

// Complete adds the lag to positions that were translated one by one, and moves those whose records this cluster has
// deleted to the oldest that is left, as [Client.Group] does.
func (c *Client) Complete(ctx context.Context, positions []GroupPosition) error {
	return errors.Join(c.clamp(ctx, positions), c.addLag(ctx, positions))
}

// clamp moves a place whose record this cluster has deleted to the oldest that is left: out of range a consumer would go
// wherever its auto.offset.reset says.
func (c *Client) clamp(ctx context.Context, positions []GroupPosition) error {
	topics := topicsOf(positions)
	if len(topics) == 0 {
		return nil
	}
	starts, err := kadm.NewClient(c.kafka).ListStartOffsets(ctx, topics...)
	for i := range positions {
		p := &positions[i]
		if start, ok := starts.Lookup(p.TargetTopic, p.Partition); ok && p.Err == nil && start.Err == nil && start.Offset > p.Target {
			p.Target, p.Exact = start.Offset, false
		}
	}
	return err
}

// addLag asks where the positions' partitions end here.
func (c *Client) addLag(ctx context.Context, positions []GroupPosition) error {
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

// topicsOf are the target topics of positions. There may be none, which kadm takes for all.
func topicsOf(positions []GroupPosition) []string {
	var topics []string
	for _, p := range positions {
		if p.Err == nil && p.TargetTopic != "" {
			topics = append(topics, p.TargetTopic)
		}
	}
	slices.Sort(topics)
	return slices.Compact(topics)
}

// Watch yields where a group has to go on here, as [Client.Group] does, at once and then whenever it changes, until ctx
// ends or the loop is left. It looks every MaxAge. An error is yielded once, and does not end it: a cluster comes back.
func (c *Client) Watch(ctx context.Context, source, group string) iter.Seq2[[]GroupPosition, error] {
	return func(yield func([]GroupPosition, error) bool) {
		tick := time.NewTicker(c.journal.MaxAge)
		defer tick.Stop()
		var last []place
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
			places := placesOf(positions)
			if first || text != lastErr || !slices.Equal(places, last) {
				if !yield(positions, err) {
					return
				}
			}
			last, lastErr = places, text
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}
}

// place is what makes one position differ from another.
type place struct {
	topic     string
	partition int32
	Position
	exact    bool
	metadata string
}

func placesOf(positions []GroupPosition) []place {
	places := make([]place, 0, len(positions))
	for _, p := range positions {
		places = append(places, place{p.TargetTopic, p.Partition, Position{p.Source, p.Target}, p.Exact, p.Metadata})
	}
	return places
}
