package replicator_test

import (
	"testing"

	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// Decisions about thousands of partitions are more than one batch may hold.
func TestDecisionsAboutManyPartitions(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	var list []control.Decision
	for n := range int32(3000) {
		list = append(list, replicatortest.NewDecision(control.Pause, replicatortest.TP("orders", n)))
	}
	c.SubmitWithin(0, list...)
	if n := len(c.ControlState().History()); n != len(list) {
		t.Errorf("%d of %d are in the topic", n, len(list))
	}
}
