package replicator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
)

// wayBack translates positions in topics that came from this flow's target, back to the topics that they are copies of. The map for it is
// the journal of the flow in the other direction, which is on this flow's source: a group that failed over and moved on there finds the
// right place when it returns.
type wayBack struct {
	flow     *Flow
	client   *offsets.Client
	journals map[string]*offsets.Journal // by topic, on the source
	homes    map[string]home             // by copied topic
	failed   map[*offsets.Journal]error  // in this pass: a journal that does not answer is asked once
	put      map[groupPartition]int64    // where the other flow has put groups, by the copy's name
}

// home is what is known of where a topic came from.
type home struct {
	journal *offsets.Journal // nil: not from the target
	looked  time.Time
}

// lookAgain is how long a topic is believed not to come from the target: a reverse flow may be started later.
const lookAgain = 30 * time.Second

// translateAll finds the places in the original topics, and leaves out the positions that have none.
func (w *wayBack) translateAll(ctx context.Context, now views, positions []*groupPosition) []*groupPosition {
	if len(positions) == 0 {
		return nil
	}
	w.failed = make(map[*offsets.Journal]error)
	positions = slices.DeleteFunc(positions, func(p *groupPosition) bool { return !w.translate(ctx, now, p) })
	return w.withoutOurs(ctx, positions)
}

// translate finds the place in the original topic; it answers false where there is none.
func (w *wayBack) translate(ctx context.Context, now views, p *groupPosition) bool {
	fail := func(err error) bool {
		p.target = p.source // as far as it is known
		p.refuse(policy.RefusedFailed, fmt.Sprintf("%s: %v", p.source, err))
		return true
	}
	journal, err := w.find(ctx, p.source)
	if err != nil {
		return fail(err)
	}
	if journal == nil {
		return false
	}
	state, err := journal.Lookup(ctx, p.source.Topic, p.source.Partition)
	var unknown *offsets.NotReplicatedError
	if errors.As(err, &unknown) {
		return false
	}
	if err != nil {
		w.failed[journal] = err
		return fail(err)
	}
	p.target = offsets.TopicPartition{Topic: state.Topic, Partition: state.Partition}
	if now.target.ByName[state.Topic].ID != state.SourceTopicID || now.source.ByName[p.source.Topic].ID != state.TargetTopicID {
		p.refuse(policy.RefusedRecreated, fmt.Sprintf("%s or %s is not the topic that the journal is about", p.source, p.target))
		return true
	}
	translation, err := journal.Reverse(ctx, state.Topic, state.Partition, p.from)
	p.to = translation.Source
	var late *offsets.NotCopiedError
	if errors.As(err, &late) { // the journal is a moment behind, or what follows is not a copy: never past what is known
		p.to, err = state.End.Source, nil
	}
	p.settle(err)
	return true
}

// withoutOurs leaves out positions where the other flow has put the group itself: nobody has consumed there, so that the group's place is
// the one at home, even if somebody has moved it back there.
func (w *wayBack) withoutOurs(ctx context.Context, positions []*groupPosition) []*groupPosition {
	if len(positions) == 0 {
		return nil
	}
	f := w.flow
	fail := func(err error) []*groupPosition {
		for _, p := range positions {
			p.refuse(policy.RefusedFailed, fmt.Sprintf("%s: the checkpoints of %s are not readable: %v", p.source, f.targetAlias, err))
		}
		return positions
	}
	if w.client == nil {
		client, err := offsets.Open(ctx, offsets.Options{Client: f.source, Names: f.options.InternalTopics(), MaxAge: time.Nanosecond, Log: f.log})
		if err != nil {
			return fail(err)
		}
		w.client = client
	}
	checkpoints, err := w.client.Checkpoints(ctx, f.targetAlias)
	var none *offsets.NoCheckpointsError
	if errors.As(err, &none) {
		return positions
	}
	if err != nil {
		return fail(err)
	}
	newest := make(map[groupPartition]int64, len(checkpoints))
	for _, c := range checkpoints {
		newest[groupPartition{c.Group, offsets.TopicPartition{Topic: c.Topic, Partition: c.Partition}}] = c.Target
	}
	put := make(map[groupPartition]int64)
	positions = slices.DeleteFunc(positions, func(p *groupPosition) bool {
		key := groupPartition{p.group, p.source}
		now, known := newest[key]
		before, remembered := w.put[key] // a checkpoint may say something else by now: the group was moved back at home
		if known && now == p.from || remembered && before == p.from {
			put[key] = p.from
			return true
		}
		return false
	})
	w.put = put
	return positions
}

// find is the journal that describes a topic as a copy from the target cluster, nil if there is none. An error means that one of the
// journals could not be asked, so that nothing is known.
func (w *wayBack) find(ctx context.Context, tp offsets.TopicPartition) (*offsets.Journal, error) {
	if h, ok := w.homes[tp.Topic]; ok && (h.journal != nil || time.Since(h.looked) < lookAgain) {
		return h.journal, w.failed[h.journal]
	}
	if w.homes == nil {
		w.homes, w.journals = make(map[string]home), make(map[string]*offsets.Journal)
	}
	f := w.flow
	h := home{looked: time.Now()}
	var failed error
	for _, name := range slices.Sorted(maps.Keys(f.sourceView().ByName)) {
		if _, ok := offsets.FlowOf(name); !ok {
			continue
		}
		journal := w.journals[name]
		if journal == nil {
			journal = offsets.NewJournal(f.source, name, offsets.JournalOptions{Memory: journalMemory, Log: f.log})
			w.journals[name] = journal
		}
		if err := w.failed[journal]; err != nil {
			failed = err
			continue
		}
		state, err := journal.Lookup(ctx, tp.Topic, tp.Partition)
		var unknown *offsets.NotReplicatedError
		switch {
		case err == nil && state.SourceClusterID == f.targetID():
			h.journal = journal
			w.homes[tp.Topic] = h
			return journal, nil
		case err != nil && !errors.As(err, &unknown):
			w.failed[journal], failed = err, err
		}
	}
	if failed == nil {
		w.homes[tp.Topic] = h
	}
	return nil, failed
}
