package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	prometheusbridge "go.opentelemetry.io/contrib/bridges/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// telemetry sends metrics and spans to an OpenTelemetry collector (OTLP over HTTP). The metrics are those of /metrics: there is one registry, so
// a figure cannot differ between the two. Kotel has nothing to add: its spans are about records that a kgo client buffers or returns, and milena
// passes on batches.
type telemetry struct {
	metrics *metric.MeterProvider
	traces  *sdktrace.TracerProvider
}

// startTelemetry connects to the collector at a URL in the background: it does not wait for one that is away. What the config does not say, such as
// headers and the interval, the exporters read from the environment variables OTEL_*.
func startTelemetry(ctx context.Context, endpoint, instance string, registry prometheus.Gatherer, log *slog.Logger) (*telemetry, error) {
	otel.SetErrorHandler(&telemetryErrors{log: log, endpoint: endpoint})
	about, err := resource.New(ctx, resource.WithAttributes(
		attribute.String("service.name", "milena"), attribute.String("service.version", buildVersion()), attribute.String("service.instance.id", instance),
	), resource.WithFromEnv(), resource.WithHost())
	if err != nil {
		return nil, fmt.Errorf("otel: OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	base := strings.TrimSuffix(endpoint, "/")
	metrics, err := otlpmetrichttp.New(ctx, otlpmetrichttp.WithEndpointURL(base+"/v1/metrics"))
	if err != nil {
		return nil, fmt.Errorf("otel.endpoint: %w", err)
	}
	traces, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(base+"/v1/traces"))
	if err != nil {
		return nil, fmt.Errorf("otel.endpoint: %w", err)
	}
	bridge := prometheusbridge.NewMetricProducer(prometheusbridge.WithGatherer(registry))
	return &telemetry{
		metrics: metric.NewMeterProvider(metric.WithResource(about), metric.WithReader(metric.NewPeriodicReader(metrics, metric.WithProducer(bridge)))),
		traces:  sdktrace.NewTracerProvider(sdktrace.WithResource(about), sdktrace.WithBatcher(traces)),
	}, nil
}

// tracer returns the tracer of the flows, nil without a collector.
func (t *telemetry) tracer() trace.Tracer {
	if t == nil {
		return nil
	}
	return t.traces.Tracer("github.com/milena-kafka/milena/replicator")
}

// close sends what is left, for a second at most: a collector that is away does not delay a stop.
func (t *telemetry) close(ctx context.Context) {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	var both sync.WaitGroup
	both.Go(func() { _ = t.metrics.Shutdown(ctx) })
	both.Go(func() { _ = t.traces.Shutdown(ctx) })
	both.Wait()
}

// telemetryErrorsEvery is how often the log says that a collector does not answer.
const telemetryErrorsEvery = 10 * time.Minute

// telemetryErrors logs what the exporters could not send. They repeat it with each interval.
type telemetryErrors struct {
	log      *slog.Logger
	endpoint string

	mu     sync.Mutex
	logged time.Time
}

// Handle logs an error, unless one was logged a short time ago.
func (e *telemetryErrors) Handle(err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if now := time.Now(); e.logged.IsZero() || now.Sub(e.logged) >= telemetryErrorsEvery {
		e.logged = now
		e.log.Warn("telemetry is not sent, and the flows go on; check otel.endpoint", "endpoint", e.endpoint, "err", err)
	}
}
