package recordbatch_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// seedBatches returns valid batches of every kind, so that fuzzing soon reaches all code.
func seedBatches(tb testing.TB) [][]byte {
	tb.Helper()
	var seeds [][]byte
	for _, codec := range codecs {
		for _, records := range recordSets(300) {
			seeds = append(seeds, encodeSource(tb, batchSpec{base: 100, codec: codec, producerID: 7, attributes: bitTransactional, records: records}))
		}
	}
	a, b := messageSpec{magic: 1, timestamp: 5, key: []byte("k"), value: []byte("v")}, messageSpec{magic: 1, offset: 3, timestamp: 6}
	zero := messageSpec{offset: 100, key: []byte("k"), value: []byte("v")}
	for _, codec := range codecs[1:4] {
		seeds = append(seeds,
			encodeWrapper(tb, messageSpec{magic: 1, offset: 103, attributes: 8, timestamp: 9}, codec, a, b),
			encodeWrapper(tb, messageSpec{offset: 100}, codec, zero))
	}
	return append(seeds,
		encodeMessage(zero), encodeMessage(a), marker(tb, 100, 7, 0), marker(tb, 100, 7, 1),
		encodeSource(tb, batchSpec{base: 100, last: 110}),
		encodeSource(tb, batchSpec{base: 100, codec: recordbatch.Snappy, xerial: true, records: plainRecords(100, 5, 9)}),
		encodeSource(tb, batchSpec{base: 100, attributes: bitLogAppendTime | bitDeleteHorizon, maxTime: 8, horizon: 3, records: plainRecords(100, 2, 9)}),
	)
}

// repaired gives arbitrary bytes a correct length and checksum. Without them, the first check would reject almost all fuzzed input.
func repaired(b []byte) []byte {
	if len(b) < 26 || b[16] >= 2 && len(b) < 61 {
		return b
	}
	b = slices.Clone(b)
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
	if b[16] < 2 {
		binary.BigEndian.PutUint32(b[12:], crc32.ChecksumIEEE(b[16:]))
	} else {
		seal(b)
	}
	return b
}

// checkError fails the test for an error of an undocumented type.
func checkError(t *testing.T, err error) {
	t.Helper()
	var format *recordbatch.FormatError
	var corrupt *recordbatch.CorruptError
	var tooLarge *recordbatch.RecordTooLargeError
	if !errors.As(err, &format) && !errors.As(err, &corrupt) && !errors.As(err, &tooLarge) && !errors.Is(err, recordbatch.ErrTruncated) {
		t.Fatalf("error of an undocumented type: %v", err)
	}
}

func FuzzNext(f *testing.F) {
	seeds := seedBatches(f)
	f.Add(bytes.Join(seeds, nil))
	for _, seed := range seeds {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, response []byte) {
		for rest := response; ; {
			batch, next, err := recordbatch.Next(rest)
			if err != nil {
				checkError(t, err)
				return
			}
			if len(batch) < 26 || !bytes.Equal(slices.Concat(batch, next), rest) {
				t.Fatalf("%d bytes became %d and %d", len(rest), len(batch), len(next))
			}
			rest = next
			valid := recordbatch.ValidCRC(batch)
			h, err := recordbatch.Parse(batch)
			if err != nil {
				checkError(t, err)
				continue
			}
			if h.LastOffset() < h.BaseOffset || h.NextOffset() <= h.LastOffset() {
				t.Fatalf("offsets of %+v", h)
			}
			if h.Magic < 2 {
				continue
			}
			fingerprint := recordbatch.RecordsCRC(batch)
			recordbatch.Rewrite(batch, 1, 2, 3)
			if recordbatch.ValidCRC(batch) != valid || recordbatch.RecordsCRC(batch) != fingerprint {
				t.Fatalf("the rewrite changed whether the checksum matches, which was %t", valid)
			}
		}
	})
}

func FuzzAdmit(f *testing.F) {
	for _, seed := range seedBatches(f) {
		f.Add(seed, int64(100), int32(100), false, int64(7), int64(100), true)
		f.Add(seed, int64(0), int32(0), true, int64(7), int64(101), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, wanted int64, maxBytes int32, stamps bool, producerID, first int64, repair bool) {
		if repair {
			b = repaired(b)
		}
		h, err := recordbatch.Parse(b)
		if err != nil {
			checkError(t, err)
			return
		}
		aborted := recordbatch.NewAborted([]recordbatch.AbortedTransaction{{ProducerID: producerID, FirstOffset: first}})
		rules := recordbatch.Rules{Wanted: wanted, MaxBytes: maxBytes, TargetLogAppendTime: stamps}
		route, reason, err := recordbatch.Admit(b, h, &aborted, rules)
		if err != nil {
			checkError(t, err)
			return
		}
		if reason.String() == "unknown" || (route == recordbatch.RouteForward) != (reason == recordbatch.ReasonNone) {
			t.Fatalf("%s %q", route, reason)
		}
		switch route {
		case recordbatch.RouteForward:
			if h.Magic != 2 || h.Attributes.Control() || h.Count != h.LastOffsetDelta+1 || h.BaseOffset < wanted || maxBytes > 0 && len(b) > int(maxBytes) {
				t.Fatalf("forwards %+v of %d bytes by %+v", h, len(b), rules)
			}
		case recordbatch.RouteRebuild:
			if h.NextOffset() <= wanted {
				t.Fatalf("rebuilds %+v by %+v", h, rules)
			}
		case recordbatch.RouteDrop:
			if !recordbatch.ValidCRC(b) {
				t.Fatalf("drops %+v with a wrong checksum", h)
			}
		default:
			t.Fatalf("route %d", route)
		}
	})
}

func FuzzDecode(f *testing.F) {
	for _, seed := range seedBatches(f) {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	f.Fuzz(func(t *testing.T, b []byte, repair bool) {
		if repair {
			b = repaired(b)
		}
		if _, err := recordbatch.ParseMarker(b); err != nil {
			checkError(t, err)
		}
		records, err := recordbatch.Decode(b)
		if err != nil {
			checkError(t, err)
			return
		}
		if !recordbatch.ValidCRC(b) {
			t.Fatal("a wrong checksum gave records")
		}
		if len(records) == 0 {
			return
		}
		checkAgainstKgo(t, b, records)
		again, err := recordbatch.Encode(records, recordbatch.None)
		if err != nil {
			t.Fatal(err)
		}
		got, err := recordbatch.Decode(again)
		if err != nil {
			t.Fatal(err)
		}
		for i := range records {
			records[i].Offset = int64(i)
		}
		if d := diff(records, got); d != "" {
			t.Fatalf("encoding and decoding changed records (-want +got):\n%.2000s", d)
		}
	})
}

// checkAgainstKgo compares the result of both decoders, except timestamps: franz-go uses nanoseconds, which extreme timestamps overflow, and
// does not set append times on inner messages. A batch that franz-go rejects is not compared.
func checkAgainstKgo(t *testing.T, b []byte, records []recordbatch.Record) {
	t.Helper()
	response := kmsg.NewFetchResponseTopicPartition()
	response.RecordBatches = b
	fetched, _ := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{KeepControlRecords: true}, &response, kgo.DefaultDecompressor(), nil)
	if fetched.Err != nil {
		return
	}
	if len(fetched.Records) != len(records) {
		t.Fatalf("%d records, franz-go reads %d", len(records), len(fetched.Records))
	}
	for i, r := range fetched.Records {
		want := fromKgo(r)
		want.Timestamp = records[i].Timestamp
		if d := diff(want, records[i]); d != "" {
			t.Fatalf("record %d (-kgo +got):\n%.2000s", i, d)
		}
	}
}

func FuzzRebuild(f *testing.F) {
	for _, seed := range seedBatches(f) {
		f.Add(seed, int64(0), int32(0), false, true)
		f.Add(seed, int64(101), int32(90), true, true)
		f.Add(seed, int64(101), int32(200), false, false)
	}
	f.Fuzz(func(t *testing.T, b []byte, from int64, maxBytes int32, skip, repair bool) {
		if repair {
			b = repaired(b)
		}
		rules := recordbatch.RebuildRules{From: from, MaxBytes: maxBytes, SkipTooLarge: func(int64) bool { return skip }}
		parts, skipped, err := recordbatch.Rebuild(b, rules)
		if err != nil {
			checkError(t, err)
			if parts != nil || skipped != nil {
				t.Fatal("an error with a result")
			}
			return
		}
		if !recordbatch.ValidCRC(b) {
			t.Fatal("a wrong checksum gave a batch")
		}
		records, err := recordbatch.Decode(b)
		if err != nil {
			t.Fatalf("rebuilds a batch that cannot be decoded: %v", err)
		}
		if len(skipped) > 0 && (!skip || maxBytes <= 0) {
			t.Fatalf("skips %v", skipped)
		}
		records = slices.DeleteFunc(records, func(r recordbatch.Record) bool { return slices.Contains(skipped, r.Offset) })
		checkParts(t, parts, records, mustParse(t, b), rules)
	})
}

// producerTimes decodes a batch with the timestamps of the producers, as a forwarded copy has them.
func producerTimes(t *testing.T, batch []byte) []recordbatch.Record {
	t.Helper()
	batch = slices.Clone(batch)
	recordbatch.Rewrite(batch, -1, -1, -1)
	records, err := recordbatch.Decode(batch)
	if err != nil {
		t.Fatalf("merges a batch that cannot be decoded: %v", err)
	}
	return records
}

// The naive twin of Merge decodes all records and encodes them as one batch.
func FuzzMerge(f *testing.F) {
	seeds := seedBatches(f)
	for i, seed := range seeds {
		f.Add(seed, seeds[(i+1)%len(seeds)], int32(0), true)
		f.Add(seed, seed, int32(400), false)
	}
	for _, codec := range codecs {
		batches, _ := sourceBatches(f, batchSpec{codec: codec, attributes: bitLogAppendTime, maxTime: 9}, plainRecords(0, 3, 20), plainRecords(0, 1, 30))
		f.Add(batches[0], batches[1], int32(0), true)
	}
	f.Fuzz(func(t *testing.T, a, b []byte, maxBytes int32, repair bool) {
		if repair {
			a, b = repaired(a), repaired(b)
			if h, err := recordbatch.Parse(a); err == nil && len(b) >= 8 {
				b = slices.Clone(b)
				binary.BigEndian.PutUint64(b, uint64(h.NextOffset())) // not covered by the checksum
			}
		}
		batches := [][]byte{a, b}
		merged, err := recordbatch.Merge(batches, maxBytes)
		if err != nil {
			if merged != nil {
				t.Fatal("an error with a result")
			}
			if !errors.Is(err, recordbatch.ErrNotMergeable) {
				checkError(t, err)
			}
			return
		}
		first, next := mustParse(t, a), mustParse(t, b)
		if !recordbatch.Mergeable(first, next) || !recordbatch.ValidCRC(a) || !recordbatch.ValidCRC(b) {
			t.Fatalf("merges %+v and %+v", first, next)
		}
		if maxBytes > 0 && len(merged) > int(maxBytes) {
			t.Fatalf("%d bytes, limit %d", len(merged), maxBytes)
		}
		if route, reason, err := recordbatch.Admit(merged, mustParse(t, merged), nil, recordbatch.Rules{}); route != recordbatch.RouteForward {
			t.Fatalf("a merged batch has route %s: %s, %v", route, reason, err)
		}
		twin, err := recordbatch.Encode(slices.Concat(producerTimes(t, a), producerTimes(t, b)), first.Attributes.Codec())
		if err != nil {
			t.Fatal(err)
		}
		want, err := recordbatch.Decode(twin)
		if err != nil {
			t.Fatal(err)
		}
		got, err := recordbatch.Decode(merged)
		if err != nil {
			t.Fatal(err)
		}
		if d := diff(want, got); d != "" {
			t.Fatalf("records differ from those of the twin (-want +got):\n%.2000s", d)
		}
		if h, twin := mustParse(t, merged), mustParse(t, twin); h.MaxTimestamp != twin.MaxTimestamp || h.Count != twin.Count || h.BaseTimestamp != first.BaseTimestamp {
			t.Fatalf("header %+v, of the twin %+v", h, twin)
		}
		checkAgainstKgo(t, merged, got)
	})
}
