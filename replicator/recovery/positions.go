package recovery

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
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
	home           *home // nil if nothing is copied from the target
}

func newPositions(c client.Clusters, reverse *client.Clusters, source, target *kgo.Client, leave []string) (*positions, error) {
	p := &positions{clusters: c, source: kadm.NewClient(source), target: kadm.NewClient(target), leave: leave}
	var err error
	if p.rules, err = policy.NewGroups(c.Flow); err != nil {
		return nil, err
	}
	if p.topics, err = policy.NewTopics(c.Flow, c.Flow.Source, c.Flow.Target); err != nil {
		return nil, err
	}
	p.home, err = newHome(reverse, source)
	return p, err
}

// follows reports whether the flow moves groups at all.
func (p *positions) follows() bool { return p.clusters.Flow.GroupsSync && !p.clusters.Flow.Provenance }

// group is a group of the source.
type group struct {
	name      string
	active    bool
	rebalance bool                             // its members are being assigned what they read
	pending   bool                             // a transaction is open that commits positions
	committed map[offsets.TopicPartition]int64 // in topics that are copied to the target
	handed    map[offsets.TopicPartition]int64 // in copies of the target's topics
	reads     []offsets.TopicPartition         // what its members read of both
}

func (g *group) hasPositions() bool { return len(g.committed)+len(g.handed) > 0 }

// all are the positions of the group, -1 for what it reads and has not committed.
func (g *group) all() map[offsets.TopicPartition]int64 {
	all := make(map[offsets.TopicPartition]int64)
	for _, tp := range g.reads {
		all[tp] = -1
	}
	maps.Copy(all, g.committed)
	maps.Copy(all, g.handed)
	return all
}

func sortedPartitions(of map[offsets.TopicPartition]int64) []offsets.TopicPartition {
	return slices.SortedFunc(maps.Keys(of), comparePartitions)
}

// read returns the groups of the source that the flow follows and that have positions in its topics or in copies of the target's, or
// members that read those.
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
	fetched := p.source.FetchManyOffsets(kadm.RequireStable(ctx), names...)
	for _, name := range names {
		answer := fetched[name]
		if answer.Err != nil {
			return nil, fmt.Errorf("read the offsets of group %s on cluster %s: %w", name, p.clusters.Flow.Source, answer.Err)
		}
		state := listed[name].State
		g := group{name: name, active: state != "" && state != "Empty" && state != "Dead", committed: make(map[offsets.TopicPartition]int64), handed: make(map[offsets.TopicPartition]int64)}
		if err := g.take(p, answer.Fetched); err != nil {
			return nil, p.clusters.SourceError(err)
		}
		if g.hasPositions() || g.active || g.pending {
			list = append(list, g)
		}
	}
	if err := p.assigned(ctx, list); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list, func(g group) bool { return !g.hasPositions() && len(g.reads) == 0 && !g.pending }), nil
}

// take takes the positions of the group that concern the flow. A position that is not told is not none.
func (g *group) take(p *positions, fetched kadm.OffsetResponses) (err error) {
	fetched.Each(func(o kadm.OffsetResponse) {
		_, reason := p.topics.Target(o.Topic)
		_, handed := p.home.of(o.Topic)
		tp := offsets.TopicPartition{Topic: o.Topic, Partition: o.Partition}
		switch {
		case reason != "" && !handed:
		case errors.Is(o.Err, kerr.UnstableOffsetCommit):
			g.pending = true
		case o.Err != nil:
			err = fmt.Errorf("read the offset of group %s in %s: %w", g.name, tp, o.Err)
		case o.At < 0:
		case reason == "":
			g.committed[tp] = o.At
		default:
			g.handed[tp] = o.At
		}
	})
	return err
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
	var wrong misplaced
	for _, g := range list {
		answer := put[g.name]
		if answer.Err != nil && !errors.Is(answer.Err, kerr.GroupIDNotFound) { // a group that is not there has no positions
			return 0, fmt.Errorf("read the offsets of group %s on cluster %s: %w", g.name, p.clusters.Flow.Target, answer.Err)
		}
		if len(g.committed) == 0 {
			continue
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
				wrong.add(g.name, "", "has no position in %s-%d: %v", o.TargetTopic, o.Partition, o.Err)
			case o.Source != at:
				wrong.add(g.name, "", "moved in %s-%d from %d to %d", o.Topic, o.Partition, at, o.Source)
			case !ok || now.At < 0:
				wrong.add(g.name, "milena status of an instance has the reason", "has no position in %s-%d, and continues at %d", o.TargetTopic, o.Partition, o.Target)
			case now.At != o.Target && !isSameCopy(ctx, t, o, now.At):
				wrong.add(g.name, "if its own consumers or a person put it there, "+adopt(p.clusters, g.name)+"; milena status of an instance has any other reason",
					"is at %d of %s-%d, and continues at %d", now.At, o.TargetTopic, o.Partition, o.Target)
			}
		}
		if seen != len(g.committed) {
			wrong.add(g.name, "", "has %s, and %d of them have a counterpart", counted(len(g.committed), "position"), seen)
		}
		proven += seen
	}
	back, wrongBack, err := p.home.prove(ctx, list, p.rules, p.clusters, put)
	if err != nil {
		return 0, err
	}
	wrong.join(wrongBack)
	return proven + back, wrong.err()
}

// isSameCopy reports whether what follows another offset of the copy is the same: between the two is nothing that a group reads, such as what an instance
// writes to the end of a copy when it takes that over.
func isSameCopy(ctx context.Context, t *groups.Translator, o offsets.GroupOffset, other int64) bool {
	source, err := reverseUpToEnd(ctx, t, offsets.TopicPartition{Topic: o.TargetTopic, Partition: o.Partition}, other)
	if err != nil {
		return false
	}
	return source == o.Source || isCopiedAt(ctx, t, o.Topic, o.Partition, source, o.Target)
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
