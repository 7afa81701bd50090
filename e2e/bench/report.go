package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/milena-kafka/milena/e2e/kafka"
)

// result is what was measured of a replicator in a cell. What was not measured is 0.
type result struct {
	Cell           string  `json:"scenario"`
	Title          string  `json:"title"`
	Replicator     string  `json:"replicator"`
	Bytes          int64   `json:"bytes"`
	Throughput     float64 `json:"mb_per_second"`
	CPUPerGB       float64 `json:"cpu_seconds_per_gb"`        // from the start of the process
	CPUPerGBSteady float64 `json:"cpu_seconds_per_gb_steady"` // from the first record
	PeakRSS        int64   `json:"peak_rss_bytes"`
	First          float64 `json:"first_record_seconds"`
	All            float64 `json:"all_records_seconds"` // both from the start of the process
	NewTopic       float64 `json:"new_topic_seconds,omitempty"`
	IdlePercent    float64 `json:"idle_cpu_percent,omitempty"` // of a core
	P50            float64 `json:"latency_p50_ms,omitempty"`
	P99            float64 `json:"latency_p99_ms,omitempty"`
	BrokerCores    float64 `json:"broker_cores"` // that the brokers used during the copy
	OwnCores       float64 `json:"proxy_cores"`  // that the proxies used, and looking at the target
	OtherCores     float64 `json:"other_cores"`  // that other processes used in the meantime
}

// String is one line of progress.
func (r result) String() string {
	s := fmt.Sprintf("%s MB/s, %.2f CPU-s/GB (%.2f after the first record), %d MiB, first record after %.2f s, all after %.1f s",
		rate(r.Throughput), r.CPUPerGB, r.CPUPerGBSteady, r.PeakRSS>>20, r.First, r.All)
	if r.P50 > 0 {
		s += fmt.Sprintf(", new topic after %.2f s, idle %.1f %%, latency p50 %.1f ms, p99 %.1f ms", r.NewTopic, r.IdlePercent, r.P50, r.P99)
	}
	return s + fmt.Sprintf("; cores used: brokers %.2f, proxies %.2f, other processes %.2f", r.BrokerCores, r.OwnCores, r.OtherCores)
}

// report is all results, as in a JSON file.
type report struct {
	Cores   int      `json:"cores"`
	Go      string   `json:"go"`
	System  string   `json:"system"`
	Kafka   string   `json:"kafka"`
	Results []result `json:"results"`
}

func newReport() *report {
	return &report{Cores: runtime.NumCPU(), Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH, Kafka: kafka.Version}
}

// loadReport reads a file; without a file the report is empty.
func loadReport(path string) (*report, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || path == "" {
		return newReport(), nil
	}
	if err != nil {
		return nil, err
	}
	r := newReport()
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

func (r *report) save(path string) error {
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// drop removes an earlier result.
func (r *report) drop(cell, replicator string) {
	r.Results = slices.DeleteFunc(r.Results, func(old result) bool { return old.Cell == cell && old.Replicator == replicator })
}

// add adds a result, or replaces an earlier one.
func (r *report) add(got result) {
	r.drop(got.Cell, got.Replicator)
	r.Results = append(r.Results, got)
}

// cells are the names of the cells with results, in the order of the list.
func (r *report) cells() []string {
	var names []string
	for _, got := range r.Results {
		if !slices.Contains(names, got.Cell) {
			names = append(names, got.Cell)
		}
	}
	place := func(name string) int {
		if i := slices.Index(cellNames(), name); i >= 0 {
			return i
		}
		return len(cellNames())
	}
	slices.SortStableFunc(names, func(a, b string) int { return place(a) - place(b) })
	return names
}

func (r *report) find(cell, replicator string) (result, bool) {
	i := slices.IndexFunc(r.Results, func(got result) bool { return got.Cell == cell && got.Replicator == replicator })
	if i < 0 {
		return result{}, false
	}
	return r.Results[i], true
}

// table is a Markdown table of the cells. It is empty if there are no results.
func (r *report) table(cells []string) string {
	var rows strings.Builder
	others := 0.0
	for _, cell := range cells {
		mm2, hasMM2 := r.find(cell, mirrorMaker{}.name())
		ours, hasOurs := r.find(cell, milena{}.name())
		for _, got := range []result{mm2, ours} {
			if got.Cell != "" {
				others = max(others, got.OtherCores)
				rows.WriteString(got.row())
			}
		}
		if hasMM2 && hasOurs {
			rows.WriteString(ratios(mm2, ours))
		}
	}
	if rows.Len() == 0 {
		return ""
	}
	return fmt.Sprintf("%d cores for both clusters, the replicator, the proxies and the load (%s, %s); other processes used up to %.1f cores; Apache Kafka %s.\n\n"+
		"| scenario | replicator | MB/s | CPU-s/GB | after first | peak RSS MiB | first record s | new topic s | idle CPU %% | p50 ms | p99 ms |\n"+
		"|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n%s", r.Cores, r.Go, r.System, others, r.Kafka, rows.String())
}

func (r result) row() string {
	return fmt.Sprintf("| %s: %s, %s | %s | %s | %s | %s | %d | %.2f | %s | %s | %s | %s |\n", r.Cell, r.Title, amount(r.Bytes), r.Replicator,
		rate(r.Throughput), known("%.2f", r.CPUPerGB), known("%.2f", r.CPUPerGBSteady), r.PeakRSS>>20, r.First, known("%.2f", r.NewTopic),
		known("%.1f", r.IdlePercent), known("%.1f", r.P50), known("%.1f", r.P99))
}

// ratios is a row with how many times better milena is.
func ratios(mm2, ours result) string {
	times := func(better, worse float64) string {
		if worse < better {
			return known("%.2f×", worse/better)
		}
		return known("**%.1f×**", worse/better)
	}
	return fmt.Sprintf("| | **milena is better by** | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", times(mm2.Throughput, ours.Throughput),
		times(ours.CPUPerGB, mm2.CPUPerGB), times(ours.CPUPerGBSteady, mm2.CPUPerGBSteady), times(float64(ours.PeakRSS), float64(mm2.PeakRSS)),
		times(ours.First, mm2.First), times(ours.NewTopic, mm2.NewTopic), times(ours.IdlePercent, mm2.IdlePercent), times(ours.P50, mm2.P50), times(ours.P99, mm2.P99))
}

// rate is a throughput with at least two digits.
func rate(v float64) string {
	if v < 10 {
		return known("%.1f", v)
	}
	return known("%.0f", v)
}

// amount is a number of bytes.
func amount(n int64) string {
	if n < 1e9 {
		return fmt.Sprintf("%d MB", n/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// known formats a number, or prints a dash if it was not measured: extras were skipped, or everything was copied when the first record was seen.
func known(format string, v float64) string {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return "–"
	}
	return fmt.Sprintf(format, v)
}
