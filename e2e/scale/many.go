package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	manyInstances = 4
	perTopic      = 50
)

// starts measures how long it takes until all instances are ready, with very many partitions over four instances that are not limited.
func (b *bench) starts(ctx context.Context) error {
	w, err := b.newWorld(ctx, b.partitions/perTopic, perTopic)
	if err != nil {
		return err
	}
	defer w.close()
	fmt.Printf("%d partitions over %d instances.\n\n", b.partitions, manyInstances)
	if err := w.startOneByOne(ctx); err != nil {
		return err
	}
	if err := w.stopAll(ctx); err != nil {
		return err
	}
	return w.startAtOnce(ctx, "with all journals on the target")
}

// many measures a start on an empty target, what idle instances cost, and hand-overs, with as many partitions.
func (b *bench) many(ctx context.Context) error {
	w, err := b.newWorld(ctx, b.partitions/perTopic, perTopic)
	if err != nil {
		return err
	}
	defer w.close()
	fmt.Printf("%d partitions over %d instances.\n\n", b.partitions, manyInstances)
	if err := w.addAll(ctx); err != nil {
		return err
	}
	if err := w.startAtOnce(ctx, "with nothing on the target"); err != nil {
		return err
	}
	if err := w.idle(ctx); err != nil {
		return err
	}
	return w.endings(ctx)
}

// event is something that happens to an instance.
type event struct {
	what    string
	victim  *instance
	arrives bool // otherwise it ends
	sudden  bool // all partitions of the instance get a record just before
	do      func() error
}

// endings measures what stands still, and how long, when an instance ends and when it comes back.
func (w *world) endings(ctx context.Context) error {
	fmt.Println("\n| event | partitions | their standstill in ms: median | p99 | max | all ready after s | the other partitions: median | p99 | max | records twice |")
	fmt.Println("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
	victim := w.instances[1]
	var ended time.Duration
	kill := func() error {
		victim.Kill()
		victim.running = false
		return nil
	}
	start := func() error { return w.start(ctx, victim) }
	stop := func() error {
		began := time.Now()
		_, err := victim.Stop(ctx)
		victim.running, ended = false, time.Since(began)
		return err
	}
	for _, e := range []event{
		{"kill -9 of one instance", victim, false, true, kill},
		{"its start", victim, true, false, start},
		{"SIGTERM of one instance", victim, false, false, stop},
		{"its start", victim, true, false, start},
	} {
		if err := w.disturb(ctx, e); err != nil {
			return err
		}
	}
	fmt.Printf("\nThe process ended %.2f s after SIGTERM.\n", ended.Seconds())
	return nil
}

func (w *world) addAll(ctx context.Context) error {
	for range manyInstances {
		if _, err := w.add(ctx); err != nil {
			return err
		}
	}
	return nil
}

// startOneByOne starts each instance once all before it are ready.
func (w *world) startOneByOne(ctx context.Context) error {
	if err := w.addAll(ctx); err != nil {
		return err
	}
	for n, i := range w.instances {
		began, before := time.Now(), w.cpu()
		if err := w.start(ctx, i); err != nil {
			return err
		}
		stop := w.profiling(ctx, fmt.Sprintf("join-%d", n+1), i)
		took, err := w.settled(ctx, began)
		stop()
		if err != nil {
			return err
		}
		fmt.Printf("Instance %d: all ready and assigned %.1f s after its start; %.1f s of CPU of all instances.\n", n+1, took.Seconds(), (w.cpu() - before).Seconds())
		if err := pause(ctx, 3*time.Second); err != nil {
			return err
		}
	}
	return nil
}

// startAtOnce starts all instances at the same time.
func (w *world) startAtOnce(ctx context.Context, when string) error {
	began := time.Now()
	if err := w.start(ctx, w.instances...); err != nil {
		return err
	}
	stop := w.profiling(ctx, "start", w.instances[0])
	took, err := w.settled(ctx, began)
	stop()
	if err != nil {
		return err
	}
	fmt.Printf("All four at the same time, %s: all ready and assigned after %.1f s; %.1f s of CPU of all instances.\n", when, took.Seconds(), w.cpu().Seconds())
	return nil
}

func (w *world) stopAll(ctx context.Context) error {
	for _, i := range w.instances {
		if err := i.Process().Signal(os.Interrupt); err != nil {
			return err
		}
	}
	for _, i := range w.instances {
		if _, err := i.Process().Wait(ctx); err != nil {
			return err
		}
		i.running = false
	}
	return pause(ctx, time.Second)
}

// cpu returns the CPU time of the running instances.
func (w *world) cpu() (sum time.Duration) {
	for _, i := range w.instances {
		if i.running {
			if u, err := i.Process().Usage(); err == nil {
				sum += u.CPU
			}
		}
	}
	return sum
}

// idle measures instances that have nothing to copy.
func (w *world) idle(ctx context.Context) error {
	if err := pause(ctx, 15*time.Second); err != nil { // the first syncs are over
		return err
	}
	for _, i := range w.instances {
		defer w.profiling(ctx, "idle-"+i.id, i)()
	}
	u, err := w.watch(ctx, 20*time.Second)
	if err != nil {
		return err
	}
	fmt.Println("\n| instance | idle: % of a core | RSS MiB | peak |\n|---|--:|--:|--:|")
	for k, i := range w.instances {
		used, err := i.Process().Usage()
		if err != nil {
			return err
		}
		fmt.Printf("| %s | %.1f | %d | %d |\n", i.id, 100*u.instances[k], used.RSS>>20, used.PeakRSS>>20)
	}
	return nil
}

// disturb writes steadily to some partitions of all shards, lets an event happen, and reports how long the slowest record of each partition took:
// of those that the instance had, or gets when it arrives, and of the others.
func (w *world) disturb(ctx context.Context, e event) error {
	traffic := load{Size: 100, Watched: true, Partitions: w.evenly(8, func(int32) float64 { return 4 })}
	if err := w.traffic(ctx, traffic); err != nil {
		return err
	}
	if err := pause(ctx, 3*time.Second); err != nil {
		return err
	}
	var held []int32
	var err error
	if !e.arrives {
		if held, err = w.shardsOf(ctx, e.victim); err != nil {
			return err
		}
	}
	if _, err := w.delays(ctx); err != nil {
		return err
	}
	began := time.Now()
	if e.sudden {
		if err := w.fill(ctx, load{Size: 100, Watched: true, Partitions: w.of(held)}); err != nil {
			return err
		}
	}
	if err := e.do(); err != nil {
		return err
	}
	stop := w.profiling(ctx, strings.ReplaceAll(e.what, " ", "-"), w.instances[0])
	took, err := w.settled(ctx, began)
	stop()
	if err != nil {
		return err
	}
	if e.arrives {
		if held, err = w.shardsOf(ctx, e.victim); err != nil {
			return err
		}
	}
	return w.report(ctx, e.what, held, took)
}

// report ends the traffic, and prints how long the records took since the last time, apart for the partitions of these shards.
func (w *world) report(ctx context.Context, what string, held []int32, took time.Duration) error {
	if err := pause(ctx, 5*time.Second); err != nil {
		return err
	}
	if err := w.traffic(ctx, load{}); err != nil {
		return err
	}
	if err := pause(ctx, 2*time.Second); err != nil {
		return err
	}
	d, err := w.delays(ctx)
	if err != nil {
		return err
	}
	moved, others := w.split(d, held)
	fmt.Printf("| %s | %d | %s | %.1f | %s | %d |\n", what, len(moved), histogram(moved), took.Seconds(), histogram(others), d.Extra)
	if d.Pending > 0 {
		fmt.Printf("\n%d records have not arrived.\n", d.Pending)
	}
	return nil
}

// split divides delays into those of partitions of these shards and the others, ascending.
func (w *world) split(d delays, held []int32) (of, others []float64) {
	w.each(func(topic string, partition, shard int32) {
		worst, ok := d.Worst[fmt.Sprintf("%s/%d", topic, partition)]
		switch {
		case !ok:
		case slices.Contains(held, shard):
			of = append(of, worst)
		default:
			others = append(others, worst)
		}
	})
	slices.Sort(of)
	slices.Sort(others)
	return of, others
}

// histogram returns the median, the 99th percentile and the maximum of a sorted list, as cells of a table.
func histogram(list []float64) string {
	if len(list) == 0 {
		return "– | – | –"
	}
	return fmt.Sprintf("%.0f | %.0f | %.0f", list[len(list)/2], list[len(list)*99/100], list[len(list)-1])
}

// shardsOf returns the shards that the group has assigned to an instance, as another one says.
func (w *world) shardsOf(ctx context.Context, i *instance) ([]int32, error) {
	for {
		o, err := w.instances[0].overview(ctx)
		if err != nil {
			return nil, err
		}
		for _, other := range o.Instance.Instances {
			if other.ID == i.id && len(other.Shards) > 0 && len(o.Instance.Instances) == manyInstances {
				return other.Shards, nil
			}
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// profiling records the CPU profiles of an instance and of the brokers until the function that it returns is called, if profiles are wanted.
func (w *world) profiling(ctx context.Context, name string, i *instance) (stop func()) {
	if w.profile == "" {
		return func() {}
	}
	var both sync.WaitGroup
	both.Go(func() { w.saveProfile(ctx, name, i.URL()) })
	both.Go(func() { w.saveProfile(ctx, name+"-brokers", w.at.Control) })
	return both.Wait
}

// saveProfile saves the CPU profile of a process over some seconds, once it listens.
func (w *world) saveProfile(ctx context.Context, name, url string) {
	const seconds, attempts = 8, 100
	for range attempts {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", url, seconds), nil)
		if err != nil {
			return
		}
		if response, err := http.DefaultClient.Do(request); err == nil {
			text, err := io.ReadAll(response.Body)
			_ = response.Body.Close()
			if err == nil {
				_ = os.WriteFile(filepath.Join(w.profile, name+".pprof"), text, 0o600)
			}
			return
		}
		if pause(ctx, 10*time.Millisecond) != nil {
			return
		}
	}
}
