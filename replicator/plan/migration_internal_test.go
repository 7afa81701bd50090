package plan

import (
	"testing"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/topics"
)

// A copy that does not exist is reported once per topic, unless MirrorMaker 2 never copied the topic or milena has journaled it.
func TestCheckMissingCopies(t *testing.T) {
	partition := func(topic string, n int32) offsets.TopicPartition {
		return offsets.TopicPartition{Topic: topic, Partition: n}
	}
	source := func(name string) topics.Topic {
		return topics.Topic{Name: name, Partitions: make([]topics.Partition, 2)}
	}
	c := &check{flow: config.Flow{Target: "b"}, plan: &Plan{}, pairs: []topics.Pair{
		{Source: source("deleted"), TargetName: "a.deleted"},
		{Source: source("new"), TargetName: "a.new"},
		{Source: source("journaled"), TargetName: "a.journaled"},
	}}
	progress := &offsets.MM2Progress{ConnectorOffsets: map[offsets.TopicPartition]int64{
		partition("deleted", 0): 10, partition("deleted", 1): 10, partition("journaled", 0): 10,
	}}
	c.checkMissingCopies(progress, map[offsets.TopicPartition]bool{partition("journaled", 0): true})
	wantLines(t, "warnings", c.plan.Warnings, "MirrorMaker 2 has copied topic deleted, but its copy a.deleted does not exist on cluster b: its partitions halt with target_recreated")
}

// A wrong name of migrate_from is refused or warned of, whatever the number of offsets.
func TestCheckMigration_wrongTopic(t *testing.T) {
	for topic, want := range map[string]struct{ refused, warning string }{
		"missing": {"migrate_from names topic missing, which does not exist on cluster dr", ""},
		"empty":   {"", "topic empty of migrate_from has no connector offset of source primary"},
	} {
		test := newCheckTest(t, func(f *config.Flow) { f.MigrateFrom, f.OffsetSyncs = topic, config.OffsetSyncsTarget })
		test.create(test.source, "orders", 1, nil)
		test.create(test.target, "primary.orders", 1, nil)
		test.create(test.target, "empty", 1, nil)
		plan := test.check()
		if want.refused != "" {
			wantLines(t, "refusals", plan.Refused, want.refused)
		} else {
			wantLines(t, "refusals", plan.Refused)
			wantLines(t, "warnings", plan.Warnings, want.warning)
		}
	}
}
