package recordbatch_test

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// A damaged batch never gets a new checksum, wherever it stands.
func TestMergeOfDamage(t *testing.T) {
	for _, codec := range codecs {
		batches, _ := sourceBatches(t, batchSpec{codec: codec}, plainRecords(0, 3, 20), plainRecords(0, 3, 20), plainRecords(0, 3, 20))
		for which, batch := range batches {
			for bit := 17 * 8; bit < len(batch)*8; bit += 5 {
				batch[bit/8] ^= 1 << (bit % 8)
				var corrupt *recordbatch.CorruptError
				var format *recordbatch.FormatError // for fields with impossible values
				if merged, err := recordbatch.Merge(batches, 0); merged != nil || !errors.As(err, &corrupt) && !errors.As(err, &format) {
					t.Fatalf("%s, batch %d, bit %d: %d bytes, %v", codec, which, bit, len(merged), err)
				}
				batch[bit/8] ^= 1 << (bit % 8)
			}
		}
	}
}

// withRecords replaces the records section of a batch of three records, and seals it.
func withRecords(batch, raw []byte) []byte {
	batch = append(slices.Clone(batch[:61]), raw...)
	binary.BigEndian.PutUint32(batch[8:], uint32(len(batch)-12))
	seal(batch)
	return batch
}

func TestMergeOfMalformedRecords(t *testing.T) {
	batches, _ := sourceBatches(t, batchSpec{}, plainRecords(0, 3, 20), plainRecords(0, 3, 20))
	raw := batches[1][61:]
	size := 1 + int(raw[0]>>1) // of a record
	changed := func(at int, value byte) []byte {
		b := slices.Clone(raw)
		b[at] = value
		return b
	}
	deltas := slices.Clone(raw) // the timestamp delta of the first record is 0, so its offset delta is at 3
	deltas[3] = 2
	tests := []struct {
		name string
		raw  []byte
	}{
		{"nothing", nil},
		{"a record is missing", raw[:2*size]},
		{"a record too many", slices.Concat(raw, raw[:size])},
		{"a trailing byte", append(slices.Clone(raw), 0)},
		{"cut short", raw[:len(raw)-1]},
		{"the length is longer than the batch", changed(0, 0xfe)},
		{"the length is negative", changed(0, 1)},
		{"the length is shorter than the record", changed(0, raw[0]-2)},
		{"the length does not end", slices.Repeat([]byte{0xff}, len(raw))},
		{"an offset delta too high", deltas},
		{"an offset delta below 0", changed(3, 1)},
		{"the key is longer than the record", changed(4, 0x7e)},
	}
	for _, test := range tests {
		for _, codec := range codecs {
			t.Run(test.name+"/"+codec.String(), func(t *testing.T) {
				pair := [][]byte{withRecords(batches[0], compress(t, batches[0][61:], codec)), withRecords(batches[1], compress(t, test.raw, codec))}
				for _, batch := range pair {
					batch[22] |= byte(codec)
					seal(batch)
				}
				var format *recordbatch.FormatError
				merged, err := recordbatch.Merge(pair, 0)
				if merged != nil || !errors.As(err, &format) {
					t.Fatalf("%d bytes, %v", len(merged), err)
				}
				if want := mustParse(t, pair[1]).BaseOffset; format.Offset != want {
					t.Errorf("names offset %d, want %d", format.Offset, want)
				}
			})
		}
	}
	for _, codec := range codecs[1:] { // compressed data that is none
		pair := [][]byte{withRecords(batches[0], compress(t, batches[0][61:], codec)), withRecords(batches[1], raw)}
		for _, batch := range pair {
			batch[22] |= byte(codec)
			seal(batch)
		}
		var format *recordbatch.FormatError
		if merged, err := recordbatch.Merge(pair, 0); merged != nil || !errors.As(err, &format) {
			t.Errorf("%s: %d bytes, %v", codec, len(merged), err)
		}
	}
}

// Each batch decompresses to less than the limit, both together to more. The result could not be decoded.
func TestMergeLimitsWhatADecodeNeeds(t *testing.T) {
	if testing.Short() {
		t.Skip("needs 512 MiB")
	}
	first, err := recordbatch.Encode([]recordbatch.Record{{Value: make([]byte, recordbatch.MaxDecodedBytes/2)}}, recordbatch.Zstd)
	if err != nil {
		t.Fatal(err)
	}
	next := slices.Clone(first)
	next[7] = 1 // base offset
	if merged, err := recordbatch.Merge([][]byte{first, next}, 0); merged != nil || !errors.Is(err, recordbatch.ErrNotMergeable) {
		t.Errorf("%d bytes, %v", len(merged), err)
	}
}
