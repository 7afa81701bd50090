package main

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
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
)

// guard answers only requests that name the server as its users do, and bounds the time that an answer takes.
func (a *admin) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !a.isCalled(r.Host) {
			http.Error(w, fmt.Sprintf("this server is not called %q; use localhost, or add the name to http.hosts", r.Host), http.StatusMisdirectedRequest)
			return
		}
		c := http.NewResponseController(w) // not every writer has deadlines
		switch {
		case strings.HasPrefix(r.URL.Path, "/debug/pprof/"):
			_ = c.SetReadDeadline(time.Time{}) // a profile takes as long as its request says, and a read that times out would end it
		default:
			_ = c.SetWriteDeadline(time.Now().Add(ioTimeout))
		}
		if a.bound != nil && a.bound.open()-a.page.Streams() > keptConnections {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// isCalled reports whether a request's Host is a name of this server. On a loopback address that is a loopback name or address, or one of
// http.hosts. A web page on another name that resolves to loopback (DNS rebinding) could otherwise read everything. Whoever listens on another
// address has opened the server to the network anyway.
func (a *admin) isCalled(host string) bool {
	if a.bound == nil || !isLoopback(a.bound.Addr()) {
		return true
	}
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.ToLower(strings.TrimSuffix(strings.Trim(name, "[]"), "."))
	if name == "localhost" || strings.HasSuffix(name, ".localhost") { // RFC 6761: both always resolve to loopback
		return true
	}
	if ip, err := netip.ParseAddr(name); err == nil && ip.IsLoopback() {
		return true
	}
	return slices.ContainsFunc(a.config.Hosts, func(known string) bool { return strings.EqualFold(known, name) })
}

func isLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// boundConnections is a listener that has at most maxConnections open at a time, and one for each page that may be open.
func boundConnections(l net.Listener) *boundedListener {
	return &boundedListener{Listener: l, slots: make(chan struct{}, maxConnections+page.MaxStreams), closed: make(chan struct{})}
}

type boundedListener struct {
	net.Listener
	slots  chan struct{} // one element per open connection
	once   sync.Once
	closed chan struct{}
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
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &boundedConn{Conn: c, release: sync.OnceFunc(func() { <-l.slots })}, nil
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
