package verify

import (
	"context"
	"math/rand/v2"
	"sort"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/wire"
)

// flatLog is a log that is served without copying it.
type flatLog struct {
	all   []byte
	begin []int   // of each batch in all
	next  []int64 // the offset behind each batch
}

func flat(l *memoryLog) *flatLog {
	f := &flatLog{}
	for _, batch := range l.batches {
		h, err := recordbatch.Parse(batch)
		if err != nil {
			panic(err)
		}
		f.begin, f.next = append(f.begin, len(f.all)), append(f.next, h.NextOffset())
		f.all = append(f.all, batch...)
	}
	return f
}

// Fetch implements wire.Fetcher.
func (f *flatLog) Fetch(_ context.Context, _ int32, r *wire.FetchRequest) (*wire.FetchResponse, error) {
	wanted := r.Topics[0].Partitions[0]
	response := kmsg.NewPtrFetchResponse()
	response.Version = 12
	t, rp := kmsg.NewFetchResponseTopic(), kmsg.NewFetchResponseTopicPartition()
	end := f.next[len(f.next)-1]
	t.Topic, rp.HighWatermark, rp.LastStableOffset = r.Topics[0].Topic, end, end
	if i := sort.Search(len(f.next), func(i int) bool { return f.next[i] > wanted.FetchOffset }); i < len(f.next) {
		from := f.begin[i]
		rp.RecordBatches = f.all[from:min(len(f.all), from+int(wanted.PartitionMaxBytes))]
	}
	t.Partitions = append(t.Partitions, rp)
	response.Topics = append(response.Topics, t)
	return &wire.FetchResponse{FetchResponse: response}, nil
}

// BenchmarkForwarded compares batches of 1 KiB records that passed through as bytes. MB/s is of their records, not compressed.
func BenchmarkForwarded(b *testing.B) { benchmark(b, (*copied).forward) }

// BenchmarkRebuilt compares the same batches where each was divided into two.
func BenchmarkRebuilt(b *testing.B) {
	benchmark(b, func(c *copied, list ...recordbatch.Record) { c.rebuild(list, len(list)/2, len(list)-len(list)/2) })
}

func benchmark(b *testing.B, write func(c *copied, list ...recordbatch.Record)) {
	const batches, perBatch, recordBytes = 2048, 16, 1 << 10
	c := &copied{places: mapPlaces{offsets.NewMap(0, 0)}, codec: recordbatch.LZ4, maxBytes: fetchBytes, part: 1}
	c.fail = b.Fatal
	r := rand.New(rand.NewPCG(1, 2))
	for range batches {
		list := make([]recordbatch.Record, perBatch)
		for i := range list {
			value := make([]byte, recordBytes)
			for j := range value[:recordBytes/2] { // half of it can be compressed
				value[j] = byte(r.Uint32())
			}
			list[i] = recordbatch.Record{Timestamp: 1_700_000_000_000, Value: value}
		}
		write(c, list...)
	}
	source, target := c.places.End()
	from, to := flat(&c.source), flat(&c.target)
	b.SetBytes(recordBytes * perBatch * batches)
	b.ReportAllocs()
	for b.Loop() {
		p, v := c.partition(offsets.Pair{}, offsets.Pair{Source: source, Target: target})
		v.source.fetcher, v.target.fetcher = from, to
		if err := p.verify(b.Context(), v); err != nil {
			b.Fatal(err)
		}
		if found := p.report(); found.Result != Equal || found.Records != batches*perBatch {
			b.Fatalf("%+v", found)
		}
	}
	b.ReportMetric(batches, "batches/op")
}
