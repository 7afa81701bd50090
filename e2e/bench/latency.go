package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/milena-kafka/milena/e2e/kafka"
)

// perSecond is the load, in records, for which latency is measured.
const perSecond = 40

// addedLatency writes perSecond records per second and returns how much later a consumer of the target sees them than one of the source.
func (b *bench) addedLatency(ctx context.Context, r replicator) (p50, p99 time.Duration, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, b.latency+time.Minute, fmt.Errorf("records are missing one minute after the %s of writing", b.latency))
	defer cancel()
	topic := b.topicNames()[0]
	n := int(b.latency.Seconds() * perSecond)
	// The second replicator also copies what was written for the first one. The mark tells them apart.
	mark := fmt.Sprintf("latency of %s %d ", r.name(), time.Now().UnixNano())
	atSource, err := startSightings(ctx, b.source, topic, mark, n)
	if err != nil {
		return 0, 0, err
	}
	defer atSource.client.Close()
	atTarget, err := startSightings(ctx, b.target, r.remoteTopic(topic), mark, n)
	if err != nil {
		return 0, 0, err
	}
	defer atTarget.client.Close()
	producer, err := b.source.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0))
	if err != nil {
		return 0, 0, err
	}
	defer producer.Close()

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return atSource.collect(ctx) })
	g.Go(func() error { return atTarget.collect(ctx) })
	g.Go(func() error {
		tick := time.NewTicker(time.Second / perSecond)
		defer tick.Stop()
		for i := range n {
			<-tick.C
			record := &kgo.Record{Topic: topic, Partition: int32(i % b.partitions), Value: []byte(mark + strconv.Itoa(i))}
			if err := producer.ProduceSync(ctx, record).FirstErr(); err != nil {
				return err
			}
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return 0, 0, err
	}
	var added []time.Duration
	for i := range n {
		added = append(added, atTarget.seen[i].Sub(atSource.seen[i]))
	}
	added = added[n/10:] // the first tenth warms up the connections
	slices.Sort(added)
	return added[len(added)/2], added[len(added)*99/100], nil
}

// sightings are the times at which a consumer of a topic saw the marked records.
type sightings struct {
	client *kgo.Client
	topic  string
	mark   string
	seen   []time.Time
}

// startSightings consumes from the current end of a topic.
func startSightings(ctx context.Context, c *kafka.Cluster, topic, mark string, n int) (*sightings, error) {
	from := map[int32]kgo.Offset{}
	err := c.Admin(func(adm *kadm.Client) error {
		ends, err := adm.ListEndOffsets(ctx, topic)
		if err != nil {
			return err
		}
		ends.Each(func(o kadm.ListedOffset) { from[o.Partition] = kgo.NewOffset().At(o.Offset) })
		return ends.Error()
	})
	if err != nil {
		return nil, err
	}
	client, err := c.Client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}))
	return &sightings{client: client, topic: topic, mark: mark, seen: make([]time.Time, n)}, err
}

// collect consumes until all marked records are seen.
func (s *sightings) collect(ctx context.Context) error {
	for left := len(s.seen); left > 0; {
		fetches := s.client.PollFetches(ctx)
		now := time.Now()
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("%d of %d records of %s seen: %w (%w)", len(s.seen)-left, len(s.seen), s.topic, err, context.Cause(ctx))
		}
		fetches.EachRecord(func(r *kgo.Record) {
			number, ok := strings.CutPrefix(string(r.Value), s.mark)
			if i, err := strconv.Atoi(number); ok && err == nil && s.seen[i].IsZero() {
				s.seen[i] = now
				left--
			}
		})
	}
	return nil
}
