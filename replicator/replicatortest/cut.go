package replicatortest

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"
)

// Cut makes brokers unreachable, all of them if none is named: their connections close and new ones are refused, for the cluster's own client
// too. It replaces what an earlier call cut.
func (c *Cluster) Cut(nodes ...int32) {
	c.t.Helper()
	for node, l := range c.requests.allListeners() {
		if len(nodes) == 0 || slices.Contains(nodes, int32(node)) {
			l.takeDown()
		} else {
			l.bringUp(c.t)
		}
	}
}

// Restore makes all brokers reachable again.
func (c *Cluster) Restore() {
	c.t.Helper()
	for _, l := range c.requests.allListeners() {
		l.bringUp(c.t)
	}
}

// allListeners are the listeners of the brokers, by node.
func (i *interceptor) allListeners() []*listener {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.listeners)
}

// listener is the listener of one broker. It can close its port and open it again without the cluster noticing.
type listener struct {
	interceptor *interceptor
	address     net.Addr

	mu     sync.Mutex
	inner  net.Listener
	open   map[*conn]bool
	up     chan struct{} // closed while the port is open
	closed bool
}

// listen gives kfake its listeners.
func (i *interceptor) listen(ctx context.Context) func(network, address string) (net.Listener, error) {
	return func(network, address string) (net.Listener, error) {
		inner, err := new(net.ListenConfig).Listen(ctx, network, address)
		if err != nil {
			return nil, err
		}
		l := &listener{interceptor: i, address: inner.Addr(), inner: inner, open: make(map[*conn]bool), up: make(chan struct{})}
		close(l.up)
		i.mu.Lock()
		defer i.mu.Unlock()
		i.listeners = append(i.listeners, l)
		return l, nil
	}
}

// takeDown closes the port and all connections.
func (l *listener) takeDown() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.isDown() {
		return
	}
	l.up = make(chan struct{})
	_ = l.inner.Close()
	for c := range l.open {
		_ = c.Conn.Close()
	}
}

// bringUp opens the port again.
func (l *listener) bringUp(t testing.TB) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || !l.isDown() {
		return
	}
	inner, err := new(net.ListenConfig).Listen(t.Context(), l.address.Network(), l.address.String())
	if err != nil {
		t.Fatalf("open the port of a broker again: %v", err)
	}
	l.inner = inner
	close(l.up)
}

func (l *listener) isDown() bool {
	select {
	case <-l.up:
		return false
	default:
		return true
	}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		l.mu.Lock()
		inner, up, closed := l.inner, l.up, l.closed
		l.mu.Unlock()
		if closed {
			return nil, net.ErrClosed
		}
		<-up
		c, err := inner.Accept()
		if err == nil {
			return l.keep(c), nil
		}
		l.mu.Lock()
		again := !l.closed && (l.isDown() || l.inner != inner)
		l.mu.Unlock()
		if !again {
			return nil, err
		}
	}
}

// keep remembers a connection, to close it when the port closes.
func (l *listener) keep(c net.Conn) net.Conn {
	kept := newConn(c, l)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[kept] = true
	if l.isDown() {
		_ = c.Close()
	}
	return kept
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return l.address }

// Close implements net.Listener.
func (l *listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.isDown() {
		close(l.up)
		return nil
	}
	return l.inner.Close()
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.listener.mu.Lock()
	delete(c.listener.open, c)
	c.listener.mu.Unlock()
	return c.Conn.Close()
}
