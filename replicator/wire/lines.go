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

// brokerLine is the connection to one broker.
type brokerLine struct {
	line    *line    // nil while there is none
	opening *opening // nil if nobody opens it
}

// opening is one attempt to open a connection.
type opening struct {
	done    chan struct{} // closed at its end
	err     error
	givenUp bool // by who opens the connection, for whatever reason of its own
}

var errLinesClosed = errors.New("the flow stops")

// NewLines creates the connections of a cluster. It does not connect.
func NewLines(access Access) *Lines {
	return &Lines{access: access, byBroker: make(map[int32]*brokerLine)}
}

// Close closes all connections. Requests in flight fail, and later ones do as well.
func (c *Lines) Close() {
	for _, l := range c.close() {
		l.close(errLinesClosed)
	}
}

// close makes that no more connections are opened, and returns those that there are.
func (c *Lines) close() []*line {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	var lines []*line
	for _, b := range c.byBroker {
		if b.line != nil {
			lines = append(lines, b.line)
		}
	}
	return lines
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

// to returns the connection to a broker, and opens it if there is none, once all requests of a lost one have ended. If somebody else is opening it,
// to waits for that.
func (c *Lines) to(ctx context.Context, broker int32) (*line, error) {
	for {
		line, attempt, mine := c.find(broker)
		switch {
		case line != nil && line.isOpen():
			return line, nil
		case line != nil:
			if err := line.awaitEnd(ctx); err != nil {
				return nil, err
			}
			continue
		case attempt == nil:
			return nil, errLinesClosed
		case mine:
			return c.open(ctx, broker, attempt)
		}
		select {
		case <-attempt.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if attempt.err != nil && !attempt.givenUp {
			return nil, attempt.err
		}
	}
}

// find returns the connection to a broker, which may be lost but has not ended then, or the attempt to open one and whether it is the caller's to make,
// or neither if the lines are closed.
func (c *Lines) find(broker int32) (_ *line, _ *opening, mine bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, nil, false
	}
	b := c.byBroker[broker]
	if b == nil {
		b = &brokerLine{}
		c.byBroker[broker] = b
	}
	if b.line != nil && !b.line.hasEnded() {
		return b.line, nil, false
	}
	if mine = b.opening == nil; mine {
		b.opening = &opening{done: make(chan struct{})}
	}
	return nil, b.opening, mine
}

// open makes an attempt to open the connection to a broker.
func (c *Lines) open(ctx context.Context, broker int32, attempt *opening) (*line, error) {
	opened, err := c.access.dial(ctx, broker)
	c.mu.Lock()
	b, closed := c.byBroker[broker], c.closed
	if b.opening = nil; err == nil && !closed {
		b.line = opened
	}
	c.mu.Unlock()
	if err == nil && closed {
		opened.close(errLinesClosed)
		opened, err = nil, errLinesClosed
	}
	attempt.err, attempt.givenUp = err, ctx.Err() != nil
	close(attempt.done)
	return opened, err
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

// Connect implements [Sender].
func (c *Lines) Connect(ctx context.Context, broker int32) (Connection, error) {
	began := time.Now()
	l, err := c.to(ctx, broker)
	if err != nil {
		c.access.Observe("produce", time.Since(began), err)
		return nil, fmt.Errorf("produce at broker %d: %w", broker, err)
	}
	return l, nil
}

// Send implements [Connection].
func (l *line) Send(ctx context.Context, request *ProduceRequest, done func(*kmsg.ProduceResponse, error)) error {
	began, broker := time.Now(), l.meta.NodeID
	response := kmsg.NewPtrProduceResponse()
	err := l.send(ctx, request, receiver{
		response: func(version int16, b *buffer) (int32, error) {
			defer b.release()
			response.SetVersion(version)
			err := response.ReadFrom(b.bytes)
			return response.ThrottleMillis, err
		},
		done: func(err error) {
			l.access.Observe("produce", time.Since(began), err)
			if err != nil {
				done(nil, fmt.Errorf("produce at broker %d: %w", broker, err))
				return
			}
			done(response, nil)
		},
	})
	if err != nil {
		l.access.Observe("produce", time.Since(began), err)
		return fmt.Errorf("produce at broker %d: %w", broker, err)
	}
	return nil
}
