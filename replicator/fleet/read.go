package fleet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/topics"
)

const (
	// The target has this long to answer. Without it there is no report.
	targetTimeout = 15 * time.Second
	// The source has this long to list its topics, in which two of its brokers may hang. Without it there is a report all the same.
	sourceTimeout = 15 * time.Second
)

// reading is what is read of one flow. Each part is filled by one goroutine.
type reading struct {
	clusters   client.Clusters
	flow       config.Flow
	source     *kgo.Client
	target     *kgo.Client
	syncer     *topics.Syncer
	targetView topics.View
	journal    journal
	members    members
	dark       error // why the source does not answer, nil if it does
	sourceView topics.View
	anomalies  policy.Anomalies
	unused     []policy.UnusedItem
	decisions  control.State
	undecided  error // why the control topic was not read, nil if it was
}

// Read connects to both clusters of a flow and reads its report. An error means that there is none: the target does not answer, or an option is
// wrong. Whatever else cannot be read is in [Report.Problems]. It blocks for reading all of the journal.
func Read(ctx context.Context, c client.Clusters) (Report, error) { return read(ctx, c, describe) }

func read(ctx context.Context, c client.Clusters, describe describer) (Report, error) {
	source, target, err := c.Open()
	if err != nil {
		return Report{}, err
	}
	defer source.Close()
	defer target.Close()
	r := &reading{clusters: c, flow: c.Flow, source: source, target: target, decisions: *control.NewState(c.Flow)}
	if r.syncer, err = topics.NewSyncer(source, target, c.Flow, c.Log); err != nil {
		return Report{}, err
	}
	if r.anomalies, err = policy.NewAnomalies(c.Flow); err != nil {
		return Report{}, err
	}
	var wait sync.WaitGroup
	wait.Go(func() { r.readSource(ctx) })
	err = r.readTarget(ctx, describe)
	wait.Wait()
	if err != nil {
		return Report{}, err
	}
	p := r.pick()
	// The ends are newer than the journal. The other way round, a copy could be ahead of its source.
	p.listEnds(ctx, source)
	r.findOccupied(ctx, p)
	return r.join(p), nil
}

// readTarget reads the metadata, the group and the journal.
func (r *reading) readTarget(ctx context.Context, describe describer) error {
	metadata, cancel := context.WithTimeout(ctx, targetTimeout)
	defer cancel()
	var err error
	if r.targetView, err = topics.Read(metadata, r.target); err != nil {
		return fmt.Errorf("the journal of flow %s cannot be read: %w", r.flow.Name, r.clusters.TargetError(err))
	}
	r.members = r.readMembers(ctx, describe)
	r.readDecisions(ctx)
	if err := r.readJournal(ctx); err != nil {
		return fmt.Errorf("the journal of flow %s cannot be read: %w", r.flow.Name, r.clusters.TargetError(err))
	}
	return nil
}

// readDecisions reads what people decided.
func (r *reading) readDecisions(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, targetTimeout)
	defer cancel()
	err := control.NewLog(r.target, r.flow.Target, r.flow.Name).ReadAll(ctx, func(record control.Record) { _ = r.decisions.Apply(record) })
	if !errors.Is(err, control.ErrNoTopic) {
		r.undecided = r.clusters.TargetError(err)
	}
}

// readSource reads the metadata.
func (r *reading) readSource(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, sourceTimeout)
	defer cancel()
	view, err := topics.Read(ctx, r.source)
	r.sourceView, r.dark = view, r.clusters.SourceError(err)
	if err == nil {
		r.unused = r.readUnused(ctx)
	}
}

// readUnused finds the items of the flow's lists that select nothing. The lists of groups have no effect without a sync, and what is not known
// of groups has no item.
func (r *reading) readUnused(ctx context.Context) []policy.UnusedItem {
	found := r.syncer.Rules.Unused(slices.Sorted(maps.Keys(r.sourceView.ByName)))
	rules, err := policy.NewGroups(r.flow)
	if err != nil || !r.flow.GroupsSync && !r.flow.Checkpoints {
		return found
	}
	listed, err := kadm.NewClient(r.source).ListGroups(ctx)
	if err != nil {
		return found
	}
	return append(found, rules.Unused(slices.Sorted(maps.Keys(listed)))...)
}
