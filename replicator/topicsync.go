package replicator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/topics"
)

// topicsLoop syncs topics every TopicsInterval, and early after a leader moved or a topic changed.
func (f *Flow) topicsLoop(ctx context.Context) {
	every := f.live().TopicsInterval
	tick := time.NewTicker(every)
	defer tick.Stop()
	for early := 0; ; {
		if now := f.live().TopicsInterval; now != every { // a reload requests an early sync
			every = now
			tick.Reset(every)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			early = 0
		case <-f.topology.early: // perhaps requested by many partitions, for a reason that may last: each early sync waits longer
			if client.Sleep(ctx, min(refreshEvery<<min(early, 8), every)) != nil {
				return
			}
			early++
		}
		began := time.Now()
		traced, end := f.span(ctx, "sync topics")
		err := f.syncTopics(traced)
		end(err)
		f.noteSync(err)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			f.metrics.syncs.WithLabelValues("topics", "done").Inc()
			f.synced.set("topics", began)
		case isFatal(err):
			f.fail(err)
			return
		default:
			f.metrics.syncs.WithLabelValues("topics", "failed").Inc()
			f.warn("topic sync failed, retrying", "err", err)
		}
	}
}

// syncTopics reads the metadata of both clusters, creates missing topics and partitions on the target, adds new partitions to the flow,
// retires deleted topics, and follows moved leaders. If the metadata has not changed since a sync that left nothing to do, nothing is to be done.
func (f *Flow) syncTopics(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	f.carryOut()
	source, target, err := f.readTopics(ctx)
	if err != nil {
		return err
	}
	if f.topology.isSettled(source, target) {
		f.takeOverFenceable() // that also depends on time
		return nil
	}
	f.retireGone(source)
	made, err := f.createMissing(ctx, source, target) // without the lock: a controller that hangs delays nobody who gets shards
	if err != nil {
		return err
	}
	f.topology.syncing.Lock()
	defer f.topology.syncing.Unlock()
	f.topology.made = made
	return f.addMissing(ctx, source, made.after)
}

// addHeld adds the partitions of shards that this process has just got, by the metadata that it has.
func (f *Flow) addHeld(ctx context.Context) error {
	if f.topology.isFirstSync() {
		f.syncTopicsSoon()
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	f.topology.syncing.Lock()
	defer f.topology.syncing.Unlock()
	return f.addMissing(ctx, f.sourceView(), f.targetView())
}

// addMissing adds what both clusters have and the flow does not, and keeps what is missing, and why.
func (f *Flow) addMissing(ctx context.Context, source, target topics.View) (err error) {
	f.topology.unsettle()
	w, l := newWaits(), f.live()
	pairs, refusals := f.selectTopics(source, target)
	defer func() {
		if f.live() != l { // a reload has looked for what is not selected any more before this was added
			f.noteUnselected()
		}
		f.noteUnbegun(source, pairs, refusals, w)
		f.setNotCopied(w)
		l.unused.Look(slices.Collect(maps.Keys(source.ByName)))
		if err == nil {
			f.topology.endFirstSync(pairs)
		}
		if err == nil && len(w.topics) == 0 {
			f.topology.settle(source, target, func() bool { return f.live() == l })
		}
	}()
	for _, r := range refusals {
		w.topics[r.Topic] = wait{reason: WaitNotAllowed, detail: r.Reason, final: true}
		f.warn("topic is not copied", "topic", r.Topic, "reason", r.Reason)
	}
	for _, pair := range pairs {
		if err := f.topology.made.errs[pair.TargetName]; err != nil {
			w.addTopic(pair.Source.Name, WaitTargetRefused, err)
		}
	}
	f.topology.setSource(source)
	f.topology.setTarget(target)
	f.addNewTopics(ctx, pairs, w)
	f.followLeaders()
	return nil
}

// creation is what a topic sync has created on the target.
type creation struct {
	before, after topics.View
	errs          map[string]error // by remote topic
}

// createMissing creates what the target lacks, and waits until its metadata show it. Of several instances, the one that holds shard 0 does; the
// others see it soon.
func (f *Flow) createMissing(ctx context.Context, source, target topics.View) (made creation, err error) {
	made.before, made.after = target, target
	pairs, _ := f.selectTopics(source, target)
	if f.isStopped() {
		return made, nil
	}
	if !f.isDoer() {
		if slices.ContainsFunc(pairs, func(p topics.Pair) bool { return len(p.Target.Partitions) < len(p.Source.Partitions) }) {
			f.syncTopicsSoon()
		}
		return made, nil
	}
	created, grown, errs := f.live().topics.CreateMissing(ctx, pairs)
	for _, name := range slices.Sorted(maps.Keys(errs)) {
		f.warn("target topic not created, retrying", "topic", name, "err", errs[name])
	}
	made.errs = errs
	if len(created)+len(grown) > 0 {
		made.after, err = f.awaitTopics(ctx, append(created, grown...))
	}
	return made, err
}

// isDoer reports whether this process creates and configures topics: it holds shard 0, and may still be taking it over.
func (f *Flow) isDoer() bool { return f.held.get(0) != nil }

// selectTopics returns the topics to copy. If the flow does not look for new ones, they are the topics and partitions of its first sync.
func (f *Flow) selectTopics(source, target topics.View) (pairs []topics.Pair, refused []topics.Refusal) {
	l := f.live()
	pairs, refused = l.topics.Select(source, target)
	if !l.TopicsRefresh {
		pairs, refused = l.start.limit(pairs, refused)
	}
	return pairs, refused
}

// leadersWithin is how long a topic sync waits for the leaders of new topics. A topic that has none by then waits for the next sync.
const leadersWithin = 5 * time.Second

// awaitTopics waits until new topics have leaders in the target's metadata. It polls less and less often, because brokers that create a
// thousand logs are busy, and their metadata responses are large.
func (f *Flow) awaitTopics(ctx context.Context, names []string) (topics.View, error) {
	began := time.Now()
	for pause := 20 * time.Millisecond; ; pause = min(pause*5/4, 2*refreshEvery) {
		view, err := f.topology.targetReader.Read(ctx, f.target)
		if err != nil {
			return view, f.options.TargetError(err)
		}
		missing := 0
		for _, name := range names {
			if view.Leader(offsets.TopicPartition{Topic: name}) < 0 {
				missing++
			}
		}
		if missing == 0 || time.Since(began) > leadersWithin {
			return view, nil
		}
		if err := client.Sleep(ctx, pause); err != nil {
			return view, err
		}
	}
}

// addNewTopics adds new partitions to the flow, and requests takeovers of their shards. What cannot be added is in the waits.
func (f *Flow) addNewTopics(ctx context.Context, pairs []topics.Pair, w *waits) {
	fresh := f.pairsToAdd(pairs)
	if len(fresh) == 0 {
		return
	}
	limits, errs := f.limitsOf(ctx, fresh)
	for _, pair := range fresh {
		err := errs[pair.TargetName]
		switch {
		case err == nil:
		case errors.Is(err, kerr.UnknownTopicOrPartition):
			f.syncTopicsSoon() // just created, and not every broker knows it yet
		default:
			w.addTopic(pair.Source.Name, WaitTargetRefused, err)
			f.warn("topic configs not synced", "topic", pair.TargetName, "err", err)
		}
	}
	bounds := topics.ListBounds(ctx, f.source, f.target, fresh, f.isMissing)
	touched := make(map[*shard]bool)
	for _, pair := range fresh {
		l, known := limits[pair.TargetName]
		if !known {
			continue // batches cannot be checked without the limits of the topic; the next sync tries again
		}
		for _, p := range f.addTopic(pair, l, bounds, w) {
			touched[p.shard] = true
		}
	}
	for s := range touched {
		f.requestTakeover(s)
	}
	if len(touched) > 0 {
		f.live().acls.SyncSoon()
	}
}

// limitsOf returns the limits of the target topics. Those of topics that are in the flow are known.
func (f *Flow) limitsOf(ctx context.Context, pairs []topics.Pair) (limits map[string]topics.Limits, errs map[string]error) {
	t := &f.topology
	t.mu.Lock()
	known := make(map[string]topics.Limits)
	for _, pair := range pairs {
		if link := t.links[pair.Source.Name]; link != nil && !link.getIDs().isAnother(idsOf(pair)) {
			known[pair.TargetName] = link.getLimits()
		}
	}
	t.mu.Unlock()
	pairs = slices.DeleteFunc(slices.Clone(pairs), func(pair topics.Pair) bool { _, ok := known[pair.TargetName]; return ok })
	if len(pairs) == 0 {
		return known, nil
	}
	limits, errs = f.live().topics.SyncConfigs(ctx, pairs)
	maps.Copy(limits, known)
	return limits, errs
}

// isMissing reports whether a partition of the source belongs to a shard of this process and is not in the flow.
func (f *Flow) isMissing(source offsets.TopicPartition) bool {
	return !f.elsewhere(source) && f.partition(source) == nil
}

func idsOf(pair topics.Pair) topicIDs { return topicIDs{pair.Source.ID, pair.Target.ID} }

// pairsToAdd returns the pairs with partitions that are not in the flow yet, or with a topic that was recreated.
func (f *Flow) pairsToAdd(pairs []topics.Pair) []topics.Pair {
	t := &f.topology
	t.mu.Lock()
	defer t.mu.Unlock()
	var fresh []topics.Pair
	for _, pair := range pairs {
		if pair.Target.Name == "" {
			continue
		}
		link := t.links[pair.Source.Name]
		changed := link != nil && link.getIDs().isAnother(idsOf(pair))
		count := min(len(pair.Source.Partitions), len(pair.Target.Partitions))
		missing := false
		for n := range count {
			tp := offsets.TopicPartition{Topic: pair.Source.Name, Partition: int32(n)}
			missing = missing || t.partitions[tp] == nil && !f.elsewhere(tp)
		}
		if changed || missing {
			fresh = append(fresh, pair)
		}
	}
	return fresh
}

// addTopic adds the partitions of a topic that are not in the flow yet, and returns them. A topic with another id is another topic: its old
// partitions are retired, and when the new ones are restored from the journal, that raises the anomaly.
func (f *Flow) addTopic(pair topics.Pair, limits topics.Limits, bounds topics.Bounds, w *waits) []*partition {
	t := &f.topology
	t.mu.Lock()
	defer t.mu.Unlock()
	name := pair.Source.Name
	link := t.links[name]
	known := link != nil
	if link != nil && link.getIDs().isAnother(idsOf(pair)) {
		f.retire(name)
		link, known = nil, false
	}
	if link == nil {
		link = &topicLink{source: name, target: pair.TargetName, ids: idsOf(pair), metrics: f.metrics.forTopic(name, &f.totals)}
		link.throttle.set(f.controls.rateOf(name))
		t.links[name] = link
		f.lookForShrunk(name, int32(len(pair.Source.Partitions)))
	}
	link.setLimits(limits)
	before := len(t.made.before.ByName[pair.TargetName].Partitions)
	var begun []*partition
	for n := range min(len(pair.Source.Partitions), len(pair.Target.Partitions)) {
		tp := offsets.TopicPartition{Topic: name, Partition: int32(n)}
		s := f.held.get(f.shardOf(tp)) // under the topology's lock: who gives it up removes its partitions later
		if t.partitions[tp] != nil || s == nil {
			continue
		}
		source, target, err := bounds.Of(pair, int32(n))
		if err != nil {
			view := t.source
			if err.Side == offsets.Target {
				view = t.target
			}
			f.addUnlisted(w, tp, view, err)
			f.syncTopicsSoon() // it may only have no leader yet
			continue
		}
		start := source.Start
		if f.live().Start == config.StartLatest && t.isOld(tp, known) && (before == 0 || n < before) {
			start = source.End // topics and partitions that are created later are copied from their beginning, as all their records are new
		}
		p := newPartition(link, int32(n), s, listed{sourceStart: start, sourceLast: source.End, targetFirst: target.Start, targetLast: target.End})
		p.pause = f.pauseOf(p) // under the topology's lock: later decisions find it there
		t.put(p)
		s.add(p)
		begun = append(begun, p)
	}
	if !known && len(begun) > 0 {
		f.log.Info("copying topic", "topic", name, "target_topic", pair.TargetName, "partitions", len(begun))
	}
	return begun
}

// lookForShrunk lets the journals of shards be read again that have partitions of a topic from a number on, which the source does not have.
func (f *Flow) lookForShrunk(topic string, from int32) {
	for _, s := range f.held.all() {
		if s.ownership.isOwned() && s.rereadShrunk(topic, from) {
			s.renew()
		}
	}
}

// raiseShrunk raises the anomaly of partitions that the journal has and the source no longer has, because a topic was recreated with fewer
// partitions. The shard's lock is held.
func (f *Flow) raiseShrunk(s *shard, loaded map[offsets.TopicPartition]*offsets.Restored) {
	s.noteReread()
	t := &f.topology
	t.mu.Lock()
	defer t.mu.Unlock()
	for tp, l := range loaded {
		link, info := t.links[tp.Topic], t.source.ByName[tp.Topic]
		if len(info.Partitions) == 0 {
			continue // the topic was deleted in the meantime, or is only being created: no topic has 0 partitions
		}
		if l.State == nil || link == nil || t.partitions[tp] != nil || int(tp.Partition) < len(info.Partitions) {
			continue
		}
		p := newGonePartition(link, s, l.State)
		p.pause = f.pauseOf(p) // as of any other partition: the answer to a stop waits for it
		t.put(p)
		p.mu.Lock()
		detail := fmt.Sprintf("source topic %s has %d partitions now; partition %d was copied up to offset %d", tp.Topic, len(info.Partitions), tp.Partition, p.acked)
		if f.raiseLocked(p, policy.Shrunk, p.acked, p.acked, detail) == policy.Skip {
			t.drop(tp)
		}
		p.mu.Unlock()
	}
}

// goneAfter is how many topic syncs in a row must not find a source topic before it counts as deleted.
const goneAfter = 3

// retireGone removes topics from the flow that were deleted on the source. Their copies and their journal stay.
func (f *Flow) retireGone(source topics.View) {
	t := &f.topology
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, link := range t.links {
		if _, ok := source.ByName[name]; ok {
			link.missed = 0
			continue
		}
		if link.missed++; link.missed == goneAfter {
			f.log.Warn("source topic was deleted; its copy stays", "topic", name, "target_topic", link.target)
			f.retire(name)
		}
	}
}

// retire removes the partitions of a topic that no longer exists under its id. The topology's lock is held.
func (f *Flow) retire(name string) {
	t := &f.topology
	for tp, p := range t.partitions {
		if tp.Topic == name {
			t.drop(tp)
			p.shard.remove(p)
		}
	}
	delete(t.links, name)
	delete(t.existed, name)
}
