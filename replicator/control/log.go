package control

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/topics"
	"github.com/milena-kafka/milena/replicator/wire"
)

const (
	// Poll is how long a broker may keep a request for new records.
	Poll = 5 * time.Second
	// FetchBytes limits one response, and writeTimeout the wait of a broker for its replicas.
	fetchBytes   = 1 << 20
	writeTimeout = 3 * time.Second
	// MaxEntries is how many entries may be written at a time, so that a batch stays below the usual max.message.bytes.
	MaxEntries = 256
	// WriteAttempts is how often a write is sent while the leader moves.
	writeAttempts = 5
	// MaxDecoded limits what a batch of others decompresses to. Milena writes none that is larger, and compresses none.
	maxDecoded = 4 << 20
	// HeaderReadTo is the header of a record with [Entry.ReadTo].
	headerReadTo = "milena.read-to"
)

// Log reads and writes the control topic of a flow. Only one goroutine may use it.
type Log struct {
	client  *kgo.Client
	cluster string // alias
	topic   string

	id     [16]byte
	leader int32 // -1 if it is not known
	next   int64 // -1: from the beginning
	// another means that the topic is another one, and who reads has not been told.
	another bool
	high    int64 // the end of the topic according to the last answer
	empty   int   // such answers in a row, without progress
}

// NewLog returns a log that reads from the beginning. The client is for it alone, as its requests wait at the broker; the caller closes it.
func NewLog(cl *kgo.Client, cluster, flow string) *Log {
	return &Log{client: cl, cluster: cluster, topic: TopicName(flow), leader: -1, next: -1}
}

// Errors of a log.
var (
	// ErrNoTopic means that the control topic does not exist.
	ErrNoTopic = errors.New("the control topic does not exist")
	// ErrAnotherLog means that the topic was deleted and created again, or lost what was read. It is read from its beginning next, into a new [State].
	ErrAnotherLog = errors.New("the control topic is another one now")
	errNoLeader   = errors.New("no broker leads the control topic")
)

// IsDenied reports whether an error lasts until somebody grants a right.
func IsDenied(err error) bool {
	return errors.Is(err, kerr.TopicAuthorizationFailed) || errors.Is(err, kerr.ClusterAuthorizationFailed)
}

// Own returns the control topic of a flow as a topic of milena's own, on a cluster with so many brokers.
func Own(flow string, replicas int16, brokers int) topics.Own {
	return topics.Own{Name: TopicName(flow), Partitions: 1, ReplicationFactor: replicas, Brokers: brokers, SmallSegments: true}
}

// Create creates the topic unless it exists, and returns which configs were left out.
func (l *Log) Create(ctx context.Context, flow string, replicas int16) (created bool, left []topics.LeftOut, err error) {
	brokers, err := kadm.NewClient(l.client).ListBrokers(ctx)
	if err != nil {
		return false, nil, err
	}
	return Own(flow, replicas, len(brokers)).Create(ctx, l.client, l.cluster)
}

// locate finds the leader of the topic.
func (l *Log) locate(ctx context.Context) error {
	if l.leader >= 0 {
		return nil
	}
	listed, err := kadm.NewClient(l.client).ListTopics(ctx, l.topic)
	if err != nil {
		return l.explain("read", err)
	}
	t := listed[l.topic]
	switch {
	case errors.Is(t.Err, kerr.UnknownTopicOrPartition):
		return fmt.Errorf("%w: topic %s on cluster %s", ErrNoTopic, l.topic, l.cluster)
	case t.Err != nil:
		return l.explain("read", t.Err)
	case t.Partitions[0].Leader < 0:
		return errNoLeader
	}
	another := l.next >= 0 && offsets.IsAnotherTopic(l.id, t.ID)
	l.id, l.leader = t.ID, t.Partitions[0].Leader
	if another {
		l.next, l.another = -1, true
		return ErrAnotherLog
	}
	return nil
}

// locateToRead is locate for who reads, who is told once that the topic is another one, also if a write has found that out.
func (l *Log) locateToRead(ctx context.Context) error {
	err := l.locate(ctx)
	if err == nil && l.another || errors.Is(err, ErrAnotherLog) {
		l.another = false
		return ErrAnotherLog
	}
	return err
}

// knownTimeout is how long brokers may take to say whether they know the topic.
const knownTimeout = 3 * time.Second

// IsKnown asks each broker for the topic, and reports whether one knows it. A broker that has just started may know no topics yet, so what one says is not
// enough to believe that there is none.
func (l *Log) IsKnown(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, knownTimeout)
	defer cancel()
	brokers := slices.Concat(l.client.DiscoveredBrokers(), l.client.SeedBrokers())
	answers := make(chan bool, len(brokers))
	for _, b := range brokers {
		go func() {
			request := kmsg.NewPtrMetadataRequest()
			topic := kmsg.NewMetadataRequestTopic()
			topic.Topic = &l.topic
			request.Topics = append(request.Topics, topic)
			response, err := request.RequestWith(ctx, b)
			answers <- err == nil && len(response.Topics) == 1 && response.Topics[0].ErrorCode != kerr.UnknownTopicOrPartition.Code
		}()
	}
	for range brokers {
		if <-answers {
			return true
		}
	}
	return false
}

// MayWrite reports whether milena's user may write the topic (KIP-430). A broker that does not tell its rights has no objection.
func (l *Log) MayWrite(ctx context.Context) (bool, error) {
	request := kmsg.NewPtrMetadataRequest()
	request.IncludeTopicAuthorizedOperations = true
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = &l.topic
	request.Topics = append(request.Topics, topic)
	response, err := request.RequestWith(ctx, l.client)
	if err == nil && len(response.Topics) != 1 {
		err = errors.New("the response does not contain the topic")
	}
	if err != nil {
		return false, l.explain("check the rights on", err)
	}
	rights := response.Topics[0].AuthorizedOperations
	return rights == math.MinInt32 || rights&(1<<kmsg.ACLOperationWrite) != 0, nil
}

// explain names the topic in an error of a broker.
func (l *Log) explain(what string, err error) error {
	if IsDenied(err) {
		return fmt.Errorf("%s %s on cluster %s: %w; grant READ and WRITE on it to milena's user", what, l.topic, l.cluster, err)
	}
	return fmt.Errorf("%s %s on cluster %s: %w", what, l.topic, l.cluster, err)
}

// lost forgets the leader after an error.
func (l *Log) lost(err error) error {
	l.leader = -1
	return err
}

func (l *Log) partition() offsets.TopicPartition { return offsets.TopicPartition{Topic: l.topic} }

const (
	// EmptyAnswers is how often a leader must say that there is nothing up to its end before that is believed.
	emptyAnswers = 3
	// ReadPatience is for how long a read to the end goes on without progress.
	readPatience = 15 * time.Second
	// ReadWait is how long one of its requests may wait.
	readWait = 100 * time.Millisecond
)

// ReadAll reads to the end that the topic has now. The last records before it may be gone: then there is nothing to read up to the end. An error says
// that the end was not reached because the topic answers with nothing for too long; the next call goes on where this one was.
func (l *Log) ReadAll(ctx context.Context, visit func(Record)) error {
	if err := l.locateToRead(ctx); err != nil {
		return err
	}
	end, err := wire.ListOffset(ctx, l.client, l.leader, l.partition(), wire.Latest)
	if err != nil {
		return l.lost(l.explain("read", err))
	}
	l.empty = 0
	for progressed := time.Now(); l.next < end && (l.empty < emptyAnswers || l.high < end); {
		before := l.next
		if err := l.Read(ctx, readWait, visit); err != nil {
			return err
		}
		if l.next > before {
			progressed = time.Now()
		} else if time.Since(progressed) > readPatience {
			return l.lost(l.explain("read", fmt.Errorf("broker %d has records up to offset %d and returns none from offset %d on", l.leader, end, l.next)))
		}
	}
	return nil
}

// Read reads the next records. It waits for them as long as wait at most, and returns nil if there are none. After [ErrAnotherLog] the next
// records are the first ones.
func (l *Log) Read(ctx context.Context, wait time.Duration, visit func(Record)) error {
	if err := l.locateToRead(ctx); err != nil {
		return err
	}
	if l.next < 0 {
		start, _, err := wire.Bounds(ctx, l.client, l.leader, l.partition())
		if err != nil {
			return l.lost(l.explain("read", err))
		}
		l.next = start
	}
	// What is in an open transaction counts too: else whoever may write could hold back all later decisions with one.
	request := wire.NewFetchRequest(wait, fetchBytes, wire.ReadUncommitted)
	request.Add(wire.FetchPartition{TopicPartition: l.partition(), FetchOffset: wire.FetchOffset{TopicID: l.id, Offset: l.next, LeaderEpoch: -1, LastEpoch: -1, MaxBytes: fetchBytes}})
	response, err := l.client.Broker(int(l.leader)).Request(ctx, request)
	if err != nil {
		return l.lost(l.explain("read", err))
	}
	fetched := response.(*kmsg.FetchResponse)
	rp := wire.IndexFetch(fetched).Of(l.partition(), l.id)
	if rp == nil { // throttled, or the whole request was refused
		if err := kerr.ErrorForCode(fetched.ErrorCode); err != nil {
			return l.lost(l.explain("read", err))
		}
		return client.Sleep(ctx, min(wait, time.Duration(fetched.ThrottleMillis)*time.Millisecond))
	}
	switch err := kerr.ErrorForCode(rp.ErrorCode); {
	case errors.Is(err, kerr.OffsetOutOfRange):
		l.next = -1
		return ErrAnotherLog
	case err != nil:
		return l.lost(l.explain("read", err))
	}
	before := l.next
	err = l.take(rp, visit)
	if l.high = rp.HighWatermark; l.next > before || len(rp.RecordBatches) > 0 {
		l.empty = 0
	} else {
		l.empty++
	}
	return err
}

// IsRead reports whether all was read that the topic had at the last answer. The last records before the end may be gone.
func (l *Log) IsRead() bool { return l.next >= l.high || l.empty > 0 }

// take visits the records of a response.
func (l *Log) take(rp *kmsg.FetchResponseTopicPartition, visit func(Record)) error {
	for batch, err := range recordbatch.Each(rp.RecordBatches) {
		if err != nil {
			return l.explain("read", err)
		}
		if batch.NextOffset() <= l.next {
			continue
		}
		if !batch.Attributes.Control() && batch.Count > 0 {
			l.takeBatch(batch, visit)
		}
		l.next = batch.NextOffset()
	}
	return nil
}

// takeBatch visits the records of a batch. One that cannot be decoded counts as one record that is nonsense.
func (l *Log) takeBatch(batch recordbatch.Batch, visit func(Record)) {
	records, err := recordbatch.DecodeUpTo(batch.Bytes, maxDecoded)
	if err != nil {
		visit(Record{Offset: batch.BaseOffset, Unreadable: err})
		return
	}
	for _, r := range records {
		if r.Offset >= l.next {
			visit(Record{Offset: r.Offset, Key: r.Key, Value: r.Value, ReadTo: readTo(r.Headers)})
		}
	}
}

// readTo returns [Entry.ReadTo] of a record, 0 if it has none.
func readTo(headers []recordbatch.RecordHeader) int64 {
	for _, h := range headers {
		if n, err := strconv.ParseInt(string(h.Value), 10, 64); h.Key == headerReadTo && err == nil && n > 0 {
			return n
		}
	}
	return 0
}

// Write appends records as one batch: all of them, or none. After an error it is not known whether they are there, unless the broker refused them.
// They may then be written again.
func (l *Log) Write(ctx context.Context, entries ...Entry) error {
	batch, err := encodeBatch(entries)
	if err != nil {
		return err
	}
	for attempt := 1; ; attempt++ {
		err := l.write(ctx, batch)
		if err == nil || attempt == writeAttempts || IsDenied(err) || errors.Is(err, ErrNoTopic) || errors.Is(err, ErrAnotherLog) {
			return err
		}
		if client.Sleep(ctx, client.Backoff(attempt)) != nil {
			return err
		}
	}
}

func encodeBatch(entries []Entry) ([]byte, error) {
	now := time.Now().UnixMilli()
	records := make([]recordbatch.Record, len(entries))
	for i, e := range entries {
		records[i] = recordbatch.Record{Timestamp: now, Offset: int64(i), Key: []byte(e.Key), Value: e.Value}
		if e.ReadTo > 0 {
			records[i].Headers = []recordbatch.RecordHeader{{Key: headerReadTo, Value: strconv.AppendInt(nil, e.ReadTo, 10)}}
		}
	}
	return recordbatch.Encode(records, recordbatch.None)
}

func (l *Log) write(ctx context.Context, batch []byte) error {
	if err := l.locate(ctx); err != nil {
		return err
	}
	request := wire.NewProduceRequest(writeTimeout)
	request.Add(l.partition(), l.id, batch)
	response, err := l.client.Broker(int(l.leader)).Request(ctx, request)
	if err != nil {
		return l.lost(l.explain("write", err))
	}
	rp := wire.IndexProduce(response.(*kmsg.ProduceResponse)).Of(l.partition(), l.id)
	if rp == nil {
		return l.lost(l.explain("write", errors.New("the answer does not name the partition")))
	}
	if err := kerr.ErrorForCode(rp.ErrorCode); err != nil {
		if rp.ErrorMessage != nil && !IsDenied(err) {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(*rp.ErrorMessage))
		}
		return l.lost(l.explain("write", err))
	}
	return nil
}
