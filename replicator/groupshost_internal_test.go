package replicator

import (
	"testing"

	"github.com/milena-kafka/milena/offsets"
)

// The map of a partition that is being recovered ends where the journal ends. An earlier owner may have written a later offset-sync.
func TestOffsetSyncsAreOfRecoveredPartitions(t *testing.T) {
	p := replicatingPartition(testFlow(t), 100)
	if err := p.offsets.Append(100, 105, 10); err != nil {
		t.Fatal(err)
	}
	want := offsets.OffsetSync{Topic: "orders", Source: 109, Target: 114}
	for state, wanted := range map[state]bool{waiting: false, recovering: false, replicating: true, halted: true} {
		p.state = state
		if sync, ok := p.LastSync(); ok != wanted || ok && sync != want {
			t.Errorf("%s: %+v, %v", state, sync, ok)
		}
	}
}
