package replicator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/topics"
)

// topicsLoop looks for new topics and partitions, and early when a leader moved or a topic changed.
func (f *Flow) topicsLoop(ctx context.Context) {
	tick := time.NewTicker(f.config.TopicsInterval)
	defer tick.Stop()
	for early := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			early = 0
		case <-f.topology.early: // by many partitions perhaps, and for a reason that may last: each early pass waits longer
			if client.Sleep(ctx, min(refreshEvery<<min(early, 8), f.config.TopicsInterval)) != nil {
				return
			}
			early++
		}
		err := f.syncTopics(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			f.metrics.passes.WithLabelValues("topics", "done").Inc()
		case isFatal(err):
			f.fail(err)
			return
		default:
			f.metrics.passes.WithLabelValues("topics", "failed").Inc()
			f.warn("look at topics failed; it is tried again", "err", err)
		}
	}
}

// syncTopics is one pass: read both clusters, create what is missing on the target, begin what is new, follow leaders.
func (f *Flow) syncTopics(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	source, err := topics.Read(ctx, f.source)
	if err != nil {
		return f.options.SourceError(err)
	}
	target, err := topics.Read(ctx, f.target)
	if err != nil {
		return f.options.TargetError(err)
	}
	notCopied := make(map[string]string)
	defer func() { f.notCopied.Store(&notCopied) }()
	pairs, refusals := f.topics.Select(source, target)
	for _, r := range refusals {
		notCopied[r.Topic] = r.Reason
		f.warn("topic is not copied", "topic", r.Topic, "reason", r.Reason)
	}
	before := make(map[string]int) // partitions of the copies that were there already
	for _, pair := range pairs {
		before[pair.TargetName] = len(pair.Target.Partitions)
	}
	created, grown, errs := f.topics.CreateMissing(ctx, pairs)
	for topic, err := range errs {
		notCopied[topic] = err.Error()
		f.warn("create target topic", "topic", topic, "err", err)
	}
	if len(created)+len(grown) > 0 {
		if target, err = f.awaitTopics(ctx, append(created, grown...)); err != nil {
			return err
		}
		pairs, _ = f.topics.Select(source, target)
	}
	f.topology.setSource(source)
	f.topology.setTarget(target)
	err = f.beginNew(ctx, pairs, before, notCopied)
	if err == nil {
		f.topology.endFirstSync()
	}
	f.retireGone(source)
	f.follow()
	return err
}

// awaitTopics waits until the target's metadata shows the topics that were just created, with their leaders. It asks less and
// less often: brokers that make a thousand logs have enough to do, and their answers are large.
func (f *Flow) awaitTopics(ctx context.Context, names []string) (topics.View, error) {
	for pause := 20 * time.Millisecond; ; pause = min(pause*5/4, 2*refreshEvery) {
		view, err := topics.Read(ctx, f.target)
		if err != nil {
			return view, f.options.TargetError(err)
		}
		missing := 0
		for _, name := range names {
			if view.Leader(offsets.TopicPartition{Topic: name}) < 0 {
				missing++
			}
		}
		if missing == 0 {
			return view, nil
		}
		if err := client.Sleep(ctx, pause); err != nil {
			return view, err
		}
	}
}

// beginNew makes partitions of what is new among the pairs and hands them to their shards.
func (f *Flow) beginNew(ctx context.Context, pairs []topics.Pair, before map[string]int, notCopied map[string]string) error {
	fresh := f.newPairs(pairs)
	if len(fresh) == 0 {
		return nil
	}
	limits, errs := f.topics.SyncConfigs(ctx, fresh)
	for topic, err := range errs {
		if errors.Is(err, kerr.UnknownTopicOrPartition) {
			f.refreshTargetSoon() // just created: not every broker has heard of it
			continue
		}
		notCopied[topic] = err.Error()
		f.warn("sync topic configs", "topic", topic, "err", err)
	}
	edges, err := topics.ListBounds(ctx, f.source, f.target, fresh)
	if err != nil {
		return err
	}
	touched := make(map[*shard]bool)
	for _, pair := range fresh {
		l, known := limits[pair.TargetName]
		if !known {
			continue // without its limits a batch could not be judged: the next pass tries again
		}
		for _, p := range f.beginTopic(pair, l, edges, before[pair.TargetName]) {
			touched[p.shard] = true
		}
	}
	for s := range touched {
		f.requestTakeover(s)
	}
	if len(touched) > 0 {
		f.acls.SyncSoon()
	}
	return nil
}

// newPairs keeps the pairs that have partitions which are not copied yet, or whose topics changed their ids.
func (f *Flow) newPairs(pairs []topics.Pair) []topics.Pair {
	t := &f.topology
	t.mu.Lock()
	defer t.mu.Unlock()
	var fresh []topics.Pair
	for _, pair := range pairs {
		if pair.Target.Name == "" {
			continue
		}
		link := t.links[pair.Source.Name]
		changed := link != nil && (link.sourceID != pair.Source.ID || link.targetID != pair.Target.ID)
		count := min(len(pair.Source.Partitions), len(pair.Target.Partitions))
		missing := false
		for n := range count {
			missing = missing || t.partitions[offsets.TopicPartition{Topic: pair.Source.Name, Partition: int32(n)}] == nil
		}
		if changed || missing {
			fresh = append(fresh, pair)
		}
	}
	return fresh
}

// beginTopic makes the partitions of one pair that do not exist yet. A topic whose id changed begins anew as another topic: what the
// journal says of the earlier one shows the anomaly when it is adopted.
func (f *Flow) beginTopic(pair topics.Pair, limits topics.Limits, e topics.Bounds, before int) []*partition {
	t := &f.topology
	t.mu.Lock()
	defer t.mu.Unlock()
	name := pair.Source.Name
	link := t.links[name]
	known := link != nil
	if link != nil && (link.sourceID != pair.Source.ID || link.targetID != pair.Target.ID) {
		f.retire(name)
		link, known = nil, false
	}
	if link == nil {
		link = &topicLink{source: name, target: pair.TargetName, sourceID: pair.Source.ID, targetID: pair.Target.ID, metrics: f.metrics.forTopic(name, &f.totals)}
		t.links[name] = link
	}
	link.setLimits(limits)
	var begun []*partition
	for n := range min(len(pair.Source.Partitions), len(pair.Target.Partitions)) {
		tp := offsets.TopicPartition{Topic: name, Partition: int32(n)}
		if t.partitions[tp] != nil {
			continue
		}
		sourceStart, sourceEnd, targetStart, targetEnd, ok := e.Of(pair, int32(n))
		if !ok {
			f.refreshTargetSoon() // its leader is not there yet
			continue
		}
		start := sourceStart
		if f.config.Start == config.StartLatest && t.firstSync && !known && (before == 0 || n < before) {
			start = sourceEnd // topics and partitions that come later are copied from their beginning: their first records are news
		}
		s := f.shards[offsets.ShardOf(name, int32(n), int32(len(f.shards)))]
		p := newPartition(link, int32(n), s, listed{sourceStart: start, sourceLast: sourceEnd, targetFirst: targetStart, targetLast: targetEnd})
		t.partitions[tp] = p
		s.add(p)
		begun = append(begun, p)
	}
	if !known {
		f.log.Info("copying topic", "topic", name, "target_topic", pair.TargetName, "partitions", len(begun))
	}
	return begun
}

// noteShrunk makes visible what the journal knows of and the source no longer has: a topic that was made again with fewer partitions. The
// shard's lock is held.
func (f *Flow) noteShrunk(s *shard) {
	t := &f.topology
	t.mu.Lock()
	defer t.mu.Unlock()
	for tp, l := range s.loaded {
		link, info := t.links[tp.Topic], t.source.ByName[tp.Topic]
		if l.state == nil || link == nil || t.partitions[tp] != nil || int(tp.Partition) < len(info.Partitions) {
			continue
		}
		p := newGonePartition(link, s, l.state)
		t.partitions[tp] = p
		p.mu.Lock()
		detail := fmt.Sprintf("source topic %s has %d partitions now; partition %d was copied up to offset %d", tp.Topic, len(info.Partitions), tp.Partition, p.acked)
		if f.raiseLocked(p, policy.Shrunk, p.acked, p.acked, detail) == policy.Skip {
			delete(t.partitions, tp)
		}
		p.mu.Unlock()
	}
}

// goneAfter is how many passes in a row must miss a source topic before it counts as deleted.
const goneAfter = 3

// retireGone stops following topics that were deleted on the source. Their copies stay; the journal remembers them.
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

// retire takes the partitions of a topic out that exists no longer under its id. The topology's lock is held.
func (f *Flow) retire(name string) {
	t := &f.topology
	for tp, p := range t.partitions {
		if tp.Topic == name {
			delete(t.partitions, tp)
			p.shard.remove(p)
		}
	}
	delete(t.links, name)
}
