package topics

import (
	"fmt"
	"slices"

	"github.com/milena-kafka/milena/config"
)

// CheckMigrateFrom returns an error if migrate_from of a flow that has no journal yet names a topic that does not exist, although there are
// copies to continue: the name is wrong then, and the connector offsets are elsewhere. The name that a MirrorMaker 2 in dedicated mode uses may
// be a default that nobody wrote, so it is not an error.
func CheckMigrateFrom(f config.Flow, target View, pairs []Pair) error {
	isDefault := f.MigrateFrom == fmt.Sprintf("mm2-offsets.%s.internal", f.Source)
	copies := slices.ContainsFunc(pairs, func(p Pair) bool { return p.Target.Exists() })
	if f.MigrateFrom == "" || isDefault || !copies || target.ByName[f.MigrateFrom].Exists() {
		return nil
	}
	return fmt.Errorf("flow %s: migrate_from names topic %s, which does not exist on cluster %s; set it to the topic with MirrorMaker 2's connector offsets: mm2-offsets.%s.internal in dedicated mode, else offset.storage.topic of its Connect cluster",
		f.Name, f.MigrateFrom, f.Target, f.Source)
}

// NoConnectorOffsets is a sentence for a flow whose MirrorMaker 2 has left no connector offsets.
func NoConnectorOffsets(f config.Flow, target View) string {
	if !target.ByName[f.MigrateFrom].Exists() {
		return fmt.Sprintf("topic %s of migrate_from does not exist on cluster %s: MirrorMaker 2 has not run, or keeps its connector offsets elsewhere", f.MigrateFrom, f.Target)
	}
	return fmt.Sprintf("topic %s of migrate_from has no connector offset of source %s: it may be another MirrorMaker 2's, or the alias may differ", f.MigrateFrom, f.Source)
}
