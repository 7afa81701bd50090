package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/proc"
)

// bench is a scenario and its clusters.
type bench struct {
	options
	scenario
	dir            string
	jars           kafka.Jars
	source, target *kafka.Cluster
}

func (b *bench) copies(r replicator) []string {
	var names []string
	for _, topic := range b.topicNames() {
		names = append(names, r.remoteTopic(topic))
	}
	return names
}

type result struct {
	throughput     float64 // MB/s
	cpuPerGB       float64 // from the start of the process
	cpuPerGBSteady float64 // from the first record
	peakRSS        int64
	first          time.Duration
	p50, p99       time.Duration // 0 if not measured
	others         float64       // cores that other processes used in the meantime
}

// String is one line of progress.
func (r result) String() string {
	return fmt.Sprintf("%.0f MB/s, %.2f CPU-s/GB (%.2f after the first record), %d MiB, first record after %.2f s, latency p50 %s ms, p99 %s ms",
		r.throughput, r.cpuPerGB, r.cpuPerGBSteady, r.peakRSS>>20, r.first.Seconds(), known("%.1f", ms(r.p50)), known("%.1f", ms(r.p99)))
}

// measure starts a replicator, waits until everything is copied, measures its latency, and kills it.
func (b *bench) measure(ctx context.Context, r replicator) (result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var got result
	source, err := watchTopics(b.source, b.topicNames())
	if err != nil {
		return got, err
	}
	defer source.close()
	all, err := source.records(ctx)
	if err != nil {
		return got, err
	}
	syscall.Sync() // so that dirty pages of an earlier phase are not written during this one
	noise, err := b.noise(nil)
	if err != nil {
		return got, err
	}
	start := time.Now()
	p, err := r.start(ctx, b)
	if err != nil {
		return got, err
	}
	defer p.Kill()
	target, err := watchTopics(b.target, b.copies(r))
	if err != nil {
		return got, err
	}
	defer target.close()
	target.process = p

	// Listing end offsets costs the target CPU time: with many partitions it is done less often.
	interval := time.Duration(max(10, b.topics*b.partitions/20)) * time.Millisecond
	begun, err := target.until(ctx, interval, 1)
	if err != nil {
		return got, err
	}
	first := time.Now()
	atFirst, err := p.Usage()
	if err != nil {
		return got, err
	}
	// Control records count as records here. After a fault the last records may still be missing, less than a batch per partition.
	if _, err := target.until(ctx, interval, all); err != nil {
		return got, err
	}
	end := time.Now()
	atEnd, err := p.Usage()
	if err != nil {
		return got, err
	}
	noiseEnd, err := b.noise(p)
	if err != nil {
		return got, err
	}
	gb := func(records int64) float64 { return float64(records) * float64(b.record) / 1e9 }
	got.first = first.Sub(start)
	got.throughput = gb(all-begun) * 1000 / end.Sub(first).Seconds()
	got.cpuPerGB = atEnd.CPU.Seconds() / gb(all)
	got.cpuPerGBSteady = (atEnd.CPU - atFirst.CPU).Seconds() / gb(all-begun)
	got.others = max(0, (noiseEnd-noise).Seconds()/end.Sub(start).Seconds())
	if !b.skipLatency {
		if got.p50, got.p99, err = b.addedLatency(ctx, r); err != nil {
			return got, fmt.Errorf("latency: %w", err)
		}
	}
	last, err := p.Usage()
	got.peakRSS = last.PeakRSS
	return got, err
}

// noise is the CPU time of all other processes of the machine: without the clusters, the replicator (if not nil) and this process.
func (b *bench) noise(replicator *proc.Process) (time.Duration, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	var busy time.Duration
	for i, field := range strings.Fields(string(line))[1:8] { // user nice system idle iowait irq softirq
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("parse /proc/stat: %w", err)
		}
		if i != 3 && i != 4 {
			busy += time.Duration(ticks) * time.Second / 100
		}
	}
	for _, c := range []*kafka.Cluster{b.source, b.target} {
		u, err := c.Usage()
		if err != nil {
			return 0, err
		}
		busy -= u.CPU
	}
	if replicator != nil {
		u, err := replicator.Usage()
		if err != nil {
			return 0, err
		}
		busy -= u.CPU
	}
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		return 0, err
	}
	return busy - time.Duration(own.Utime.Nano()) - time.Duration(own.Stime.Nano()), nil
}

// watch reads the end offsets of topics.
type watch struct {
	admin   *kadm.Client
	topics  []string
	process *proc.Process // the replicator that writes to them; nil for the source
}

func watchTopics(c *kafka.Cluster, topics []string) (*watch, error) {
	client, err := c.Client()
	if err != nil {
		return nil, err
	}
	return &watch{admin: kadm.NewClient(client), topics: topics}, nil
}

func (w *watch) close() { w.admin.Close() }

// records is the sum of the end offsets of all partitions. Topics that do not exist have none.
func (w *watch) records(ctx context.Context) (int64, error) {
	ends, err := w.admin.ListEndOffsets(ctx, w.topics...)
	var sum int64
	ends.Each(func(o kadm.ListedOffset) {
		if o.Err == nil {
			sum += o.Offset
		}
	})
	return sum, err
}

// until waits until the topics hold at least n records and returns how many they hold. It fails if they do not grow for two minutes or the
// replicator ends.
func (w *watch) until(ctx context.Context, interval time.Duration, n int64) (int64, error) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	most, moved := int64(0), time.Now()
	for {
		sum, err := w.records(ctx)
		if err == nil && sum >= n {
			return sum, nil
		}
		if sum > most {
			most, moved = sum, time.Now()
		}
		if time.Since(moved) > 2*time.Minute {
			return sum, fmt.Errorf("no progress for two minutes, at %d of %d records (%w)\n%s", sum, n, err, w.process.Tail(20))
		}
		select {
		case <-tick.C:
		case <-w.process.Done():
			return sum, errors.New("the process has ended\n" + w.process.Tail(20))
		case <-ctx.Done():
			return sum, ctx.Err()
		}
	}
}
