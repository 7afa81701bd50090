package wire

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Fetcher fetches raw batches from one broker: of the source, or of the target when the log tail is read. The RecordBatches of the response
// belong to the caller. Fetch blocks for up to MaxWaitMillis of the request plus a round trip. It is safe for concurrent use.
type Fetcher interface {
	Fetch(ctx context.Context, broker int32, request *FetchRequest) (*kmsg.FetchResponse, error)
}

// Producer sends raw batches to one broker of the target and blocks until the response arrives. After an error it is unknown what was
// written, and the bytes of the request must not be changed or reused: the client may still be sending them.
type Producer interface {
	Produce(ctx context.Context, broker int32, request *ProduceRequest) (*kmsg.ProduceResponse, error)
}

// Transport reads and writes raw batches.
type Transport interface {
	Fetcher
	Producer
}

// Kgo is a [Transport] that uses a kgo client. Observe is called after each request; it must not be nil.
type Kgo struct {
	Client  *kgo.Client
	Observe func(request string, took time.Duration, err error)
}

// Fetch implements [Fetcher].
func (t Kgo) Fetch(ctx context.Context, broker int32, request *FetchRequest) (*kmsg.FetchResponse, error) {
	response, err := t.request(ctx, broker, request, "fetch")
	if err != nil {
		return nil, err
	}
	return response.(*kmsg.FetchResponse), nil
}

// Produce implements [Producer]. It uses Request and never RetriableRequest: a resend inside kgo after a lost connection could append the
// batch a second time.
func (t Kgo) Produce(ctx context.Context, broker int32, request *ProduceRequest) (*kmsg.ProduceResponse, error) {
	response, err := t.request(ctx, broker, request, "produce")
	if err != nil {
		return nil, err
	}
	return response.(*kmsg.ProduceResponse), nil
}

func (t Kgo) request(ctx context.Context, broker int32, request kmsg.Request, name string) (kmsg.Response, error) {
	start := time.Now()
	response, err := t.Client.Broker(int(broker)).Request(ctx, request)
	t.Observe(name, time.Since(start), err)
	if err != nil {
		return nil, fmt.Errorf("%s at broker %d: %w", name, broker, err)
	}
	return response, nil
}
