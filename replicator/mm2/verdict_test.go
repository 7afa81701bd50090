package mm2_test

import (
	"testing"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/match"
	"github.com/milena-kafka/milena/replicator/mm2"
)

// Decide is pure, so every case of a copy that MirrorMaker 2 may leave is a row.
func TestDecide(t *testing.T) {
	c := mm2.Copy{Source: offsets.TopicPartition{Topic: "orders", Partition: 1}, Target: offsets.TopicPartition{Topic: "a.orders", Partition: 1}}
	matched := match.Result{Segments: []offsets.Segment{{Source: 20, Target: 10, Count: 5}, {Source: 30, Target: 15, Count: 5}}}
	for _, test := range []struct {
		name  string
		found mm2.Findings
		begin offsets.Position
		next  int64
		kind  policy.Kind // empty: no anomaly
		halts bool
	}{
		{
			name:  "records match from an offset-sync on",
			found: mm2.Findings{Result: matched, Next: 35, Proven: true, Records: 10, SourceEnd: 50, TargetEnd: 21, SourceFrom: 20, TargetFrom: 10, MapFrom: 20, ConnectorOffset: 33},
			begin: offsets.Position{Source: 20, Target: 10}, next: 35,
		},
		{
			name:  "records match, and the first ones before them are gone",
			found: mm2.Findings{Result: matched, Next: 35, Proven: true, Records: 10, SourceEnd: 50, TargetEnd: 21, TargetFrom: 8, MapFrom: 18, ConnectorOffset: -1},
			begin: offsets.Position{Source: 18, Target: 8}, next: 35,
		},
		{
			name:  "the last records are gone from the copy, and only the connector offset knows of them",
			found: mm2.Findings{Result: matched, Next: 35, Proven: true, Records: 10, SourceEnd: 50, TargetEnd: 25, MapFrom: 20, TargetFrom: 10, ConnectorOffset: 38, OffsetHolds: true},
			begin: offsets.Position{Source: 20, Target: 10}, next: 38,
		},
		{
			name:  "the connector offset contradicts the copy",
			found: mm2.Findings{Result: matched, Next: 35, Proven: true, Records: 10, SourceEnd: 50, TargetEnd: 21, MapFrom: 20, TargetFrom: 10, ConnectorOffset: 48},
			begin: offsets.Position{Source: 20, Target: 10}, next: 35,
		},
		{
			name:  "the copy is empty by retention",
			found: mm2.Findings{Next: -1, Proven: true, SourceStart: 5, SourceEnd: 50, FirstSource: 50, TargetStart: 30, TargetEnd: 31, ConnectorOffset: 40},
			begin: offsets.Position{Source: 40, Target: 31}, next: 40,
		},
		{
			name:  "the source has nothing below the connector offset",
			found: mm2.Findings{Next: -1, Proven: true, Records: 3, SourceStart: 40, SourceEnd: 50, FirstSource: 41, TargetEnd: 4, ConnectorOffset: 40},
			begin: offsets.Position{Source: 40, Target: 4}, next: 40,
		},
		{
			name:  "the end of the copy was not found within the window",
			found: mm2.Findings{Result: matched, Next: 35, Proven: true, Uncertain: 1, Records: 11, SourceEnd: 50, ConnectorOffset: -1},
			kind:  policy.TargetNotEmpty, halts: true,
		},
		{
			name:  "the last match is a guess beyond the connector offset",
			found: mm2.Findings{Result: matched, Next: 35, Records: 10, SourceEnd: 50, ConnectorOffset: 30},
			kind:  policy.TargetNotEmpty, halts: true,
		},
		{
			name:  "the source ends before the connector offset",
			found: mm2.Findings{Next: -1, Proven: true, Records: 2, SourceEnd: 10, TargetEnd: 3, ConnectorOffset: 40},
			kind:  policy.Recreated,
		},
		{
			name:  "the copy is empty and always was",
			found: mm2.Findings{Next: -1, Proven: true, SourceStart: 5, SourceEnd: 50, TargetEnd: 1, ConnectorOffset: 40},
			kind:  policy.TargetRecreated,
		},
		{
			name:  "the copy has other records",
			found: mm2.Findings{Next: -1, Proven: true, Records: 2, SourceEnd: 50, TargetEnd: 3, ConnectorOffset: 40},
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
			if begin, ok := v.Anomaly.Begin(policy.Restart, &test.found); ok == test.halts || ok && (begin.Source != test.found.SourceStart || begin.Target != test.found.TargetEnd) {
				t.Errorf("a restart begins at %+v, %v", begin, ok)
			}
		})
	}
	if v := mm2.Decide(c, &mm2.Findings{Next: -1, Proven: true, SourceEnd: 50, TargetEnd: 1, ConnectorOffset: -1}); !v.Untouched {
		t.Errorf("a partition that MirrorMaker 2 never copied: %+v", v)
	}
}
