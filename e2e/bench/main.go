// Command bench compares milena with MirrorMaker 2 on the same brokers with the same data, and prints a Markdown table.
//
//	go run ./e2e/bench                                         all scenarios: about 40 minutes on two cores
//	go run ./e2e/bench -scenario '64k-8p,*-src80' -bytes 200MB some scenarios, with less data
//	go run ./e2e/bench -skip-mm2 -extras none                  throughput of milena only
//	go run ./e2e/bench -scenario 16k-8p -rtt 40ms -side target another delay; the same as -scenario 16k-8p-dst40
//	go run ./e2e/bench -json results.json -plot rtt.svg        keep the results, and draw throughput over round-trip time
//	go run ./e2e/bench -from results.json -plot rtt.svg        draw and print earlier results
//	go run ./e2e/bench -publish docs                           all scenarios, for docs/benchmarks.md and its picture
//
// It needs Java 17 and Maven. Progress goes to stderr, the table to stdout.
//
// The name of a scenario is the size of batches before compression and the number of partitions, and what differs from 1 KiB records with lz4
// on plaintext clusters of one broker: src80 and dst80 are a round trip of 80 ms to the source or the target; tls is TLS with client
// certificates on both sides; rf3 are clusters of three brokers with three replicas; old are timestamps a month ago; none, gzip, snappy and
// zstd are codecs; 100b is a record of 100 bytes. A name that is not in the list runs as well, such as 256k-3p-dst40.
//
// The columns:
//
//	MB/s           bytes of values before compression, from the first record on the target to the last
//	CPU-s/GB       user and system time of the replicator and its children, from its start to its last record, including the JVM's start
//	after first    the same from the first record, without the start
//	peak RSS       peak resident memory until the end of the run
//	first record   from the start of the process until the target has a record
//	new topic      from the creation of a topic on the source until the target has its first record; the mean of three
//	idle CPU       CPU time in percent of a core while nothing is written
//	p50, p99       added latency at 40 records/s: from a consumer of the source seeing a record to a consumer of the target seeing it
//
// Both replicators copy the same topics to the same target cluster, one after the other. The brokers are warmed up first, the first copy is
// deleted before the second starts, and milena's copy is verified record by record. A delay is that of a proxy in front of the brokers; only the
// replicator goes through it.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/verify"
)

type options struct {
	scenarios        string
	size             config.Bytes  // of each scenario; 0: as in dataset.size
	buffer           config.Bytes  // of milena; 0: its default
	otherRTT         time.Duration // instead of the scenarios' own, unless 0
	otherSide        string        // of otherRTT
	latency, idleFor time.Duration
	extras           string // none, some or all
	skipMM2, verify  bool
	milena           string
	json, from, plot string // files
	publish          string // folder of the documentation
	progress         io.Writer
}

func main() {
	var o options
	flag.StringVar(&o.scenarios, "scenario", "", "run only these, comma-separated names or globs")
	flag.TextVar(&o.size, "bytes", config.Bytes(0), "bytes of values per scenario, such as 500MB; 0 takes 1 GB, and less for small batches")
	flag.DurationVar(&o.otherRTT, "rtt", 0, "round-trip time in whole milliseconds, for all scenarios that run; 0 leaves each its own")
	flag.StringVar(&o.otherSide, "side", sourceSide, "side of -rtt: source or target")
	flag.TextVar(&o.buffer, "buffer", config.Bytes(0), "buffer of milena, such as 80MiB; 0 takes its default")
	flag.StringVar(&o.extras, "extras", "some", "in which scenarios latency, idle CPU and new topics are measured: none, some or all")
	flag.DurationVar(&o.latency, "latency", 20*time.Second, "how long latency is measured")
	flag.DurationVar(&o.idleFor, "idle", 20*time.Second, "how long idle CPU is measured")
	flag.BoolVar(&o.skipMM2, "skip-mm2", false, "run milena alone")
	flag.BoolVar(&o.verify, "verify", true, "compare each copy of milena with the source, record by record")
	flag.StringVar(&o.milena, "milena", os.Getenv("MILENA_E2E_BIN"), "the milena binary; built if empty")
	flag.StringVar(&o.json, "json", "", "write all figures to this file; results of other scenarios in it are kept")
	flag.StringVar(&o.from, "from", "", "run nothing, and print and draw the results in this JSON file")
	flag.StringVar(&o.plot, "plot", "", "draw throughput over round-trip time to this SVG or PNG file")
	flag.StringVar(&o.publish, "publish", "", "keep the results in this folder of documentation, draw its picture, and rewrite the table in its page")
	list := flag.Bool("list", false, "print the names of the scenarios")
	flag.Parse()
	if *list {
		fmt.Println(strings.Join(cellNames(), "\n"))
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	o.progress = os.Stderr
	if o.publish != "" && o.json == "" {
		o.json = resultsFile(o.publish)
	}
	table, err := run(ctx, o)
	stop()
	fmt.Print(table)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run returns the table of the scenarios that ran, or of earlier results, and draws. After an error the table has the results so far.
func run(ctx context.Context, o options) (string, error) {
	if o.from != "" {
		if _, err := os.Stat(o.from); err != nil {
			return "", err
		}
		all, err := loadReport(o.from)
		if err != nil {
			return "", err
		}
		return all.table(all.cells()), o.output(all)
	}
	chosen, err := choose(o.scenarios)
	if err != nil {
		return "", err
	}
	if o.otherRTT > 0 {
		if chosen, err = delayed(chosen, o.otherRTT, o.otherSide); err != nil {
			return "", err
		}
	}
	// Cells of the same clusters and of the same data follow each other.
	slices.SortStableFunc(chosen, func(a, b cell) int { return cmp.Or(a.brokers-b.brokers, strings.Compare(a.id(), b.id())) })
	all, err := loadReport(o.json)
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
		o.milena = filepath.Join(dir, "milena-bin")
		if out, err := exec.CommandContext(ctx, "go", "build", "-o", o.milena, "github.com/milena-kafka/milena/cmd/milena").CombinedOutput(); err != nil {
			return "", fmt.Errorf("build milena: %w\n%s", err, out)
		}
	}
	done := map[string]bool{}
	err = o.cells(ctx, jars, dir, chosen, all, done)
	names := slices.DeleteFunc(all.cells(), func(name string) bool { return !done[name] })
	if err == nil {
		err = o.output(all)
	}
	return all.table(names), err
}

// output draws and publishes.
func (o options) output(all *report) error {
	if o.plot != "" {
		if err := all.draw(o.plot); err != nil {
			return err
		}
	}
	if o.publish != "" {
		return all.publish(o.publish)
	}
	return nil
}

// cells runs the cells, with new clusters when the number of brokers changes or after an error. It returns all errors.
func (o options) cells(ctx context.Context, jars kafka.Jars, dir string, chosen []cell, all *report, done map[string]bool) error {
	ctx, cancel := context.WithCancel(ctx) // ends the clusters
	defer cancel()
	var w *world
	closeWorld := func() {
		if w != nil {
			w.close()
			w = nil
		}
	}
	defer closeWorld()
	brokers := 0
	var failed []error
	for _, c := range chosen {
		if w == nil || c.brokers != brokers {
			closeWorld()
			var err error
			if w, err = newWorld(ctx, jars, filepath.Join(dir, c.name), c.brokers); err != nil {
				return errors.Join(append(failed, err)...)
			}
			brokers = c.brokers
		}
		b := &bench{options: o, cell: c, world: w, bytes: cmp.Or(o.size, c.size())}
		b.extras = o.extras == "all" || o.extras == "some" && slices.Contains(extraNames(), c.name)
		done[c.name] = true
		if err := b.run(ctx, all); err != nil {
			b.say("failed: %v", err)
			failed = append(failed, fmt.Errorf("scenario %s: %w", c.name, err))
			closeWorld()
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(failed...)
}

// run runs the replicators of a cell, one after the other, and adds their results.
func (b *bench) run(ctx context.Context, all *report) error {
	if err := b.prepare(ctx); err != nil {
		return fmt.Errorf("write the source: %w", err)
	}
	b.delay()
	replicators := []replicator{mirrorMaker{}, milena{}}
	if b.skipMM2 {
		replicators = replicators[1:]
	}
	for _, r := range replicators {
		b.say("%s", r.name())
		all.drop(b.name, r.name())
		got, err := b.measure(ctx, r)
		if err != nil {
			return fmt.Errorf("%s: %w", r.name(), err)
		}
		b.say("%s: %s", r.name(), got)
		if r == (milena{}) && b.verify {
			if err := b.compare(ctx); err != nil {
				return err
			}
		}
		all.add(got)
		if b.json != "" {
			if err := all.save(b.json); err != nil {
				return err
			}
		}
		if err := b.clean(ctx); err != nil {
			return fmt.Errorf("delete what %s has left: %w", r.name(), err)
		}
	}
	return nil
}

func (b *bench) say(format string, args ...any) {
	_, _ = fmt.Fprintf(b.progress, "%s %s: %s\n", time.Now().Format(time.TimeOnly), b.name, fmt.Sprintf(format, args...))
}

// compare compares milena's copy with the source.
func (b *bench) compare(ctx context.Context) error {
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
