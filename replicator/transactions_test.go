package replicator_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// A target with a short transaction.max.timeout.ms refuses milena's timeout. A shorter one is learned from the refusal.
func TestTransactionTimeoutIsLearned(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 2)
	c.Source.Produce("orders", 2, 100, "one")
	c.Target.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.InvalidTransactionTimeout, Count: -1,
		When: func(r kmsg.Request) bool { return r.(*kmsg.InitProducerIDRequest).TransactionTimeoutMillis > 60_000 },
	})
	flow := c.Start()
	flow.UntilCopied("orders")
	c.Verify("orders", "a.orders", 2)
}
