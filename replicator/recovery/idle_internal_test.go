package recovery

import (
	"strings"
	"testing"

	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// An instance outside a group runs and does not answer. That it is in no group is no proof that nobody writes.
func TestSilentInstanceOutsideAGroup(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	flow := c.Start(replicatortest.FastJournal, replicatortest.OneInstance)
	flow.UntilReady()
	clusters := c.AsCommand(replicatortest.OneInstance)
	r := run{clusters: clusters}
	if text, err := r.idle(t.Context(), clusters, control.FailOver); err == nil || !strings.Contains(err.Error(), "by its journal one runs") {
		t.Errorf("%q, %v", text, err)
	}
	flow.Stop()
	if _, err := r.idle(t.Context(), clusters, control.FailOver); err != nil {
		t.Error(err)
	}
}
