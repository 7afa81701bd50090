package replicator_test

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// pausedOverACleaning copies a compacted topic, stops, deletes a key on the source and lets the cleaner remove its tombstone, and starts again.
func pausedOverACleaning(t *testing.T, retention string, changes ...func(*config.Flow)) (*replicatortest.Clusters, *replicatortest.Flow) {
	t.Helper()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("users", 1, "cleanup.policy", "compact", "delete.retention.ms", retention)
	write := func(key, value string) {
		r := &kgo.Record{Topic: "users", Key: []byte(key)}
		if value != "" {
			r.Value = []byte(value)
		}
		c.Source.Write(r)
	}
	write("keeps the log's start", "1")
	write("ann", "1")
	write("bob", "1")
	flow := c.Start(changes...)
	flow.UntilCopied("users")
	flow.UntilJournaled("users")
	flow.Stop()
	write("ann", "")
	write("bob", "2")
	write("bob", "3")
	<-time.After(20 * time.Millisecond) // longer than the shorter retention
	c.Source.Compact()
	write("eve", "1")
	return c, c.Start(changes...)
}

// Nobody can tell any more whether what is gone was a tombstone, so policy decides, again after each restart.
func TestTombstonesMayHaveBeenCleaned(t *testing.T) {
	t.Parallel()
	c, flow := pausedOverACleaning(t, "1")
	a := flow.UntilHaltedBy("tombstones_cleaned", "users", 0)
	if a.From != 3 || a.To <= a.From {
		t.Errorf("the anomaly concerns offsets %d to %d, want from 3 on", a.From, a.To)
	}
	flow.Stop()
	flow = c.Start()
	flow.UntilHaltedBy("tombstones_cleaned", "users", 0)
	flow.Stop()
	flow = c.Start(replicatortest.OnAnomaly("tombstones_cleaned", "skip"))
	flow.UntilCopied("users")
	if n := flow.Metric("milena_anomalies_total", "kind", "tombstones_cleaned", "action", "skip"); n != 1 {
		t.Errorf("%v anomalies were skipped, want 1", n)
	}
	flow.Stop()
	flow = c.Start()
	flow.UntilCopied("users") // what was skipped is decided
}

// A pause shorter than delete.retention.ms loses no tombstone, whatever the cleaner removed.
func TestShortPauseOverACleaning(t *testing.T) {
	t.Parallel()
	_, flow := pausedOverACleaning(t, "86400000")
	flow.UntilCopied("users")
}

// Once the copy is deleted and made again, there is no key left whose tombstone is missing.
func TestRestartOfACopyWithCleanedTombstones(t *testing.T) {
	t.Parallel()
	c, flow := pausedOverACleaning(t, "1")
	flow.UntilHaltedBy("tombstones_cleaned", "users", 0)
	c.Target.DeleteTopic("a.users")
	c.Decide(control.Done, control.RestartCopy, replicatortest.TP("users", 0))
	flow.UntilCopied("users")
	c.Target.Client.PurgeTopicsFromClient("a.users")
	replicatortest.MustEqual(t, "the copy", c.Source.Texts("users", 1)[0], c.Target.Texts("a.users", 1)[0])
	flow.Stop()
}
