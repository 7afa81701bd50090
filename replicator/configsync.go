package replicator

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/milena-kafka/milena/replicator/topics"
)

// configsShare is the largest part of the time, as a fraction 1/n, that config syncs take: one reads all configs of all topics, 3 KB each.
const configsShare = 5

// configsLoop syncs topic configs every ConfigsInterval, and less often if there are so many topics that a sync takes long. It also runs if
// the flow copies no configs, because the limits of the target topics may change.
func (f *Flow) configsLoop(ctx context.Context) {
	for took := time.Duration(0); f.sleepUntilReload(ctx, func(l *live) time.Duration { return max(l.ConfigsInterval, configsShare*took) }) == nil; {
		began := time.Now()
		traced, end := f.span(ctx, "sync configs")
		err := f.syncConfigs(traced)
		end(err)
		took = time.Since(began)
		if err != nil && ctx.Err() == nil {
			f.metrics.syncs.WithLabelValues("configs", "failed").Inc()
			f.warn("topic config sync failed, retrying", "err", err)
			continue
		}
		f.metrics.syncs.WithLabelValues("configs", "done").Inc()
	}
}

// sleepUntilReload sleeps for as long as the config in force says, or until another one is in force.
func (f *Flow) sleepUntilReload(ctx context.Context, howLong func(*live) time.Duration) error {
	l := f.live()
	timer := time.NewTimer(howLong(l))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-l.replaced:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// syncConfigs copies the topic configs that differ, reports the result for the status, and updates the limits of the target topics.
func (f *Flow) syncConfigs(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if f.isStopped() {
		return nil
	}
	report := &topics.ConfigsStatus{LastPass: time.Now()}
	syncer := f.live().topics
	pairs, _ := syncer.Select(f.sourceView(), f.targetView())
	limits, errs := syncer.SyncConfigs(ctx, pairs)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for _, topic := range slices.Sorted(maps.Keys(errs)) {
		f.warn("topic configs not synced", "topic", topic, "err", errs[topic])
		if len(report.Problems) < topics.MaxProblems {
			report.Problems = append(report.Problems, errs[topic].Error())
		}
	}
	if more := len(errs) - len(report.Problems); more > 0 {
		report.Problems = append(report.Problems, fmt.Sprintf("and %d more topics, see the log", more))
	}
	report.Changed, report.Took = int(f.configsChanged.Swap(0)), time.Since(report.LastPass).Seconds()
	f.configs.Store(report)
	if len(errs) == 0 {
		f.synced.set("configs", report.LastPass)
	}
	f.updateLimits(limits)
	return nil
}

// syncLimits syncs the configs of one topic now, so that a limit that somebody has just raised counts.
func (f *Flow) syncLimits(ctx context.Context, topic string) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	syncer := f.live().topics
	pairs, _ := syncer.Select(f.sourceView(), f.targetView())
	pairs = slices.DeleteFunc(pairs, func(p topics.Pair) bool { return p.Source.Name != topic })
	limits, errs := syncer.SyncConfigs(ctx, pairs)
	for _, err := range errs {
		f.warn("topic configs not synced", "topic", topic, "err", err)
	}
	f.updateLimits(limits)
}

// updateLimits sets the limits of the target topics.
func (f *Flow) updateLimits(limits map[string]topics.Limits) {
	t := &f.topology
	t.mu.Lock()
	defer t.mu.Unlock()
	changed := make(map[*topicLink]bool)
	for _, link := range t.links {
		if l, ok := limits[link.target]; ok && l != link.getLimits() {
			link.setLimits(l)
			changed[link] = true
		}
	}
	if len(changed) == 0 {
		return // as nearly always: with many partitions it takes a while to look at each
	}
	for _, p := range t.partitions {
		if changed[p.topic] {
			p.mu.Lock()
			p.outbox.forgetLimit() // a limit that was learned from a refusal may be outdated
			p.mu.Unlock()
		}
	}
}
