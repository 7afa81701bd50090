package recordbatch_test

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"

	"github.com/milena-kafka/milena/replicator/recordbatch"
)

func TestDecodeOfOldFormats(t *testing.T) {
	a, b, c := []byte("a"), []byte("b"), []byte{}
	want0 := []recordbatch.Record{{Offset: 10, Timestamp: -1, Key: a, Value: b}, {Offset: 11, Timestamp: -1, Value: c}, {Offset: 14, Timestamp: -1, Key: c}}
	inner0 := []messageSpec{{offset: 10, key: a, value: b}, {offset: 11, value: c}, {offset: 14, key: c}}
	want1 := []recordbatch.Record{{Offset: 10, Timestamp: 5, Key: a, Value: b}, {Offset: 11, Timestamp: 4, Value: c}, {Offset: 14, Timestamp: -1, Key: c}}
	inner1 := []messageSpec{{magic: 1, timestamp: 5, key: a, value: b}, {magic: 1, offset: 1, timestamp: 4, value: c}, {magic: 1, offset: 4, timestamp: -1, key: c}}
	stamped := []recordbatch.Record{{Offset: 10, Timestamp: 99, Key: a, Value: b}, {Offset: 11, Timestamp: 99, Value: c}, {Offset: 14, Timestamp: 99, Key: c}}
	type testCase struct {
		name  string
		batch []byte
		want  []recordbatch.Record
		alone bool // franz-go reads this one differently
	}
	tests := []testCase{
		{name: "magic 0", batch: encodeMessage(inner0[0]), want: want0[:1]},
		{name: "magic 1", batch: encodeMessage(messageSpec{magic: 1, offset: 10, timestamp: 5, key: a, value: b}), want: want1[:1]},
		{name: "magic 1, stamped", batch: encodeMessage(messageSpec{magic: 1, offset: 10, attributes: 8, timestamp: 99, key: a, value: b}), want: stamped[:1]},
	}
	for _, codec := range codecs[1:4] {
		tests = append(tests,
			testCase{"magic 0 wrapper, " + codec.String(), encodeWrapper(t, messageSpec{offset: 14}, codec, inner0...), want0, codec == recordbatch.LZ4},
			testCase{"magic 1 wrapper, " + codec.String(), encodeWrapper(t, messageSpec{magic: 1, offset: 14, timestamp: 5}, codec, inner1...), want1, false},
			testCase{"magic 1 wrapper, stamped, " + codec.String(), encodeWrapper(t, messageSpec{magic: 1, offset: 14, attributes: 8, timestamp: 99}, codec, inner1...), stamped, true},
		)
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := recordbatch.Decode(test.batch)
			if err != nil {
				t.Fatal(err)
			}
			if d := diff(test.want, got); d != "" {
				t.Errorf("differs from the input (-want +got):\n%s", d)
			}
			if !test.alone {
				if d := diff(kgoDecode(t, test.batch, 0), got); d != "" {
					t.Errorf("differs from what franz-go reads (-kgo +got):\n%s", d)
				}
			}
			h := mustParse(t, test.batch)
			if want := test.want[len(test.want)-1].Offset + 1; h.NextOffset() != want {
				t.Errorf("next offset %d, want %d", h.NextOffset(), want)
			}
			parts, skipped, err := recordbatch.Rebuild(test.batch, recordbatch.RebuildRules{From: 11})
			if err != nil || skipped != nil {
				t.Fatal(err)
			}
			checkParts(t, parts, test.want, h, recordbatch.RebuildRules{From: 11})
		})
	}
}

func TestDecodeOfOldFormatsIsStrict(t *testing.T) {
	one := messageSpec{magic: 1, timestamp: 5, value: []byte("v")}
	two := messageSpec{magic: 1, offset: 1, timestamp: 5, value: []byte("w")}
	at := func(m messageSpec, offset int64) messageSpec { m.offset = offset; return m }
	wrapper := messageSpec{magic: 1, offset: 10, timestamp: 5}
	zero := messageSpec{offset: 10}
	compressedInner := one
	compressedInner.attributes = 2
	gzip := recordbatch.Gzip
	tests := map[string][]byte{
		"inner magic differs":             encodeWrapper(t, wrapper, gzip, messageSpec{value: []byte("v")}),
		"inner is compressed":             encodeWrapper(t, wrapper, gzip, compressedInner),
		"inner offsets go back":           encodeWrapper(t, wrapper, gzip, two, one),
		"inner offsets twice":             encodeWrapper(t, wrapper, gzip, one, one),
		"inner offset negative":           encodeWrapper(t, wrapper, gzip, at(one, -1), two),
		"last inner after wrapper":        encodeWrapper(t, wrapper, gzip, one, at(two, 11)),
		"absolute inner after wrapper":    encodeWrapper(t, zero, gzip, messageSpec{offset: 11}),
		"no inner":                        encodeWrapper(t, wrapper, gzip),
		"null value":                      encodeMessage(messageSpec{magic: 1, attributes: 1, offset: 10}),
		"garbage value":                   encodeMessage(messageSpec{magic: 1, attributes: 3, offset: 10, value: []byte("garbage")}),
		"short LZ4 frame in magic 0":      encodeMessage(messageSpec{attributes: 3, offset: 10, value: []byte{4, 0x22, 0x4d, 0x18, 0x68, 0x40}}),
		"inner set cut off":               encodeMessage(messageSpec{magic: 1, attributes: 1, offset: 10, value: compress(t, encodeMessage(one)[:20], gzip)}),
		"key length beyond the message":   reseal(encodeMessage(one), func(b []byte) { b[26] = 0x7f }),
		"key length -2":                   reseal(encodeMessage(one), func(b []byte) { b[29] = 0xfe }),
		"value length beyond the message": reseal(encodeMessage(one), func(b []byte) { b[33] = 9 }),
		"value length below the message":  reseal(encodeMessage(one), func(b []byte) { b[33] = 0 }),
	}
	for name, batch := range tests {
		var format *recordbatch.FormatError
		if records, err := recordbatch.Decode(batch); !errors.As(err, &format) {
			t.Errorf("%s: %v, %v", name, records, err)
		}
	}
	damaged := encodeMessage(one)
	damaged[len(damaged)-1] ^= 1
	var corrupt *recordbatch.CorruptError
	if _, err := recordbatch.Decode(damaged); !errors.As(err, &corrupt) {
		t.Errorf("damaged message: %v", err)
	}
	set := encodeMessage(one)
	set[len(set)-1] ^= 1
	inside := encodeMessage(messageSpec{magic: 1, attributes: 1, offset: 10, value: compress(t, set, gzip)})
	if _, err := recordbatch.Decode(inside); !errors.As(err, &corrupt) {
		t.Errorf("damaged inner message: %v", err)
	}
}

func reseal(b []byte, change func(b []byte)) []byte {
	change(b)
	binary.BigEndian.PutUint32(b[12:], crc32.ChecksumIEEE(b[16:]))
	return b
}
