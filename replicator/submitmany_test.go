package replicator_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/milena-kafka/milena/replicator"
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

// All of what holds is written into the next control topic at once: a restart in between would overlook the rest.
func TestManyDecisionsOutliveTheTopic(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	var list []control.Decision
	for n := range int32(3000) {
		list = append(list, replicatortest.NewDecision(control.Pause, replicatortest.TP("orders", n)))
	}
	c.SubmitWithin(0, list...)
	f := c.Start()
	f.Until("the pauses are known", func(s replicator.Status) bool { return len(s.Control.InForce) > 0 && s.Ready })
	c.Target.DeleteTopic(control.TopicName("a-b"))
	replicatortest.Eventually(t, "all of them are in the next topic", func() (bool, string) {
		n := len(c.ControlState().InForce(time.Now()))
		return n == len(list), fmt.Sprint(n)
	})
}
