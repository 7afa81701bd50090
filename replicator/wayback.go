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
	journals map[string]*offsets.Journal // by topic, on the source
	homes    map[string]home             // by copied topic
}

// home is what is known of where a topic came from.
type home struct {
	journal *offsets.Journal // nil: not from the target
	looked  time.Time
}

// lookAgain is how long a topic is believed not to come from the target: a reverse flow may be started later.
const lookAgain = 30 * time.Second

// translate finds the place in the original topic; it answers false where there is none.
func (w *wayBack) translate(ctx context.Context, p *groupPosition) bool {
	journal := w.find(ctx, p.source)
	if journal == nil {
		return false
	}
	state, err := journal.Lookup(ctx, p.source.topic, p.source.partition)
	if err != nil {
		var unknown *offsets.NotReplicatedError
		if errors.As(err, &unknown) {
			return false
		}
		p.target = topicPartition{p.source.topic, p.source.partition}
		p.refuse(policy.RefusedFailed, fmt.Sprintf("%s: %v", p.source, err))
		return true
	}
	p.target = topicPartition{state.Topic, state.Partition}
	translation, err := journal.Reverse(ctx, state.Topic, state.Partition, p.from)
	p.to, p.exact = translation.Source, translation.Exact
	var late *offsets.NotCopiedError
	if errors.As(err, &late) { // the journal is a moment behind, or what follows is not a copy: never past what is known
		p.to, p.exact, err = state.End.Source, false, nil
	}
	p.settle(err)
	return true
}

// find is the journal that describes a topic as a copy from the target cluster, nil if there is none.
func (w *wayBack) find(ctx context.Context, tp topicPartition) *offsets.Journal {
	if h, ok := w.homes[tp.topic]; ok && (h.journal != nil || time.Since(h.looked) < lookAgain) {
		return h.journal
	}
	if w.homes == nil {
		w.homes, w.journals = make(map[string]home), make(map[string]*offsets.Journal)
	}
	f := w.flow
	h := home{looked: time.Now()}
	for _, name := range slices.Sorted(maps.Keys(f.sourceView().ByName)) {
		if _, ok := offsets.FlowOf(name); !ok {
			continue
		}
		journal := w.journals[name]
		if journal == nil {
			journal = offsets.NewJournal(f.source, name, offsets.JournalOptions{Memory: journalMemory, Log: f.log})
			w.journals[name] = journal
		}
		state, err := journal.Lookup(ctx, tp.topic, tp.partition)
		if err == nil && state.SourceClusterID == f.targetID() {
			h.journal = journal
		}
	}
	w.homes[tp.topic] = h
	return h.journal
}
