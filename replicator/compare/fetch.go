package compare

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/match"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/topics"
	"github.com/milena-kafka/milena/replicator/wire"
)

const (
	// CompareWait is how long a broker may keep a fetch that finds nothing.
	compareWait = 250 * time.Millisecond
	// ComparePatience is how long such a fetch may take in all.
	comparePatience = 10 * time.Second
	// ComparedBytes is what one partition may fill of one answer.
	comparedBytes = 1 << 20
	// CompareBrokers is how many brokers are asked at a time.
	compareBrokers = 8
	// ComparedTail is how much of a copy is read where no offset-sync says what to begin with.
	comparedTail = 1000
	// ComparedFurthest is how far before the end of a copy the comparison begins at most.
	comparedFurthest = windowFollowed
)

// side is one of the two clusters, and what a partition does with it.
type side struct {
	wire      wire.Fetcher
	alias     string
	cluster   config.Cluster
	isolation int8
	view      *topics.View
	ask       func(p *followed) (next wire.FetchPartition, ok bool)
	take      func(p *followed, rp *kmsg.FetchResponseTopicPartition) (moved bool)
	trouble   atomic.Pointer[string] // why the last fetch failed
}

// round reads what is new on both sides and pairs it. It says whether anything came.
func (c *Comparison) round(ctx context.Context) (moved bool) {
	c.beginPartitions(ctx)
	for _, p := range c.order {
		p.ended = false
	}
	moved = c.fetch(ctx, &c.sides[0])
	c.placeByTime(ctx)
	moved = c.fetch(ctx, &c.sides[1]) || moved
	for _, p := range c.order {
		p.pairWaiting()
	}
	c.lookBack(ctx)
	c.turn++
	return moved
}

// fetch asks each broker of one side once for all partitions that want something of it. No partition has two leaders, so none is taken by
// two brokers' answers at a time.
func (c *Comparison) fetch(ctx context.Context, s *side) bool {
	requests, parts := make(map[int32]*compareRequest), len(c.order)
	for i := range c.order {
		p := c.order[(c.turn+i)%parts] // a broker fills an answer in the order of the request, so the first could starve the rest
		next, ok := s.ask(p)
		if !ok {
			continue
		}
		leader := s.view.Leader(next.TopicPartition)
		if leader < 0 {
			c.stale.Store(true)
			continue
		}
		if requests[leader] == nil {
			requests[leader] = newCompareRequest(s.isolation)
		}
		requests[leader].add(p, next)
	}
	var (
		moved atomic.Bool
		group errgroup.Group
	)
	group.SetLimit(compareBrokers)
	for broker, request := range requests {
		group.Go(func() error {
			got, err := request.send(ctx, broker, s)
			if got {
				moved.Store(true)
			}
			if err != nil && ctx.Err() == nil {
				c.stale.Store(true)
				return err
			}
			return nil
		})
	}
	s.trouble.Store(nil)
	if err := group.Wait(); err != nil {
		text := client.Explain(err, s.alias, s.cluster).Error()
		s.trouble.Store(&text)
	}
	return moved.Load()
}

// compareRequest is one fetch at one broker. It has no session: it lives for minutes, and others may need the broker's cache more.
type compareRequest struct {
	*wire.FetchRequest
	asked  []*followed
	wanted []wire.FetchPartition
}

func newCompareRequest(isolation int8) *compareRequest {
	return &compareRequest{FetchRequest: wire.NewFetchRequest(compareWait, wire.MaxFetchBytes, isolation)}
}

func (r *compareRequest) add(p *followed, next wire.FetchPartition) {
	r.Add(next)
	r.asked, r.wanted = append(r.asked, p), append(r.wanted, next)
}

func (r *compareRequest) send(ctx context.Context, broker int32, s *side) (got bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, comparePatience)
	defer cancel()
	response, err := s.wire.Fetch(ctx, broker, r.FetchRequest.FetchRequest)
	if err != nil {
		return false, err
	}
	if err := kerr.ErrorForCode(response.ErrorCode); err != nil {
		return false, fmt.Errorf("fetch at broker %d: %w", broker, err)
	}
	answer := wire.IndexFetch(response)
	for i, p := range r.asked {
		wanted := r.wanted[i]
		rp := answer.Of(wanted.TopicPartition, wanted.TopicID)
		if rp == nil {
			continue
		}
		switch wire.ClassifyFetch(rp.ErrorCode) {
		case wire.Fetched:
			got = s.take(p, rp) || got
		case wire.OutOfRange:
			p.restart(fmt.Sprintf("cluster %s no longer holds offset %d of %s, which was the next one to compare", s.alias, wanted.Offset, wanted.TopicPartition))
		case wire.Denied:
			p.problem = fmt.Sprintf("%s on cluster %s may not be read: grant READ on the topic to milena's user and start again", wanted.TopicPartition, s.alias)
		case wire.Gone, wire.Moved, wire.RetryLater:
			err = fmt.Errorf("fetch %s: %w", wanted.TopicPartition, kerr.ErrorForCode(rp.ErrorCode))
		}
	}
	return got, err
}

// beginPartitions finds a place to begin at for the partitions that have none.
func (c *Comparison) beginPartitions(ctx context.Context) {
	fresh := make(map[string]bool)
	for _, p := range c.order {
		if !p.placed && !p.absent {
			fresh[p.Topic] = true
		}
	}
	if len(fresh) == 0 {
		return
	}
	byName := make(map[string]topics.Pair)
	var pairs []topics.Pair
	for _, pair := range c.pairs {
		if fresh[pair.Source.Name] {
			pairs, byName[pair.Source.Name] = append(pairs, pair), pair
		}
	}
	edges, err := topics.ListBounds(ctx, c.source, c.target, pairs)
	if err != nil {
		c.stale.Store(true)
		return
	}
	for _, p := range c.order {
		if p.placed || p.absent {
			continue
		}
		sourceStart, sourceEnd, targetStart, targetEnd, ok := edges.Of(byName[p.Topic], p.Partition)
		if !ok {
			c.stale.Store(true)
			continue
		}
		key := offsets.TopicPartition{Topic: p.Topic, Partition: p.Partition}
		position, noted := c.progress.Positions[key]
		if !noted {
			position = -1
		}
		p.place(offsets.Position{Source: sourceStart, Target: targetStart}, offsets.Position{Source: sourceEnd, Target: targetEnd},
			position, c.progress.Syncs[key], match.Hasher{Seed: c.seed, Timestamps: !p.brokersClock})
	}
}

// placeByTime finds the place on the source by the timestamp of the first target records, for copies without an offset-sync: MirrorMaker 2
// keeps timestamps.
func (c *Comparison) placeByTime(ctx context.Context) {
	for _, p := range c.order {
		if !p.placed || p.sourceNext >= 0 || len(p.waiting) == 0 || ctx.Err() != nil {
			continue
		}
		oldest := p.waiting[0].at
		for _, w := range p.waiting {
			oldest = min(oldest, w.at)
		}
		at := int64(-1)
		if oldest >= 0 && p.hasher.Timestamps {
			var err error
			if at, err = wire.ListOffset(ctx, c.source, c.sourceView.Leader(p.TopicPartition), p.TopicPartition, oldest); err != nil {
				c.stale.Store(true)
				continue
			}
		}
		if at < 0 { // no record is as young, or times say nothing
			at = p.sourceEnd - 2*comparedTail
			if p.position >= 0 {
				at = p.position - 2*comparedTail
			}
		}
		p.sourceNext = min(max(at, p.sourceStart), p.sourceEnd)
	}
}

// lookBack searches the source before the window for target records that are not in it.
func (c *Comparison) lookBack(ctx context.Context) {
	for _, p := range c.order {
		if !p.probe || ctx.Err() != nil {
			continue
		}
		source, err := c.find(ctx, p, p.waiting[0])
		if err != nil {
			c.stale.Store(true)
			continue
		}
		p.probedAt(source)
	}
}

// find is the offset of a record before the window, -1 if it is not there: in one fetch, from the first record that is as young.
func (c *Comparison) find(ctx context.Context, p *followed, w targetRecord) (int64, error) {
	leader := c.sourceView.Leader(p.TopicPartition)
	from, err := wire.ListOffset(ctx, c.source, leader, p.TopicPartition, w.at)
	if start, ok := p.matcher.WindowStart(); err != nil || from < 0 || !ok || from >= start {
		return -1, err
	}
	wanted := fetchFrom(p.TopicPartition, p.sourceID, from)
	request := newCompareRequest(wire.ReadUncommitted)
	request.add(p, wanted)
	ctx, cancel := context.WithTimeout(ctx, comparePatience)
	defer cancel()
	response, err := c.sides[1].wire.Fetch(ctx, leader, request.FetchRequest.FetchRequest)
	if err != nil {
		return -1, err
	}
	rp := wire.IndexFetch(response).Of(wanted.TopicPartition, wanted.TopicID)
	if rp == nil {
		return -1, nil
	}
	for batch, err := range recordbatch.Each(rp.RecordBatches) {
		if err != nil {
			return -1, err
		}
		if batch.Attributes.Control() {
			continue
		}
		records, err := recordbatch.Decode(batch.Bytes)
		if err != nil {
			return -1, err
		}
		for i := range records {
			if records[i].Offset >= from && p.hasher.Hash(&records[i]) == w.hash {
				return records[i].Offset, nil
			}
		}
	}
	return -1, nil
}

// fetchFrom asks for a partition from an offset on, whoever leads it.
func fetchFrom(tp offsets.TopicPartition, id [16]byte, offset int64) wire.FetchPartition {
	return wire.FetchPartition{TopicPartition: tp, FetchOffset: wire.FetchOffset{TopicID: id, Offset: offset, LeaderEpoch: -1, LastEpoch: -1, MaxBytes: comparedBytes}}
}
