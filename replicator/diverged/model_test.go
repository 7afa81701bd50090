package diverged_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// Whatever log cleaners and retention have removed on both sides, and whatever producers wrote on the target: no record that was copied is ever listed as certainly not
// there, and every record that was not copied is listed, or in the doubt.
func TestNoCopiedRecordIsListedAndNoOtherIsMissed(t *testing.T) {
	for seed := range uint64(16) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 1))
			change, copied := func(*config.Flow) {}, "a.orders"
			if random.IntN(2) == 0 {
				change, copied = identity, "orders"
			}
			s := begin(t, 1, []string{"cleanup.policy", "compact,delete"}, change)
			s.kill(func() { writeAtRandom(s.Source, random, "orders", 1+random.IntN(60)) })
			end, journaled := s.Source.EndOffsets("orders")[0], int64(10)
			for range 1 + random.IntN(6) {
				switch random.IntN(6) {
				case 0:
					s.Source.Compact()
				case 1:
					s.Target.Compact()
				case 2:
					deleteRecords(t, s.Source, "orders", journaled+random.Int64N(end-journaled+10))
				case 3:
					deleteRecords(t, s.Target, copied, random.Int64N(s.Target.EndOffsets(copied)[0]+1))
				case 4:
					writeAtRandom(s.Source, random, "orders", 10+random.IntN(20))
				case 5:
					if copied == "orders" {
						writeAtRandom(s.Target, random, copied, 1+random.IntN(30))
					}
				}
			}
			writeAtRandom(s.Source, random, "orders", 1) // a log that ends with a hole cannot be read to its end by the test
			r := s.list()
			p := r.Partitions[0]
			if p.Records == nil {
				t.Fatalf("not counted: %s", text(p))
			}
			begins := p.From
			if p.Doubt != nil {
				begins = p.Doubt.From
			}
			listed := int64(0)
			for _, record := range s.Source.Records("orders", 1)[0] {
				if record.Offset >= p.From {
					listed++
				}
				switch {
				case record.Offset < end && record.Offset >= p.From:
					t.Errorf("offset %d was copied, up to %d, and is listed: %s", record.Offset, end, text(p))
				case record.Offset >= end && record.Offset < begins:
					t.Errorf("offset %d was not copied, from %d on, and is missed: %s", record.Offset, end, text(p))
				}
			}
			if listed != *p.Records {
				t.Errorf("%d records are listed, and there are %d: %s", *p.Records, listed, text(p))
			}
			t.Logf("%s; copied up to %d", text(p), end)
		})
	}
}

// writeAtRandom writes records with few keys, in batches of some.
func writeAtRandom(c *replicatortest.Cluster, random *rand.Rand, topic string, n int) {
	for n > 0 {
		var batch []*kgo.Record
		for range min(n, 1+random.IntN(8)) {
			batch = append(batch, &kgo.Record{Topic: topic, Key: fmt.Append(nil, random.IntN(12)), Value: fmt.Append(nil, random.Uint64())})
		}
		c.Write(batch...)
		n -= len(batch)
	}
}

// deleteRecords deletes what a log has before an offset, as far as it has anything there.
func deleteRecords(t *testing.T, c *replicatortest.Cluster, topic string, before int64) {
	t.Helper()
	starts, err := c.Admin.ListStartOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	start, _ := starts.Lookup(topic, 0)
	if before = min(before, c.EndOffsets(topic)[0]); before > start.Offset {
		c.DeleteRecords(topic, 0, before)
	}
}
