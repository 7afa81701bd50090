package verify_test

import (
	"testing"

	"github.com/milena-kafka/milena/replicator/replicatortest"
	"github.com/milena-kafka/milena/replicator/verify"
)

// What a verification says about the end of a log is about that run. However often it goes on, while the logs grow, its progress does not.
func TestProgressDoesNotGrowWithRuns(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 10, "some")
	f := c.Start(noHeartbeats, replicatortest.FastJournal)
	f.UntilJournaled("orders")
	f.Stop()
	o := options(c)
	store := &memory{}
	o.Store = store
	for n := range 20 {
		c.Source.Produce("orders", 1, 1, "late")
		v, err := verify.New(o)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if notes := v.Report().Partitions[0].Notes; len(notes) != 1 {
			t.Fatalf("run %d has the notes %q", n, notes)
		}
		store.document = &verify.Document{Header: verify.HeaderOf("a-b", "source-cluster", "target-cluster"), Partitions: v.Saved()}
	}
}
