package replicator

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator/topics"
)

// The time to loss follows from the first record that is not copied, or else from the last one that is. It is known once half of the retention has passed.
func TestTimeToLoss(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		retention time.Duration
		acked     int64
		last      time.Duration // age of the last copied record, 0 if none was
		first     time.Duration // age of the first one that is not, as looked for, 0 if it was not
		at        int64         // its offset
		want      time.Duration
		known     bool
	}{
		"no lag":                   {retention: time.Hour, acked: 100, last: 59 * time.Minute},
		"no retention":             {acked: 90, last: 999 * time.Hour},
		"young":                    {retention: time.Hour, acked: 90, last: 29 * time.Minute},
		"old":                      {retention: time.Hour, acked: 90, last: 50 * time.Minute, want: 10 * time.Minute, known: true},
		"overdue":                  {retention: time.Hour, acked: 90, last: 2 * time.Hour, known: true},
		"nothing was copied":       {retention: time.Hour, acked: 90},
		"found, as nothing was":    {retention: time.Hour, acked: 90, first: 45 * time.Minute, at: 90, want: 15 * time.Minute, known: true},
		"found after a quiet time": {retention: time.Hour, acked: 90, last: 59 * time.Minute, first: time.Minute, at: 90},
		"what was found is copied": {retention: time.Hour, acked: 91, last: 40 * time.Minute, first: 50 * time.Minute, at: 90, want: 20 * time.Minute, known: true},
	} {
		t.Run(name, func(t *testing.T) {
			f := idleFlow(t)
			link := &topicLink{source: "orders", metrics: f.metrics.forTopic("orders", &f.totals)}
			link.setLimits(topics.Limits{SourceRetention: c.retention})
			p := newPartition(link, 0, f.held.get(0), listed{sourceLast: 100})
			p.progress.acked = c.acked
			if c.last > 0 {
				p.progress.lastTimestamp = now.Add(-c.last).UnixMilli()
			}
			if c.first > 0 {
				f.firsts.set(map[*partition]firstRecord{p: {c.at, now.Add(-c.first)}})
			}
			left, known := p.timeToLossLocked(&f.firsts, p.lagLocked(now), now)
			if off := (left - c.want).Abs(); known != c.known || off > time.Second {
				t.Errorf("%v, known %v; want %v, %v", left, known, c.want, c.known)
			}
		})
	}
}

// The time to loss of a topic is that of the partition that is worst off, whatever metrics.partitions says.
func TestTimeToLossOfATopic(t *testing.T) {
	f := scrapedFlow(t, config.SeriesNone)
	f.topology.links["orders"].setLimits(topics.Limits{SourceRetention: time.Minute + 30*time.Second})
	for _, p := range f.partitions() {
		if p.topic.source == "orders" && p.number == 2 {
			p.progress.lastTimestamp = time.Now().Add(-80 * time.Second).UnixMilli()
		}
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(newCollector(f))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "milena_topic_time_to_loss_seconds" {
			if m := family.GetMetric(); len(m) != 1 || m[0].GetLabel()[0].GetValue() != "orders" || m[0].GetGauge().GetValue() > 10 || m[0].GetGauge().GetValue() < 1 {
				t.Errorf("%v", m)
			}
			return
		}
	}
	t.Error("no series")
}
