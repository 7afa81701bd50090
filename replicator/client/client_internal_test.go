package client

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator/kafkatest"
)

// testCA is a CA that signs certificates for 127.0.0.1 and writes them as PEM files into one directory.
type testCA struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newTestCA(t *testing.T) *testCA {
	t.Helper()
	ca := &testCA{dir: t.TempDir()}
	ca.cert, ca.key = ca.sign(t, "ca", nil)
	return ca
}

func (ca *testCA) file(name string) string { return filepath.Join(ca.dir, name) }

// sign creates <name>.pem and <name>.key; change may modify the template first.
func (ca *testCA) sign(t *testing.T, name string, change func(*x509.Certificate)) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true, IsCA: ca.cert == nil,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(template)
	}
	parent, parentKey := ca.cert, ca.key
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, ca.file(name+".pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	writeFile(t, ca.file(name+".key"), string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})))
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// server returns the TLS config of a broker with a certificate of this CA.
func (ca *testCA) server(t *testing.T, name string) *tls.Config {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(ca.file(name+".pem"), ca.file(name+".key"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, MinVersion: tls.VersionTLS12}
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// reach connects as milena does and sends one request.
func reach(t *testing.T, c config.Cluster) error {
	t.Helper()
	return reachWithin(t, c, 30*time.Second)
}

// reachWithin gives a broker that long to answer a request.
func reachWithin(t *testing.T, c config.Cluster, patience time.Duration) error {
	t.Helper()
	opts, err := Options(c, &Dials{}, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	// The retries end well before the context, so that the last error is not the deadline of a dial.
	client, err := kgo.NewClient(append(opts, kgo.RetryTimeout(200*time.Millisecond), kgo.RequestTimeoutOverhead(patience))...)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	_, err = client.Request(ctx, kmsg.NewPtrMetadataRequest())
	return Explain(err, "dr", c)
}

func TestClients_reachEveryListener(t *testing.T) {
	ca := newTestCA(t)
	ca.sign(t, "broker", nil)
	ca.sign(t, "client", nil)
	mutual := ca.server(t, "broker")
	mutual.ClientAuth = tls.RequireAndVerifyClientCert
	writeFile(t, ca.file("password"), "s3cret\n")
	trust := &config.TLS{CAFile: ca.file("ca.pem")}

	tests := []struct {
		name    string
		broker  []kfake.Opt
		cluster config.Cluster
	}{
		{"plaintext", nil, config.Cluster{}},
		{"TLS", []kfake.Opt{kfake.TLS(ca.server(t, "broker"))}, config.Cluster{TLS: trust}},
		{
			"TLS with a client certificate",
			[]kfake.Opt{kfake.TLS(mutual)},
			config.Cluster{TLS: &config.TLS{CAFile: ca.file("ca.pem"), CertFile: ca.file("client.pem"), KeyFile: ca.file("client.key")}},
		},
		{"PLAIN", saslUser("PLAIN"), config.Cluster{SASL: &config.SASL{Mechanism: "PLAIN", Username: "u", Password: "s3cret"}}},
		{"SCRAM-SHA-256", saslUser("SCRAM-SHA-256"), config.Cluster{SASL: &config.SASL{Mechanism: "SCRAM-SHA-256", Username: "u", Password: "s3cret"}}},
		{
			"SCRAM-SHA-512 over TLS, password in a file", append(saslUser("SCRAM-SHA-512"), kfake.TLS(ca.server(t, "broker"))),
			config.Cluster{TLS: trust, SASL: &config.SASL{Mechanism: "SCRAM-SHA-512", Username: "u", PasswordFile: ca.file("password")}},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.cluster.Brokers = kafkatest.New(t, test.broker...).ListenAddrs()
			if err := reach(t, test.cluster); err != nil {
				t.Error(err)
			}
		})
	}
}

func saslUser(mechanism string) []kfake.Opt {
	return []kfake.Opt{kfake.EnableSASL(), kfake.Superuser(mechanism, "u", "s3cret")}
}

func TestClients_explainWhatIsWrong(t *testing.T) {
	ca, other := newTestCA(t), newTestCA(t)
	ca.sign(t, "broker", nil)
	ca.sign(t, "expired", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	ca.sign(t, "named", func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"kafka.example"} })
	other.sign(t, "client", nil)
	mutual := ca.server(t, "broker")
	mutual.ClientAuth = tls.RequireAndVerifyClientCert
	overTLS := func(name string) []kfake.Opt { return []kfake.Opt{kfake.TLS(ca.server(t, name))} }
	trust := &config.TLS{CAFile: ca.file("ca.pem")}

	tests := []struct {
		name    string
		broker  []kfake.Opt
		cluster config.Cluster
		want    string
	}{
		{"SASL missing", saslUser("PLAIN"), config.Cluster{}, "add a sasl section"},
		{"TLS missing", overTLS("broker"), config.Cluster{}, "add a tls section"},
		{"unknown CA", overTLS("broker"), config.Cluster{TLS: &config.TLS{}}, "is not signed by a CA that the system trusts"},
		{"other CA", overTLS("broker"), config.Cluster{TLS: &config.TLS{CAFile: other.file("ca.pem")}}, "not signed by a CA in " + other.file("ca.pem")},
		{"expired certificate", overTLS("expired"), config.Cluster{TLS: trust}, "has expired"},
		{"other server name", overTLS("named"), config.Cluster{TLS: trust}, "set tls.verify: chain"},
		{"no client certificate", []kfake.Opt{kfake.TLS(mutual)}, config.Cluster{TLS: trust}, "requires a client certificate"},
		{
			"client certificate of another CA",
			[]kfake.Opt{kfake.TLS(mutual)},
			config.Cluster{TLS: &config.TLS{CAFile: ca.file("ca.pem"), CertFile: other.file("client.pem"), KeyFile: other.file("client.key")}},
			"client certificate",
		},
		{"nothing listens", nil, config.Cluster{Brokers: []string{"127.0.0.1:1"}}, "connect: connection refused); check that the broker runs"},
		{"unknown host", nil, config.Cluster{Brokers: []string{"kafka.invalid:9092"}}, "cannot resolve host name kafka.invalid"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.cluster.Brokers == nil {
				test.cluster.Brokers = kafkatest.New(t, test.broker...).ListenAddrs()
			}
			err := reach(t, test.cluster)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range []string{test.want, "cluster dr (" + test.cluster.Brokers[0] + ")"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error lacks %q:\n%v", want, err)
				}
			}
			if strings.Contains(err.Error(), "s3cret") {
				t.Errorf("error holds the password: %v", err)
			}
		})
	}
	t.Run("TLS to plaintext", func(t *testing.T) {
		for _, read := range []int{1, 4096} { // with unread bytes the close is a reset
			address := listenRaw(t, func(conn net.Conn) { _, _ = conn.Read(make([]byte, read)); _ = conn.Close() })
			if err := reach(t, config.Cluster{Brokers: []string{address}, TLS: trust}); err == nil || !strings.Contains(err.Error(), "does not speak TLS") {
				t.Errorf("err = %v", err)
			}
		}
	})
	t.Run("a broker that hangs", func(t *testing.T) {
		address := listenRaw(t, func(net.Conn) {})
		err := reachWithin(t, config.Cluster{Brokers: []string{address}}, time.Second)
		if err == nil || !strings.Contains(err.Error(), "no answer in time") {
			t.Errorf("err = %v", err)
		}
	})
	t.Run("wrong password", func(t *testing.T) {
		c := config.Cluster{
			Brokers: refuseSASL(t, kafkatest.New(t, saslUser("PLAIN")...)).ListenAddrs(),
			SASL:    &config.SASL{Mechanism: "PLAIN", Username: "u", Password: "s3cret"},
		}
		err := reach(t, c)
		if err == nil || !strings.Contains(err.Error(), `rejected user "u" (SASL_AUTHENTICATION_FAILED`) ||
			!strings.HasSuffix(err.Error(), "; check sasl.username and the password, and that the user exists for PLAIN") || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("err = %v", err)
		}
	})
}

// refuseSASL rejects the next authentication as Kafka does; kfake would close the connection without an answer.
func refuseSASL(t *testing.T, cluster *kfake.Cluster) *kfake.Cluster {
	t.Helper()
	cluster.ControlKey(int16(kmsg.SASLAuthenticate), func(request kmsg.Request) (kmsg.Response, error, bool) {
		response := request.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		response.ErrorCode = kerr.SaslAuthenticationFailed.Code
		return response, nil, true
	})
	return cluster
}

// listenRaw accepts connections and gives each to serve on a goroutine of its own.
func listenRaw(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	var listen net.ListenConfig
	listener, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return listener.Addr().String()
}

// TestClients_explain covers errors of real brokers that kfake does not return.
func TestClients_explain(t *testing.T) {
	c := config.Cluster{Brokers: []string{"a:9092", "b:9092"}, SASL: &config.SASL{Mechanism: "PLAIN", Username: "u"}}
	for _, test := range []struct {
		err  error
		want string
	}{
		{kerr.UnsupportedSaslMechanism, "does not offer PLAIN"},
		{kerr.IllegalSaslState, "remove the sasl section"},
		{errors.New("x: is this a plaintext connection speaking to a tls endpoint?"), "add a tls section"},
		{errors.New("remote error: tls: bad certificate"), "requires a client certificate"},
		{kerr.CoordinatorLoadInProgress, "COORDINATOR_LOAD_IN_PROGRESS"},
	} {
		got := Explain(test.err, "dr", c)
		if !errors.Is(got, test.err) || !strings.Contains(got.Error(), test.want) || !strings.HasPrefix(got.Error(), "cluster dr (a:9092, b:9092): ") {
			t.Errorf("Explain(%v) = %v; want %q", test.err, got, test.want)
		}
	}
	if err := Explain(nil, "dr", c); err != nil {
		t.Error(err)
	}
	if err := Explain(context.Canceled, "dr", c); !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "dr") {
		t.Errorf("a canceled context is explained as a fault of the cluster: %v", err)
	}
}

func TestClients_badFiles(t *testing.T) {
	ca := newTestCA(t)
	ca.sign(t, "client", nil)
	writeFile(t, ca.file("empty"), "\n")
	absent := ca.file("absent")
	tests := []struct {
		name    string
		cluster config.Cluster
		want    []string
	}{
		{"no CA file", config.Cluster{TLS: &config.TLS{CAFile: absent}}, []string{"tls.ca_file", absent}},
		{"CA file without certificate", config.Cluster{TLS: &config.TLS{CAFile: ca.file("empty")}}, []string{"tls.ca_file", ca.file("empty")}},
		{"no certificate", config.Cluster{TLS: &config.TLS{CertFile: absent, KeyFile: ca.file("client.key")}}, []string{"tls.cert_file", absent}},
		{"no key path", config.Cluster{TLS: &config.TLS{CertFile: ca.file("client.pem")}}, []string{"tls.cert_file", "holds no private key"}},
		{"no certificate path", config.Cluster{TLS: &config.TLS{KeyFile: ca.file("client.key")}}, []string{"tls.cert_file: missing"}},
		{"key of another certificate", config.Cluster{TLS: &config.TLS{CertFile: ca.file("client.pem"), KeyFile: ca.file("ca.key")}}, []string{"tls.cert_file", ca.file("ca.key")}},
		{"mechanism", config.Cluster{SASL: &config.SASL{Mechanism: "GSS-SPNEGO", Password: "s3cret"}}, []string{`sasl.mechanism: "GSS-SPNEGO"`}},
		{"no password file", config.Cluster{SASL: &config.SASL{Mechanism: "PLAIN", PasswordFile: absent}}, []string{"sasl.password_file", absent}},
		{"empty password file", config.Cluster{SASL: &config.SASL{Mechanism: "PLAIN", PasswordFile: ca.file("empty")}}, []string{"sasl.password_file", "is empty"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := Options(test.cluster, &Dials{}, slog.New(slog.DiscardHandler))
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error lacks %q: %v", want, err)
				}
			}
		})
	}
}

func TestClients_useRotatedPassword(t *testing.T) {
	path := filepath.Join(t.TempDir(), "password")
	writeFile(t, path, "s3cret\r\n")
	mechanism, err := saslMechanism(config.SASL{Mechanism: config.MechanismPlain, Username: "u", PasswordFile: path})
	if err != nil {
		t.Fatal(err)
	}
	for _, password := range []string{"s3cret", "rotated"} {
		writeFile(t, path, password+"\n")
		_, message, err := mechanism.Authenticate(t.Context(), "broker")
		if want := "\x00u\x00" + password; err != nil || string(message) != want {
			t.Errorf("Authenticate = %q, %v; want %q", message, err, want)
		}
	}
}

func TestClients_logOnlyErrors(t *testing.T) {
	var out bytes.Buffer
	opts, err := Options(
		config.Cluster{Brokers: kafkatest.New(t).ListenAddrs()}, &Dials{},
		slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})),
	)
	if err != nil {
		t.Fatal(err)
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	err = client.Ping(t.Context())
	client.Close()
	if err != nil || out.Len() > 0 {
		t.Errorf("err = %v, log:\n%s", err, out.String())
	}
}
