package offsets

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Forward translates an offset of a source partition, named by its copy on this cluster, to an offset of that copy.
// The journal answers. If there is none, or if the offset is from before it, MirrorMaker 2's offset-syncs answer if
// they are on this cluster; see [Options] for when they are used. It may block for reading. Errors:
// *[NotReplicatedError] if nothing on this cluster describes the partition, *[NotCopiedError] with the end of the
// copy, *[BeforeStartError], *[VersionError], *[CorruptError], errors of the cluster.
func (c *Client) Forward(ctx context.Context, targetTopic string, partition int32, source int64) (Translation, error) {
	return c.translate(ctx, targetTopic, partition, Source, source)
}

// Reverse translates an offset of a target partition back. It blocks and fails as [Client.Forward] does. Where the source begins is not known
// here, so for an offset below the start of the map see [BeforeStartError.Continue].
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

// translateBy is translate with a given journal, for copies that several journals describe.
func (c *Client) translateBy(ctx context.Context, j *Journal, state *PartitionState, side Side, wanted int64) (Translation, error) {
	t, err := j.translate(ctx, partitionKey{state.Topic, state.Partition}, side, wanted)
	return c.orBySyncs(ctx, t, err, state, state.TargetTopic, state.Partition, side, wanted)
}

// orBySyncs returns the journal's answer, or that of the offset-syncs if the journal has none. The state is nil if no
// journal was found.
func (c *Client) orBySyncs(ctx context.Context, t Translation, err error, state *PartitionState, targetTopic string, partition int32, side Side, wanted int64) (Translation, error) {
	var unknown *NotReplicatedError
	var early *BeforeStartError
	if err == nil || c.onlyFlow != "" || !errors.As(err, &unknown) && !errors.As(err, &early) {
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
	// Records that were copied before the map are at most at its start. Syncs above it belong to an earlier topic.
	if state != nil && other.Source <= state.Start.Source && other.Target <= state.Start.Target {
		return other, nil
	}
	return t, err
}

// ForwardFrom translates an offset of a source partition, named as on the source. From is the name of the flow or the
// alias of the source; empty means any. It blocks and fails as [Client.Forward] does, and returns an
// *[AmbiguousError] if several flows copy a topic of that name and from does not select one.
func (c *Client) ForwardFrom(ctx context.Context, from, topic string, partition int32, source int64) (Translation, error) {
	journals, err := c.journals(ctx)
	if err != nil {
		return Translation{}, err
	}
	type candidate struct {
		journal *Journal
		state   *PartitionState
	}
	var found [4][]candidate // by rank, the best first
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
		if rank := c.rank(from, j.flow, state); rank >= 0 {
			found[rank] = append(found[rank], candidate{j, state})
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

// rank says how well a flow's copy matches the name of a flow or an alias: 0 is best, -1 is no match. The journal has
// no aliases, but names do: those of flows by default, and those of topics except with identity naming.
func (c *Client) rank(from, flow string, state *PartitionState) int {
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

// At translates a time: to the first copied record with a timestamp at or after it, on both sides. If there is none,
// the answer is the end of the copy. It blocks and fails as [Client.Reverse] does, and may block for reading a part
// of the topic. A *[NotCopiedError] means that the journal does not have the found record yet.
func (c *Client) At(ctx context.Context, targetTopic string, partition int32, moment time.Time) (Translation, error) {
	log := logReader{topicLeaders: &topicLeaders{client: c.kafka, topic: targetTopic}, partition: partition, users: true}
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
	// Markers have timestamps too, and a marker of today may be before old records: check the records after it one by one.
	if target, err = firstSince(ctx, &log, t.Target, t.End.Target, moment); err != nil {
		return Translation{}, err
	}
	if target < 0 {
		return c.end(ctx, targetTopic, partition)
	}
	return c.Reverse(ctx, targetTopic, partition, target)
}

// firstSince returns the offset of the first record in [from, to) with a timestamp at or after a moment, -1 if there
// is none.
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

// errFound ends the read.
var errFound = errors.New("found")

// end returns the end of a copy as a translation. Only the journal knows it.
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

// find returns the journal that describes a target partition, and its state. A journal that cannot be read does not
// keep others from answering, but it does prevent the answer that nothing describes the partition.
func (c *Client) find(ctx context.Context, targetTopic string, partition int32) (*Journal, *PartitionState, error) {
	key := partitionKey{targetTopic, partition}
	c.mu.Lock()
	known := c.journalOf[key]
	c.mu.Unlock()
	if known != nil {
		if state, err := known.Lookup(ctx, targetTopic, partition); err == nil {
			return known, state, nil
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
			c.journalOf[key] = j
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
