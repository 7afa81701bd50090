package compare

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/mm2"
	"github.com/milena-kafka/milena/replicator/topics"
)

const (
	// How often topics, leaders, end offsets and checkpoints are read.
	metadataInterval = 5 * time.Second
	// How long that may take.
	metadataTimeout = 15 * time.Second
	// How often the report is renewed.
	publishInterval = 250 * time.Millisecond
	// How long it may take at the end to compare what is on the target by then.
	concludeTimeout = 30 * time.Second
	// The pause after a sync that read no records, in addition to the wait of its fetches.
	idlePause = 100 * time.Millisecond
)

// Comparison compares the copies of a running MirrorMaker 2 with their source. It writes to neither cluster. Create it with [New], call
// [Comparison.Run] once, and [Comparison.Report] at any time.
type Comparison struct {
	topology topology
	logs     logs
	internal *offsets.Client // for MirrorMaker 2's internal topics on the target

	groups    []Group
	problem   string // why the last sync of the metadata failed
	concluded bool   // nothing more is read

	began  time.Time
	latest atomic.Pointer[Report]
}

// New creates a comparison. It does not connect yet. With whole, copies are compared from their beginning, not only from the newest
// offset-sync. An error means that an option is wrong.
func New(o client.Clusters, whole bool) (*Comparison, error) {
	c := &Comparison{began: time.Now()}
	source, target, err := o.Open()
	if err != nil {
		return nil, err
	}
	c.topology = topology{clusters: o, source: source, target: target}
	if c.topology.topics, err = topics.NewSyncer(source, target, o.Flow, o.Log); err != nil {
		c.close()
		return nil, err
	}
	c.logs.init(o, &c.topology, beginning{whole: whole})
	c.latest.Store(&Report{Flow: o.Flow.Name, Source: o.Flow.Source, Target: o.Flow.Target})
	return c, nil
}

func (c *Comparison) close() {
	c.topology.source.Close()
	c.topology.target.Close()
}

// Report returns the current report, which must not be changed. It is renewed several times a second while Run runs.
func (c *Comparison) Report() *Report { return c.latest.Load() }

// Run compares until ctx ends and then returns nil. It also compares what is on the target by then, which takes up to 45 s. An error means that
// the comparison could not begin. A cluster that stops answering later is reported and retried.
func (c *Comparison) Run(ctx context.Context) error {
	defer c.close()
	if err := c.begin(ctx); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("flow %s: nothing was compared, because the comparison ended before both clusters had answered: %w", c.topology.clusters.Flow.Name, err)
		}
		return err
	}
	synced, published := time.Now(), time.Time{}
	for ctx.Err() == nil {
		if c.logs.stale.Swap(false) || time.Since(synced) > metadataInterval {
			c.syncMetadata(ctx)
			synced = time.Now()
		}
		advanced := c.logs.sync(ctx)
		c.logs.shareWindow()
		if time.Since(published) > publishInterval {
			c.publish()
			published = time.Now()
		}
		if !advanced && client.Sleep(ctx, idlePause) != nil {
			break
		}
	}
	c.conclude(context.WithoutCancel(ctx))
	return nil
}

// begin connects to both clusters, computes the plan and reads the progress of MirrorMaker 2.
func (c *Comparison) begin(ctx context.Context) error {
	if err := c.topology.renewPlan(ctx); err != nil {
		return err
	}
	c.logs.follow()
	clusters := c.topology.clusters
	flow := &clusters.Flow
	flow.MigrateFrom = cmp.Or(flow.MigrateFrom, "mm2-offsets."+flow.Source+".internal") // a comparison does not need migrate_from
	var err error
	if c.logs.progress, err = mm2.ReadProgress(ctx, clusters, c.topology.source, c.topology.target); err != nil {
		return err
	}
	if c.internal, err = offsets.Open(ctx, offsets.Options{Client: c.topology.target, Names: c.topology.clusters.InternalTopics()}); err != nil {
		return c.topology.clusters.TargetError(err)
	}
	return c.syncGroups(ctx)
}

// conclude compares what is on the target when the comparison ends, and includes what MirrorMaker 2 did in the meantime with topics and groups.
func (c *Comparison) conclude(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, concludeTimeout)
	defer cancel()
	ends, err := kadm.NewClient(c.topology.target).ListCommittedOffsets(limited, topics.TargetNames(c.topology.pairs)...)
	incomplete := func(p *partition) bool {
		end, ok := ends.Lookup(p.copied.Topic, p.copied.Partition)
		return ok && end.Err == nil && p.problem == "" && (p.copied.next < end.Offset || len(p.waiting) > 0 && p.waiting[0].offset < end.Offset)
	}
	for err == nil && limited.Err() == nil && slices.ContainsFunc(c.logs.partitions, incomplete) {
		if c.logs.stale.Swap(false) {
			c.syncMetadata(limited)
		}
		if !c.logs.sync(limited) {
			err = client.Sleep(limited, idlePause)
		}
		c.logs.shareWindow()
	}
	c.topology.expirePlan()
	c.concluded = true
	c.syncMetadata(ctx)
	c.publish()
}

// syncMetadata reads what changes besides the records: topics, leaders, end offsets, checkpoints.
func (c *Comparison) syncMetadata(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()
	err := c.topology.sync(ctx)
	if err == nil {
		c.logs.follow()
		err = errors.Join(c.logs.syncEnds(ctx), c.syncGroups(ctx))
	}
	switch {
	case err == nil:
		c.problem = ""
	case !errors.Is(err, context.Canceled): // canceled: the comparison ends
		c.problem = err.Error()
	}
}

// syncGroups compares MirrorMaker 2's checkpoints with the exact translation.
func (c *Comparison) syncGroups(ctx context.Context) error {
	c.groups = nil
	checkpoints, err := c.internal.Checkpoints(ctx, c.topology.clusters.Flow.Source)
	if errors.As(err, new(*offsets.NoCheckpointsError)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read MirrorMaker 2's checkpoints on cluster %s: %w", c.topology.clusters.Flow.Target, err)
	}
	byCopy := make(map[offsets.TopicPartition]*partition, len(c.logs.partitions))
	for _, p := range c.logs.partitions {
		byCopy[p.copied.TopicPartition] = p
	}
	for _, checkpoint := range checkpoints {
		p := byCopy[offsets.TopicPartition{Topic: checkpoint.Topic, Partition: checkpoint.Partition}]
		if p == nil {
			continue
		}
		if exact, ok := p.matched.forward(checkpoint.Source); ok {
			c.groups = append(c.groups, Group{
				Group: checkpoint.Group, Topic: p.source.Topic, Partition: p.source.Partition, Committed: checkpoint.Source,
				Mirrored: checkpoint.Target, Exact: exact, Reread: exact - checkpoint.Target,
			})
		}
	}
	return nil
}
