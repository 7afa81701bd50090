package wire

import (
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// inBubble runs a test with lines that are connected to a broker by a pipe, where time passes as soon as everybody waits. A pipe holds no bytes: a write
// lasts until the broker has read.
func inBubble(t *testing.T, broker func(*link), test func(t *testing.T, lines *Lines, l *line)) {
	t.Helper()
	for _, plain := range []bool{true, false} {
		name := "TLS"
		if plain {
			name = "plain"
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				lines, l := piped(ours, plain)
				var running sync.WaitGroup
				running.Go(func() {
					broker(newLink(theirs))
					_, _ = io.Copy(io.Discard, theirs)
				})
				test(t, lines, l)
				lines.Close()
				running.Wait()
			})
		})
	}
}

// piped returns lines whose connection to broker 1 is open, and this connection.
func piped(conn net.Conn, plain bool) (*Lines, *line) {
	lines := NewLines(Access{
		Address: func(int32) string { return "" },
		Observe: func(string, time.Duration, error) {},
		Buffers: &Buffers{},
	})
	l := newLine(&lines.access, kgo.BrokerMetadata{NodeID: 1}, "broker:9092", conn)
	l.plain = plain
	l.versions = map[int16]int16{0: 13, 1: 18}
	lines.byBroker[1] = &brokerLine{line: l}
	return lines, l
}

// fails checks that the next request ends after this time since began, with this error.
func (s *sends) fails(t *testing.T, began time.Time, after time.Duration, want string) {
	t.Helper()
	o := s.next(t)
	if o.err == nil || !strings.Contains(o.err.Error(), want) {
		t.Errorf("request %d ended with %v, want %q", o.request, o.err, want)
	}
	if took := time.Since(began); took != after {
		t.Errorf("request %d ended after %s, want %s", o.request, took, after)
	}
}

// succeeds checks that the next request is answered.
func (s *sends) succeeds(t *testing.T) {
	t.Helper()
	select {
	case o := <-s.ended:
		if o.err != nil {
			t.Errorf("request %d: %v", o.request, o.err)
		}
	case <-time.After(10 * time.Minute):
		t.Fatal("a request does not end")
	}
}

const producePatience = 10*time.Second + responseOverhead

// discard reads what arrives and answers nothing.
func discard(l *link) { _, _ = io.Copy(io.Discard, l) }

func TestABrokerThatNeverAnswers(t *testing.T) {
	inBubble(t, discard, func(t *testing.T, lines *Lines, l *line) {
		s, began := sending(lines), time.Now()
		s.must(t, pattern(1, 100))
		s.must(t, pattern(1, 1<<20))
		s.fails(t, began, producePatience, "no response to a Produce request for 12.5s")
		s.fails(t, began, producePatience, "no response to a Produce request for 12.5s")
		if l.isOpen() {
			t.Error("the connection is open")
		}
	})
}

// More requests give a broker that hangs no more time.
func TestABrokerThatNeverAnswersRequestsThatGoOn(t *testing.T) {
	inBubble(t, discard, func(t *testing.T, lines *Lines, _ *line) {
		s, began := sending(lines), time.Now()
		for range 12 {
			s.must(t, pattern(1, 100))
			time.Sleep(time.Second)
		}
		s.fails(t, began, producePatience, "no response")
	})
}

func TestABrokerThatStopsReading(t *testing.T) {
	for name, read := range map[string]int{"at the first request": 0, "at the second request": 1} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(l *link) {
				for range read {
					if _, err := l.next(); err != nil {
						return
					}
				}
				<-time.After(time.Minute)
			}, func(t *testing.T, lines *Lines, _ *line) {
				s, began := sending(lines), time.Now()
				for range read + 1 {
					s.must(t, pattern(1, 1<<20)) // until the connection is closed
				}
				for range read + 1 {
					s.fails(t, began, producePatience, "no response")
				}
				s.none(t)
			})
		})
	}
}

// Requests that wait for each other, for minutes, make the way to the broker no longer.
func TestTheRoundTripIsWithoutQueues(t *testing.T) {
	inBubble(t, func(l *link) {
		arrived := make(chan received, 100)
		var answering sync.WaitGroup
		answering.Go(func() {
			for r := range arrived {
				time.Sleep(time.Second)
				l.answer(r, produced(0))
			}
		})
		defer answering.Wait()
		defer close(arrived)
		for {
			r, err := l.next()
			if err != nil {
				return
			}
			arrived <- r
		}
	}, func(t *testing.T, lines *Lines, _ *line) {
		s := sending(lines)
		for range 5 {
			s.must(t, pattern(1, 100))
		}
		for began := time.Now(); time.Since(began) < 5*tripWindow; {
			s.succeeds(t)
			s.must(t, pattern(1, 100))
		}
		if trip := lines.RoundTrip(1); trip != time.Second {
			t.Errorf("the round trip takes %s", trip)
		}
	})
}

// A broker reads nothing while it works at a request. What is written waits for all requests before it, for as long as each of them is answered in time.
func TestAWriteWaitsForTheRequestsBeforeIt(t *testing.T) {
	const before = 10
	inBubble(t, func(l *link) {
		var all []received
		for range before {
			r, err := l.next()
			if err != nil {
				return
			}
			all = append(all, r)
		}
		for i, r := range all {
			time.Sleep(10 * time.Second)
			l.answer(r, produced(int64(i)))
		}
		l.answerAll()
	}, func(t *testing.T, lines *Lines, _ *line) {
		s := sending(lines)
		for range before + 1 {
			s.must(t, pattern(1, 100))
		}
		for range before + 1 {
			s.succeeds(t)
		}
	})
}

// A broker reads nothing from a connection that it mutes because of a quota. That takes as long as it says, whether a request is written then or later.
func TestAMuteIsNoTimeout(t *testing.T) {
	for name, during := range map[string]bool{"before the request": false, "while it is written": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(l *link) {
				first, err := l.next()
				if err != nil {
					return
				}
				if during {
					time.Sleep(time.Second) // the second request begins
				}
				response := produced(0)
				response.ThrottleMillis = 60_000
				l.answer(first, response)
				time.Sleep(time.Minute)
				second, err := l.next()
				if err != nil {
					return
				}
				time.Sleep(5 * time.Second)
				l.answer(second, produced(1))
			}, func(t *testing.T, lines *Lines, _ *line) {
				s := sending(lines)
				s.must(t, pattern(1, 100))
				if !during {
					s.succeeds(t)
				}
				s.must(t, pattern(1, 1<<20))
				if during {
					s.succeeds(t)
				}
				s.succeeds(t)
			})
		})
	}
}

func TestAnIdleConnectionIsClosed(t *testing.T) {
	inBubble(t, (*link).answerAll, func(t *testing.T, lines *Lines, l *line) {
		s := sending(lines)
		for range 2 {
			s.must(t, pattern(1, 100))
			s.succeeds(t)
			time.Sleep(idleAfter - time.Second)
			synctest.Wait()
			if !l.isOpen() {
				t.Fatal("the connection is closed before it was idle for long enough")
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if l.isOpen() {
			t.Error("the connection is open")
		}
	})
}

// A large response over a slow way takes its time, as long as bytes arrive.
func TestASlowResponse(t *testing.T) {
	tests := []struct {
		name              string
		wait, pause, last time.Duration // before the response, between its parts, and before the last one
		want              string
	}{
		{"steady", 0, 2 * time.Second, 2 * time.Second, ""},
		{"late", producePatience - time.Second, 2 * time.Second, 2 * time.Second, ""},
		{"it stops", 0, 2 * time.Second, 3 * time.Second, "no response"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, func(l *link) {
				r, err := l.next()
				if err != nil {
					return
				}
				response := produced(0)
				response.UnknownTags.Set(100, pattern(0, 100_000))
				frame := r.response(response)
				time.Sleep(test.wait)
				_, _ = l.Write(frame[:8])
				for frame = frame[8:]; len(frame) > 5000; frame = frame[5000:] {
					time.Sleep(test.pause)
					_, _ = l.Write(frame[:5000])
				}
				time.Sleep(test.last)
				_, _ = l.Write(frame)
			}, func(t *testing.T, lines *Lines, _ *line) {
				s := sending(lines)
				s.must(t, pattern(1, 100))
				select {
				case o := <-s.ended:
					if test.want == "" && o.err != nil || test.want != "" && (o.err == nil || !strings.Contains(o.err.Error(), test.want)) {
						t.Errorf("the request ended with %v, want %q", o.err, test.want)
					}
				case <-time.After(time.Hour):
					t.Error("the request does not end")
				}
			})
		})
	}
}

// Who processes a response for long, or a host that was asleep then, takes that time from no other request.
func TestTheEndOfARequestMayTakeLong(t *testing.T) {
	inBubble(t, (*link).answerAll, func(t *testing.T, lines *Lines, l *line) {
		l.sendAndSleep(t, time.Minute)
		s := sending(lines)
		s.must(t, pattern(1, 100))
		s.succeeds(t)
	})
}

// sendAndSleep sends a request whose end takes a while, and does not wait for it.
func (l *line) sendAndSleep(t *testing.T, d time.Duration) {
	t.Helper()
	request := NewProduceRequest(10 * time.Second)
	request.Add(topicPartition, topicID, pattern(1, 100))
	if err := l.send(t.Context(), request, receiver{
		response: func(int16, *buffer) (int32, error) { return 0, nil },
		done:     func(error) { time.Sleep(d) },
	}); err != nil {
		t.Fatal(err)
	}
}

// stubborn is a connection whose Write goes on for a while after Close.
type stubborn struct {
	net.Conn
	broker  net.Conn // its other end, which is closed during Write
	closed  chan struct{}
	writing atomic.Bool
}

func (s *stubborn) Write([]byte) (int, error) {
	s.writing.Store(true)
	defer s.writing.Store(false)
	_ = s.broker.Close()
	<-s.closed
	<-time.After(20 * time.Millisecond)
	return 0, net.ErrClosed
}

func (s *stubborn) Close() error {
	close(s.closed)
	return s.Conn.Close()
}

// When a connection ends while a request is written, its end is told when nothing reads its batch any more: the batch gets a new sequence then.
func TestNoBatchIsReadAfterItsEnd(t *testing.T) {
	ours, theirs := net.Pipe()
	conn := &stubborn{Conn: ours, broker: theirs, closed: make(chan struct{})}
	lines, _ := piped(conn, true)
	request := NewProduceRequest(10 * time.Second)
	request.Add(topicPartition, topicID, pattern(1, 100))
	ended := make(chan bool, 1)
	err := sendOn(t.Context(), lines, 1, request, func(*kmsg.ProduceResponse, error) { ended <- conn.writing.Load() })
	if err != nil {
		t.Fatal(err)
	}
	if <-ended {
		t.Error("the request is still being written")
	}
}
