package kafka

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// Security configures a SASL_SSL or SSL listener.
type Security struct {
	// Users are passwords by user name, for PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512. Without users the listener is SSL and requires a client
	// certificate that CA has signed.
	Users map[string]string
	// CA signs the brokers' certificates.
	CA *Authority
	// Trusted are more authorities whose client certificates the brokers accept, besides those of CA.
	Trusted []*Authority
	// Leaf changes the certificate of a broker before it is signed; nil leaves 127.0.0.1 and localhost as its names.
	Leaf func(broker int, template *x509.Certificate)
	// OAuth adds OAUTHBEARER, checked by Kafka's own validator; nil without.
	OAuth *OAuth
	// Kerberos adds GSSAPI; nil without.
	Kerberos *Kerberos
}

// Kerberos is what brokers need to read tickets.
type Kerberos struct {
	// Krb5Conf and Keytab are paths. The keytab has the key of Principal.
	Krb5Conf, Keytab, Principal string
	// Reauthenticate is how long a session lasts at most (KIP-368).
	Reauthenticate time.Duration
}

func (k *Kerberos) properties() map[string]string {
	const listener = "listener.name.secure.gssapi."
	return map[string]string{
		listener + "sasl.jaas.config":          fmt.Sprintf("com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true storeKey=true keyTab=%q principal=%q;", k.Keytab, k.Principal),
		listener + "connections.max.reauth.ms": fmt.Sprint(k.Reauthenticate.Milliseconds()),
	}
}

// OAuth is what brokers expect of a token.
type OAuth struct {
	// JWKS is the path of a file with the public keys of the issuer.
	JWKS string
	// Issuer and Audience are claims of the token.
	Issuer, Audience string
	// Reauthenticate is how long a session lasts at most (KIP-368).
	Reauthenticate time.Duration
}

// jvm are the JVM options that a broker needs.
func (s *Security) jvm() []string {
	var options []string
	if s != nil && s.OAuth != nil { // since 4.0 a broker opens no file or URL for keys that its command line does not allow
		options = append(options, "-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=file://"+s.OAuth.JWKS)
	}
	if s != nil && s.Kerberos != nil {
		options = append(options, "-Djava.security.krb5.conf="+s.Kerberos.Krb5Conf)
	}
	return options
}

func (o *OAuth) properties() map[string]string {
	const listener = "listener.name.secure.oauthbearer."
	return map[string]string{
		listener + "sasl.jaas.config":                    "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;",
		listener + "sasl.server.callback.handler.class":  "org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler",
		listener + "sasl.oauthbearer.jwks.endpoint.url":  "file://" + o.JWKS,
		listener + "sasl.oauthbearer.expected.issuer":    o.Issuer,
		listener + "sasl.oauthbearer.expected.audience":  o.Audience,
		listener + "sasl.oauthbearer.clock.skew.seconds": "0",
		listener + "connections.max.reauth.ms":           fmt.Sprint(o.Reauthenticate.Milliseconds()),
	}
}

// Authority is a certificate authority.
type Authority struct {
	// PEM is the authority's certificate.
	PEM  []byte
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority creates an authority with this common name.
func NewAuthority(name string) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &Authority{PEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), cert: cert, key: key}, nil
}

// Issue signs a certificate for 127.0.0.1 and localhost, for servers and clients, and returns it and its key as PEM. The changes are made to the
// certificate before.
func (a *Authority) Issue(name string, changes ...func(*x509.Certificate)) (cert, key []byte, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	for _, change := range changes {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, k.Public(), a.key)
	if err != nil {
		return nil, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), nil
}

func (s *Security) properties(dir string) map[string]string {
	all := map[string]string{
		"ssl.keystore.type":       "PEM",
		"ssl.keystore.location":   filepath.Join(dir, "keystore.pem"),
		"ssl.truststore.type":     "PEM",
		"ssl.truststore.location": filepath.Join(dir, "truststore.pem"),
		"ssl.client.auth":         "requested",
	}
	if len(s.Users) == 0 && s.OAuth == nil && s.Kerberos == nil {
		all["listener.security.protocol.map"] = protocols("SSL")
		all["ssl.client.auth"] = "required"
		return all
	}
	plain := "org.apache.kafka.common.security.plain.PlainLoginModule required"
	for _, user := range slices.Sorted(maps.Keys(s.Users)) {
		plain += fmt.Sprintf(" user_%s=%q", user, s.Users[user])
	}
	scram := "org.apache.kafka.common.security.scram.ScramLoginModule required;"
	maps.Copy(all, map[string]string{
		"sasl.enabled.mechanisms":                             "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
		"listener.name.secure.plain.sasl.jaas.config":         plain + ";",
		"listener.name.secure.scram-sha-256.sasl.jaas.config": scram,
		"listener.name.secure.scram-sha-512.sasl.jaas.config": scram,
	})
	if s.OAuth != nil {
		maps.Copy(all, s.OAuth.properties())
		all["sasl.enabled.mechanisms"] += ",OAUTHBEARER"
	}
	if s.Kerberos != nil {
		maps.Copy(all, s.Kerberos.properties())
		all["sasl.enabled.mechanisms"] += ",GSSAPI"
		all["sasl.kerberos.service.name"] = "kafka" // of all mechanisms, as they share the class of the login
	}
	return all
}

// protocols is listener.security.protocol.map; secure is the protocol of the SECURE listener.
func protocols(secure string) string {
	return "PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:" + secure
}

// lineProtocols is added to protocols for n lines.
func lineProtocols(n int) string {
	var s strings.Builder
	for i := range n {
		fmt.Fprintf(&s, ",LINE%d:PLAINTEXT", i)
	}
	return s.String()
}

func (s *Security) writeKeystores(broker int, dir string) error {
	cert, key, err := s.CA.Issue("broker", func(template *x509.Certificate) {
		if s.Leaf != nil {
			s.Leaf(broker, template)
		}
	})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "keystore.pem"), slices.Concat(key, cert, s.CA.PEM), 0o600); err != nil {
		return err
	}
	trusted := s.CA.PEM
	for _, a := range s.Trusted {
		trusted = slices.Concat(trusted, a.PEM)
	}
	return os.WriteFile(filepath.Join(dir, "truststore.pem"), trusted, 0o600)
}

// Secure replaces the certificates of a broker, which it uses after its next start.
func (b *Broker) Secure(s *Security) error { return s.writeKeystores(b.id, b.dir) }

// createUsers creates the SCRAM credentials. A request may contain a user only once, so there is one per mechanism.
func (s *Security) createUsers(ctx context.Context, c *Cluster) error {
	if len(s.Users) == 0 {
		return nil
	}
	return c.Admin(func(adm *kadm.Client) error {
		for _, mechanism := range []kadm.ScramMechanism{kadm.ScramSha256, kadm.ScramSha512} {
			var upserts []kadm.UpsertSCRAM
			for user, password := range s.Users {
				upserts = append(upserts, kadm.UpsertSCRAM{User: user, Mechanism: mechanism, Iterations: 4096, Password: password})
			}
			done, err := adm.AlterUserSCRAMs(ctx, nil, upserts)
			if err != nil {
				return err
			}
			if err := done.Error(); err != nil {
				return fmt.Errorf("create SCRAM users: %w", err)
			}
		}
		return nil
	})
}
