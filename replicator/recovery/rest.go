package recovery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/groups"
)

// awaitFinal waits until no group can move on the source any more: it has no members, or has committed the end of all that its members read. Nothing is
// written to the source meanwhile.
func (p *positions) awaitFinal(ctx context.Context, waiting func(string, ...any)) ([]group, error) {
	text := "nobody has said yet which groups there are"
	for {
		var moving []string
		list, err := p.read(ctx)
		if err == nil {
			moving, err = p.moving(ctx, list)
		}
		switch {
		case ctx.Err() != nil: // what they say is only that it was ended
			return nil, fmt.Errorf("%w: %s; --leave-groups leaves a group out", ctx.Err(), text)
		case err != nil:
			return nil, err
		case len(moving) == 0:
			return slices.DeleteFunc(list, func(g group) bool { return !g.hasPositions() }), nil
		}
		text = "these groups have members on the source that have not committed the end of their partitions; stop them, or let them come to the end: " + firstOf(moving)
		waiting("%s", text)
		if err := client.Sleep(ctx, lookEvery); err != nil {
			return nil, fmt.Errorf("%w: %s; --leave-groups leaves a group out", err, text)
		}
	}
}

// assigned adds what the members of groups read: also where a group has committed nothing yet. Brokers describe groups of the older and the newer protocol
// in answers of their own.
func (p *positions) assigned(ctx context.Context, list []group) error {
	active := make(map[string]*group)
	for i := range list {
		if list[i].active {
			active[list[i].name] = &list[i]
		}
	}
	if len(active) == 0 {
		return nil
	}
	described, err := p.source.DescribeGroups(ctx, slices.Sorted(maps.Keys(active))...)
	if err != nil {
		return fmt.Errorf("describe groups of cluster %s: %w", p.clusters.Flow.Source, err)
	}
	var newer []string
	for name, g := range active {
		d := described[name]
		if d.Err != nil || len(d.Members) == 0 {
			newer = append(newer, name)
			continue
		}
		g.rebalance = d.State != stateStable
		p.addAssigned(g, d.AssignedPartitions())
	}
	if len(newer) == 0 {
		return nil
	}
	slices.Sort(newer)
	consumers, err := p.source.DescribeConsumerGroups(ctx, newer...)
	for _, name := range newer {
		older := described[name].Err
		d, ok := consumers[name]
		switch {
		case err == nil && ok && d.Err == nil:
			active[name].rebalance = len(d.Members) > 0 && d.State != stateStable
			p.addAssigned(active[name], d.AssignedPartitions())
		case older == nil: // it has just lost its members; a broker that is older than that protocol answers with an error
		case errors.Is(older, kerr.GroupIDNotFound) && errors.Is(d.Err, kerr.GroupIDNotFound): // it is gone
		default:
			return fmt.Errorf("describe group %s of cluster %s: %w", name, p.clusters.Flow.Source, cmp.Or(err, d.Err, older))
		}
	}
	return nil
}

// stateStable is that of a group whose members know what they read.
const stateStable = "Stable"

func (p *positions) addAssigned(g *group, assigned kadm.TopicsSet) {
	if g == nil {
		return
	}
	assigned.Each(func(topic string, partition int32) {
		if _, reason := p.topics.Target(topic); reason == "" {
			g.reads = append(g.reads, offsets.TopicPartition{Topic: topic, Partition: partition})
		} else if _, ok := p.home.of(topic); ok {
			g.reads = append(g.reads, offsets.TopicPartition{Topic: topic, Partition: partition})
		}
	})
	slices.SortFunc(g.reads, comparePartitions)
}

// bounds are where the partitions begin and end that groups with members have positions in, or read.
func (p *positions) bounds(ctx context.Context, list []group) (starts, ends kadm.ListedOffsets, err error) {
	topics := make(map[string]bool)
	for _, g := range list {
		if g.active {
			for tp := range g.all() {
				topics[tp.Topic] = true
			}
		}
	}
	if len(topics) == 0 {
		return nil, nil, nil
	}
	names := slices.Sorted(maps.Keys(topics))
	starts, err = p.source.ListStartOffsets(ctx, names...)
	if err == nil {
		err = starts.Error()
	}
	if err == nil {
		ends, err = p.source.ListEndOffsets(ctx, names...)
	}
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, nil, p.clusters.SourceError(err)
	}
	return starts, ends, nil
}

// moving are the groups that may still move: they have members and something to read, or it is not known.
func (p *positions) moving(ctx context.Context, list []group) (names []string, err error) {
	starts, ends, err := p.bounds(ctx, list)
	if err != nil {
		return nil, err
	}
	var c counterparts
	defer c.close()
	for _, g := range list {
		switch {
		case g.pending:
			names = append(names, g.name+" (a transaction is open that commits positions)")
			continue
		case !g.active:
			continue
		case g.rebalance:
			names = append(names, g.name+" (rebalances)")
			continue
		}
		positions := g.all()
		for _, tp := range sortedPartitions(positions) {
			at := positions[tp]
			start, _ := starts.Lookup(tp.Topic, tp.Partition)
			end, _ := ends.Lookup(tp.Topic, tp.Partition)
			from := max(at, start.Offset)
			if from >= end.Offset || c.isSame(ctx, p, tp, from, end.Offset) {
				continue
			}
			text := fmt.Sprintf("%s (at %d of %s, which ends at %d)", g.name, at, tp, end.Offset)
			if at < 0 {
				text = fmt.Sprintf("%s (has committed nothing in %s)", g.name, tp)
			}
			names = append(names, text)
			break
		}
	}
	return names, nil
}

// counterparts translate offsets of the source, to find out whether there is a record between two of them. Behind a position there may be the marker of a
// transaction, which no consumer reads, so that the position is not the end, and translates to the same offset as the end does.
type counterparts struct{ there, back *groups.Translator }

func (c *counterparts) close() {
	for _, t := range []*groups.Translator{c.there, c.back} {
		if t != nil {
			t.Close()
		}
	}
}

func (c *counterparts) isSame(ctx context.Context, p *positions, tp offsets.TopicPartition, one, other int64) bool {
	if _, ok := p.home.of(tp.Topic); ok {
		if !open(ctx, &c.back, p.home.clusters) {
			return false
		}
		a, err := reverseUpToEnd(ctx, c.back, tp, one)
		b, errB := reverseUpToEnd(ctx, c.back, tp, other)
		return err == nil && errB == nil && a == b
	}
	if !open(ctx, &c.there, p.clusters) {
		return false
	}
	a, err := c.there.Offset(ctx, tp.Topic, tp.Partition, one)
	b, errB := c.there.Offset(ctx, tp.Topic, tp.Partition, other)
	return err == nil && errB == nil && a.Target == b.Target
}

// open opens a translator of a flow once. If that fails, nobody can say that two offsets are the same.
func open(ctx context.Context, t **groups.Translator, c client.Clusters) bool {
	if *t == nil {
		opened, err := groups.OpenTranslator(ctx, c)
		if err != nil {
			return false
		}
		*t = opened
	}
	return true
}
