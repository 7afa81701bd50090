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

// The limits of managed services, on the versions that they have: each is told in the brokers' words, and costs no more than it must.
func TestLimitsOfServices(t *testing.T) {
	o := versionOptions(t)
	for _, target := range []versions.Age{versions.Kafka39ZooKeeper(), versions.Kafka39KRaft(), versions.Kafka44()} {
		for _, limit := range []struct {
			name string
			run  func(*testing.T, versions.Options, versions.Age)
		}{
			{"policies", versions.Limits},
			{"no transactions", versions.NoTransactions},
			{"no groups", versions.NoGroups},
		} {
			t.Run(target.Name+"/"+limit.name, func(t *testing.T) {
				in := o
				in.Dir = t.TempDir()
				limit.run(t, in, target)
			})
		}
	}
}

// More partitions than KRaft controllers create in one request.
func TestPartitionsPerRequest(t *testing.T) {
	o := versionOptions(t)
	for _, target := range []versions.Age{versions.Kafka39KRaft(), versions.Kafka44()} {
		t.Run(target.Name, func(t *testing.T) {
			in := o
			in.Dir = t.TempDir()
			versions.PartitionsPerRequest(t, in, target)
		})
	}
}

// Sources before 2.4, without a default for replication factors, get the topic heartbeats.
func TestHeartbeatsOnOldSources(t *testing.T) {
	o := versionOptions(t)
	for name, factor := range map[string]int{"no replication_factor": 0, "that of the brokers": -1} {
		t.Run(name, func(t *testing.T) {
			in := o
			in.Dir = t.TempDir()
			versions.Heartbeats(t, in, versions.Kafka11(), factor)
		})
	}
}
