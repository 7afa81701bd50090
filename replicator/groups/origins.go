package groups

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/milena-kafka/milena/offsets"
)

// origins finds out which topics of the source were copied from the target, and by which journal.
type origins struct {
	deps     *Deps
	journals map[string]*offsets.Journal // by their topic, on the source
	byTopic  map[string]origin
	failed   map[*offsets.Journal]error // in this sync: a journal that does not answer is read once per sync
}

// origin is what is known of a topic.
type origin struct {
	journal *offsets.Journal // that describes it as a copy from the target, nil if none does
	checked time.Time
}

// recheckAfter is how long a topic counts as not copied from the target, because a reverse flow may be started later.
const recheckAfter = 30 * time.Second

func newOrigins(d *Deps) *origins {
	return &origins{deps: d, journals: make(map[string]*offsets.Journal), byTopic: make(map[string]origin)}
}

// begin begins a sync: journals that did not answer are read again.
func (o *origins) begin() { o.failed = make(map[*offsets.Journal]error) }

// find returns the journal that describes a source partition as a copy from the target, and its state there. The journal is nil if there is
// none. An error means that a journal could not be read, so that nothing is known.
func (o *origins) find(ctx context.Context, now views, tp offsets.TopicPartition) (*offsets.Journal, *offsets.PartitionState, error) {
	journal, err := o.journalOf(ctx, now, tp)
	if journal == nil || err != nil {
		return nil, nil, err
	}
	state, err := journal.Lookup(ctx, tp.Topic, tp.Partition)
	switch {
	case isUnknown(err):
		return nil, nil, nil
	case err != nil:
		o.failed[journal] = err
		return nil, nil, err
	}
	return journal, state, nil
}

func (o *origins) journalOf(ctx context.Context, now views, tp offsets.TopicPartition) (*offsets.Journal, error) {
	if known, ok := o.byTopic[tp.Topic]; ok && (known.journal != nil || time.Since(known.checked) < recheckAfter) {
		return known.journal, o.failed[known.journal]
	}
	found := origin{checked: time.Now()}
	var failed error
	for _, journal := range o.journalsOn(now) {
		if err := o.failed[journal]; err != nil {
			failed = err
			continue
		}
		state, err := journal.Lookup(ctx, tp.Topic, tp.Partition)
		switch {
		case err == nil && state.SourceClusterID == now.target.ClusterID:
			found.journal = journal
			o.byTopic[tp.Topic] = found
			return journal, nil
		case err != nil && !isUnknown(err):
			o.failed[journal], failed = err, err
		}
	}
	if failed == nil {
		o.byTopic[tp.Topic] = found
	}
	return nil, failed
}

// journalsOn returns the journals on the source, sorted by their topics' names.
func (o *origins) journalsOn(now views) []*offsets.Journal {
	var list []*offsets.Journal
	for _, name := range slices.Sorted(maps.Keys(now.source.ByName)) {
		if _, ok := offsets.FlowOf(name); !ok {
			continue
		}
		if o.journals[name] == nil {
			o.journals[name] = offsets.NewJournal(o.deps.SourceClient, name, offsets.JournalOptions{Memory: journalMemory, Log: o.deps.Log})
		}
		list = append(list, o.journals[name])
	}
	return list
}

// isUnknown reports whether a journal answered that it does not describe a partition.
func isUnknown(err error) bool {
	var unknown *offsets.NotReplicatedError
	return errors.As(err, &unknown)
}
