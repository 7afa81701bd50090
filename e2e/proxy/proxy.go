// Package proxy is a TCP proxy that simulates network faults and distance. Each broker has its own.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Mode is how the proxy treats connections.
type Mode int

// The modes. What happens to existing connections when a mode ends is part of its description.
const (
	// Pass forwards bytes.
	Pass Mode = iota
	// Refuse resets all connections and does not listen.
	Refuse
	// BlackHole accepts connections but forwards nothing, on existing ones neither. Afterwards all of them continue.
	BlackHole
	// HalfOpen closes the broker's end of each connection but not the client's. New connections have no broker's end. They stay half-open
	// afterwards.
	HalfOpen
	// Slow delays every chunk in both directions and limits the bandwidth.
	Slow
	// DropResponses forwards requests and discards responses. Connections that have lost a response are reset afterwards.
	DropResponses
	// Cut resets all connections, and each new one as soon as it is accepted.
	Cut
)

func (m Mode) String() string {
	return [...]string{"pass", "refuse", "black hole", "half-open", "slow", "drop responses", "cut"}[m]
}

// The delay of Slow for each chunk of at most 64 KiB, and its bandwidth.
const (
	latency   = 100 * time.Millisecond
	bandwidth = 4 << 20 // bytes per second
)

// Proxy is the proxy of one broker.
type Proxy struct {
	listen, backend string
	done            <-chan struct{}

	buffers *sync.Pool

	mu       sync.Mutex
	mode     Mode
	delay    time.Duration // of each direction
	window   int           // bytes per round trip and direction of a connection, 0 for any number
	changed  chan struct{} // closed and replaced when mode changes
	listener net.Listener  // nil while refusing
	links    map[*link]struct{}
	accepted int64
	hidden   []kmsg.Key
}

// Start listens on listen and forwards to backend until ctx ends.
func Start(ctx context.Context, listen, backend string) (*Proxy, error) {
	p := &Proxy{listen: listen, backend: backend, done: ctx.Done(), buffers: newBuffers(), changed: make(chan struct{}), links: map[*link]struct{}{}}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.open(ctx); err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.close()
		for l := range p.links {
			l.reset()
		}
	})
	return p, nil
}

// Addr is where clients connect to.
func (p *Proxy) Addr() string { return p.listen }

// Accepted counts the connections that clients have opened since the start.
func (p *Proxy) Accepted() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted
}

// Set changes the mode, for existing and for new connections.
func (p *Proxy) Set(ctx context.Context, mode Mode) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mode = mode
	close(p.changed)
	p.changed = make(chan struct{})
	for l := range p.links {
		switch {
		case mode == Refuse || mode == Cut || l.missed:
			l.reset()
		case mode == HalfOpen:
			l.die()
		}
	}
	if mode == Refuse {
		p.close()
		return nil
	}
	return p.open(ctx)
}

// SetRTT changes the round-trip time: half of it is the delay of each direction, and opening a connection takes one round trip. Bytes that are in
// transit keep the delay that they have. A mode applies to bytes when they enter the proxy.
func (p *Proxy) SetRTT(rtt time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = rtt / 2
}

// SetWindow limits how many bytes a connection carries per round trip in each direction, as the buffers of sockets do; 0 does not. It applies to
// connections that have a delay and are opened later.
func (p *Proxy) SetWindow(bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.window = bytes
}

// A proxy waits for its port, which brokers advertise already: another process of the machine may use it for a moment.
const (
	portTries = 50
	portPause = 100 * time.Millisecond
)

func (p *Proxy) open(ctx context.Context) error {
	if p.listener != nil {
		return nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp4", p.listen)
	for tries := 0; errors.Is(err, syscall.EADDRINUSE) && tries < portTries; tries++ {
		select {
		case <-time.After(portPause):
		case <-ctx.Done():
		}
		l, err = lc.Listen(ctx, "tcp4", p.listen)
	}
	if err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	p.listener = l
	go p.accept(l)
	return nil
}

func (p *Proxy) close() {
	if p.listener != nil {
		_ = p.listener.Close()
		p.listener = nil
	}
}

func (p *Proxy) accept(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		l := &link{proxy: p, client: client.(*net.TCPConn)}
		p.mu.Lock()
		p.accepted++
		// The client sees its connection at once. Its first bytes are late by the round trip that this would have taken.
		l.opened = time.Now().Add(2 * p.delay)
		mode := p.mode
		p.links[l] = struct{}{}
		if mode == Cut {
			l.reset()
		}
		if mode == HalfOpen {
			l.dead = true
		}
		p.mu.Unlock()
		go l.run()
	}
}

// await waits while the mode is BlackHole and returns the mode after it.
func (p *Proxy) await() Mode {
	for {
		p.mu.Lock()
		mode, changed := p.mode, p.changed
		p.mu.Unlock()
		if mode != BlackHole {
			return mode
		}
		select {
		case <-changed:
		case <-p.done:
			return Cut
		}
	}
}

// link is a client's connection and the corresponding one to the broker.
type link struct {
	proxy  *Proxy
	client *net.TCPConn
	opened time.Time

	// Under proxy.mu:
	broker *net.TCPConn // nil before it is dialed
	missed bool         // a response was discarded
	dead   bool         // the broker's end is closed, the client's is not
	closed bool
	lines  []*line
}

func (l *link) run() {
	p := l.proxy
	p.await()
	p.mu.Lock()
	usable := !l.dead && !l.closed
	p.mu.Unlock()
	filter := p.filter()
	pump := func(from, to *net.TCPConn, what direction) {
		if filter != nil {
			l.pumpFrames(from, to, what, filter)
		} else {
			l.pump(from, to, what)
		}
	}
	if usable {
		broker, err := net.DialTimeout("tcp4", p.backend, time.Second) //nolint:noctx // ends with the connection, not with a caller
		p.mu.Lock()
		if err != nil {
			l.reset() // the broker is down
		} else {
			l.broker = broker.(*net.TCPConn)
			if l.closed || l.dead {
				_ = broker.Close()
			} else {
				go pump(l.broker, l.client, responses)
			}
		}
		p.mu.Unlock()
	}
	pump(l.client, l.broker, requests)
}

// direction is what a pump forwards.
type direction int

const (
	requests direction = iota
	responses
)

// narrow lets a socket hold no more than the window, and returns how many bytes to read at a time.
func (p *Proxy) narrow(from *net.TCPConn) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.window == 0 {
		return chunkBytes
	}
	_ = from.SetReadBuffer(p.window / 2) // of which Linux makes twice as much
	return min(p.window/4, chunkBytes)
}

// pump forwards bytes from one end to the other until one of them ends.
func (l *link) pump(from, to *net.TCPConn, what direction) {
	p := l.proxy
	buf := p.buffers.Get().(*[]byte)
	defer func() { p.buffers.Put(buf) }()
	most := p.narrow(from)
	var on *line // nil until there is a delay; then it takes all bytes, so that they stay in order
	for {
		n, err := from.Read((*buf)[:most])
		mode := p.await()
		p.mu.Lock()
		if l.dead && what == responses {
			p.mu.Unlock()
			return
		}
		if l.dead || to == nil {
			n = 0
		}
		if what == responses && mode == DropResponses && n > 0 {
			l.missed, n = true, 0
		}
		delay := p.delay
		p.mu.Unlock()
		if n > 0 && mode == Slow {
			select {
			case <-time.After(latency + time.Duration(n)*time.Second/bandwidth):
			case <-p.done:
			}
		}
		if on == nil && delay > 0 && to != nil {
			on = l.startLine(to, what)
		}
		if on != nil {
			var c chunk
			c, buf = p.chunkOf(buf, n)
			c.end = err != nil
			if !l.late(on, c, delay, what) {
				return
			}
			continue
		}
		if n > 0 {
			if _, writeErr := to.Write((*buf)[:n]); err == nil {
				err = writeErr
			}
		}
		if err != nil {
			l.ended(what)
			return
		}
	}
}

// ended resets the link after one direction has ended, unless the link is half-open and the broker's end was closed for that.
func (l *link) ended(what direction) {
	l.proxy.mu.Lock()
	defer l.proxy.mu.Unlock()
	if !l.dead || what == requests {
		l.reset()
	}
}

// reset closes both ends with RST. The caller holds proxy.mu.
func (l *link) reset() {
	l.closed = true
	for _, on := range l.lines {
		on.close()
	}
	for _, c := range []*net.TCPConn{l.client, l.broker} {
		if c != nil {
			_ = c.SetLinger(0)
			_ = c.Close()
		}
	}
	delete(l.proxy.links, l)
}

// die closes the broker's end only. The caller holds proxy.mu.
func (l *link) die() {
	l.dead = true
	if l.broker != nil {
		_ = l.broker.Close()
	}
}
