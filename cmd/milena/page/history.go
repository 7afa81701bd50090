package page

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/milena-kafka/milena/replicator"
)

const (
	// Step is the time between two columns of the history, and columns is how many it has: an hour.
	step    = 5 * time.Second
	columns = 720
)

// slotOf numbers the steps of all time.
func slotOf(at time.Time) int64 { return at.Unix() / int64(step/time.Second) }

// History is an hour of a flow, as the process has seen it: one value in each list for each time in T, null where it is not known.
type History struct {
	// Step is the time between two columns in seconds, and T are the beginnings of the columns in Unix seconds. The last one may not have ended.
	Step int     `json:"step"`
	T    []int64 `json:"t"`
	// Bytes and Records are per second.
	Bytes      series `json:"bytes"`
	Records    series `json:"records"`
	LagRecords series `json:"lag_records"`
	LagSeconds series `json:"lag_seconds"`
	LatencyP50 series `json:"latency_p50"`
	LatencyP99 series `json:"latency_p99"`
	RPOSeconds series `json:"rpo_seconds"`
}

// series are values, of which NaN is not known.
type series []float64

// MarshalJSON implements json.Marshaler.
func (s series) MarshalJSON() ([]byte, error) {
	text := make([]byte, 0, 8*len(s)+2)
	text = append(text, '[')
	for i, v := range s {
		if i > 0 {
			text = append(text, ',')
		}
		if math.IsNaN(v) {
			text = append(text, "null"...)
		} else {
			text = strconv.AppendFloat(text, v, 'f', -1, 64)
		}
	}
	return append(text, ']'), nil
}

// column is what a flow was like during one step; NaN is not known.
type column struct {
	pace
	lagRecords, lagSeconds, rpoSeconds float64
}

func nothing() column {
	n := math.NaN()
	return column{pace{n, n, n, n}, n, n, n}
}

// past is the ring of the columns of a flow.
type past struct {
	columns [columns]column // by slot, modulo their number
	last    int64           // slot of the newest column
	reading reading         // of then
}

// history has the past of each flow.
type history struct {
	mu    sync.Mutex
	flows map[string]*past
}

func newHistory() *history { return &history{flows: make(map[string]*past)} }

// add adds the column of a slot to the past of each flow. The past of a flow that is gone goes too.
func (h *history) add(statuses []replicator.Status, slot int64, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.flows
	h.flows = make(map[string]*past, len(statuses))
	for i := range statuses {
		s := &statuses[i]
		p := before[s.Flow]
		if p == nil {
			p = newPast(slot)
		}
		p.add(s, slot, now)
		h.flows[s.Flow] = p
	}
}

func newPast(slot int64) *past {
	p := &past{last: slot}
	for i := range p.columns {
		p.columns[i] = nothing()
	}
	return p
}

// add adds the column of a slot. The slots since the last one are not known; rates over such a gap are not either.
func (p *past) add(s *replicator.Status, slot int64, now time.Time) {
	if slot < p.last { // the clock was put back
		*p = *newPast(slot)
	}
	for gap := max(p.last, slot-columns) + 1; gap < slot; gap++ {
		p.columns[gap%columns] = nothing()
	}
	c, r := nothing(), reading{now, s.Records, s.Bytes, s.Latency}
	if !p.reading.at.IsZero() && slot-p.last <= 1 {
		c.pace = between(p.reading, r)
	}
	if s.LagRecords != nil {
		c.lagRecords = float64(*s.LagRecords)
	}
	c.lagSeconds = slowest(s.Partitions)
	if r := &s.RPO; r.Partitions > 0 && !r.CompleteUpTo.IsZero() {
		c.rpoSeconds = milliseconds(max(0, now.Sub(r.CompleteUpTo).Seconds()))
	}
	p.columns[slot%columns], p.last, p.reading = c, slot, r
}

// slowest is the lag in seconds of the slowest partition, NaN if none is known.
func slowest(partitions []replicator.PartitionStatus) float64 {
	worst := math.NaN()
	for i := range partitions {
		if lag := partitions[i].LagSeconds; lag != nil && !(*lag <= worst) {
			worst = milliseconds(*lag)
		}
	}
	return worst
}

// of returns the history of a flow up to a time, nil if there is none.
func (h *history) of(flow string, now time.Time) *History {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.flows[flow]
	if p == nil {
		return nil
	}
	return p.upTo(max(p.last, slotOf(now)-1)) // the column of the present step may be yet to come
}

// upTo returns the hour that ends with a slot.
func (p *past) upTo(end int64) *History {
	v := &History{Step: int(step / time.Second)}
	for slot := end - columns + 1; slot <= end; slot++ {
		c := nothing()
		if slot <= p.last && slot > p.last-columns {
			c = p.columns[slot%columns]
		}
		v.T = append(v.T, slot*int64(step/time.Second))
		v.Bytes, v.Records = append(v.Bytes, c.bytes), append(v.Records, c.records)
		v.LagRecords, v.LagSeconds = append(v.LagRecords, c.lagRecords), append(v.LagSeconds, c.lagSeconds)
		v.LatencyP50, v.LatencyP99 = append(v.LatencyP50, c.p50), append(v.LatencyP99, c.p99)
		v.RPOSeconds = append(v.RPOSeconds, c.rpoSeconds)
	}
	return v
}

// flows are the names of the flows that have a past.
func (h *history) names() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	names := make([]string, 0, len(h.flows))
	for name := range h.flows {
		names = append(names, name)
	}
	return names
}

// serveHistory answers with the history of the flow that the query names.
func (p *Page) serveHistory(w http.ResponseWriter, r *http.Request) {
	flow := r.URL.Query().Get("flow")
	h := p.history.of(flow, time.Now())
	if h == nil {
		refuse(w, http.StatusNotFound, "there is no history of flow %q; there is one of: %s", flow, strings.Join(p.history.names(), ", "))
		return
	}
	answer(w, r, h)
}
