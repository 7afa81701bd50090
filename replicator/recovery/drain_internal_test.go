package recovery

import (
	"strings"
	"testing"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/fleet"
)

// A topic that is deleted, or that comes and cannot be copied, while all is drained is not overlooked.
func TestDrainNoticesTopicsThatComeAndGo(t *testing.T) {
	t.Parallel()
	orders, bills := offsets.TopicPartition{Topic: "orders"}, offsets.TopicPartition{Topic: "bills"}
	before := drained{ends: map[offsets.TopicPartition]int64{orders: 5, bills: 7}}
	later := drained{ends: map[offsets.TopicPartition]int64{orders: 5}}
	if moved := before.movedTo(&later); moved != "bills-0 is not a partition of the flow any more" || before.hash() == later.hash() {
		t.Errorf("it moved: %q", moved)
	}
	if moved := before.movedTo(&before); moved != "" {
		t.Errorf("it moved: %q", moved)
	}
	later.fleet = fleet.Report{NotCopied: map[string]string{"new": "another topic has its name"}}
	if problem := later.find(nil); !strings.Contains(problem, "topic new is not copied: another topic has its name") {
		t.Errorf("the problem is %q", problem)
	}
}
