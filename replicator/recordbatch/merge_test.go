package recordbatch_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// kmsgRecords splits a batch into records with kmsg and kgo, and checks what a broker checks of each: the length, offset deltas 0 to n-1, the
// number of records, and that nothing follows the last one.
func kmsgRecords(tb testing.TB, batch []byte) (kmsg.RecordBatch, []kmsg.Record) {
	tb.Helper()
	var b kmsg.RecordBatch
	if err := b.ReadFrom(batch); err != nil {
		tb.Fatal(err)
	}
	raw := b.Records
	if codec := b.Attributes & 7; codec != 0 {
		var err error
		if raw, err = kgo.DefaultDecompressor().Decompress(raw, kgo.CompressionCodecType(codec)); err != nil {
			tb.Fatal(err)
		}
	}
	var records []kmsg.Record
	for len(raw) > 0 {
		length, n := binary.Varint(raw)
		if n <= 0 || length < 0 || length > int64(len(raw)-n) {
			tb.Fatalf("record %d: length %d in %d bytes", len(records), length, len(raw))
		}
		var r kmsg.Record
		if err := r.ReadFrom(raw[:n+int(length)]); err != nil {
			tb.Fatalf("record %d: %v", len(records), err)
		}
		if int(r.OffsetDelta) != len(records) {
			tb.Fatalf("record %d: offset delta %d", len(records), r.OffsetDelta)
		}
		if again := r.AppendTo(nil); len(again) != n+int(length) {
			tb.Fatalf("record %d has %d bytes, its fields take %d", len(records), n+int(length), len(again))
		}
		records, raw = append(records, r), raw[n+int(length):]
	}
	if int(b.NumRecords) != len(records) || int(b.LastOffsetDelta) != len(records)-1 {
		tb.Fatalf("%d records, the header says %d up to offset delta %d", len(records), b.NumRecords, b.LastOffsetDelta)
	}
	return b, records
}

// checkMerged checks all guarantees of Merge. Records are those of the batches in order, with the timestamps of the producers.
func checkMerged(tb testing.TB, merged []byte, batches [][]byte, records []recordbatch.Record) {
	tb.Helper()
	first, h := mustParse(tb, batches[0]), mustParse(tb, merged)
	if !recordbatch.ValidCRC(merged) {
		tb.Fatal("checksum is wrong")
	}
	latest := records[0].Timestamp
	want := slices.Clone(records)
	for i := range want {
		want[i].Offset = int64(i)
		latest = max(latest, want[i].Timestamp)
	}
	wantHeader := recordbatch.Header{
		Length: int32(len(merged) - 12), LeaderEpoch: -1, Magic: 2, CRC: h.CRC,
		Attributes:      first.Attributes &^ (bitLogAppendTime | bitTransactional),
		LastOffsetDelta: int32(len(records) - 1), BaseTimestamp: first.BaseTimestamp, MaxTimestamp: latest,
		ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1, Count: int32(len(records)),
	}
	if d := diff(wantHeader, h); d != "" {
		tb.Fatalf("header differs (-want +got):\n%s", d)
	}
	if d := diff(want, kgoDecode(tb, merged, 0)); d != "" {
		tb.Fatalf("franz-go reads different records (-want +got):\n%.2000s", d)
	}
	got, err := recordbatch.Decode(merged)
	if err != nil {
		tb.Fatal(err)
	}
	if d := diff(want, got); d != "" {
		tb.Fatalf("records differ (-want +got):\n%.2000s", d)
	}
	base, split := kmsgRecords(tb, merged)
	for i := range split {
		if at := base.FirstTimestamp + split[i].TimestampDelta64; at != want[i].Timestamp {
			tb.Fatalf("record %d: timestamp %d, want %d", i, at, want[i].Timestamp)
		}
	}
	recordbatch.Rewrite(merged, 1234, 5, 6)
	if h := mustParse(tb, merged); !recordbatch.ValidCRC(merged) || h.ProducerID != 1234 || h.ProducerEpoch != 5 || h.BaseSequence != 6 {
		tb.Fatalf("after a rewrite: %+v", h)
	}
}

// numbered gives records the source offsets from base on.
func numbered(base int64, records []recordbatch.Record) []recordbatch.Record {
	records = slices.Clone(records)
	for i := range records {
		records[i].Offset = base + int64(i)
	}
	return records
}

// sourceBatches encodes each list of records as one batch. Offsets ascend, with holes between the batches.
func sourceBatches(tb testing.TB, spec batchSpec, lists ...[]recordbatch.Record) (batches [][]byte, all []recordbatch.Record) {
	tb.Helper()
	next := int64(100)
	for i, records := range lists {
		spec.base, spec.records = next, numbered(next, records)
		spec.xerial = spec.codec == recordbatch.Snappy && i%2 == 1
		batches = append(batches, encodeSource(tb, spec))
		all = append(all, spec.records...)
		next += int64(len(records)) + int64(i%3)
	}
	return batches, all
}

func TestMergeKeepsEveryRecord(t *testing.T) {
	sets := recordSets(20 << 10)
	names := []string{"plain", "one", "null key", "tombstone", "null and null", "empty", "headers", "no timestamps", "going back", "holes", "big", "zeros"}
	for _, codec := range codecs {
		for i, name := range names {
			t.Run(codec.String()+"/"+name, func(t *testing.T) {
				for n := 1; n < 10; n += 5 { // the set comes first, so its first record gives the base timestamp
					lists := make([][]recordbatch.Record, n)
					for k := range lists {
						lists[k] = sets[names[(i+k)%len(names)]]
					}
					batches, records := sourceBatches(t, batchSpec{codec: codec, producerID: 7}, lists...)
					merged, err := recordbatch.Merge(batches, 0)
					if err != nil {
						t.Fatal(err)
					}
					checkMerged(t, merged, batches, records)
				}
			})
		}
	}
}

func TestMergeKeepsTimestamps(t *testing.T) {
	const year = 365 * 24 * 3600 * 1000
	at := func(timestamps ...int64) []recordbatch.Record {
		records := make([]recordbatch.Record, len(timestamps))
		for i, timestamp := range timestamps {
			records[i] = recordbatch.Record{Timestamp: timestamp, Key: []byte("k"), Value: fmt.Append(nil, timestamp)}
		}
		return records
	}
	tests := []struct {
		name  string
		lists [][]recordbatch.Record
	}{
		{"the same time", [][]recordbatch.Record{at(1000), at(1000), at(1000)}},
		{"years later", [][]recordbatch.Record{at(1000, 1001), at(50*year, 50*year+1), at(51 * year)}},
		{"years before", [][]recordbatch.Record{at(50*year, 50*year+1), at(1000, 1001), at(1)}},
		{"before the base of its own batch", [][]recordbatch.Record{at(5000, 20, 4999), at(6000, 0, 1)}},
		{"none at first", [][]recordbatch.Record{at(-1, -1), at(50 * year), at(-1)}},
		{"none at last", [][]recordbatch.Record{at(50 * year), at(-1)}},
		{"none", [][]recordbatch.Record{at(-1), at(-1)}},
		{"deltas around the size of a varint", [][]recordbatch.Record{at(1000), at(1000 + 63), at(1000 + 64), at(1000 - 64), at(1000 - 65), at(1000 + 8191), at(1000 + 8192)}},
	}
	for _, test := range tests {
		for _, codec := range codecs {
			t.Run(test.name+"/"+codec.String(), func(t *testing.T) {
				batches, records := sourceBatches(t, batchSpec{codec: codec}, test.lists...)
				merged, err := recordbatch.Merge(batches, 0)
				if err != nil {
					t.Fatal(err)
				}
				checkMerged(t, merged, batches, records)
			})
		}
	}
}

// Timestamps beyond what franz-go can hold wrap around on the way to a delta and back.
func TestMergeKeepsExtremeTimestamps(t *testing.T) {
	var lists [][]recordbatch.Record
	for _, timestamp := range []int64{math.MaxInt64, math.MinInt64, 0, -1, math.MaxInt64} {
		lists = append(lists, []recordbatch.Record{{Timestamp: timestamp, Value: []byte("v")}})
	}
	batches, records := sourceBatches(t, batchSpec{}, lists...)
	merged, err := recordbatch.Merge(batches, 0)
	if err != nil {
		t.Fatal(err)
	}
	got, err := recordbatch.Decode(merged)
	if err != nil {
		t.Fatal(err)
	}
	if d := diff(numbered(0, records), got); d != "" {
		t.Error(d)
	}
}

// With append times, the records carry the timestamps of the producers as well. A rewrite brings them back, and so does Merge.
func TestMergeOfAppendTimes(t *testing.T) {
	for _, codec := range codecs {
		spec := batchSpec{codec: codec, attributes: bitLogAppendTime, maxTime: 1900000000000}
		batches, records := sourceBatches(t, spec, plainRecords(0, 3, 10), plainRecords(0, 1, 10), plainRecords(0, 2, 20))
		merged, err := recordbatch.Merge(batches, 0)
		if err != nil {
			t.Fatal(err)
		}
		checkMerged(t, merged, batches, records)
	}
}

func TestMergeKeepsAttributes(t *testing.T) {
	const unknownBit recordbatch.Attributes = 0x100
	spec := batchSpec{attributes: bitTransactional | unknownBit, producerID: 7}
	batches, records := sourceBatches(t, spec, plainRecords(0, 3, 10), plainRecords(0, 2, 10))
	for i, batch := range batches { // the attributes of a record are behind its length, which takes one byte in these
		for at, n := 61, byte(0); at < len(batch); at, n = at+1+int(batch[at]>>1), n+1 {
			batch[at+1] = 0x10<<i | n
		}
		seal(batch)
	}
	merged, err := recordbatch.Merge(batches, 0)
	if err != nil {
		t.Fatal(err)
	}
	checkMerged(t, merged, batches, records)
	_, split := kmsgRecords(t, merged)
	for i, want := range []int8{0x10, 0x11, 0x12, 0x20, 0x21} {
		if split[i].Attributes != want {
			t.Errorf("record %d: attributes %#x, want %#x", i, split[i].Attributes, want)
		}
	}
}

func TestMergeable(t *testing.T) {
	type header = recordbatch.Header
	const offset, count = 100, 3
	plain := header{BaseOffset: offset, Magic: 2, LastOffsetDelta: count - 1, Count: count, ProducerID: 7, ProducerEpoch: 1, Attributes: recordbatch.Attributes(recordbatch.LZ4)}
	with := func(h header, changes ...func(*header)) header {
		for _, change := range changes {
			change(&h)
		}
		return h
	}
	bits := func(bits recordbatch.Attributes) func(*header) {
		return func(h *header) { h.Attributes |= bits }
	}
	codec := func(codec recordbatch.Codec) func(*header) {
		return func(h *header) { h.Attributes = h.Attributes&^7 | recordbatch.Attributes(codec) }
	}
	producer := func(id int64, epoch int16) func(*header) {
		return func(h *header) { h.ProducerID, h.ProducerEpoch = id, epoch }
	}
	at := func(base int64) func(*header) {
		return func(h *header) { h.BaseOffset = base }
	}
	holes := func(h *header) { h.LastOffsetDelta++ }
	empty := func(h *header) { h.Count = 0 }
	noOffsets := func(h *header) { h.Count, h.LastOffsetDelta = 0, -1 }
	old := func(h *header) { h.Magic = 1 }
	behind := at(offset + count)
	tests := []struct {
		name        string
		first, next header
		want        bool
	}{
		{"one behind the other", plain, with(plain, behind), true},
		{"a gap between them", plain, with(plain, at(9000)), true},
		{"the same offsets", plain, plain, false},
		{"an overlap", plain, with(plain, at(offset+count-1)), false},
		{"in the wrong order", with(plain, behind), plain, false},
		{"another producer", plain, with(plain, behind, producer(8, 0)), true},
		{"no producer", plain, with(plain, behind, producer(-1, -1)), true},
		{"another codec", plain, with(plain, behind, codec(recordbatch.Zstd)), false},
		{"no codec", with(plain, codec(recordbatch.None)), with(plain, behind, codec(recordbatch.None)), true},
		{"an unknown codec", with(plain, codec(5)), with(plain, behind, codec(5)), false},
		{"create time, append time", plain, with(plain, behind, bits(bitLogAppendTime)), false},
		{"append times", with(plain, bits(bitLogAppendTime)), with(plain, behind, bits(bitLogAppendTime)), true},
		{"one with a delete horizon", with(plain, bits(bitDeleteHorizon)), with(plain, behind), false},
		{"both with a delete horizon", with(plain, bits(bitDeleteHorizon)), with(plain, behind, bits(bitDeleteHorizon)), false},
		{"control batches", with(plain, bits(bitControl)), with(plain, behind, bits(bitControl)), false},
		{"transactional, the same producer", with(plain, bits(bitTransactional)), with(plain, behind, bits(bitTransactional)), true},
		{"transactional, another producer", with(plain, bits(bitTransactional)), with(plain, behind, bits(bitTransactional), producer(8, 1)), false},
		{"transactional, another epoch", with(plain, bits(bitTransactional)), with(plain, behind, bits(bitTransactional), producer(7, 2)), false},
		{"one transactional", with(plain, bits(bitTransactional)), with(plain, behind), false},
		{"an unknown bit", plain, with(plain, behind, bits(0x80)), false},
		{"holes in the first", with(plain, holes), with(plain, at(9000)), false},
		{"holes in the next", plain, with(plain, at(9000), holes), false},
		{"no records in the first", with(plain, empty), with(plain, at(9000)), false},
		{"no records in the next", plain, with(plain, at(9000), empty), false},
		{"neither records nor offsets", plain, with(plain, at(9000), noOffsets), false},
		{"an old format first", with(plain, old), with(plain, at(9000)), false},
		{"an old format next", plain, with(plain, at(9000), old), false},
		{"the largest count", plain, with(plain, behind, func(h *header) { h.Count, h.LastOffsetDelta = math.MaxInt32, math.MaxInt32-1 }), true},
		{"a count beyond the largest delta", plain, with(plain, behind, func(h *header) { h.Count, h.LastOffsetDelta = math.MinInt32, math.MaxInt32 }), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := recordbatch.Mergeable(test.first, test.next); got != test.want {
				t.Errorf("mergeable: %v, want %v", got, test.want)
			}
		})
	}
}

func TestMergeRefuses(t *testing.T) {
	batch := func(base int64, change func(*batchSpec)) []byte {
		spec := batchSpec{base: base, producerID: 7, records: plainRecords(base, 2, 20)}
		if change != nil {
			change(&spec)
		}
		return encodeSource(t, spec)
	}
	many := func(base int64) []byte { // the count of the header is not what the batch holds
		b := batch(base, nil)
		binary.BigEndian.PutUint32(b[23:], math.MaxInt32-1)
		binary.BigEndian.PutUint32(b[57:], math.MaxInt32)
		seal(b)
		return b
	}
	first := batch(100, nil)
	tests := []struct {
		name    string
		batches [][]byte
	}{
		{"no batches", nil},
		{"the wrong order", [][]byte{batch(200, nil), first}},
		{"one that repeats", [][]byte{first, first}},
		{"two codecs", [][]byte{first, batch(200, func(s *batchSpec) { s.codec = recordbatch.Gzip })}},
		{"a marker", [][]byte{first, marker(t, 200, 7, 1)}},
		{"a marker alone", [][]byte{marker(t, 200, 7, 1)}},
		{"holes", [][]byte{batch(100, func(s *batchSpec) { s.last = 150 }), batch(200, nil)}},
		{"no records", [][]byte{first, batch(200, func(s *batchSpec) { s.records = nil })}},
		{"an old format", [][]byte{first, encodeMessage(messageSpec{magic: 1, offset: 200, value: []byte("v")})}},
		{"a delete horizon", [][]byte{first, batch(200, func(s *batchSpec) { s.attributes, s.horizon = bitDeleteHorizon, 5 })}},
		{"the third does not fit the second", [][]byte{first, batch(200, nil), batch(300, func(s *batchSpec) { s.attributes = bitLogAppendTime })}},
		{"more records than an int32 counts", [][]byte{many(100), many(100 + math.MaxInt32)}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if merged, err := recordbatch.Merge(test.batches, 0); merged != nil || !errors.Is(err, recordbatch.ErrNotMergeable) {
				t.Errorf("%d bytes, %v", len(merged), err)
			}
		})
	}
}

func TestMergeHonoursTheLimit(t *testing.T) {
	for _, codec := range codecs {
		t.Run(codec.String(), func(t *testing.T) {
			batches, records := sourceBatches(t, batchSpec{codec: codec}, plainRecords(0, 5, 100), plainRecords(0, 1, 300), plainRecords(0, 2, 50))
			free, err := recordbatch.Merge(batches, 0)
			if err != nil {
				t.Fatal(err)
			}
			size := int32(len(free))
			merged, err := recordbatch.Merge(batches, size)
			if err != nil {
				t.Fatal(err)
			}
			checkMerged(t, merged, batches, records)
			for _, limit := range []int32{1, 60, 61, 62, size / 2, size - 1} {
				if merged, err := recordbatch.Merge(batches, limit); merged != nil || !errors.Is(err, recordbatch.ErrNotMergeable) {
					t.Errorf("limit %d of %d: %d bytes, %v", limit, size, len(merged), err)
				}
			}
		})
	}
}

// Without compression, one header less per batch outweighs longer deltas, unless batches of many records are years apart.
func TestSizeOfMerged(t *testing.T) {
	var small, large [][]recordbatch.Record
	for i := range int64(16) {
		small = append(small, []recordbatch.Record{{Timestamp: i << 38, Value: []byte("v")}})
		records := make([]recordbatch.Record, 100)
		for k := range records {
			records[k].Timestamp = i << 38
		}
		large = append(large, records)
	}
	for _, test := range []struct {
		name   string
		lists  [][]recordbatch.Record
		larger bool
	}{{"single records", small, false}, {"batches of many records", large, true}} {
		batches, records := sourceBatches(t, batchSpec{}, test.lists...)
		merged, err := recordbatch.Merge(batches, 0)
		if err != nil {
			t.Fatal(err)
		}
		checkMerged(t, merged, batches, records)
		if sum := len(slices.Concat(batches...)); len(merged) > sum != test.larger || len(merged) > sum+14*len(records) {
			t.Errorf("%s: %d bytes became %d", test.name, sum, len(merged))
		}
	}
}

func TestMergeOfRandomBatches(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for round := range 50 {
		codec := codecs[round%len(codecs)]
		lists := make([][]recordbatch.Record, 1+random.IntN(20))
		for i := range lists {
			lists[i] = plainRecords(0, 1+random.IntN(30), random.IntN(200))
		}
		batches, records := sourceBatches(t, batchSpec{codec: codec, producerID: 7}, lists...)
		before := slices.Concat(batches...)
		merged, err := recordbatch.Merge(batches, 0)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(before, slices.Concat(batches...)) {
			t.Fatal("a source batch was changed")
		}
		checkMerged(t, merged, batches, records)
	}
}

// A merged batch is like any other: it may be merged with more.
func TestMergeOfMerged(t *testing.T) {
	batches, records := sourceBatches(t, batchSpec{codec: recordbatch.LZ4}, plainRecords(0, 2, 20), plainRecords(0, 1, 20), plainRecords(0, 3, 20))
	two, err := recordbatch.Merge(batches[:2], 0)
	if err != nil {
		t.Fatal(err)
	}
	binary.BigEndian.PutUint64(two, 90) // the checksum does not cover the base offset
	merged, err := recordbatch.Merge([][]byte{two, batches[2]}, 0)
	if err != nil {
		t.Fatal(err)
	}
	checkMerged(t, merged, batches, records)
}

func TestMergeResultsAreNotReused(t *testing.T) {
	for _, codec := range codecs {
		first, _ := sourceBatches(t, batchSpec{codec: codec}, plainRecords(0, 20, 40), plainRecords(0, 2, 40))
		merged, err := recordbatch.Merge(first, 0)
		if err != nil {
			t.Fatal(err)
		}
		want := slices.Clone(merged)
		second, _ := sourceBatches(t, batchSpec{codec: codec}, plainRecords(0, 21, 41), plainRecords(0, 3, 41))
		for range 5 {
			if _, err := recordbatch.Merge(second, 0); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(want, merged) {
			t.Errorf("%s: a later call wrote into an earlier result", codec)
		}
	}
}
