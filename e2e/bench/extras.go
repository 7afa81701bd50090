package main

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/proc"
)

// measureExtras measures a replicator that has copied everything: what it uses when there is nothing to do, its latency, and new topics.
func (b *bench) measureExtras(ctx context.Context, r replicator, p *proc.Process, got *result) error {
	var err error
	if got.IdlePercent, err = b.idle(ctx, p); err != nil {
		return fmt.Errorf("idle: %w", err)
	}
	p50, p99, err := b.addedLatency(ctx, r)
	if err != nil {
		return fmt.Errorf("latency: %w", err)
	}
	got.P50, got.P99 = ms(p50), ms(p99)
	if got.NewTopic, err = b.newTopic(ctx, r, p); err != nil {
		return fmt.Errorf("new topic: %w", err)
	}
	return nil
}

// idle returns the CPU time of a replicator in percent of a core while nothing is written.
func (b *bench) idle(ctx context.Context, p *proc.Process) (float64, error) {
	const settle = 5 * time.Second // a last journal, the last lines of a log, a garbage collection
	if err := wait(ctx, settle); err != nil {
		return 0, err
	}
	before, err := p.Usage()
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if err := wait(ctx, b.idleFor); err != nil {
		return 0, err
	}
	after, err := p.Usage()
	if err != nil {
		return 0, err
	}
	const resolution = 10 * time.Millisecond // of CPU times
	return 100 * max(after.CPU-before.CPU, resolution).Seconds() / time.Since(start).Seconds(), nil
}

// newTopic returns how many seconds after the creation of a topic its first record is on the target. This depends on when the replicator looks
// for topics, so it is the mean of some.
func (b *bench) newTopic(ctx context.Context, r replicator, p *proc.Process) (float64, error) {
	client, err := b.source.Client()
	if err != nil {
		return 0, err
	}
	defer client.Close()
	const n = 3
	var sum time.Duration
	for i := range n {
		topic := fmt.Sprintf("%s-%d", b.id(), 900+i)
		start := time.Now()
		if err := b.createTopics(ctx, b.source, topic); err != nil {
			return 0, err
		}
		if err := client.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("first")}).FirstErr(); err != nil {
			return 0, err
		}
		target, err := watchTopics(b.target, []string{r.remoteTopic(topic)})
		if err != nil {
			return 0, err
		}
		target.process = p
		_, err = target.until(ctx, 10*time.Millisecond, 1)
		target.close()
		if err != nil {
			return 0, err
		}
		sum += time.Since(start)
		// Not always at the same time after the replicator has looked for topics.
		if err := wait(ctx, 700*time.Millisecond); err != nil {
			return 0, err
		}
	}
	return sum.Seconds() / n, nil
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
