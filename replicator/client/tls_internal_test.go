package client

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/milena-kafka/milena/config"
)

// tlsBroker completes handshakes and tells each client the common name of the certificate that it presented.
type tlsBroker struct {
	address string
	conf    atomic.Pointer[tls.Config]
}

func listenTLS(t *testing.T, conf *tls.Config) *tlsBroker {
	t.Helper()
	b := &tlsBroker{}
	b.conf.Store(conf)
	b.address = listenRaw(t, func(raw net.Conn) {
		defer func() { _ = raw.Close() }()
		conn := tls.Server(raw, b.conf.Load())
		if conn.HandshakeContext(t.Context()) != nil {
			return
		}
		name := "nobody"
		if shown := conn.ConnectionState().PeerCertificates; len(shown) > 0 {
			name = shown[0].Subject.CommonName
		}
		_, _ = io.WriteString(conn, name)
		_ = conn.Close()
	})
	return b
}

// connect opens a connection and returns what the broker says.
func connect(t *testing.T, n Network, b *tlsBroker) (string, error) {
	t.Helper()
	conn, err := n.Dial(t.Context(), b.address)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	name, err := io.ReadAll(conn)
	return string(name), err
}

// connects fails the test unless the broker says that it was shown the certificate want.
func connects(t *testing.T, n Network, b *tlsBroker, want string) {
	t.Helper()
	if name, err := connect(t, n, b); err != nil || name != want {
		t.Errorf("the broker was shown %q, %v; want %q", name, err, want)
	}
}

func networkOf(t *testing.T, c config.TLS, d *Dials) Network {
	t.Helper()
	n, err := NewNetwork(config.Cluster{TLS: &c}, d)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, to, string(text))
}

// swap lets a symbolic link lead to another directory, as Kubernetes does when a secret has changed.
func swap(t *testing.T, link, to string) {
	t.Helper()
	if err := errors.Join(os.Symlink(to, link+".new"), os.Rename(link+".new", link)); err != nil {
		t.Fatal(err)
	}
}

func TestTLS_usesRotatedCA(t *testing.T) {
	before, after := newTestCA(t), newTestCA(t)
	before.sign(t, "broker", nil)
	after.sign(t, "broker", nil)
	oldText, err := os.ReadFile(before.file("ca.pem"))
	newText, err2 := os.ReadFile(after.file("ca.pem"))
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "..data")
	swap(t, link, before.dir)
	file := filepath.Join(link, "ca.pem")
	c, d := config.TLS{CAFile: file}, &Dials{}
	n := networkOf(t, c, d)
	old, fresh := listenTLS(t, before.server(t, "broker")), listenTLS(t, after.server(t, "broker"))
	connects(t, n, old, "nobody")
	_, err = connect(t, n, fresh)
	if text := Explain(err, "dr", config.Cluster{TLS: &c}).Error(); !strings.Contains(text, "is not signed by a CA in "+file) ||
		!strings.HasSuffix(text, `; add the CA that signed it, "CN=ca", to tls.ca_file, which new connections read again`) {
		t.Error(text)
	}

	writeFile(t, file, string(oldText)+string(newText))
	connects(t, n, old, "nobody")
	connects(t, n, fresh, "nobody")
	swap(t, link, after.dir)
	connects(t, n, fresh, "nobody")
	if _, err := connect(t, n, old); err == nil {
		t.Error("a CA that is no more in the file is trusted")
	}

	for name, broken := range map[string]string{"half": string(newText[:len(newText)/2]), "empty": "", "without its last line": strings.TrimSpace(string(newText))[:len(newText)-20]} {
		writeFile(t, file, broken)
		connects(t, n, fresh, "nobody")
		if shown := d.Certificates(time.Now()); len(shown) != 1 || !strings.Contains(shown[0], "tls.ca_file: "+file) {
			t.Errorf("%s: %q", name, shown)
		}
		_, err := connect(t, n, old)
		if text := Explain(err, "dr", config.Cluster{TLS: &c}).Error(); !strings.Contains(text, "is not signed by a CA that was read before tls.ca_file: "+file) {
			t.Errorf("%s: %s", name, text)
		}
		if _, err := NewNetwork(config.Cluster{TLS: &c}, d); err != nil {
			t.Errorf("%s: another client of the flow does not use what was read before: %v", name, err)
		}
		if _, err := NewNetwork(config.Cluster{TLS: &c}, &Dials{}); err == nil {
			t.Errorf("%s: there is nothing to go on with, and no error", name)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	connects(t, n, fresh, "nobody")
	if shown := d.Certificates(time.Now()); len(shown) != 1 || !strings.Contains(shown[0], "no such file") {
		t.Errorf("without the file: %q", shown)
	}
	writeFile(t, file, string(newText))
	connects(t, n, fresh, "nobody")
	if shown := d.Certificates(time.Now()); len(shown) != 0 {
		t.Errorf("%q", shown)
	}
}

// A certificate and its key are two files: between the two writes, the old ones are presented.
func TestTLS_usesTheOldPairUntilTheNewOneIsWhole(t *testing.T) {
	ca := newTestCA(t)
	for _, name := range []string{"broker", "old", "new"} {
		ca.sign(t, name, nil)
	}
	mutual := ca.server(t, "broker")
	mutual.ClientAuth = tls.RequireAndVerifyClientCert
	b := listenTLS(t, mutual)
	copyFile(t, ca.file("old.pem"), ca.file("client.pem"))
	copyFile(t, ca.file("old.key"), ca.file("client.key"))
	d := &Dials{}
	n := networkOf(t, config.TLS{CAFile: ca.file("ca.pem"), CertFile: ca.file("client.pem"), KeyFile: ca.file("client.key")}, d)
	connects(t, n, b, "old")
	copyFile(t, ca.file("new.pem"), ca.file("client.pem"))
	connects(t, n, b, "old")
	if shown := d.Certificates(time.Now()); len(shown) != 1 || !strings.Contains(shown[0], "private key does not match") {
		t.Errorf("%q", shown)
	}
	copyFile(t, ca.file("new.key"), ca.file("client.key"))
	connects(t, n, b, "new")
}

// counted are files that count how often they are parsed. Those without content cannot be.
type counted struct {
	content string
	parsed  *int
}

func (c counted) parse() (string, error) {
	*c.parsed++
	if c.content == "" {
		return "", io.ErrUnexpectedEOF
	}
	return c.content, nil
}

func TestLatest_parsesOnlyWhatHasChanged(t *testing.T) {
	n := 0
	var l latest[counted, string]
	for i, step := range []struct {
		content string
		err     error
		good    string
		bad     bool
		parsed  int
	}{
		{"a", nil, "a", false, 1},
		{"a", nil, "a", false, 1},
		{"", nil, "a", true, 2},
		{"", nil, "a", true, 2},
		{"a", nil, "a", false, 3},
		{"", os.ErrNotExist, "a", true, 3},
		{"a", nil, "a", false, 3},
		{"b", nil, "b", false, 4},
	} {
		l.update(counted{step.content, &n}, step.err)
		if l.good != step.good || (l.problem != nil) != step.bad || n != step.parsed {
			t.Errorf("step %d: %q, %v, parsed %d times; want %+v", i, l.good, l.problem, n, step)
		}
	}
}

func TestTLS_verifiesAllButTheName(t *testing.T) {
	ca, other := newTestCA(t), newTestCA(t)
	brokers := map[string]func(*x509.Certificate){
		"right":   nil,
		"named":   func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"kafka.example"} },
		"cn":      func(c *x509.Certificate) { c.IPAddresses = nil },
		"expired": func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) },
		"early":   func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) },
		"client":  func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} },
	}
	for name, change := range brokers {
		ca.sign(t, name, change)
	}
	other.sign(t, "foreign", nil)
	full, chain := config.TLS{CAFile: ca.file("ca.pem"), Verify: config.VerifyFull}, config.TLS{CAFile: ca.file("ca.pem"), Verify: config.VerifyChain}
	for name, accepts := range map[string]struct{ full, chain bool }{
		"right": {true, true}, "named": {false, true}, "cn": {false, true}, "expired": {false, false}, "early": {false, false}, "client": {false, false},
		"foreign": {false, false},
	} {
		by := ca
		if name == "foreign" {
			by = other
		}
		b := listenTLS(t, by.server(t, name))
		for c, want := range map[config.TLS]bool{full: accepts.full, chain: accepts.chain} {
			_, err := connect(t, networkOf(t, c, &Dials{}), b)
			if (err == nil) != want {
				t.Errorf("%s with tls.verify: %s: %v", name, c.Verify, err)
			}
			if text := Explain(err, "dr", config.Cluster{TLS: &c}); err != nil && !strings.Contains(text.Error(), "the certificate of broker "+b.address) {
				t.Errorf("%s with tls.verify: %s: %v", name, c.Verify, text)
			}
		}
	}
	intermediate := newTestCA(t)
	intermediate.cert, intermediate.key = ca.sign(t, "between", func(c *x509.Certificate) { c.IsCA, c.IPAddresses, c.ExtKeyUsage = true, nil, nil })
	intermediate.sign(t, "below", func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"kafka.example"} })
	conf := intermediate.server(t, "below")
	conf.Certificates[0].Certificate = append(conf.Certificates[0].Certificate, intermediate.cert.Raw)
	connects(t, networkOf(t, chain, &Dials{}), listenTLS(t, conf), "nobody")
}

func TestTLS_tellsOnce(t *testing.T) {
	ca := newTestCA(t)
	start := time.Now()
	ca.sign(t, "client", func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = start.Add(-365*24*time.Hour), start.Add(13*24*time.Hour)
	})
	ca.sign(t, "daily", func(c *x509.Certificate) { c.NotBefore, c.NotAfter = start.Add(-15*time.Hour), start.Add(9*time.Hour) })
	file := ca.file("both.pem")
	both := func(name string) {
		cert, err := os.ReadFile(ca.file(name + ".pem"))
		key, err2 := os.ReadFile(ca.file(name + ".key"))
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		writeFile(t, file, string(cert)+string(key))
	}
	both("client")
	c, err := newCredentials(config.TLS{CertFile: file})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	at := start
	for i, step := range []struct {
		do    func()
		after time.Duration
		want  string // in the only new line, "" if there is none
	}{
		{func() {}, 0, "a client certificate expires"},
		{func() {}, time.Hour, ""},
		{func() {}, 24 * time.Hour, file + " expires on " + start.Add(13*24*time.Hour).UTC().Format("2006-01-02 15:04 UTC")},
		{func() { writeFile(t, file, "half") }, 0, "certificates cannot be read"},
		{func() {}, time.Hour, ""},
		{func() { both("client") }, 0, "certificates can be read again"},
		{func() { both("daily") }, 0, "certificates have changed"},
		{func() {}, -25 * time.Hour, ""}, // 9 of 24 hours are left, more than a quarter
	} {
		step.do()
		at = at.Add(step.after)
		c.tell(c.refresh(), at, log)
		if got := out.String(); (got == "") != (step.want == "") || !strings.Contains(got, step.want) || strings.Count(got, "\n") > 1 {
			t.Errorf("step %d: the log has %q, want %q", i, got, step.want)
		}
		out.Reset()
	}
	if soon := expiring(c.last.Load().own, c.config, start.Add(4*time.Hour)); len(soon) != 1 {
		t.Errorf("five of 24 hours are left: %q", soon)
	}
	if over := expiring(c.last.Load().own, c.config, start.Add(10*time.Hour)); len(over) != 1 || !strings.Contains(over[0], file+" expired on ") {
		t.Errorf("%q", over)
	}
}
