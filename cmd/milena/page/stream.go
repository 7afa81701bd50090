package page

import (
	"bytes"
	"compress/flate"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	// MaxStreams bounds how many pages are served at a time. Each holds a connection.
	MaxStreams = 64
	// Backlog is how many events a reader may be behind before it is dropped: it reconnects, and gets the newest one.
	backlog = 4
	// KeepAlive is how long a stream may be silent: less than the idle timeouts of proxies, which are 30 seconds and more.
	keepAlive = 15 * time.Second
	// WriteTimeout bounds one write to a reader.
	writeTimeout = 10 * time.Second
)

// chunk is a piece of the stream, made once for all readers: as it is, and as the blocks of a deflate stream. The blocks refer to nothing before them and
// end at a byte, so that they fit into the stream of any reader, behind a gzip header and whatever other chunks it got.
type chunk struct {
	id                int64 // of an event, from 1 on
	plain, compressed []byte
}

// gzipHeader begins a gzip stream without a name and a time. No stream ends regularly, so that none has the checksum behind the blocks.
var gzipHeader = []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff} //nolint:gochecknoglobals // immutable

// chunker makes chunks. It is not safe for concurrent use.
type chunker struct {
	deflate *flate.Writer
	buffer  bytes.Buffer
}

func newChunker() *chunker {
	w, _ := flate.NewWriter(nil, flate.DefaultCompression) // the level is valid
	return &chunker{deflate: w}
}

// event is a view as an event. Boot tells apart the events of two processes.
func (c *chunker) event(boot string, id int64, data []byte) *chunk {
	return c.chunk(id, fmt.Appendf(nil, "event: view\nid: %s-%d\ndata: %s\n\n", boot, id, data))
}

func (c *chunker) chunk(id int64, plain []byte) *chunk {
	c.buffer.Reset()
	c.deflate.Reset(&c.buffer)
	_, _ = c.deflate.Write(plain) // a buffer takes everything
	_ = c.deflate.Flush()
	return &chunk{id: id, plain: plain, compressed: bytes.Clone(c.buffer.Bytes())}
}

// readers are the open pages.
type readers struct {
	joined chan struct{} // has an element after a reader came

	hello, still *chunk // the first chunk of a stream, and what is sent when nothing changes

	mu   sync.Mutex
	all  map[*reader]struct{}
	over bool // no more readers
}

// reader is an open page.
type reader struct {
	chunks chan *chunk // closed when the reader is dropped
	last   int64       // id of the newest event that is in chunks, or was
}

func newReaders(c *chunker) *readers {
	return &readers{
		joined: make(chan struct{}, 1), all: make(map[*reader]struct{}),
		hello: c.chunk(0, []byte("retry: 2000\n\n")), still: c.chunk(0, []byte(": nothing new\n\n")),
	}
}

// join adds a reader, nil if there are too many or the process ends.
func (r *readers) join() *reader {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.all) >= MaxStreams || r.over {
		return nil
	}
	one := &reader{chunks: make(chan *chunk, backlog)}
	r.all[one] = struct{}{}
	select {
	case r.joined <- struct{}{}:
	default:
	}
	return one
}

// leave forgets a reader. Until then it counts, also if it was dropped: it may still hold its connection.
func (r *readers) leave(one *reader) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.all, one)
}

func (r *readers) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.all)
}

// publish hands an event to the readers that have not had it, and drops those that are too slow. It never waits.
func (r *readers) publish(event *chunk) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for one := range r.all {
		if one.last < 0 || one.last >= event.id {
			continue
		}
		select {
		case one.chunks <- event:
			one.last = event.id
		default:
			one.drop()
		}
	}
}

// close ends all streams, and lets none begin.
func (r *readers) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	for one := range r.all {
		if one.last >= 0 {
			one.drop()
		}
	}
}

// drop ends the stream of a reader, which is not dropped yet. The lock of all readers is held.
func (one *reader) drop() {
	one.last = -1
	close(one.chunks)
}

// serve writes the stream of a reader until it goes, is dropped, or ctx of the request ends.
func (r *readers) serve(w http.ResponseWriter, request *http.Request) {
	one := r.join()
	if one == nil {
		w.Header().Set("Retry-After", "5")
		refuse(w, http.StatusServiceUnavailable, "%d pages are open already, or milena stops; close some, or try again", MaxStreams)
		return
	}
	defer r.leave(one)
	s := newStream(w, request)
	if !s.begin(r.hello) {
		return
	}
	silence := time.NewTimer(keepAlive)
	defer silence.Stop()
	for {
		next := r.still
		select {
		case <-request.Context().Done():
			return
		case c, ok := <-one.chunks:
			if !ok {
				return
			}
			next = c
		case <-silence.C:
		}
		if !s.send(next) {
			return
		}
		silence.Reset(keepAlive)
	}
}

// stream is the response to a reader.
type stream struct {
	to         http.ResponseWriter
	connection *http.ResponseController
	compressed bool
}

func newStream(w http.ResponseWriter, r *http.Request) *stream {
	return &stream{to: w, connection: http.NewResponseController(w), compressed: acceptsGzip(r)}
}

// begin sends the header and the first chunk.
func (s *stream) begin(first *chunk) bool {
	h := s.to.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would hold events back
	h.Add("Vary", "Accept-Encoding")
	_ = s.connection.SetReadDeadline(time.Time{}) // a read that times out in the background would end the request; not every writer has deadlines
	if s.compressed {
		h.Set("Content-Encoding", "gzip")
		_, _ = s.to.Write(gzipHeader) // an error shows at the next write
	}
	return s.send(first)
}

// send writes a chunk at once. It reports whether the reader is still there.
func (s *stream) send(c *chunk) bool {
	data := c.plain
	if s.compressed {
		data = c.compressed
	}
	_ = s.connection.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := s.to.Write(data); err != nil {
		return false
	}
	return s.connection.Flush() == nil
}

// acceptsGzip reports whether the sender of a request reads gzip.
func acceptsGzip(r *http.Request) bool {
	for _, part := range strings.Split(strings.Join(r.Header.Values("Accept-Encoding"), ","), ",") {
		name, quality, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") && strings.ReplaceAll(quality, " ", "") != "q=0" {
			return true
		}
	}
	return false
}
