package replicator

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

const (
	// CompareWait is how long a broker may keep a fetch that finds nothing.
	compareWait = 250 * time.Millisecond
	// ComparePatience is how long such a fetch may take in all.
	comparePatience = 10 * time.Second
	// CompareBrokers is how many brokers are asked at a time.
	compareBrokers = 8
	// ComparedTail is how much of a copy is read where no offset-sync says what to begin with.
	comparedTail = 1000
	// ComparedFurthest is how far before the end of a copy the comparison begins at most.
	comparedFurthest = windowFollowed
)

// side is one of the two clusters, and what a partition does with it.
type side struct {
	wire      fetcher
	alias     string
	cluster   config.Cluster
	isolation int8
	view      *clusterTopics
	ask       func(p *followed) (topic string, id [16]byte, offset int64, ok bool)
	take      func(p *followed, rp *kmsg.FetchResponseTopicPartition) (moved bool)
	trouble   atomic.Pointer[string] // why the last fetch failed
}

// round reads what is new on both sides and pairs it. It says whether anything came.
func (c *Comparer) round(ctx context.Context) (moved bool) {
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
func (c *Comparer) fetch(ctx context.Context, s *side) bool {
	requests, parts := make(map[int32]*compareRequest), len(c.order)
	for i := range c.order {
		p := c.order[(c.turn+i)%parts] // a broker fills an answer in the order of the request, so the first could starve the rest
		topic, id, offset, ok := s.ask(p)
		if !ok {
			continue
		}
		leader := s.view.leader(topic, p.Partition)
		if leader < 0 {
			c.stale.Store(true)
			continue
		}
		if requests[leader] == nil {
			requests[leader] = newCompareRequest(s.isolation)
		}
		requests[leader].add(p, topic, id, offset)
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
	*kmsg.FetchRequest
	topics map[string]int
	asked  []*followed
	at     []offsets.TopicPartition
	ids    [][16]byte
	from   []int64
}

func newCompareRequest(isolation int8) *compareRequest {
	r := &compareRequest{FetchRequest: kmsg.NewPtrFetchRequest(), topics: make(map[string]int)}
	r.MaxWaitMillis, r.MinBytes, r.MaxBytes = int32(compareWait.Milliseconds()), 1, maxFetchBytes
	r.IsolationLevel, r.SessionEpoch = isolation, -1
	return r
}

func (r *compareRequest) add(p *followed, topic string, id [16]byte, offset int64) {
	i, ok := r.topics[topic]
	if !ok {
		t := kmsg.NewFetchRequestTopic()
		t.Topic, t.TopicID = topic, id
		i = len(r.Topics)
		r.topics[topic] = i
		r.Topics = append(r.Topics, t)
	}
	position := position{offset: offset, leaderEpoch: -1, lastEpoch: -1, maxBytes: partitionBytes}
	r.Topics[i].Partitions = append(r.Topics[i].Partitions, position.fetch(p.Partition))
	r.asked, r.at, r.ids = append(r.asked, p), append(r.at, offsets.TopicPartition{Topic: topic, Partition: p.Partition}), append(r.ids, id)
	r.from = append(r.from, offset)
}

func (r *compareRequest) send(ctx context.Context, broker int32, s *side) (got bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, comparePatience)
	defer cancel()
	response, err := s.wire.fetch(ctx, broker, r.FetchRequest)
	if err != nil {
		return false, err
	}
	if err := codeError(response.ErrorCode); err != nil {
		return false, fmt.Errorf("fetch at broker %d: %w", broker, err)
	}
	parts, _ := index(response)
	for i, p := range r.asked {
		rp := parts[keyOf(response.Version, r.at[i].Topic, r.ids[i], r.at[i].Partition)]
		if rp == nil {
			continue
		}
		switch classifyFetch(rp.ErrorCode) {
		case fetched:
			got = s.take(p, rp) || got
		case absent:
			p.restart(fmt.Sprintf("cluster %s no longer holds offset %d of %s, which was the next one to compare", s.alias, r.from[i], r.at[i]))
		case denied:
			p.problem = fmt.Sprintf("%s on cluster %s may not be read: grant READ on the topic to milena's user and start again", r.at[i], s.alias)
		case gone, moved, later:
			err = fmt.Errorf("fetch %s: %w", r.at[i], codeError(rp.ErrorCode))
		}
	}
	return got, err
}

// beginPartitions finds a place to begin at for the partitions that have none.
func (c *Comparer) beginPartitions(ctx context.Context) {
	fresh := make(map[string]bool)
	for _, p := range c.order {
		if !p.placed && !p.absent {
			fresh[p.Topic] = true
		}
	}
	if len(fresh) == 0 {
		return
	}
	byName := make(map[string]topicPair)
	var pairs []topicPair
	for _, pair := range c.pairs {
		if fresh[pair.Source.Name] {
			pairs, byName[pair.Source.Name] = append(pairs, pair), pair
		}
	}
	edges, err := listEdges(ctx, c.source, c.target, pairs)
	if err != nil {
		c.stale.Store(true)
		return
	}
	for _, p := range c.order {
		if p.placed || p.absent {
			continue
		}
		sourceStart, sourceEnd, targetStart, targetEnd, ok := edges.of(byName[p.Topic], p.Partition)
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
			position, c.progress.Syncs[key], hasher{seed: c.seed, timestamps: !p.brokersClock})
	}
}

// placeByTime finds the place on the source by the timestamp of the first target records, for copies without an offset-sync: MirrorMaker 2
// keeps timestamps.
func (c *Comparer) placeByTime(ctx context.Context) {
	for _, p := range c.order {
		if !p.placed || p.sourceNext >= 0 || len(p.waiting) == 0 || ctx.Err() != nil {
			continue
		}
		oldest := p.waiting[0].at
		for _, w := range p.waiting {
			oldest = min(oldest, w.at)
		}
		at := int64(-1)
		if oldest >= 0 && p.hasher.timestamps {
			var err error
			if at, err = listOffset(ctx, c.source, c.sourceView.leader(p.Topic, p.Partition), p.Topic, p.Partition, oldest); err != nil {
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
func (c *Comparer) lookBack(ctx context.Context) {
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
func (c *Comparer) find(ctx context.Context, p *followed, w targetRecord) (int64, error) {
	leader := c.sourceView.leader(p.Topic, p.Partition)
	from, err := listOffset(ctx, c.source, leader, p.Topic, p.Partition, w.at)
	if err != nil || from < 0 || len(p.pairer.window) == 0 || from >= p.pairer.window[0].offset {
		return -1, err
	}
	request := newCompareRequest(0)
	request.add(p, p.Topic, p.sourceID, from)
	ctx, cancel := context.WithTimeout(ctx, comparePatience)
	defer cancel()
	response, err := c.sides[1].wire.fetch(ctx, leader, request.FetchRequest)
	if err != nil {
		return -1, err
	}
	found := int64(-1)
	parts, _ := index(response)
	for _, rp := range parts {
		err = eachBatch(rp.RecordBatches, func(h recordbatch.Header, batch []byte) error {
			if h.Attributes.Control() || found >= 0 {
				return nil
			}
			records, err := recordbatch.Decode(batch)
			for i := range records {
				if found < 0 && records[i].Offset >= from && p.hasher.hash(&records[i]) == w.hash {
					found = records[i].Offset
				}
			}
			return err
		})
	}
	return found, err
}
