package main

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/milena-kafka/milena/e2e/proc"
)

const (
	warmUp = 3 * time.Second
	window = 8 * time.Second
)

// throughput measures 1, 2 and 4 instances one after the other, several times. All partitions have more to copy than the measurement takes. There are
// as many partitions whatever the number of instances, and then as many per instance.
func (b *bench) throughput(ctx context.Context) error {
	fmt.Printf("Each instance may use %.2f cores; batches of %d bytes.\n\n", b.share, b.batch)
	fmt.Println("| round | instances | partitions | MB/s | per instance, of one alone | cores of each instance | MB per CPU second | cores of the brokers | other processes |")
	fmt.Println("|--:|--:|--:|--:|--:|---|--:|--:|--:|")
	for round := range b.rounds {
		for _, perShard := range []func(n int) int{func(int) int { return 4 }, func(n int) int { return n }} {
			var alone float64
			for _, n := range []int{1, 2, 4} {
				got, err := b.saturated(ctx, n, perShard(n))
				if err != nil {
					return err
				}
				if n == 1 {
					alone = got.rate
				}
				fmt.Printf("| %d | %d | %d | %.1f | %.2f | %s | %.0f | %.2f | %.2f |\n", round+1, n, perShard(n)*shards, got.rate/1e6, got.rate/alone/float64(n),
					cores(got.instances), got.rate/1e6/sum(got.instances), got.brokers, got.others)
			}
		}
	}
	return nil
}

// use is what a window of time has shown.
type use struct {
	rate      float64 // bytes per second
	instances []float64
	brokers   float64 // cores, like the others
	others    float64
}

func sum(list []float64) (total float64) {
	for _, c := range list {
		total += c
	}
	return total
}

func cores(list []float64) string {
	var text []string
	for _, c := range list {
		text = append(text, fmt.Sprintf("%.2f", c))
	}
	return strings.Join(text, " ")
}

// saturated measures n instances that have more to copy than they can, from so many partitions of each shard.
func (b *bench) saturated(ctx context.Context, n, perShard int) (u use, err error) {
	w, err := b.limited(ctx, n)
	if err != nil {
		return u, err
	}
	defer w.close()
	const most = 600e6 // bytes per second and core of an instance, at most
	batches := math.Ceil(most * b.share * float64(n) * (warmUp + window).Seconds() / float64(shards*perShard*b.batch))
	if err := w.fill(ctx, load{Size: b.batch, Partitions: w.evenly(perShard, func(int32) float64 { return batches })}); err != nil {
		return u, err
	}
	if err := pause(ctx, warmUp); err != nil {
		return u, err
	}
	return w.watch(ctx, window)
}

// limited starts n instances over 1,024 partitions, and limits them once all is assigned and ready.
func (b *bench) limited(ctx context.Context, n int) (w *world, err error) {
	if w, err = b.newWorld(ctx, 64, 16, "-keep", fmt.Sprint(64<<10)); err != nil {
		return nil, err
	}
	for range n {
		if _, err = w.add(ctx); err != nil {
			return w, err
		}
	}
	began := time.Now()
	if err = w.start(ctx, w.instances...); err != nil {
		return w, err
	}
	if _, err = w.settled(ctx, began); err != nil {
		w.close()
		return nil, err
	}
	for _, i := range w.instances {
		if err = w.limit(i, w.share); err != nil {
			w.close()
			return nil, err
		}
	}
	return w, pause(ctx, 2*time.Second)
}

// limit limits an instance to a share of a core, or to none.
func (w *world) limit(i *instance, share float64) error {
	q, err := newQuota(fmt.Sprintf("milena-scale-%d-%.3f", i.Process().Pid(), share), i.Process().Pid(), share)
	if err == nil {
		i.quota.remove()
		i.quota = q
	}
	return err
}

// sample is what the processes have done so far.
type sample struct {
	at    time.Time
	bytes int64
	cpu   []time.Duration // of the instances that run, the brokers, and all processes of the machine
}

func (w *world) sample(ctx context.Context) (s sample, err error) {
	f, err := w.figures(ctx)
	if err != nil {
		return s, err
	}
	s.at, s.bytes = time.Now(), f.Bytes
	var list []*proc.Process
	for _, i := range w.instances {
		if i.running {
			list = append(list, i.Process())
		}
	}
	for _, p := range append(list, w.thin) {
		used, err := p.Usage()
		if err != nil {
			return s, err
		}
		s.cpu = append(s.cpu, used.CPU)
	}
	all, err := machineCPU()
	s.cpu = append(s.cpu, all)
	return s, err
}

// watch watches the running processes for a time.
func (w *world) watch(ctx context.Context, span time.Duration) (u use, err error) {
	before, err := w.sample(ctx)
	if err != nil {
		return u, err
	}
	if err := pause(ctx, span); err != nil {
		return u, err
	}
	after, err := w.sample(ctx)
	if err != nil {
		return u, err
	}
	took := after.at.Sub(before.at).Seconds()
	u.rate = float64(after.bytes-before.bytes) / took
	var used []float64
	for k := range before.cpu {
		used = append(used, (after.cpu[k]-before.cpu[k]).Seconds()/took)
	}
	n := len(used) - 2
	u.instances, u.brokers = used[:n], used[n]
	u.others = max(0, used[n+1]-used[n]-sum(u.instances))
	return u, nil
}

// zipf measures four instances that are offered 40 % of what they can copy at most, with loads by Zipf's law: the heaviest shard has a fifth of all. The
// instances join before the loads are known. One of them leaves and comes back later.
func (b *bench) zipf(ctx context.Context) error {
	const n, offered = 4, 0.4
	one, err := b.saturated(ctx, 1, 4)
	if err != nil {
		return err
	}
	w, err := b.limited(ctx, n)
	if err != nil {
		return err
	}
	defer w.close()
	var harmonic float64
	weights := make([]float64, shards)
	for i := range weights {
		weights[i] = 1 / float64(i+1)
		harmonic += weights[i]
	}
	rand.New(rand.NewPCG(3, 4)).Shuffle(shards, func(i, j int) { weights[i], weights[j] = weights[j], weights[i] })
	total := offered * n * one.rate
	err = w.traffic(ctx, load{Size: b.batch, Partitions: w.evenly(4, func(shard int32) float64 { return total * weights[shard] / harmonic / 4 / float64(b.batch) })})
	if err != nil {
		return err
	}
	fmt.Printf("One instance with %.2f cores copies %.1f MB/s. Four are offered %.1f MB/s.\n\n", b.share, one.rate/1e6, total/1e6)
	fmt.Println("| when | MB/s | of what is offered | cores of each instance | largest share of an instance, of the mean | cores of the brokers |")
	fmt.Println("|---|--:|--:|---|--:|--:|")
	report := func(when string) error {
		u, err := w.watch(ctx, 2*window)
		if err != nil {
			return err
		}
		fmt.Printf("| %s | %.1f | %.2f | %s | %.2f | %.2f |\n", when, u.rate/1e6, u.rate/total, cores(u.instances), slices.Max(u.instances)*n/sum(u.instances), u.brokers)
		return nil
	}
	if err := pause(ctx, 20*time.Second); err != nil { // the loads are known then
		return err
	}
	if err := report("assigned before the loads are known"); err != nil {
		return err
	}
	if err := w.restart(ctx, w.instances[n-1]); err != nil {
		return err
	}
	if err := pause(ctx, 10*time.Second); err != nil {
		return err
	}
	return report("after one has left and come back")
}

// restart stops an instance, waits until the others have its shards, starts it again, and waits until it has its part.
func (w *world) restart(ctx context.Context, i *instance) error {
	if _, err := i.Stop(ctx); err != nil {
		return err
	}
	i.running = false
	i.quota.remove()
	if _, err := w.settled(ctx, time.Now()); err != nil {
		return err
	}
	if err := w.start(ctx, i); err != nil {
		return err
	}
	if err := w.limit(i, w.share); err != nil {
		return err
	}
	_, err := w.settled(ctx, time.Now())
	return err
}
