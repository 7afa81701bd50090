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

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/proc"
)

// bench is a cell and the clusters that it runs on.
type bench struct {
	options
	cell
	*world
	bytes  config.Bytes // of all values, before compression
	extras bool
}

func (b *bench) copies(r replicator) []string {
	var names []string
	for _, topic := range b.topicNames() {
		names = append(names, r.remoteTopic(topic))
	}
	return names
}

// measure starts a replicator, waits until everything is copied, measures the rest if b.extras, and stops it.
func (b *bench) measure(ctx context.Context, r replicator) (result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	got := result{Cell: b.name, Title: b.title(), Replicator: r.name(), Bytes: int64(b.bytes)}
	dir, err := b.runDir(r)
	if err != nil {
		return got, err
	}
	all, err := b.sourceRecords(ctx)
	if err != nil {
		return got, err
	}
	target, err := watchTopics(b.target, b.copies(r))
	if err != nil {
		return got, err
	}
	defer target.close()
	syscall.Sync() // so that dirty pages of an earlier phase are not written during this one
	before, err := b.usage(nil)
	if err != nil {
		return got, err
	}
	start := time.Now()
	p, err := r.start(ctx, b, dir)
	if err != nil {
		return got, err
	}
	defer p.Kill()
	target.process = p
	first, err := b.reaches(ctx, target, 1)
	if err != nil {
		return got, err
	}
	end, err := b.ends(ctx, target, all)
	if err != nil {
		return got, err
	}
	after, err := b.usage(p)
	if err != nil {
		return got, err
	}
	got.copied(start, first, end, all, b.record)
	took := time.Since(start).Seconds()
	got.BrokerCores = (after.brokers - before.brokers).Seconds() / took
	got.OwnCores = (after.own - before.own).Seconds() / took
	got.OtherCores = max(0, (after.others-before.others).Seconds()/took)
	if b.extras {
		if err := b.measureExtras(ctx, r, p, &got); err != nil {
			return got, err
		}
	}
	last, err := p.Usage()
	if err != nil {
		return got, err
	}
	got.PeakRSS = last.PeakRSS
	return got, stop(ctx, p)
}

func (b *bench) sourceRecords(ctx context.Context) (int64, error) {
	source, err := watchTopics(b.source, b.topicNames())
	if err != nil {
		return 0, err
	}
	defer source.close()
	return source.records(ctx)
}

// moment is the state of a copy.
type moment struct {
	at      time.Time
	records int64
	cpu     time.Duration // of the replicator
}

// interval is how often the target is looked at. It costs the target CPU time: with many partitions it is done less often.
func (b *bench) interval() time.Duration {
	return time.Duration(max(10, b.topics*b.partitions/20)) * time.Millisecond
}

// ends waits until the target has all records, and returns when it got the last one. Offsets do not tell which records are control records of
// the replicator, so the copy has ended when there are enough records and no more come.
func (b *bench) ends(ctx context.Context, target *watch, all int64) (moment, error) {
	last, err := b.reaches(ctx, target, all)
	if err != nil {
		return last, err
	}
	for quiet := time.Second + 4*b.rtt; time.Since(last.at) < quiet; {
		if err := wait(ctx, b.interval()); err != nil {
			return last, err
		}
		now, err := b.reaches(ctx, target, all)
		if err != nil {
			return last, err
		}
		if now.records > last.records {
			last = now
		}
	}
	return last, nil
}

// reaches waits until the target has at least n records.
func (b *bench) reaches(ctx context.Context, target *watch, n int64) (moment, error) {
	records, err := target.until(ctx, b.interval(), n)
	if err != nil {
		return moment{}, err
	}
	at := time.Now()
	u, err := target.process.Usage()
	return moment{at, records, u.CPU}, err
}

// copied computes the figures of a copy of all records, of that size. Some are unknown if the first look at the target saw all records.
func (r *result) copied(start time.Time, first, end moment, all int64, size int) {
	gb := func(records int64) float64 { return float64(records) * float64(size) / 1e9 }
	r.First = first.at.Sub(start).Seconds()
	r.All = end.at.Sub(start).Seconds()
	r.CPUPerGB = end.cpu.Seconds() / gb(all)
	if all > first.records && end.at.After(first.at) {
		r.Throughput = gb(all-first.records) * 1000 / end.at.Sub(first.at).Seconds()
		r.CPUPerGBSteady = (end.cpu - first.cpu).Seconds() / gb(all-first.records)
	}
}

// stop lets a replicator leave its groups.
func stop(ctx context.Context, p *proc.Process) error {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 30*time.Second, errors.New("it does not end"))
	defer cancel()
	if _, err := p.Wait(ctx); err != nil {
		p.Kill()
	}
	return nil
}

// cpu is CPU time since some start.
type cpu struct {
	brokers time.Duration
	own     time.Duration // of this process, which has the proxies
	others  time.Duration // of all other processes of the machine but the replicator
}

// usage reads CPU times. The replicator may be nil.
func (b *bench) usage(replicator *proc.Process) (cpu, error) {
	var u cpu
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return u, err
	}
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	for i, field := range strings.Fields(string(line))[1:8] { // user nice system idle iowait irq softirq
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return u, fmt.Errorf("parse /proc/stat: %w", err)
		}
		if i != 3 && i != 4 {
			u.others += time.Duration(ticks) * time.Second / 100
		}
	}
	for _, c := range []*kafka.Cluster{b.source, b.target} {
		used, err := c.Usage()
		if err != nil {
			return u, err
		}
		u.brokers += used.CPU
	}
	u.others -= u.brokers
	if replicator != nil {
		used, err := replicator.Usage()
		if err != nil {
			return u, err
		}
		u.others -= used.CPU
	}
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		return u, err
	}
	u.own = time.Duration(own.Utime.Nano()) + time.Duration(own.Stime.Nano())
	u.others -= u.own
	return u, nil
}
