package proxy

import (
	"net"
	"slices"
	"sync"
	"time"
)

const (
	chunkBytes = 64 << 10       // the size of a buffer, and so of the largest read
	smallBytes = chunkBytes / 4 // up to which a chunk gets a slice of its own size, so that many small requests do not hold a buffer each
	lineBytes  = 64 << 20       // in transit in one direction of a connection; if the other end does not read, the sender then waits
)

// newBuffers is a pool of *[]byte, of chunkBytes each.
func newBuffers() *sync.Pool {
	return &sync.Pool{New: func() any {
		buf := make([]byte, chunkBytes)
		return &buf
	}}
}

// chunk is what one read returned.
type chunk struct {
	data  []byte
	buf   *[]byte // that data is in, to be reused; or nil
	due   time.Time
	delay time.Duration
	end   bool // the sender has ended after data
}

// line is one direction of a connection with a delay: bytes that enter at t leave at t+delay. Its bandwidth is not limited, as on a long cable. With a
// window, the sender may send as many bytes until the first of them are acknowledged, which takes another delay.
type line struct {
	window int // 0 for none

	mu     sync.Mutex
	change *sync.Cond // of the fields below
	queue  []chunk
	bytes  int // in queue; with a window, those that are not acknowledged
	closed bool
}

func newLine(window int) *line {
	l := &line{window: window}
	l.change = sync.NewCond(&l.mu)
	return l
}

// put waits for room. It returns false if the line is closed.
func (l *line) put(c chunk) bool {
	most := lineBytes
	if l.window > 0 {
		most = l.window
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.bytes > 0 && l.bytes+len(c.data) > most && !l.closed {
		l.change.Wait()
	}
	if l.closed {
		return false
	}
	l.queue = append(l.queue, c)
	l.bytes += len(c.data)
	l.change.Broadcast()
	return true
}

// take waits for a chunk, but not until it is due. It returns false if the line is closed.
func (l *line) take() (chunk, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.queue) == 0 && !l.closed {
		l.change.Wait()
	}
	if l.closed {
		return chunk{}, false
	}
	c := l.queue[0]
	l.queue[0] = chunk{} // so that its data can be collected
	l.queue = l.queue[1:]
	if l.window == 0 {
		l.leaveLocked(len(c.data))
	}
	return c, true
}

// leaveLocked makes room. The lock is held.
func (l *line) leaveLocked(n int) {
	l.bytes -= n
	l.change.Broadcast()
}

// delivered records that a chunk has arrived. If there is a window, its acknowledgment is on the way.
func (l *line) delivered(c chunk) {
	if n := len(c.data); l.window > 0 {
		time.AfterFunc(c.delay, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.leaveLocked(n)
		})
	}
}

// close discards what is in transit.
func (l *line) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed, l.queue = true, nil
	l.change.Broadcast()
}

// late passes on what a read returned, delayed. It returns false if nothing more is to be read.
func (l *link) late(on *line, c chunk, delay time.Duration, what direction) bool {
	if len(c.data) == 0 && !c.end {
		return true
	}
	c.due = time.Now()
	if what == requests && c.due.Before(l.opened) {
		c.due = l.opened
	}
	c.due, c.delay = c.due.Add(delay), delay
	return on.put(c) && !c.end
}

// startLine starts a line to one end of the link. It ends with the link.
func (l *link) startLine(to *net.TCPConn, what direction) *line {
	l.proxy.mu.Lock()
	defer l.proxy.mu.Unlock()
	on := newLine(l.proxy.window)
	if l.closed {
		on.close()
		return on
	}
	l.lines = append(l.lines, on)
	go l.deliver(on, to, what)
	return on
}

// deliver writes each chunk when it is due.
func (l *link) deliver(on *line, to *net.TCPConn, what direction) {
	p := l.proxy
	due := time.NewTimer(0)
	defer due.Stop()
	for {
		c, ok := on.take()
		if !ok {
			return
		}
		if wait := time.Until(c.due); wait > 0 {
			due.Reset(wait)
			select {
			case <-due.C:
			case <-p.done:
				return
			}
		}
		if _, err := to.Write(c.data); err != nil && !l.halfOpen() {
			c.end = true
		}
		on.delivered(c)
		if c.buf != nil {
			p.buffers.Put(c.buf)
		}
		if c.end {
			l.ended(what)
			return
		}
	}
}

func (l *link) halfOpen() bool {
	l.proxy.mu.Lock()
	defer l.proxy.mu.Unlock()
	return l.dead
}

// chunkOf is the first n bytes of buf as a chunk, and the buffer for the next read.
func (p *Proxy) chunkOf(buf *[]byte, n int) (chunk, *[]byte) {
	if n <= smallBytes {
		return chunk{data: slices.Clone((*buf)[:n])}, buf
	}
	return chunk{data: (*buf)[:n], buf: buf}, p.buffers.Get().(*[]byte)
}
