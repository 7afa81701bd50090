package main

import (
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/milena-kafka/milena/cmd/milena/page"
)

const (
	// IoTimeout bounds reading a request and writing its answer.
	ioTimeout = 10 * time.Second
	// MaxConnections bounds the connections that are open at a time, besides those that pages may hold for their streams. Further ones wait in the queue of
	// the operating system.
	maxConnections = 100
	// KeptConnections is how many may be kept open between requests. A browser keeps several for a minute, and many pages must leave some for probes.
	keptConnections = maxConnections / 2
	// MaxPerHost bounds those of one host where others reach the server: whoever opens connections without end keeps out no probe from elsewhere. Behind a
	// proxy, all pages are of one host.
	maxPerHost = maxConnections/2 + page.MaxStreams
)

// guard bounds the time that the answer to somebody takes who may have one. The server bounds that of a refusal.
func (a *admin) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w) // not every writer has deadlines
		switch {
		case strings.HasPrefix(r.URL.Path, "/debug/pprof/"):
			_ = c.SetReadDeadline(time.Time{}) // a profile takes as long as its request says, and a read that times out would end it
			_ = c.SetWriteDeadline(time.Time{})
		default:
			_ = c.SetWriteDeadline(time.Now().Add(ioTimeout))
		}
		if a.bound != nil && a.bound.open()-a.page.Streams() > keptConnections {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// boundConnections is a listener that has at most maxConnections open at a time, and one for each page that may be open. Those of a host stay within
// maxPerHost, unless all come from this one.
func boundConnections(l net.Listener) *boundedListener {
	tcp, ok := l.Addr().(*net.TCPAddr)
	return &boundedListener{
		Listener: l, slots: make(chan struct{}, maxConnections+page.MaxStreams), closed: make(chan struct{}), fair: !ok || !tcp.IP.IsLoopback(),
		hosts: make(map[string]int),
	}
}

type boundedListener struct {
	net.Listener
	slots  chan struct{} // one element per open connection
	once   sync.Once
	closed chan struct{}
	fair   bool // maxPerHost holds

	mu    sync.Mutex
	hosts map[string]int // how many connections are open, by address
}

// open counts the open connections.
func (l *boundedListener) open() int { return len(l.slots) }

// Accept implements net.Listener.
func (l *boundedListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			<-l.slots
			return nil, err
		}
		host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
		if !l.enters(host) {
			_ = c.Close()
			continue
		}
		return &boundedConn{Conn: c, release: sync.OnceFunc(func() {
			l.leaves(host)
			<-l.slots
		})}, nil
	}
}

// enters counts a connection of a host, unless it has too many.
func (l *boundedListener) enters(host string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fair && l.hosts[host] >= maxPerHost {
		return false
	}
	l.hosts[host]++
	return true
}

func (l *boundedListener) leaves(host string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hosts[host]--; l.hosts[host] <= 0 {
		delete(l.hosts, host)
	}
}

// Close implements net.Listener.
func (l *boundedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type boundedConn struct {
	net.Conn
	release func()
}

// Close implements net.Conn.
func (c *boundedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
