package page

import (
	"math"
	"time"

	"github.com/milena-kafka/milena/replicator"
)

// window is over how long rates and latencies of the view are: long enough to be steady, short enough to show what happens now.
const window = 10 * time.Second

// reading is what the counters of a flow said at a time.
type reading struct {
	at             time.Time
	records, bytes int64
	latency        replicator.Latencies
}

// meter has the readings of a flow in the last window, oldest first.
type meter struct{ readings []reading }

// measure reads the counters of all flows. A flow that is gone is forgotten.
func (p *Page) measure(statuses []replicator.Status, now time.Time) {
	known := make(map[string]bool, len(statuses))
	for i := range statuses {
		s := &statuses[i]
		known[s.Flow] = true
		if p.meters[s.Flow] == nil {
			p.meters[s.Flow] = &meter{}
		}
		p.meters[s.Flow].add(reading{now, s.Records, s.Bytes, s.Latency})
	}
	for flow := range p.meters {
		if !known[flow] {
			delete(p.meters, flow)
		}
	}
}

// add adds a reading. Counters that went back are those of a flow that began anew.
func (m *meter) add(r reading) {
	if n := len(m.readings); n > 0 && (r.records < m.readings[n-1].records || r.bytes < m.readings[n-1].bytes) {
		m.readings = nil
	}
	for len(m.readings) > 0 && r.at.Sub(m.readings[0].at) > window {
		m.readings = m.readings[1:]
	}
	m.readings = append(m.readings, r)
}

// lately is what was copied in the window. It is not known before there are two readings.
func (m *meter) lately(now time.Time) (t Throughput, l Latency) {
	n := len(m.readings)
	if n < 2 || now.Sub(m.readings[n-1].at) > window {
		return t, l
	}
	p := between(m.readings[0], m.readings[n-1])
	return Throughput{BytesPerSecond: known(p.bytes), RecordsPerSecond: known(p.records)}, Latency{P50: known(p.p50), P99: known(p.p99)}
}

// pace is what was copied between two readings; NaN is not known.
type pace struct{ bytes, records, p50, p99 float64 }

func between(a, b reading) pace {
	p := pace{math.NaN(), math.NaN(), math.NaN(), math.NaN()}
	seconds := b.at.Sub(a.at).Seconds()
	if seconds <= 0 || b.records < a.records || b.bytes < a.bytes {
		return p
	}
	p.bytes, p.records = math.Round(float64(b.bytes-a.bytes)/seconds), math.Round(10*float64(b.records-a.records)/seconds)/10
	l := b.latency.Since(a.latency)
	if q, ok := l.Quantile(0.5); ok {
		p.p50 = milliseconds(q)
	}
	if q, ok := l.Quantile(0.99); ok {
		p.p99 = milliseconds(q)
	}
	return p
}

// milliseconds rounds seconds: more digits mean nothing and cost bytes.
func milliseconds(seconds float64) float64 { return math.Round(1000*seconds) / 1000 }

// known is a figure, nil for NaN.
func known(f float64) *float64 {
	if math.IsNaN(f) {
		return nil
	}
	return &f
}
