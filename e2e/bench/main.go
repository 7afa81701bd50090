// Command bench compares milena with MirrorMaker 2 on the same brokers and the same data and prints one Markdown table.
//
//	go run ./e2e/bench                                  all scenarios, 2 GB each: about 20 minutes on two cores
//	go run ./e2e/bench -scenario lz4 -bytes 500e6       one of them, shorter
//	go run ./e2e/bench -skip-mm2                        milena alone
//
// It needs Java 17 and Maven. CPU is that of the replicating process and its children, from its first record on the target to its last, so
// that the start of a JVM doesn't count. Added latency is the time from when a consumer of the source sees a record to when a consumer of
// the target does.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/verify"
)

// scenario is one load.
type scenario struct {
	name, title        string
	topics, partitions int
	record             int // bytes of a value
	codec              string
}

func scenarios() []scenario {
	return []scenario{
		{"lz4", "1 KiB lz4, 8 partitions", 1, 8, 1 << 10, "lz4"},
		{"plain", "1 KiB uncompressed, 8 partitions", 1, 8, 1 << 10, "none"},
		{"small", "100 B uncompressed, 8 partitions", 1, 8, 100, "none"},
		{"many", "4000 B lz4, 100 topics × 10 partitions", 100, 10, 4000, "lz4"},
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
	bytes   float64
	latency time.Duration
	skipMM2 bool
	milena  string
	out     io.Writer
}

func main() {
	var o options
	var only string
	flag.StringVar(&only, "scenario", "", "run only these, comma-separated: lz4, plain, small, many")
	flag.Float64Var(&o.bytes, "bytes", 2e9, "logical bytes per scenario")
	flag.DurationVar(&o.latency, "latency", 20*time.Second, "how long latency is measured at 40 records/s")
	flag.BoolVar(&o.skipMM2, "skip-mm2", false, "run milena alone")
	flag.StringVar(&o.milena, "milena", os.Getenv("MILENA_E2E_BIN"), "the milena binary; built if empty")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o.out = os.Stderr
	table, err := run(ctx, o, only)
	fmt.Println(table)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, only string) (string, error) {
	var table strings.Builder
	jars, err := kafka.Resolve(ctx)
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "milena-bench-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	if o.milena == "" {
		o.milena = filepath.Join(dir, "milena")
		if out, err := exec.CommandContext(ctx, "go", "build", "-o", o.milena, "github.com/milena-kafka/milena/cmd/milena").CombinedOutput(); err != nil {
			return "", fmt.Errorf("build milena: %w\n%s", err, out)
		}
	}
	fmt.Fprintf(&table, "%d cores for brokers, replicator and load; Kafka %s; %.1f GB per scenario; %s\n\n", runtime.NumCPU(), kafka.Version, o.bytes/1e9, runtime.Version())
	fmt.Fprintln(&table, "| load | replicator | MB/s | CPU-s/GB | peak RSS MiB | first record s | added latency ms p50 / p99 |")
	fmt.Fprintln(&table, "|---|---|--:|--:|--:|--:|--:|")
	for _, s := range scenarios() {
		if only != "" && !slices.Contains(strings.Split(only, ","), s.name) {
			continue
		}
		rows, err := o.scenario(ctx, jars, filepath.Join(dir, s.name), s)
		table.WriteString(rows)
		if err != nil {
			return table.String(), fmt.Errorf("scenario %s: %w", s.name, err)
		}
	}
	return table.String(), nil
}

// scenario runs one load through both replicators, one after the other, on clusters of its own.
func (o options) scenario(ctx context.Context, jars kafka.Jars, dir string, s scenario) (string, error) {
	ctx, cancel := context.WithCancel(ctx) // ends the clusters
	defer cancel()
	defer os.RemoveAll(dir)
	jvm := []string{"-Xms1g", "-Xmx1g", "-XX:+UseG1GC"}
	clusters, err := kafka.StartAll(ctx, jars, kafka.Options{Name: "source", Dir: dir, JVM: jvm}, kafka.Options{Name: "target", Dir: dir, JVM: jvm})
	if err != nil {
		return "", err
	}
	b := &bench{options: o, scenario: s, dir: dir, jars: jars, source: clusters[0], target: clusters[1]}
	fmt.Fprintf(o.out, "%s: loading\n", s.title)
	if err := b.load(ctx); err != nil {
		return "", err
	}
	var rows strings.Builder
	var results []result
	replicators := []replicator{mirrorMaker{}, milena{}}
	if o.skipMM2 {
		replicators = replicators[1:]
	}
	for _, r := range replicators {
		fmt.Fprintf(o.out, "%s: %s\n", s.title, r.name())
		got, err := b.measure(ctx, r)
		if err != nil {
			return rows.String(), fmt.Errorf("%s: %w", r.name(), err)
		}
		fmt.Fprintf(o.out, "%s: %s: %+v\n", s.title, r.name(), got)
		fmt.Fprintf(&rows, "| %s | %s | %.0f | %.2f | %d | %.2f | %.1f / %.1f |\n", s.title, r.name(), got.throughput, got.cpuPerGB, got.peakRSS>>20,
			got.first.Seconds(), ms(got.p50), ms(got.p99))
		results = append(results, got)
	}
	if len(results) == 2 {
		mm2, ours := results[0], results[1]
		fmt.Fprintf(&rows, "| | **MirrorMaker 2 : milena** | **1 : %.1f** | **%.1f : 1** | **%.0f : 1** | **%.0f : 1** | **%.1f : 1 / %.1f : 1** |\n", ours.throughput/mm2.throughput, mm2.cpuPerGB/ours.cpuPerGB,
			float64(mm2.peakRSS)/float64(ours.peakRSS), mm2.first.Seconds()/ours.first.Seconds(), ms(mm2.p50)/ms(ours.p50), ms(mm2.p99)/ms(ours.p99))
	}
	report, err := b.verify(ctx)
	if err != nil {
		return rows.String(), err
	}
	fmt.Fprintf(o.out, "%s: verified %d records in %.0f s\n", s.title, report.Records, report.Took.Seconds())
	if len(report.Differences) > 0 {
		return rows.String(), errors.New("milena's copy differs:\n" + strings.Join(report.Differences, "\n"))
	}
	return rows.String(), nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// verify compares milena's copy with the source.
func (b *bench) verify(ctx context.Context) (verify.Report, error) {
	source, err := b.source.Client()
	if err != nil {
		return verify.Report{}, err
	}
	defer source.Close()
	target, err := b.target.Client()
	if err != nil {
		return verify.Report{}, err
	}
	defer target.Close()
	return verify.Run(ctx, source, target, verify.Options{Topics: b.topicNames(), Name: milena{}.copied})
}
