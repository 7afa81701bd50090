package replicatortest

import (
	"time"

	"github.com/milena-kafka/milena/config"
)

// FastGroups syncs groups every 100 ms, the shortest interval that a config may have. It is for tests that wait for several syncs: by default the
// first one is after 5 s.
func FastGroups(f *config.Flow) { f.GroupsInterval = 100 * time.Millisecond }

// OnAnomaly sets the action for one kind of anomaly.
func OnAnomaly(kind, action string) func(*config.Flow) {
	return func(f *config.Flow) { f.Anomalies[kind] = action }
}

// MigrateFromMirrorMaker makes the flow continue the copies of a MirrorMaker 2 that kept its connector offsets in ConnectorOffsetsTopic.
func MigrateFromMirrorMaker(f *config.Flow) { f.MigrateFrom = ConnectorOffsetsTopic }
