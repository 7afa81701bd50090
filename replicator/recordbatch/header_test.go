package recordbatch_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"testing"

	"github.com/milena-kafka/milena/replicator/recordbatch"
)

func TestNextSplitsAFetchResponse(t *testing.T) {
	parts := [][]byte{
		encodeMessage(messageSpec{magic: 0, offset: 1, value: []byte("old")}),
		encodeMessage(messageSpec{magic: 1, offset: 2, timestamp: 5}),
		encodeSource(t, batchSpec{base: 3, records: plainRecords(3, 5, 10)}),
		encodeSource(t, batchSpec{base: 8, last: 12}), // no records
		encodeSource(t, batchSpec{base: 13, codec: recordbatch.Zstd, records: plainRecords(13, 5, 10)}),
	}
	response := bytes.Join(parts, nil)
	whole := len(response)
	response = append(response, parts[2][:40]...)
	for i, want := range parts {
		batch, rest, err := recordbatch.Next(response)
		if err != nil {
			t.Fatalf("batch %d: %v", i, err)
		}
		if !bytes.Equal(batch, want) || cap(batch) != len(batch) {
			t.Fatalf("batch %d: other bytes, or with spare capacity", i)
		}
		mustParse(t, batch)
		response = rest
	}
	if len(response) != 40 || whole == 0 {
		t.Fatalf("%d bytes are left over", len(response))
	}
	for n := range 41 {
		if _, _, err := recordbatch.Next(response[:n]); !errors.Is(err, recordbatch.ErrTruncated) {
			t.Fatalf("%d bytes of a batch: %v", n, err)
		}
	}
}

func TestHostileHeaders(t *testing.T) {
	edit := func(change func(b []byte)) []byte {
		b := encodeSource(t, batchSpec{base: 3, records: plainRecords(3, 5, 10)})
		change(b)
		return b
	}
	tests := []struct {
		name string
		b    []byte
		next bool // Next rejects it too
	}{
		{"negative length", edit(func(b []byte) { b[8] = 0xff }), true},
		{"length zero", edit(func(b []byte) { clear(b[8:12]) }), true},
		{"length below a header", edit(func(b []byte) { binary.BigEndian.PutUint32(b[8:], 48) }), true},
		{"unknown magic", edit(func(b []byte) { b[16] = 3 }), true},
		{"negative magic", edit(func(b []byte) { b[16] = 0xff }), true},
		{"magic 1 that is too short", edit(func(b []byte) { b[16] = 1; binary.BigEndian.PutUint32(b[8:], 21) }), true},
		{"negative base offset", edit(func(b []byte) { b[0] = 0xff }), false},
		{"base offset at the end of the world", edit(func(b []byte) { binary.BigEndian.PutUint64(b, math.MaxInt64-3) }), false},
		{"negative last offset delta", edit(func(b []byte) { b[23] = 0xff }), false},
		{"negative count", edit(func(b []byte) { b[57] = 0xff }), false},
		{"a byte too many", append(edit(func([]byte) {}), 0), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var format *recordbatch.FormatError
			if _, err := recordbatch.Parse(test.b); !errors.As(err, &format) {
				t.Errorf("Parse: %v", err)
			}
			if _, _, err := recordbatch.Next(test.b); test.next != errors.As(err, &format) {
				t.Errorf("Next: %v", err)
			}
		})
	}
	for n := range recordbatch.HeaderSize {
		if _, err := recordbatch.Parse(make([]byte, n)); err == nil {
			t.Errorf("%d bytes parse", n)
		}
	}
	huge := edit(func(b []byte) { binary.BigEndian.PutUint32(b[8:], math.MaxInt32) })
	if _, _, err := recordbatch.Next(huge); !errors.Is(err, recordbatch.ErrTruncated) {
		t.Errorf("length of 2 GiB: %v", err)
	}
}
