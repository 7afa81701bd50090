package replicator

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/topics"
)

// aclsLoop syncs ACLs every ACLsInterval, and early after a topic was added, so that its readers need not wait for the interval.
func (f *Flow) aclsLoop(ctx context.Context, l *live) {
	soon := min(time.Second, l.ACLsInterval)
	unlisted := make(map[string]time.Time)
	for wait := soon; ; {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-l.acls.Requested():
			timer.Stop()
		case <-timer.C:
		}
		if wait = soon; !f.leads() || f.isStopped() {
			clear(unlisted)
			continue
		}
		clashes, known := f.nameClashes(ctx, l, unlisted)
		if !known {
			continue
		}
		wait = l.ACLsInterval
		began := time.Now()
		traced, end := f.span(ctx, "sync ACLs")
		err := l.acls.Sync(traced, clashes, func() bool { return f.leads() && !f.isStopped() })
		end(err)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			f.metrics.syncs.WithLabelValues("acls", "failed").Inc()
		default:
			f.metrics.syncs.WithLabelValues("acls", "done").Inc()
			f.synced.set("acls", began)
		}
	}
}

// nameClashes returns the source topics whose target name belongs to an unrelated topic. With prefix naming there are none, because every
// topic with the source's alias as its prefix belongs to the flow. With other naming they are known only when all shards are recovered. Of
// partitions that are elsewhere the journal tells; unlisted keeps since when it does not list some of a topic.
func (f *Flow) nameClashes(ctx context.Context, l *live, unlisted map[string]time.Time) (clashes map[string]bool, known bool) {
	if f.config.Naming == config.NamingPrefix {
		return nil, true
	}
	known = len(f.NotReady()) == 0 // before the anomalies are read: they are complete only once the flow is ready
	pairs, _ := l.topics.Select(f.sourceView(), f.targetView())
	clashes, err := unlistedTopics(ctx, l.groups.Journal().Reading(), pairs, f.elsewhere)
	if err != nil {
		f.warn("ACLs wait for the journal, retrying", "err", err)
		return nil, false
	}
	known = areSettled(clashes, unlisted, time.Now()) && known
	for _, p := range f.partitions() {
		if p.hasAnomaly(policy.TargetNotEmpty) {
			clashes[p.topic.source] = true
		}
	}
	return clashes, known
}

// journalReadTimeout is how long a sync of ACLs waits for the journal.
const journalReadTimeout = 10 * time.Second

// unlistedTopics returns the source topics with a partition that is elsewhere and has a partition of that name on the target, but none in the
// journal. A partition that the journal lists is begun by the flow, so its target is the flow's. Any other may be one that its instance found not
// to be empty.
func unlistedTopics(ctx context.Context, r *offsets.Reading, pairs []topics.Pair, elsewhere func(offsets.TopicPartition) bool) (map[string]bool, error) {
	targets := make(map[offsets.TopicPartition]string)
	for _, pair := range pairs {
		for n := range min(len(pair.Source.Partitions), len(pair.Target.Partitions)) {
			if tp := (offsets.TopicPartition{Topic: pair.Source.Name, Partition: int32(n)}); elsewhere(tp) {
				targets[tp] = pair.TargetName
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, journalReadTimeout)
	defer cancel()
	r.Prepare(ctx, slices.Collect(maps.Keys(targets)))
	found := make(map[string]bool)
	for tp, target := range targets {
		state, err := r.State(ctx, tp)
		var unknown *offsets.NotReplicatedError
		switch {
		case errors.As(err, &unknown), err == nil && state.TargetTopic != target:
			found[tp.Topic] = true
		case err != nil:
			return nil, err
		}
	}
	return found, nil
}

// areSettled reports whether no topic has been unlisted for a moment only, as a new one. That one is soon listed, and to take it for a name clash
// until then would change bindings of prefixes back and forth. It keeps since when they are.
func areSettled(unlisted map[string]bool, since map[string]time.Time, now time.Time) bool {
	maps.DeleteFunc(since, func(topic string, _ time.Time) bool { return !unlisted[topic] })
	settled := true
	for topic := range unlisted {
		if _, ok := since[topic]; !ok {
			since[topic] = now
		}
		settled = settled && now.Sub(since[topic]) >= settleBegin
	}
	return settled
}
