package switching

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
)

// App is the application.
type App struct {
	w         *World
	producers []*producer
	groups    []*group
	cluster   int // that it uses

	mu      sync.Mutex
	written map[string]string // the records that are written for sure, and to which cluster
	aborted map[string]bool   // the records of aborted transactions
	failure error             // of a client, such as a write that may or may not have happened
}

func newApp(w *World) *App {
	a := &App{w: w, written: make(map[string]string), aborted: make(map[string]bool)}
	a.producers = []*producer{{app: a, name: "plain", perSecond: w.PerSecond * 3 / 4}, {app: a, name: "transactions", perSecond: w.PerSecond / 4, transactions: true}}
	for i := range w.Groups {
		a.groups = append(a.groups, newGroup(a, i))
	}
	return a
}

// use starts all clients on a cluster.
func (a *App) use(ctx context.Context, cluster int) error {
	a.cluster = cluster
	for _, p := range a.producers {
		if err := p.start(ctx, cluster); err != nil {
			return err
		}
	}
	for _, g := range a.groups {
		if err := g.start(ctx, cluster); err != nil {
			return err
		}
	}
	return nil
}

// StopProducers stops the producers in order, as --freeze none demands.
func (a *App) StopProducers() error {
	for _, p := range a.producers {
		p.stop()
	}
	return a.err()
}

// Move moves the application to the other cluster, after a switchover.
func (a *App) Move(ctx context.Context) error { return a.restart(ctx, other(a.cluster)) }

// Retry starts the application again on the cluster that it uses, after a switchover was undone.
func (a *App) Retry(ctx context.Context) error { return a.restart(ctx, a.cluster) }

func (a *App) restart(ctx context.Context, cluster int) error {
	err := a.StopProducers()
	for _, g := range a.groups {
		err = errors.Join(err, g.stop())
	}
	if err = errors.Join(err, a.err()); err != nil {
		return err
	}
	return a.use(ctx, cluster)
}

// Finish stops the producers, lets all groups read to the end, and judges what they saw.
func (a *App) Finish(ctx context.Context) error {
	err := a.StopProducers()
	for _, g := range a.groups {
		err = errors.Join(err, g.stop())
	}
	var reading errgroup.Group
	for _, g := range a.groups {
		reading.Go(func() error { return g.readToEnd(ctx) })
	}
	return errors.Join(err, reading.Wait(), a.err(), a.judge())
}

// Written is how many records are written.
func (a *App) Written() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.written)
}

// Cluster is the name of the cluster that the application uses.
func (a *App) Cluster() string { return a.w.clusters[a.cluster].Name() }

// Groups are the names of the groups.
func (a *App) Groups() (names []string) {
	for _, g := range a.groups {
		names = append(names, g.name)
	}
	return names
}

func (a *App) fail(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.failure == nil {
		a.failure = fmt.Errorf(format, args...)
	}
}

func (a *App) err() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.failure
}

// judge compares what each group processed with what was written.
func (a *App) judge() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var wrong []string
	for _, g := range a.groups {
		var lost, twice, unknown []string
		for _, id := range slices.Sorted(maps.Keys(a.written)) {
			switch n := len(g.processed[id]); {
			case n == 0:
				lost = append(lost, id+" on "+a.written[id])
			case n > 1:
				twice = append(twice, fmt.Sprintf("%s at %v", id, g.processed[id]))
			}
		}
		for id := range g.processed {
			if _, ok := a.written[id]; !ok && (!g.uncommitted || !a.aborted[id]) {
				unknown = append(unknown, fmt.Sprintf("%s at %v", id, g.processed[id]))
			}
		}
		if len(lost)+len(twice)+len(unknown) > 0 {
			wrong = append(wrong, fmt.Sprintf("group %s: %d lost %s; %d twice %s; %d never written %s", g.name, len(lost), few(lost), len(twice), few(twice), len(unknown), few(unknown)))
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("of %d records:\n%s", len(a.written), strings.Join(wrong, "\n"))
	}
	return nil
}

func few(list []string) string { return fmt.Sprint(list[:min(3, len(list))]) }
