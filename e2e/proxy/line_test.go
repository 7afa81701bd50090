package proxy_test

import (
	"bytes"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/milena-kafka/milena/e2e/proxy"
)

const rtt = 200 * time.Millisecond

func TestRTT(t *testing.T) {
	t.Run("an answer takes one round trip, the first one two", func(t *testing.T) {
		p, _ := newProxy(t)
		p.SetRTT(rtt)
		start := time.Now() // the first round trip begins with the connection
		c := dial(t, p)
		for i, least := range []time.Duration{2 * rtt, rtt, rtt} {
			exchange(t, c, "hello\n")
			if took := time.Since(start); took < least {
				t.Fatalf("request %d took %v, less than %v", i, took, least)
			}
			start = time.Now()
		}
	})
	t.Run("requests that are sent at once come back together", func(t *testing.T) {
		p, _ := newProxy(t)
		p.SetRTT(rtt)
		c := dial(t, p)
		exchange(t, c, "open\n")
		const n = 100
		var sent bytes.Buffer
		start := time.Now()
		for i := range n {
			line := []byte{'a' + byte(i%26), '\n'}
			sent.Write(line)
			if _, err := c.Write(line); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond) // so that the proxy reads them one by one
		}
		got := make([]byte, sent.Len())
		if _, err := io.ReadFull(c, got); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > n*rtt/4 {
			t.Fatalf("%d requests took %v, not about %v", n, took, rtt)
		}
		if !bytes.Equal(got, sent.Bytes()) {
			t.Fatalf("got %q, want %q", got, sent.Bytes())
		}
	})
	t.Run("it can change while a connection is open", func(t *testing.T) {
		p, _ := newProxy(t)
		c := dial(t, p)
		exchange(t, c, "a\n")
		p.SetRTT(rtt)
		start := time.Now()
		exchange(t, c, "b\n")
		if took := time.Since(start); took < rtt {
			t.Fatalf("took %v", took)
		}
		p.SetRTT(0)
		exchange(t, c, "c\n")
	})
	t.Run("the end of a connection arrives", func(t *testing.T) {
		p, _ := newProxy(t)
		p.SetRTT(rtt)
		c := dial(t, p)
		exchange(t, c, "a\n")
		// The echo does not answer the end of input but closes its connection.
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(make([]byte, 1)); err == nil {
			t.Fatalf("read %d bytes", n)
		}
	})
}

// Much more than what one chunk and the sockets' buffers hold arrives in order, although the receiver pauses.
func TestRTTKeepsContent(t *testing.T) {
	const all = 150 << 20
	p, sum := newSink(t, 50*time.Millisecond, all)
	p.SetRTT(rtt)
	c := dial(t, p)
	random := rand.New(rand.NewPCG(1, 2))
	want := sha256.New()
	block := make([]byte, 300_000)
	for left := all; left > 0; {
		n := min(left, 1+random.IntN(len(block)))
		for i := 0; i < n; i += 4096 {
			block[i] = byte(random.Uint32())
		}
		want.Write(block[:n])
		if _, err := c.Write(block[:n]); err != nil {
			t.Fatal(err)
		}
		left -= n
	}
	if !bytes.Equal(<-sum, want.Sum(nil)) {
		t.Fatal("the content differs")
	}
}

// BenchmarkRTT is how fast the proxy forwards.
func BenchmarkRTT(b *testing.B) {
	for _, rtt := range []time.Duration{0, 80 * time.Millisecond} {
		b.Run(rtt.String(), func(b *testing.B) {
			backend := newDiscard(b)
			p, err := proxy.Start(b.Context(), freeAddr(b), backend)
			if err != nil {
				b.Fatal(err)
			}
			p.SetRTT(rtt)
			c, err := net.Dial("tcp4", p.Addr())
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			block := make([]byte, 1<<20)
			b.SetBytes(int64(len(block)))
			for b.Loop() {
				if _, err := c.Write(block); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// newDiscard is a backend that reads one connection to its end.
func newDiscard(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		if c, err := l.Accept(); err == nil {
			_, _ = io.CopyBuffer(io.Discard, struct{ io.Reader }{c}, make([]byte, 1<<20))
			_ = c.Close()
		}
	}()
	return l.Addr().String()
}

// exchange sends a line and waits until it comes back.
func exchange(t *testing.T, c net.Conn, line string) {
	t.Helper()
	if _, err := io.WriteString(c, line); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(line))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != line {
		t.Fatalf("got %q, %v", got, err)
	}
}

// newSink is a proxy whose backend reads that many bytes of one connection, after a pause, and then sends their sum.
func newSink(t testing.TB, pause time.Duration, n int64) (*proxy.Proxy, <-chan []byte) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	p, err := proxy.Start(t.Context(), freeAddr(t), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan []byte, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		time.Sleep(pause)
		sum := sha256.New()
		_, _ = io.CopyBuffer(sum, struct{ io.Reader }{io.LimitReader(c, n)}, make([]byte, 1<<20))
		done <- sum.Sum(nil)
	}()
	return p, done
}

func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// A window limits what a connection carries per round trip, in each direction, and loses nothing.
func TestWindow(t *testing.T) {
	const window, size = 64 << 10, 512 << 10
	took := func(window int) time.Duration {
		p, _ := newProxy(t)
		p.SetRTT(rtt / 4)
		p.SetWindow(window)
		c := dial(t, p)
		exchange(t, c, "open\n")
		start := time.Now()
		sent := make([]byte, size)
		if _, err := rand.NewChaCha8([32]byte{}).Read(sent); err != nil {
			t.Fatal(err)
		}
		sent = append(bytes.ReplaceAll(sent, []byte("\n"), []byte("_")), '\n')
		go func() { _, _ = c.Write(sent) }()
		got := make([]byte, len(sent))
		if _, err := io.ReadFull(c, got); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, sent) {
			t.Fatal("the answer differs from what was sent")
		}
		return time.Since(start)
	}
	free, narrow := took(0), took(window)
	if least := (size/window - 2) * rtt / 4; narrow < least || narrow < 2*free {
		t.Errorf("%d bytes took %v with a window of %d bytes, at least %v expected; %v without", size, narrow, window, least, free)
	}
}
