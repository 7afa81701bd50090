package main

import (
	"context"
	"fmt"
	"time"

	"github.com/milena-kafka/milena/e2e/daemon"
)

// flows measures what a flow costs: a process with 1 and one with 10, each with a topic of four partitions and no load.
func (b *bench) flows(ctx context.Context) error {
	fmt.Println("| round | flows | RSS MiB | peak | idle: % of a core |\n|--:|--:|--:|--:|--:|")
	for round := range b.rounds {
		for _, n := range []int{1, 10} {
			if err := b.idleFlows(ctx, round+1, n); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *bench) idleFlows(ctx context.Context, round, n int) error {
	w, err := b.newWorld(ctx, n, 4)
	if err != nil {
		return err
	}
	defer w.close()
	var flows []daemon.Map
	for k := range n {
		flows = append(flows, daemon.Map{
			"name": fmt.Sprintf("flow-%d", k), "source": "a", "target": "b", "topics": []string{fmt.Sprintf("many-%05d", k)}, "heartbeats": k == 0,
		})
	}
	i, err := w.add(ctx, flows...)
	if err != nil {
		return err
	}
	if err := w.start(ctx, i); err != nil {
		return err
	}
	if err := i.WaitReady(ctx); err != nil {
		return err
	}
	if err := pause(ctx, 20*time.Second); err != nil {
		return err
	}
	before, err := i.Process().Usage()
	if err != nil {
		return err
	}
	const span = 20 * time.Second
	if err := pause(ctx, span); err != nil {
		return err
	}
	after, err := i.Process().Usage()
	if err != nil {
		return err
	}
	fmt.Printf("| %d | %d | %.1f | %.1f | %.2f |\n", round, n, float64(after.RSS)/(1<<20), float64(after.PeakRSS)/(1<<20), 100*(after.CPU-before.CPU).Seconds()/span.Seconds())
	return nil
}
