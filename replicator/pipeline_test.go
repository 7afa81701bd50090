package replicator_test

import (
	"fmt"
	"testing"

	"github.com/milena-kafka/milena/replicator/replicatortest"
)

func TestTopicIsCopiedAndFollowed(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 3)
	c.Source.Produce("orders", 3, 100, "before")
	flow := c.Start()
	flow.UntilAcked("orders", 300)
	c.Source.Produce("orders", 3, 100, "after")
	flow.UntilAcked("orders", 600)
	c.Source.CreateTopic("late", 2)
	c.Source.Produce("late", 2, 50, "late")
	flow.UntilAcked("late", 100)
	flow.Stop()
	c.Verify("orders", "a.orders", 3)
	c.Verify("late", "a.late", 2)
}

func TestRestartContinuesWhereItStopped(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 5)
	for round := range 3 {
		c.Source.Produce("orders", 5, 40, fmt.Sprint(round))
		flow := c.Start()
		flow.UntilAcked("orders", int64(200*(round+1)))
		flow.Stop()
	}
	c.Verify("orders", "a.orders", 5)
}
