package verify_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/verify"
)

// The verifier finds each kind of damage in a copy, and no difference in an undamaged one.
func TestEveryKindOfDifferenceIsFound(t *testing.T) {
	original := func() []*kgo.Record {
		var records []*kgo.Record
		for i := range 50 {
			records = append(records, &kgo.Record{
				Topic: "t", Key: fmt.Appendf(nil, "k%d", i), Value: fmt.Appendf(nil, "v%d", i), Timestamp: time.UnixMilli(1700000000000 + int64(i)),
				Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("x")}, {Key: "h", Value: nil}},
			})
		}
		records[7].Value, records[8].Value, records[9].Key = nil, []byte{}, nil
		return records
	}
	for _, tt := range []struct {
		name   string
		damage func([]*kgo.Record) []*kgo.Record
		want   string
	}{
		{"equal sides", func(r []*kgo.Record) []*kgo.Record { return r }, ""},
		{"a missing record", func(r []*kgo.Record) []*kgo.Record { return slices.Delete(r, 20, 21) }, "1 records are missing, from source offset 20"},
		{"a missing tail", func(r []*kgo.Record) []*kgo.Record { return r[:40] }, "missing at the target's end"},
		{"a duplicate", func(r []*kgo.Record) []*kgo.Record { return slices.Insert(r, 30, r[28]) }, "repeats source offset 28"},
		{"a duplicate of the last record", func(r []*kgo.Record) []*kgo.Record { return append(r, r[49]) }, "repeats source offset 49"},
		{"two swapped records", func(r []*kgo.Record) []*kgo.Record { r[5], r[6] = r[6], r[5]; return r }, "the keys differ"},
		{"another value", func(r []*kgo.Record) []*kgo.Record { r[3].Value = []byte("v4"); return r }, "the values differ"},
		{"empty instead of null", func(r []*kgo.Record) []*kgo.Record { r[7].Value = []byte{}; return r }, "the values differ"},
		{"null instead of empty", func(r []*kgo.Record) []*kgo.Record { r[8].Value = nil; return r }, "the values differ"},
		{"an empty key instead of null", func(r []*kgo.Record) []*kgo.Record { r[9].Key = []byte{}; return r }, "the keys differ"},
		{"an empty header instead of null", func(r []*kgo.Record) []*kgo.Record { r[2].Headers[1].Value = []byte{}; return r }, "header 1 differs"},
		{"a missing header", func(r []*kgo.Record) []*kgo.Record { r[2].Headers = r[2].Headers[:1]; return r }, "headers differ in number"},
		{"a timestamp that is one millisecond later", func(r []*kgo.Record) []*kgo.Record {
			r[2].Timestamp = r[2].Timestamp.Add(time.Millisecond)
			return r
		}, "the timestamps differ"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			source, target := fake(t, original()), fake(t, tt.damage(original()))
			report, err := verify.Run(t.Context(), source, target, verify.Options{Topics: []string{"t"}})
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(report.Differences, "\n")
			if tt.want == "" {
				if got != "" || report.Records != 50 {
					t.Fatalf("%d records, differences:\n%s", report.Records, got)
				}
			} else if !strings.Contains(got, tt.want) {
				t.Fatalf("want %q in:\n%s", tt.want, got)
			}
		})
	}
}

// fake is a client of a fake cluster whose topic t holds these records.
func fake(t *testing.T, records []*kgo.Record) *kgo.Client {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.SeedTopics(1, "t"), kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	for _, r := range records {
		again := *r
		if err := client.ProduceSync(t.Context(), &again).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	return client
}
