package wire

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Fetcher fetches raw batches from one broker: of the source, or of the target when the log tail is read. Fetch blocks for up to MaxWaitMillis of the
// request plus a round trip. It is safe for concurrent use.
type Fetcher interface {
	Fetch(ctx context.Context, broker int32, request *FetchRequest) (*FetchResponse, error)
}

// FetchResponse is a fetch response. Its RecordBatches belong to the caller, and share one buffer.
type FetchResponse struct {
	*kmsg.FetchResponse
	buffer *buffer // nil if it is never used again
}

// Release lets the buffer of the response be used again. Nothing may refer to its batches any more. Without Release the garbage collector
// frees it.
func (r *FetchResponse) Release() {
	if r.buffer != nil {
		r.buffer.release()
	}
}

// Held returns how many bytes of memory the response holds.
func (r *FetchResponse) Held() int64 {
	if r.buffer == nil {
		return IndexFetch(r.FetchResponse).Bytes
	}
	return int64(len(r.buffer.whole))
}

// Sender sends produce requests of raw batches.
type Sender interface {
	// Connect returns the connection to a broker, and opens it if there is none. If one was lost, done has been called for all of its requests before
	// another one is opened. So who chooses what to send after Connect knows all ends of what was sent before.
	Connect(ctx context.Context, broker int32) (Connection, error)
}

// Connection sends produce requests to one broker, one after the other, as long as it is not lost.
type Connection interface {
	// Send writes a request and returns when it is written: then the request is not referred to any more. The broker works at the requests in the
	// order of Send, while their number in flight is not limited, and done is called once per request, in that order, by another goroutine. It may
	// be called before Send has returned, and must not call Send or Connect, which may wait for what done delays. An error of done means that it is
	// unknown what was written. An error of Send means that nothing was, and that done is not called.
	Send(ctx context.Context, request *ProduceRequest, done func(*kmsg.ProduceResponse, error)) error
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
func (t Kgo) Fetch(ctx context.Context, broker int32, request *FetchRequest) (*FetchResponse, error) {
	response, err := t.request(ctx, broker, request, "fetch")
	if err != nil {
		return nil, err
	}
	return &FetchResponse{FetchResponse: response.(*kmsg.FetchResponse)}, nil
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
