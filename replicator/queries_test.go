package replicator_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// filesWithQueries are the files with queries for users to copy.
var filesWithQueries = []string{"../docs/mirrormaker2-metrics.md", "../deploy/grafana.json", "../deploy/alerts.yaml", "../README.md"}

var (
	metricName  = regexp.MustCompile(`\bmilena_[a-z_]*[a-z]\b`)
	selector    = regexp.MustCompile(`\b(milena_[a-z_]*[a-z])\{([^}]*)\}`)
	matcher     = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)`)
	aggregation = regexp.MustCompile(`\b(?:by|on|without) \(([a-z_, ]*)\)`)
)

// series returns the labels of all series of a flow, by name.
func series(t *testing.T, flow *replicatortest.Flow) map[string][]string {
	t.Helper()
	families, err := flow.Metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	types := make(map[string]string)
	for _, f := range families {
		types[f.GetName()] = f.GetType().String()
	}
	labels := regexp.MustCompile(`variableLabels: \{([^}]*)\}`)
	descs := make(chan *prometheus.Desc)
	go func() {
		flow.Metrics.Describe(descs)
		close(descs)
	}()
	all := map[string][]string{ // those of the process
		"milena_config_last_reload_successful": {"instance", "job"}, "milena_config_last_reload_success_timestamp_seconds": {"instance", "job"},
	}
	for d := range descs {
		_, rest, _ := strings.Cut(d.String(), `fqName: "`)
		name, _, _ := strings.Cut(rest, `"`)
		has := append(strings.Split(labels.FindStringSubmatch(d.String())[1], ","), "flow", "instance", "job")
		all[name] = has
		if types[name] == "SUMMARY" {
			all[name+"_sum"], all[name+"_count"] = has, has
		}
		if types[name] == "HISTOGRAM" {
			all[name+"_sum"], all[name+"_count"], all[name+"_bucket"] = has, has, append(has, "le")
		}
	}
	return all
}

// unknownNames returns the names and labels in a text that no series has.
func unknownNames(text string, all map[string][]string) (problems []string) {
	for _, name := range metricName.FindAllString(text, -1) {
		if _, ok := all[name]; !ok && !ofClient(name+"_") {
			problems = append(problems, name+" does not exist")
		}
	}
	for _, s := range selector.FindAllStringSubmatch(text, -1) {
		for _, m := range matcher.FindAllStringSubmatch(s[2], -1) {
			if !slices.Contains(all[s[1]], m[1]) {
				problems = append(problems, fmt.Sprintf("%s has no label %s", s[1], m[1]))
			}
		}
	}
	return problems
}

// queryProblems returns the unknown names and labels of a query, and unbalanced brackets. An aggregation by an unknown label would silently
// result in one series.
func queryProblems(query string, all map[string][]string) (problems []string) {
	names := metricName.FindAllString(query, -1)
	for _, a := range aggregation.FindAllStringSubmatch(query, -1) {
		for label := range strings.SplitSeq(a[1], ",") {
			for _, name := range names {
				if label = strings.TrimSpace(label); !slices.Contains(all[name], label) {
					problems = append(problems, fmt.Sprintf("%s has no label %s: %s", name, label, query))
				}
			}
		}
	}
	for _, pair := range []string{"()", "{}", "[]"} {
		if strings.Count(query, pair[:1]) != strings.Count(query, pair[1:]) {
			problems = append(problems, fmt.Sprintf("%s do not match: %s", pair, query))
		}
	}
	return append(problems, unknownNames(query, all)...)
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// queries are the code spans, the lines of promql blocks and the expressions of the dashboard that name a metric of milena.
func queries(text string) (found []string) {
	for _, block := range regexp.MustCompile("(?s)```promql\n(.*?)```").FindAllStringSubmatch(text, -1) {
		found = append(found, strings.Split(block[1], "\n")...)
	}
	for _, span := range regexp.MustCompile("`([^`\n]+)`").FindAllStringSubmatch(text, -1) {
		found = append(found, span[1])
	}
	for _, expr := range regexp.MustCompile(`"expr": "(.*)",`).FindAllStringSubmatch(text, -1) {
		found = append(found, strings.ReplaceAll(expr[1], `\"`, `"`))
	}
	return slices.DeleteFunc(found, func(q string) bool { return !strings.Contains(q, "milena_") })
}

func TestQueriesUseExistingMetrics(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 10, "before")
	c.Source.Commit("billing", "orders", 0, 5)
	flow := c.Start(replicatortest.FastGroups)
	flow.UntilAcked("orders", 10)
	flow.Until("the group is synced", func(s replicator.Status) bool { return s.Groups.Positions == 1 && !s.Groups.LastPass.IsZero() })
	all := series(t, flow)
	for _, file := range filesWithQueries {
		text := readFile(t, file)
		for _, problem := range unknownNames(text, all) {
			t.Errorf("%s: %s", file, problem)
		}
		for _, query := range queries(text) {
			for _, problem := range queryProblems(query, all) {
				t.Errorf("%s: %s", file, problem)
			}
		}
	}

	page := readFile(t, "../docs/mirrormaker2-metrics.md")
	for _, attribute := range []string{
		"record-count", "record-rate", "byte-count", "byte-rate",
		"record-age-ms", "record-age-ms-max", "record-age-ms-min", "record-age-ms-avg",
		"replication-latency-ms", "replication-latency-ms-max", "replication-latency-ms-min", "replication-latency-ms-avg",
		"checkpoint-latency-ms", "checkpoint-latency-ms-max", "checkpoint-latency-ms-min", "checkpoint-latency-ms-avg",
	} {
		if !regexp.MustCompile("(?m)^\\|[^|]*`" + attribute + "`[^|]*\\|[^|]*milena_").MatchString(page) {
			t.Errorf("the page has no answer to MirrorMaker 2's %s", attribute)
		}
	}
	dashboard := queries(readFile(t, "../deploy/grafana.json"))
	blocks := regexp.MustCompile("(?s)### (.*?)\n```promql\n.*?# now\n(.*?)```").FindAllStringSubmatch(page, -1)
	if len(blocks) != 5 {
		t.Errorf("the page has %d dashboards, want 5", len(blocks))
	}
	for _, block := range blocks {
		for query := range strings.Lines(block[2]) {
			if !slices.Contains(dashboard, strings.TrimSpace(query)) {
				t.Errorf("deploy/grafana.json does not answer %q with %s", block[1], query)
			}
		}
	}
}

// The check above finds wrong names, labels and brackets.
func TestWrongQueriesAreFound(t *testing.T) {
	t.Parallel()
	all := map[string][]string{"milena_lag_records": {"topic", "flow"}}
	for query, want := range map[string]int{
		`sum by (flow, topic) (milena_lag_records{topic=~"a.*"})`: 0,
		`sum by (flow, topics) (milena_lag_records)`:              1,
		`sum(milena_lag_records{partition="1", topic="a"})`:       1,
		`sum(milena_lag_record)`:                                  1,
		`sum(milena_lag_records`:                                  1,
	} {
		if got := queryProblems(query, all); len(got) != want {
			t.Errorf("%s: %v", query, got)
		}
	}
}

func TestRecordAgeAndCheckpointLatencyAreMeasured(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 10, "before")
	c.Source.Commit("billing", "orders", 0, 5)
	flow := c.Start(replicatortest.FastGroups)
	flow.UntilAcked("orders", 10)
	replicatortest.Eventually(t, "a checkpoint is written", func() (bool, string) {
		families, err := flow.Metrics.Gather()
		if err != nil {
			t.Fatal(err)
		}
		counted := make(map[string]uint64)
		for _, f := range families {
			if h := f.GetMetric()[0].GetHistogram(); h != nil {
				counted[f.GetName()] = h.GetSampleCount()
				if age := h.GetSampleSum(); f.GetName() == "milena_record_age_seconds" && age > 10*replicatortest.Patience.Seconds() {
					t.Errorf("records of now are %v s old", age)
				}
			}
		}
		read, acked, checkpoints := counted["milena_record_age_seconds"], counted["milena_latency_seconds"], counted["milena_checkpoint_latency_seconds"]
		return read > 0 && read >= acked && acked > 0 && checkpoints > 0, fmt.Sprint(counted)
	})
}
