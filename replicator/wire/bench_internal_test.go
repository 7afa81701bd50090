//go:build unix

package wire

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
)

// benchBroker is the variable of the process that is a broker: its CPU time must not count.
const benchBroker = "WIRE_BENCH_BROKER"

// TestBenchBroker is the broker of the benchmarks, in a process of its own.
func TestBenchBroker(t *testing.T) {
	if os.Getenv(benchBroker) == "" {
		t.Skip("is the broker of the benchmarks")
	}
	fmt.Println(listen(t, nil, benchAnswers))
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// benchAnswers answers without looking at batches. MaxBytes of a fetch request is what each of its partitions gets.
func benchAnswers(l *link) {
	l.answerVersions()
	in := bufio.NewReaderSize(l.in, 1<<20)
	var response []byte
	for {
		header, err := in.Peek(12)
		if err != nil {
			return
		}
		size := int(binary.BigEndian.Uint32(header)) + 4
		r := received{key: int16(binary.BigEndian.Uint16(header[4:])), version: int16(binary.BigEndian.Uint16(header[6:]))}
		number := binary.BigEndian.Uint32(header[8:])
		switch {
		case response != nil:
			_, _ = in.Discard(size)
		case r.key == kmsg.Produce.Int16():
			_, _ = in.Discard(size)
			response = r.response(produced(0))
		default:
			frame := make([]byte, size)
			_, _ = io.ReadFull(in, frame)
			r, _ = (&link{in: bufio.NewReader(strings.NewReader(string(frame)))}).next()
			request, _ := r.decode()
			answer := fetched(nil)
			answer.Topics[0].Partitions = nil
			for _, topic := range request.(*kmsg.FetchRequest).Topics {
				for _, p := range topic.Partitions {
					answer.Topics[0].Partitions = append(answer.Topics[0].Partitions, fetched(make([]byte, p.PartitionMaxBytes)).Topics[0].Partitions[0])
				}
			}
			response = r.response(answer)
		}
		binary.BigEndian.PutUint32(response[4:], number)
		if _, err := l.Write(response); err != nil {
			return
		}
	}
}

// startBenchBroker starts the other process and returns its address.
func startBenchBroker(b *testing.B) string {
	b.Helper()
	command := exec.CommandContext(b.Context(), os.Args[0], "-test.run=^TestBenchBroker$")
	command.Env = append(os.Environ(), benchBroker+"=1")
	stdin, err := command.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := command.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = stdin.Close()
		_ = command.Wait()
	})
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(address)
}

// cpu returns the CPU time of this process.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// inFlight is the number of requests of the benchmarks that are in flight.
const inFlight = 8

// BenchmarkWire compares a line with a kgo client: time, CPU time and allocations for the same requests.
func BenchmarkWire(b *testing.B) {
	address := startBenchBroker(b)
	for _, size := range []int{16 << 10, 64 << 10} {
		for _, batches := range []int{1, 16} {
			produce := func() *ProduceRequest {
				request := NewProduceRequest(10 * time.Second)
				for n := range batches {
					request.Add(offsets.TopicPartition{Topic: "orders", Partition: int32(n)}, topicID, make([]byte, size))
				}
				return request
			}
			fetch := func() *FetchRequest {
				request := NewFetchRequest(time.Second, 1<<30, ReadUncommitted)
				for n := range batches {
					request.Add(FetchPartition{offsets.TopicPartition{Topic: "orders", Partition: int32(n)}, FetchOffset{TopicID: topicID, MaxBytes: int32(size)}})
				}
				return request
			}
			name := fmt.Sprintf("%dx%dKiB/", batches, size>>10)
			b.Run("produce/"+name+"kgo", func(b *testing.B) { benchKgo(b, address, batches*size, func() kmsg.Request { return produce() }) })
			b.Run("produce/"+name+"line", func(b *testing.B) { benchSend(b, address, batches*size, produce) })
			b.Run("fetch/"+name+"kgo", func(b *testing.B) { benchKgo(b, address, batches*size, func() kmsg.Request { return fetch() }) })
			b.Run("fetch/"+name+"line", func(b *testing.B) { benchFetch(b, address, batches*size, fetch) })
		}
	}
}

// measure runs do, which moves size bytes per round, and reports its CPU time per GB.
func measure(b *testing.B, size int, do func()) {
	b.Helper()
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu(b)
	do()
	b.ReportMetric((cpu(b)-before).Seconds()/(float64(b.N)*float64(size)/1e9), "cpu-s/GB")
}

// concurrently calls request b.N times, inFlight of them at a time.
func concurrently(b *testing.B, request func() error) {
	b.Helper()
	var running sync.WaitGroup
	for n := range inFlight {
		running.Go(func() {
			for range (b.N + n) / inFlight {
				if err := request(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	running.Wait()
}

func benchKgo(b *testing.B, address string, size int, request func() kmsg.Request) {
	b.Helper()
	options, err := client.Options(config.Cluster{Brokers: []string{address}}, &client.Dials{}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	cl, err := kgo.NewClient(options...)
	if err != nil {
		b.Fatal(err)
	}
	defer cl.Close()
	measure(b, size, func() {
		var pool sync.Pool
		concurrently(b, func() error {
			r, ok := pool.Get().(kmsg.Request)
			if !ok {
				r = request()
			}
			_, err := cl.SeedBrokers()[0].Request(context.Background(), r)
			pool.Put(r)
			return err
		})
	})
}

func benchSend(b *testing.B, address string, size int, request func() *ProduceRequest) {
	b.Helper()
	lines := open(b, access(b, address, config.Cluster{}))
	r, room := request(), make(chan struct{}, inFlight)
	measure(b, size, func() {
		for range b.N {
			room <- struct{}{}
			if err := sendOn(b.Context(), lines, 1, r, func(_ *kmsg.ProduceResponse, err error) {
				if <-room; err != nil {
					b.Error(err)
				}
			}); err != nil {
				b.Fatal(err)
			}
		}
		for range inFlight {
			room <- struct{}{}
		}
	})
}

func benchFetch(b *testing.B, address string, size int, request func() *FetchRequest) {
	b.Helper()
	lines := open(b, access(b, address, config.Cluster{}))
	measure(b, size, func() {
		var pool sync.Pool
		concurrently(b, func() error {
			r, ok := pool.Get().(*FetchRequest)
			if !ok {
				r = request()
			}
			response, err := lines.Fetch(context.Background(), 1, r)
			if err == nil {
				response.Release()
			}
			pool.Put(r)
			return err
		})
	})
}
