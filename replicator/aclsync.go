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
		case <-f.acls.Requested():
			timer.Stop()
		case <-timer.C:
		}
		if wait = soon; !f.leads() {
			continue
		}
		clashes, known := f.nameClashes()
		if !known {
			continue
		}
		wait = f.config.ACLsInterval
		err := f.acls.Sync(ctx, clashes, f.leads)
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

// nameClashes returns the source topics whose name on the target belongs to an unrelated topic. With prefix naming there are none: every topic
// with the source's alias in front belongs to the flow. Otherwise they are known once all shards are recovered.
func (f *Flow) nameClashes() (topics map[string]bool, known bool) {
	if f.config.Naming == config.NamingPrefix {
		return nil, true
	}
	known = f.ready() // first: from then on the anomalies of all partitions are known
	topics = map[string]bool{}
	for _, p := range f.partitions() {
		if p.hasAnomaly(policy.TargetNotEmpty) {
			topics[p.topic.source] = true
		}
	}
	return topics, known
}
