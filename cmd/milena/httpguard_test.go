package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/milena-kafka/milena/cmd/milena/page"
	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator/client"
)

// listening is a server on a free loopback port.
func listening(t *testing.T, hosts ...string) *admin {
	t.Helper()
	a := newAdmin(newRegistry(), config.HTTP{Listen: "127.0.0.1:0", Hosts: hosts})
	if err := a.listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.close(t.Context()) })
	return a
}

func dial(t *testing.T, a *admin) net.Conn {
	t.Helper()
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", a.address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// healthz sends a request with any Host and returns the status code of the answer.
func healthz(t *testing.T, c net.Conn, host string) int {
	t.Helper()
	if _, err := fmt.Fprintf(c, "GET /healthz HTTP/1.1\r\nHost: %s\r\n\r\n", host); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// A web page whose name resolves to loopback gets nothing.
func TestLoopbackServerAnswersItsOwnNamesOnly(t *testing.T) {
	a := listening(t, "milena.example")
	for host, want := range map[string]int{
		a.address():           http.StatusOK,
		"127.0.0.1":           http.StatusOK,
		"[::1]:9644":          http.StatusOK,
		"LOCALHOST:1":         http.StatusOK,
		"milena.localhost":    http.StatusOK,
		"Milena.Example:443":  http.StatusOK,
		"evil.example":        http.StatusMisdirectedRequest,
		"evil.example:9644":   http.StatusMisdirectedRequest,
		"localhost.evil.test": http.StatusMisdirectedRequest,
		"192.0.2.1":           http.StatusMisdirectedRequest,
	} {
		if code := healthz(t, dial(t, a), host); code != want {
			t.Errorf("Host %s: %d, want %d", host, code, want)
		}
	}
}

// A client that opens connections without end cannot take all file descriptors of the process: those beyond the bound wait until others close.
func TestConnectionsAreBounded(t *testing.T) {
	a := listening(t)
	first := dial(t, a)
	for range maxConnections + page.MaxStreams - 1 {
		dial(t, a) // and say nothing
	}
	within(t, "all connections are taken", func() bool { return a.bound.open() == maxConnections+page.MaxStreams })
	last := dial(t, a)
	answered := make(chan int, 1)
	go func() { answered <- healthz(t, last, "localhost") }()
	select {
	case <-answered:
		t.Fatal("a connection beyond the bound is served")
	default:
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case code := <-answered:
		if code != http.StatusOK {
			t.Errorf("code %d", code)
		}
	case <-time.After(time.Minute):
		t.Fatal("the connection is not served after another one was closed")
	}
}

// On the network one host cannot keep all others out.
func TestOneHostDoesNotTakeAllConnections(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := boundConnections(l)
	if b.fair {
		t.Fatalf("all connections to loopback come from one host, and are bounded by it")
	}
	b.fair = true
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.NotFoundHandler()}
	go func() { _ = server.Serve(b) }()
	defer func() { _ = server.Close() }()
	open := func() (c net.Conn, served bool) {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_, _ = fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return c, false
		}
		_ = resp.Body.Close()
		return c, true
	}
	var first net.Conn
	for i := range maxPerHost {
		c, served := open()
		if !served {
			t.Fatalf("connection %d is not served", i+1)
		}
		if first == nil {
			first = c
		}
	}
	if _, served := open(); served {
		t.Fatal("a connection beyond the bound is served")
	}
	if !b.enters("192.0.2.1") {
		t.Error("another host is kept out")
	}
	_ = first.Close()
	within(t, "one may come after another has gone", func() bool { _, served := open(); return served })
}

// deadlines is a writer that knows when its connection is given up.
type deadlines struct {
	*httptest.ResponseRecorder
	read, write time.Time
}

func (d *deadlines) SetReadDeadline(at time.Time) error  { d.read = at; return nil }
func (d *deadlines) SetWriteDeadline(at time.Time) error { d.write = at; return nil }

// Only who has a token may hold a connection for as long as an order takes: there are few.
func TestStrangersHoldNoConnection(t *testing.T) {
	a := newAdmin(newRegistry(), config.HTTP{Tokens: map[string]config.Secret{"alice": aliceToken}})
	a.flows.Store(&served{clusters: func(string) (client.Clusters, bool) { return client.Clusters{Flow: config.Flow{Name: "a-b"}}, true }})
	for token, patient := range map[string]bool{"nobody's": false, aliceToken: true} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost/api/v1/flows/a-b/pause", strings.NewReader(`{"reason":"x","until":"never"}`))
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Content-Type", "application/json")
		w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
		a.server.Handler.ServeHTTP(w, r)
		if got := w.read.After(time.Now()); got != patient {
			t.Errorf("%d %s: the deadline for reading is %v", w.Code, w.Body, w.read)
		}
		if got := w.write.After(time.Now().Add(ioTimeout)); got != patient {
			t.Errorf("%d %s: the deadline for writing is %v", w.Code, w.Body, w.write)
		}
	}
}
