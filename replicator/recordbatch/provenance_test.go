package recordbatch_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/milena-kafka/milena/replicator/recordbatch"
)

func TestProvenanceMarksRecordsAndStopsCycles(t *testing.T) {
	hop := func(id string) recordbatch.RecordHeader {
		return recordbatch.RecordHeader{Key: recordbatch.HopHeader, Value: []byte(id)}
	}
	other := recordbatch.RecordHeader{Key: "h", Value: nil}
	records := []recordbatch.Record{
		{Offset: 0, Timestamp: 5, Key: []byte("own"), Value: []byte("1"), Headers: []recordbatch.RecordHeader{other, other}},
		{Offset: 1, Timestamp: 6, Key: nil, Value: []byte("from there"), Headers: []recordbatch.RecordHeader{hop("target")}},
		{Offset: 2, Timestamp: 7, Key: []byte{}, Value: nil, Headers: []recordbatch.RecordHeader{hop("third")}},
		{Offset: 3, Timestamp: 8, Value: []byte("over there and a third one"), Headers: []recordbatch.RecordHeader{hop("target"), hop("third")}},
	}
	for _, codec := range []recordbatch.Codec{recordbatch.None, recordbatch.Gzip, recordbatch.Snappy, recordbatch.LZ4, recordbatch.Zstd} {
		t.Run(codec.String(), func(t *testing.T) {
			batch, err := recordbatch.Encode(records, codec)
			if err != nil {
				t.Fatal(err)
			}
			h, err := recordbatch.Parse(batch)
			if err != nil {
				t.Fatal(err)
			}
			route, reason, err := recordbatch.Admit(batch, h, nil, recordbatch.Rules{Provenance: true})
			if err != nil || route != recordbatch.RouteRebuild || reason != recordbatch.ReasonProvenance {
				t.Errorf("admitted as %v %v, %v", route, reason, err)
			}
			parts, skipped, err := recordbatch.Rebuild(batch, recordbatch.RebuildRules{Provenance: &recordbatch.Provenance{From: "source", To: "target"}})
			if err != nil || len(parts) != 1 || len(skipped) != 0 {
				t.Fatalf("%d parts, %v, %v", len(parts), skipped, err)
			}
			got, err := recordbatch.Decode(parts[0].Batch)
			if err != nil {
				t.Fatal(err)
			}
			want := []recordbatch.Record{records[0], records[2]}
			want[0].Headers = []recordbatch.RecordHeader{other, other, hop("source")}
			want[1].Headers = []recordbatch.RecordHeader{hop("third"), hop("source")}
			want[1].Offset = 1
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if diff := cmp.Diff([]recordbatch.Run{{Source: 0, Count: 1}, {Source: 2, Count: 1}}, parts[0].Runs); diff != "" || parts[0].Next != 4 || parts[0].Count != 2 {
				t.Errorf("%+v\n%s", parts[0], diff)
			}
			parts, _, err = recordbatch.Rebuild(batch, recordbatch.RebuildRules{From: 3, Provenance: &recordbatch.Provenance{From: "source", To: "target"}})
			if err != nil || len(parts) != 0 {
				t.Errorf("%d parts of a record that was on the target, error %v", len(parts), err)
			}
		})
	}
}

func FuzzProvenance(f *testing.F) {
	for _, seed := range seedBatches(f) {
		f.Add(seed, int64(101), int32(0), "source", "target", true)
		f.Add(seed, int64(0), int32(200), "a", "", true)
	}
	for _, codec := range codecs {
		marked := plainRecords(100, 9, 20)
		for i := range marked {
			hop := []byte{"ab"[i%2]}
			marked[i].Headers = append(marked[i].Headers, recordbatch.RecordHeader{Key: recordbatch.HopHeader, Value: hop})
		}
		f.Add(encodeSource(f, batchSpec{base: 100, codec: codec, records: marked}), int64(102), int32(150), "c", "a", true)
	}
	f.Fuzz(func(t *testing.T, b []byte, from int64, maxBytes int32, source, target string, repair bool) {
		if repair {
			b = repaired(b)
		}
		rules := recordbatch.RebuildRules{From: from, MaxBytes: maxBytes, SkipTooLarge: func(int64) bool { return true }, Provenance: &recordbatch.Provenance{From: source, To: target}}
		parts, skipped, err := recordbatch.Rebuild(b, rules)
		if err != nil {
			checkError(t, err)
			return
		}
		records, err := recordbatch.Decode(b)
		if err != nil {
			t.Fatalf("rebuilds a batch that cannot be decoded: %v", err)
		}
		var want []recordbatch.Record
		for _, r := range records {
			if slices.Contains(skipped, r.Offset) || slices.ContainsFunc(r.Headers, func(h recordbatch.RecordHeader) bool {
				return h.Key == recordbatch.HopHeader && string(h.Value) == target
			}) {
				continue
			}
			r.Headers = append(r.Headers, recordbatch.RecordHeader{Key: recordbatch.HopHeader, Value: []byte(source)})
			want = append(want, r)
		}
		checkParts(t, parts, want, mustParse(t, b), rules)
	})
}
