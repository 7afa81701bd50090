package instances

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/verify"
)

// stillFor is how long the instances may copy nothing after the last fault.
const stillFor = time.Minute

// untilCopied waits until the instances together have copied everything below these ends. It is an error if nothing is copied for a while.
func untilCopied(ctx context.Context, daemons []*daemon.Daemon, ends map[string]verify.Ends) error {
	changed, before := time.Now(), ""
	for {
		behind := behind(ctx, daemons, ends)
		if behind == "" {
			return nil
		}
		if behind != before {
			changed, before = time.Now(), behind
		}
		if time.Since(changed) > stillFor {
			return fmt.Errorf("not everything was copied, and nothing for %v: %s", stillFor, behind)
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return fmt.Errorf("%w: %s", err, behind)
		}
	}
}

// behind describes what is not copied. A partition is in the status of the instance that holds its shard.
func behind(ctx context.Context, daemons []*daemon.Daemon, ends map[string]verify.Ends) string {
	type key struct {
		topic     string
		partition int32
	}
	best := map[key]daemon.Partition{}
	var list []string
	for i, d := range daemons {
		partitions, err := d.Partitions(ctx)
		if err != nil {
			list = append(list, fmt.Sprintf("%s: %v", d.Process().Name(), err))
		}
		for _, p := range partitions {
			if p.Anomaly != nil {
				list = append(list, fmt.Sprintf("%s[%d] is halted in daemon %d: %+v", p.Topic, p.Partition, i, *p.Anomaly))
			}
			if k := (key{p.Topic, p.Partition}); p.Acked >= best[k].Acked {
				best[k] = p
			}
		}
	}
	for topic, e := range ends {
		for partition, end := range e.End {
			if p, ok := best[key{topic, partition}]; end > e.Start[partition] && p.Acked < end {
				list = append(list, fmt.Sprintf("%s[%d] is at %d of %d, %s (in a status: %t)", topic, partition, p.Acked, end, p.State, ok))
			}
		}
	}
	return strings.Join(list[:min(len(list), 20)], "; ")
}

// Copied waits until these instances together have copied what the topics of the source hold now.
func Copied(ctx context.Context, source *kgo.Client, daemons []*daemon.Daemon, topics ...string) error {
	ends := map[string]verify.Ends{}
	for _, name := range topics {
		e, err := verify.ReadEnds(ctx, source, name)
		if err != nil {
			return err
		}
		ends[name] = e
	}
	return untilCopied(ctx, daemons, ends)
}

// Late returns where a process has written to a partition after its successor: a producer, or an earlier epoch of one, that comes back behind another
// one. Every owner of a shard has an epoch of its own, which is higher than those before.
func Late(ctx context.Context, client *kgo.Client, topic string, partitions int) ([]string, error) {
	type producer struct {
		id    int64
		epoch int16
	}
	var mu sync.Mutex
	var late []string
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for partition := range int32(partitions) {
		g.Go(func() error {
			var last producer
			over := map[producer]int64{} // the offset at which another one followed
			return verify.Sequence(ctx, client, topic, partition, func(r *kgo.Record) error {
				now := producer{r.ProducerID, r.ProducerEpoch}
				if now == last {
					return nil
				}
				if at, ok := over[now]; ok {
					mu.Lock()
					late = append(late, fmt.Sprintf("%s[%d]: producer %d/%d was followed by another at offset %d, and is back at %d", topic, partition, now.id, now.epoch, at, r.Offset))
					mu.Unlock()
				}
				over[last], last = r.Offset, now
				return nil
			})
		})
	}
	return late, g.Wait()
}

// HeldOnce waits until these instances together hold every shard once, as they say themselves.
func HeldOnce(ctx context.Context, daemons []*daemon.Daemon, shards int) error {
	var state string
	for {
		held := 0
		state = ""
		for _, d := range daemons {
			flows, err := d.Status(ctx)
			if err != nil || len(flows) != 1 {
				held = -shards * len(daemons)
				state += fmt.Sprintf("%s: %v; ", d.Process().Name(), err)
				continue
			}
			i := flows[0].Instance
			state += fmt.Sprintf("%s: %s, %d shards; ", i.ID, i.State, i.Held)
			if i.State != "assigned" && i.State != "standby" || !flows[0].Ready {
				held -= shards
			}
			held += i.Held
		}
		if held == shards {
			return nil
		}
		if pause(ctx, 50*time.Millisecond) != nil {
			return fmt.Errorf("%w: not every one of %d shards is held once: %s", context.Cause(ctx), shards, state)
		}
	}
}
