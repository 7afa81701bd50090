package guard_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/milena-kafka/milena/cmd/milena/guard"
	"github.com/milena-kafka/milena/config"
)

// patience is how long a test waits for an event.
const patience = time.Minute

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	last int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "an authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert: cert, key: key, last: 1}
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// sign returns a new certificate of 127.0.0.1 and its key.
func (a *authority) sign(t *testing.T, name string) (cert, key []byte) {
	t.Helper()
	a.last++
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.last), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, a.cert, &own.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
}

// clientOf is a client with a certificate in the name, without one if that is empty.
func (a *authority) clientOf(t *testing.T, roots *authority, name string) *http.Client {
	t.Helper()
	c := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots.pool()}
	if name != "" {
		pair, err := tls.X509KeyPair(a.sign(t, name))
		if err != nil {
			t.Fatal(err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: true, DisableKeepAlives: true}}
}

// files are the files of http.tls.
type files struct{ cert, key, clients string }

func newFiles(t *testing.T) files {
	t.Helper()
	dir := t.TempDir()
	return files{filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"), filepath.Join(dir, "clients.pem")}
}

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// warnings counts what is logged.
type warnings struct{ atomic.Int64 }

func (w *warnings) Write(line []byte) (int, error) { w.Add(1); return len(line), nil }

// start serves over TLS who sends a request, and returns the URL.
func start(t *testing.T, c config.HTTP, logged *warnings) string {
	t.Helper()
	c.Listen = "127.0.0.1:0"
	g := guard.New(c)
	g.Log = slog.New(slog.NewTextHandler(logged, nil))
	secure, err := g.TLSConfig()
	if err != nil {
		t.Fatal(err)
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", c.Listen)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Bind(l.Addr()); err != nil {
		t.Fatal(err)
	}
	who := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, guard.User(r.Context())) })
	server := &http.Server{Handler: g.Handler(who), TLSConfig: secure, ReadHeaderTimeout: patience, ErrorLog: log.New(io.Discard, "", 0)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.ServeTLS(l, "", "")
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return "https://" + l.Addr().String()
}

// answer is what came of a request.
type answer struct {
	code   int
	text   string
	serial int64
	proto  string
}

func get(ctx context.Context, c *http.Client, url string) (a answer, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return a, err
	}
	response, err := c.Do(r)
	if err != nil {
		return a, err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, string(text), response.TLS.PeerCertificates[0].SerialNumber.Int64(), response.Proto}, err
}

// The certificate is replaced while clients connect all the time: none of them fails, and what is written half is not used.
func TestCertificateIsReplacedUnderLoad(t *testing.T) {
	ca, f := newAuthority(t), newFiles(t)
	renew := func() int64 {
		cert, key := ca.sign(t, "milena")
		write(t, f.cert, cert) // for a moment it does not go with the key
		write(t, f.key, key)
		return ca.last
	}
	first := renew()
	var logged warnings
	url := start(t, config.HTTP{TLS: &config.HTTPTLS{CertFile: f.cert, KeyFile: f.key}}, &logged)
	ctx, cancel := context.WithCancel(t.Context())
	var serial, failures atomic.Int64
	serial.Store(first)
	var load sync.WaitGroup
	for range 4 {
		client := ca.clientOf(t, ca, "")
		load.Go(func() {
			for ctx.Err() == nil {
				a, err := get(ctx, client, url+"/status")
				switch {
				case err != nil && ctx.Err() == nil, err == nil && a.code != http.StatusOK:
					failures.Add(1)
					t.Errorf("%v %+v", err, a)
					return
				case err == nil && a.serial > serial.Load():
					serial.Store(a.serial)
				}
			}
		})
	}
	until := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(patience); !ok() && failures.Load() == 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s never; certificate %d is served", what, serial.Load())
			}
		}
	}
	served := func(want int64) {
		t.Helper()
		until("the new one", func() bool { return serial.Load() == want })
	}
	for range 3 {
		served(renew())
	}
	warned := logged.Load()
	write(t, f.cert, []byte("-----BEGIN CERT"))
	if err := os.Remove(f.key); err != nil {
		t.Fatal(err)
	}
	until("a warning", func() bool { return logged.Load() > warned })
	served(renew())
	cancel()
	load.Wait()
}

// With client authorities a certificate of theirs logs in. Without one a client may read what is open.
func TestClientCertificates(t *testing.T) {
	ca, clients, strangers, f := newAuthority(t), newAuthority(t), newAuthority(t), newFiles(t)
	cert, key := ca.sign(t, "milena")
	write(t, f.cert, cert)
	write(t, f.key, key)
	write(t, f.clients, clients.pem())
	url := start(t, config.HTTP{Open: []string{config.OpenMetrics}, TLS: &config.HTTPTLS{CertFile: f.cert, KeyFile: f.key, ClientCAFile: f.clients}}, &warnings{})
	for name, test := range map[string]struct {
		client *http.Client
		path   string
		code   int // 0: there is no connection
		text   string
	}{
		"a client":                         {clients.clientOf(t, ca, "dora"), "/status", http.StatusOK, "dora"},
		"nobody":                           {clients.clientOf(t, ca, ""), "/status", http.StatusUnauthorized, "needs a login"},
		"nobody, for what is open":         {clients.clientOf(t, ca, ""), "/metrics", http.StatusOK, ""},
		"a client of another authority":    {strangers.clientOf(t, ca, "dora"), "/metrics", 0, ""},
		"a client without a name to show":  {clients.clientOf(t, ca, "do\nra"), "/status", http.StatusUnauthorized, "needs a login"},
		"a client with a name of no bound": {clients.clientOf(t, ca, strings.Repeat("d", 250)), "/status", http.StatusUnauthorized, "needs a login"},
	} {
		a, err := get(t.Context(), test.client, url+test.path)
		if test.code == 0 {
			if err == nil {
				t.Errorf("%s: %+v", name, a)
			}
			continue
		}
		if err != nil || a.code != test.code || !strings.Contains(a.text, test.text) || a.proto != "HTTP/2.0" {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
	// Another authority takes its place: its clients log in, and those of the one before do not.
	write(t, f.clients, strangers.pem())
	deadline := time.Now().Add(patience)
	for {
		a, err := get(t.Context(), strangers.clientOf(t, ca, "eva"), url+"/status")
		if err == nil && a.text == "eva" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v, %v", a, err)
		}
		time.Sleep(time.Millisecond)
	}
	if a, err := get(t.Context(), clients.clientOf(t, ca, "dora"), url+"/status"); err == nil {
		t.Errorf("a client of the authority before: %+v", a)
	}
}

// Versions of TLS that are broken are not spoken.
func TestOldTLSIsRefused(t *testing.T) {
	ca, f := newAuthority(t), newFiles(t)
	cert, key := ca.sign(t, "milena")
	write(t, f.cert, cert)
	write(t, f.key, key)
	url := start(t, config.HTTP{TLS: &config.HTTPTLS{CertFile: f.cert, KeyFile: f.key}}, &warnings{})
	for version, ok := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: ca.pool(), MinVersion: tls.VersionTLS10, MaxVersion: version}}}
		if a, err := get(t.Context(), client, url+"/status"); (err == nil) != ok {
			t.Errorf("%s: %+v, %v", tls.VersionName(version), a, err)
		}
	}
}

// What cannot be used at the start is an error that names the file.
func TestFilesThatCannotBeUsed(t *testing.T) {
	ca, f := newAuthority(t), newFiles(t)
	cert, key := ca.sign(t, "milena")
	_, other := ca.sign(t, "milena")
	use := func(c config.HTTPTLS) error {
		_, err := guard.New(config.HTTP{TLS: &c}).TLSConfig()
		return err
	}
	if err := use(config.HTTPTLS{CertFile: f.cert, KeyFile: f.key}); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), f.cert) {
		t.Errorf("no file: %v", err)
	}
	write(t, f.cert, cert)
	write(t, f.key, other)
	if err := use(config.HTTPTLS{CertFile: f.cert, KeyFile: f.key}); err == nil || !strings.Contains(err.Error(), f.key) {
		t.Errorf("another key: %v", err)
	}
	write(t, f.key, key)
	write(t, f.clients, []byte("nothing"))
	if err := use(config.HTTPTLS{CertFile: f.cert, KeyFile: f.key, ClientCAFile: f.clients}); err == nil || !strings.Contains(err.Error(), f.clients) {
		t.Errorf("no authority: %v", err)
	}
}
