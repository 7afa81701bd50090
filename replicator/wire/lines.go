package wire

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Lines are connections to the brokers of one cluster, one to each, for fetch and produce requests. A connection is opened for the first request, and
// for the next one after it was lost. It is safe for concurrent use.
type Lines struct {
	access Access

	mu       sync.Mutex
	byBroker map[int32]*brokerLine
	closed   bool
}

// brokerLine is the connection to one broker, nil while there is none.
type brokerLine struct {
	opening sync.Mutex // held while the connection is opened; taken before the lock of Lines
	line    *line
}

var errLinesClosed = errors.New("the flow stops")

// NewLines creates the connections of a cluster. It does not connect.
func NewLines(access Access) *Lines {
	return &Lines{access: access, byBroker: make(map[int32]*brokerLine)}
}

// Close closes all connections. Requests in flight fail, and later ones do as well.
func (c *Lines) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, b := range c.byBroker {
		if b.line != nil {
			b.line.close(errLinesClosed)
		}
	}
}

// RoundTrip returns the estimated round-trip time to a broker, 0 if it is unknown.
func (c *Lines) RoundTrip(broker int32) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b := c.byBroker[broker]; b != nil && b.line != nil {
		return b.line.trip.get()
	}
	return 0
}

// to returns the connection to a broker, and opens it if there is none.
func (c *Lines) to(ctx context.Context, broker int32) (*line, error) {
	c.mu.Lock()
	b := c.byBroker[broker]
	if b == nil {
		b = &brokerLine{}
		c.byBroker[broker] = b
	}
	open, closed := b.line, c.closed
	c.mu.Unlock()
	switch {
	case closed:
		return nil, errLinesClosed
	case open != nil && open.isOpen():
		return open, nil
	}
	b.opening.Lock()
	defer b.opening.Unlock()
	c.mu.Lock()
	open = b.line
	c.mu.Unlock()
	if open != nil && open.isOpen() { // somebody else opened it meanwhile
		return open, nil
	}
	opened, err := c.access.dial(ctx, broker)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		opened.close(errLinesClosed)
		return nil, errLinesClosed
	}
	b.line = opened
	return opened, nil
}

// Fetch implements [Fetcher].
func (c *Lines) Fetch(ctx context.Context, broker int32, request *FetchRequest) (*FetchResponse, error) {
	began := time.Now()
	response, err := c.fetch(ctx, broker, request)
	c.access.Observe("fetch", time.Since(began), err)
	if err != nil {
		return nil, fmt.Errorf("fetch at broker %d: %w", broker, err)
	}
	return response, nil
}

func (c *Lines) fetch(ctx context.Context, broker int32, request *FetchRequest) (*FetchResponse, error) {
	l, err := c.to(ctx, broker)
	if err != nil {
		return nil, err
	}
	if err := l.mute.Wait(ctx); err != nil {
		return nil, err
	}
	response := &FetchResponse{FetchResponse: kmsg.NewPtrFetchResponse()}
	done := make(chan error, 1)
	if err := l.send(ctx, request, receiver{
		response: func(version int16, b *buffer) (int32, error) {
			response.buffer = b
			response.SetVersion(version)
			err := response.UnsafeReadFrom(b.bytes)
			return response.ThrottleMillis, err
		},
		done: func(err error) { done <- err },
	}); err != nil {
		return nil, err
	}
	select {
	case err := <-done:
		if err != nil {
			return nil, err
		}
		return response, nil
	case <-ctx.Done(): // the response is left to the garbage collector
		return nil, ctx.Err()
	}
}

// Send implements [Sender].
func (c *Lines) Send(ctx context.Context, broker int32, request *ProduceRequest, done func(*kmsg.ProduceResponse, error)) error {
	began := time.Now()
	l, err := c.to(ctx, broker)
	if err == nil {
		response := kmsg.NewPtrProduceResponse()
		err = l.send(ctx, request, receiver{
			response: func(version int16, b *buffer) (int32, error) {
				defer b.release()
				response.SetVersion(version)
				err := response.ReadFrom(b.bytes)
				return response.ThrottleMillis, err
			},
			done: func(err error) {
				c.access.Observe("produce", time.Since(began), err)
				if err != nil {
					done(nil, fmt.Errorf("produce at broker %d: %w", broker, err))
					return
				}
				done(response, nil)
			},
		})
	}
	if err != nil {
		c.access.Observe("produce", time.Since(began), err)
		return fmt.Errorf("produce at broker %d: %w", broker, err)
	}
	return nil
}
