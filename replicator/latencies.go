package replicator

import dto "github.com/prometheus/client_model/go"

// Latencies is a histogram of how long records took: Counts[i] batches took at most Bounds[i] seconds, and Total all of them. It only grows; what was
// copied between two snapshots is their difference.
type Latencies struct {
	Bounds []float64
	Counts []uint64
	Total  uint64
}

// latencies is the histogram as it is now.
func (m *flowMetrics) latencies() Latencies {
	var metric dto.Metric
	if err := m.latency.Write(&metric); err != nil {
		return Latencies{} // not of a histogram
	}
	h := metric.GetHistogram()
	l := Latencies{Total: h.GetSampleCount()}
	for _, b := range h.GetBucket() {
		l.Bounds, l.Counts = append(l.Bounds, b.GetUpperBound()), append(l.Counts, b.GetCumulativeCount())
	}
	return l
}

// Since returns what was added after an earlier snapshot. Without any, or if the histogram began anew since, that is all of it.
func (l Latencies) Since(earlier Latencies) Latencies {
	if len(earlier.Counts) != len(l.Counts) || earlier.Total > l.Total {
		return l
	}
	d := Latencies{Bounds: l.Bounds, Counts: make([]uint64, len(l.Counts)), Total: l.Total - earlier.Total}
	for i := range l.Counts {
		d.Counts[i] = l.Counts[i] - earlier.Counts[i]
	}
	return d
}

// Quantile estimates in seconds what a part q of the batches took at most, such as 0.99. It supposes that the batches of a bucket are spread evenly. It is
// not known of none, nor if it is above the last bound.
func (l Latencies) Quantile(q float64) (seconds float64, known bool) {
	if l.Total == 0 {
		return 0, false
	}
	rank, below, from := q*float64(l.Total), 0.0, 0.0
	for i, bound := range l.Bounds {
		if upTo := float64(l.Counts[i]); upTo >= rank {
			if upTo == below {
				return bound, true
			}
			return from + (bound-from)*(rank-below)/(upTo-below), true
		}
		below, from = float64(l.Counts[i]), bound
	}
	return 0, false
}
