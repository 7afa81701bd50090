package wire

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/replicator/client"
)

// line is one connection to one broker. A broker works at one request of a connection at a time, so responses arrive in the order of the
// requests, and any number of requests may be in flight. One goroutine reads; who sends writes.
type line struct {
	access  *Access
	meta    kgo.BrokerMetadata
	address string
	conn    net.Conn

	// writing is held while a request is written. It guards the fields up to expires, and is taken before mu.
	writing  sync.Mutex
	tls      *bufio.Writer // nil without TLS
	format   *kmsg.RequestFormatter
	scratch  []byte
	request  produceBytes
	part     net.Buffers     // what is written at once
	versions map[int16]int16 // newest supported version by API key
	number   int32           // correlation id of the next request
	expires  time.Time       // when the connection must be authenticated again; zero for never

	mute client.Mute
	trip roundTrip

	mu    sync.Mutex
	calls []call        // in flight, in order
	empty chan struct{} // closed when no call is in flight; nil if nobody waits for that
	err   error         // why the line is closed
}

// call is a request in flight.
type call struct {
	request  kmsg.Request
	number   int32
	patience time.Duration // how long its response may take when all earlier ones have arrived
	began    time.Time
	written  time.Time
	size     int // of the request in bytes
	writing  time.Duration
	receiver
}

// receiver takes the response of a call. Its functions are called by the goroutine that reads.
type receiver struct {
	// response takes the bytes of the response without its header, and owns the buffer. It returns the throttle time in ms.
	response func(*buffer) (throttled int32, err error)
	// done is called exactly once, without an error after response returned none.
	done func(error)
}

var errLineClosed = errors.New("the connection is closed")

func newLine(a *Access, meta kgo.BrokerMetadata, address string, conn net.Conn) *line {
	l := &line{access: a, meta: meta, address: address, conn: conn, format: kmsg.NewRequestFormatter(kmsg.FormatterClientID(a.ClientID))}
	if _, plain := conn.(*net.TCPConn); !plain { // a record of TLS for each piece of a request would cost more than to copy the pieces together
		l.tls = bufio.NewWriterSize(guardedWriter{l}, guardedPart)
	}
	go l.read()
	return l
}

// isOpen reports whether the line takes requests.
func (l *line) isOpen() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err == nil
}

// close closes the connection. Every request in flight fails with err.
func (l *line) close(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
		_ = l.conn.Close()
	}
}

// send writes a request. Done is called exactly once when it returns nil, never when it returns an error. The request is not referred to after
// send has returned.
func (l *line) send(ctx context.Context, request kmsg.Request, r receiver) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if !l.expires.IsZero() && !time.Now().Before(l.expires) {
		if err := l.loginAgain(ctx); err != nil {
			return err
		}
	}
	if err := l.setVersion(request); err != nil {
		return err
	}
	return l.sendLocked(request, r)
}

// loginAgain renews the session (KIP-368). The broker permits no other request meanwhile.
func (l *line) loginAgain(ctx context.Context) error {
	if err := l.drained(ctx); err != nil {
		return err
	}
	err := l.login(ctx)
	if err != nil {
		l.close(err)
	}
	return err
}

// drained blocks until no request is in flight.
func (l *line) drained(ctx context.Context) error {
	l.mu.Lock()
	if l.err != nil || len(l.calls) == 0 {
		defer l.mu.Unlock()
		return l.err
	}
	if l.empty == nil {
		l.empty = make(chan struct{})
	}
	empty := l.empty
	l.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sendLocked writes a request whose version is set.
func (l *line) sendLocked(request kmsg.Request, r receiver) error {
	c := call{request: request, number: l.number, patience: responseOverhead, began: time.Now(), receiver: r}
	l.number++
	if timed, ok := request.(kmsg.TimeoutRequest); ok {
		c.patience += time.Duration(timed.Timeout()) * time.Millisecond
	}
	if err := l.begin(c); err != nil {
		return err
	}
	var err error
	if produce, ok := request.(*ProduceRequest); ok {
		l.request.encode(produce, l.access.ClientID, c.number)
		c.size, err = l.request.size, l.write(kmsg.Produce, l.request.pieces)
	} else {
		l.scratch = l.format.AppendRequest(l.scratch[:0], request, c.number)
		c.size, err = len(l.scratch), l.write(kmsg.Key(request.Key()), net.Buffers{l.scratch})
	}
	if err != nil {
		l.close(err) // the broker would take the next request for the rest of this one
		l.hookWrite(c, err)
		return nil // the goroutine that reads reports the error
	}
	l.wrote(c)
	return nil
}

// begin adds a call to those in flight.
func (l *line) begin(c call) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return fmt.Errorf("%w: %w", errLineClosed, l.err)
	}
	l.calls = append(l.calls, c)
	l.extendLocked()
	return nil
}

// wrote records when a call was written, unless its response has arrived already.
func (l *line) wrote(c call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for i := len(l.calls) - 1; i >= 0; i-- {
		if w := &l.calls[i]; w.number == c.number {
			w.written, w.size, w.writing = now, c.size, now.Sub(c.began)
			break
		}
	}
	l.extendLocked()
}

// extendLocked gives the next response its time from now on: a response has arrived, or a part of a request was written. Without a request in
// flight, the connection is idle. While the broker mutes the connection because of a quota, it answers nothing.
func (l *line) extendLocked() {
	left := max(0, l.mute.Left())
	if len(l.calls) == 0 {
		_ = l.conn.SetReadDeadline(time.Now().Add(left + idleAfter))
		return
	}
	_ = l.conn.SetReadDeadline(time.Now().Add(left + l.calls[0].patience))
}

// guardedPart is how many bytes are written before the guard is asked again.
const guardedPart = 256 << 10

// writeTimeout is how long a part may take. A broker that works at a request reads nothing, so what is behind it waits as long as a response.
const writeTimeout = 15 * time.Second

// write writes the pieces of a request one after the other, without copying them unless there is TLS.
func (l *line) write(key kmsg.Key, pieces net.Buffers) error {
	if l.tls != nil {
		for _, piece := range pieces {
			if _, err := l.tls.Write(piece); err != nil {
				return err
			}
		}
		return l.tls.Flush()
	}
	part, size := l.part[:0], 0
	flush := func() error {
		if err := l.permit(key); err != nil {
			return err
		}
		written := part
		_, err := written.WriteTo(l.conn)
		part, size = part[:0], 0
		return err
	}
	for _, piece := range pieces {
		for len(piece) > 0 {
			n := min(len(piece), guardedPart-size)
			part, piece, size = append(part, piece[:n]), piece[n:], size+n
			if size < guardedPart {
				continue
			}
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if size > 0 {
		if err := flush(); err != nil {
			return err
		}
	}
	l.part = part
	return nil
}

// permit asks the guard, and gives the next part and the next response their time.
func (l *line) permit(key kmsg.Key) error {
	if l.access.Guard != nil {
		if err := l.access.Guard(key); err != nil {
			return err
		}
	}
	l.mu.Lock()
	l.extendLocked()
	l.mu.Unlock()
	return l.conn.SetWriteDeadline(time.Now().Add(max(0, l.mute.Left()) + writeTimeout))
}

// guardedWriter writes the parts of a request to a connection with TLS.
type guardedWriter struct{ line *line }

// Write implements [io.Writer].
func (w guardedWriter) Write(part []byte) (int, error) {
	if err := w.line.permit(w.line.key()); err != nil {
		return 0, err
	}
	return w.line.conn.Write(part)
}

// key returns the API key of the newest request.
func (l *line) key() kmsg.Key {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.calls); n > 0 {
		return kmsg.Key(l.calls[n-1].request.Key())
	}
	return -1
}

// read reads responses until the connection ends, and lets all requests in flight end.
func (l *line) read() {
	in := bufio.NewReaderSize(l.conn, 16<<10)
	var err error
	for err == nil {
		err = l.readResponse(in)
	}
	l.close(err)
	l.mu.Lock()
	calls, why := l.calls, l.err
	l.calls = nil
	if l.empty != nil {
		close(l.empty)
		l.empty = nil
	}
	l.mu.Unlock()
	for _, c := range calls {
		c.done(why)
	}
	for _, h := range l.access.Hooks {
		if h, ok := h.(kgo.HookBrokerDisconnect); ok {
			h.OnBrokerDisconnect(l.meta, l.conn)
		}
	}
}

// readResponse reads one response and ends its call.
func (l *line) readResponse(in *bufio.Reader) error {
	var header [8]byte
	if _, err := io.ReadFull(in, header[:]); err != nil {
		return l.explain(err)
	}
	arrived := time.Now()
	size := int(int32(binary.BigEndian.Uint32(header[:]))) - 4 //nolint:gosec // checked next
	c, err := l.answered(int32(binary.BigEndian.Uint32(header[4:])), size)
	if err != nil {
		return err
	}
	b := l.access.Buffers.get(size)
	for rest := b.bytes; len(rest) > 0; {
		n, err := in.Read(rest)
		if rest = rest[n:]; len(rest) > 0 && err != nil {
			return l.explain(err)
		}
		if len(rest) > 0 {
			_ = l.conn.SetReadDeadline(time.Now().Add(responseOverhead))
		}
	}
	if c.request.IsFlexible() && c.request.Key() != kmsg.ApiVersions.Int16() { // KIP-511: that response has the header without tags
		if len(b.bytes) == 0 || b.bytes[0] != 0 {
			return fmt.Errorf("broker %d sent a response header with unknown tags", l.meta.NodeID)
		}
		b.bytes = b.bytes[1:]
	}
	throttled, err := c.response(b)
	if err != nil {
		return fmt.Errorf("broker %d sent a %s response that cannot be decoded: %w", l.meta.NodeID, kmsg.NameForKey(c.request.Key()), err)
	}
	c = l.end(arrived, throttled)
	l.hookRead(c, arrived, size+8, throttled)
	c.done(nil)
	return nil
}

// answered returns the call that the next response belongs to.
func (l *line) answered(number int32, size int) (call, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case size < 0 || size > maxResponse:
		return call{}, fmt.Errorf("broker %d sent a response of %d bytes, which is no Kafka response: does the port use TLS?", l.meta.NodeID, size)
	case len(l.calls) == 0:
		return call{}, fmt.Errorf("broker %d sent a response without a request", l.meta.NodeID)
	case l.calls[0].number != number:
		return call{}, fmt.Errorf("broker %d answered request %d before request %d", l.meta.NodeID, number, l.calls[0].number)
	}
	return l.calls[0], nil
}

// end removes the first call, whose response was read, and notes for how long the broker mutes the connection.
func (l *line) end(arrived time.Time, throttled int32) call {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.calls[0]
	l.calls[0] = call{}
	l.calls = l.calls[1:]
	if !c.written.IsZero() {
		l.trip.add(arrived, arrived.Sub(c.written))
	}
	l.mute.Answered(throttled)
	l.extendLocked()
	if len(l.calls) == 0 && l.empty != nil {
		close(l.empty)
		l.empty = nil
	}
	return c
}

// explain says what a timeout means.
func (l *line) explain(err error) error {
	timeout, ok := errors.AsType[net.Error](err)
	if !ok || !timeout.Timeout() {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.calls) == 0 {
		return errors.New("it was idle")
	}
	return fmt.Errorf("no response to a %s request for %s: %w", kmsg.NameForKey(l.calls[0].request.Key()), l.calls[0].patience, err)
}

// ask sends one request and waits for its response. The caller holds l.writing and releases the buffer.
func (l *line) ask(ctx context.Context, request kmsg.Request) (*buffer, error) {
	var response *buffer
	done := make(chan error, 1)
	if err := l.sendLocked(request, receiver{
		response: func(b *buffer) (int32, error) { response = b; return 0, nil },
		done:     func(err error) { done <- err },
	}); err != nil {
		return nil, err
	}
	select {
	case err := <-done:
		return response, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// askFor is like ask, and decodes the response.
func (l *line) askFor(ctx context.Context, request kmsg.Request, response kmsg.Response) error {
	raw, err := l.ask(ctx, request)
	if err != nil {
		return err
	}
	defer raw.release()
	response.SetVersion(request.GetVersion())
	return response.ReadFrom(raw.bytes)
}
