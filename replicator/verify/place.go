package verify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"golang.org/x/sync/errgroup"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/topics"
	"github.com/milena-kafka/milena/replicator/wire"
)

// placeParallel is how many partitions are placed at a time.
const placeParallel = 16

// placing is what is known when the range of each partition is chosen.
type placing struct {
	reading   *offsets.Reading
	bounds    topics.Bounds
	compacted map[string]compaction // by source topic
	pairs     map[string]topics.Pair
	question  Question
}

// compaction is whether log cleaners work on a topic and its copy, or why that is not known.
type compaction struct {
	source, target bool
	err            error
}

// place chooses the range of every partition.
func (v *Verification) place(ctx context.Context, pl *placing) error {
	var group errgroup.Group
	group.SetLimit(placeParallel)
	for _, p := range v.partitions {
		group.Go(func() error {
			if err := v.placePartition(ctx, pl, p); err != nil {
				p.found.NotVerified = err.Error()
			}
			p.found.conclude()
			p.publish()
			return nil
		})
	}
	_ = group.Wait() // none returns an error
	return ctx.Err()
}

// placePartition chooses the range that the journal and both logs have in common. An error is why nothing can be verified, as a sentence.
func (v *Verification) placePartition(ctx context.Context, pl *placing, p *partition) error {
	tp, pair := p.source.TopicPartition, pl.pairs[p.source.Topic]
	state, err := pl.reading.State(ctx, tp)
	source, target, unlisted := pl.bounds.Of(pair, tp.Partition)
	var unknown *offsets.NotReplicatedError
	switch {
	case errors.As(err, &unknown) && unlistedOn(unlisted) != offsets.Source && source.Start == source.End:
		p.found.Notes = append(p.found.Notes, "the partition is empty, and the journal does not list it")
		return nil
	case errors.As(err, &unknown):
		return unreadable("the journal does not list the partition: milena has not begun to copy it")
	case err != nil:
		return unreadable("the journal cannot be read: %v", v.target.explain(err))
	case int(tp.Partition) >= len(pair.Target.Partitions):
		return unreadable("topic %s on cluster %s has no partition %d", pair.TargetName, v.target.alias, tp.Partition)
	case state.SourceClusterID != "" && v.sourceID != "" && state.SourceClusterID != v.sourceID, offsets.IsAnotherTopic(state.SourceTopicID, pair.Source.ID):
		return unreadable("the journal is about an earlier topic of that name on the source")
	case offsets.IsAnotherTopic(state.TargetTopicID, pair.Target.ID):
		return unreadable("the journal is about an earlier topic %s on the target", pair.TargetName)
	case unlisted != nil:
		return unreadable("the bounds of the %s log are not known: %v", unlisted.Side, unlisted.Err)
	case pl.compacted[tp.Topic].err != nil:
		return unreadable("it is not known whether a log cleaner works on the topic: %v", pl.compacted[tp.Topic].err)
	}
	p.facts.ledger, p.generation = state.Gaps, state.Generation
	p.cleaned.source.compacted, p.cleaned.target.compacted = pl.compacted[tp.Topic].source, pl.compacted[tp.Topic].target
	err = v.choose(ctx, pl, p, state, source, target)
	if nothing, ok := errors.AsType[*unreadableError](err); ok {
		return nothing
	}
	if err != nil {
		return unreadable("the offsets to verify cannot be found: %v", err)
	}
	if source.End > p.to.Source && pl.question.To.IsZero() {
		p.behind = fmt.Sprintf("the source ends at offset %d; what is behind %d is not in the journal yet", source.End, p.to.Source)
	}
	p.pending, p.position = true, p.from
	return nil
}

func unlistedOn(e *topics.UnlistedError) offsets.Side {
	if e == nil {
		return ""
	}
	return e.Side
}

// choose sets the range of a partition.
func (v *Verification) choose(ctx context.Context, pl *placing, p *partition, state *offsets.PartitionState, source, target topics.Bound) error {
	places := journalPlaces{pl.reading, p.source.TopicPartition}
	p.places = places
	from, to := state.Start, state.End
	var early *offsets.BeforeStartError
	if _, err := places.segment(ctx, from.Source); errors.As(err, &early) {
		from = early.Begin // the journal has forgotten what was before
	} else if err != nil {
		return err
	}
	note := p.found.note
	first, end, err := v.offsetsOf(ctx, p.source.TopicPartition, pl.question)
	if err != nil {
		return err
	}
	if end >= 0 && end < to.Source {
		to.Source = max(end, from.Source)
		if to.Target, err = places.forward(ctx, to.Source); err != nil {
			return err
		}
	}
	if begin := from.Source; begin > source.Start && begin > first {
		note("the map begins at source offset %d, so what is before it is not verified", begin)
	}
	if source.Start > max(first, from.Source) {
		first = source.Start
		note("the source has deleted what is below offset %d", source.Start)
	}
	if first > state.End.Source && first < source.End { // nothing was compared, which is not the same as equal
		return unreadable("nothing from source offset %d on is in the journal yet: the copy ends at %d", first, state.End.Source)
	}
	if first > from.Source {
		from.Source = min(first, to.Source)
		if from.Target, err = places.forward(ctx, from.Source); err != nil {
			return err
		}
	}
	if target.Start >= to.Target && from.Source < to.Source {
		return unreadable("the target has deleted all that was copied, and the source still has offsets [%d, %d)", from.Source, to.Source)
	}
	if target.Start > from.Target {
		note("the target has deleted what is below its offset %d", target.Start)
		if from.Target = min(target.Start, to.Target); from.Target == to.Target {
			from.Source = to.Source
		} else if from.Source, err = places.reverse(ctx, from.Target); err != nil {
			return err
		}
	}
	p.from, p.to = from, to
	return nil
}

// offsetsOf returns the source offsets that the times of the question stand for: of the first record that is not older. They are -1 where the question has none,
// and first is the end of the log if all records are older.
func (v *Verification) offsetsOf(ctx context.Context, tp offsets.TopicPartition, q Question) (first, end int64, err error) {
	find := func(at time.Time) (int64, error) {
		offset, err := wire.ListOffset(ctx, v.source.client, v.source.leader(tp), tp, at.UnixMilli())
		if err == nil && offset < 0 {
			offset, err = wire.ListOffset(ctx, v.source.client, v.source.leader(tp), tp, wire.Latest)
		}
		return offset, err
	}
	first, end = -1, -1
	if !q.From.IsZero() {
		if first, err = find(q.From); err != nil {
			return 0, 0, err
		}
	}
	if !q.To.IsZero() {
		end, err = find(q.To)
	}
	return first, end, err
}

// readCompaction reads the cleanup policies of the topics and their copies.
func (v *Verification) readCompaction(ctx context.Context, pairs []topics.Pair) map[string]compaction {
	sources, targets := cleanupPolicies(ctx, v.source, topics.SourceNames(pairs)), cleanupPolicies(ctx, v.target, topics.TargetNames(pairs))
	found := make(map[string]compaction, len(pairs))
	for _, pair := range pairs {
		s, t := sources[pair.Source.Name], targets[pair.TargetName]
		found[pair.Source.Name] = compaction{source: s.compacted, target: t.compacted, err: errors.Join(s.err, t.err)}
	}
	return found
}

type cleanup struct {
	compacted bool
	err       error
}

// cleanupPolicies reads the cleanup policies of some topics of a cluster.
func cleanupPolicies(ctx context.Context, of *cluster, names []string) map[string]cleanup {
	found := make(map[string]cleanup, len(names))
	described, err := kadm.NewClient(of.client).DescribeTopicConfigs(ctx, names...)
	for _, name := range names {
		c := cleanup{err: err}
		if err == nil {
			c.compacted, c.err = isCompacted(described, name)
		}
		if c.err != nil {
			c.err = topics.AdminError(of.alias, "describe configs of", name, c.err, nil)
		}
		found[name] = c
	}
	return found
}

func isCompacted(described kadm.ResourceConfigs, name string) (bool, error) {
	of, err := described.On(name, nil)
	if err != nil {
		return false, err
	}
	if of.Err != nil {
		return false, of.Err
	}
	for _, c := range of.Configs {
		if c.Key == "cleanup.policy" {
			return topics.IsCompacted(c.MaybeValue()), nil
		}
	}
	return false, errors.New("the response does not have cleanup.policy")
}
