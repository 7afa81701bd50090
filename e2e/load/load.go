// Package load writes records of every shape to a source cluster. The value of each record, or its key if the shape has no value, starts with
// topic, partition and a sequence number, so that the verifier sees a duplicate as a difference.
package load

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/kafka"
)

// Codec is the name of a compression type, as in compression.type.
type Codec string

// Codecs are all compression types of Kafka.
func Codecs() []Codec { return []Codec{"none", "gzip", "snappy", "lz4", "zstd"} }

func (c Codec) option() kgo.Opt {
	codecs := map[Codec]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	return kgo.ProducerBatchCompression(codecs[c])
}

// Shape creates a record that contains a mark, which is unique in the topic.
type Shape func(r *rand.Rand, mark string) kgo.Record

// Sequence is the sequence number in the mark of a record: the number of records that its writer wrote to the partition before it. The mark is
// at the beginning of the value, or of the header "mark" if the value is null.
func Sequence(r *kgo.Record) (int64, error) {
	text := r.Value
	if text == nil {
		for _, h := range r.Headers {
			if h.Key == "mark" {
				text = h.Value
			}
		}
	}
	mark, _, _ := bytes.Cut(text, []byte(" "))
	seq, err := strconv.ParseInt(string(mark[bytes.LastIndexByte(mark, '/')+1:]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the record at offset %d has no mark: %.60q", r.Offset, text)
	}
	return seq, nil
}

// Sized records have a key and a value of n bytes that compresses to about half.
func Sized(n int) Shape {
	return func(r *rand.Rand, mark string) kgo.Record {
		return kgo.Record{Key: []byte(mark), Value: Payload(r, mark, n)}
	}
}

// Tombstone has a key and a null value.
func Tombstone(_ *rand.Rand, mark string) kgo.Record { return kgo.Record{Key: []byte(mark)} }

// MarkedTombstone has a key, a null value and the mark in a header.
func MarkedTombstone(_ *rand.Rand, mark string) kgo.Record {
	return kgo.Record{Key: []byte(mark), Headers: []kgo.RecordHeader{{Key: "mark", Value: []byte(mark)}}}
}

// NullKey has a value only.
func NullKey(_ *rand.Rand, mark string) kgo.Record { return kgo.Record{Value: []byte(mark)} }

// Empty has a key and a value of 0 bytes.
func Empty(_ *rand.Rand, mark string) kgo.Record {
	return kgo.Record{Key: []byte(mark), Value: []byte{}}
}

// Nothing has a null key and a null value. Such records differ by their offsets only.
func Nothing(*rand.Rand, string) kgo.Record { return kgo.Record{} }

// Headers has duplicate headers, and headers with null, empty and non-UTF-8 values.
func Headers(_ *rand.Rand, mark string) kgo.Record {
	return kgo.Record{Key: []byte{}, Value: []byte(mark), Headers: []kgo.RecordHeader{
		{Key: "twice", Value: []byte("1")},
		{Key: "twice", Value: []byte(mark)},
		{Key: "null"},
		{Key: "empty", Value: []byte{}},
		{Key: "", Value: []byte("no name")},
		{Key: "binary", Value: []byte{0xff, 0xfe, 0, 0x80}},
	}}
}

// Binary has a key and a value that are not UTF-8.
func Binary(_ *rand.Rand, mark string) kgo.Record {
	return kgo.Record{Key: append([]byte{0xff, 0xc0, 0}, mark...), Value: append([]byte{0xc3, 0x28, 0, 0xff}, mark...)}
}

// Keyed is a shape with the same key in every record.
func Keyed(key string, shape Shape) Shape {
	return func(r *rand.Rand, mark string) kgo.Record {
		record := shape(r, mark)
		record.Key = []byte(key)
		return record
	}
}

// Payload is mark followed by n-len(mark) bytes that compress to about half.
func Payload(r *rand.Rand, mark string, n int) []byte {
	b := make([]byte, n)
	const text = "The quick brown fox jumps over the lazy dog, again and again and again. "
	for i := 0; i < n; i += 64 { // 32 random bytes, 32 of text
		for j := i; j < min(i+32, n); j += 8 {
			var word [8]byte
			binary.LittleEndian.PutUint64(word[:], r.Uint64())
			copy(b[j:min(i+32, n)], word[:])
		}
		if i+32 < n {
			copy(b[i+32:min(i+64, n)], text)
		}
	}
	copy(b, mark)
	return b
}

// Writer writes to one topic.
type Writer struct {
	client *kgo.Client
	topic  string
	shapes []Shape
	from   time.Time
	rand   *rand.Rand
	next   []int64 // sequence number by partition
	err    atomic.Pointer[error]
	acked  atomic.Int64
}

// Options configure a Writer.
type Options struct {
	Topic      string
	Partitions int
	// Codec is lz4 if empty.
	Codec Codec
	// Shapes are used in turn; Sized(1024) if empty.
	Shapes []Shape
	// From is the timestamp of the first record of each partition; the timestamps of the next ones are one millisecond apart. If zero, records
	// have the time at which they are written.
	From time.Time
	// BatchBytes is the maximum size of a batch before compression, and so of a record; 64 KiB if zero.
	BatchBytes int32
	// Client is added to the options of the producer.
	Client []kgo.Opt
}

// New creates a writer, which bypasses the proxies. Its producer is idempotent and retries for five minutes.
func New(source *kafka.Cluster, o Options) (*Writer, error) {
	if o.Codec == "" {
		o.Codec = "lz4"
	}
	if o.BatchBytes == 0 {
		o.BatchBytes = 64 << 10
	}
	if len(o.Shapes) == 0 {
		o.Shapes = []Shape{Sized(1 << 10)}
	}
	client, err := source.Client(append([]kgo.Opt{
		o.Codec.option(), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(o.BatchBytes), kgo.MaxBufferedRecords(20_000),
		kgo.MaxBufferedBytes(128 << 20), kgo.ProducerLinger(2 * time.Millisecond), kgo.RetryTimeout(5 * time.Minute),
		kgo.UnknownTopicRetries(-1), // not every broker knows a new topic yet
	}, o.Client...)...)
	if err != nil {
		return nil, err
	}
	return &Writer{client: client, topic: o.Topic, shapes: o.Shapes, from: o.From, rand: rand.New(rand.NewPCG(1, 2)), next: make([]int64, o.Partitions)}, nil
}

// Close ends the writer.
func (w *Writer) Close() { w.client.Close() }

// Acked is how many records the source has acknowledged.
func (w *Writer) Acked() int64 { return w.acked.Load() }

// record is the next record of a partition.
func (w *Writer) record(partition int32, shape Shape) *kgo.Record {
	seq := w.next[partition]
	w.next[partition]++
	r := shape(w.rand, fmt.Sprintf("%s/%d/%d ", w.topic, partition, seq))
	r.Topic, r.Partition = w.topic, partition
	if !w.from.IsZero() {
		r.Timestamp = w.from.Add(time.Duration(seq) * time.Millisecond)
	}
	return &r
}

func (w *Writer) send(ctx context.Context, r *kgo.Record) {
	w.client.Produce(ctx, r, func(_ *kgo.Record, err error) {
		if err == nil {
			w.acked.Add(1)
		} else {
			w.err.CompareAndSwap(nil, &err)
		}
	})
}

// flush waits for all acknowledgements.
func (w *Writer) flush(ctx context.Context) error {
	if err := w.client.Flush(ctx); err != nil {
		return fmt.Errorf("write to %s: %w", w.topic, err)
	}
	if err := w.err.Load(); err != nil {
		return fmt.Errorf("write to %s: %w", w.topic, *err)
	}
	return nil
}

// Write writes n records to each partition and waits until they are acknowledged.
func (w *Writer) Write(ctx context.Context, n int) error {
	for i := range n {
		for partition := range w.next {
			w.send(ctx, w.record(int32(partition), w.shapes[i%len(w.shapes)]))
		}
	}
	return w.flush(ctx)
}

// WriteShapes writes n records of each shape to each partition, one shape after the other, so that each batch has one shape. It waits
// until they are acknowledged.
func (w *Writer) WriteShapes(ctx context.Context, n int, shapes ...Shape) error {
	for _, shape := range shapes {
		for range n {
			for partition := range w.next {
				w.send(ctx, w.record(int32(partition), shape))
			}
		}
		if err := w.flush(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Stream is a load that runs until it is stopped.
type Stream struct {
	writer *Writer
	cancel context.CancelFunc
	done   chan struct{}
	once   sync.Once
	err    error
}

// Stream writes perSecond records per second in all, to the partitions in turn; as many as possible if perSecond is 0. It returns at once.
func (w *Writer) Stream(ctx context.Context, perSecond int) *Stream {
	paced, cancel := context.WithCancel(ctx)
	s := &Stream{writer: w, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		start, sent := time.Now(), 0
		for paced.Err() == nil {
			due := sent + 1000
			if perSecond > 0 {
				select {
				case <-tick.C:
				case <-paced.Done():
					return
				}
				due = int(time.Since(start).Seconds() * float64(perSecond))
				due = min(due, sent+perSecond/2+1) // do not catch up after a stall
			}
			for ; sent < due && paced.Err() == nil; sent++ {
				w.send(ctx, w.record(int32(sent%len(w.next)), w.shapes[sent%len(w.shapes)]))
			}
		}
	}()
	return s
}

// Stop ends the load, waits until all records are acknowledged, and returns how many the writer has written in all.
func (s *Stream) Stop(ctx context.Context) (int64, error) {
	s.once.Do(func() {
		s.cancel()
		select {
		case <-s.done:
		case <-ctx.Done(): // a full buffer while the source is down
			s.err = context.Cause(ctx)
			return
		}
		s.err = s.writer.flush(ctx)
	})
	return s.writer.Acked(), s.err
}

// Transactions writes n transactions of size records to the partitions in turn. Every third one is aborted, every fifth one consists of several
// batches. It returns how many records are committed.
func Transactions(ctx context.Context, source *kafka.Cluster, o Options, n, size int) (committed int64, err error) {
	o.Client = append(o.Client, kgo.TransactionalID("load-"+strings.ReplaceAll(o.Topic, ".", "-")))
	w, err := New(source, o)
	if err != nil {
		return 0, err
	}
	defer w.Close()
	for i := range n {
		if err := w.client.BeginTransaction(); err != nil {
			return committed, err
		}
		for j := range size {
			w.send(ctx, w.record(int32((i+j)%len(w.next)), w.shapes[j%len(w.shapes)]))
			if i%5 == 0 && j%(size/4+1) == 0 {
				if err := w.flush(ctx); err != nil {
					return committed, err
				}
			}
		}
		if err := w.flush(ctx); err != nil {
			return committed, err
		}
		end := kgo.TryCommit
		if i%3 == 2 {
			end = kgo.TryAbort
		} else {
			committed += int64(size)
		}
		if err := w.client.EndTransaction(ctx, end); err != nil {
			return committed, errors.Join(fmt.Errorf("end of transaction %d", i), err)
		}
	}
	return committed, nil
}

// AwaitMarkers waits until all transactions of a topic have their markers. The coordinator writes them after it has answered the producer, and until then
// what is committed cannot be read.
func AwaitMarkers(ctx context.Context, admin *kadm.Client, topic string) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		stable, err := admin.ListCommittedOffsets(ctx, topic)
		if err != nil {
			return err
		}
		ends, err := admin.ListEndOffsets(ctx, topic)
		if err != nil {
			return err
		}
		open := false
		ends.Each(func(o kadm.ListedOffset) {
			last, ok := stable.Lookup(o.Topic, o.Partition)
			open = open || !ok || last.Offset < o.Offset
		})
		if !open {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
