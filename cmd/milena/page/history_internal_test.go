package page

import (
	"encoding/json"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator"
)

func ptr[T any](v T) *T { return &v }

// copying is a flow that copied 500 records of 10 bytes in each step up to a slot, each within 10 ms.
func copying(slot, from int64, now time.Time) []replicator.Status {
	batches := uint64(slot-from) * 100
	s := replicator.Status{
		Flow: "a-b", Records: 500 * (slot - from), Bytes: 5000 * (slot - from), LagRecords: ptr(slot - from),
		Latency:    replicator.Latencies{Bounds: []float64{0.005, 0.01, 1}, Counts: []uint64{0, batches, batches}, Total: batches},
		Partitions: []replicator.PartitionStatus{{Topic: "t", LagSeconds: ptr(0.5)}, {Topic: "t", Partition: 1, LagSeconds: ptr(2.25)}, {Topic: "t", Partition: 2}},
	}
	s.RPO.Add(offsets.Behind{Topic: "t", Acked: 1, SourceEnd: 1, Seen: now, Complete: now.Add(-1500 * time.Millisecond)})
	return []replicator.Status{s}
}

// fill adds the columns of the slots from one on, up to another, which is left out.
func fill(h *history, from, to int64) {
	for slot := from; slot < to; slot++ {
		now := time.Unix(5*slot, 0)
		h.add(copying(slot, from, now), slot, now)
	}
}

// value is a value of the last column but some.
func value(s series, back int) float64 { return s[len(s)-1-back] }

// A column has rates since the column before, and what the status said.
func TestHistoryColumns(t *testing.T) {
	h := newHistory()
	fill(h, 1000, 1010)
	v := h.of("a-b", time.Unix(5*1009, 0))
	if len(v.T) != columns || v.Step != 5 || v.T[columns-1] != 5*1009 || v.T[0] != 5*(1009-columns+1) {
		t.Fatalf("%d columns of %d s up to %d", len(v.T), v.Step, v.T[len(v.T)-1])
	}
	for name, want := range map[string]struct {
		of   series
		want float64
	}{
		"bytes": {v.Bytes, 1000}, "records": {v.Records, 100}, "lag in records": {v.LagRecords, 9}, "lag of the slowest": {v.LagSeconds, 2.25},
		"half of the batches": {v.LatencyP50, 0.008}, "nearly all of them": {v.LatencyP99, 0.01}, "rpo": {v.RPOSeconds, 1.5},
	} {
		if got := value(want.of, 0); got != want.want {
			t.Errorf("%s: %v, want %v", name, got, want.want)
		}
	}
	if !math.IsNaN(value(v.Bytes, 9)) || value(v.LagRecords, 9) != 0 {
		t.Errorf("the first column has a rate of %v and a lag of %v: one reading is no rate", value(v.Bytes, 9), value(v.LagRecords, 9))
	}
	if !math.IsNaN(value(v.LagRecords, 10)) {
		t.Errorf("the lag before the start is %v", value(v.LagRecords, 10))
	}
}

// The ring keeps the last hour.
func TestHistoryWraps(t *testing.T) {
	h := newHistory()
	last := int64(1000 + 2*columns + 7)
	fill(h, 1000, last+1)
	v := h.of("a-b", time.Unix(5*last, 0))
	for i := range columns {
		slot := last - columns + 1 + int64(i)
		if v.T[i] != 5*slot || v.LagRecords[i] != float64(slot-1000) || v.Records[i] != 100 {
			t.Fatalf("column %d is of %d with lag %v and %v records/s", i, v.T[i], v.LagRecords[i], v.Records[i])
		}
	}
}

// Time in which the process did not run, or could not look, is not known: it is neither 0 nor the mean of a longer time.
func TestHistoryGaps(t *testing.T) {
	h := newHistory()
	fill(h, 1000, 1010)
	now := time.Unix(5*1015, 0)
	h.add(copying(1015, 1000, now), 1015, now)
	v := h.of("a-b", now)
	for back := range 6 {
		if !math.IsNaN(value(v.Bytes, back)) {
			t.Errorf("%d columns ago: %v bytes/s over a gap", back, value(v.Bytes, back))
		}
	}
	if value(v.LagRecords, 0) != 15 || !math.IsNaN(value(v.LagRecords, 1)) || !math.IsNaN(value(v.LagRecords, 5)) || value(v.LagRecords, 6) != 9 {
		t.Errorf("lags %v", v.LagRecords[len(v.LagRecords)-8:])
	}
	text, err := json.Marshal(v)
	if err != nil || !strings.Contains(string(text), `"lag_records":[null,`) || !strings.Contains(string(text), `8,9,null,null,null,null,null,15]`) {
		t.Errorf("%v %s", err, text)
	}
	// A day later nothing of the last hour is known, and nothing of the day before shows up in it.
	late := time.Unix(5*1015, 0).Add(24 * time.Hour)
	for _, lag := range h.of("a-b", late).LagRecords {
		if !math.IsNaN(lag) {
			t.Fatalf("lag %v a day later", lag)
		}
	}
	h.add(copying(slotOf(late), slotOf(late)-3, late), slotOf(late), late)
	if v := h.of("a-b", late); value(v.LagRecords, 0) != 3 || !math.IsNaN(value(v.LagRecords, 1)) {
		t.Errorf("lags %v", v.LagRecords[len(v.LagRecords)-3:])
	}
}

// A flow that begins anew counts from 0, which is no negative rate. A lag that is not known is null. A flow that is gone has no history.
func TestHistoryOfAFlowThatBeginsAnew(t *testing.T) {
	h := newHistory()
	fill(h, 1000, 1010)
	now := time.Unix(5*1010, 0)
	h.add([]replicator.Status{{Flow: "a-b"}}, 1010, now)
	v := h.of("a-b", now)
	if !math.IsNaN(value(v.Bytes, 0)) || !math.IsNaN(value(v.LagRecords, 0)) || !math.IsNaN(value(v.RPOSeconds, 0)) || !math.IsNaN(value(v.LatencyP99, 0)) {
		t.Errorf("%v, %v, %v", value(v.Bytes, 0), value(v.LagRecords, 0), value(v.RPOSeconds, 0))
	}
	h.add([]replicator.Status{{Flow: "b-a"}}, 1011, now)
	if h.of("a-b", now) != nil || h.of("b-a", now) == nil {
		t.Error("the history of a flow that is gone is kept, or there is none of the new one")
	}
}

// The clock may be put back: what is known then begins anew.
func TestHistoryWhenTheClockIsPutBack(t *testing.T) {
	h := newHistory()
	fill(h, 1000, 1010)
	now := time.Unix(5*900, 0)
	h.add(copying(900, 890, now), 900, now)
	v := h.of("a-b", now)
	if value(v.LagRecords, 0) != 10 || !math.IsNaN(value(v.LagRecords, 1)) || v.T[columns-1] != 5*900 {
		t.Errorf("%v at %d", value(v.LagRecords, 0), v.T[columns-1])
	}
}

// The answer names the flows that there are if the query names another one.
func TestHistoryByHTTP(t *testing.T) {
	w := newWorld()
	w.page.pass(time.Now())
	mux := http.NewServeMux()
	w.page.AddTo(mux)
	get := func(path string) *httptest.ResponseRecorder {
		r := httptest.NewRecorder()
		mux.ServeHTTP(r, httptest.NewRequest(http.MethodGet, path, nil))
		return r
	}
	if r := get("/api/v1/history?flow=x"); r.Code != http.StatusNotFound || !strings.Contains(r.Body.String(), "a-b") {
		t.Errorf("%d %s", r.Code, r.Body)
	}
	r := get("/api/v1/history?flow=a-b")
	var v struct {
		T       []int64
		Records []*float64
	}
	if err := json.Unmarshal(r.Body.Bytes(), &v); err != nil || r.Code != http.StatusOK || len(v.T) != columns || len(v.Records) != columns || v.Records[0] != nil {
		t.Errorf("%v, %d, %d columns", err, r.Code, len(v.T))
	}
}

// A quantile lies within its bucket, and is not known if nothing was copied or the slowest batches are beyond the last bound.
func TestQuantiles(t *testing.T) {
	before := replicator.Latencies{Bounds: []float64{1, 2, 4}, Counts: []uint64{10, 10, 10}, Total: 10}
	now := replicator.Latencies{Bounds: []float64{1, 2, 4}, Counts: []uint64{10, 60, 108}, Total: 110}
	since := now.Since(before)
	for q, want := range map[float64]float64{0.25: 1.5, 0.5: 2, 0.98: 4} {
		if got, ok := since.Quantile(q); !ok || got != want {
			t.Errorf("%v: %v %v, want %v", q, got, ok, want)
		}
	}
	if got, ok := since.Quantile(0.99); ok {
		t.Errorf("2 of 100 batches took longer than the last bound, and 99%% took %v at most", got)
	}
	if _, ok := now.Since(now).Quantile(0.5); ok {
		t.Error("a quantile of nothing is known")
	}
}
