package mm2_test

import (
	"testing"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/match"
	"github.com/milena-kafka/milena/replicator/mm2"
)

// Each row is a copy as MirrorMaker 2 may leave it.
func TestDecide(t *testing.T) {
	c := mm2.Copy{Source: offsets.TopicPartition{Topic: "orders", Partition: 1}, Target: offsets.TopicPartition{Topic: "a.orders", Partition: 1}}
	matched := match.Result{Segments: []offsets.Segment{{Source: 20, Target: 10, Count: 5}, {Source: 30, Target: 15, Count: 5}}}
	for _, test := range []struct {
		name  string
		found mm2.Findings
		begin offsets.Pair
		next  int64
		kind  policy.Kind // empty: no anomaly
		halts bool
	}{
		{
			name:  "records match from an offset-sync on",
			found: mm2.Findings{Result: matched, Next: 35, Proven: true, Records: 10, MapFrom: 20, ConnectorOffset: 33, End: offsets.Pair{Source: 50, Target: 21}, From: offsets.Pair{Source: 20, Target: 10}},
			begin: offsets.Pair{Source: 20, Target: 10}, next: 35,
		},
		{
			name:  "records match, and the first ones of the copy are gone",
			found: mm2.Findings{Result: matched, Next: 35, Proven: true, Records: 10, MapFrom: 18, ConnectorOffset: -1, End: offsets.Pair{Source: 50, Target: 21}, From: offsets.Pair{Target: 8}},
			begin: offsets.Pair{Source: 18, Target: 8}, next: 35,
		},
		{
			name:  "the last records are gone from the copy, and only the connector offset shows that they were copied",
			found: mm2.Findings{Result: matched, Next: 35, Proven: true, Records: 10, MapFrom: 20, ConnectorOffset: 38, OffsetHolds: true, End: offsets.Pair{Source: 50, Target: 25}, From: offsets.Pair{Target: 10}},
			begin: offsets.Pair{Source: 20, Target: 10}, next: 38,
		},
		{
			name:  "the connector offset contradicts the copy",
			found: mm2.Findings{Result: matched, Next: 35, Proven: true, Records: 10, MapFrom: 20, ConnectorOffset: 48, End: offsets.Pair{Source: 50, Target: 21}, From: offsets.Pair{Target: 10}},
			begin: offsets.Pair{Source: 20, Target: 10}, next: 35,
		},
		{
			name:  "retention has emptied the copy",
			found: mm2.Findings{Next: -1, Proven: true, FirstSource: 50, ConnectorOffset: 40, Start: offsets.Pair{Source: 5, Target: 30}, End: offsets.Pair{Source: 50, Target: 31}},
			begin: offsets.Pair{Source: 40, Target: 31}, next: 40,
		},
		{
			name:  "the source has nothing below the connector offset",
			found: mm2.Findings{Next: -1, Proven: true, Records: 3, FirstSource: 41, ConnectorOffset: 40, Start: offsets.Pair{Source: 40}, End: offsets.Pair{Source: 50, Target: 4}},
			begin: offsets.Pair{Source: 40, Target: 4}, next: 40,
		},
		{
			name:  "the end of the copy was not found within the window",
			found: mm2.Findings{Result: matched, Next: 35, Proven: true, Uncertain: 1, Records: 11, ConnectorOffset: -1, End: offsets.Pair{Source: 50}},
			kind:  policy.TargetNotEmpty, halts: true,
		},
		{
			name:  "the last match is a guess beyond the connector offset",
			found: mm2.Findings{Result: matched, Next: 35, Records: 10, ConnectorOffset: 30, End: offsets.Pair{Source: 50}},
			kind:  policy.TargetNotEmpty, halts: true,
		},
		{
			name:  "the source ends before the connector offset",
			found: mm2.Findings{Next: -1, Proven: true, Records: 2, ConnectorOffset: 40, End: offsets.Pair{Source: 10, Target: 3}},
			kind:  policy.Recreated,
		},
		{
			name:  "the copy never had a record",
			found: mm2.Findings{Next: -1, Proven: true, ConnectorOffset: 40, Start: offsets.Pair{Source: 5}, End: offsets.Pair{Source: 50, Target: 1}},
			kind:  policy.TargetRecreated,
		},
		{
			name:  "the copy has other records",
			found: mm2.Findings{Next: -1, Proven: true, Records: 2, ConnectorOffset: 40, End: offsets.Pair{Source: 50, Target: 3}},
			kind:  policy.TargetNotEmpty,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := mm2.Decide(c, &test.found)
			if v.Untouched {
				t.Fatal("untouched")
			}
			if test.kind == "" {
				if v.Anomaly != nil || v.Begin != test.begin || v.Next != test.next {
					t.Fatalf("begin %+v, next %d, anomaly %+v; want begin %+v, next %d", v.Begin, v.Next, v.Anomaly, test.begin, test.next)
				}
				return
			}
			if v.Anomaly == nil || v.Anomaly.Kind != test.kind || v.Anomaly.Halts != test.halts || v.Anomaly.Detail == "" {
				t.Fatalf("anomaly %+v, want %s", v.Anomaly, test.kind)
			}
			if _, ok := v.Anomaly.Begin(policy.Halt, &test.found); ok {
				t.Error("it begins although policy halts it")
			}
			if begin, ok := v.Anomaly.Begin(policy.Restart, &test.found); ok == test.halts || ok && (begin.Source != test.found.Start.Source || begin.Target != test.found.End.Target) {
				t.Errorf("a restart begins at %+v, %v", begin, ok)
			}
		})
	}
	if v := mm2.Decide(c, &mm2.Findings{Next: -1, Proven: true, ConnectorOffset: -1, End: offsets.Pair{Source: 50, Target: 1}}); !v.Untouched {
		t.Errorf("a partition that MirrorMaker 2 never copied: %+v", v)
	}
}
