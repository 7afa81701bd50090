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

	"github.com/twmb/franz-go/pkg/kbin"
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

	// writing is held while a request is written, and what must precede it. It guards the fields up to expires.
	writing  sync.Mutex
	plain    bool // without TLS
	format   *kmsg.RequestFormatter
	scratch  []byte
	request  produceBytes
	part     net.Buffers     // what is written at once
	joined   []byte          // its bytes, with TLS
	versions map[int16]int16 // newest supported version by API key
	number   int32           // correlation id of the next request
	expires  time.Time       // when the connection must be authenticated again; zero for never

	// sending is held while the bytes of one request are written. It is taken after writing and before mu. When the line is closed, whoever has
	// taken it knows that no request is read any more.
	sending sync.Mutex

	mute client.Mute
	trip roundTrip

	ended chan struct{} // closed when the line is closed and all requests in flight have ended

	mu    sync.Mutex
	calls []call        // in flight, in order
	empty chan struct{} // closed when no call is in flight; nil if nobody waits for that
	err   error         // why the line is closed
}

// call is a request in flight. It does not refer to the request, whose batches would stay in memory.
type call struct {
	key      kmsg.Key
	version  int16
	tagged   bool // the header of the response ends with tags
	alone    bool // no other call was in flight
	polls    bool // the broker may wait for records before it answers
	number   int32
	patience time.Duration // how long its response may take when all earlier ones have arrived
	began    time.Time
	written  time.Time // zero while it is being written
	size     int       // of the request in bytes
	receiver
}

// receiver takes the response of a call. Its functions are called by the goroutine that reads.
type receiver struct {
	// response takes the bytes of the response without its header, and owns the buffer. It returns the throttle time in ms.
	response func(version int16, b *buffer) (throttled int32, err error)
	// done is called exactly once, without an error after response returned none.
	done func(error)
}

var errLineClosed = errors.New("the connection is closed")

func newLine(a *Access, meta kgo.BrokerMetadata, address string, conn net.Conn) *line {
	l := &line{
		access: a, meta: meta, address: address, conn: conn, format: kmsg.NewRequestFormatter(kmsg.FormatterClientID(a.ClientID)), ended: make(chan struct{}),
	}
	_, l.plain = conn.(*net.TCPConn)
	go l.read()
	return l
}

// isOpen reports whether the line takes requests.
func (l *line) isOpen() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err == nil
}

// hasEnded reports whether the line is closed and all of its requests have ended.
func (l *line) hasEnded() bool {
	select {
	case <-l.ended:
		return true
	default:
		return false
	}
}

// awaitEnd blocks until a closed line has ended.
func (l *line) awaitEnd(ctx context.Context) error {
	select {
	case <-l.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close closes the connection. Every request in flight fails with err.
func (l *line) close(err error) {
	l.mu.Lock()
	first := l.err == nil
	if first {
		l.err = err
	}
	l.mu.Unlock()
	if first {
		_ = l.conn.Close() // may block for seconds, because TLS says goodbye
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
		return l.drained(ctx) // or was the line closed?
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sendLocked writes a request whose version is set.
func (l *line) sendLocked(request kmsg.Request, r receiver) error {
	l.sending.Lock()
	defer l.sending.Unlock()
	c := call{
		key: kmsg.Key(request.Key()), version: request.GetVersion(), number: l.number, patience: responseOverhead, began: time.Now(), receiver: r,
	}
	c.tagged = request.IsFlexible() && c.key != kmsg.ApiVersions // KIP-511
	l.number++
	if timed, ok := request.(kmsg.TimeoutRequest); ok {
		c.patience += time.Duration(timed.Timeout()) * time.Millisecond
	}
	if fetch, ok := request.(*FetchRequest); ok {
		c.polls = fetch.MaxWaitMillis > 0
	}
	var pieces net.Buffers
	var owner func() error
	if produce, ok := request.(*ProduceRequest); ok {
		owner = produce.Permit
		l.request.encode(produce, l.access.ClientID, c.number)
		defer l.request.forget()
		pieces, c.size = l.request.pieces, l.request.size
	} else {
		l.scratch = l.format.AppendRequest(l.scratch[:0], request, c.number)
		pieces, c.size = net.Buffers{l.scratch}, len(l.scratch)
	}
	if err := l.begin(c); err != nil {
		return err
	}
	if err := l.write(c.key, owner, pieces); err != nil {
		l.close(err) // the broker would take the next request for the rest of this one
		l.hookWrite(c, err)
		return nil // the goroutine that reads reports the error
	}
	l.wrote(c.number)
	return nil
}

// begin adds a call to those in flight.
func (l *line) begin(c call) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return fmt.Errorf("%w: %w", errLineClosed, l.err)
	}
	c.alone = len(l.calls) == 0
	l.calls = append(l.calls, c)
	l.extendFirstLocked()
	return nil
}

// wrote records when a call was written, unless its response has arrived already.
func (l *line) wrote(number int32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.calls); n > 0 && l.calls[n-1].number == number {
		l.calls[n-1].written = time.Now()
	}
	l.extendFirstLocked()
}

// extendLocked gives the next response its time from now on. Without a request in flight, the connection is idle. While the broker mutes the
// connection because of a quota, it answers nothing. A write needs no time limit of its own: it waits while the broker works at the requests before
// it, each of which has a limit, and the end of the connection ends it.
func (l *line) extendLocked() {
	left := max(0, l.mute.Left())
	if len(l.calls) == 0 {
		_ = l.conn.SetReadDeadline(time.Now().Add(left + idleAfter))
		return
	}
	_ = l.conn.SetReadDeadline(time.Now().Add(left + l.calls[0].patience))
}

// extendFirstLocked is called while a request is written. Only if no other one is in flight, the next response is its own. Else a broker that answers
// nothing would get more time with each request.
func (l *line) extendFirstLocked() {
	if len(l.calls) <= 1 {
		l.extendLocked()
	}
}

// guardedPart is how many bytes are written before the guard is asked again.
const guardedPart = 256 << 10

// write writes the pieces of a request one after the other, in parts. Owner also permits each part, unless it is nil.
func (l *line) write(key kmsg.Key, owner func() error, pieces net.Buffers) error {
	part, size := l.part[:0], 0
	flush := func() error {
		if err := l.permit(key, owner); err != nil {
			return err
		}
		err := l.writePart(part)
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

// writePart writes a part at once, without copying it unless there is TLS: a record of TLS for each piece would cost more than the copy.
func (l *line) writePart(part net.Buffers) error {
	if !l.plain && len(part) > 1 {
		l.joined = l.joined[:0]
		for _, piece := range part {
			l.joined = append(l.joined, piece...)
		}
		clear(part)
		part = append(part[:0], l.joined)
	}
	_, err := part.WriteTo(l.conn)
	return err
}

// permit asks the guard and the owner of the request, and gives the next part its time.
func (l *line) permit(key kmsg.Key, owner func() error) error {
	if l.access.Guard != nil {
		if err := l.access.Guard(key); err != nil {
			return err
		}
	}
	if owner != nil {
		if err := owner(); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.extendFirstLocked()
	return nil
}

// read reads responses until the connection ends, and lets all requests in flight end.
func (l *line) read() {
	in := bufio.NewReaderSize(l.conn, 16<<10)
	var err error
	for err == nil {
		err = l.readResponse(in)
	}
	l.close(err)
	l.sending.Lock()
	l.mu.Lock()
	calls, why := l.calls, l.err
	l.calls = nil
	l.drainedLocked()
	l.mu.Unlock()
	l.sending.Unlock()
	for _, c := range calls {
		if !c.written.IsZero() { // else it is told by who writes it
			l.hook(c, kgo.BrokerE2E{BytesWritten: c.size, TimeToWrite: c.written.Sub(c.began), ReadErr: why})
		}
		c.done(why)
	}
	close(l.ended)
	for _, h := range l.access.Hooks {
		if h, ok := h.(kgo.HookBrokerDisconnect); ok {
			h.OnBrokerDisconnect(l.meta, l.conn)
		}
	}
}

// readResponse reads one response and ends its call.
func (l *line) readResponse(in *bufio.Reader) error {
	l.mu.Lock()
	l.extendLocked() // only now: the end of the call before may have taken its time
	l.mu.Unlock()
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
		_ = l.conn.SetReadDeadline(time.Now().Add(responseOverhead))
		n, err := in.Read(rest)
		if rest = rest[n:]; len(rest) > 0 && err != nil {
			return l.explain(err)
		}
	}
	throttled, err := c.decode(b)
	if err != nil {
		return fmt.Errorf("broker %d sent a %s response that cannot be decoded: %w", l.meta.NodeID, c.key.Name(), err)
	}
	c = l.end(arrived, throttled)
	l.hookRead(c, arrived, size+8, throttled)
	c.done(nil)
	return nil
}

// decode takes the bytes of a response, without length and number.
func (c *call) decode(b *buffer) (throttled int32, err error) {
	if c.tagged {
		header := kbin.Reader{Src: b.bytes}
		kmsg.SkipTags(&header)
		if err := header.Complete(); err != nil {
			return 0, err
		}
		b.bytes = header.Src
	}
	return c.response(c.version, b)
}

// answered returns the call that the next response belongs to.
func (l *line) answered(number int32, size int) (call, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case size < 0 || size > maxResponse:
		return call{}, fmt.Errorf("broker %d sent a response of %d bytes, which is no Kafka response: is TLS missing?", l.meta.NodeID, size)
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
	switch {
	case !c.alone || c.written.IsZero(): // it may have waited for others
	case c.polls: // it may have waited for records
		l.trip.lower(arrived.Sub(c.written))
	default:
		l.trip.add(arrived, arrived.Sub(c.written))
	}
	l.mute.Answered(throttled)
	if len(l.calls) == 0 {
		l.drainedLocked()
	}
	return c
}

// drainedLocked wakes who waits until no call is in flight.
func (l *line) drainedLocked() {
	if l.empty != nil {
		close(l.empty)
		l.empty = nil
	}
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
	return fmt.Errorf("no response to a %s request for %s: %w", l.calls[0].key.Name(), l.calls[0].patience, err)
}

// ask sends one request and waits for its response. The caller holds l.writing and releases the buffer.
func (l *line) ask(ctx context.Context, request kmsg.Request) (*buffer, error) {
	var response *buffer
	done := make(chan error, 1)
	if err := l.sendLocked(request, receiver{
		response: func(_ int16, b *buffer) (int32, error) { response = b; return 0, nil },
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
