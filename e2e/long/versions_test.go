package long_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/versions"
)

func versionOptions(t *testing.T) versions.Options {
	t.Helper()
	jars := requireLong(t)
	bin, err := daemon.Build(t.Context(), t.TempDir())
	must(t, err)
	return versions.Options{Jars: jars, Binary: bin}
}

// Every version that is tested as a source with every one that is tested as a target. The log ends with a table for docs/limits.md.
func TestBrokersOfManyAges(t *testing.T) {
	o := versionOptions(t)
	var table strings.Builder
	for _, source := range versions.Sources() {
		for _, target := range versions.Targets() {
			row := "not run"
			t.Run(source.Name+" to "+target.Name, func(t *testing.T) {
				row = "failed"
				in := o
				in.Dir = t.TempDir()
				r := versions.Run(t, in, source, target)
				if !t.Failed() {
					row = fmt.Sprintf("%d | %d | %.0f", r.Records, r.Positions, r.Took.Seconds())
				}
			})
			fmt.Fprintf(&table, "| %s | %s | %s |\n", source.Name, target.Name, row)
		}
	}
	t.Logf("source, target, records, positions of groups, seconds:\n%s", table.String())
}

// Two brokers on each side are upgraded one after the other: for a while only some of them know topic ids.
func TestRollingUpgrade(t *testing.T) {
	o := versionOptions(t)
	o.Dir = t.TempDir()
	versions.Upgrade(t, o, 2)
}

// Topics without ids are deleted and created again.
func TestRecreatedWithoutTopicIDs(t *testing.T) {
	o := versionOptions(t)
	o.Dir = t.TempDir()
	versions.Recreate(t, o)
}

// A target whose brokers write records in a format before 0.11.
func TestOldFormatOnTarget(t *testing.T) {
	o := versionOptions(t)
	o.Dir = t.TempDir()
	versions.OldFormatOnTarget(t, o)
}
