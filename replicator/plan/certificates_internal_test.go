package plan

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/milena-kafka/milena/config"
)

// selfSigned returns PEM with a key and its certificate, which is for servers, clients and CAs, and valid for 100 days.
func selfSigned(t *testing.T, until time.Time) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), NotBefore: until.Add(-100 * 24 * time.Hour), NotAfter: until, IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Concat(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestCheck_warnsOfACertificateThatExpires(t *testing.T) {
	for name, tt := range map[string]struct {
		until  time.Time
		warned bool
	}{
		"in ten days":    {time.Now().Add(10 * 24 * time.Hour), true},
		"in three weeks": {time.Now().Add(21 * 24 * time.Hour), false},
	} {
		t.Run(name, func(t *testing.T) {
			text := selfSigned(t, tt.until)
			pair, err := tls.X509KeyPair(text, text)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "both.pem")
			if err := os.WriteFile(file, text, 0o600); err != nil {
				t.Fatal(err)
			}
			test := newCheckTest(t, nil, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}))
			test.Target.TLS = &config.TLS{CAFile: file, CertFile: file}
			warned := slices.ContainsFunc(test.check().Warnings, func(text string) bool {
				return strings.HasPrefix(text, "target, cluster dr: the client certificate serial number 7 in "+file+" expires on ")
			})
			if warned != tt.warned {
				t.Errorf("warned = %v: %q", warned, test.check().Warnings)
			}
		})
	}
}
