package replicator_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// One name on both sides, producers on both sides: each side ends with all records, once each, those of one side in their order.
func TestIdentityBothWaysComesToRestWithProvenance(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.sourceTrap.epochs.guard(p.source) // it is a target as well
	const partitions = 2
	p.createTopic("orders", partitions)
	if _, err := p.targetAdm.CreateTopic(t.Context(), partitions, 1, nil, "orders"); err != nil {
		t.Fatal(err)
	}
	write := func(cl *kgo.Client, side string, round, n int) {
		t.Helper()
		var records []*kgo.Record
		for i := range n {
			for part := range int32(partitions) {
				records = append(records, &kgo.Record{Topic: "orders", Partition: part, Value: fmt.Appendf(nil, "%s-%03d-%03d", side, round, i)})
			}
		}
		if err := cl.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	identity := func(f *config.Flow) {
		f.Naming, f.Provenance, f.Topics = config.NamingIdentity, true, []string{"orders"}
	}
	const rounds, n = 6, 20
	var flows []*running
	for round := range rounds {
		write(p.sourceCl, "a", round, n)
		write(p.targetCl, "b", round, n)
		switch {
		case round == 0, round%3 == 0: // they are started again in between
			for _, r := range flows {
				if err := r.stopped(); err != nil {
					t.Fatal(err)
				}
			}
			flows = []*running{p.start(identity), p.startBack(identity)}
		case round%3 == 2: // a take-over in the middle; of two that start at once the last one to fence would win
			flows[0].until("it owns what is taken over", func(s replicator.Status) bool { return s.Ready })
			flows[0] = p.start(identity)
		}
	}
	check := func(cl *kgo.Client, c *kfake.Cluster) (missing string) {
		for part, list := range p.records(cl, c, "orders", partitions) {
			seen := map[string]int{}
			last := map[string]string{}
			for _, r := range list {
				value := string(r.Value)
				side, _, _ := strings.Cut(value, "-")
				seen[value]++
				if seen[value] > 1 {
					t.Fatalf("%s stands twice in partition %d", value, part)
				}
				if value < last[side] {
					t.Fatalf("%s stands behind %s in partition %d", value, last[side], part)
				}
				last[side] = value
				if hops := len(r.Headers); hops > 1 || hops == 1 && r.Headers[0].Key != recordbatch.HopHeader {
					t.Fatalf("%s has the headers %v", value, r.Headers)
				}
			}
			if len(seen) != 2*rounds*n {
				missing = fmt.Sprintf("partition %d has %d records of %d", part, len(seen), 2*rounds*n)
			}
		}
		return missing
	}
	eventually(t, "both sides have everything", func() (bool, string) {
		state := check(p.sourceCl, p.source) + check(p.targetCl, p.target)
		return state == "", state
	})
	// Whatever circulated would move on: both flows read to their ends, and those are where they were.
	ends := func() string {
		return fmt.Sprint(len(p.records(p.sourceCl, p.source, "orders", partitions)[0]), len(p.records(p.targetCl, p.target, "orders", partitions)[0]))
	}
	before := ends()
	for _, r := range flows {
		r.until("nothing is left to read", func(s replicator.Status) bool { return s.Ready && s.LagRecords == 0 })
	}
	timer := time.NewTimer(200 * time.Millisecond)
	<-timer.C
	if after := ends(); after != before {
		t.Errorf("records circulate: %s, then %s", before, after)
	}
	for _, r := range flows {
		if s := r.flow.Status(); len(s.NotReady) > 0 || s.Partitions[0].Anomaly != nil {
			t.Errorf("%+v", s)
		}
	}
}
