package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"weak"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
)

// A thousand requests are in flight before the first one is answered.
func TestResponsesArriveInTheOrderOfRequests(t *testing.T) {
	const count = 1000
	overBoth(t, func(t *testing.T, listen func(func(*link)) Access) {
		s := sending(open(t, listen(func(l *link) {
			l.answerVersions()
			var all []received
			for range count {
				r, err := l.next()
				if err != nil {
					return
				}
				all = append(all, r)
			}
			for i, r := range all {
				l.answer(r, produced(int64(i)))
			}
			l.answerAll()
		})))
		for range count {
			s.must(t, pattern(1, 100))
		}
		for i := range count {
			if o := s.next(t); o.request != i || o.offset != int64(i) || o.err != nil {
				t.Fatalf("request %d ended as number %d, with offset %d: %v", o.request, i, o.offset, o.err)
			}
		}
		s.none(t)
	})
}

// Whatever a broker sends instead of a response ends all requests in flight, once each and in order. The next request has a new connection.
func TestABrokenConnectionEndsItsRequests(t *testing.T) {
	const answered, count = 100, 300
	tests := []struct {
		name   string
		broken func(r received) []byte
		want   string
	}{
		{"closed", func(received) []byte { return nil }, "EOF"},
		{"closed in a header", func(received) []byte { return []byte{0, 0, 1} }, "EOF"},
		{"closed in a response", func(r received) []byte { return r.response(produced(1))[:20] }, "EOF"},
		{"other request", func(r received) []byte { r.number++; return r.response(produced(1)) }, "answered request"},
		{"too short for a header", func(received) []byte { return []byte{0, 0, 0, 3, 0, 0, 0, 0} }, "no Kafka response"},
		{"negative length", func(received) []byte { return []byte{255, 255, 255, 255, 0, 0, 0, 0} }, "no Kafka response"},
		{"alert of TLS", func(received) []byte { return []byte{21, 3, 3, 0, 2, 2, 50, 0} }, "is TLS missing?"},
		{"too large", func(r received) []byte {
			return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, maxResponse+5), uint32(r.number))
		}, "no Kafka response"},
		{"no body", func(r received) []byte { return r.frameOf(nil) }, "cannot be decoded"},
		{"no header tags", func(r received) []byte { f := r.frameOf(nil); f[3]--; return f[:8] }, "cannot be decoded"},
		{"malformed header tags", func(r received) []byte { f := r.frameOf(nil); f[8] = 200; return f }, "cannot be decoded"},
		{"malformed", func(r received) []byte { return r.frameOf([]byte{200, 1, 2, 3}) }, "cannot be decoded"},
		{"cut off", func(r received) []byte {
			f := r.response(produced(1))
			f = f[:len(f)-3]
			binary.BigEndian.PutUint32(f, uint32(len(f)-4))
			return f
		}, "cannot be decoded"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var connections int
			s := sending(open(t, access(t, listen(t, nil, func(l *link) {
				l.answerVersions()
				if connections++; connections > 1 { // the first one has ended
					l.answerAll()
					return
				}
				for i := range count {
					r, err := l.next()
					if err != nil {
						return
					}
					switch {
					case i < answered:
						l.answer(r, produced(int64(i)))
					case i == count-1:
						r.number = 1 + answered // the versions have number 0
						_, _ = l.Write(test.broken(r))
					}
				}
				if test.want != "EOF" { // it is milena that closes the connection
					_, _ = io.Copy(io.Discard, l)
				}
			}), config.Cluster{})))
			for range count {
				s.must(t, pattern(1, 100))
			}
			for i := range count {
				o := s.next(t)
				if o.request != i {
					t.Fatalf("request %d ended as number %d", o.request, i)
				}
				if i < answered && o.err != nil {
					t.Fatalf("request %d, which was answered: %v", i, o.err)
				}
				if i >= answered && (o.err == nil || !strings.Contains(o.err.Error(), test.want)) {
					t.Fatalf("request %d ended with %v, want %q", i, o.err, test.want)
				}
			}
			s.none(t)
			s.must(t, pattern(1, 100))
			if o := s.next(t); o.request != count || o.offset != 0 || o.err != nil {
				t.Errorf("the request after it ended as %+v", o)
			}
		})
	}
}

// A newer broker may send tags that nobody here knows, in the header and in the body.
func TestUnknownTagsAreSkipped(t *testing.T) {
	s := sending(open(t, access(t, listen(t, nil, func(l *link) {
		l.answerVersions()
		r, err := l.next()
		if err != nil {
			return
		}
		body := produced(7)
		body.SetVersion(r.version)
		body.UnknownTags.Set(90, []byte("body"))
		f := r.frameOf(body.AppendTo(nil))
		f = append(f[:8], append([]byte{2, 1, 3, 'a', 'b', 'c', 60, 0}, f[9:]...)...)
		binary.BigEndian.PutUint32(f, uint32(len(f)-4))
		_, _ = l.Write(f)
		l.answerAll()
	}), config.Cluster{})))
	s.must(t, pattern(1, 100))
	if o := s.next(t); o.offset != 7 || o.err != nil {
		t.Errorf("the request ended as %+v", o)
	}
}

// Whatever the sizes of batches are, and wherever the parts of a request end, the broker gets what kmsg would send.
func TestRequestsArriveAsTheyAre(t *testing.T) {
	overBoth(t, func(t *testing.T, listen func(func(*link)) Access) {
		frames := make(chan []byte, 10)
		lines := open(t, listen(func(l *link) {
			l.answerVersions()
			for {
				r, err := l.next()
				if err != nil {
					return
				}
				frames <- r.frame
				l.answer(r, produced(0))
			}
		}))
		number, format := int32(1), kmsg.NewRequestFormatter(kmsg.FormatterClientID("milena"))
		for name, request := range produceRequests() {
			ended := make(chan error, 1)
			if err := sendOn(t.Context(), lines, 1, request, func(_ *kmsg.ProduceResponse, err error) { ended <- err }); err != nil {
				t.Fatal(err)
			}
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(<-frames, format.AppendRequest(nil, request, number)) {
				t.Errorf("%s: the request arrived with other bytes", name)
			}
			number++
		}
	})
}

// The caller may write over the batches as soon as Send has returned.
func TestBatchesAreFreeAfterSend(t *testing.T) {
	overBoth(t, func(t *testing.T, listen func(func(*link)) Access) {
		const count = 20
		arrived := make(chan []byte, count)
		s := sending(open(t, listen(func(l *link) {
			l.answerVersions()
			for {
				r, err := l.next()
				if err != nil {
					return
				}
				if request, err := r.decode(); err == nil {
					arrived <- request.(*kmsg.ProduceRequest).Topics[0].Partitions[0].Records
				}
				l.answer(r, produced(0))
			}
		})))
		batch := make([]byte, 600<<10)
		for i := range count {
			copy(batch, pattern(byte(i), 500+i*29_000))
			s.must(t, batch[:500+i*29_000])
			clear(batch)
		}
		for i := range count {
			if o := s.next(t); o.err != nil {
				t.Fatal(o.err)
			}
			if got := <-arrived; !bytes.Equal(got, pattern(byte(i), 500+i*29_000)) {
				t.Fatalf("batch %d arrived with other bytes", i)
			}
		}
	})
}

// A request in flight does not keep its batches in memory, which may be gigabytes over a long way.
func TestARequestInFlightHoldsNoBatch(t *testing.T) {
	overBoth(t, func(t *testing.T, listen func(func(*link)) Access) {
		arrived, proceed := make(chan struct{}), make(chan struct{})
		s := sending(open(t, listen(func(l *link) {
			l.answerVersions()
			if r, err := l.next(); err == nil {
				close(arrived)
				<-proceed
				l.answer(r, produced(0))
			}
		})))
		defer close(proceed)
		batch := new([100_000]byte)
		p := weak.Make(batch)
		s.must(t, batch[:])
		<-arrived
		runtime.GC()
		if p.Value() != nil {
			t.Error("the batch of a request that was sent is kept")
		}
	})
}

// guards refuses from the nth question on about a produce request.
type guards struct {
	from  int
	mu    sync.Mutex
	asked []kmsg.Key
}

func (g *guards) permit(key kmsg.Key) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked = append(g.asked, key)
	produce := 0
	for _, k := range g.asked {
		if k == kmsg.Produce {
			produce++
		}
	}
	if key == kmsg.Produce && produce >= g.from {
		return errRefused
	}
	return nil
}

// A request that the guard refuses, at its beginning or before any of its parts, reaches no broker as a whole. All requests in flight end, and the
// connection is closed.
func TestTheGuardIsAskedBeforeEachPart(t *testing.T) {
	for _, test := range []struct {
		name            string
		from            int // the first question that is refused; the first request is one question
		size, mostBytes int
	}{
		{"before any byte", 2, 100, 0},
		{"before the first part", 2, 2 << 20, 0},
		{"before the second part", 3, 2 << 20, guardedPart},
		{"in the middle", 6, 2 << 20, 4 * guardedPart},
		{"before the last part", 10, 2 << 20, 8 * guardedPart},
	} {
		t.Run(test.name, func(t *testing.T) {
			overBoth(t, func(t *testing.T, listen func(func(*link)) Access) {
				g := &guards{from: test.from}
				rest := make(chan int, 1)
				a := listen(func(l *link) {
					l.answerVersions()
					if _, err := l.next(); err != nil { // is not answered
						return
					}
					n, _ := io.Copy(io.Discard, l.in)
					rest <- int(n)
				})
				a.Guard = g.permit
				s := sending(open(t, a))
				s.must(t, pattern(1, 100))
				s.must(t, pattern(2, test.size))
				for i := range 2 {
					if o := s.next(t); o.request != i || !errors.Is(o.err, errRefused) {
						t.Errorf("request %d ended as number %d with %v", o.request, i, o.err)
					}
				}
				if n := <-rest; n > test.mostBytes {
					t.Errorf("the broker received %d bytes of the refused request, want at most %d", n, test.mostBytes)
				}
				if g.asked[0] != kmsg.ApiVersions || len(g.asked) != 1+test.from {
					t.Errorf("the guard was asked about %v", g.asked)
				}
			})
		})
	}
}

// A response may arrive while its request is still being written. The guard is then asked about the right request all the same.
func TestTheGuardIsAskedAboutTheRequestThatIsWritten(t *testing.T) {
	overBoth(t, func(t *testing.T, listen func(func(*link)) Access) {
		g := &guards{from: 1000}
		first := make(chan struct{})
		a := listen(func(l *link) {
			l.answerVersions()
			frame, err := l.in.Peek(12) // length and header
			if err != nil {
				return
			}
			early := received{key: kmsg.Produce.Int16(), version: 13, number: int32(binary.BigEndian.Uint32(frame[8:]))}
			l.answer(early, produced(0))
			<-first
			_, _ = io.Copy(io.Discard, l.in)
		})
		a.Guard = g.permit
		lines := open(t, a)
		request := NewProduceRequest(time.Second)
		request.Add(topicPartition, topicID, make([]byte, 16<<20))
		if err := sendOn(t.Context(), lines, 1, request, func(*kmsg.ProduceResponse, error) { close(first) }); err != nil {
			t.Fatal(err)
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		for _, key := range g.asked[1:] {
			if key != kmsg.Produce {
				t.Fatalf("the guard was asked about %v", key)
			}
		}
	})
}
