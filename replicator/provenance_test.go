package replicator_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// One topic name and producers on both sides: each side ends with all records, none duplicated, those of one side in order.
func TestRecordsDoNotCirculateWithProvenance(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	const partitions = 2
	c.Source.CreateTopic("orders", partitions)
	c.Target.CreateTopic("orders", partitions)
	write := func(cluster *replicatortest.Cluster, side string, round, n int) {
		t.Helper()
		var records []*kgo.Record
		for i := range n {
			for part := range int32(partitions) {
				records = append(records, &kgo.Record{Topic: "orders", Partition: part, Value: fmt.Appendf(nil, "%s-%03d-%03d", side, round, i)})
			}
		}
		cluster.Write(records...)
	}
	identity := func(f *config.Flow) {
		f.Naming, f.Provenance, f.Topics = config.NamingIdentity, true, []string{"orders"}
		replicatortest.OneInstance(f)
	}
	const rounds, n = 6, 20
	var flows []*replicatortest.Flow
	for round := range rounds {
		write(c.Source, "a", round, n)
		write(c.Target, "b", round, n)
		switch round % 3 {
		case 0: // a restart of both
			for _, flow := range flows {
				flow.Stop()
			}
			flows = []*replicatortest.Flow{c.Start(identity), c.StartReverse(identity)}
		case 2: // a takeover in the middle; of two instances that start at once, the last one to fence would win
			flows[0].UntilReady()
			flows[0] = c.Start(identity)
		}
	}
	check := func(cluster *replicatortest.Cluster, want int) (missing string) {
		for part, list := range cluster.Records("orders", partitions) {
			seen := map[string]int{}
			last := map[string]string{}
			for _, r := range list {
				value := string(r.Value)
				side, _, _ := strings.Cut(value, "-")
				seen[value]++
				if seen[value] > 1 {
					t.Fatalf("%s is duplicated in partition %d", value, part)
				}
				if value < last[side] {
					t.Fatalf("%s is behind %s in partition %d", value, last[side], part)
				}
				last[side] = value
				if hops := len(r.Headers); hops > 1 || hops == 1 && r.Headers[0].Key != recordbatch.HopHeader {
					t.Fatalf("%s has the headers %v", value, r.Headers)
				}
			}
			if len(seen) != want {
				missing = fmt.Sprintf("partition %d has %d records of %d", part, len(seen), want)
			}
		}
		return missing
	}
	replicatortest.Eventually(t, "both sides have everything", func() (bool, string) {
		state := check(c.Source, 2*rounds*n) + check(c.Target, 2*rounds*n)
		return state == "", state
	})
	// Records that circulate would be copied before these, which are written last, and would be duplicates.
	write(c.Source, "a", rounds, 1)
	write(c.Target, "b", rounds, 1)
	replicatortest.Eventually(t, "both sides have the last records, and no duplicates", func() (bool, string) {
		state := check(c.Source, 2*rounds*n+2) + check(c.Target, 2*rounds*n+2)
		return state == "", state
	})
	for _, flow := range flows {
		flow.UntilReady()
		flow.UntilPartitions("nothing is left to read", "orders", partitions, func(p replicator.PartitionStatus) bool {
			return p.LagRecords != nil && *p.LagRecords == 0
		})
		s := flow.Status()
		if len(s.NotReady) > 0 || slices.ContainsFunc(s.Partitions, func(p replicator.PartitionStatus) bool { return p.Anomaly != nil }) {
			t.Errorf("%+v", s)
		}
	}
}
