package recordbatch_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// checkParts checks all guarantees of Rebuild. The records are the wanted ones of the source batch.
func checkParts(tb testing.TB, parts []recordbatch.Part, records []recordbatch.Record, source recordbatch.Header, rules recordbatch.RebuildRules) {
	tb.Helper()
	records = slices.DeleteFunc(slices.Clone(records), func(r recordbatch.Record) bool { return r.Offset < rules.From })
	for i, part := range parts {
		h := mustParse(tb, part.Batch)
		if !recordbatch.ValidCRC(part.Batch) {
			tb.Fatalf("part %d: checksum is wrong", i)
		}
		if rules.MaxBytes > 0 && len(part.Batch) > int(rules.MaxBytes) {
			tb.Fatalf("part %d: %d bytes, limit %d", i, len(part.Batch), rules.MaxBytes)
		}
		if h.Count != part.Count || h.LastOffsetDelta+1 != part.Count || h.BaseOffset != 0 || h.Magic != 2 || h.Attributes != recordbatch.Attributes(source.Attributes.Codec()) {
			tb.Fatalf("part %d: header %+v", i, h)
		}
		if h.MaxTimestamp != part.MaxTimestamp {
			tb.Fatalf("part %d: max timestamp %d in the header, %d in the part", i, h.MaxTimestamp, part.MaxTimestamp)
		}
		got, err := recordbatch.Decode(part.Batch)
		if err != nil || len(got) > len(records) {
			tb.Fatalf("part %d: %d records, %v", i, len(got), err)
		}
		for n, j := 0, 0; n < len(part.Runs); n++ { // the runs restore the source offsets
			for k := range part.Runs[n].Count {
				got[j].Offset = part.Runs[n].Source + int64(k)
				j++
			}
		}
		if d := diff(records[:len(got)], got); d != "" {
			tb.Fatalf("part %d: records differ (-want +got):\n%.2000s", i, d)
		}
		next := records[len(got)-1].Offset + 1
		if i == len(parts)-1 {
			next = source.NextOffset()
		}
		if part.Next != next {
			tb.Fatalf("part %d: next %d, want %d", i, part.Next, next)
		}
		records = records[len(got):]
	}
	if len(records) > 0 {
		tb.Fatalf("%d records are missing", len(records))
	}
}

func TestRebuildKeepsEveryRecord(t *testing.T) {
	for name, records := range recordSets(300 << 10) {
		for _, codec := range codecs {
			t.Run(name+"/"+codec.String(), func(t *testing.T) {
				for _, from := range []int64{0, 100, 104, 110} {
					batch := encodeSource(t, batchSpec{base: 100, last: 109, codec: codec, attributes: bitTransactional, records: records})
					rules := recordbatch.RebuildRules{From: from}
					parts, skipped, err := recordbatch.Rebuild(batch, rules)
					if err != nil || skipped != nil || len(parts) > 1 {
						t.Fatalf("%d parts, skipped %v, %v", len(parts), skipped, err)
					}
					checkParts(t, parts, records, mustParse(t, batch), rules)
					if len(parts) == 1 && len(records) < 1000 && from <= 100 {
						if d := diff(len(records), len(kgoDecode(t, parts[0].Batch, 0))); d != "" {
							t.Errorf("franz-go reads different records (-want +got):\n%s", d)
						}
					}
				}
			})
		}
	}
}

func TestRebuildRecordsOfTenMebibytes(t *testing.T) {
	sets := recordSets(10 << 20)
	for _, codec := range codecs {
		for _, name := range []string{"big", "zeros"} {
			t.Run(name+"/"+codec.String(), func(t *testing.T) {
				batch := encodeSource(t, batchSpec{base: 100, codec: codec, records: sets[name]})
				parts, _, err := recordbatch.Rebuild(batch, recordbatch.RebuildRules{})
				if err != nil || len(parts) != 1 {
					t.Fatalf("%d parts, %v", len(parts), err)
				}
				checkParts(t, parts, sets[name], mustParse(t, batch), recordbatch.RebuildRules{})
				kgoDecode(t, parts[0].Batch, 0)
			})
		}
	}
}

func TestRebuildKeepsAppendTimes(t *testing.T) {
	records := plainRecords(100, 3, 5)
	batch := encodeSource(t, batchSpec{base: 100, attributes: bitLogAppendTime | bitDeleteHorizon, horizon: 7, maxTime: 1234, records: records})
	parts, _, err := recordbatch.Rebuild(batch, recordbatch.RebuildRules{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range records {
		records[i].Timestamp = 1234
	}
	checkParts(t, parts, records, mustParse(t, batch), recordbatch.RebuildRules{})
	if h := mustParse(t, parts[0].Batch); h.BaseTimestamp != 1234 || h.MaxTimestamp != 1234 {
		t.Errorf("header %+v", h)
	}
}

func TestRebuildReportsRuns(t *testing.T) {
	records := recordSets(300 << 10)["holes"] // 103 104 109
	batch := encodeSource(t, batchSpec{base: 100, last: 115, records: records})
	parts, _, err := recordbatch.Rebuild(batch, recordbatch.RebuildRules{From: 104})
	if err != nil || len(parts) != 1 {
		t.Fatalf("%d parts, %v", len(parts), err)
	}
	if d := diff([]recordbatch.Run{{Source: 104, Count: 1}, {Source: 109, Count: 1}}, parts[0].Runs); d != "" {
		t.Error(d)
	}
	if parts[0].Next != 116 {
		t.Errorf("next %d, want 116", parts[0].Next)
	}
}

func TestRebuildSplits(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for _, codec := range codecs {
		t.Run(codec.String(), func(t *testing.T) {
			for range 12 {
				records := plainRecords(100, 1+random.IntN(400), random.IntN(300))
				if len(records) > 3 {
					records = slices.Delete(records, 1, 3)
				}
				batch := encodeSource(t, batchSpec{base: 100, codec: codec, records: records})
				rules := recordbatch.RebuildRules{From: 100 + int64(random.IntN(5)), MaxBytes: int32(600 + random.IntN(len(batch)))}
				parts, skipped, err := recordbatch.Rebuild(batch, rules)
				if err != nil || skipped != nil {
					t.Fatalf("skipped %v, %v", skipped, err)
				}
				checkParts(t, parts, records, mustParse(t, batch), rules)
				if least := len(batch)/int(rules.MaxBytes) + 1; len(parts) > 2*least+2 {
					t.Errorf("%d bytes by %d: %d parts", len(batch), rules.MaxBytes, len(parts))
				}
			}
		})
	}
}

func TestRebuildSplitsByNumber(t *testing.T) {
	records := plainRecords(100, 10, 50)
	batch := encodeSource(t, batchSpec{base: 100, codec: recordbatch.LZ4, records: records})
	for limit := range int32(12) {
		rules := recordbatch.RebuildRules{From: 102, MaxRecords: limit}
		parts, _, err := recordbatch.Rebuild(batch, rules)
		if err != nil {
			t.Fatal(err)
		}
		checkParts(t, parts, records, mustParse(t, batch), rules)
		if limit == 0 {
			continue
		}
		if want := (8 + int(limit) - 1) / int(limit); len(parts) != want {
			t.Errorf("8 records by %d: %d parts, want %d", limit, len(parts), want)
		}
		for _, part := range parts {
			if part.Count > limit {
				t.Errorf("a part has %d records, the limit is %d", part.Count, limit)
			}
		}
	}
}

func TestRebuildOfRecordsThatAreTooLarge(t *testing.T) {
	records := plainRecords(100, 20, 50)
	large := plainRecords(0, 2, 20000)
	records[0].Value, records[13].Value = large[0].Value, large[1].Value
	for _, codec := range codecs {
		t.Run(codec.String(), func(t *testing.T) {
			batch := encodeSource(t, batchSpec{base: 100, codec: codec, records: records})
			rules := recordbatch.RebuildRules{MaxBytes: 3000}
			var tooLarge *recordbatch.RecordTooLargeError
			parts, _, err := recordbatch.Rebuild(batch, rules)
			if !errors.As(err, &tooLarge) || parts != nil {
				t.Fatalf("%d parts, %v", len(parts), err)
			}
			if tooLarge.Offset != 100 || tooLarge.Max != 3000 || tooLarge.Size <= 3000 {
				t.Errorf("%+v", tooLarge)
			}
			rules.SkipTooLarge = func(int64) bool { return true }
			parts, skipped, err := recordbatch.Rebuild(batch, rules)
			if err != nil || !slices.Equal(skipped, []int64{100, 113}) {
				t.Fatalf("skipped %v, %v", skipped, err)
			}
			left := slices.Concat(records[1:13], records[14:])
			checkParts(t, parts, left, mustParse(t, batch), rules)

			alone := encodeSource(t, batchSpec{base: 100, codec: codec, records: records[:1]})
			parts, skipped, err = recordbatch.Rebuild(alone, rules)
			if err != nil || len(parts) != 0 || !slices.Equal(skipped, []int64{100}) {
				t.Errorf("%d parts, skipped %v, %v", len(parts), skipped, err)
			}
		})
	}
}

func TestRebuildRejectsDamageAndMarkers(t *testing.T) {
	for _, codec := range codecs {
		batch := encodeSource(t, batchSpec{base: 100, codec: codec, records: plainRecords(100, 20, 30)})
		for bit := 17 * 8; bit < len(batch)*8; bit += 13 {
			batch[bit/8] ^= 1 << (bit % 8)
			var corrupt *recordbatch.CorruptError
			var format *recordbatch.FormatError // for fields with impossible values
			if parts, _, err := recordbatch.Rebuild(batch, recordbatch.RebuildRules{}); parts != nil || !errors.As(err, &corrupt) && !errors.As(err, &format) {
				t.Fatalf("%s, bit %d: %d parts, %v", codec, bit, len(parts), err)
			}
			batch[bit/8] ^= 1 << (bit % 8)
		}
	}
	var format *recordbatch.FormatError
	if parts, _, err := recordbatch.Rebuild(marker(t, 100, 7, 1), recordbatch.RebuildRules{}); parts != nil || !errors.As(err, &format) {
		t.Errorf("marker: %d parts, %v", len(parts), err)
	}
}

func TestRebuildResultsAreNotReused(t *testing.T) {
	first := encodeSource(t, batchSpec{base: 100, codec: recordbatch.Zstd, records: plainRecords(100, 50, 40)})
	parts, _, err := recordbatch.Rebuild(first, recordbatch.RebuildRules{})
	if err != nil {
		t.Fatal(err)
	}
	want := slices.Clone(parts[0].Batch)
	second := encodeSource(t, batchSpec{base: 100, codec: recordbatch.Zstd, records: plainRecords(100, 60, 41)})
	for range 5 {
		if _, _, err := recordbatch.Rebuild(second, recordbatch.RebuildRules{}); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(want, parts[0].Batch) {
		t.Error("a later call wrote into an earlier result")
	}
}
