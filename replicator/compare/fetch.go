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
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/topics"
	"github.com/milena-kafka/milena/replicator/wire"
)

const (
	// How long a broker may delay the response to a fetch that finds nothing.
	fetchWait = 250 * time.Millisecond
	// How long a fetch may take in all.
	fetchTimeout = 10 * time.Second
	// The limit for one partition in a fetch response.
	fetchBytes = 1 << 20
	// How many brokers of a side are read at a time.
	fetchBrokers = 8
)

// side is one of the two clusters, and how a partition reads it.
type side struct {
	wire      wire.Fetcher
	alias     string
	cluster   config.Cluster
	isolation int8
	view      *topics.View
	next      func(p *partition) (next wire.FetchPartition, ok bool)
	add       func(p *partition, rp *kmsg.FetchResponseTopicPartition) (advanced bool)
	problem   atomic.Pointer[string] // why the last fetch failed
}

// fetchRequest is one fetch from one broker. It has no fetch session: the comparison runs for minutes, and its sessions could evict others from
// the broker's cache.
type fetchRequest struct {
	*wire.FetchRequest
	partitions []*partition
	wanted     []wire.FetchPartition // of partitions, by index
}

// fetch reads all partitions of one side that want more, once, with one request per broker.
func (l *logs) fetch(ctx context.Context, s *side) bool {
	var (
		advanced atomic.Bool
		group    errgroup.Group
	)
	group.SetLimit(fetchBrokers)
	for broker, request := range l.fetchRequests(s) {
		group.Go(func() error {
			got, err := request.send(ctx, broker, s)
			if got {
				advanced.Store(true)
			}
			if err != nil && ctx.Err() == nil {
				l.stale.Store(true)
				return err
			}
			return nil
		})
	}
	s.problem.Store(nil)
	if err := group.Wait(); err != nil {
		text := client.Explain(err, s.alias, s.cluster).Error()
		s.problem.Store(&text)
	}
	return advanced.Load()
}

// fetchRequests builds the requests of one side, by broker. A broker fills a response in the order of the request, so each time another
// partition is first: otherwise the first ones could starve the rest.
func (l *logs) fetchRequests(s *side) map[int32]*fetchRequest {
	requests, count := make(map[int32]*fetchRequest), len(l.partitions)
	for i := range l.partitions {
		p := l.partitions[(l.syncs+i)%count]
		next, ok := s.next(p)
		if !ok {
			continue
		}
		leader := s.view.Leader(next.TopicPartition)
		if leader < 0 {
			l.stale.Store(true)
			continue
		}
		if requests[leader] == nil {
			requests[leader] = newFetchRequest(s.isolation)
		}
		requests[leader].add(p, next)
	}
	return requests
}

func newFetchRequest(isolation int8) *fetchRequest {
	return &fetchRequest{FetchRequest: wire.NewFetchRequest(fetchWait, wire.MaxFetchBytes, isolation)}
}

func (r *fetchRequest) add(p *partition, next wire.FetchPartition) {
	r.Add(next)
	r.partitions, r.wanted = append(r.partitions, p), append(r.wanted, next)
}

// send sends the request and adds what was read to its partitions. An error means that metadata may be old.
func (r *fetchRequest) send(ctx context.Context, broker int32, s *side) (advanced bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	response, err := s.wire.Fetch(ctx, broker, r.FetchRequest)
	if err != nil {
		return false, err
	}
	if err := kerr.ErrorForCode(response.ErrorCode); err != nil {
		return false, fmt.Errorf("fetch from broker %d: %w", broker, err)
	}
	answer := wire.IndexFetch(response.FetchResponse)
	for i, p := range r.partitions {
		wanted := r.wanted[i]
		rp := answer.Of(wanted.TopicPartition, wanted.TopicID)
		if rp == nil {
			continue
		}
		switch wire.ClassifyFetch(rp.ErrorCode) {
		case wire.Fetched:
			advanced = s.add(p, rp) || advanced
		case wire.OutOfRange:
			p.restart(fmt.Sprintf("cluster %s no longer has offset %d of %s, which was the next one to compare", s.alias, wanted.Offset, wanted.TopicPartition))
		case wire.Denied:
			p.problem = fmt.Sprintf("%s on cluster %s may not be read: grant READ on the topic to milena's user and restart the comparison", wanted.TopicPartition, s.alias)
		case wire.Gone, wire.Moved, wire.RetryLater:
			err = fmt.Errorf("fetch %s: %w", wanted.TopicPartition, kerr.ErrorForCode(rp.ErrorCode))
		}
	}
	return advanced, err
}

// fetchOne fetches one partition from one broker. It returns nil if the response does not name the partition.
func (s *side) fetchOne(ctx context.Context, broker int32, wanted wire.FetchPartition) (*kmsg.FetchResponseTopicPartition, error) {
	request := wire.NewFetchRequest(fetchWait, wire.MaxFetchBytes, s.isolation)
	request.Add(wanted)
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	response, err := s.wire.Fetch(ctx, broker, request)
	if err != nil {
		return nil, err
	}
	return wire.IndexFetch(response.FetchResponse).Of(wanted.TopicPartition, wanted.TopicID), nil
}
