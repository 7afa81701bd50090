package replicator_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"

	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// ofClient says that a metric comes from the Kafka client's own collection.
func ofClient(name string) bool {
	return strings.HasPrefix(name, "milena_source_client_") || strings.HasPrefix(name, "milena_target_client_")
}

func TestMetricsAreWellFormedAndDocumented(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 2)
	c.Source.Produce("orders", 2, 10, "before")
	flow := c.Start()
	flow.UntilCopied("orders")
	flow.UntilReady()
	flow.UntilJournaled("orders")
	families, err := flow.Metrics.Gather()
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
	described := describedMetrics(flow)
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

// describedMetrics are the names of all metrics of a flow, including those without a series.
func describedMetrics(flow *replicatortest.Flow) []string {
	descs := make(chan *prometheus.Desc)
	go func() {
		flow.Metrics.Describe(descs)
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
			if !strings.HasPrefix(name, "milena_config_") { // of the process
				names = append(names, name)
			}
		}
	}
	return names
}
