package long_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// logFile is the only segment of a partition, on the disk of a broker that is down.
type logFile struct {
	t       *testing.T
	path    string
	batches [][]byte
}

// What the header of a batch has, and where.
const (
	batchLength   = 8
	batchCRC      = 17
	batchFlags    = 21 // what the checksum covers begins here
	lastDelta     = 23
	batchProducer = 43
	batchCount    = 57
	batchHeader   = 61
	controlFlag   = 0x20
)

func readLog(t *testing.T, dir string) *logFile {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(dir, "*.log"))
	must(t, err)
	if len(segments) != 1 {
		t.Fatalf("%s has the segments %v, want one", dir, segments)
	}
	data, err := os.ReadFile(segments[0])
	must(t, err)
	l := &logFile{t: t, path: segments[0]}
	for len(data) > batchHeader {
		n := 12 + int(binary.BigEndian.Uint32(data[batchLength:]))
		if n <= batchHeader {
			break // space that is not used yet
		}
		l.batches = append(l.batches, data[:n:n])
		data = data[n:]
	}
	return l
}

// writeInPlace replaces the segment by one whose batches have the same sizes.
func (l *logFile) writeInPlace() {
	l.t.Helper()
	must(l.t, os.WriteFile(l.path, bytes.Join(l.batches, nil), 0o644))
}

// write replaces the segment. The broker recovers it and builds the indexes anew. It would truncate a log that has a wrong checksum.
func (l *logFile) write() {
	l.t.Helper()
	l.writeInPlace()
	base := l.path[:len(l.path)-len(".log")]
	for _, extension := range []string{".index", ".timeindex", ".txnindex"} {
		if err := os.Remove(base + extension); err != nil && !os.IsNotExist(err) {
			l.t.Fatal(err)
		}
	}
}

func isControl(batch []byte) bool { return batch[batchFlags+1]&controlFlag != 0 }

func baseOffset(batch []byte) int64 { return int64(binary.BigEndian.Uint64(batch)) }

func countOf(batch []byte) int64 { return int64(binary.BigEndian.Uint32(batch[batchCount:])) }

// dataBatch returns the index of the batch of records that a part of all batches is before, and how many records are before it: they are its first offset on
// the source, where every offset has a record.
func (l *logFile) dataBatch(part float64) (index int, source int64) {
	for i, b := range l.batches {
		if isControl(b) {
			continue
		}
		if i >= int(part*float64(len(l.batches))) {
			return i, source
		}
		source += countOf(b)
	}
	l.t.Fatalf("%s has no batch of records at %v", l.path, part)
	return 0, 0
}

// recordsOf decompresses the records of a batch.
func (l *logFile) recordsOf(batch []byte) (list []kmsg.Record) {
	l.t.Helper()
	data, err := kgo.DefaultDecompressor().Decompress(batch[batchHeader:], kgo.CompressionCodecType(batch[batchFlags+1]&7))
	must(l.t, err)
	for len(data) > 0 {
		length, n := binary.Varint(data)
		size := n + int(length)
		var r kmsg.Record
		must(l.t, r.ReadFrom(data[:size]))
		list = append(list, r)
		data = data[size:]
	}
	return list
}

// replace gives a batch other records, compressed as they were, and repairs its checksum. Its offsets stay.
func (l *logFile) replace(index int, records []kmsg.Record) {
	l.t.Helper()
	before := l.batches[index]
	var data []byte
	for i := range records {
		r := &records[i]
		r.Length = 0 // one byte
		r.Length = int32(len(r.AppendTo(nil)) - 1)
		data = r.AppendTo(data)
	}
	if before[batchFlags+1]&7 != 0 {
		compressor, err := kgo.DefaultCompressor(kgo.Lz4Compression())
		must(l.t, err)
		data, _ = compressor.Compress(new(bytes.Buffer), data)
	}
	after := append(bytes.Clone(before[:batchHeader]), data...)
	binary.BigEndian.PutUint32(after[batchLength:], uint32(len(after)-12))
	binary.BigEndian.PutUint32(after[batchCount:], uint32(len(records)))
	l.seal(after)
	l.batches[index] = after
}

func (l *logFile) seal(batch []byte) {
	binary.BigEndian.PutUint32(batch[batchCRC:], crc32.Checksum(batch[batchFlags:], crc32.MakeTable(crc32.Castagnoli)))
}

// markerIndex returns the index of the last marker that has records behind it.
func (l *logFile) markerIndex() int {
	l.t.Helper()
	last := len(l.batches) - 1
	for last > 0 && isControl(l.batches[last]) {
		last--
	}
	for i := last; i > 0; i-- {
		if isControl(l.batches[i]) {
			return i
		}
	}
	l.t.Fatalf("%s has no marker between records", l.path)
	return 0
}

// replaceMarker makes a record of a marker, which nobody wrote.
func (l *logFile) replaceMarker(index int) {
	l.t.Helper()
	batch := l.batches[index]
	binary.BigEndian.PutUint16(batch[batchFlags:], 0) // neither control nor transactional
	for i := batchProducer; i < batchProducer+14; i++ {
		batch[i] = 0xff // no producer
	}
	l.replace(index, []kmsg.Record{{Key: []byte("nobody"), Value: []byte("wrote this")}})
	binary.BigEndian.PutUint32(l.batches[index][lastDelta:], 0)
	l.seal(l.batches[index])
}
