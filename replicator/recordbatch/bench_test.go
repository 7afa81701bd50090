package recordbatch_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// sizedBatch returns a batch of 1 KiB records, about size bytes before compression.
func sizedBatch(b *testing.B, codec recordbatch.Codec, size int) []byte {
	b.Helper()
	return encodeSource(b, batchSpec{base: 100, codec: codec, producerID: 7, records: plainRecords(100, size>>10, 1<<10)})
}

func BenchmarkRewrite(b *testing.B) {
	for _, size := range []int{16 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			batch := sizedBatch(b, recordbatch.None, size)
			b.ReportAllocs()
			sequence := int32(0)
			for b.Loop() {
				recordbatch.Rewrite(batch, 1234, 5, sequence)
				sequence++
			}
		})
	}
}

func BenchmarkRecordsCRC(b *testing.B) {
	for _, size := range []int{16 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			batch := sizedBatch(b, recordbatch.None, size)
			b.ReportAllocs()
			for b.Loop() {
				recordbatch.RecordsCRC(batch)
			}
		})
	}
}

func BenchmarkValidCRC(b *testing.B) {
	batch := sizedBatch(b, recordbatch.None, 1<<20)
	b.SetBytes(int64(len(batch)))
	for b.Loop() {
		recordbatch.ValidCRC(batch)
	}
}

func BenchmarkNextParseAdmit(b *testing.B) {
	batch := sizedBatch(b, recordbatch.None, 16<<10)
	aborted := recordbatch.NewAborted([]recordbatch.AbortedTransaction{{ProducerID: 9, FirstOffset: 1}})
	rules := recordbatch.Rules{MaxBytes: 1 << 20}
	b.ReportAllocs()
	for b.Loop() {
		one, _, err := recordbatch.Next(batch)
		if err != nil {
			b.Fatal(err)
		}
		h, err := recordbatch.Parse(one)
		if err != nil {
			b.Fatal(err)
		}
		if route, _, err := recordbatch.Admit(one, h, &aborted, rules); route != recordbatch.RouteForward || err != nil {
			b.Fatal(route, err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, codec := range codecs {
		b.Run(codec.String(), func(b *testing.B) {
			batch := sizedBatch(b, codec, 1<<20)
			b.SetBytes(1 << 20)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := recordbatch.Decode(batch); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRebuild(b *testing.B) {
	for _, codec := range codecs {
		b.Run(codec.String(), func(b *testing.B) {
			batch := sizedBatch(b, codec, 1<<20)
			b.SetBytes(1 << 20)
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := recordbatch.Rebuild(batch, recordbatch.RebuildRules{From: 101}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkMerge(b *testing.B) {
	for _, codec := range []recordbatch.Codec{recordbatch.None, recordbatch.LZ4, recordbatch.Zstd} {
		b.Run(codec.String(), func(b *testing.B) {
			lists := slices.Collect(slices.Chunk(plainRecords(0, 16, 1<<10), 1))
			batches, _ := sourceBatches(b, batchSpec{codec: codec, producerID: 7}, lists...)
			b.SetBytes(16 << 10)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := recordbatch.Merge(batches, 1<<20); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
