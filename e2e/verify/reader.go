package verify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// reader reads the committed records of one partition in order, from next to end (exclusive). It buffers one fetch response.
type reader struct {
	client    *kgo.Client
	topic     string
	partition int32
	next, end int64
	// uncommitted reads the records of aborted and open transactions too.
	uncommitted bool

	id      kadm.TopicID
	leader  int32
	records []*kgo.Record
}

// Ends are the start offset (inclusive) and the committed end offset (exclusive) of each partition of a topic.
type Ends struct{ Start, End map[int32]int64 }

// ReadEnds lists the ends of a topic's partitions. It retries for 30 s, because the leader may be moving.
func ReadEnds(ctx context.Context, client *kgo.Client, topic string) (Ends, error) {
	deadline := time.Now().Add(30 * time.Second)
	for {
		e, err := readEnds(ctx, client, topic)
		if err == nil || !kerr.IsRetriable(err) || errors.Is(err, kerr.UnknownTopicOrPartition) || time.Now().After(deadline) {
			return e, err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return e, err
		}
	}
}

func readEnds(ctx context.Context, client *kgo.Client, topic string) (Ends, error) {
	adm := kadm.NewClient(client)
	starts, err := adm.ListStartOffsets(ctx, topic)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return Ends{}, fmt.Errorf("start of %s: %w", topic, err)
	}
	ends, err := adm.ListCommittedOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return Ends{}, fmt.Errorf("end of %s: %w", topic, err)
	}
	e := Ends{map[int32]int64{}, map[int32]int64{}}
	starts.Each(func(o kadm.ListedOffset) { e.Start[o.Partition] = o.Offset })
	ends.Each(func(o kadm.ListedOffset) { e.End[o.Partition] = o.Offset })
	return e, nil
}

// read returns the next record, or nil at the end.
func (r *reader) read(ctx context.Context) (*kgo.Record, error) {
	for len(r.records) == 0 {
		if r.next >= r.end {
			return nil, nil
		}
		if err := r.fetch(ctx); err != nil {
			return nil, err
		}
	}
	rec := r.records[0]
	r.records = r.records[1:]
	if rec.Offset >= r.end {
		r.records, r.next = nil, r.end
		return nil, nil
	}
	return rec, nil
}

// fetch fetches the next records. It retries for 30 s, because the leader may be moving.
func (r *reader) fetch(ctx context.Context) error {
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := r.fetchOnce(ctx)
		if err == nil {
			return nil
		}
		if !kerr.IsRetriable(err) && !kgo.IsRetryableBrokerErr(err) || time.Now().After(deadline) {
			return fmt.Errorf("fetch %s[%d] at %d: %w", r.topic, r.partition, r.next, err)
		}
		r.id = kadm.TopicID{}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (r *reader) fetchOnce(ctx context.Context) error {
	if r.id == (kadm.TopicID{}) {
		topics, err := kadm.NewClient(r.client).ListTopics(ctx, r.topic)
		if err != nil {
			return err
		}
		t := topics[r.topic]
		p, ok := t.Partitions[r.partition]
		if t.Err != nil {
			return t.Err
		}
		if !ok {
			return kerr.UnknownTopicOrPartition
		}
		if p.Err != nil {
			return p.Err
		}
		r.id, r.leader = t.ID, p.Leader
	}
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.IsolationLevel = 1000, 1, 8<<20, 1
	isolation := kgo.ReadCommitted()
	if r.uncommitted {
		req.IsolationLevel, isolation = 0, kgo.ReadUncommitted()
	}
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic, topic.TopicID = r.topic, r.id
	part := kmsg.NewFetchRequestTopicPartition()
	part.Partition, part.FetchOffset, part.PartitionMaxBytes = r.partition, r.next, 8<<20
	topic.Partitions = append(topic.Partitions, part)
	req.Topics = append(req.Topics, topic)
	var ask kmsg.Request = req
	if r.id == (kadm.TopicID{}) {
		ask = byName{req}
	}
	raw, err := r.client.Broker(int(r.leader)).Request(ctx, ask)
	if err != nil {
		return err
	}
	resp := raw.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return err
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return fmt.Errorf("the fetch response has %d topics", len(resp.Topics))
	}
	got, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
		Offset: r.next, IsolationLevel: isolation, Topic: r.topic, Partition: r.partition,
	}, &resp.Topics[0].Partitions[0], kgo.DefaultDecompressor(), nil)
	if got.Err != nil {
		return got.Err
	}
	r.records, r.next = got.Records, next
	return nil
}

// byName is a fetch request that names its topic, for clusters without topic ids.
type byName struct{ *kmsg.FetchRequest }

func (byName) MaxVersion() int16 { return 12 }
