package compare

import (
	"context"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/plan"
	"github.com/milena-kafka/milena/replicator/topics"
)

// planInterval is how often the plan is renewed, with the configs of all topics, even if no topic has changed.
const planInterval = time.Minute

// topology is which topics are compared, and what milena would do with them.
type topology struct {
	clusters       client.Clusters
	source, target *kgo.Client
	topics         *topics.Syncer

	sourceView, targetView topics.View
	pairs                  []topics.Pair
	plan                   *plan.Plan
	compacted              map[string]bool // target topics
	planned                time.Time       // when the plan was computed
}

// sync reads the metadata of both clusters. It renews the plan if topics have changed or the plan is old.
func (t *topology) sync(ctx context.Context) error {
	if time.Since(t.planned) > planInterval {
		return t.renewPlan(ctx)
	}
	source, err := topics.Read(ctx, t.source)
	if err != nil {
		return t.clusters.SourceError(err)
	}
	target, err := topics.Read(ctx, t.target)
	if err != nil {
		return t.clusters.TargetError(err)
	}
	pairs, _ := t.topics.Select(source, target)
	same := func(a, b topics.Pair) bool {
		return a.Source.ID == b.Source.ID && a.Target.ID == b.Target.ID && a.TargetName == b.TargetName && a.Action() == b.Action()
	}
	if !slices.EqualFunc(pairs, t.pairs, same) {
		return t.renewPlan(ctx)
	}
	t.sourceView, t.targetView, t.pairs = source, target, pairs
	return nil
}

// renewPlan computes the plan. It leaves no trace on either cluster.
func (t *topology) renewPlan(ctx context.Context) error {
	inspected, err := plan.Inspect(ctx, t.clusters, t.source, t.target)
	if err != nil {
		return err
	}
	t.plan, t.compacted, t.pairs = inspected.Plan, inspected.Compacted, inspected.Pairs
	t.sourceView, t.targetView, t.planned = inspected.Source, inspected.Target, time.Now()
	return nil
}

// expirePlan makes the next sync renew the plan.
func (t *topology) expirePlan() { t.planned = time.Time{} }
