package faults

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/verify"
)

// Options of a run.
type Options struct {
	Seed   uint64
	Faults int
	// RTT is the round-trip time from milena to the brokers of both clusters.
	RTT time.Duration
	// Binary is milena's, see daemon.Build.
	Binary string
	Jars   kafka.Jars
	Dir    string // of data and logs
	Logf   func(format string, args ...any)
}

// Report is the result of a run.
type Report struct {
	Faults  map[Kind]int // by kind
	Records int64        // on the target, all judged
	Took    time.Duration
}

// Run carries out the plan of a seed. It blocks until all is judged. The error says what is lost, there twice, out of order or halted, or why the
// run could not be finished.
func Run(ctx context.Context, o Options) (Report, error) {
	began := time.Now()
	report := Report{Faults: map[Kind]int{}}
	w, err := newWorld(ctx, o)
	if err != nil {
		return report, err
	}
	defer w.close()
	for _, c := range []side{w.source, w.target} {
		for _, b := range c.Brokers() {
			b.Proxy().SetRTT(o.RTT)
		}
	}
	for i, f := range Plan(o.Seed, o.Faults) {
		o.Logf("%6.1f s  fault %d: %s", time.Since(began).Seconds(), i+1, f)
		if err := w.step(ctx, f); err != nil {
			return report, fmt.Errorf("fault %d of seed %d (%s): %w\nmilena:\n%s", i+1, o.Seed, f, err, w.milena.Tail(40))
		}
		report.Faults[f.Kind]++
	}
	if err := w.finish(ctx); err != nil {
		return report, fmt.Errorf("after %d faults of seed %d: %w\nmilena:\n%s", o.Faults, o.Seed, err, w.milena.Tail(40))
	}
	report.Records, err = w.judgeAll(ctx)
	report.Took = time.Since(began)
	if err != nil {
		err = fmt.Errorf("after %d faults of seed %d: %w", o.Faults, o.Seed, err)
	}
	return report, err
}

// step lets one fault happen and the load run on. It is an error if milena has ended by itself or halted a partition.
func (w *world) step(ctx context.Context, f Fault) error {
	if err := w.inject(ctx, f); err != nil {
		return err
	}
	if err := pause(ctx, f.After); err != nil {
		return err
	}
	if !w.milena.Process().Running() {
		return errors.New("milena has ended by itself")
	}
	return w.halted(ctx)
}

// halted returns an error if a partition is halted. It returns nil while milena cannot be asked.
func (w *world) halted(ctx context.Context) error {
	partitions, err := w.milena.Partitions(ctx)
	if err != nil {
		return nil //nolint:nilerr // it is starting
	}
	var list []string
	for _, p := range partitions {
		if p.Anomaly != nil {
			list = append(list, fmt.Sprintf("%s[%d] is halted: %+v", p.Topic, p.Partition, *p.Anomaly))
		}
	}
	if len(list) > 0 {
		return errors.New(strings.Join(list, "\n"))
	}
	return nil
}

// finish stops the writers and waits until milena has copied everything.
func (w *world) finish(ctx context.Context) error {
	w.transactions.end()
	for _, t := range w.topics {
		if err := t.end(ctx); err != nil {
			return err
		}
	}
	ends := map[string]verify.Ends{}
	names := []string{"transactional"}
	for _, t := range w.topics {
		names = append(names, t.name)
	}
	for _, name := range names {
		e, err := readEnds(ctx, w.source, name)
		if err != nil {
			return err
		}
		ends[name] = e
	}
	return w.untilCopied(ctx, ends)
}

// stillFor is how long milena may copy nothing after the last fault. The faults leave it little time, so there may be much to copy then.
const stillFor = 2 * time.Minute

// untilCopied waits until everything below these ends is copied. It is an error if nothing is copied for a while.
func (w *world) untilCopied(ctx context.Context, ends map[string]verify.Ends) error {
	for before := ""; ; {
		copied, cancel := context.WithTimeoutCause(ctx, stillFor, fmt.Errorf("not everything was copied, and nothing for %v", stillFor))
		last := ""
		err := w.milena.Until(copied, 100*time.Millisecond, func() (done bool, state string) {
			done, last = w.allCopied(copied, ends)
			return done, last
		})
		cancel()
		if err == nil || last == before || ctx.Err() != nil || !w.milena.Process().Running() {
			return err
		}
		before = last
	}
}

// allCopied reports whether milena has acknowledged everything below these ends.
func (w *world) allCopied(ctx context.Context, ends map[string]verify.Ends) (bool, string) {
	partitions, err := w.milena.Partitions(ctx)
	if err != nil {
		return false, err.Error()
	}
	var behind []string
	missing := 0
	for _, e := range ends {
		missing += len(e.End)
	}
	for _, p := range partitions {
		e, ok := ends[p.Topic]
		if !ok {
			continue
		}
		missing--
		if p.Acked < e.End[p.Partition] {
			behind = append(behind, fmt.Sprintf("%s[%d] is at %d of %d, %s", p.Topic, p.Partition, p.Acked, e.End[p.Partition], p.State))
			if p.Anomaly != nil {
				behind[len(behind)-1] += fmt.Sprintf(": %+v", *p.Anomaly)
			}
		}
	}
	if missing > 0 {
		behind = append(behind, fmt.Sprintf("%d partitions are not in /status", missing))
	}
	return len(behind) == 0, strings.Join(behind, "; ")
}
