// Command bench compares milena with MirrorMaker 2 on the same brokers with the same data, and prints a Markdown table.
//
//	go run ./e2e/bench                                   all scenarios: about 15 minutes on two cores
//	go run ./e2e/bench -scenario lz4,small -bytes 200MB  some scenarios, with less data
//	go run ./e2e/bench -skip-mm2 -skip-latency           throughput of milena only
//
// It needs Java 17 and Maven. Progress goes to stderr, the table to stdout. Its columns:
//
//	MB/s           bytes of values before compression, from the first record on the target to the last
//	CPU-s/GB       user and system time of the replicator and its children, from its start to its last record, including the JVM's start
//	after first    the same from the first record, without the start
//	peak RSS       peak resident memory until the end of the run
//	first record   from the start of the process until the target has a record
//	p50, p99       added latency at 40 records/s: from a consumer of the source seeing a record to a consumer of the target seeing it
//
// Both replicators copy the same topics to the same target cluster, one after the other. The brokers are warmed up first, the first copy is
// deleted before the second starts, and milena's copy is verified record by record at the end.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/verify"
)

// scenario is one load.
type scenario struct {
	name, title        string
	topics, partitions int
	record             int // bytes per value
	codec              string
	bytes              config.Bytes // of all values, before compression
}

func scenarios() []scenario {
	return []scenario{
		{"lz4", "1 KiB lz4, 8 partitions", 1, 8, 1 << 10, "lz4", 2e9},
		{"none", "1 KiB uncompressed, 8 partitions", 1, 8, 1 << 10, "none", 2e9},
		{"small", "100 B uncompressed, 8 partitions", 1, 8, 100, "none", 5e8},
		{"many", "4000 B lz4, 100 topics × 10 partitions", 100, 10, 4000, "lz4", 5e8},
	}
}

func (s scenario) topicNames() []string {
	var names []string
	for i := range s.topics {
		names = append(names, fmt.Sprintf("%s-%02d", s.name, i))
	}
	return names
}

type options struct {
	scenarios            string
	size                 config.Bytes // of each scenario; 0: as in scenarios
	latency              time.Duration
	skipMM2, skipLatency bool
	milena               string
	progress             io.Writer
}

func main() {
	var o options
	flag.StringVar(&o.scenarios, "scenario", "", "run only these, comma-separated: lz4, none, small, many")
	flag.TextVar(&o.size, "bytes", config.Bytes(0), "bytes of values per scenario, such as 500MB; 0 takes 2 GB for lz4 and none and 500 MB for small and many")
	flag.DurationVar(&o.latency, "latency", 20*time.Second, "how long latency is measured")
	flag.BoolVar(&o.skipMM2, "skip-mm2", false, "run milena alone")
	flag.BoolVar(&o.skipLatency, "skip-latency", false, "do not measure latency")
	flag.StringVar(&o.milena, "milena", os.Getenv("MILENA_E2E_BIN"), "the milena binary; built if empty")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	o.progress = os.Stderr
	table, err := run(ctx, o)
	stop()
	fmt.Print(table)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run runs the scenarios. After an error the table has the results so far.
func run(ctx context.Context, o options) (string, error) {
	chosen, err := choose(o.scenarios)
	if err != nil {
		return "", err
	}
	jars, err := kafka.Resolve(ctx)
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "milena-bench-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if o.milena == "" {
		o.milena = filepath.Join(dir, "milena")
		if out, err := exec.CommandContext(ctx, "go", "build", "-o", o.milena, "github.com/milena-kafka/milena/cmd/milena").CombinedOutput(); err != nil {
			return "", fmt.Errorf("build milena: %w\n%s", err, out)
		}
	}
	var t table
	for _, s := range chosen {
		if o.size > 0 {
			s.bytes = o.size
		}
		if err := o.scenario(ctx, jars, filepath.Join(dir, s.name), s, &t); err != nil {
			return t.String(), fmt.Errorf("scenario %s: %w", s.name, err)
		}
	}
	return t.String(), nil
}

func choose(names string) ([]scenario, error) {
	all := scenarios()
	if names == "" {
		return all, nil
	}
	var chosen []scenario
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(all, func(s scenario) bool { return s.name == name })
		if i < 0 {
			return nil, fmt.Errorf("unknown scenario %q; known are lz4, none, small and many", name)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// scenario runs both replicators, one after the other, on new clusters, and adds their rows to t.
func (o options) scenario(ctx context.Context, jars kafka.Jars, dir string, s scenario, t *table) error {
	ctx, cancel := context.WithCancel(ctx) // ends the clusters
	defer cancel()
	defer func() { _ = os.RemoveAll(dir) }()
	cluster := func(name string) kafka.Options {
		return kafka.Options{
			Name: name, Dir: dir, JVM: []string{"-Xms1g", "-Xmx1g", "-XX:+UseG1GC"},
			Properties: map[string]string{"log.segment.delete.delay.ms": "100"}, // free the disk of a deleted copy before the next one
		}
	}
	clusters, err := kafka.StartAll(ctx, jars, cluster("source"), cluster("target"))
	if err != nil {
		return err
	}
	defer func() { // before the directory is removed
		for _, c := range clusters {
			for _, b := range c.Brokers() {
				b.Kill()
			}
		}
	}()
	b := &bench{options: o, scenario: s, dir: dir, jars: jars, source: clusters[0], target: clusters[1]}
	b.say("writing %.1f GB", float64(s.bytes)/1e9)
	if err := b.prepare(ctx); err != nil {
		return fmt.Errorf("write the source: %w", err)
	}
	replicators := []replicator{mirrorMaker{}, milena{}}
	if o.skipMM2 {
		replicators = replicators[1:]
	}
	var results []result
	for i, r := range replicators {
		b.say("%s", r.name())
		got, err := b.measure(ctx, r)
		if err != nil {
			return fmt.Errorf("%s: %w", r.name(), err)
		}
		b.say("%s: %s; other processes used %.2f cores", r.name(), got, got.others)
		t.row(s, r.name(), got)
		results = append(results, got)
		if i < len(replicators)-1 {
			if err := b.deleteCopy(ctx, r); err != nil {
				return fmt.Errorf("delete %s's copy: %w", r.name(), err)
			}
		}
	}
	if len(results) == 2 {
		t.ratio(results[0], results[1])
	}
	return b.verify(ctx)
}

func (b *bench) say(format string, args ...any) {
	_, _ = fmt.Fprintf(b.progress, "%s %s: %s\n", time.Now().Format(time.TimeOnly), b.name, fmt.Sprintf(format, args...))
}

// verify compares milena's copy, the last one, with the source.
func (b *bench) verify(ctx context.Context) error {
	source, err := b.source.Client()
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := b.target.Client()
	if err != nil {
		return err
	}
	defer target.Close()
	report, err := verify.Run(ctx, source, target, verify.Options{Topics: b.topicNames(), Name: milena{}.remoteTopic})
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	b.say("verified %d records in %.0f s", report.Records, report.Took.Seconds())
	if len(report.Differences) > 0 {
		return errors.New("milena's copy differs:\n" + strings.Join(report.Differences, "\n"))
	}
	return nil
}

// table is the Markdown output.
type table struct {
	rows   strings.Builder
	others float64 // cores that other processes used, the maximum of all runs
}

func (t *table) row(s scenario, who string, r result) {
	fmt.Fprintf(&t.rows, "| %s: %s, %.1f GB | %s | %s | %s | %s | %d | %.2f | %s | %s |\n", s.name, s.title, float64(s.bytes)/1e9, who, known("%.0f", r.throughput),
		known("%.2f", r.cpuPerGB), known("%.2f", r.cpuPerGBSteady), r.peakRSS>>20, r.first.Seconds(), known("%.1f", ms(r.p50)), known("%.1f", ms(r.p99)))
	t.others = max(t.others, r.others)
}

// ratio adds a row with how many times better milena is.
func (t *table) ratio(mm2, ours result) {
	times := func(better, worse float64) string { return known("**%.1f×**", worse/better) }
	fmt.Fprintf(&t.rows, "| | **milena is better by** | %s | %s | %s | %s | %s | %s | %s |\n", times(mm2.throughput, ours.throughput), times(ours.cpuPerGB, mm2.cpuPerGB),
		times(ours.cpuPerGBSteady, mm2.cpuPerGBSteady), times(float64(ours.peakRSS), float64(mm2.peakRSS)), times(ours.first.Seconds(), mm2.first.Seconds()),
		times(ours.p50.Seconds(), mm2.p50.Seconds()), times(ours.p99.Seconds(), mm2.p99.Seconds()))
}

// String describes the machine and has all rows. It is empty if there are none.
func (t *table) String() string {
	if t.rows.Len() == 0 {
		return ""
	}
	return fmt.Sprintf("%d cores for both clusters, the replicator and the load (%s, %s/%s); other processes used up to %.1f cores; Apache Kafka %s.\n\n"+
		"| scenario | replicator | MB/s | CPU-s/GB | after first | peak RSS MiB | first record s | p50 ms | p99 ms |\n|---|---|--:|--:|--:|--:|--:|--:|--:|\n%s",
		runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH, t.others, kafka.Version, t.rows.String())
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// known formats a number, or prints a dash if it was not measured: latency was skipped, or everything was copied when the first record was seen.
func known(format string, v float64) string {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return "–"
	}
	return fmt.Sprintf(format, v)
}
