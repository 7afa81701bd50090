package plan

import (
	"context"
	"fmt"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/mm2"
	"github.com/milena-kafka/milena/replicator/topics"
)

// checkMigration reports what is known about the MirrorMaker 2 that the flow migrates from. One that still runs is a warning: it may be stopped
// later.
func (c *check) checkMigration(ctx context.Context) {
	if c.flow.MigrateFrom == "" {
		return
	}
	progress, err := mm2.ReadProgress(ctx, c.clusters, c.sourceClient, c.targetClient)
	if err != nil {
		c.refuse("%v", err)
		return
	}
	journaled := c.checkProgressSince(ctx, progress)
	switch wrong := topics.CheckMigrateFrom(c.flow, c.target, c.pairs); {
	case wrong != nil && len(journaled) == 0:
		c.refuse("%v", wrong)
	case len(progress.ConnectorOffsets) == 0:
		c.warn("%s", topics.NoConnectorOffsets(c.flow, c.target))
	}
	c.plan.Migration = fmt.Sprintf("%s in topic %s, offset-syncs for %s", counted(len(progress.ConnectorOffsets), "connector offset"), c.flow.MigrateFrom, counted(len(progress.OffsetSyncs), "partition"))
	c.checkMissingCopies(progress, journaled)
	switch evidence, err := mm2.DedicatedRuns(ctx, c.targetClient, c.flow); {
	case err != nil:
		c.warn("%v", err)
	case evidence != "":
		c.warn("MirrorMaker 2 still runs (%s); the flow starts once MirrorMaker 2 has stopped", evidence)
	}
}

// checkProgressSince reports partitions that MirrorMaker 2 has written to since milena did, according to the flow's journal. It returns the
// partitions in the journal: milena does not migrate them again.
func (c *check) checkProgressSince(ctx context.Context, progress *offsets.MM2Progress) map[offsets.TopicPartition]bool {
	journaled := make(map[offsets.TopicPartition]bool)
	journal := offsets.JournalTopic(c.flow.Name)
	if !c.target.ByName[journal].Exists() {
		return journaled
	}
	states, err := offsets.NewJournal(c.targetClient, journal, offsets.JournalOptions{Log: c.clusters.Log}).States(ctx)
	if err != nil {
		c.warn("journal %s on cluster %s: %v", journal, c.flow.Target, err)
	}
	ahead := 0
	for _, s := range states {
		tp := offsets.TopicPartition{Topic: s.Topic, Partition: s.Partition}
		if journaled[tp] = true; progress.ConnectorOffsets[tp] > s.End.Source {
			ahead++
		}
	}
	if ahead > 0 {
		c.warn("MirrorMaker 2 has written to %s since milena last did: delete the topic %s on cluster %s before you start milena, or they halt with %s",
			counted(ahead, "partition"), journal, c.flow.Target, policy.ForeignWrite)
	}
	return journaled
}

// checkMissingCopies reports target topics that MirrorMaker 2 wrote and that no longer exist.
func (c *check) checkMissingCopies(progress *offsets.MM2Progress, journaled map[offsets.TopicPartition]bool) {
	for _, p := range c.pairs {
		if p.Target.Exists() {
			continue
		}
		for n := range p.Source.Partitions {
			if tp := (offsets.TopicPartition{Topic: p.Source.Name, Partition: int32(n)}); progress.ConnectorOffsets[tp] > 0 && !journaled[tp] {
				c.warn("MirrorMaker 2 has copied topic %s, but its copy %s does not exist on cluster %s: its partitions halt with %s", p.Source.Name, p.TargetName, c.flow.Target, policy.TargetRecreated)
				break
			}
		}
	}
}
