package e2e_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/proxy"
)

// rotated is a pair of clusters that require client certificates, and a milena whose certificates are replaced while it copies: PEM files for
// the source, Java stores with passwords in files for the target.
type rotated struct {
	*pair
	m          *milena
	partitions int
	made       int // stores
}

func TestCertificatesAreRotatedUnderLoad(t *testing.T) {
	before, err := kafka.NewAuthority("the old authority")
	check(t, err)
	after, err := kafka.NewAuthority("the new authority")
	check(t, err)
	security := &kafka.Security{CA: before, Trusted: []*kafka.Authority{after}}
	p := startPair(t, kafka.Options{Proxied: true, Security: security}, kafka.Options{Proxied: true, Security: security})
	r := &rotated{pair: p, partitions: 4}
	r.trust(t, "JKS", before)
	r.identify(t, "JKS", before, "first")
	p.createTopic("t", r.partitions, 1)
	stream := p.writer(load.Options{Topic: "t", Partitions: r.partitions}).Stream(t.Context(), 800)
	at := func(name string) string { return filepath.Join(p.dir, name) }
	config := p.config("t")
	config["clusters"] = daemon.Map{
		"source": daemon.Map{"brokers": p.source.SecureAddrs(), "tls": daemon.Map{"ca_file": at("ca.pem"), "cert_file": at("client.pem"), "key_file": at("client.key")}},
		"target": daemon.Map{"brokers": p.target.SecureAddrs(), "tls": daemon.Map{
			"ca_file": at("trust.store"), "ca_password_file": at("trust.password"), "cert_file": at("client.store"), "cert_password_file": at("client.password"),
		}},
	}
	r.m = p.startMilena(config)
	pid := r.m.Process().Pid()
	eventually(t, 30*time.Second, "all partitions are copied", func() (bool, string) { return allAckedBeyond(r.m, "t", r.partitions, 100) })

	for _, step := range []struct {
		name string
		do   func(t *testing.T)
	}{
		{"a bundle of the old and the new CA", func(t *testing.T) { r.trust(t, "JKS", before, after) }},
		{"brokers with certificates of the new CA", func(t *testing.T) {
			r.restartBrokers(t, &kafka.Security{CA: after, Trusted: []*kafka.Authority{before}})
		}},
		{"only the new CA", func(t *testing.T) { r.trust(t, "PKCS12", after) }},
		{"a client certificate of the new CA in other stores", func(t *testing.T) { r.identify(t, "PKCS12", after, "second") }},
		{"brokers that do not trust the old CA", func(t *testing.T) { r.restartBrokers(t, &kafka.Security{CA: after}) }},
		{"a client certificate in a JKS store again", func(t *testing.T) { r.identify(t, "JKS", after, "third") }},
		{"half of each file", r.halve},
		{"whole files again", func(t *testing.T) {
			r.trust(t, "JKS", after)
			r.identify(t, "PKCS12", after, "fourth")
		}},
	} {
		if !t.Run(step.name, func(t *testing.T) {
			step.do(t)
			r.reconnects(t)
			if r.m.Process().Pid() != pid || !r.m.Process().Running() {
				t.Error("milena has ended")
			}
		}) {
			t.FailNow() // what comes after builds on it
		}
	}
	eventually(t, 30*time.Second, "no certificate needs attention", func() (bool, string) {
		s := r.certificates()
		return len(s) == 0, strings.Join(s, "\n")
	})
	acked, err := stream.Stop(t.Context())
	check(t, err)
	p.waitAndVerify(r.m, time.Minute, acked, "t")
	r.m.stop()
	for text, want := range map[string]int{"certificates cannot be read": 4, "certificates can be read again": 2} {
		if n := strings.Count(r.m.Output(), text); n != want {
			t.Errorf("the log has %q %d times, want %d: one for each cluster, and for its CAs and its client certificate", text, n, want)
		}
	}
	if strings.Contains(r.m.Output(), storePassword) {
		t.Error("the log contains a password")
	}
}

// replace replaces a file of milena at once, as administrators and operators do.
func (r *rotated) replace(t *testing.T, name string, content []byte) {
	t.Helper()
	path := filepath.Join(r.dir, name)
	check(t, os.WriteFile(path+".new", content, 0o600))
	check(t, os.Rename(path+".new", path))
}

// newStore returns a path for a store and a password for it that no other store has.
func (r *rotated) newStore() (path, password string) {
	r.made++
	return filepath.Join(r.dir, fmt.Sprint("store-", r.made)), fmt.Sprint(storePassword, r.made)
}

// useStore replaces a store and then its password. Between the two, the password does not open the store.
func (r *rotated) useStore(t *testing.T, name, made, password string) {
	t.Helper()
	check(t, os.Rename(made, filepath.Join(r.dir, name+".store")))
	r.replace(t, name+".password", []byte(password+"\n"))
}

// trust lets milena trust these authorities only.
func (r *rotated) trust(t *testing.T, kind string, authorities ...*kafka.Authority) {
	t.Helper()
	made, password := r.newStore()
	var bundle []byte
	for i, a := range authorities {
		bundle = append(bundle, a.PEM...)
		file := filepath.Join(r.dir, "one.pem")
		check(t, os.WriteFile(file, a.PEM, 0o600))
		keytool(t, "-importcert", "-noprompt", "-alias", fmt.Sprint("ca", i), "-file", file, "-keystore", made, "-storetype", kind, "-storepass", password)
	}
	r.replace(t, "ca.pem", bundle)
	r.useStore(t, "trust", made, password)
}

// identify gives milena a new client certificate for each cluster.
func (r *rotated) identify(t *testing.T, kind string, by *kafka.Authority, name string) {
	t.Helper()
	cert, key, err := by.Issue(name)
	check(t, err)
	r.replace(t, "client.pem", cert)
	r.replace(t, "client.key", key)
	plain := encodePKCS12(t, cert, key, by)
	file := filepath.Join(r.dir, "one.p12")
	check(t, os.WriteFile(file, plain, 0o600))
	made, password := r.newStore()
	keytool(t, "-importkeystore", "-noprompt", "-srckeystore", file, "-srcstorepass", storePassword, "-srcalias", "1",
		"-destkeystore", made, "-deststoretype", kind, "-deststorepass", password, "-destkeypass", password, "-destalias", name)
	r.useStore(t, "client", made, password)
}

// halve cuts every file in the middle, as a copy that has not ended does.
func (r *rotated) halve(t *testing.T) {
	for _, name := range []string{"ca.pem", "client.pem", "client.key", "trust.store", "client.store"} {
		path := filepath.Join(r.dir, name)
		info, err := os.Stat(path)
		check(t, err)
		check(t, os.Truncate(path, info.Size()/2))
	}
	eventually(t, 30*time.Second, "/status shows the files of both clusters", func() (bool, string) {
		all := strings.Join(r.certificates(), "\n")
		for _, want := range []string{"cluster source: tls.ca_file: ", "cluster source: tls.cert_file: ", "cluster target: tls.ca_file: ", "cluster target: tls.cert_file: "} {
			if !strings.Contains(all, want) {
				return false, all
			}
		}
		return true, all
	})
}

// certificates are those that need attention in /status.
func (r *rotated) certificates() []string {
	flows, err := r.m.Status(r.t.Context())
	if err != nil || len(flows) != 1 {
		return []string{fmt.Sprint(flows, err)}
	}
	return flows[0].Certificates
}

// restartBrokers restarts the broker of each cluster with other certificates.
func (r *rotated) restartBrokers(t *testing.T, s *kafka.Security) {
	t.Helper()
	for _, c := range []*kafka.Cluster{r.source, r.target} {
		b := c.Broker(1)
		check(t, b.Secure(s))
		check(t, b.Stop(within(t, time.Minute, "the broker stops")))
		check(t, b.Restart(r.t.Context())) // it outlives the sub-test
		check(t, c.WaitBrokers(t.Context(), 1))
	}
}

// reconnects cuts all connections of milena and verifies that it goes on, with new ones at a bounded rate.
func (r *rotated) reconnects(t *testing.T) {
	t.Helper()
	const lasts, settles = 5 * time.Second, 2 * time.Second
	before := r.source.Accepted() + r.target.Accepted()
	for _, c := range []*kafka.Cluster{r.source, r.target} {
		check(t, c.Network(t.Context(), proxy.Cut))
	}
	pause(t, lasts)
	for _, c := range []*kafka.Cluster{r.source, r.target} {
		check(t, c.Network(t.Context(), proxy.Pass))
	}
	cut := float64(r.source.Accepted()+r.target.Accepted()-before) / lasts.Seconds()
	goal := r.m.ackedOffsets()
	if len(goal) != r.partitions {
		t.Fatalf("/status lists %d partitions", len(goal))
	}
	took := r.m.waitProgress(t, goal, len(goal))
	passed := r.source.Accepted() + r.target.Accepted()
	pause(t, settles)
	after := float64(r.source.Accepted()+r.target.Accepted()-passed) / settles.Seconds()
	t.Logf("resumed after %.2f s; new connections per second: %.1f while cut, %.1f afterwards", took.Seconds(), cut, after)
	if most := 2 * resumeWithin; took > most { // both clusters were cut, and each connection needs a TLS handshake with a JVM
		t.Errorf("resumed %.1f s after the network recovered, want %v", took.Seconds(), most)
	}
	if cut > 22 || after > 10 { // 20 connections at once to each of two brokers, then 6 a second
		t.Error("a reconnect storm")
	}
	r.in(t).verifyWhileWriting(r.m, time.Minute, "t")
}

// Brokers whose certificates have other names than their hosts: each of the source its own, that of the target only a common name.
func TestCertificatesWithOtherNames(t *testing.T) {
	t.Parallel()
	ca, err := kafka.NewAuthority("the right authority")
	check(t, err)
	other, err := kafka.NewAuthority("another authority")
	check(t, err)
	client, key, err := ca.Issue("milena")
	check(t, err)
	expired, expiredKey, err := ca.Issue("milena", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	check(t, err)
	named := func(broker int, c *x509.Certificate) {
		c.IPAddresses, c.DNSNames = nil, []string{fmt.Sprintf("kafka-%d.wrong", broker)}
	}
	onlyCommon := func(_ int, c *x509.Certificate) {
		c.IPAddresses, c.DNSNames, c.Subject = []net.IP{}, nil, pkix.Name{CommonName: "127.0.0.1"}
	}
	p := startPair(t, kafka.Options{Brokers: 2, Security: &kafka.Security{CA: ca, Leaf: named}}, kafka.Options{Security: &kafka.Security{CA: ca, Leaf: onlyCommon}})
	at := func(name string) string { return filepath.Join(p.dir, name) }
	for name, content := range map[string][]byte{"ca.pem": ca.PEM, "other.pem": other.PEM, "client.pem": client, "client.key": key, "expired.pem": expired, "expired.key": expiredKey} {
		check(t, os.WriteFile(at(name), content, 0o600))
	}
	p.createTopic("t", 4, 1)
	w := p.writer(load.Options{Topic: "t", Partitions: 4})
	configWith := func(source, target daemon.Map) daemon.Map {
		config, clusters := p.config("t"), daemon.Map{}
		for alias, side := range map[string]struct {
			c    *kafka.Cluster
			more daemon.Map
		}{"source": {p.source, source}, "target": {p.target, target}} {
			section := daemon.Map{"ca_file": at("ca.pem"), "cert_file": at("client.pem"), "key_file": at("client.key")}
			for k, v := range side.more {
				section[k] = v
			}
			clusters[alias] = daemon.Map{"brokers": side.c.SecureAddrs(), "tls": section}
		}
		config["clusters"] = clusters
		return config
	}
	chain := daemon.Map{"verify": "chain"}
	for _, tt := range []struct {
		name           string
		source, target daemon.Map
		want           []string // regular expressions of lines
	}{
		{"other names are explained", nil, chain, []string{
			`source.*the certificate of broker 127\.0\.0\.1:\d+ is for "kafka-\d\.wrong" and not for "127\.0\.0\.1" .*use one of its names in brokers and advertised\.listeners, .* tls\.verify: chain, `,
		}},
		{"a common name is explained", chain, nil, []string{
			`target.*127\.0\.0\.1:\d+ has no subject alternative name, only the common name "127\.0\.0\.1", which Java .*; issue a certificate with one \(keytool -ext san=ip:127\.0\.0\.1\), or set tls\.verify: chain`,
		}},
		{"a foreign authority is refused by name or not", daemon.Map{"verify": "chain", "ca_file": at("other.pem")}, chain, []string{
			`source.*is not signed by a CA in .*other\.pem .*; add the CA that signed it, "CN=the right authority", to tls\.ca_file`,
		}},
		{"an expired client certificate is explained", daemon.Map{"verify": "chain", "cert_file": at("expired.pem"), "key_file": at("expired.key")}, chain, []string{
			`source.*rejected the client certificate .*expired\.pem, "CN=milena", which expired on .*; replace it, new connections read it again`,
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, out := p.in(t).runVerb(t, "check", configWith(tt.source, tt.target))
			if code != 1 {
				t.Errorf("check: exit code %d, want 1", code)
			}
			for _, want := range tt.want {
				matchLine(t, out, want)
			}
		})
	}
	t.Run("verify: chain", func(t *testing.T) {
		p := p.in(t)
		check(t, w.Write(t.Context(), 1000))
		m := p.startMilena(configWith(chain, chain))
		p.waitAndVerify(m, 30*time.Second, w.Acked(), "t")
		m.stop()
		matchLine(t, m.Output(), `level=WARN msg="a connection is not secure" .*cluster source has tls\.verify: chain`)
	})
	t.Run("an empty ssl.endpoint.identification.algorithm", func(t *testing.T) {
		p := p.in(t)
		check(t, w.Write(t.Context(), 1000))
		both := filepath.Join(p.dir, "both.pem")
		check(t, os.WriteFile(both, bytes.Join([][]byte{key, client}, nil), 0o600))
		text := fmt.Sprintf("clusters = source, target\nsource.bootstrap.servers = %s\ntarget.bootstrap.servers = %s\nsecurity.protocol = SSL\n"+
			"ssl.truststore.type = PEM\nssl.truststore.location = %s\nssl.keystore.type = PEM\nssl.keystore.location = %s\n"+
			"ssl.enabled.protocols = TLSv1.2,TLSv1.3\nssl.endpoint.identification.algorithm =\n"+
			"source->target.enabled = true\nsource->target.topics = t\nreplication.factor = 1\n",
			strings.Join(p.source.SecureAddrs(), ","), strings.Join(p.target.SecureAddrs(), ","), at("ca.pem"), both)
		file := filepath.Join(p.dir, "mm2.properties")
		check(t, os.WriteFile(file, []byte(text), 0o600))
		code, out := runMilena(t, "check", "-c", file)
		if n := strings.Count(out, "source has tls.verify: chain"); code != 0 || n != 1 {
			t.Errorf("check: exit code %d, %d warnings\n%s", code, n, out)
		}
		m := p.newMilenaFromFile("milena", file)
		m.start()
		m.waitReady(30 * time.Second)
		p.waitAndVerify(m, 30*time.Second, w.Acked(), "t")
		m.stop()
	})
}
