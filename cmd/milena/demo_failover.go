package main

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/replicator/recovery"
)

// failOver ends the source, as a fire in its data center would, and does what somebody does then: milena failover, and the consumer on the target. Both sides
// are compared before.
func (d *demonstration) failOver(ctx context.Context) error {
	if err := d.verify(ctx); err != nil {
		return err
	}
	next, err := (&groupSide{d.source.ListenAddrs(), demoConsumed}).next(ctx)
	if err != nil {
		return err
	}
	d.p.printf("\nCluster %s is gone.\n        milena failover --flow %s\n", demoSource, d.flow.Clusters().Flow.Name)
	d.source.Close()
	d.source = nil
	ctx, cancel := context.WithTimeout(ctx, demoVerify)
	defer cancel()
	progress := recoveryProgress{program: d.p}
	report, err := recovery.FailOver(ctx, d.flow.Clusters(), nil, recovery.Options{Who: d.p.whoDecides(), Reason: "the demo", Watch: progress.tell})
	if err != nil {
		progress.printChecks(report.Checks)
		return fmt.Errorf("failover: %w", err)
	}
	d.p.printRecovery(report, false)
	return d.consumeOnTarget(ctx, next)
}

// consumeOnTarget starts a member of the group on the target, and compares the records with which it begins with those that the group had left on the source.
func (d *demonstration) consumeOnTarget(ctx context.Context, next map[int32][]byte) error {
	topic, left := demoSource+"."+demoConsumed, 0
	for _, value := range next {
		if value != nil {
			left++
		}
	}
	if left == 0 {
		d.p.printf("group %s has read all of %s, and continues on %s with what comes next.\n", demoGroup, demoConsumed, demoTarget)
		return nil
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(d.target.ListenAddrs()...), kgo.ClientID("milena-demo-failed-over"), kgo.ConsumerGroup(demoGroup), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
	)
	if err != nil {
		return fmt.Errorf("create the demo's consumer: %w", err)
	}
	defer client.Close()
	began := time.Now()
	seen := make(map[int32]bool)
	for len(seen) < left {
		fetches := client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("consume %s on %s: %w", topic, demoTarget, err)
		}
		for _, r := range fetches.Records() {
			if !seen[r.Partition] && string(r.Value) != string(next[r.Partition]) {
				return fmt.Errorf("group %s continues in %s-%d with another record than it had left on %s", demoGroup, topic, r.Partition, demoSource)
			}
			seen[r.Partition] = true
		}
	}
	d.p.printf("group %s continues on %s with the records that it had left on %s, %.1f s after it was started.\n", demoGroup, demoTarget, demoSource, time.Since(began).Seconds())
	return nil
}
