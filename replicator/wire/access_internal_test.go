package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/kafkatest"
)

// Old brokers know only version 0 of the request for versions, and answer any other one in that version.
func TestVersionsOfAnOldBroker(t *testing.T) {
	apiVersions := kmsg.NewApiVersionsResponseApiKey()
	apiVersions.ApiKey, apiVersions.MaxVersion = kmsg.ApiVersions.Int16(), 2
	for name, refused := range map[string]struct {
		keys  []kmsg.ApiVersionsResponseApiKey
		again bool // is the request sent again?
	}{
		"before 2.4":              {nil, true},
		"since 2.4":               {[]kmsg.ApiVersionsResponseApiKey{apiVersions}, true},
		"with all that it offers": {newLink(nil).supported().ApiKeys, false},
	} {
		t.Run(name, func(t *testing.T) {
			asked := make(chan int16, 10)
			s := sending(open(t, access(t, listen(t, nil, func(l *link) {
				for refuse := true; ; refuse = false {
					r, err := l.next()
					if err != nil {
						return
					}
					asked <- r.version
					response := l.supported()
					if refuse {
						response.ErrorCode, response.ApiKeys = kerr.UnsupportedVersion.Code, refused.keys
					}
					r.version = 0
					l.answer(r, response)
					if !refuse || !refused.again {
						break
					}
				}
				l.answerAll()
			}), config.Cluster{})))
			s.must(t, pattern(1, 100))
			if o := s.next(t); o.err != nil {
				t.Error(o.err)
			}
			if got := <-asked; got != 3 {
				t.Errorf("the first request has version %d", got)
			}
			if refused.again {
				if got := <-asked; got != 0 {
					t.Errorf("the second request has version %d", got)
				}
			}
		})
	}
}

// A request has the newest version that both sides support, and that suits its topics.
func TestVersionsAreThoseOfBothSides(t *testing.T) {
	for _, test := range []struct {
		name                            string
		brokerProduce, brokerFetch      int16
		id                              [16]byte
		producedVersion, fetchedVersion int16
	}{
		{"an old broker", 3, 4, topicID, 3, 4},
		{"the last versions by name", 12, 12, topicID, 12, 12},
		{"the same versions", 13, 18, topicID, 13, 18},
		{"a newer broker", 20, 30, topicID, 13, 18},
		{"a topic without id", 20, 30, [16]byte{}, 12, 12},
	} {
		t.Run(test.name, func(t *testing.T) {
			asked := make(chan received, 2)
			lines := open(t, access(t, listen(t, nil, func(l *link) {
				l.versions[kmsg.Produce], l.versions[kmsg.Fetch] = test.brokerProduce, test.brokerFetch
				l.answerVersions()
				for {
					r, err := l.next()
					if err != nil {
						return
					}
					asked <- r
					if r.key == kmsg.Fetch.Int16() {
						l.answer(r, fetched(pattern(1, 50)))
					} else {
						l.answer(r, produced(5))
					}
				}
			}), config.Cluster{}))
			produce := NewProduceRequest(time.Second)
			produce.Add(topicPartition, test.id, pattern(1, 100))
			ended := make(chan error, 1)
			if err := lines.Send(t.Context(), 1, produce, func(r *kmsg.ProduceResponse, err error) {
				if err == nil && r.Version != test.producedVersion {
					t.Errorf("the response has version %d", r.Version)
				}
				ended <- err
			}); err != nil {
				t.Fatal(err)
			}
			fetch := NewFetchRequest(time.Second, 1000, ReadCommitted)
			fetch.Add(FetchPartition{topicPartition, FetchOffset{TopicID: test.id, MaxBytes: 1000}})
			response, err := lines.Fetch(t.Context(), 1, fetch)
			if err != nil {
				t.Fatal(err)
			}
			if got := response.Topics[0].Partitions[0].RecordBatches; response.Version != test.fetchedVersion || !bytes.Equal(got, pattern(1, 50)) {
				t.Errorf("the response has version %d and %d bytes", response.Version, len(got))
			}
			response.Release()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			for _, want := range []int16{test.producedVersion, test.fetchedVersion} {
				r := <-asked
				if r.version != want {
					t.Errorf("%s has version %d, want %d", kmsg.Key(r.key).Name(), r.version, want)
				}
				if _, err := r.decode(); err != nil {
					t.Errorf("%s: %v", kmsg.Key(r.key).Name(), err)
				}
			}
		})
	}
	t.Run("an unknown request", func(t *testing.T) {
		s := sending(open(t, access(t, listen(t, nil, func(l *link) {
			delete(l.versions, kmsg.Produce)
			l.answerVersions()
			l.answerAll()
		}), config.Cluster{})))
		if err := s.send(t, nil); err == nil || !strings.Contains(err.Error(), "does not support Produce requests") {
			t.Errorf("Send returned %v", err)
		}
		s.none(t)
	})
}

// cluster is a fake cluster with a record in topic a, and an empty topic b.
func cluster(t *testing.T, c config.Cluster, opts ...kfake.Opt) (Access, *kfake.Cluster) {
	t.Helper()
	fake := kafkatest.New(t, append(opts, kfake.SeedTopics(1, "a", "b"))...)
	c.Brokers = fake.ListenAddrs()
	options, err := client.Options(c, &client.Dials{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(append(options, kgo.DefaultProduceTopic("a"))...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(t.Context(), kgo.StringRecord("hello")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	return access(t, c.Brokers[0], c), fake
}

// read fetches partition 0 of a topic.
func read(t *testing.T, lines *Lines, topic string) ([]byte, error) {
	t.Helper()
	fetch := NewFetchRequest(time.Second, 1<<20, ReadCommitted)
	fetch.Add(FetchPartition{offsets.TopicPartition{Topic: topic}, FetchOffset{LeaderEpoch: -1, LastEpoch: -1, MaxBytes: 1 << 20}})
	response, err := lines.Fetch(t.Context(), 0, fetch)
	if err != nil {
		return nil, err
	}
	defer response.Release()
	p := response.Topics[0].Partitions[0]
	return bytes.Clone(p.RecordBatches), kerr.ErrorForCode(p.ErrorCode)
}

// copyRecord copies the record of topic a to topic b, and checks that it is there.
func copyRecord(t *testing.T, lines *Lines) {
	t.Helper()
	batch, err := read(t, lines, "a")
	if err != nil || len(batch) == 0 {
		t.Fatalf("topic a has %d bytes: %v", len(batch), err)
	}
	produce := NewProduceRequest(time.Second)
	produce.Add(offsets.TopicPartition{Topic: "b"}, [16]byte{}, batch)
	ended := make(chan error, 1)
	if err := lines.Send(t.Context(), 0, produce, func(r *kmsg.ProduceResponse, err error) {
		if err == nil {
			err = kerr.ErrorForCode(r.Topics[0].Partitions[0].ErrorCode)
		}
		ended <- err
	}); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if copied, err := read(t, lines, "b"); err != nil || !bytes.Contains(copied, []byte("hello")) {
		t.Errorf("topic b has %q: %v", copied, err)
	}
}

func TestABatchIsCopied(t *testing.T) {
	server, trusted := certificate(t)
	sasl := func(mechanism string) *config.SASL {
		return &config.SASL{Mechanism: mechanism, Username: "u", Password: "secret"}
	}
	user := func(mechanism string) []kfake.Opt {
		return []kfake.Opt{kfake.EnableSASL(), kfake.Superuser(mechanism, "u", "secret")}
	}
	for name, test := range map[string]struct {
		cluster config.Cluster
		opts    []kfake.Opt
	}{
		"version 0.11":               {config.Cluster{}, []kfake.Opt{kfake.MaxVersions(kversion.V0_11_0())}},
		"version 2.0":                {config.Cluster{}, []kfake.Opt{kfake.MaxVersions(kversion.V2_0_0())}},
		"version 3.0":                {config.Cluster{}, []kfake.Opt{kfake.MaxVersions(kversion.V3_0_0())}},
		"newest version":             {config.Cluster{}, nil},
		"TLS":                        {config.Cluster{TLS: trusted}, []kfake.Opt{kfake.TLS(server)}},
		"PLAIN":                      {config.Cluster{SASL: sasl("PLAIN")}, user("PLAIN")},
		"PLAIN over TLS":             {config.Cluster{TLS: trusted, SASL: sasl("PLAIN")}, append(user("PLAIN"), kfake.TLS(server))},
		"SCRAM-SHA-256":              {config.Cluster{SASL: sasl("SCRAM-SHA-256")}, user("SCRAM-SHA-256")},
		"SCRAM-SHA-512 over TLS":     {config.Cluster{TLS: trusted, SASL: sasl("SCRAM-SHA-512")}, append(user("SCRAM-SHA-512"), kfake.TLS(server))},
		"SCRAM-SHA-512 of Kafka 2.0": {config.Cluster{SASL: sasl("SCRAM-SHA-512")}, append(user("SCRAM-SHA-512"), kfake.MaxVersions(kversion.V2_0_0()))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, _ := cluster(t, test.cluster, test.opts...)
			copyRecord(t, open(t, a))
		})
	}
}

func TestConnectionsThatCannotBegin(t *testing.T) {
	server, trusted := certificate(t)
	wrong := &config.SASL{Mechanism: "PLAIN", Username: "u", Password: "wrong"}
	withSASL := func(mechanism string) []kfake.Opt {
		return []kfake.Opt{kfake.EnableSASL(), kfake.Superuser(mechanism, "u", "secret")}
	}
	for name, test := range map[string]struct {
		opts    []kfake.Opt
		cluster config.Cluster
		is      error
		want    string
	}{
		"wrong password":           {withSASL("PLAIN"), config.Cluster{SASL: wrong}, kerr.SaslAuthenticationFailed, `the broker rejected user "u"`},
		"wrong password, over TLS": {append(withSASL("PLAIN"), kfake.TLS(server)), config.Cluster{TLS: trusted, SASL: wrong}, kerr.SaslAuthenticationFailed, `the broker rejected user "u"`},
		"wrong password, SCRAM": {
			withSASL("SCRAM-SHA-256"),
			config.Cluster{SASL: &config.SASL{Mechanism: "SCRAM-SHA-256", Username: "u", Password: "wrong"}},
			kerr.SaslAuthenticationFailed, `the broker rejected user "u"`,
		},
		"other mechanism": {withSASL("SCRAM-SHA-256"), config.Cluster{SASL: wrong}, nil, ""},
		"TLS missing":     {[]kfake.Opt{kfake.TLS(server)}, config.Cluster{}, nil, "add a tls section"},
		"unknown CA":      {[]kfake.Opt{kfake.TLS(server)}, config.Cluster{TLS: &config.TLS{}}, nil, "not signed by a CA"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake := kafkatest.New(t, test.opts...)
			if test.is != nil { // a fake cluster closes the connection instead
				fake.ControlKey(kmsg.SASLAuthenticate.Int16(), func(request kmsg.Request) (kmsg.Response, error, bool) {
					fake.KeepControl()
					response := request.ResponseKind().(*kmsg.SASLAuthenticateResponse)
					response.ErrorCode = kerr.SaslAuthenticationFailed.Code
					return response, nil, true
				})
			}
			test.cluster.Brokers = fake.ListenAddrs()
			lines := open(t, access(t, test.cluster.Brokers[0], test.cluster))
			for range 2 { // nothing remains of the first attempt
				_, err := read(t, lines, "a")
				if err == nil || test.is != nil && !errors.Is(err, test.is) {
					t.Fatalf("the error is %v", err)
				}
				if explained := client.Explain(err, "A", test.cluster).Error(); !strings.Contains(explained, test.want) {
					t.Errorf("%s, want %s", explained, test.want)
				}
			}
		})
	}
	t.Run("unknown broker", func(t *testing.T) {
		lines := open(t, access(t, "", config.Cluster{}))
		if _, err := read(t, lines, "a"); err == nil || !strings.Contains(err.Error(), "the address of broker 0 is unknown") {
			t.Errorf("the error is %v", err)
		}
	})
	t.Run("connection refused", func(t *testing.T) {
		lines := open(t, access(t, "127.0.0.1:1", config.Cluster{Brokers: []string{"127.0.0.1:1"}}))
		_, err := read(t, lines, "a")
		if err == nil || !strings.Contains(client.Explain(err, "A", config.Cluster{}).Error(), "connection refused") {
			t.Errorf("the error is %v", err)
		}
	})
}

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
	if err := s.lines.Send(ctx, 1, request, nil); !errors.Is(err, io.EOF) || strings.Contains(err.Error(), "SASL") {
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
			if err := s.lines.Send(ctx, 1, request, nil); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Send returned %v", err)
			}
			if open := s.lines.byBroker[1].line.isOpen(); open == answered {
				t.Errorf("the connection is open: %v", open) // in the middle of a login it is of no use any more
			}
		})
	}
}
