package wire

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
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
			if err := sendOn(t.Context(), lines, 1, produce, func(r *kmsg.ProduceResponse, err error) {
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
	if err := sendOn(t.Context(), lines, 0, produce, func(r *kmsg.ProduceResponse, err error) {
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
