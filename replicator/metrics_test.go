package replicator_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"

	"github.com/milena-kafka/milena/replicator"
)

// ofClient says that a metric comes from the Kafka client's own collection.
func ofClient(name string) bool {
	return strings.HasPrefix(name, "milena_source_client_") || strings.HasPrefix(name, "milena_target_client_")
}

func TestMetricsAreWellFormedAndDocumented(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 2)
	p.produce("orders", 2, 10, "before")
	r := p.start(nil)
	p.settled(r, "orders")
	r.until("everything is journalled", func(s replicator.Status) bool { return s.Ready && s.Partitions[0].Journaled == 10 })
	families, err := r.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	families = slices.DeleteFunc(families, func(f *dto.MetricFamily) bool { return ofClient(f.GetName()) })
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if !slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == "flow" && l.GetValue() == "a-b" }) {
				t.Errorf("%s has a series without the flow's name", f.GetName())
			}
		}
	}

	documented := documentedMetrics(t)
	described := describedMetrics(r)
	for _, name := range described {
		if !slices.Contains(documented, name) {
			t.Errorf("%s is not in the table of docs/metrics.md", name)
		}
	}
	for _, name := range documented {
		if !slices.Contains(described, name) {
			t.Errorf("the table of docs/metrics.md has %s, which a flow does not have", name)
		}
	}
}

// describedMetrics are the names of all metrics of a flow, with those that have no series yet.
func describedMetrics(r *running) []string {
	descs := make(chan *prometheus.Desc)
	go func() {
		r.reg.Describe(descs)
		close(descs)
	}()
	var names []string
	for d := range descs {
		_, rest, _ := strings.Cut(d.String(), `fqName: "`)
		name, _, _ := strings.Cut(rest, `"`)
		if !ofClient(name) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// documentedMetrics are the names in the table of docs/metrics.md.
func documentedMetrics(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "| `"); ok && strings.HasPrefix(rest, "milena_") {
			name, _, _ := strings.Cut(rest, "`")
			name, _, _ = strings.Cut(name, "{")
			names = append(names, name)
		}
	}
	return names
}
