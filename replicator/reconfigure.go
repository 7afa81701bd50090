package replicator

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/policy"
)

// inPlace are the keys of a flow that no part keeps: who needs them reads the config in force. Any other key replaces the parts.
var inPlace = []string{"anomalies", "anomalies_by_topic", "merge", "start", "topics_interval", "configs_interval", "rpo", "rto"} //nolint:gochecknoglobals // a table

// changes are what a reload has left to the topic syncs.
type changes struct {
	mu      sync.Mutex
	leaving map[string]time.Time // source topics that are not selected any more and still have partitions, and since when
	retakes []*partition         // halted ones that policy decides about anew
}

// Prepare checks whether the flow can go on with other options. It changes nothing and does no I/O: apply does, at once and without an error. Only what a
// reload can change counts of the options: the live keys of the flow, the flows in the other direction, Buffer, ShutdownTimeout and PartitionSeries.
// The error names the first key that cannot change. Prepare and apply must not run concurrently with themselves; the flow may run, and need not.
//
// After apply, a topic that is not selected any more is not sent from again. What is in flight of it is awaited, its progress is journaled, and its
// partitions leave the flow; its copy stays. A topic that is selected anew is taken over as after a start. Halted partitions whose anomaly has another action now
// are taken over again, as after a restart.
func (f *Flow) Prepare(o Options) (apply func(), err error) {
	old := f.live()
	changed := config.FlowChanges(old.Flow, o.Flow)
	for _, key := range changed {
		if !config.IsLive(key) {
			return nil, fmt.Errorf("flow %s: %s cannot change while the flow runs", old.Name, key)
		}
	}
	next, err := newLive(withDefaults(o))
	if err != nil {
		return nil, err
	}
	kept := !slices.ContainsFunc(changed, func(key string) bool { return !slices.Contains(inPlace, key) })
	if kept && reflect.DeepEqual(old.reverse, next.reverse) {
		next.parts = old.parts
	} else if next.parts, err = f.newParts(next); err != nil {
		return nil, err
	}
	return func() {
		f.budget.setLimit(o.Buffer)
		if len(changed) == 0 && next.parts == old.parts { // nothing for the syncs to do
			next.replaced = old.replaced
			f.current.Store(next)
			return
		}
		f.replaceLive(old, next)
	}, nil
}

// replaceLive puts another config in force.
func (f *Flow) replaceLive(old, next *live) {
	f.noteSelectedAnew(old, next)
	f.current.Store(next)
	f.noteUnselected()
	f.noteDecidedAnew(old, next)
	close(old.replaced)
	if next.parts != old.parts {
		close(old.over)
	}
	f.topology.unsettle()
	f.syncTopicsSoon()
}

// noteSelectedAnew lets start: latest apply to topics that exist and that the flow did not select before, as after a restart.
func (f *Flow) noteSelectedAnew(old, next *live) {
	t := &f.topology
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.firstSync || next.Start != config.StartLatest || next.parts == old.parts {
		return
	}
	pairs, _ := next.topics.Select(t.source, t.target)
	for _, pair := range pairs {
		if _, reason := old.topics.Rules.Target(pair.Source.Name); reason != "" {
			t.existed[pair.Source.Name] = len(pair.Source.Partitions)
		}
	}
}

// noteUnselected ends what partitions send whose topic is not selected any more, and lets the topic syncs release them.
func (f *Flow) noteUnselected() {
	rules, t := f.live().topics.Rules, &f.topology
	t.mu.Lock()
	defer t.mu.Unlock()
	f.changes.mu.Lock()
	defer f.changes.mu.Unlock()
	for name, link := range t.links {
		if target, reason := rules.Target(name); reason == "" && target == link.target {
			continue
		}
		if f.changes.leaving == nil {
			f.changes.leaving = make(map[string]time.Time)
		}
		if _, ok := f.changes.leaving[name]; !ok {
			f.changes.leaving[name] = time.Now()
		}
	}
	for tp, p := range t.partitions {
		if _, ok := f.changes.leaving[tp.Topic]; ok {
			p.mu.Lock()
			p.closeLocked()
			p.mu.Unlock()
		}
	}
}

// noteDecidedAnew finds the halted partitions whose anomaly has another action now.
func (f *Flow) noteDecidedAnew(old, next *live) {
	var found []*partition
	for _, p := range f.partitions() {
		p.mu.Lock()
		if a, topic := p.anomaly, p.topic.source; p.state == halted && a != nil {
			if action := next.anomalies.Decide(topic, a.kind); action != policy.Halt && action != old.anomalies.Decide(topic, a.kind) {
				found = append(found, p)
			}
		}
		p.mu.Unlock()
	}
	f.changes.mu.Lock()
	defer f.changes.mu.Unlock()
	f.changes.retakes = append(f.changes.retakes, found...)
}

// carryOut does what a reload has left to the topic syncs, as far as it can be done now. It does not need the source.
func (f *Flow) carryOut() {
	f.changes.mu.Lock()
	leaving, retakes := maps.Clone(f.changes.leaving), f.changes.retakes
	f.changes.retakes = nil
	f.changes.mu.Unlock()
	var later []*partition
	for _, p := range retakes {
		if p.getState() == halted && f.partition(p.source()) == p && !f.retake(p) {
			later = append(later, p)
		}
	}
	left := f.releaseTopics(leaving)
	f.changes.mu.Lock()
	defer f.changes.mu.Unlock()
	f.changes.retakes = append(f.changes.retakes, later...)
	if left || len(later) > 0 {
		f.syncTopicsSoon()
	}
}

// releaseWithin is how long a topic that is not selected any more may wait for what is in flight and for the journal. Then it is released all the same: if it is
// selected again, its takeover reads from the copies what the journal does not say.
const releaseWithin = produceTimeout

// releaseTopics releases topics of which nothing is in flight and everything is journaled. It reports whether some are left.
func (f *Flow) releaseTopics(leaving map[string]time.Time) (left bool) {
	if len(leaving) == 0 {
		return false
	}
	ready := maps.Clone(leaving)
	shards := make(map[*shard][]string) // topics by the shards of their partitions
	for _, p := range f.partitions() {
		name := p.topic.source
		since, ok := leaving[name]
		switch {
		case !ok || time.Since(since) > releaseWithin:
		case p.isInFlight():
			delete(ready, name)
		default:
			shards[p.shard] = append(shards[p.shard], name)
		}
	}
	for s, names := range shards {
		if !f.journalNow(s) {
			for _, name := range names {
				delete(ready, name)
			}
		}
	}
	t := &f.topology
	t.mu.Lock()
	defer t.mu.Unlock()
	f.changes.mu.Lock()
	defer f.changes.mu.Unlock()
	for name := range ready {
		if link := t.links[name]; link != nil {
			f.log.Info("topic is not selected any more; its copy stays", "topic", name, "target_topic", link.target)
		}
		f.retire(name)
		delete(f.changes.leaving, name)
	}
	t.settled = settledViews{}
	return len(f.changes.leaving) > 0
}

// retake lets a partition be taken over again from the journal, as after a restart. Its takeover finds what is behind the journal. It does nothing and returns
// false while the shard is being fenced.
func (f *Flow) retake(p *partition) bool {
	if !f.journalNow(p.shard) {
		return false
	}
	t := &f.topology
	t.mu.Lock()
	if tp := p.source(); t.partitions[tp] == p {
		t.drop(tp)
	}
	t.settled = settledViews{}
	t.mu.Unlock()
	p.shard.remove(p)
	f.syncTopicsSoon()
	return true
}

// partsLoop runs the syncs of groups and ACLs and writes heartbeats until ctx ends. A reload that replaces them ends them first.
func (f *Flow) partsLoop(ctx context.Context) {
	for ctx.Err() == nil {
		l := f.live()
		during, end := context.WithCancel(ctx)
		var all sync.WaitGroup
		if l.GroupsInterval > 0 && f.writers.canTranslateGroups() {
			all.Go(func() { l.groups.Run(during) })
		}
		if l.ACLs {
			all.Go(func() { f.aclsLoop(during, l) })
		}
		all.Go(func() { l.heartbeats.Run(during) })
		select {
		case <-ctx.Done():
		case <-l.over:
		}
		end()
		all.Wait()
	}
}
