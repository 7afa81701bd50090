package replicator

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// span begins a span about a pass of the flow or a takeover. The caller calls end with the result. Batches have none: there are thousands a
// second, and what is known about each is in the metrics.
func (f *Flow) span(ctx context.Context, name string, attributes ...attribute.KeyValue) (spanned context.Context, end func(error)) {
	if f.options.Tracer == nil {
		return ctx, func(error) {}
	}
	ctx, span := f.options.Tracer.Start(ctx, name, trace.WithAttributes(attribute.String("milena.flow", f.config.Name)), trace.WithAttributes(attributes...))
	return ctx, func(err error) {
		if err != nil && ctx.Err() == nil { // what a stop cuts off has not failed
			span.RecordError(err)
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
	}
}
