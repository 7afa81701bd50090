package plan

import (
	"context"
	"fmt"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/mm2"
)

// checkTakeOver says what is known of the MirrorMaker 2 whose copies the flow goes on with. That it still runs is no reason against a check.
func (c *check) checkTakeOver(ctx context.Context) {
	if c.flow.TakeOver == "" {
		return
	}
	progress, err := mm2.ReadProgress(ctx, c.clusters, c.sourceClient, c.targetClient)
	if err != nil {
		c.refuse("%v", err)
		return
	}
	c.plan.TakeOver = fmt.Sprintf("%d positions of MirrorMaker 2 in topic %s, offset-syncs of %d partitions", len(progress.Positions), c.flow.TakeOver, len(progress.Syncs))
	c.checkLeftovers(ctx, progress)
	switch sign, err := mm2.DedicatedRuns(ctx, c.targetClient, c.flow); {
	case err != nil:
		c.warn("%v", err)
	case sign != "":
		c.warn("MirrorMaker 2 runs: %s; the flow starts when it has ended", sign)
	}
}

// checkLeftovers finds what a take-over would stumble over: copies that are gone, and a journal that tells of an earlier time.
func (c *check) checkLeftovers(ctx context.Context, progress *offsets.MirrorProgress) {
	known := make(map[offsets.TopicPartition]bool)
	if journal := offsets.JournalTopic(c.flow.Name); c.target.ByName[journal].Exists() {
		states, err := offsets.NewJournal(c.targetClient, journal, offsets.JournalOptions{Log: c.clusters.Log}).States(ctx)
		if err != nil {
			c.warn("journal %s on cluster %s: %v", journal, c.flow.Target, err)
		}
		behind := 0
		for _, s := range states {
			tp := offsets.TopicPartition{Topic: s.Topic, Partition: s.Partition}
			if known[tp] = true; progress.Positions[tp] > s.End.Source {
				behind++
			}
		}
		if behind > 0 {
			c.warn("MirrorMaker 2 has copied on since milena did, in %d partitions: delete the topic %s on cluster %s before the start, or they halt with %s", behind, journal, c.flow.Target, policy.ForeignWrite)
		}
	}
	for _, p := range c.pairs {
		if p.Target.Exists() {
			continue
		}
		for n := range p.Source.Partitions {
			if tp := (offsets.TopicPartition{Topic: p.Source.Name, Partition: int32(n)}); progress.Positions[tp] > 0 && !known[tp] {
				c.warn("topic %s is gone from cluster %s, and MirrorMaker 2 had copied it: its partitions halt with %s", p.TargetName, c.flow.Target, policy.TargetRecreated)
				break
			}
		}
	}
}
