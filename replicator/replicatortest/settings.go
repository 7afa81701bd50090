package replicatortest

import (
	"time"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
)

// FastGroups syncs groups every 100 ms, the shortest interval that a config may have. It is for tests that wait for several syncs: by default the
// first one is after 5 s.
func FastGroups(f *config.Flow) { f.GroupsInterval = 100 * time.Millisecond }

// FastTopics syncs topics every 100 ms. A partition that was left outside a fence is then fenced soon after it can be.
func FastTopics(f *config.Flow) { f.TopicsInterval = 100 * time.Millisecond }

// FastJournal writes the journal every 100 ms, the shortest interval that a config may have. An expired lease is then noticed soon.
func FastJournal(f *config.Flow) { f.JournalInterval = 100 * time.Millisecond }

// ShortPauses lets a partition wait for moments only before something is tried again.
func (c *Clusters) ShortPauses() {
	c.Pauses = replicator.Pauses{Refused: 20 * time.Millisecond, Starved: 50 * time.Millisecond, Quiet: 50 * time.Millisecond, Marker: 200 * time.Millisecond, Verify: 20 * time.Millisecond, Turn: 20 * time.Millisecond, Pass: 300 * time.Millisecond}
}

// OnAnomaly sets the action for one kind of anomaly.
func OnAnomaly(kind, action string) func(*config.Flow) {
	return func(f *config.Flow) { f.Anomalies[kind] = action }
}

// MigrateFromMirrorMaker makes the flow continue the copies of a MirrorMaker 2 that kept its connector offsets in ConnectorOffsetsTopic.
func MigrateFromMirrorMaker(f *config.Flow) { f.MigrateFrom = ConnectorOffsetsTopic }

// WithoutTransactions lets the flow rely on its group and its lease instead of fences.
func WithoutTransactions(f *config.Flow) { f.Fence = config.FenceLease }

// OneInstance lets a flow run without a group: a second one takes all shards over, and the first one ends.
func OneInstance(f *config.Flow) { f.Instances = config.InstancesOne }
