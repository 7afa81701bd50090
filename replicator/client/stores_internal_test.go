package client

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator/kafkatest"
)

// store returns the path of a file that testdata/stores/make.sh creates with keytool or OpenSSL.
func store(name string) string { return filepath.Join("testdata", "stores", name) }

func readStore(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(store(name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// wantsCertificate starts a broker that requires a client certificate of the CA of the stores. It reports the name in the certificate and
// the length of the chain.
func wantsCertificate(t *testing.T, shown chan<- string) *kfake.Cluster {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(store("broker.pem"), store("broker.key"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(readStore(t, "ca.pem")))
	return kafkatest.New(t, kfake.TLS(&tls.Config{
		Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12,
		VerifyConnection: func(state tls.ConnectionState) error {
			select {
			case shown <- fmt.Sprint(state.PeerCertificates[0].Subject.CommonName, " ", len(state.PeerCertificates)):
			default:
			}
			return nil
		},
	}))
}

func TestStores_connect(t *testing.T) {
	withTrust := func(c config.TLS) config.TLS { c.CAFile = store("ca.pem"); return c }
	withClient := func(c config.TLS) config.TLS { c.CertFile = store("both.pem"); return c }
	passwordFile := filepath.Join(t.TempDir(), "password")
	writeFile(t, passwordFile, "storepass\n")
	oneLine := strings.NewReplacer("\n", " ")
	tests := map[string]config.TLS{
		"trust PEM":                                withClient(config.TLS{CAFile: store("ca.pem")}),
		"trust JKS":                                withClient(config.TLS{CAFile: store("trust.jks"), CAPassword: "storepass"}),
		"trust JKS, no password":                   withClient(config.TLS{CAFile: store("trust.jks")}),
		"trust JKS with a key":                     withClient(config.TLS{CAFile: store("mixed.jks"), CAPassword: "storepass"}),
		"trust PKCS12":                             withClient(config.TLS{CAFile: store("trust.p12"), CAPasswordFile: passwordFile}),
		"trust PKCS12 before Java 17":              withClient(config.TLS{CAFile: store("trust-old.p12"), CAPassword: "storepass"}),
		"trust PKCS12 that is open":                withClient(config.TLS{CAFile: store("trust-open.p12")}),
		"trust PKCS12 that is open, password":      withClient(config.TLS{CAFile: store("trust-open.p12"), CAPassword: "whatever"}),
		"trust PKCS12 with a key":                  withClient(config.TLS{CAFile: store("mixed.p12"), CAPassword: "storepass"}),
		"trust PEM inline":                         withClient(config.TLS{CA: readStore(t, "ca.pem")}),
		"trust PEM in one line":                    withClient(config.TLS{CA: oneLine.Replace(readStore(t, "ca.pem"))}),
		"client PEM, two files":                    withTrust(config.TLS{CertFile: store("client.pem"), KeyFile: store("client.key")}),
		"client PEM, one file twice":               withTrust(config.TLS{CertFile: store("both.pem"), KeyFile: store("both.pem")}),
		"client PEM, encrypted key":                withTrust(config.TLS{CertFile: store("client.pem"), KeyFile: store("encrypted.key"), KeyPassword: "keypass"}),
		"client PEM, one file, encrypted":          withTrust(config.TLS{CertFile: store("both-encrypted.pem"), KeyPassword: "keypass"}),
		"client PEM inline":                        withTrust(config.TLS{Cert: readStore(t, "client.pem"), Key: config.Secret(readStore(t, "client.key"))}),
		"client PEM in one line":                   withTrust(config.TLS{Cert: oneLine.Replace(readStore(t, "client.pem")), Key: config.Secret(oneLine.Replace(readStore(t, "encrypted.key"))), KeyPassword: "keypass"}),
		"client JKS":                               withTrust(config.TLS{CertFile: store("client.jks"), CertPassword: "storepass"}),
		"client JKS, the key has its own":          withTrust(config.TLS{CertFile: store("client-keypass.jks"), CertPassword: "storepass", KeyPassword: "keypass"}),
		"client JKS, the same file as key":         withTrust(config.TLS{CertFile: store("client.jks"), KeyFile: store("client.jks"), CertPassword: "storepass"}),
		"client PKCS12":                            withTrust(config.TLS{CertFile: store("client.p12"), CertPasswordFile: passwordFile}),
		"client PKCS12 before Java 17":             withTrust(config.TLS{CertFile: store("client-old.p12"), CertPassword: "storepass"}),
		"client PKCS12 of OpenSSL":                 withTrust(config.TLS{CertFile: store("client-openssl.p12"), CertPassword: "storepass"}),
		"client JKS with an CA":                    withTrust(config.TLS{CertFile: store("mixed.jks"), CertPassword: "storepass"}),
		"client PKCS12 with an CA":                 withTrust(config.TLS{CertFile: store("mixed.p12"), CertPassword: "storepass"}),
		"client JKS of two keys":                   withTrust(config.TLS{CertFile: store("two.jks"), CertPassword: "storepass"}),
		"client PKCS12 of two keys":                withTrust(config.TLS{CertFile: store("two.p12"), CertPassword: "storepass"}),
		"JKS on the one side, PKCS12 on the other": {CAFile: store("trust.jks"), CAPassword: "storepass", CertFile: store("client.p12"), CertPassword: "storepass"},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			shown := make(chan string, 1)
			if err := reach(t, config.Cluster{Brokers: wantsCertificate(t, shown).ListenAddrs(), TLS: &c}); err != nil {
				t.Fatal(err)
			}
			want := "client 2" // and its CA
			if strings.Contains(c.CertFile, "client.pem") || strings.Contains(c.CertFile, "encrypted") || c.Cert != "" {
				want = "client 1"
			}
			if got := <-shown; got != want {
				t.Errorf("the broker was shown %s, want %s", got, want)
			}
		})
	}
}

func TestStores_explainWhatIsWrong(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "broken")
	writeFile(t, broken, readStore(t, "client.jks")[:700])
	brokenDER := filepath.Join(t.TempDir(), "broken.p12")
	writeFile(t, brokenDER, readStore(t, "client.p12")[:700])
	absent := filepath.Join(t.TempDir(), "absent")
	for _, test := range []struct {
		name string
		tls  config.TLS
		want string
	}{
		{"trust JKS, wrong password", config.TLS{CAFile: store("trust.jks"), CAPassword: "hunter2"}, "tls.ca_file: " + store("trust.jks") + " is a JKS store that the password does not open, or it is damaged; check tls.ca_password"},
		{"trust PKCS12, wrong password", config.TLS{CAFile: store("trust.p12"), CAPassword: "hunter2"}, "tls.ca_file: " + store("trust.p12") + " is a PKCS12 store that the password does not open; check tls.ca_password"},
		{"trust PKCS12, no password", config.TLS{CAFile: store("trust.p12")}, "does not open; check tls.ca_password"},
		{"trust PKCS12 that marks nothing", config.TLS{CAFile: store("unmarked.p12"), CAPassword: "storepass"}, "marks no certificate as trusted"},
		{"trust JCEKS", config.TLS{CAFile: store("trust.jceks"), CAPassword: "storepass"}, "is a JCEKS store"},
		{"trust broken", config.TLS{CAFile: broken, CAPassword: "storepass"}, "or it is damaged"},
		{"trust broken, no password", config.TLS{CAFile: broken}, "is a JKS store that cannot be read"},
		{"trust broken PKCS12", config.TLS{CAFile: brokenDER, CAPassword: "storepass"}, "is neither PEM, JKS nor a PKCS12 truststore"},
		{"trust file of neither kind", config.TLS{CAFile: store("make.sh")}, "holds no certificate; it must be PEM, JKS or PKCS12"},
		{"trust inline, not PEM", config.TLS{CA: "MIIB"}, "tls.ca holds no certificate"},
		{"no password file", config.TLS{CAFile: store("trust.jks"), CAPasswordFile: absent}, "tls.ca_password_file: open " + absent},
		{"no file", config.TLS{CertFile: absent, CertPassword: "hunter2"}, "tls.cert_file: open " + absent},
		{"client JKS, wrong password", config.TLS{CertFile: store("client.jks"), CertPassword: "hunter2"}, "tls.cert_file: " + store("client.jks") + " is a JKS store that the password does not open, or it is damaged; check tls.cert_password"},
		{"client JKS, no password", config.TLS{CertFile: store("client.jks")}, "is a JKS store; set its password with tls.cert_password"},
		{"client JKS, the key has its own", config.TLS{CertFile: store("client-keypass.jks"), CertPassword: "storepass"}, `has a key "client" that the password does not open; set the password of the key with tls.key_password`},
		{"client PKCS12, wrong password", config.TLS{CertFile: store("client.p12"), CertPassword: "hunter2"}, "is a PKCS12 store that the password does not open; check tls.cert_password"},
		{"client JKS without a key", config.TLS{CertFile: store("trust.jks"), CertPassword: "storepass"}, "holds no private key; is it the truststore?"},
		{"client PKCS12 without a key", config.TLS{CertFile: store("trust.p12"), CertPassword: "storepass"}, "holds no private key; is it the truststore?"},
		{"client PEM without a key", config.TLS{CertFile: store("client.pem")}, "holds no private key; set tls.key_file"},
		{"client JCEKS", config.TLS{CertFile: store("trust.jceks"), CertPassword: "storepass"}, "is a JCEKS store"},
		{"client broken PKCS12", config.TLS{CertFile: brokenDER, CertPassword: "storepass"}, "is neither PEM, JKS nor PKCS12"},
		{"key apart from a store", config.TLS{CertFile: store("client.jks"), CertPassword: "storepass", KeyFile: store("client.key")}, "is a store, which holds its own keys; remove tls.key_file"},
		{"encrypted key, no password", config.TLS{CertFile: store("client.pem"), KeyFile: store("encrypted.key")}, "tls.key_file: " + store("encrypted.key") + " has an encrypted key; set tls.key_password"},
		{"encrypted key, wrong password", config.TLS{CertFile: store("both-encrypted.pem"), KeyPassword: "hunter2"}, "tls.cert_file: " + store("both-encrypted.pem") + " has a key that cannot be decrypted; check tls.key_password"},
		{"key encrypted in the old way", config.TLS{CertFile: store("client.pem"), KeyFile: store("old.key"), KeyPassword: "keypass"}, "openssl pkcs8 -topk8"},
		{"key of another", config.TLS{CertFile: store("client.pem"), KeyFile: store("broker.key")}, "tls.cert_file: " + store("client.pem") + " with tls.key_file: " + store("broker.key")},
		{"certificate inline, not PEM", config.TLS{Cert: "MIIB", Key: "hunter2"}, "tls.cert holds no certificate"},
		{"key inline, not PEM", config.TLS{CertFile: store("client.pem"), Key: "hunter2"}, "tls.key holds no private key"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Options(config.Cluster{TLS: &test.tls}, &Dials{}, slog.New(slog.DiscardHandler))
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), "tls.") {
				t.Errorf("error is %v\nwant %s", err, test.want)
			}
			for _, secret := range []string{"hunter2", "storepass", "keypass"} {
				if err != nil && strings.Contains(strings.ReplaceAll(err.Error(), "client-keypass.jks", ""), secret) {
					t.Errorf("the error contains the secret %q: %v", secret, err)
				}
			}
		})
	}
}

// The next connection uses a store that was replaced in place, and its password.
func TestStores_rotate(t *testing.T) {
	dir := t.TempDir()
	file, password := filepath.Join(dir, "client"), filepath.Join(dir, "password")
	writeFile(t, file, readStore(t, "client.jks"))
	writeFile(t, password, "storepass")
	own, err := newCredentials(config.TLS{CertFile: file, CertPasswordFile: password})
	if err != nil {
		t.Fatal(err)
	}
	request := &tls.CertificateRequestInfo{Version: tls.VersionTLS13, SignatureSchemes: []tls.SignatureScheme{tls.PSSWithSHA256, tls.ECDSAWithP256AndSHA256}}
	for _, name := range []string{"client.jks", "two.p12", "client.pem"} {
		content := readStore(t, name)
		if name == "client.pem" {
			content = readStore(t, "both.pem")
		}
		writeFile(t, file, content)
		pair, err := own.connection().GetClientCertificate(request)
		if err != nil {
			t.Fatal(err)
		}
		if name == "two.p12" == bytes.Contains(pair.Certificate[0], []byte("client")) {
			t.Errorf("%s: the broker is shown %s", name, pair.Leaf.Subject)
		}
	}
	writeFile(t, password, "hunter2")
	writeFile(t, file, readStore(t, "client.jks"))
	if own.refresh().problems == nil {
		t.Error("the password file is not read again")
	}
	if _, err := own.connection().GetClientCertificate(request); err != nil {
		t.Errorf("with a wrong password, the last good certificate is not used: %v", err)
	}
}
