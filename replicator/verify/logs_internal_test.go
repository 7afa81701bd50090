package verify

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/topics"
	"github.com/milena-kafka/milena/replicator/wire"
)

// memoryLog is the log of one partition, as a broker serves it.
type memoryLog struct {
	mu      sync.Mutex
	batches [][]byte
	start   int64
	end     int64
	aborted []kmsg.FetchResponseTopicPartitionAbortedTransaction
	fetches int
	before  func(fetch int) // called with the number of each fetch
}

// add appends a batch at an offset.
func (l *memoryLog) add(base int64, batch []byte) {
	binary.BigEndian.PutUint64(batch, uint64(base))
	l.batches = append(l.batches, batch)
	h, err := recordbatch.Parse(batch)
	if err != nil {
		panic(err)
	}
	l.end = h.NextOffset()
}

// addOld appends a message of an old format. Next is the offset behind it.
func (l *memoryLog) addOld(m []byte, next int64) {
	l.batches = append(l.batches, m)
	l.end = next
}

// message is a message of format 1.
func message(offset int64, attributes byte, timestamp int64, key, value []byte) []byte {
	field := func(b, f []byte) []byte {
		if f == nil {
			return binary.BigEndian.AppendUint32(b, math.MaxUint32)
		}
		return append(binary.BigEndian.AppendUint32(b, uint32(len(f))), f...)
	}
	body := field(field(binary.BigEndian.AppendUint64([]byte{1, attributes}, uint64(timestamp)), key), value)
	b := binary.BigEndian.AppendUint64(nil, uint64(offset))
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)+4))
	return append(binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(body)), body...)
}

// Fetch implements wire.Fetcher.
func (l *memoryLog) Fetch(_ context.Context, _ int32, r *wire.FetchRequest) (*wire.FetchResponse, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fetches++
	if l.before != nil {
		l.before(l.fetches)
	}
	wanted := r.Topics[0].Partitions[0]
	response := kmsg.NewPtrFetchResponse()
	response.Version = 12
	t, rp := kmsg.NewFetchResponseTopic(), kmsg.NewFetchResponseTopicPartition()
	t.Topic, rp.Partition, rp.HighWatermark, rp.LastStableOffset = r.Topics[0].Topic, wanted.Partition, l.end, l.end
	if r.IsolationLevel == wire.ReadCommitted {
		rp.AbortedTransactions = l.aborted
	}
	if wanted.FetchOffset < l.start || wanted.FetchOffset > l.end {
		rp.ErrorCode = kerr.OffsetOutOfRange.Code
	} else {
		for _, batch := range l.batches {
			if h, err := recordbatch.Parse(batch); err != nil || h.NextOffset() <= wanted.FetchOffset {
				continue
			}
			if n := len(rp.RecordBatches); n > 0 && n+len(batch) > int(wanted.PartitionMaxBytes) {
				rp.RecordBatches = append(rp.RecordBatches, batch[:len(batch)/2]...)
				break
			}
			rp.RecordBatches = append(rp.RecordBatches, batch...)
		}
	}
	t.Partitions = append(t.Partitions, rp)
	response.Topics = append(response.Topics, t)
	return &wire.FetchResponse{FetchResponse: response}, nil
}

func (l *memoryLog) bounds(context.Context, offsets.TopicPartition) (topics.Bound, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return topics.Bound{Start: l.start, End: l.end}, nil
}

// mapPlaces is a map in memory.
type mapPlaces struct{ *offsets.Map }

func (m mapPlaces) segment(_ context.Context, source int64) (offsets.Segment, error) {
	for s := range m.Segments() {
		if s.SourceEnd() > source {
			return s, nil
		}
	}
	return offsets.Segment{}, nil
}

func (m mapPlaces) forward(_ context.Context, source int64) (int64, error) {
	target, _, err := m.Forward(source)
	return target, err
}

func (m mapPlaces) reverse(_ context.Context, target int64) (int64, error) {
	source, _, err := m.Reverse(target)
	return source, err
}

// copied is a partition and its copy, with the map between them.
type copied struct {
	t              *testing.T
	fail           func(...any)
	source, target memoryLog
	places         mapPlaces
	codec          recordbatch.Codec

	maxBytes                         int32
	sourceCompacted, targetCompacted bool
	facts                            facts
	part                             float64
}

func newCopied(t *testing.T) *copied {
	t.Helper()
	return &copied{t: t, fail: t.Fatal, places: mapPlaces{offsets.NewMap(0, 0)}, codec: recordbatch.LZ4, maxBytes: 4 << 10, part: 1}
}

// record is the record number n.
func record(n int) recordbatch.Record {
	return recordbatch.Record{
		Timestamp: 1_700_000_000_000 + int64(n), Key: fmt.Appendf(nil, "key-%d", n), Value: fmt.Appendf(nil, "value-%d", n),
		Headers: []recordbatch.RecordHeader{{Key: "n", Value: fmt.Append(nil, n)}, {Key: "null"}, {Key: "empty", Value: []byte{}}},
	}
}

func records(from, n int) []recordbatch.Record {
	list := make([]recordbatch.Record, n)
	for i := range list {
		list[i] = record(from + i)
	}
	return list
}

func (c *copied) encode(list []recordbatch.Record) []byte {
	batch, err := recordbatch.Encode(list, c.codec)
	if err != nil {
		c.fail(err)
	}
	return batch
}

// write adds a batch to the source, and nothing to the copy.
func (c *copied) write(list ...recordbatch.Record) []byte {
	batch := c.encode(list)
	c.source.add(c.source.end, batch)
	return batch
}

// foreign adds a batch to the target alone.
func (c *copied) foreign(list ...recordbatch.Record) { c.target.add(c.target.end, c.encode(list)) }

// forward adds a batch to the source, and the same batch of another producer to the target.
func (c *copied) forward(list ...recordbatch.Record) {
	source := c.source.end
	batch := slices.Clone(c.write(list...))
	recordbatch.Rewrite(batch, 77, 1, 0)
	c.mapped(source, c.target.end, int64(len(list)))
	c.target.add(c.target.end, batch)
}

// rebuild adds a batch to the source, and other batches of its records to the target.
func (c *copied) rebuild(list []recordbatch.Record, parts ...int) {
	source, target := c.source.end, c.target.end
	c.write(list...)
	c.mapped(source, target, int64(len(list)))
	for _, n := range parts {
		c.target.add(c.target.end, c.encode(list[:n]))
		list = list[n:]
	}
}

func (c *copied) mapped(source, target, n int64) {
	if err := c.places.Append(source, target, n); err != nil {
		c.fail(err)
	}
}

// hole leaves out offsets of both logs.
func (c *copied) hole(source, target int64) {
	c.source.end += source
	c.target.end += target
}

var tp = offsets.TopicPartition{Topic: "orders"}

// verify verifies all that the map has.
func (c *copied) verify() Partition {
	c.t.Helper()
	source, target := c.places.End()
	return c.verifyPartition(offsets.Pair{}, offsets.Pair{Source: source, Target: target})
}

func (c *copied) verifyPartition(from, to offsets.Pair) Partition {
	c.t.Helper()
	p, v := c.partition(from, to)
	if err := p.verify(c.t.Context(), v); err != nil {
		c.t.Fatal(err)
	}
	return p.report()
}

// partition is the partition and what verifies it.
func (c *copied) partition(from, to offsets.Pair) (*partition, *Verification) {
	view := topics.View{ByName: map[string]topics.Topic{"orders": {Name: "orders", Partitions: []topics.Partition{{Leader: 1}}}}}
	v := &Verification{sample: sample{part: c.part, seed: 5}}
	v.source = &cluster{side: offsets.Source, alias: "a", fetcher: &c.source, bounds: c.source.bounds, isolation: wire.ReadCommitted, maxBytes: c.maxBytes, view: view}
	v.target = &cluster{side: offsets.Target, alias: "b", fetcher: &c.target, bounds: c.target.bounds, isolation: wire.ReadCommitted, maxBytes: c.maxBytes, view: view}
	p := &partition{
		source: logRange{TopicPartition: tp}, target: logRange{TopicPartition: tp}, from: from, to: to, position: from, places: c.places, facts: c.facts, pending: true,
	}
	p.cleaned.source.compacted, p.cleaned.target.compacted = c.sourceCompacted, c.targetCompacted
	return p, v
}

// wantEqual verifies, and checks that everything is equal: so many records by their bytes, and so many by their content.
func (c *copied) wantEqual(byBytes, byContent int64) Partition {
	c.t.Helper()
	got := c.verify()
	if got.Result != Equal || got.ByBytes != byBytes || got.ByContent != byContent || got.Records != byBytes+byContent {
		c.t.Errorf("%s, %d by bytes, %d by content, %s; want equal, %d, %d: %s", got.Result, got.ByBytes, got.ByContent, got.NotVerified, byBytes, byContent, texts(got.Differences))
	}
	return got
}

// wantDifferences verifies, and checks what differs and where.
func (c *copied) wantDifferences(want ...string) Partition {
	c.t.Helper()
	got := c.verify()
	if found := texts(got.Differences); got.Result != Different || !slices.Equal(found, want) {
		c.t.Errorf("%s (%s): %q, want %q", got.Result, got.NotVerified, found, want)
	}
	return got
}

// texts are differences as "what source target records".
func texts(list []Difference) (found []string) {
	text := func(offset *int64) string {
		if offset == nil {
			return "-"
		}
		return fmt.Sprint(*offset)
	}
	for _, d := range list {
		found = append(found, fmt.Sprintf("%s %s %s %d", d.What, text(d.SourceOffset), text(d.TargetOffset), d.Records))
	}
	return found
}

// sealed sets the checksum of a batch to that of its bytes.
func sealed(batch []byte) {
	binary.BigEndian.PutUint32(batch[17:], crc32.Checksum(batch[21:], castagnoli))
}

// marker is a control batch that ends a transaction.
func marker(producer int64, kind byte) []byte {
	batch, err := recordbatch.Encode([]recordbatch.Record{{Timestamp: 1_700_000_000_000, Key: []byte{0, 0, 0, kind}, Value: make([]byte, 6)}}, recordbatch.None)
	if err != nil {
		panic(err)
	}
	transactional(batch, producer, 0x30)
	return batch
}

// transactional sets attribute bits and the producer of a batch.
func transactional(batch []byte, producer int64, bits uint16) {
	binary.BigEndian.PutUint16(batch[21:], binary.BigEndian.Uint16(batch[21:])|bits)
	binary.BigEndian.PutUint64(batch[43:], uint64(producer))
	sealed(batch)
}

func random(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }
