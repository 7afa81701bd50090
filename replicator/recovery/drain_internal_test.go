package recovery

import (
	"context"
	"strings"
	"testing"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/fleet"
	"github.com/milena-kafka/milena/replicator/replicatortest"
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

// A step that looks four times a second reads the journal once each time, and a topic that has come since the last look is not overlooked.
func TestLooksReadTheJournalOnce(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.CreateTopic("bills", 1)
	reads, topics := 0, []string{"orders"}
	at := int64(0)
	looks := newLooker(c.AsCommand(), c.Source.Client)
	looks.read = func(context.Context, client.Clusters) (r fleet.Report, err error) {
		reads++
		for _, topic := range topics {
			r.Partitions = append(r.Partitions, fleet.Partition{Topic: topic, Listed: true, Journaled: &at, LagRecords: &at})
		}
		return r, nil
	}
	for i := range 5 {
		if d, err := looks.look(t.Context()); err != nil || d.problem != "" || reads != i+2 { // the first one has to know the topics
			t.Fatalf("%d reads after %d looks: %v, %+v", reads, i+1, err, d)
		}
	}
	topics = append(topics, "bills")
	if d, err := looks.look(t.Context()); err != nil || !strings.Contains(d.problem, "the end of bills-0 is not known") {
		t.Errorf("a topic has come: %v, %+v", err, d)
	}
	if d, err := looks.look(t.Context()); err != nil || d.problem != "" || len(d.ends) != 2 {
		t.Errorf("%v, %+v", err, d)
	}
	topics = append(topics, "gone")
	if _, err := looks.look(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := looks.look(t.Context()); err == nil {
		t.Error("a topic that does not exist has an end")
	}
	topics = topics[:1]
	if d, err := looks.look(t.Context()); err != nil || len(d.ends) != 1 {
		t.Errorf("after an error: %v, %+v", err, d)
	}
}
