package topics

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
)

// boundsTimeout is how long one broker may take to list offsets. A broker that does not answer delays the others by no more.
const boundsTimeout = 5 * time.Second

// Special timestamps of list-offsets requests.
const (
	latest   = -1
	earliest = -2
)

// Bounds holds the first offset (inclusive) and the end offset (exclusive) of partitions on both sides.
type Bounds struct{ source, target sideBounds }

// Bound is the first offset (inclusive) and the end offset (exclusive) of one partition.
type Bound struct{ Start, End int64 }

// sideBounds are the bounds of one side, or why they are not known.
type sideBounds map[offsets.TopicPartition]listedBound

type listedBound struct {
	Bound
	err *UnlistedError
}

// UnlistedError is why the offsets of a partition are not known.
type UnlistedError struct {
	Side   offsets.Side
	Broker int32 // that leads the partition, -1 if none does
	// Unreachable means that the broker did not answer. Otherwise Err is its answer.
	Unreachable bool
	Err         error
}

func (e *UnlistedError) Error() string { return e.Err.Error() }
func (e *UnlistedError) Unwrap() error { return e.Err }

var errNoLeader = errors.New("the partition has no leader")

// ListBounds requests the bounds of all partitions of pairs from the brokers that lead them, from all brokers in parallel. Each partition
// whose bounds cannot be listed has an error of its own, because one broker must not stop the partitions of the others.
func ListBounds(ctx context.Context, sourceClient, targetClient *kgo.Client, pairs []Pair, wanted func(source offsets.TopicPartition) bool) Bounds {
	b := Bounds{source: make(sideBounds), target: make(sideBounds)}
	sources, targets := make(map[int32][]offsets.TopicPartition), make(map[int32][]offsets.TopicPartition)
	for _, pair := range pairs {
		byLeader(sources, pair.Source, pair, pair.Source.Name, wanted)
		byLeader(targets, pair.Target, pair, pair.TargetName, wanted)
	}
	var wait sync.WaitGroup
	wait.Go(func() { b.source.list(ctx, offsets.Source, sourceClient, sources) })
	wait.Go(func() { b.target.list(ctx, offsets.Target, targetClient, targets) })
	wait.Wait()
	return b
}

// byLeader adds the wanted partitions of one topic of a pair to the lists of their leaders, -1 for those without one.
func byLeader(lists map[int32][]offsets.TopicPartition, topic Topic, of Pair, name string, wanted func(source offsets.TopicPartition) bool) {
	for n, p := range topic.Partitions {
		if !wanted(offsets.TopicPartition{Topic: of.Source.Name, Partition: int32(n)}) {
			continue
		}
		leader := p.Leader
		if p.Err != nil {
			leader = -1
		}
		lists[leader] = append(lists[leader], offsets.TopicPartition{Topic: name, Partition: int32(n)})
	}
}

// list requests the bounds from all brokers of a side.
func (b sideBounds) list(ctx context.Context, side offsets.Side, cl *kgo.Client, leaders map[int32][]offsets.TopicPartition) {
	var mu sync.Mutex
	var wait sync.WaitGroup
	for leader, list := range leaders {
		if leader < 0 {
			mu.Lock()
			for _, tp := range list {
				b[tp] = listedBound{err: &UnlistedError{Side: side, Broker: -1, Err: errNoLeader}}
			}
			mu.Unlock()
			continue
		}
		wait.Go(func() {
			starts := query{side: side, client: cl, leader: leader, timestamp: earliest}.all(ctx, list)
			ends := query{side: side, client: cl, leader: leader, timestamp: latest}.all(ctx, list)
			mu.Lock()
			defer mu.Unlock()
			for _, tp := range list {
				start, end := starts[tp], ends[tp]
				l := listedBound{Bound: Bound{start.offset, end.offset}, err: start.err}
				if l.err == nil {
					l.err = end.err
				}
				b[tp] = l
			}
		})
	}
	wait.Wait()
}

// listed is one offset, or why it is not known.
type listed struct {
	offset int64
	err    *UnlistedError
}

// listAttempts is how many times a broker is asked that cannot answer yet: the leader of a new partition learns of it a little after the
// metadata does.
const listAttempts = 4

// query is one list-offsets request to a broker.
type query struct {
	side      offsets.Side
	client    *kgo.Client
	leader    int32
	timestamp int64
	isolation int8                             // with read committed, the latest offset is the last stable offset (KIP-98)
	after     map[offsets.TopicPartition]int64 // a timestamp for each partition, instead of one for all; nil without
}

// all requests one offset of each partition, which the broker leads.
func (q query) all(ctx context.Context, list []offsets.TopicPartition) map[offsets.TopicPartition]listed {
	ctx, cancel := context.WithTimeout(ctx, boundsTimeout)
	defer cancel()
	found := make(map[offsets.TopicPartition]listed, len(list))
	for attempt := range listAttempts {
		list = q.once(ctx, list, found)
		if len(list) == 0 {
			break
		}
		select {
		case <-time.After(20 * time.Millisecond << attempt):
		case <-ctx.Done():
			return found
		}
	}
	return found
}

// once sends one request and adds the answers. It returns the partitions that are worth another attempt.
func (q query) once(ctx context.Context, list []offsets.TopicPartition, found map[offsets.TopicPartition]listed) (again []offsets.TopicPartition) {
	unlisted := func(err error, unreachable bool) listed {
		return listed{err: &UnlistedError{Side: q.side, Broker: q.leader, Unreachable: unreachable, Err: fmt.Errorf("list offsets: %w", err)}}
	}
	answer, err := q.client.Broker(int(q.leader)).Request(ctx, q.request(list))
	if err == nil && len(answer.(*kmsg.ListOffsetsResponse).Topics) == 0 {
		err = errors.New("the response to a list-offsets request is empty")
	}
	if err != nil {
		for _, tp := range list {
			found[tp] = unlisted(err, true)
		}
		return nil
	}
	for _, t := range answer.(*kmsg.ListOffsetsResponse).Topics {
		for _, p := range t.Partitions {
			tp := offsets.TopicPartition{Topic: t.Topic, Partition: p.Partition}
			err := kerr.ErrorForCode(p.ErrorCode)
			if err == nil {
				found[tp] = listed{offset: p.Offset}
				continue
			}
			found[tp] = unlisted(err, false)
			if kerr.IsRetriable(err) {
				again = append(again, tp)
			}
		}
	}
	return again
}

func (q query) request(list []offsets.TopicPartition) *kmsg.ListOffsetsRequest {
	request := kmsg.NewPtrListOffsetsRequest()
	request.ReplicaID, request.IsolationLevel = -1, q.isolation
	index := make(map[string]int)
	for _, tp := range list {
		i, ok := index[tp.Topic]
		if !ok {
			i = len(request.Topics)
			index[tp.Topic] = i
			rt := kmsg.NewListOffsetsRequestTopic()
			rt.Topic = tp.Topic
			request.Topics = append(request.Topics, rt)
		}
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Partition, rp.Timestamp = tp.Partition, q.timestamp
		if q.after != nil {
			rp.Timestamp = q.after[tp]
		}
		request.Topics[i].Partitions = append(request.Topics[i].Partitions, rp)
	}
	return request
}

// Of returns the bounds of one partition. The error is why those of either side are not known.
func (b Bounds) Of(pair Pair, partition int32) (source, target Bound, err *UnlistedError) {
	s, err := b.source.of(offsets.Source, offsets.TopicPartition{Topic: pair.Source.Name, Partition: partition})
	if err != nil {
		return s, Bound{}, err
	}
	t, err := b.target.of(offsets.Target, offsets.TopicPartition{Topic: pair.TargetName, Partition: partition})
	return s, t, err
}

func (b sideBounds) of(side offsets.Side, tp offsets.TopicPartition) (Bound, *UnlistedError) {
	l, ok := b[tp]
	if !ok {
		return Bound{}, &UnlistedError{Side: side, Broker: -1, Err: errNoLeader}
	}
	return l.Bound, l.err
}

// ListEnds requests the end offsets of partitions from the broker that leads them: the high watermarks, or with isolation level 1 the last
// stable offsets. Partitions without an answer are absent; the error is of the first of them.
func ListEnds(ctx context.Context, cl *kgo.Client, leader int32, isolation int8, list []offsets.TopicPartition) (map[offsets.TopicPartition]int64, error) {
	ends := make(map[offsets.TopicPartition]int64, len(list))
	var first error
	for tp, l := range (query{side: offsets.Source, client: cl, leader: leader, timestamp: latest, isolation: isolation}).all(ctx, list) {
		if l.err == nil {
			ends[tp] = l.offset
		} else if first == nil {
			first = l.err
		}
	}
	return ends, first
}

// ListAfter requests, from the broker that leads the partitions, the offset of the first record of each that has a timestamp (Unix milliseconds) or a later
// one, -1 if there is none. The error is of the first partition without an answer.
func ListAfter(ctx context.Context, cl *kgo.Client, leader int32, timestamps map[offsets.TopicPartition]int64) (map[offsets.TopicPartition]int64, error) {
	found := make(map[offsets.TopicPartition]int64, len(timestamps))
	q := query{side: offsets.Source, client: cl, leader: leader, after: timestamps}
	for tp, l := range q.all(ctx, slices.Collect(maps.Keys(timestamps))) {
		if l.err != nil {
			return nil, l.err
		}
		found[tp] = l.offset
	}
	return found, nil
}

// ListStarts requests the log starts of partitions from the brokers that lead them, from all brokers in parallel. Partitions whose log start is
// not known are absent.
func ListStarts(ctx context.Context, cl *kgo.Client, view View, list []offsets.TopicPartition) map[offsets.TopicPartition]int64 {
	byLeader := make(map[int32][]offsets.TopicPartition)
	for _, tp := range list {
		if leader := view.Leader(tp); leader >= 0 {
			byLeader[leader] = append(byLeader[leader], tp)
		}
	}
	starts := make(map[offsets.TopicPartition]int64, len(list))
	var mu sync.Mutex
	var wait sync.WaitGroup
	for leader, list := range byLeader {
		wait.Go(func() {
			found := query{side: offsets.Source, client: cl, leader: leader, timestamp: earliest}.all(ctx, list)
			mu.Lock()
			defer mu.Unlock()
			for tp, l := range found {
				if l.err == nil && l.offset >= 0 {
					starts[tp] = l.offset
				}
			}
		})
	}
	wait.Wait()
	return starts
}
