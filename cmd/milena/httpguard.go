package main

import (
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	// IoTimeout bounds reading a request and writing its answer.
	ioTimeout = 10 * time.Second
	// MaxConnections bounds the connections that are open at a time. Further ones wait in the queue of the operating system.
	maxConnections = 100
)

// guard bounds the time that an answer takes.
func (*admin) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w) // not every writer has deadlines
		switch {
		case strings.HasPrefix(r.URL.Path, "/debug/pprof/"):
			_ = c.SetReadDeadline(time.Time{}) // a profile takes as long as its request says, and a read that times out would end it
		default:
			_ = c.SetWriteDeadline(time.Now().Add(ioTimeout))
		}
		next.ServeHTTP(w, r)
	})
}

// boundConnections is a listener that has at most maxConnections open at a time.
func boundConnections(l net.Listener) net.Listener {
	return &boundedListener{Listener: l, slots: make(chan struct{}, maxConnections), closed: make(chan struct{})}
}

type boundedListener struct {
	net.Listener
	slots  chan struct{} // one element per open connection
	once   sync.Once
	closed chan struct{}
}

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
