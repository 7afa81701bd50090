package offsets

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Forward translates an offset of a source partition, named by its copy: the place in a target topic that belongs to an
// offset of the topic that it is a copy of. The journal answers; where there is none, or the offset is from before it,
// MirrorMaker 2's offset-syncs do if they are on this cluster. See [Options] for when they are believed. It may block for
// reading. Errors: *[NotReplicatedError] if nothing here knows the partition, *[NotCopiedError] with how far the copy is,
// *[BeforeStartError], *[VersionError], *[CorruptError], errors of the cluster.
func (c *Client) Forward(ctx context.Context, targetTopic string, partition int32, source int64) (Translation, error) {
	return c.translate(ctx, targetTopic, partition, Source, source)
}

// Reverse translates an offset of a target partition back. Blocks and fails as [Client.Forward] does.
func (c *Client) Reverse(ctx context.Context, targetTopic string, partition int32, target int64) (Translation, error) {
	return c.translate(ctx, targetTopic, partition, Target, target)
}

func (c *Client) translate(ctx context.Context, targetTopic string, partition int32, side Side, wanted int64) (Translation, error) {
	j, state, err := c.find(ctx, targetTopic, partition)
	if err != nil {
		return c.orBySyncs(ctx, Translation{}, err, nil, targetTopic, partition, side, wanted)
	}
	return c.translateBy(ctx, j, state, side, wanted)
}

// translateBy is translate with the journal that is meant, where several describe the copy.
func (c *Client) translateBy(ctx context.Context, j *Journal, state *PartitionState, side Side, wanted int64) (Translation, error) {
	t, err := j.translate(ctx, partitionKey{state.Topic, state.Partition}, side, wanted)
	return c.orBySyncs(ctx, t, err, state, state.TargetTopic, state.Partition, side, wanted)
}

// orBySyncs is the journal's answer, or that of the offset-syncs where the journal has none. The state is nil if no journal was found.
func (c *Client) orBySyncs(ctx context.Context, t Translation, err error, state *PartitionState, targetTopic string, partition int32, side Side, wanted int64) (Translation, error) {
	var unknown *NotReplicatedError
	var early *BeforeStartError
	if err == nil || !errors.As(err, &unknown) && !errors.As(err, &early) {
		return t, err
	}
	other, ok, syncErr := c.bySyncs(ctx, targetTopic, partition, side, wanted)
	switch {
	case syncErr != nil:
		return t, syncErr
	case !ok, wanted < 0:
		return t, err
	case early == nil:
		return other, nil
	}
	// What was copied before the map began is at most where it begins; syncs beyond it are of another history.
	if state != nil && other.Source <= state.Start.Source && other.Target <= state.Start.Target {
		return other, nil
	}
	return t, err
}

// ForwardFrom translates an offset of a source partition, named as it is on the source. From is the name of the flow or
// the alias of the source; empty is any. Blocks and fails as [Client.Forward] does, and returns an *[AmbiguousError] if
// several flows copy a topic of that name and from does not say which one is meant.
func (c *Client) ForwardFrom(ctx context.Context, from, topic string, partition int32, source int64) (Translation, error) {
	journals, err := c.journals(ctx)
	if err != nil {
		return Translation{}, err
	}
	type candidate struct {
		journal *Journal
		state   *PartitionState
	}
	var found [4][]candidate // by how well they fit, the best ones first
	var failed error
	for _, j := range journals {
		state, err := j.state(ctx, topic, partition)
		var unknown *NotReplicatedError
		switch {
		case errors.As(err, &unknown):
			continue
		case err != nil:
			failed = errors.Join(failed, err)
			continue
		}
		if fit := c.fit(from, j.flow, state); fit >= 0 {
			found[fit] = append(found[fit], candidate{j, state})
		}
	}
	for _, equal := range found {
		switch {
		case len(equal) == 1:
			return c.translateBy(ctx, equal[0].journal, equal[0].state, Source, source)
		case len(equal) > 1:
			ambiguous := &AmbiguousError{Topic: topic, Partition: partition}
			for _, f := range equal {
				ambiguous.Flows = append(ambiguous.Flows, f.journal.flow)
			}
			return Translation{}, ambiguous
		}
	}
	switch {
	case failed != nil:
		return Translation{}, failed
	case from == "":
		return Translation{}, &NotReplicatedError{Topic: topic, Partition: partition}
	}
	return c.Forward(ctx, from+c.names.separator()+topic, partition, source)
}

// fit says how well a flow's copy is one "from" a flow or an alias: 0 is best, -1 not at all. The journal knows no aliases,
// but names do: of flows by default, and of topics unless they keep theirs.
func (c *Client) fit(from, flow string, state *PartitionState) int {
	alias, name, copied := c.names.Split(state.TargetTopic)
	switch {
	case from == flow, from == "":
		return 0
	case copied && name == state.Topic && alias == from:
		return 1
	case copied && name == state.Topic:
		return -1
	case strings.HasPrefix(flow, from+"-"):
		return 2
	}
	return 3
}

// At translates a moment: the first copied record with a timestamp at or after it, on both sides. Where there is none the
// answer is the end of the copy. Blocks and fails as [Client.Reverse] does, and may block for reading a part of the topic;
// a *[NotCopiedError] says that the journal does not yet have the record that was found.
func (c *Client) At(ctx context.Context, targetTopic string, partition int32, moment time.Time) (Translation, error) {
	log := logReader{topicLeaders: &topicLeaders{client: c.kafka, topic: targetTopic}, partition: partition}
	target, err := log.offset(ctx, moment.UnixMilli())
	if isUnknownTopic(err) {
		return Translation{}, &NotReplicatedError{Topic: targetTopic, Partition: partition}
	}
	if err != nil {
		return Translation{}, err
	}
	if target < 0 {
		return c.end(ctx, targetTopic, partition)
	}
	t, err := c.Reverse(ctx, targetTopic, partition, target)
	if err != nil || t.Exact || t.Origin != FromJournal {
		return t, err
	}
	// Brokers date markers too, and one of today stands before old records: the records behind it are looked at one by one.
	if target, err = firstSince(ctx, &log, t.Target, t.End.Target, moment); err != nil {
		return Translation{}, err
	}
	if target < 0 {
		return c.end(ctx, targetTopic, partition)
	}
	return c.Reverse(ctx, targetTopic, partition, target)
}

// firstSince is the offset of the first record in [from, to) with a timestamp at or after a moment, -1 if there is none.
func firstSince(ctx context.Context, log *logReader, from, to int64, moment time.Time) (int64, error) {
	found := int64(-1)
	err := log.read(ctx, from, to, fetchBytes, func(records []*kgo.Record, _ int64) error {
		for _, r := range records {
			if r.Offset < to && r.Timestamp.UnixMilli() >= moment.UnixMilli() {
				found = r.Offset
				return errFound
			}
		}
		return nil
	})
	if errors.Is(err, errFound) {
		err = nil
	}
	return found, err
}

// errFound ends a search.
var errFound = errors.New("found")

// end is the end of a copy, as a translation. Nobody but the journal knows it.
func (c *Client) end(ctx context.Context, targetTopic string, partition int32) (Translation, error) {
	j, state, err := c.find(ctx, targetTopic, partition)
	if err != nil {
		return Translation{}, err
	}
	for {
		t, err := j.translate(ctx, partitionKey{state.Topic, partition}, Source, state.End.Source)
		if err != nil || t.End == state.End {
			return t, err
		}
		state = &PartitionState{Topic: state.Topic, End: t.End} // it moved on meanwhile
	}
}

// find is the journal that describes a target partition, and its state. A journal that cannot be read keeps nobody from
// asking the others, but an answer that nothing knows the partition.
func (c *Client) find(ctx context.Context, targetTopic string, partition int32) (*Journal, *PartitionState, error) {
	key := partitionKey{targetTopic, partition}
	c.mu.Lock()
	home := c.homes[key]
	c.mu.Unlock()
	if home != nil {
		if state, err := home.Lookup(ctx, targetTopic, partition); err == nil {
			return home, state, nil
		}
	}
	journals, err := c.journals(ctx)
	if err != nil {
		return nil, nil, err
	}
	var failed error
	for _, j := range journals {
		state, err := j.Lookup(ctx, targetTopic, partition)
		var unknown *NotReplicatedError
		var gone *NoJournalError
		switch {
		case err == nil:
			c.mu.Lock()
			c.homes[key] = j
			c.mu.Unlock()
			return j, state, nil
		case errors.As(err, &unknown), errors.As(err, &gone):
		case ctx.Err() != nil:
			return nil, nil, err
		default:
			failed = errors.Join(failed, err)
		}
	}
	if failed != nil {
		return nil, nil, failed
	}
	return nil, nil, &NotReplicatedError{Topic: targetTopic, Partition: partition}
}
