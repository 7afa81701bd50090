package replicator

import (
	"context"
	"time"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/policy"
)

// aclsLoop syncs ACLs every ACLsInterval, and early after a topic was added, so that its readers need not wait for the interval.
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
			f.metrics.syncs.WithLabelValues("acls", "failed").Inc()
		default:
			f.metrics.syncs.WithLabelValues("acls", "done").Inc()
		}
	}
}

// nameClashes returns the source topics whose target name belongs to an unrelated topic. With prefix naming there are none, because every
// topic with the source's alias as its prefix belongs to the flow. With other naming they are known only when all shards are recovered.
func (f *Flow) nameClashes() (topics map[string]bool, known bool) {
	if f.config.Naming == config.NamingPrefix {
		return nil, true
	}
	known = len(f.NotReady()) == 0 // before the anomalies are read: they are complete only once the flow is ready
	topics = map[string]bool{}
	for _, p := range f.partitions() {
		if p.hasAnomaly(policy.TargetNotEmpty) {
			topics[p.topic.source] = true
		}
	}
	return topics, known
}
