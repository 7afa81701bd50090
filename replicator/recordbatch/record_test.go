package recordbatch_test

import (
	"encoding/binary"
	"errors"
	"runtime"
	"slices"
	"testing"

	"github.com/milena-kafka/milena/replicator/recordbatch"
)

func TestDecodeAgreesWithFranzGo(t *testing.T) {
	for name, records := range recordSets(300 << 10) {
		for _, codec := range codecs {
			t.Run(name+"/"+codec.String(), func(t *testing.T) {
				batch := encodeSource(t, batchSpec{base: 100, codec: codec, records: records})
				got, err := recordbatch.Decode(batch)
				if err != nil {
					t.Fatal(err)
				}
				if d := diff(records, got); d != "" {
					t.Errorf("differs from the input (-want +got):\n%.2000s", d)
				}
				if d := diff(kgoDecode(t, batch, 0), got); d != "" {
					t.Errorf("differs from what franz-go reads (-kgo +got):\n%.2000s", d)
				}
			})
		}
	}
}

func TestEncodeAgreesWithFranzGo(t *testing.T) {
	for name, records := range recordSets(300 << 10) {
		for _, codec := range codecs {
			t.Run(name+"/"+codec.String(), func(t *testing.T) {
				batch, err := recordbatch.Encode(records, codec)
				if err != nil {
					t.Fatal(err)
				}
				if !recordbatch.ValidCRC(batch) {
					t.Error("checksum is wrong")
				}
				want := slices.Clone(records)
				for i := range want {
					want[i].Offset = int64(i)
				}
				if d := diff(want, kgoDecode(t, batch, 0)); d != "" {
					t.Errorf("franz-go reads different records (-want +got):\n%.2000s", d)
				}
				h := mustParse(t, batch)
				if h.LastOffset() != int64(len(want)-1) || int(h.Count) != len(want) || h.ProducerID != -1 || h.Attributes.Codec() != codec {
					t.Errorf("header %+v", h)
				}
			})
		}
	}
	if _, err := recordbatch.Encode(nil, recordbatch.None); err == nil {
		t.Error("no records: no error")
	}
	if _, err := recordbatch.Encode(plainRecords(0, 1, 1), 5); err == nil {
		t.Error("codec 5: no error")
	}
}

func TestDecodeOfXerialSnappy(t *testing.T) {
	records := plainRecords(100, 500, 300) // several blocks of 32 KiB
	batch := encodeSource(t, batchSpec{base: 100, codec: recordbatch.Snappy, xerial: true, records: records})
	got, err := recordbatch.Decode(batch)
	if err != nil {
		t.Fatal(err)
	}
	if d := diff(records, got); d != "" {
		t.Error(d)
	}
	for _, cut := range []int{1, 5, 4000} {
		short := slices.Clone(batch[:len(batch)-cut])
		binary.BigEndian.PutUint32(short[8:], uint32(len(short)-12))
		seal(short)
		var format *recordbatch.FormatError
		if _, err := recordbatch.Decode(short); !errors.As(err, &format) {
			t.Errorf("%d bytes cut off: %v", cut, err)
		}
	}
}

func TestDecodeTimestamps(t *testing.T) {
	records := []recordbatch.Record{{Offset: 100, Timestamp: 50}, {Offset: 101, Timestamp: 40}}
	times := func(spec batchSpec) []int64 {
		spec.base, spec.records = 100, records
		decoded, err := recordbatch.Decode(encodeSource(t, spec))
		if err != nil {
			t.Fatal(err)
		}
		return []int64{decoded[0].Timestamp, decoded[1].Timestamp}
	}
	if got := times(batchSpec{attributes: bitLogAppendTime, maxTime: 77}); !slices.Equal(got, []int64{77, 77}) {
		t.Errorf("log append time: %d", got)
	}
	if got := times(batchSpec{attributes: bitDeleteHorizon, horizon: 123456789}); !slices.Equal(got, []int64{50, 40}) {
		t.Errorf("delete horizon: %d", got)
	}
}

func TestDecodeOfControlAndEmptyBatches(t *testing.T) {
	records, err := recordbatch.Decode(marker(t, 100, 7, 1))
	if err != nil || len(records) != 1 || !slices.Equal(records[0].Key, []byte{0, 0, 0, 1}) {
		t.Errorf("marker: %v, %v", records, err)
	}
	records, err = recordbatch.Decode(encodeSource(t, batchSpec{base: 100, last: 105}))
	if err != nil || records != nil {
		t.Errorf("empty batch: %v, %v", records, err)
	}
}

func TestDecodeIsStrict(t *testing.T) {
	// Each case changes an uncompressed batch of two records and then corrects the checksum.
	good := func() []byte {
		return encodeSource(t, batchSpec{base: 100, records: []recordbatch.Record{
			{Offset: 100, Timestamp: 5, Key: []byte("k"), Value: []byte("v"), Headers: []recordbatch.RecordHeader{{Key: "h", Value: []byte("x")}}},
			{Offset: 101, Timestamp: 5, Key: []byte("k"), Value: []byte("v")},
		}})
	}
	tests := []struct {
		name   string
		change func(b []byte) []byte
	}{
		{"a byte after the last record", func(b []byte) []byte { return append(b, 0) }},
		{"a byte less", func(b []byte) []byte { return b[:len(b)-1] }},
		{"one record more in the count", func(b []byte) []byte { b[60] = 3; return b }},
		{"one record less in the count", func(b []byte) []byte { b[60] = 1; return b }},
		{"a billion records in the count", func(b []byte) []byte { b[57] = 0x40; return b }},
		{"record length negative", func(b []byte) []byte { b[61] = 1; return b }},
		{"record length too small", func(b []byte) []byte { b[61] = 2; return b }},
		{"record length too large", func(b []byte) []byte { b[61] = 126; return b }},
		{"offset delta goes back", func(b []byte) []byte { b[64] = 6; return b }},
		{"offset delta negative", func(b []byte) []byte { b[64] = 1; return b }},
		{"offset after the batch", func(b []byte) []byte { b[26] = 0; return b }},
		{"key length -2", func(b []byte) []byte { b[65] = 3; return b }},
		{"key length too large", func(b []byte) []byte { b[65] = 100; return b }},
		{"value length -2", func(b []byte) []byte { b[67] = 3; return b }},
		{"header count negative", func(b []byte) []byte { b[69] = 1; return b }},
		{"header count too large", func(b []byte) []byte { b[69] = 120; return b }},
		{"header key null", func(b []byte) []byte { b[70] = 1; return b }},
		{"header value length -2", func(b []byte) []byte { b[72] = 3; return b }},
		{"key length as a varint of six bytes", func(b []byte) []byte {
			b[61] += 10
			return slices.Insert(b, 65, 0x82, 0x80, 0x80, 0x80, 0x80)
		}},
		{"codec 5", func(b []byte) []byte { b[22] = 5; return b }},
		{"codec without codec bytes", func(b []byte) []byte { b[22] = 3; return b }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := test.change(good())
			binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
			var corrupt *recordbatch.CorruptError
			if _, err := recordbatch.Decode(b); !errors.As(err, &corrupt) {
				t.Errorf("without a new checksum: %v", err)
			}
			seal(b)
			var format *recordbatch.FormatError
			if records, err := recordbatch.Decode(b); !errors.As(err, &format) || records != nil {
				t.Errorf("got %d records, %v", len(records), err)
			}
			if parts, _, err := recordbatch.Rebuild(b, recordbatch.RebuildRules{}); !errors.As(err, &format) || parts != nil {
				t.Errorf("rebuild: got %d parts, %v", len(parts), err)
			}
		})
	}
	if _, err := recordbatch.Decode(good()); err != nil {
		t.Errorf("unchanged: %v", err)
	}
}

func TestDecompressionIsBounded(t *testing.T) {
	bomb := make([]byte, recordbatch.MaxDecodedBytes+1)
	for _, codec := range codecs[1:] {
		t.Run(codec.String(), func(t *testing.T) {
			batch := encodeSource(t, batchSpec{base: 1, records: plainRecords(1, 1, 1)})
			batch[22] = byte(codec)
			batch = append(batch[:61], compress(t, bomb, codec)...)
			binary.BigEndian.PutUint32(batch[8:], uint32(len(batch)-12))
			seal(batch)
			var format *recordbatch.FormatError
			if _, err := recordbatch.Decode(batch); !errors.As(err, &format) || format.Err == nil {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestDeclaredSizesAreNotTrusted(t *testing.T) {
	declared := map[string][]byte{ // each declares 200 MiB
		"snappy": {0x80, 0x80, 0x80, 0x64, 0x00, 'x'},
		"zstd":   {0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0x00, 0x00, 0x80, 0x0c, 0x01, 0x00, 0x00},
		"xerial": {0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 6, 0x80, 0x80, 0x80, 0x64, 0x00, 'x'},
	}
	attributes := map[string]byte{"snappy": 2, "zstd": 4, "xerial": 2}
	for name, payload := range declared {
		batch := encodeSource(t, batchSpec{base: 1, records: plainRecords(1, 1, 1)})
		batch[22] = attributes[name]
		batch = append(batch[:61], payload...)
		binary.BigEndian.PutUint32(batch[8:], uint32(len(batch)-12))
		seal(batch)
		const rounds = 100
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range rounds {
			if _, err := recordbatch.Decode(batch); err == nil {
				t.Fatal("no error")
			}
		}
		runtime.ReadMemStats(&after)
		if got := (after.TotalAlloc - before.TotalAlloc) / rounds; got > 1<<20 {
			t.Errorf("%s: %d bytes allocated", name, got)
		}
	}
}
