package client

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/milena-kafka/milena/config"
)

// explained connects and returns the sentence about the error, with BROKER for the broker's address.
func explained(t *testing.T, c config.TLS, conf *tls.Config) string {
	t.Helper()
	b := listenTLS(t, conf)
	_, err := connect(t, networkOf(t, c, &Dials{}), b)
	if err == nil {
		t.Error("no error")
		return ""
	}
	return strings.ReplaceAll(Explain(err, "dr", config.Cluster{Brokers: []string{"seed:9093"}, TLS: &c}).Error(), b.address, "BROKER")
}

func TestCertificateErrors_brokers(t *testing.T) {
	ca := newTestCA(t)
	hour := time.Now().Add(-30 * time.Minute)
	shown := func(at time.Time) string { return at.UTC().Format("2006-01-02 15:04 UTC") }
	const namesTodo = "or set tls.verify: chain, which trusts every certificate of the CA whatever its name"
	for _, tt := range []struct {
		name       string
		serverName string
		change     func(*x509.Certificate)
		what, todo string
	}{
		{
			"names", "", func(c *x509.Certificate) {
				c.DNSNames, c.IPAddresses = []string{"kafka-1.example", "*.eu.example"}, []net.IP{net.IPv4(10, 0, 0, 1)}
			},
			`the certificate of broker BROKER is for "kafka-1.example", "*.eu.example", 10.0.0.1 and not for "127.0.0.1" (`,
			"; use one of its names in brokers and advertised.listeners, or issue a certificate for 127.0.0.1, " + namesTodo +
				". tls.server_name helps only if the certificates of all brokers have one name in common",
		},
		{
			"many names", "", func(c *x509.Certificate) {
				c.IPAddresses = nil
				for i := range 40 {
					c.DNSNames = append(c.DNSNames, fmt.Sprint("kafka-", i))
				}
			},
			`is for "kafka-0", "kafka-1", "kafka-2", "kafka-3", "kafka-4", 35 more and not for "127.0.0.1" (`, "one name in common",
		},
		{
			"server name", "kafka.example", func(c *x509.Certificate) { c.DNSNames = []string{"kafka-1.example"} },
			`is for "kafka-1.example", 127.0.0.1 and not for "kafka.example", which tls.server_name expects (`, "one name in common",
		},
		{
			"common name", "", func(c *x509.Certificate) { c.IPAddresses, c.Subject = nil, pkix.Name{CommonName: "127.0.0.1"} },
			`the certificate of broker BROKER has no subject alternative name, only the common name "127.0.0.1", which Java takes for a host name and milena does not (`,
			"; issue a certificate with one (keytool -ext san=ip:127.0.0.1), " + namesTodo,
		},
		{
			"expired", "", func(c *x509.Certificate) { c.NotAfter = hour },
			`the certificate of broker BROKER, "CN=broker", expired on ` + shown(hour) + " (it was valid from ",
			"; renew it on the broker, or correct the clock of this host, where it is " + shown(time.Now())[:11],
		},
		{
			"not yet valid", "", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(30 * time.Minute) },
			`the certificate of broker BROKER, "CN=broker", is not valid before `, "or correct the clock of this host",
		},
		{
			"for clients", "", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} },
			"the certificate of broker BROKER is not one for servers (", "; issue one whose extended key usage has serverAuth",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ca.sign(t, "broker", tt.change)
			text := explained(t, config.TLS{CAFile: ca.file("ca.pem"), ServerName: tt.serverName}, ca.server(t, "broker"))
			if !strings.HasPrefix(text, "cluster dr (seed:9093): ") || !strings.Contains(text, tt.what) || !strings.Contains(text, tt.todo) {
				t.Errorf("%s\nlacks %s\nor %s", text, tt.what, tt.todo)
			}
		})
	}
}

func TestCertificateErrors_authorities(t *testing.T) {
	over := &testCA{dir: t.TempDir()}
	over.cert, over.key = over.sign(t, "ca", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	over.sign(t, "broker", nil)
	text := explained(t, config.TLS{CAFile: over.file("ca.pem")}, over.server(t, "broker"))
	for _, want := range []string{`the CA certificate above that of broker BROKER, "CN=ca", expired on `, "; put the new certificate of the CA into tls.ca_file, which new connections read again"} {
		if !strings.Contains(text, want) {
			t.Errorf("%s\nlacks %s", text, want)
		}
	}

	ca, between := newTestCA(t), newTestCA(t)
	between.cert, between.key = ca.sign(t, "between", func(c *x509.Certificate) { c.IsCA, c.NotAfter = true, time.Now().Add(-time.Minute) })
	between.sign(t, "broker", nil)
	conf := between.server(t, "broker")
	conf.Certificates[0].Certificate = append(conf.Certificates[0].Certificate, between.cert.Raw)
	text = explained(t, config.TLS{CAFile: ca.file("ca.pem")}, conf)
	for _, want := range []string{`an intermediate certificate of broker BROKER, "CN=between", expired on `, "; renew it, and put it into the broker's key store"} {
		if !strings.Contains(text, want) {
			t.Errorf("%s\nlacks %s", text, want)
		}
	}
}

func TestCertificateErrors_client(t *testing.T) {
	ca, other := newTestCA(t), newTestCA(t)
	ca.sign(t, "broker", nil)
	ca.sign(t, "expired", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	other.sign(t, "foreign", nil)
	mutual := ca.server(t, "broker")
	mutual.ClientAuth = tls.RequireAndVerifyClientCert
	for name, tt := range map[string]struct {
		own  string
		want []string
	}{
		"expired": {ca.file("expired"), []string{`the broker rejected the client certificate ` + ca.file("expired.pem") + `, "CN=expired", which expired on `, "; replace it, new connections read it again"}},
		"foreign": {other.file("foreign"), []string{`"CN=foreign", which is valid from `, `; check that the broker trusts the CA that signed it, "CN=ca", and the clocks of both`}},
		"none":    {"", []string{"the broker requires a client certificate ("}},
	} {
		c := config.TLS{CAFile: ca.file("ca.pem")}
		if tt.own != "" {
			c.CertFile, c.KeyFile = tt.own+".pem", tt.own+".key"
		}
		text := explained(t, c, mutual)
		for _, want := range tt.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s: %s\nlacks %s", name, text, want)
			}
		}
	}
}

// The command in the sentence about an old encryption makes a file that milena reads.
func TestStores_oldEncryptionsAreConverted(t *testing.T) {
	command := regexp.MustCompile(`convert it with openssl (\S+) (.*?-in) OLD -out NEW`)
	for name, tt := range map[string]struct {
		old, password string
		with          func(file string) config.TLS
		algorithm     string
	}{
		"PEM, MD5 and DES":      {"md5-des.key", "keypass", withKey, "pbeWithMD5AndDES-CBC"},
		"PEM, SHA-1 and 3DES":   {"sha1-3des.key", "keypass", withKey, "pbeWithSHAAnd3-KeyTripleDES-CBC"},
		"PEM, OpenSSL's own":    {"old.key", "keypass", withKey, "OpenSSL's legacy encryption"},
		"PKCS12, MD5 and DES":   {"client-md5-des.p12", "storepass", func(f string) config.TLS { return config.TLS{CertFile: f, CertPassword: "storepass"} }, "pbeWithMD5AndDES-CBC"},
		"PKCS12, CAs, the same": {"trust-md5-des.p12", "storepass", func(f string) config.TLS { return config.TLS{CAFile: f, CAPassword: "storepass"} }, "pbeWithMD5AndDES-CBC"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newCredentials(tt.with(store(tt.old)))
			if err == nil || !strings.Contains(err.Error(), store(tt.old)) || !strings.Contains(err.Error(), tt.algorithm) {
				t.Fatalf("error is %v", err)
			}
			found := command.FindStringSubmatch(err.Error())
			if found == nil {
				t.Fatalf("no command in %v", err)
			}
			openssl, lookErr := exec.LookPath("openssl")
			if lookErr != nil {
				t.Skip("openssl is not installed")
			}
			fresh := filepath.Join(t.TempDir(), "fresh")
			args := append(append([]string{found[1]}, strings.Fields(found[2])...), store(tt.old), "-out", fresh, "-passin", "pass:"+tt.password)
			if !strings.Contains(found[2], "-nokeys") {
				args = append(args, "-passout", "pass:"+tt.password)
			}
			if out, err := exec.CommandContext(t.Context(), openssl, args...).CombinedOutput(); err != nil {
				t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
			}
			if _, err := newCredentials(tt.with(fresh)); err != nil {
				t.Error(err)
			}
		})
	}
}

func withKey(file string) config.TLS {
	return config.TLS{CertFile: store("client.pem"), KeyFile: file, KeyPassword: "keypass"}
}
