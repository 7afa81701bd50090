package groups

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/topics"
)

// lineage is which positions of groups on the target milena has put there. Only those are moved, forward or backward: any other was committed
// by consumers or by a person. It is in the flow's journal, and in the memory while this process leads.
//
//	note (before, put) in the journal  ──▶  commit put  ──▶  note (put, put) once it is seen there
//
// A process that is killed in between leaves before or put on the target, and both are in the journal. The position that a first commit
// replaces is "none", so before is never one of consumers.
type lineage struct {
	syncer *Syncer
	loaded atomic.Bool
	began  bool // the journal has a [offsets.Lineage]
}

func newLineage(s *Syncer) *lineage { return &lineage{syncer: s} }

// lost makes the next sync read the lineage again: another process may lead, or a note may or may not be in the journal.
func (l *lineage) lost() { l.loaded.Store(false) }

// load reads the lineage, if this process has not done so since it leads. The first process that leads adopts what MirrorMaker 2 or an earlier
// milena has put.
func (l *lineage) load(ctx context.Context, now views) error {
	if l.loaded.Load() {
		return nil
	}
	s := l.syncer
	reader := offsets.NewLineageReader(s.deps.TargetClient, offsets.JournalTopic(s.deps.Flow.Name), s.deps.Log, l.forget, func(e offsets.Entry) { l.add(e, now.target) })
	if err := reader.Follow(ctx); err != nil {
		return fmt.Errorf("read where groups were put on cluster %s: %w", s.deps.Flow.Target, err)
	}
	if !l.began {
		if err := l.adopt(ctx); err != nil {
			return fmt.Errorf("adopt the groups' positions that the checkpoints on cluster %s show: %w", s.deps.Flow.Target, err)
		}
		l.began = true
	}
	l.loaded.Store(true)
	return nil
}

func (l *lineage) forget() {
	l.began = false
	for _, g := range l.syncer.memory.all() {
		g.settled = false
		for i := range g.parts {
			g.parts[i].placed = false
		}
	}
}

// add takes an entry of the journal.
func (l *lineage) add(e offsets.Entry, view topics.View) {
	m := l.syncer.memory
	switch e := e.(type) {
	case *offsets.Lineage:
		l.began = true
	case *offsets.GroupPositions:
		number, g := m.topicNumber(e.Topic, e.TopicID), m.group(e.Group)
		g.unplace(number)
		if offsets.IsAnotherTopic(e.TopicID, view.ByName[e.Topic].ID) {
			return // the topic was deleted and created again since
		}
		for _, o := range e.Placed {
			g.place(number, o)
		}
	case *offsets.Tombstone:
		if e.Kind == offsets.KindGroup {
			m.group(e.Group).unplace(m.topicNumber(e.Topic, [16]byte{}))
		}
	case *offsets.ShardState, *offsets.Owner, *offsets.PartitionState, *offsets.Chunk:
	}
}

// note writes to the journal where the groups of positions are put, for the topics in which that changes. Until it returns, nothing may be
// committed.
func (l *lineage) note(ctx context.Context, changed []*position) error {
	type groupTopic struct {
		group string
		topic uint32
	}
	byTopic := make(map[groupTopic][]*position)
	for _, q := range changed {
		key := groupTopic{q.group, q.topic}
		byTopic[key] = append(byTopic[key], q)
	}
	known := l.syncer.memory.known()
	entries := make([]offsets.Entry, 0, len(byTopic))
	for key, list := range byTopic {
		t := known[key.topic]
		entries = append(entries, l.syncer.memory.group(key.group).entry(t, key.topic, list))
	}
	return l.syncer.deps.Host.Note(ctx, entries)
}

// entry is what the journal says of a group in a topic, with the changes of some positions.
func (g *groupMemory) entry(t topicMemory, number uint32, changed []*position) *offsets.GroupPositions {
	byPartition := make(map[int32]offsets.PlacedOffset)
	for i := range g.parts {
		if p := &g.parts[i]; p.topic == number && p.placed {
			byPartition[p.partition] = p.placedOffset()
		}
	}
	for _, q := range changed {
		byPartition[q.partition] = q.placedOffset()
	}
	e := &offsets.GroupPositions{Group: g.name, Topic: t.name, TopicID: t.id}
	for _, partition := range slices.Sorted(maps.Keys(byPartition)) {
		e.Placed = append(e.Placed, byPartition[partition])
	}
	return e
}

// maxCandidates is how many positions of a partition in the checkpoints may be MirrorMaker 2's. The newest need not be the one that it
// committed: it writes checkpoints and commits at different times.
const maxCandidates = 4

// candidates are the newest positions of a group in one partition that the checkpoints show, the newest last.
type candidates []offsets.Checkpoint

// adopt notes the committed offsets on the target that the checkpoints show to be put by MirrorMaker 2 or an earlier milena. That is done once
// in the life of a journal: later checkpoints are written also for groups that milena does not move.
func (l *lineage) adopt(ctx context.Context) error {
	s := l.syncer
	var found map[string]map[offsets.TopicPartition]candidates
	if s.deps.Flow.GroupsSync { // otherwise the checkpoints were never committed
		var err error
		found, err = readCandidates(ctx, s.deps, s.rules.Selected)
		if err != nil && (s.deps.Migration != nil || !errors.Is(err, kerr.TopicAuthorizationFailed)) {
			return err
		}
	}
	adopted := 0
	for chunk := range slices.Chunk(slices.Sorted(maps.Keys(found)), groupsPerChunk) {
		read := readCommits(ctx, s.deps.TargetClient, chunk, true)
		var entries []offsets.Entry
		for _, group := range chunk {
			answer := read[group]
			if answer.err != nil && !errors.Is(answer.err, kerr.GroupAuthorizationFailed) {
				return fmt.Errorf("read the offsets of group %s: %w", group, answer.err)
			}
			for topic, list := range adoptable(found[group], answer.byPartition()) {
				e := &offsets.GroupPositions{Group: group, Topic: topic, TopicID: s.deps.Host.View(offsets.Target).ByName[topic].ID, Placed: list}
				entries, adopted = append(entries, e), adopted+len(list)
			}
		}
		if err := s.deps.Host.Note(ctx, entries); err != nil {
			return err
		}
		for _, e := range entries {
			l.add(e, s.deps.Host.View(offsets.Target))
		}
	}
	if adopted > 0 {
		s.deps.Log.Info("positions of groups that the checkpoints show count as put by milena", "cluster", s.deps.Flow.Target, "count", adopted)
	}
	return s.deps.Host.Note(ctx, []offsets.Entry{&offsets.Lineage{Began: time.Now()}})
}

// readCandidates reads the checkpoints of the selected groups in copies, by group and partition.
func readCandidates(ctx context.Context, d *Deps, selected func(group string) bool) (map[string]map[offsets.TopicPartition]candidates, error) {
	found := make(map[string]map[offsets.TopicPartition]candidates)
	err := offsets.VisitCheckpoints(ctx, d.TargetClient, d.InternalTopics(), d.Flow.Source, func(c offsets.Checkpoint) {
		if _, ok := d.Topics.Source(c.Topic); !ok || !selected(c.Group) {
			return
		}
		if found[c.Group] == nil {
			found[c.Group] = make(map[offsets.TopicPartition]candidates)
		}
		tp := offsets.TopicPartition{Topic: c.Topic, Partition: c.Partition}
		list := found[c.Group][tp]
		if n := len(list); n > 0 && list[n-1].Target == c.Target {
			return
		}
		if len(list) == maxCandidates {
			list = slices.Delete(list, 0, 1)
		}
		found[c.Group][tp] = append(list, c)
	})
	var none *offsets.NoCheckpointsError
	if errors.As(err, &none) {
		err = nil
	}
	return found, err
}

// adoptable returns the committed offsets of a group that are among its candidates, by topic.
func adoptable(found map[offsets.TopicPartition]candidates, commits map[offsets.TopicPartition]committed) map[string][]offsets.PlacedOffset {
	placed := make(map[string][]offsets.PlacedOffset)
	for tp, list := range found {
		at := lookUp(commits, tp)
		for _, c := range slices.Backward(list) {
			if at.err == nil && at.at == c.Target {
				placed[tp.Topic] = append(placed[tp.Topic], offsets.PlacedOffset{Partition: tp.Partition, Source: c.Source, Put: c.Target, Before: c.Target})
				break
			}
		}
	}
	for _, list := range placed {
		slices.SortFunc(list, func(a, b offsets.PlacedOffset) int { return int(a.Partition) - int(b.Partition) })
	}
	return placed
}

// prune forgets groups that exist on neither cluster any more, and topics that do not exist on the target. Names are the groups of the source.
func (l *lineage) prune(ctx context.Context, p *pass, names []string) error {
	topicsKnown := p.memory.known()
	goneTopics := make(map[uint32]bool)
	for i, t := range topicsKnown {
		if !p.now.target.ByName[t.name].Exists() {
			goneTopics[uint32(i)] = true //nolint:gosec // topics are numbered with 32 bits
		}
	}
	var entries []offsets.Entry
	var gone []string
	for _, g := range p.memory.all() {
		_, onSource := slices.BinarySearch(names, g.name)
		onTarget := true
		if !onSource {
			listed, err := p.listing.get(ctx)
			if err != nil {
				return err
			}
			if _, onTarget = listed[g.name]; !onTarget {
				gone = append(gone, g.name)
			}
			g.positions, g.refusals = 0, nil
		}
		last := uint32(len(topicsKnown))
		for i := range g.parts {
			t := &g.parts[i]
			if !t.placed || onTarget && !goneTopics[t.topic] {
				continue
			}
			if t.placed = false; t.topic != last {
				last = t.topic
				entries = append(entries, &offsets.Tombstone{Kind: offsets.KindGroup, Group: g.name, Topic: topicsKnown[t.topic].name})
			}
		}
	}
	if len(entries) > 0 {
		if err := p.deps.Host.Note(ctx, entries); err != nil {
			l.lost()
			return fmt.Errorf("forget where groups were put: %w", err)
		}
	}
	p.memory.remove(gone)
	return nil
}
