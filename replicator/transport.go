package replicator

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// fetcher asks one broker of the source (or of the target, when a tail is read) for raw batches. The answer's RecordBatches belong to
// the caller. It blocks for at most the request's MaxWaitMillis and a round trip; any number of calls may run at once.
type fetcher interface {
	fetch(ctx context.Context, broker int32, request *kmsg.FetchRequest) (*kmsg.FetchResponse, error)
}

// producer sends raw batches to one broker of the target and waits for the answer. An error means that nothing is known about what
// was written. The bytes of the request must not be changed or used again after an error: the client may still be sending them.
type producer interface {
	produce(ctx context.Context, broker int32, request *kmsg.ProduceRequest) (*kmsg.ProduceResponse, error)
}

// targetTransport writes the copy and reads it back.
type targetTransport interface {
	fetcher
	producer
}

// wire is both transports on a kgo client. The two interfaces above are the seam for a faster client.
type wire struct {
	client  *kgo.Client
	observe func(request string, took time.Duration, err error)
}

func (w wire) fetch(ctx context.Context, broker int32, request *kmsg.FetchRequest) (*kmsg.FetchResponse, error) {
	response, err := w.request(ctx, broker, request, "fetch")
	if err != nil {
		return nil, err
	}
	return response.(*kmsg.FetchResponse), nil
}

// produce uses Request and never RetriableRequest: a silent resend after a lost connection is the one thing that must not happen here.
func (w wire) produce(ctx context.Context, broker int32, request *kmsg.ProduceRequest) (*kmsg.ProduceResponse, error) {
	response, err := w.request(ctx, broker, request, "produce")
	if err != nil {
		return nil, err
	}
	return response.(*kmsg.ProduceResponse), nil
}

func (w wire) request(ctx context.Context, broker int32, request kmsg.Request, name string) (kmsg.Response, error) {
	began := time.Now()
	response, err := w.client.Broker(int(broker)).Request(ctx, request)
	w.observe(name, time.Since(began), err)
	if err != nil {
		return nil, fmt.Errorf("%s at broker %d: %w", name, broker, err)
	}
	return response, nil
}
