package recordbatch_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/s2"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// The input of the tests is encoded by kmsg and kgo, never by the package itself.

var codecs = []recordbatch.Codec{recordbatch.None, recordbatch.Gzip, recordbatch.Snappy, recordbatch.LZ4, recordbatch.Zstd}

// diff returns what cmp.Diff does, but is faster for equal values.
func diff(want, got any) string {
	if reflect.DeepEqual(want, got) {
		return ""
	}
	return cmp.Diff(want, got)
}

// batchSpec describes a version 2 batch as a source broker would hold it. Records have absolute offsets at or above base.
type batchSpec struct {
	base       int64
	last       int64 // last offset; 0 means that of the last record
	attributes recordbatch.Attributes
	codec      recordbatch.Codec
	horizon    int64 // base timestamp, if not that of the first record
	maxTime    int64 // max timestamp, if not that of the records
	producerID int64
	records    []recordbatch.Record
	xerial     bool // with codec Snappy: framed as by Java clients
}

const (
	bitLogAppendTime recordbatch.Attributes = 0x08
	bitTransactional recordbatch.Attributes = 0x10
	bitControl       recordbatch.Attributes = 0x20
	bitDeleteHorizon recordbatch.Attributes = 0x40
)

func encodeSource(tb testing.TB, s batchSpec) []byte {
	tb.Helper()
	b := kmsg.RecordBatch{
		FirstOffset:          s.base,
		PartitionLeaderEpoch: 3,
		Magic:                2,
		Attributes:           int16(s.attributes) | int16(s.codec),
		FirstTimestamp:       -1,
		MaxTimestamp:         -1,
		ProducerID:           s.producerID,
		ProducerEpoch:        5,
		FirstSequence:        77,
		NumRecords:           int32(len(s.records)),
		LastOffsetDelta:      int32(max(s.last-s.base, 0)),
	}
	if n := len(s.records); n > 0 {
		b.FirstTimestamp, b.MaxTimestamp = s.records[0].Timestamp, s.records[0].Timestamp
		b.LastOffsetDelta = max(b.LastOffsetDelta, int32(s.records[n-1].Offset-s.base))
	}
	if s.horizon != 0 {
		b.FirstTimestamp = s.horizon
	}
	var raw []byte
	for _, r := range s.records {
		b.MaxTimestamp = max(b.MaxTimestamp, r.Timestamp)
		raw = appendRecord(raw, r, s.base, b.FirstTimestamp)
	}
	if s.maxTime != 0 {
		b.MaxTimestamp = s.maxTime
	}
	b.Records = raw
	switch {
	case s.xerial:
		b.Records = xerialSnappy(raw)
	case len(s.records) > 0:
		b.Records = compress(tb, raw, s.codec)
	}
	batch := b.AppendTo(nil)
	binary.BigEndian.PutUint32(batch[8:], uint32(len(batch)-12))
	seal(batch)
	return batch
}

func appendRecord(raw []byte, r recordbatch.Record, base, baseTime int64) []byte {
	k := kmsg.Record{
		TimestampDelta64: r.Timestamp - baseTime,
		OffsetDelta:      int32(r.Offset - base),
		Key:              r.Key,
		Value:            r.Value,
	}
	for _, h := range r.Headers {
		k.Headers = append(k.Headers, kmsg.Header{Key: h.Key, Value: h.Value})
	}
	k.Length = int32(len(k.AppendTo(nil)) - 1) // length 0 took one byte
	return k.AppendTo(raw)
}

// seal sets the checksum of a version 2 batch.
func seal(batch []byte) {
	binary.BigEndian.PutUint32(batch[17:], crc32.Checksum(batch[21:], crc32.MakeTable(crc32.Castagnoli)))
}

func compress(tb testing.TB, raw []byte, codec recordbatch.Codec) []byte {
	tb.Helper()
	kinds := map[recordbatch.Codec]kgo.CompressionCodec{
		recordbatch.None: kgo.NoCompression(), recordbatch.Gzip: kgo.GzipCompression(), recordbatch.Snappy: kgo.SnappyCompression(),
		recordbatch.LZ4: kgo.Lz4Compression(), recordbatch.Zstd: kgo.ZstdCompression(),
	}
	c, err := kgo.DefaultCompressor(kinds[codec])
	if err != nil {
		tb.Fatal(err)
	}
	if c == nil { // the default compressor of none
		return raw
	}
	out, _ := c.Compress(new(bytes.Buffer), raw)
	return slices.Clone(out)
}

// xerialSnappy frames snappy blocks as snappy-java does.
func xerialSnappy(raw []byte) []byte {
	out := []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1}
	for chunk := range slices.Chunk(raw, 32<<10) {
		block := s2.EncodeSnappy(nil, chunk)
		out = binary.BigEndian.AppendUint32(out, uint32(len(block)))
		out = append(out, block...)
	}
	return out
}

// messageSpec describes one message of the formats before version 2.
type messageSpec struct {
	magic      int8
	offset     int64
	attributes int8
	timestamp  int64
	key, value []byte
}

func encodeMessage(m messageSpec) []byte {
	var b []byte
	if m.magic == 0 {
		b = (&kmsg.MessageV0{Offset: m.offset, Attributes: m.attributes, Key: m.key, Value: m.value}).AppendTo(nil)
	} else {
		b = (&kmsg.MessageV1{Offset: m.offset, Magic: 1, Attributes: m.attributes, Timestamp: m.timestamp, Key: m.key, Value: m.value}).AppendTo(nil)
	}
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
	binary.BigEndian.PutUint32(b[12:], crc32.ChecksumIEEE(b[16:]))
	return b
}

// encodeWrapper compresses a set of messages into one.
func encodeWrapper(tb testing.TB, wrapper messageSpec, codec recordbatch.Codec, inner ...messageSpec) []byte {
	tb.Helper()
	var set []byte
	for _, m := range inner {
		set = append(set, encodeMessage(m)...)
	}
	wrapper.value = compress(tb, set, codec)
	if codec == recordbatch.LZ4 && wrapper.magic == 0 {
		wrapper.value[6] ^= 0x5a // KAFKA-3160: a wrong descriptor checksum, as old clients wrote it
	}
	wrapper.attributes |= int8(codec)
	return encodeMessage(wrapper)
}

// kgoDecode reads a fetch response with franz-go's decoder.
func kgoDecode(tb testing.TB, b []byte, from int64) []recordbatch.Record {
	tb.Helper()
	response := kmsg.NewFetchResponseTopicPartition()
	response.RecordBatches = b
	opts := kgo.ProcessFetchPartitionOpts{Offset: from, KeepControlRecords: true}
	fetched, _ := kgo.ProcessFetchPartition(opts, &response, kgo.DefaultDecompressor(), nil)
	if fetched.Err != nil {
		tb.Fatalf("kgo: %v", fetched.Err)
	}
	var records []recordbatch.Record
	for _, r := range fetched.Records {
		records = append(records, fromKgo(r))
	}
	return records
}

func fromKgo(r *kgo.Record) recordbatch.Record {
	record := recordbatch.Record{Offset: r.Offset, Timestamp: r.Timestamp.UnixMilli(), Key: r.Key, Value: r.Value}
	if r.Attrs.TimestampType() == -1 { // magic 0
		record.Timestamp = -1
	}
	for _, h := range r.Headers {
		record.Headers = append(record.Headers, recordbatch.RecordHeader{Key: h.Key, Value: h.Value})
	}
	return record
}

// recordSets returns the kinds of records that every codec must support. The records of "big" and "zeros" have bigBytes each.
func recordSets(bigBytes int) map[string][]recordbatch.Record {
	big := make([]byte, bigBytes)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range big {
		big[i] = byte(random.Uint32() >> 28)
	}
	header := func(key string, value []byte) recordbatch.RecordHeader {
		return recordbatch.RecordHeader{Key: key, Value: value}
	}
	return map[string][]recordbatch.Record{
		"plain":         plainRecords(100, 200, 64),
		"one":           plainRecords(100, 1, 1),
		"null key":      {{Offset: 100, Timestamp: 5, Value: []byte("v")}},
		"tombstone":     {{Offset: 100, Timestamp: 5, Key: []byte("k")}},
		"null and null": {{Offset: 100, Timestamp: 5}},
		"empty":         {{Offset: 100, Timestamp: 5, Key: []byte{}, Value: []byte{}}},
		"headers":       {{Offset: 100, Timestamp: 5, Value: []byte("v"), Headers: []recordbatch.RecordHeader{header("a", []byte("1")), header("a", nil), header("", []byte{}), header("\xff\xfe", []byte("2"))}}},
		"no timestamps": {{Offset: 100, Timestamp: -1, Value: []byte("a")}, {Offset: 101, Timestamp: -1, Value: []byte("b")}},
		"going back":    {{Offset: 100, Timestamp: 1700000000000, Value: []byte("a")}, {Offset: 101, Timestamp: 3, Value: []byte("b")}, {Offset: 102, Timestamp: -5, Value: []byte("c")}, {Offset: 103, Timestamp: 1800000000000, Value: []byte("d")}},
		"holes":         {{Offset: 103, Timestamp: 5, Value: []byte("a")}, {Offset: 104, Timestamp: 6, Value: []byte("b")}, {Offset: 109, Timestamp: 7, Value: []byte("c")}},
		"big":           {{Offset: 100, Timestamp: 5, Key: []byte("k"), Value: big}},
		"zeros":         {{Offset: 100, Timestamp: 5, Value: make([]byte, bigBytes)}},
	}
}

func plainRecords(base int64, count, valueBytes int) []recordbatch.Record {
	random := rand.New(rand.NewPCG(uint64(count), uint64(valueBytes)))
	records := make([]recordbatch.Record, count)
	for i := range records {
		value := make([]byte, valueBytes)
		for j := range value {
			value[j] = "abcdefghijklmnop"[random.IntN(16)]
		}
		records[i] = recordbatch.Record{
			Offset: base + int64(i), Timestamp: 1700000000000 + int64(random.IntN(5000)),
			Key: fmt.Appendf(nil, "key-%d", i), Value: value,
		}
	}
	return records
}

func mustParse(tb testing.TB, batch []byte) recordbatch.Header {
	tb.Helper()
	h, err := recordbatch.Parse(batch)
	if err != nil {
		tb.Fatal(err)
	}
	return h
}

func marker(tb testing.TB, offset, producerID int64, kind byte) []byte {
	tb.Helper()
	return encodeSource(tb, batchSpec{
		base: offset, producerID: producerID, attributes: bitControl | bitTransactional,
		records: []recordbatch.Record{{Offset: offset, Timestamp: 9, Key: []byte{0, 0, 0, kind}, Value: []byte{0, 0, 0, 0, 0, 42}}},
	})
}
