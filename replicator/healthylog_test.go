package replicator_test

import (
	"testing"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// The passes of a healthy hour, while records and positions move, leave fewer than ten lines in the log.
func TestHealthyHourIsNearlySilent(t *testing.T) {
	c := replicatortest.NewClusters(t, 2)
	c.Source.CreateTopic("orders", 4)
	c.Source.Produce("orders", 4, 100, "first")
	f := c.Start(replicatortest.FastTopics, replicatortest.FastGroups, func(f *config.Flow) { f.Topics = []string{"orders"} })
	f.UntilReady()
	f.UntilCopied("orders")
	begin := f.LogLines()
	stop := c.Source.Load("orders", 4)
	const groupSyncs = 60 // what one of them logs would be in the log 60 times
	for at := range int64(groupSyncs) {
		c.Source.Commit("billing", "orders", 0, at%100)
		f.UntilGroupSyncs(1)
	}
	stop()
	f.UntilCopied("orders")
	if lines := f.LogLines()[len(begin):]; len(lines) >= 10 {
		t.Errorf("%d lines:\n%s", len(lines), lines)
	}
}
