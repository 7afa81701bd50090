package instances

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/verify"
)

// shards is milena's default.
const shards = 64

// Options of a run.
type Options struct {
	Seed uint64
	// Instances always run; up to two more come and go.
	Instances int
	// Lasts is how long faults begin.
	Lasts time.Duration
	// Forgetful is a target that forgets producers after 20 s, as brokers do within minutes with those of old records. Nothing but the lease then
	// stops a process that was replaced.
	Forgetful bool
	// Binary is milena's, see daemon.Build.
	Binary string
	Jars   kafka.Jars
	Dir    string // of data and logs
	Logf   func(format string, args ...any)
}

// Report is the result of a run.
type Report struct {
	Faults      map[Kind]int
	Records     int64 // on the target, all judged
	Standstills Histogram
	Took        time.Duration
}

// Run carries out the plan of a seed. It blocks until all is judged. The error says what is lost, there twice or out of order, or why the run
// could not be finished. The report has the standstills also if there is an error.
func Run(ctx context.Context, o Options) (Report, error) {
	w, err := newWorld(ctx, o)
	if err != nil {
		return Report{}, err
	}
	defer w.close()
	o.Logf("%6.1f s  %d instances share the flow", time.Since(w.began).Seconds(), o.Instances)
	err = w.faults(ctx)
	var report Report
	if err == nil {
		report, err = w.finish(ctx)
	}
	report.Faults, report.Took = map[Kind]int{}, time.Since(w.began)
	for _, e := range w.events {
		report.Faults[e.Kind]++
	}
	if err != nil {
		err = fmt.Errorf("after %d faults of seed %d: %w%s", len(w.events), o.Seed, err, w.tails())
	}
	return report, err
}

// tails are the last lines of all instances.
func (w *world) tails() string {
	var text strings.Builder
	for _, s := range w.slots {
		if s.Process() != nil {
			fmt.Fprintf(&text, "\ninstance %d:\n%s", s.number, s.Tail(25))
		}
	}
	return text.String()
}

// faults lets faults happen for as long as the run lasts or until one fails, and waits until the last one is over. The processes that they start
// end with ctx.
func (w *world) faults(ctx context.Context) error {
	var running sync.WaitGroup
	var failed atomic.Pointer[error]
	p := newPlan(w.Seed, w.Instances)
	for n := 1; time.Since(w.began) < w.Lasts && ctx.Err() == nil && failed.Load() == nil; n++ {
		f := p.next()
		unlock := w.lock(f)
		began := time.Now()
		w.Logf("%6.1f s  fault %d: %s", began.Sub(w.began).Seconds(), n, f)
		over := make(chan struct{})
		running.Go(func() {
			defer close(over)
			defer unlock()
			if err := w.step(ctx, f); err != nil {
				err = fmt.Errorf("fault %d (%s): %w", n, f, err)
				failed.CompareAndSwap(nil, &err)
			}
			w.mu.Lock()
			w.events = append(w.events, Event{f.Kind, began, time.Now()})
			w.mu.Unlock()
			w.Logf("%6.1f s  fault %d is over", time.Since(w.began).Seconds(), n)
		})
		if !f.Overlap {
			<-over
		}
		_ = pause(ctx, f.After)
	}
	running.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return context.Cause(ctx)
}

// step lets one fault happen. It is an error if an instance that it hit has ended by itself.
func (w *world) step(ctx context.Context, f Fault) error {
	if err := w.inject(ctx, f); err != nil {
		return err
	}
	for _, s := range w.hit(f) {
		if s.number < w.Instances && !s.Process().Running() {
			return fmt.Errorf("instance %d has ended by itself", s.number)
		}
	}
	return nil
}

// finish stops the writers, waits until everything is copied, and judges it.
func (w *world) finish(ctx context.Context) (report Report, err error) {
	var names []string
	for _, t := range w.topics {
		names = append(names, t.name)
		if _, err := t.stream.Stop(ctx); err != nil {
			return report, err
		}
		t.writer.Close()
	}
	var daemons []*daemon.Daemon
	for _, s := range w.slots[:w.Instances] {
		daemons = append(daemons, s.Daemon)
	}
	settled, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("not within a minute of the last fault"))
	defer cancel()
	if err := HeldOnce(settled, daemons, shards); err != nil {
		return report, err
	}
	if err := Copied(ctx, w.sourceClient, daemons, names...); err != nil {
		return report, err
	}
	verified, err := verify.Run(ctx, w.sourceClient, w.targetClient, verify.Options{Topics: names, Name: remote})
	if err != nil {
		return report, err
	}
	report.Records = verified.Records
	wrong := verified.Differences
	for _, t := range w.topics {
		late, err := Late(ctx, w.targetClient, remote(t.name), t.partitions)
		if err != nil {
			return report, err
		}
		wrong = append(wrong, late...)
		if t.name == measured {
			all, err := Standstills(ctx, w.targetClient, remote(t.name), t.partitions, 100*time.Millisecond)
			if err != nil {
				return report, err
			}
			slices.SortFunc(w.events, func(a, b Event) int { return a.Began.Compare(b.Began) })
			report.Standstills = newHistogram(w.events, all, t.partitions)
			if err := os.WriteFile(filepath.Join(w.Dir, "standstills.txt"), []byte(list(w.events, all, w.began)), 0o644); err != nil {
				return report, err
			}
		}
	}
	if len(wrong) > 0 {
		return report, fmt.Errorf("%d differences:\n%s", len(wrong), strings.Join(wrong[:min(len(wrong), 20)], "\n"))
	}
	return report, nil
}

func remote(topic string) string { return "source." + topic }
