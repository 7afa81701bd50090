package groups

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
)

// reverseFlow is a flow of the same config in the other direction: what it copies to this flow's source, and where it has put groups there. Its
// journal is on this flow's source. No other journal counts, whatever its name: anyone who may create a topic there could forge one.
type reverseFlow struct {
	flow    config.Flow
	topics  *policy.Topics
	journal *offsets.Journal
	lineage *offsets.LineageReader
	placed  map[groupPartition]placed // changed only between the chunks of two syncs
	groups  map[string]int            // entries of placed by group
	failed  time.Time                 // when the lineage could not be read

	mu  sync.Mutex
	err error // why the journal could not be read in this sync: it is not read again for each position
}

// placed is where a flow has put a group in one partition, and the id of the topic.
type placed struct {
	offsets.PlacedOffset
	topicID [16]byte
}

// groupPartition identifies the committed offset of a group in one partition.
type groupPartition struct {
	group string
	offsets.TopicPartition
}

// newReverseFlows returns the reverse flows that matter: those that one side moves groups back with.
func newReverseFlows(d *Deps, rules *policy.Groups) ([]*reverseFlow, error) {
	var list []*reverseFlow
	for _, f := range d.Reverse {
		half := config.PairOf(d.Flow, []config.Flow{f}) != nil
		if len(d.Flow.GroupsBack) == 0 && len(f.GroupsBack) == 0 && !half {
			continue
		}
		topics, err := policy.NewTopics(f, f.Source, f.Target)
		if err != nil {
			return nil, fmt.Errorf("flow %s: %w", f.Name, err)
		}
		theirs, err := policy.NewGroups(f)
		if err != nil {
			return nil, fmt.Errorf("flow %s: %w", f.Name, err)
		}
		name := offsets.JournalTopic(f.Name)
		r := &reverseFlow{
			flow: f, topics: topics,
			journal: offsets.NewJournal(d.SourceClient, name, offsets.JournalOptions{Memory: reverseMemory, Log: d.Log}),
		}
		r.lineage = offsets.NewLineageReader(d.SourceClient, name, d.Log, r.forget, func(e offsets.Entry) {
			r.add(e, func(group string) bool { return half || rules.Back(group) || theirs.Back(group) })
		})
		list = append(list, r)
	}
	return list, nil
}

// reverseMemory bounds the memory for parts of the maps of a reverse flow, in bytes. Only groups on their way back need them.
const reverseMemory = 8 << 20

func (r *reverseFlow) forget() {
	r.placed, r.groups = make(map[groupPartition]placed), make(map[string]int)
}

// add takes an entry of the lineage, if it is about a group that may be moved back.
func (r *reverseFlow) add(e offsets.Entry, wanted func(group string) bool) {
	switch e := e.(type) {
	case *offsets.GroupPositions:
		if !wanted(e.Group) {
			return
		}
		for _, o := range e.Placed {
			key := groupPartition{e.Group, offsets.TopicPartition{Topic: e.Topic, Partition: o.Partition}}
			if _, ok := r.placed[key]; !ok {
				r.groups[e.Group]++
			}
			r.placed[key] = placed{o, e.TopicID}
		}
	case *offsets.Tombstone:
		for key := range r.placed {
			if e.Kind == offsets.KindGroup && key.group == e.Group && key.Topic == e.Topic {
				delete(r.placed, key)
				r.groups[key.group]--
			}
		}
	case *offsets.ShardState, *offsets.Owner, *offsets.PartitionState, *offsets.Chunk, *offsets.Lineage, *offsets.Horizon:
	}
}

// follow reads what the reverse flow has put since the last sync.
func (r *reverseFlow) follow(ctx context.Context) {
	if time.Since(r.failed) < followPause {
		return // with the error of that time
	}
	ctx, cancel := context.WithTimeout(ctx, followTimeout)
	defer cancel()
	err := r.lineage.Follow(ctx)
	var none *offsets.NoJournalError
	if errors.As(err, &none) { // the flow has never run
		r.forget()
		err = nil
	}
	if err != nil {
		r.failed = time.Now()
	}
	r.setErr(err)
}

// A journal that does not answer must not delay the groups that do not need it. What was read before a timeout is not read again.
const (
	followTimeout = 2 * time.Second
	followPause   = 10 * time.Second
)

func (r *reverseFlow) setErr(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

func (r *reverseFlow) getErr() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// find returns where the reverse flow has put a group in a topic with this id.
func (r *reverseFlow) find(group string, tp offsets.TopicPartition, id [16]byte) (placed, bool) {
	o, ok := r.placed[groupPartition{group, tp}]
	return o, ok && !offsets.IsAnotherTopic(o.topicID, id)
}

// hasPut reports whether the reverse flow has put a group anywhere.
func (r *reverseFlow) hasPut(group string) bool { return r.groups[group] > 0 }

// homeOf returns the topic on the target that a topic on the source was copied from, and the flow that copies it.
func (s *Syncer) homeOf(topic string) (*reverseFlow, string) {
	for _, r := range s.reverse {
		if home, ok := r.topics.Source(topic); ok {
			if _, reason := r.topics.Target(home); reason == "" {
				return r, home
			}
		}
	}
	return nil, ""
}

// translateBack translates a position in a topic that was copied from the target, if the group's line leads there: the reverse flow put the
// group on the source, and it has consumed there since. At home it may only be moved from where it stood at that time; see commit.go.
func (p *pass) translateBack(ctx context.Context, q *position) {
	r := q.reverse
	if err := r.getErr(); err != nil {
		q.refuse(policy.RefusedFailed, fmt.Sprintf("%s: %v", q.source, err))
		return
	}
	line, ok := r.find(q.group, q.source, p.now.source.ByName[q.source.Topic].ID)
	switch {
	case !ok && !r.hasPut(q.group):
		q.refuse(policy.RefusedNotPut, fmt.Sprintf("%s: flow %s has not put the group anywhere", q.source, r.flow.Name))
		return
	case !ok: // the group had no offset at home in this partition, and is moved there only if it still has none
	case line.Has(q.sourceOffset):
		q.idle = true // nobody has consumed there, so the group's offset at home counts, even if it was moved back there
		return
	default:
		q.handed = append(q.handed, line.Source)
	}
	state, err := r.journal.Lookup(ctx, q.source.Topic, q.source.Partition)
	switch {
	case err != nil:
		var unknown *offsets.NotReplicatedError
		if !errors.As(err, &unknown) {
			r.setErr(err)
		}
		q.refuse(policy.RefusedFailed, fmt.Sprintf("%s: %v", q.source, err))
		return
	case state.SourceClusterID != p.now.target.ClusterID, state.Topic != q.target.Topic,
		!p.now.target.Has(state.Topic, state.SourceTopicID), !p.now.source.Has(q.source.Topic, state.TargetTopicID):
		q.refuse(policy.RefusedRecreated, fmt.Sprintf("%s or %s was recreated: it is not the topic that the journal describes", q.source, q.target))
		return
	}
	t, err := r.journal.Reverse(ctx, state.Topic, state.Partition, q.sourceOffset)
	var late *offsets.NotCopiedError
	q.unfinished = errors.As(err, &late) // the journal is a moment behind, or what follows is not a copy
	t, err = t.UpToEnd(err)
	var early *offsets.BeforeStartError
	if errors.As(err, &early) {
		t.Source, err = p.bounds.continueAt(ctx, q.target, early)
	}
	if err == nil && q.unfinished && (t.Source < line.Source || q.placed && t.Source < q.put) {
		q.idle = true // the journal is behind: to the end that it has the group would go backwards
		return
	}
	q.translated(t.Source, err)
}

// vouch lets a position count as put by milena from which the reverse flow has taken the group back to its home, which is here the source: the
// line goes on from there. It counts once the reverse flow knows that its commit has succeeded.
func (p *pass) vouch(q *position) {
	for _, r := range p.reverse {
		home, ok := r.find(q.group, q.source, p.now.source.ByName[q.source.Topic].ID)
		if ok && r.getErr() == nil && home.Put == home.Before {
			q.handed = append(q.handed, home.Source)
		}
	}
}
