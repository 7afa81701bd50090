package replicator

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/milena-kafka/milena/replicator/topics"
)

// configsLoop compares topic configs and learns the target's limits.
func (f *Flow) configsLoop(ctx context.Context) {
	tick := time.NewTicker(f.config.ConfigsInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := f.syncConfigs(ctx); err != nil && ctx.Err() == nil {
			f.metrics.passes.WithLabelValues("configs", "failed").Inc()
			f.warn("look at topic configs failed; it is tried again", "err", err)
			continue
		}
		f.metrics.passes.WithLabelValues("configs", "done").Inc()
	}
}

func (f *Flow) syncConfigs(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	report := &topics.ConfigsStatus{LastPass: time.Now()}
	pairs, _ := f.topics.Select(f.sourceView(), f.targetView())
	limits, errs := f.topics.SyncConfigs(ctx, pairs)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for _, topic := range slices.Sorted(maps.Keys(errs)) {
		f.warn("sync topic configs", "topic", topic, "err", errs[topic])
		if len(report.Problems) < topics.MaxProblems {
			report.Problems = append(report.Problems, errs[topic].Error())
		}
	}
	if more := len(errs) - len(report.Problems); more > 0 {
		report.Problems = append(report.Problems, fmt.Sprintf("and %d more topics, which the log names", more))
	}
	report.Changed, report.Took = int(f.configsChanged.Swap(0)), time.Since(report.LastPass).Seconds()
	f.configs.Store(report)
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
	for _, p := range t.partitions {
		if changed[p.topic] {
			p.mu.Lock()
			p.outbox.forgetLimit() // one that was learned from a refusal may no longer hold
			p.mu.Unlock()
		}
	}
	return nil
}
