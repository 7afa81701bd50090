package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/proc"
)

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
