package wire

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
)

// sessions is a broker side of KIP-368 whose sessions have a lifetime. Like Kafka's, it closes a connection that is used after the end of its session,
// and takes no other request between the handshake and the end of a login.
type sessions struct {
	t        *testing.T
	lifetime time.Duration
	logins   atomic.Int32
	inFlight atomic.Int32
	// login is called for each login but the first of a connection, nil for one that succeeds. It reports whether the connection goes on.
	login func(*link, received) bool
}

// firstLogin answers the requests with which a connection begins.
func (s *sessions) firstLogin(l *link) {
	l.answerVersions()
	if r, err := l.next(); err == nil {
		l.answer(r, kmsg.NewPtrSASLHandshakeResponse())
	}
	if r, err := l.next(); err == nil {
		l.answer(r, s.success())
	}
}

func (s *sessions) success() *kmsg.SASLAuthenticateResponse {
	response := kmsg.NewPtrSASLAuthenticateResponse()
	response.SessionLifetimeMillis = s.lifetime.Milliseconds()
	return response
}

func (s *sessions) run(l *link) {
	l.answerVersions()
	answers := make(chan received, 10_000)
	defer close(answers)
	go func() {
		n := int64(0)
		for r := range answers {
			s.inFlight.Add(-1)
			l.answer(r, produced(n))
			n++
		}
	}()
	var end time.Time
	for logins := 0; ; {
		r, err := l.next()
		switch {
		case err != nil:
			return
		case kmsg.Key(r.key) != kmsg.SASLHandshake && time.Now().After(end):
			s.t.Error("a session was used after its end")
			return
		case kmsg.Key(r.key) != kmsg.SASLHandshake:
			s.inFlight.Add(1)
			answers <- r
			continue
		}
		if n := s.inFlight.Load(); n > 0 {
			s.t.Errorf("a login begins while %d requests are in flight", n)
		}
		l.answer(r, kmsg.NewPtrSASLHandshakeResponse())
		if r, err = l.next(); err != nil {
			return
		}
		if kmsg.Key(r.key) != kmsg.SASLAuthenticate {
			s.t.Errorf("%s during a login", kmsg.Key(r.key).Name())
			return
		}
		s.logins.Add(1)
		if logins++; logins > 1 && s.login != nil && !s.login(l, r) {
			return
		}
		end = time.Now().Add(s.lifetime)
		l.answer(r, s.success())
	}
}

func plainSASL() config.Cluster {
	return config.Cluster{SASL: &config.SASL{Mechanism: "PLAIN", Username: "u", Password: "secret"}}
}

// expire makes the next request renew the session of the connection to a broker.
func expire(lines *Lines, broker int32) {
	l := lines.byBroker[broker].line
	l.writing.Lock()
	defer l.writing.Unlock()
	l.expires = time.Now()
}

// Requests never pause, and sessions end all the time.
func TestSessionsAreRenewed(t *testing.T) {
	overBoth(t, func(t *testing.T, listen func(func(*link)) Access) {
		t.Parallel()
		broker := &sessions{t: t, lifetime: time.Second}
		a := listen(broker.run)
		a.SASL = access(t, "", plainSASL()).SASL
		s := sending(open(t, a))
		const ahead = 20
		for range ahead {
			s.must(t, pattern(1, 100))
		}
		for broker.logins.Load() < 3 {
			s.must(t, pattern(1, 100))
			if o := s.next(t); o.err != nil || o.offset != int64(o.request) {
				t.Fatalf("request %d ended as %+v", o.request, o)
			}
		}
		for range ahead {
			if o := s.next(t); o.err != nil {
				t.Fatal(o.err)
			}
		}
		if l := s.lines.byBroker[1].line; !l.isOpen() {
			t.Error("the connection was replaced")
		}
	})
}

// A fake cluster has rules of its own for a second login.
func TestSessionsOfAClusterAreRenewed(t *testing.T) {
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256"} {
		a, fake := cluster(
			t, config.Cluster{SASL: &config.SASL{Mechanism: mechanism, Username: "u", Password: "secret"}}, kfake.EnableSASL(),
			kfake.Superuser(mechanism, "u", "secret"), kfake.BrokerConfigs(map[string]string{"connections.max.reauth.ms": "3600000"}),
		)
		var logins atomic.Int32
		fake.ControlKey(kmsg.SASLHandshake.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
			fake.KeepControl()
			logins.Add(1)
			return nil, nil, false
		})
		lines := open(t, a)
		for want := range int32(3) {
			copyRecord(t, lines)
			if n := logins.Load(); n != want+1 {
				t.Errorf("%s: %d logins, want %d", mechanism, n, want+1)
			}
			expire(lines, 0)
		}
	}
}

func TestASessionIsRenewedBeforeItsEnd(t *testing.T) {
	now := time.Now()
	for lifetime, want := range map[time.Duration]time.Duration{
		0: 0, 500 * time.Millisecond: 250 * time.Millisecond, time.Second: 500 * time.Millisecond, 3 * time.Second: 2 * time.Second, 10 * time.Second: 9 * time.Second,
		time.Hour: 54 * time.Minute,
	} {
		l := &line{expires: now.Add(-time.Hour)}
		l.setExpiry(now, lifetime)
		if lifetime == 0 && !l.expires.IsZero() || lifetime > 0 && l.expires.Sub(now) != want {
			t.Errorf("a session of %s is renewed after %s, want %s", lifetime, l.expires.Sub(now), want)
		}
	}
}

// A session that cannot be renewed ends the connection. The next request has a new one.
func TestASessionThatIsNotRenewed(t *testing.T) {
	for name, test := range map[string]struct {
		login func(*link, received) bool
		is    error
	}{
		"refused": {func(l *link, r received) bool {
			response := kmsg.NewPtrSASLAuthenticateResponse()
			response.ErrorCode, response.ErrorMessage = kerr.SaslAuthenticationFailed.Code, kmsg.StringPtr("no more")
			l.answer(r, response)
			return false
		}, kerr.SaslAuthenticationFailed},
		"closed": {func(*link, received) bool { return false }, io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			broker := &sessions{t: t, lifetime: time.Hour, login: test.login}
			s := sending(open(t, access(t, listen(t, nil, broker.run), plainSASL())))
			for range 3 {
				s.must(t, pattern(1, 100))
				expire(s.lines, 1)
				if err := s.send(t, pattern(1, 100)); !errors.Is(err, test.is) {
					t.Errorf("Send returned %v, want %v", err, test.is)
				}
				if o := s.next(t); o.err != nil {
					t.Errorf("the request before it ended as %+v", o)
				}
				s.none(t)
			}
			if n := broker.logins.Load(); n != 6 {
				t.Errorf("%d logins, want two for each of three connections", n)
			}
		})
	}
}

// A session is to be renewed, but the request before it is never answered: the connection has ended.
func TestABrokerThatDiesBeforeARenewal(t *testing.T) {
	waits := make(chan struct{})
	s := sending(open(t, access(t, listen(t, nil, func(l *link) {
		(&sessions{t: t, lifetime: time.Hour}).firstLogin(l)
		if _, err := l.next(); err == nil {
			<-waits
		}
	}), plainSASL())))
	s.must(t, pattern(1, 100))
	expire(s.lines, 1)
	request := NewProduceRequest(time.Second)
	request.Add(topicPartition, topicID, pattern(1, 100))
	ctx := &noticed{Context: t.Context(), waits: waits}
	if err := sendOn(ctx, s.lines, 1, request, nil); !errors.Is(err, io.EOF) || strings.Contains(err.Error(), "SASL") {
		t.Errorf("Send returned %v", err)
	}
	if o := s.next(t); o.request != 0 || !errors.Is(o.err, io.EOF) {
		t.Errorf("the request before it ended as %+v", o)
	}
	s.none(t)
}

// Who waits for a login, or for the responses before it, gives up when its context ends.
func TestARenewalThatHangs(t *testing.T) {
	for name, answered := range map[string]bool{"in the login": true, "in the requests before it": false} {
		t.Run(name, func(t *testing.T) {
			s := sending(open(t, access(t, listen(t, nil, func(l *link) {
				(&sessions{t: t, lifetime: time.Hour}).firstLogin(l)
				if r, err := l.next(); err == nil && answered {
					l.answer(r, produced(0))
				}
				_, _ = io.Copy(io.Discard, l.in)
			}), plainSASL())))
			s.must(t, pattern(1, 100))
			if answered {
				if o := s.next(t); o.err != nil {
					t.Fatal(o.err)
				}
			}
			expire(s.lines, 1)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			request := NewProduceRequest(time.Second)
			request.Add(topicPartition, topicID, pattern(1, 100))
			if err := sendOn(ctx, s.lines, 1, request, nil); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Send returned %v", err)
			}
			if open := s.lines.byBroker[1].line.isOpen(); open == answered {
				t.Errorf("the connection is open: %v", open) // in the middle of a login it is of no use any more
			}
		})
	}
}
