package replicator_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// A transaction that does not end holds up its partition. The status names its producer and its first offset, which is what ends it by hand, until it ends.
func TestStatusNamesTheOpenTransaction(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 2)
	c.Source.Produce("orders", 2, 10, "before")
	flow := c.Start(func(f *config.Flow) { f.Isolation = config.ReadCommitted })
	flow.UntilCopied("orders")
	transactions := c.Source.Transactions("hanging")
	transactions.Begin()
	transactions.Write(&kgo.Record{Topic: "orders", Partition: 1, Value: []byte("open")})

	flow.Until("the status names the transaction", func(s replicator.Status) bool {
		for _, p := range replicatortest.Partitions(s, "orders") {
			switch o := p.OpenTransaction; {
			case p.Partition == 0 && o != nil:
				t.Fatalf("a partition without a transaction has %+v", o)
			case p.Partition == 1 && o != nil && o.ProducerID != nil:
				if *o.StartOffset != 10 || *o.ProducerID < 0 || *o.ProducerEpoch < 0 || o.Since.IsZero() {
					t.Fatalf("%+v", o)
				}
				return true
			}
		}
		return false
	})
	transactions.End(kgo.TryAbort)
	flow.Until("the status forgets the transaction", func(s replicator.Status) bool {
		return replicatortest.Partitions(s, "orders")[1].OpenTransaction == nil
	})
}
