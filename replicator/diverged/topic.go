package diverged

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/topics"
	"github.com/milena-kafka/milena/replicator/wire"
)

// Headers of the records in a topic, behind those of the record itself.
const (
	// HeaderOffset is the offset of the record on the source, as decimal text.
	HeaderOffset = "milena.offset"
	// HeaderTopicID is the id of the source topic, as Kafka's tools write it. Records of topics without an id do not have it.
	HeaderTopicID = "milena.topic-id"
)

const (
	// A transaction has so many records, or bytes, at least, before it is committed.
	transactionRecords = 10_000
	transactionBytes   = 8 << 20
	// A batch has so many records, or bytes, at most, unless one record alone is larger: a topic refuses larger batches than its max.message.bytes, and what
	// the producer has buffered it sends in one.
	batchRecords = 5_000
	batchBytes   = 512 << 10
	// How long the coordinator keeps a transaction open that its export has left.
	transactionTimeout = time.Minute
	// How long a new topic may take to have leaders.
	topicTimeout = 30 * time.Second
	// What a record may have more than on the source: two headers, and what a batch of its own takes.
	recordOverhead = 1 << 10
)

// TopicName returns the name of the topic of the target with the exported records of a source topic. It has the partitions of the source topic, keeps its records for ever,
// and no flow copies it.
func TopicName(flow, topic string) string { return policy.ExportTopic(flow, topic) }

// topicSink writes records into topics of the target.
type topicSink struct {
	listing  *listing
	done     *Exported
	producer *kgo.Client
	lasting  bool // in transactions
	fenced   bool // no earlier export can write any more
	open     bool // a transaction

	records, bytes int64 // since the last commit
	unsent         int   // records
	unsentBytes    int
	known          string // the topic whose metadata the producer has

	mu     sync.Mutex
	failed error // why a record was not written
}

// largestBatch is the size of a batch that no producer exceeds.
const largestBatch = 64 << 20

func newTopicSink(l *listing, done *Exported) (*topicSink, error) {
	c := l.clusters
	s := &topicSink{listing: l, done: done, lasting: c.Flow.Fence != config.FenceLease}
	opts, err := client.Options(c.Target, &client.Dials{}, c.Log.With("cluster", c.Flow.Target))
	if err != nil {
		return nil, fmt.Errorf("clusters.%s.%w", c.Flow.Target, err)
	}
	opts = append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(largestBatch), kgo.MaxBufferedBytes(2*largestBatch), kgo.ManualFlushing())
	if s.lasting {
		opts = append(opts, kgo.TransactionalID("milena."+c.Flow.Name+".diverged"), kgo.TransactionTimeout(transactionTimeout))
	}
	if s.producer, err = kgo.NewClient(opts...); err != nil {
		return nil, fmt.Errorf("clusters.%s: %w", c.Flow.Target, err)
	}
	return s, nil
}

func (s *topicSink) close() { s.producer.Close() }

// explain makes an error of the target a sentence.
func (s *topicSink) explain(err error) error { return s.listing.target.explain(err) }

// begin fences earlier exports, and finds out what they have written.
func (s *topicSink) begin(ctx context.Context, p part) (next, before int64, err error) {
	if s.lasting && !s.fenced {
		if _, _, err := s.producer.ProducerID(ctx); err != nil { // it also aborts what another export has left open
			return 0, 0, fmt.Errorf("the transactional id of the export cannot be used on cluster %s: %w", s.listing.target.alias, s.explain(err))
		}
		s.fenced = true
	}
	name := TopicName(s.listing.clusters.Flow.Name, p.logRange.Topic)
	if n := len(s.done.Topics); n == 0 || s.done.Topics[n-1] != name {
		if err := s.createTopic(ctx, name, p.pair.Source); err != nil {
			return 0, 0, err
		}
		s.done.Topics = append(s.done.Topics, name)
	}
	return s.readBefore(ctx, name, p)
}

// createTopic creates a topic, or adds the partitions that it lacks.
func (s *topicSink) createTopic(ctx context.Context, name string, source topics.Topic) error {
	target, flow := s.listing.target, s.listing.clusters.Flow
	if len(name) > maxTopicLength {
		return fmt.Errorf("topic %s cannot be exported into a topic: %s has %d characters, and Kafka allows %d; export it as JSON lines", source.Name, name, len(name), maxTopicLength)
	}
	own := topics.Own{
		Name: name, Partitions: int32(len(source.Partitions)), ReplicationFactor: flow.ReplicationFactor, Brokers: len(target.view().Brokers), Keeps: true, //nolint:gosec // a number of partitions
		MaxMessageBytes: s.maxMessageBytes(ctx, source.Name),
	}
	_, left, err := own.Create(ctx, target.client, target.alias)
	if err != nil {
		return err
	}
	for _, l := range left {
		s.done.Warnings = append(s.done.Warnings, l.String())
	}
	return s.awaitTopic(ctx, name, len(source.Partitions))
}

// maxTopicLength is Kafka's limit of the length of a name.
const maxTopicLength = 249

// maxMessageBytes is how large the batches of a topic may be so that all records of a source topic fit, 0 if that is not known.
func (s *topicSink) maxMessageBytes(ctx context.Context, source string) int32 {
	described, err := kadm.NewClient(s.listing.source.client).DescribeTopicConfigs(ctx, source)
	if err != nil {
		return 0
	}
	of, err := described.On(source, nil)
	if err != nil || of.Err != nil {
		return 0
	}
	for _, c := range of.Configs {
		if n, err := strconv.ParseInt(c.MaybeValue(), 10, 32); err == nil && c.Key == "max.message.bytes" {
			return int32(min(n+recordOverhead, math.MaxInt32))
		}
	}
	return 0
}

// awaitTopic waits until a topic has leaders, after adding the partitions that it lacks.
func (s *topicSink) awaitTopic(ctx context.Context, name string, partitions int) error {
	target := s.listing.target
	for began := time.Now(); ; {
		view, err := target.refresh(ctx, time.Now())
		if err != nil {
			return err
		}
		topic := view.ByName[name]
		if n := len(topic.Partitions); n > 0 && n < partitions {
			grown, err := kadm.NewClient(target.client).UpdatePartitions(ctx, partitions, name)
			if err = errors.Join(err, grown.Error()); err != nil && !errors.Is(err, kerr.InvalidPartitions) { // it has as many by now
				return topics.AdminError(target.alias, "add partitions to", name, err, nil)
			}
		}
		led := 0
		for n := range topic.Partitions {
			if view.Leader(offsets.TopicPartition{Topic: name, Partition: int32(n)}) >= 0 { //nolint:gosec // a number of partitions
				led++
			}
		}
		if led >= partitions && led == len(topic.Partitions) {
			return nil
		}
		if time.Since(began) > topicTimeout {
			return fmt.Errorf("topic %s on cluster %s has %d partitions with a leader, and needs %d", name, target.alias, led, partitions)
		}
		if err := client.Sleep(ctx, retryPause); err != nil {
			return err
		}
	}
}

// readBefore reads what earlier exports have written of a partition: the source offset behind it, and how many of the records of the part that is.
func (s *topicSink) readBefore(ctx context.Context, name string, p part) (next, before int64, err error) {
	target := s.listing.target
	tp := offsets.TopicPartition{Topic: name, Partition: p.logRange.Partition}
	start, end, err := wire.Bounds(ctx, target.client, target.view().Leader(tp), tp)
	if err != nil {
		return 0, 0, fmt.Errorf("the bounds of %s on cluster %s are not known: %w", tp, target.alias, s.explain(err))
	}
	next = math.MinInt64
	r := logRange{TopicPartition: tp, id: target.view().ByName[name].ID, isolation: wire.ReadCommitted, from: start, to: end}
	err = target.records(ctx, r, func(b recordbatch.Batch) error {
		records, err := recordbatch.Decode(b.Bytes)
		if err != nil {
			return err
		}
		for i := range records {
			offset, err := exportedOffset(&records[i], p.found.TopicID)
			if err != nil {
				return fmt.Errorf("%s has a record at offset %d that is not of this export: %w; delete the topic, or export as JSON lines", tp, records[i].Offset, err)
			}
			if offset < next {
				return fmt.Errorf("%s has source offset %d at offset %d, behind %d: delete the topic and export again", tp, offset, records[i].Offset, next-1)
			}
			if next = offset + 1; offset >= p.from && offset < p.to {
				before++
			}
		}
		return nil
	})
	return next, before, err
}

// exportedOffset returns the source offset of an exported record, which must be of the topic with an id.
func exportedOffset(r *recordbatch.Record, id string) (offset int64, err error) {
	offset, err = -1, errors.New("it has no header "+HeaderOffset)
	of := ""
	for _, h := range r.Headers { // the last one counts: the record may have been exported before
		switch h.Key {
		case HeaderOffset:
			if offset, err = strconv.ParseInt(string(h.Value), 10, 64); err != nil {
				return -1, err
			}
		case HeaderTopicID:
			of = string(h.Value)
		}
	}
	if err == nil && id != "" && of != "" && of != id {
		err = errors.New("its source topic was another one of that name, which was deleted")
	}
	return offset, err
}

// add sends the records of a batch.
func (s *topicSink) add(ctx context.Context, p part, _ recordbatch.Batch, records []recordbatch.Record) error {
	if err := s.beginTransaction(); err != nil {
		return err
	}
	name := TopicName(s.listing.clusters.Flow.Name, p.logRange.Topic)
	for i := range records {
		sent := exportedRecord(&records[i], name, p)
		size := len(sent.Key) + len(sent.Value)
		for _, h := range sent.Headers {
			size += len(h.Key) + len(h.Value)
		}
		if s.unsent == batchRecords || s.unsent > 0 && s.unsentBytes+size > batchBytes {
			if err := s.flush(ctx); err != nil {
				return cmp.Or(s.commit(ctx), err)
			}
		}
		s.records, s.bytes = s.records+1, s.bytes+int64(size)
		s.unsent, s.unsentBytes = s.unsent+1, s.unsentBytes+size
		s.producer.Produce(ctx, sent, s.sent)
		if s.known == name {
			continue
		}
		// Alone: until the producer has the metadata of the topic, it keeps records elsewhere, and then sends them in several batches.
		if err := s.flush(ctx); err != nil {
			return cmp.Or(s.commit(ctx), err)
		}
		s.known = name
	}
	if s.records < transactionRecords && s.bytes < transactionBytes {
		return nil
	}
	return s.commit(ctx)
}

// exportedRecord is a record of the source as it is exported.
func exportedRecord(r *recordbatch.Record, name string, p part) *kgo.Record {
	sent := &kgo.Record{Topic: name, Partition: p.logRange.Partition, Key: r.Key, Value: r.Value, Timestamp: time.UnixMilli(r.Timestamp)}
	for _, h := range r.Headers {
		sent.Headers = append(sent.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
	sent.Headers = append(sent.Headers, kgo.RecordHeader{Key: HeaderOffset, Value: strconv.AppendInt(nil, r.Offset, 10)})
	if id := p.found.TopicID; id != "" {
		sent.Headers = append(sent.Headers, kgo.RecordHeader{Key: HeaderTopicID, Value: []byte(id)})
	}
	return sent
}

// sent notes why a record was not written.
func (s *topicSink) sent(r *kgo.Record, err error) {
	if err == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = fmt.Errorf("write %s-%d on cluster %s: %w", r.Topic, r.Partition, s.listing.target.alias, s.explain(err))
	}
}

func (s *topicSink) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// end commits what was sent, or aborts it after a failure.
func (s *topicSink) end(ctx context.Context, _ part) error { return s.commit(ctx) }

func (s *topicSink) beginTransaction() error {
	if !s.lasting || s.open {
		return nil
	}
	if err := s.producer.BeginTransaction(); err != nil {
		return fmt.Errorf("begin a transaction on cluster %s: %w", s.listing.target.alias, s.explain(err))
	}
	s.open = true
	return nil
}

// flush sends what is buffered, which is one batch of one partition, and waits until it is written: nothing is sent behind a batch that was refused.
func (s *topicSink) flush(ctx context.Context) error {
	s.unsent, s.unsentBytes = 0, 0
	if err := s.producer.Flush(ctx); err != nil {
		return err
	}
	return s.failure()
}

// commit waits until everything is written, and ends the transaction. After a failure it aborts it.
func (s *topicSink) commit(ctx context.Context) error {
	err := s.flush(ctx)
	s.records, s.bytes = 0, 0
	if !s.open {
		return err
	}
	s.open = false
	end := kgo.TransactionEndTry(err == nil)
	if ended := s.producer.EndTransaction(context.WithoutCancel(ctx), end); ended != nil && err == nil {
		err = fmt.Errorf("commit on cluster %s: %w", s.listing.target.alias, s.explain(ended))
	}
	return err
}
