package instances

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/verify"
)

// Stamped records have a key, a value of n bytes, and in it the time at which they were written.
func Stamped(n int) load.Shape {
	return func(r *rand.Rand, mark string) kgo.Record {
		return kgo.Record{Key: []byte(mark), Value: load.Payload(r, fmt.Sprintf("%s%d ", mark, time.Now().UnixMilli()), n)}
	}
}

// stamp is the time at which a record was written.
func stamp(r *kgo.Record) (time.Time, error) {
	parts := strings.SplitN(string(r.Value), " ", 3)
	if len(parts) < 3 {
		return time.Time{}, fmt.Errorf("record %d of partition %d has no stamp: %.60q", r.Offset, r.Partition, r.Value)
	}
	ms, err := strconv.ParseInt(parts[1], 10, 64)
	return time.UnixMilli(ms), err
}

// Standstill is a time in which a partition of a copy got nothing although a record was waiting.
type Standstill struct {
	Partition int32
	From, To  time.Time
}

// Took is how long it was.
func (s Standstill) Took() time.Duration { return s.To.Sub(s.From) }

// Standstills returns the standstills of a topic with stamped records that are longer than least. The timestamps of the topic are those at which the
// broker appended a batch.
func Standstills(ctx context.Context, client *kgo.Client, topic string, partitions int, least time.Duration) ([]Standstill, error) {
	var mu sync.Mutex
	var all []Standstill
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for partition := range int32(partitions) {
		g.Go(func() error {
			var appended time.Time // the last record
			return verify.Sequence(ctx, client, topic, partition, func(r *kgo.Record) error {
				from, err := stamp(r)
				if err != nil {
					return err
				}
				if from.Before(appended) {
					from = appended
				}
				if s := (Standstill{partition, from, r.Timestamp}); !appended.IsZero() && s.Took() > least {
					mu.Lock()
					all = append(all, s)
					mu.Unlock()
				}
				appended = r.Timestamp
				return nil
			})
		})
	}
	return all, g.Wait()
}

// Longest returns the longest standstill that began in a time; a zero one if there is none.
func Longest(all []Standstill, from, to time.Time) (longest Standstill) {
	for _, s := range all {
		if !s.From.Before(from) && s.From.Before(to) && s.Took() > longest.Took() {
			longest = s
		}
	}
	return longest
}
