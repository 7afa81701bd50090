package wire

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Fetcher asks one broker of the source (or of the target, when a tail is read) for raw batches. The answer's RecordBatches belong to
// the caller. It blocks for at most the request's MaxWaitMillis and a round trip; any number of calls may run at once.
type Fetcher interface {
	Fetch(ctx context.Context, broker int32, request *kmsg.FetchRequest) (*kmsg.FetchResponse, error)
}

// Producer sends raw batches to one broker of the target and waits for the answer. An error means that nothing is known about what
// was written. The bytes of the request must not be changed or used again after an error: the client may still be sending them.
type Producer interface {
	Produce(ctx context.Context, broker int32, request *kmsg.ProduceRequest) (*kmsg.ProduceResponse, error)
}

// Transport writes the copy and reads it back.
type Transport interface {
	Fetcher
	Producer
}

// Kgo is a Transport on a kgo client. Observe is called after each request.
type Kgo struct {
	Client  *kgo.Client
	Observe func(request string, took time.Duration, err error)
}

// Fetch implements Fetcher.
func (t Kgo) Fetch(ctx context.Context, broker int32, request *kmsg.FetchRequest) (*kmsg.FetchResponse, error) {
	response, err := t.request(ctx, broker, request, "fetch")
	if err != nil {
		return nil, err
	}
	return response.(*kmsg.FetchResponse), nil
}

// Produce implements Producer. It uses Request and never RetriableRequest: a silent resend after a lost connection would append the batch
// a second time.
func (t Kgo) Produce(ctx context.Context, broker int32, request *kmsg.ProduceRequest) (*kmsg.ProduceResponse, error) {
	response, err := t.request(ctx, broker, request, "produce")
	if err != nil {
		return nil, err
	}
	return response.(*kmsg.ProduceResponse), nil
}

func (t Kgo) request(ctx context.Context, broker int32, request kmsg.Request, name string) (kmsg.Response, error) {
	began := time.Now()
	response, err := t.Client.Broker(int(broker)).Request(ctx, request)
	t.Observe(name, time.Since(began), err)
	if err != nil {
		return nil, fmt.Errorf("%s at broker %d: %w", name, broker, err)
	}
	return response, nil
}
