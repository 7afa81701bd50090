package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	collectormetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	collectortraces "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collector receives OTLP over HTTP and keeps the names of metrics and spans.
type collector struct {
	*httptest.Server

	mu    sync.Mutex
	names map[string]bool
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{names: make(map[string]bool)}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := c.receive(r); err != nil {
			t.Errorf("%s: %v", r.URL.Path, err)
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) receive(r *http.Request) error {
	var body io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			return err
		}
		body = z
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch r.URL.Path {
	case "/otlp/v1/metrics":
		request := new(collectormetrics.ExportMetricsServiceRequest)
		if err := proto.Unmarshal(data, request); err != nil {
			return err
		}
		for _, resource := range request.GetResourceMetrics() {
			for _, scope := range resource.GetScopeMetrics() {
				for _, m := range scope.GetMetrics() {
					c.names["metric "+m.GetName()] = true
				}
			}
		}
	case "/otlp/v1/traces":
		request := new(collectortraces.ExportTraceServiceRequest)
		if err := proto.Unmarshal(data, request); err != nil {
			return err
		}
		for _, resource := range request.GetResourceSpans() {
			for _, scope := range resource.GetScopeSpans() {
				for _, s := range scope.GetSpans() {
					c.names["span "+s.GetName()] = true
				}
			}
		}
	default:
		return fmt.Errorf("nobody sends %s", r.URL.Path)
	}
	return nil
}

func (c *collector) has(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.names[name]
}

// A collector gets the metrics of /metrics and a span for each pass, also what the process did last.
func TestTelemetry(t *testing.T) {
	c := newCollector(t)
	address := startClusters(t)
	s := serve(t, file(t, fmt.Sprintf(`
clusters: {a: {brokers: [%q]}, b: {brokers: [%q]}}
flows: [{source: a, target: b, shards: 4, configs_interval: 1s, groups_interval: 1s}]
http: {listen: "127.0.0.1:0"}
otel: {endpoint: %q}
`, address[0], address[1], c.URL+"/otlp/")))
	within(t, "it is ready", func() bool { return get(t, s.url+"/readyz") == http.StatusOK })
	within(t, "it synced topics", func() bool { return strings.Contains(s.status(t), "2 partitions in 1 topic") })
	s.cancel()
	if code := s.exit(t); code != exitClean {
		t.Fatalf("exit %d: %s", code, s.stderr)
	}
	for _, name := range []string{"metric milena_ready", "metric milena_acked_offset", "metric go_goroutines", "span fence shard", "span recover partitions"} {
		if !c.has(name) {
			t.Errorf("the collector did not get the %s; it got %v", name, c.names)
		}
	}
}

// A collector that is away neither stops nor delays a flow, and is named once.
func TestTelemetryWithoutCollector(t *testing.T) {
	away := httptest.NewServer(nil)
	away.Close()
	address := startClusters(t)
	s := serve(t, file(t, fmt.Sprintf(`
clusters: {a: {brokers: [%q]}, b: {brokers: [%q]}}
flows: [{source: a, target: b, shards: 4}]
http: {listen: "127.0.0.1:0"}
otel: {endpoint: %q}
`, address[0], address[1], away.URL)))
	within(t, "it is ready", func() bool { return get(t, s.url+"/readyz") == http.StatusOK })
	s.cancel()
	if code := s.exit(t); code != exitClean {
		t.Fatalf("exit %d: %s", code, s.stderr)
	}
	if n := bytes.Count([]byte(s.stderr.String()), []byte("telemetry is not sent")); n != 1 {
		t.Errorf("the log says %d times that the collector is away, want once:\n%s", n, s.stderr)
	}
}
