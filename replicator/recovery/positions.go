package recovery

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/groups"
)

// positions are the consumer groups of a flow, and where they are on both clusters.
type positions struct {
	clusters       client.Clusters
	source, target *kadm.Client
	rules          *policy.Groups
	topics         *policy.Topics
	leave          []string
}

func newPositions(c client.Clusters, source, target *kgo.Client, leave []string) (*positions, error) {
	p := &positions{clusters: c, source: kadm.NewClient(source), target: kadm.NewClient(target), leave: leave}
	var err error
	if p.rules, err = policy.NewGroups(c.Flow); err != nil {
		return nil, err
	}
	p.topics, err = policy.NewTopics(c.Flow, c.Flow.Source, c.Flow.Target)
	return p, err
}

// follows reports whether the flow moves groups at all.
func (p *positions) follows() bool { return p.clusters.Flow.GroupsSync && !p.clusters.Flow.Provenance }

// group is a group of the source with committed offsets in topics that are copied.
type group struct {
	name      string
	active    bool
	committed map[offsets.TopicPartition]int64
}

// read returns the groups of the source that the flow follows and that have positions in its topics.
func (p *positions) read(ctx context.Context) (list []group, err error) {
	if !p.follows() {
		return nil, nil
	}
	listed, err := p.source.ListGroups(ctx)
	if err != nil {
		return nil, fmt.Errorf("list groups of cluster %s: %w", p.clusters.Flow.Source, err)
	}
	var names []string
	for name, g := range listed {
		if p.rules.Selected(name) && policy.Translatable(g.ProtocolType) && !slices.Contains(p.leave, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	fetched := p.source.FetchManyOffsets(ctx, names...)
	for _, name := range names {
		answer := fetched[name]
		if answer.Err != nil {
			return nil, fmt.Errorf("read the offsets of group %s on cluster %s: %w", name, p.clusters.Flow.Source, answer.Err)
		}
		state := listed[name].State
		g := group{name: name, active: state != "" && state != "Empty" && state != "Dead", committed: make(map[offsets.TopicPartition]int64)}
		answer.Fetched.Each(func(o kadm.OffsetResponse) {
			if _, reason := p.topics.Target(o.Topic); reason == "" && o.Err == nil && o.At >= 0 {
				g.committed[offsets.TopicPartition{Topic: o.Topic, Partition: o.Partition}] = o.At
			}
		})
		if len(g.committed) > 0 {
			list = append(list, g)
		}
	}
	return list, nil
}

// awaitFinal waits until no group can move on the source any more: it has no members, or it has committed the end of all that it has committed. Nothing is
// written to the source meanwhile.
func (p *positions) awaitFinal(ctx context.Context, waiting func(string, ...any)) ([]group, error) {
	for {
		list, err := p.read(ctx)
		if err != nil {
			return nil, err
		}
		ends, err := p.ends(ctx, list)
		if err != nil {
			return nil, err
		}
		moving, err := p.moving(ctx, list, ends)
		if err != nil {
			return nil, err
		}
		if len(moving) == 0 {
			return list, nil
		}
		text := "these groups have members on the source that have not committed the end of their partitions; stop them, or let them come to the end: " + firstOf(moving)
		waiting("%s", text)
		if err := client.Sleep(ctx, lookEvery); err != nil {
			return nil, fmt.Errorf("%w: %s; --leave-groups leaves a group out", err, text)
		}
	}
}

// ends are the ends of the partitions in which groups with members have positions.
func (p *positions) ends(ctx context.Context, list []group) (map[offsets.TopicPartition]int64, error) {
	topics := make(map[string]bool)
	for _, g := range list {
		for tp := range g.committed {
			if g.active {
				topics[tp.Topic] = true
			}
		}
	}
	ends := make(map[offsets.TopicPartition]int64)
	if len(topics) == 0 {
		return ends, nil
	}
	listed, err := p.source.ListEndOffsets(ctx, slices.Sorted(maps.Keys(topics))...)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, p.clusters.SourceError(err)
	}
	listed.Each(func(o kadm.ListedOffset) {
		ends[offsets.TopicPartition{Topic: o.Topic, Partition: o.Partition}] = o.Offset
	})
	return ends, nil
}

// moving are the groups that may still move: they have members and something to read. Behind a position there may be the marker of a transaction, which no
// consumer reads, so that the position is not the end, and translates to the same offset as the end does.
func (p *positions) moving(ctx context.Context, list []group, ends map[offsets.TopicPartition]int64) (names []string, err error) {
	var t *groups.Translator
	for _, g := range list {
		for _, tp := range slices.SortedFunc(maps.Keys(g.committed), comparePartitions) {
			at, end := g.committed[tp], ends[tp]
			if !g.active || at >= end {
				continue
			}
			if t == nil {
				if t, err = groups.OpenTranslator(ctx, p.clusters); err != nil {
					return nil, err
				}
				defer t.Close()
			}
			here, err := t.Offset(ctx, tp.Topic, tp.Partition, at)
			there, endErr := t.Offset(ctx, tp.Topic, tp.Partition, end)
			if err == nil && endErr == nil && here.Target == there.Target {
				continue
			}
			names = append(names, fmt.Sprintf("%s (at %d of %s, which ends at %d)", g.name, at, tp, end))
			break
		}
	}
	return names, nil
}

// prove finds out whether each group is on the target exactly where it continues, and returns how many positions it looked at.
func (p *positions) prove(ctx context.Context, list []group) (proven int, err error) {
	t, err := groups.OpenTranslator(ctx, p.clusters)
	if err != nil {
		return 0, err
	}
	defer t.Close()
	names := make([]string, len(list))
	for i, g := range list {
		names[i] = g.name
	}
	put := p.target.FetchManyOffsets(ctx, names...)
	var wrong []string
	for _, g := range list {
		answer := put[g.name]
		if answer.Err != nil {
			return 0, fmt.Errorf("read the offsets of group %s on cluster %s: %w", g.name, p.clusters.Flow.Target, answer.Err)
		}
		translated, _, err := t.Group(ctx, g.name)
		if err != nil {
			return 0, fmt.Errorf("translate group %s: %w", g.name, err)
		}
		seen := 0
		for _, o := range translated {
			at, known := g.committed[offsets.TopicPartition{Topic: o.Topic, Partition: o.Partition}]
			if !known {
				continue
			}
			seen++
			now, ok := answer.Fetched.Lookup(o.TargetTopic, o.Partition)
			switch {
			case o.Err != nil:
				wrong = append(wrong, fmt.Sprintf("%s has no position in %s-%d: %v", g.name, o.TargetTopic, o.Partition, o.Err))
			case o.Source != at:
				wrong = append(wrong, fmt.Sprintf("%s moved in %s-%d from %d to %d", g.name, o.Topic, o.Partition, at, o.Source))
			case !ok || now.At < 0:
				wrong = append(wrong, fmt.Sprintf("%s has no position in %s-%d, and continues at %d", g.name, o.TargetTopic, o.Partition, o.Target))
			case now.At != o.Target:
				wrong = append(wrong, fmt.Sprintf("%s is at %d of %s-%d, and continues at %d", g.name, now.At, o.TargetTopic, o.Partition, o.Target))
			}
		}
		if seen != len(g.committed) {
			wrong = append(wrong, fmt.Sprintf("%d of %d positions of %s have a counterpart", seen, len(g.committed), g.name))
		}
		proven += seen
	}
	if len(wrong) > 0 {
		return 0, errors.New("groups are not where they continue, see milena status for the reason: " + firstOf(wrong))
	}
	return proven, nil
}

// maxNamed is how many things a sentence names.
const maxNamed = 5

// firstOf is a list as the end of a sentence.
func firstOf(list []string) string {
	text := strings.Join(list[:min(maxNamed, len(list))], ", ")
	if n := len(list) - maxNamed; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return text
}
