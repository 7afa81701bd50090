package proxy_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/milena-kafka/milena/e2e/proxy"
)

// echo is a backend that returns each line and counts the lines.
type echo struct {
	addr string
	got  atomic.Int64
}

func newEcho(t *testing.T) *echo {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	e := &echo{addr: l.Addr().String()}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				r := bufio.NewReader(c)
				for {
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					e.got.Add(1)
					_, _ = io.WriteString(c, line)
				}
			}()
		}
	}()
	return e
}

func newProxy(t *testing.T) (*proxy.Proxy, *echo) {
	t.Helper()
	e := newEcho(t)
	p, err := proxy.Start(t.Context(), freeAddr(t), e.addr)
	if err != nil {
		t.Fatal(err)
	}
	return p, e
}

// ask sends a line and returns an error if it does not come back within 300 ms.
func ask(c net.Conn, line string) error {
	_ = c.SetDeadline(time.Now().Add(300 * time.Millisecond))
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		return err
	}
	got := make([]byte, len(line)+1)
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if strings.TrimSpace(string(got)) != line {
		return errors.New("got " + string(got))
	}
	return nil
}

func dial(t *testing.T, p *proxy.Proxy) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp4", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func set(t *testing.T, p *proxy.Proxy, m proxy.Mode) {
	t.Helper()
	if err := p.Set(context.WithoutCancel(t.Context()), m); err != nil {
		t.Fatal(err)
	}
}

func TestModes(t *testing.T) {
	t.Run("pass forwards bytes", func(t *testing.T) {
		p, _ := newProxy(t)
		if err := ask(dial(t, p), "hello"); err != nil {
			t.Fatal(err)
		}
		if p.Accepted() != 1 {
			t.Fatalf("accepted %d", p.Accepted())
		}
	})
	t.Run("refuse resets and then listens again", func(t *testing.T) {
		p, _ := newProxy(t)
		c := dial(t, p)
		if err := ask(c, "a"); err != nil {
			t.Fatal(err)
		}
		set(t, p, proxy.Refuse)
		if err := ask(c, "b"); err == nil {
			t.Fatal("the connection still works")
		}
		if _, err := net.Dial("tcp4", p.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("dial: %v", err)
		}
		set(t, p, proxy.Pass)
		if err := ask(dial(t, p), "c"); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("black hole freezes connections, which continue afterwards", func(t *testing.T) {
		p, _ := newProxy(t)
		c := dial(t, p)
		if err := ask(c, "a"); err != nil {
			t.Fatal(err)
		}
		set(t, p, proxy.BlackHole)
		fresh := dial(t, p)
		for _, c := range []net.Conn{c, fresh} {
			if err := ask(c, "b"); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("got %v, want silence", err)
			}
		}
		set(t, p, proxy.Pass)
		for _, c := range []net.Conn{c, fresh} {
			_ = c.SetDeadline(time.Now().Add(time.Second))
			if _, err := io.ReadFull(c, make([]byte, 2)); err != nil {
				t.Fatalf("after the black hole: %v", err)
			}
		}
	})
	t.Run("half-open connections stay half-open", func(t *testing.T) {
		p, _ := newProxy(t)
		c := dial(t, p)
		if err := ask(c, "a"); err != nil {
			t.Fatal(err)
		}
		set(t, p, proxy.HalfOpen)
		if err := ask(c, "b"); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("got %v, want silence", err)
		}
		set(t, p, proxy.Pass)
		if err := ask(c, "c"); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("got %v, want silence", err)
		}
		if err := ask(dial(t, p), "d"); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("drop responses forwards requests", func(t *testing.T) {
		p, e := newProxy(t)
		c := dial(t, p)
		if err := ask(c, "a"); err != nil {
			t.Fatal(err)
		}
		set(t, p, proxy.DropResponses)
		if err := ask(c, "b"); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("got %v, want silence", err)
		}
		if e.got.Load() != 2 {
			t.Fatalf("the backend got %d lines", e.got.Load())
		}
		set(t, p, proxy.Pass)
		if err := ask(c, "c"); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("got %v, want a reset", err)
		}
	})
	t.Run("cut resets existing and new connections", func(t *testing.T) {
		p, _ := newProxy(t)
		c := dial(t, p)
		if err := ask(c, "a"); err != nil {
			t.Fatal(err)
		}
		set(t, p, proxy.Cut)
		if err := ask(c, "b"); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("got %v, want a reset", err)
		}
		fresh, err := net.Dial("tcp4", p.Addr())
		if errors.Is(err, syscall.ECONNRESET) {
			return // the reset arrived before the dial returned
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = fresh.Close() })
		if err := ask(fresh, "b"); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("got %v, want a reset", err)
		}
	})
	t.Run("slow delays both directions", func(t *testing.T) {
		p, _ := newProxy(t)
		set(t, p, proxy.Slow)
		c, start := dial(t, p), time.Now()
		if err := ask(c, "a"); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 200*time.Millisecond {
			t.Fatalf("took %v", took)
		}
	})
}
