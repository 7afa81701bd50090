package e2e_test

import (
	"testing"

	"github.com/milena-kafka/milena/e2e/versions"
)

// versionOptions are the options of a run of the package versions.
func versionOptions(t *testing.T) versions.Options {
	t.Helper()
	jars := requireKafka(t)
	bin, err := buildMilena()
	check(t, err)
	return versions.Options{Jars: jars, Binary: bin, Dir: dir(t)}
}

// The oldest source and the newest target; the first version with topic ids; brokers that offer requests with ids and have none, and the oldest
// target; the newest source, which has groups that are not followed. The package e2e/long has all pairs.
func TestBrokersOfManyAges(t *testing.T) {
	t.Parallel()
	for _, pair := range []struct{ source, target versions.Age }{
		{versions.Kafka11(), versions.Kafka44()},
		{versions.Kafka28(), versions.Kafka43()},
		{versions.Kafka39Before28(), versions.Kafka28()},
		{versions.Kafka44(), versions.Kafka39KRaft()},
	} {
		t.Run(pair.source.Name+" to "+pair.target.Name, func(t *testing.T) { versions.Run(t, versionOptions(t), pair.source, pair.target) })
	}
}

// Topics get ids while milena copies, on both sides.
func TestTopicIDsAppear(t *testing.T) {
	t.Parallel()
	versions.Upgrade(t, versionOptions(t), 1)
}
