package fleet

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/control"
)

// A halt has what ended it: a decision or a retry, or that the copy has passed it. What nothing has ended is halted.
func TestLedgerSaysHowHaltsEnded(t *testing.T) {
	t.Parallel()
	at := func(minute int) time.Time { return time.Date(2026, time.March, 1, 12, minute, 0, 0, time.UTC) }
	gap := func(minute int, kind, action string, from, to int64) offsets.Gap {
		return offsets.Gap{Kind: kind, Action: action, From: from, To: to, At: at(minute), Detail: "d"}
	}
	for name, test := range map[string]struct {
		end  int64
		gaps []offsets.Gap
		want []string // kind, action, halted, how and when it was repaired
	}{
		"halted":           {20, []offsets.Gap{gap(0, "retention_gap", "halt", 20, 30)}, []string{"retention_gap halt true  -"}},
		"passed":           {30, []offsets.Gap{gap(0, "retention_gap", "halt", 20, 30)}, []string{"retention_gap halt false passed -"}},
		"skipped":          {30, []offsets.Gap{gap(0, "retention_gap", "halt", 20, 30), gap(5, "retention_gap", "skip", 20, 30)}, []string{"retention_gap halt false skip 12:05"}},
		"retried":          {40, []offsets.Gap{gap(0, "record_too_large", "halt", 20, 21), gap(5, "record_too_large", "retry", 20, 21)}, []string{"record_too_large halt false retry 12:05"}},
		"policy continues": {40, []offsets.Gap{gap(0, "retention_gap", "skip", 20, 30)}, []string{"retention_gap skip false  -"}},
		"halted again": {
			25,
			[]offsets.Gap{gap(0, "record_too_large", "halt", 20, 21), gap(5, "record_too_large", "halt", 25, 26)},
			[]string{"record_too_large halt false halt 12:05", "record_too_large halt true  -"},
		},
		"restarted": {
			0,
			[]offsets.Gap{gap(0, "target_recreated", "halt", 20, 20), gap(5, "restarted", "restart", 0, 20)},
			[]string{"target_recreated halt false restart 12:05", "restarted restart false  -"},
		},
	} {
		list := ledgerOf(&offsets.PartitionState{Topic: "orders", End: offsets.Pair{Source: test.end}, Gaps: test.gaps})
		var got []string
		for _, e := range list {
			repaired := "-"
			if a := e.Anomaly; !a.Repaired.IsZero() {
				repaired = a.Repaired.Format("15:04")
			}
			got = append(got, fmt.Sprintf("%s %s %v %s %s", e.Anomaly.Kind, e.Anomaly.Action, e.Anomaly.Halted, e.Anomaly.RepairedBy, repaired))
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

func TestHistoryFilter(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	entries := func() []HistoryEntry {
		return []HistoryEntry{
			{When: noon.Add(3 * time.Minute), Kind: "takeover", Event: &control.Event{ID: "event"}},
			{When: noon.Add(time.Minute), Last: noon.Add(time.Hour), Kind: KindAnomaly, Anomaly: &PastAnomaly{Topic: "orders", Detail: "anomaly"}},
			{When: noon, Kind: KindDecision, Decision: &control.Decision{ID: "flow", Scope: control.Scope{Kind: control.Flow}}},
			{When: noon.Add(2 * time.Minute), Kind: KindDecision, Decision: &control.Decision{ID: "bills", Scope: control.OfTopic("bills")}},
		}
	}
	for name, test := range map[string]struct {
		filter HistoryFilter
		want   string
	}{
		"all":   {HistoryFilter{}, "[flow anomaly bills event]"},
		"topic": {HistoryFilter{Topic: "orders"}, "[flow anomaly]"},
		"kinds": {HistoryFilter{Kinds: []string{"takeover", KindAnomaly}}, "[anomaly event]"},
		"last":  {HistoryFilter{Last: 2}, "[bills event]"},
		"since": {HistoryFilter{Since: noon.Add(30 * time.Minute)}, "[anomaly]"},
	} {
		var got []string
		for _, e := range test.filter.of(entries()) {
			switch {
			case e.Decision != nil:
				got = append(got, e.Decision.ID)
			case e.Event != nil:
				got = append(got, e.Event.ID)
			default:
				got = append(got, e.Anomaly.Detail)
			}
		}
		if fmt.Sprint(got) != test.want {
			t.Errorf("%s: %v, want %s", name, got, test.want)
		}
	}
}
