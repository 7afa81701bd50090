package replicator

import (
	"context"
	"time"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/policy"
)

// aclsLoop compares ACLs, early when a topic was begun: who may read it and who may not need not wait.
func (f *Flow) aclsLoop(ctx context.Context) {
	soon := min(time.Second, f.config.ACLsInterval)
	for wait := soon; ; {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-f.acls.Early:
			timer.Stop()
		case <-timer.C:
		}
		if wait = soon; !f.mayKeepBooks() {
			continue
		}
		others, known := f.notCopies()
		if !known {
			continue
		}
		wait = f.config.ACLsInterval
		err := f.acls.Sync(ctx, others, f.mayKeepBooks)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			f.metrics.passes.WithLabelValues("acls", "failed").Inc()
		default:
			f.metrics.passes.WithLabelValues("acls", "done").Inc()
		}
	}
}

// notCopies are source topics whose namesakes on the target hold other records. What has the source's alias in front belongs to the flow in
// any case; without it, nothing is known before the shards are recovered.
func (f *Flow) notCopies() (topics map[string]bool, known bool) {
	if f.config.Naming == config.NamingPrefix {
		return nil, true
	}
	topics = map[string]bool{}
	status := f.Status()
	for _, p := range status.Partitions {
		if p.Anomaly != nil && p.Anomaly.Kind == string(policy.TargetNotEmpty) {
			topics[p.Topic] = true
		}
	}
	return topics, status.Ready
}
