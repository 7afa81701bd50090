package recordbatch_test

import (
	"bytes"
	"testing"

	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// A small batch may decompress to a lot. A reader that expects little reads no more than it says.
func TestDecodeUpToALimit(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	for _, codec := range []recordbatch.Codec{recordbatch.None, recordbatch.Gzip, recordbatch.Snappy, recordbatch.LZ4, recordbatch.Zstd} {
		batch, err := recordbatch.Encode([]recordbatch.Record{{Timestamp: 1, Value: bytes.Repeat([]byte("x"), size)}}, codec)
		if err != nil {
			t.Fatal(err)
		}
		if records, err := recordbatch.DecodeUpTo(batch, 2*size); err != nil || len(records) != 1 || len(records[0].Value) != size {
			t.Errorf("%s below the limit: %d records, %v", codec, len(records), err)
		}
		if codec == recordbatch.None {
			continue // the broker bounds what is not compressed
		}
		if _, err := recordbatch.DecodeUpTo(batch, size/2); err == nil {
			t.Errorf("%s: a batch of %d bytes decompresses beyond the limit", codec, len(batch))
		}
	}
}
