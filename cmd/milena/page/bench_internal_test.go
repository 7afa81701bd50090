package page

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator"
)

// manyPartitions is a busy flow of 10,000 partitions in 100 topics, whose figures change with every second.
func manyPartitions() func() []replicator.Status {
	const topics, each = 100, 100
	second := int64(0)
	return func() []replicator.Status {
		second++
		now := time.Now()
		s := replicator.Status{
			Flow: "primary-dr", Source: "primary", Target: "dr", Ready: true, Fence: "transactions", Records: 1e6 * second, Bytes: 1e9 * second,
			Partitions: make([]replicator.PartitionStatus, 0, topics*each), LagRecords: ptr(second % 977),
		}
		for topic := range topics {
			name := fmt.Sprintf("topic-%03d", topic)
			for i := range int32(each) {
				lag, age := (second+int64(i))%13, float64(second%7)/10
				s.Partitions = append(s.Partitions, replicator.PartitionStatus{
					Topic: name, TargetTopic: name, Partition: i, State: "replicating", Begun: true, Acked: second * 100, LagRecords: &lag, LagSeconds: &age, SourceSeen: now,
				})
				s.RPO.Add(offsets.Behind{Topic: name, Partition: i, Acked: second * 100, SourceEnd: second*100 + lag, Seen: now, Complete: now.Add(-time.Second)})
			}
		}
		s.RPO.Settle(nil, now)
		return []replicator.Status{s}
	}
}

// cpu is the CPU time of the process, with that of the clients.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// readingClient is a browser that reads a stream over TCP and counts what it gets.
type readingClient struct{ bytes atomic.Int64 }

func (c *readingClient) read(body io.Reader) {
	chunk := make([]byte, 64<<10)
	for {
		n, err := body.Read(chunk) // an event comes in one piece
		c.bytes.Add(int64(n))
		if err != nil {
			return
		}
	}
}

// BenchmarkFiftyPages is what fifty open pages cost in a second with 10,000 partitions, over TCP, with the CPU that the fifty clients take to read; making up
// the statuses of a test is included, and costs about what the statuses of a flow do.
func BenchmarkFiftyPages(b *testing.B) {
	for _, pages := range []int{0, 1, 50} {
		b.Run(fmt.Sprintf("pages=%d", pages), func(b *testing.B) {
			p := New(Options{
				Version: "v", Instance: func() string { return "milena-0" }, Statuses: manyPartitions(),
				NotReady: func([]replicator.Status) []string { return nil }, Stopping: func() bool { return false },
			})
			mux := http.NewServeMux()
			p.AddTo(mux)
			server := httptest.NewServer(mux)
			defer server.Close()
			defer p.readers.close()
			clients := make([]*readingClient, pages)
			transport := &http.Transport{DisableCompression: true}
			defer transport.CloseIdleConnections()
			for i := range clients {
				clients[i] = &readingClient{}
				r, _ := http.NewRequestWithContext(b.Context(), http.MethodGet, server.URL+"/api/v1/events", nil)
				r.Header.Set("Accept-Encoding", "gzip")
				response, err := transport.RoundTrip(r)
				if err != nil {
					b.Fatal(err)
				}
				defer func() { _ = response.Body.Close() }()
				go clients[i].read(response.Body)
			}
			now := time.Now()
			before, sent := cpu(b), int64(0)
			b.ResetTimer()
			for range b.N {
				was := make([]int64, pages)
				for i, c := range clients {
					was[i] = c.bytes.Load()
				}
				now = now.Add(time.Second)
				p.pass(now)
				for slices.ContainsFunc(indices(pages), func(i int) bool { return clients[i].bytes.Load() == was[i] }) {
					time.Sleep(100 * time.Microsecond) // until every page has the event
				}
			}
			b.StopTimer()
			for _, c := range clients {
				sent += c.bytes.Load()
			}
			b.ReportMetric(float64(cpu(b)-before)/float64(b.N)/1e6, "cpu-ms/s")
			if pages > 0 {
				b.ReportMetric(float64(sent)/float64(b.N)/float64(pages), "B/s/page")
			}
		})
	}
}

func indices(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

// BenchmarkRows is a request for a part of 10,000 partitions, sorted by lag, and one that searches.
func BenchmarkRows(b *testing.B) {
	statuses := manyPartitions()()
	p := New(Options{Statuses: func() []replicator.Status { return statuses }})
	mux := http.NewServeMux()
	p.AddTo(mux)
	for _, query := range []string{"sort=lag_records&desc=true", "search=topic-042", "sort=topic"} {
		b.Run(query, func(b *testing.B) {
			before := cpu(b)
			for range b.N {
				r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/api/v1/flows/primary-dr/partitions?"+query, nil)
				w := httptest.NewRecorder()
				if mux.ServeHTTP(w, r); w.Code != http.StatusOK {
					b.Fatal(w.Body)
				}
			}
			b.ReportMetric(float64(cpu(b)-before)/float64(b.N)/1e6, "cpu-ms")
		})
	}
}
