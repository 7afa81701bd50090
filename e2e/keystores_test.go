package e2e_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
)

const (
	storePassword = "correct horse"
	keyPassword   = "battery staple"
)

// keytool runs Java's keytool.
func keytool(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(within(t, time.Minute, "keytool ends"), "keytool", args...).CombinedOutput(); err != nil {
		t.Fatalf("keytool: %v\n%s", err, out)
	}
}

// createStores creates a truststore and a keystore of each type in dir with keytool, as administrators do.
func createStores(t *testing.T, dir string, ca *kafka.Authority) {
	t.Helper()
	cert, key, err := ca.Issue("milena")
	check(t, err)
	made := encodePKCS12(t, cert, key, ca)
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, content := range map[string][]byte{"made.p12": made, "ca.pem": ca.PEM, "client.pem": cert, "client.key": key} {
		check(t, os.WriteFile(at(name), content, 0o600))
	}
	for kind, password := range map[string]string{"JKS": keyPassword, "PKCS12": storePassword} {
		keytool(t, "-importcert", "-noprompt", "-alias", "ca", "-file", at("ca.pem"), "-keystore", at("trust."+kind), "-storetype", kind, "-storepass", storePassword)
		keytool(t, "-importkeystore", "-noprompt", "-srckeystore", at("made.p12"), "-srcstorepass", storePassword, "-srcalias", "1",
			"-destkeystore", at("client."+kind), "-deststoretype", kind, "-deststorepass", storePassword, "-destkeypass", password, "-destalias", "milena")
	}
}

// encodePKCS12 returns a store with a key, its certificate and the authority that signed it.
func encodePKCS12(t *testing.T, cert, key []byte, ca *kafka.Authority) []byte {
	t.Helper()
	pair, err := tls.X509KeyPair(slices.Concat(cert, ca.PEM), key)
	check(t, err)
	root, err := x509.ParseCertificate(pair.Certificate[1])
	check(t, err)
	made, err := pkcs12.Modern.Encode(pair.PrivateKey, pair.Leaf, []*x509.Certificate{root}, storePassword)
	check(t, err)
	return made
}

// milena connects to brokers that require a client certificate, with the key stores that an mm2.properties names.
func TestJavaKeyStores(t *testing.T) {
	t.Parallel()
	ca, err := kafka.NewAuthority("the right authority")
	check(t, err)
	security := &kafka.Security{CA: ca}
	p := startPair(t, kafka.Options{Security: security}, kafka.Options{Security: security})
	createStores(t, p.dir, ca)
	at := func(name string) string { return filepath.Join(p.dir, name) }
	escaped := func(name string) string {
		text, err := os.ReadFile(at(name))
		check(t, err)
		return strings.ReplaceAll(string(text), "\n", `\n`)
	}
	base := fmt.Sprintf("clusters = source, target\nsource.bootstrap.servers = %s\ntarget.bootstrap.servers = %s\nsecurity.protocol = SSL\n"+
		"source->target.enabled = true\nsource->target.topics = secure\nreplication.factor = 1\nrefresh.topics.interval.seconds = 1\n",
		strings.Join(p.source.SecureAddrs(), ","), strings.Join(p.target.SecureAddrs(), ","))
	jks := "source.ssl.truststore.location = " + at("trust.JKS") + "\nsource.ssl.truststore.password = " + storePassword +
		"\nsource.ssl.keystore.location = " + at("client.JKS") + "\nsource.ssl.keystore.password = " + storePassword + "\nsource.ssl.key.password = " + keyPassword + "\n"
	p12 := "target.ssl.truststore.location = " + at("trust.PKCS12") + "\ntarget.ssl.truststore.type = PKCS12\ntarget.ssl.truststore.password = " + storePassword +
		"\ntarget.ssl.keystore.location = " + at("client.PKCS12") + "\ntarget.ssl.keystore.type = PKCS12\ntarget.ssl.keystore.password = " + storePassword + "\n"
	// A PKCS12 store that is declared as JKS and the other way round: Java detects the type by content too.
	swapped := strings.NewReplacer("source.", "target.", "target.", "source.", "type = PKCS12", "type = JKS").Replace(jks+p12) +
		"target.ssl.truststore.type = PKCS12\ntarget.ssl.keystore.type = PKCS12\n"
	inside := "ssl.truststore.type = PEM\nssl.keystore.type = PEM\nssl.truststore.certificates = " + escaped("ca.pem") +
		"\nssl.keystore.certificate.chain = " + escaped("client.pem") + "\nssl.keystore.key = " + escaped("client.key") + "\n"

	p.createTopic("secure", 3, 1)
	w := p.writer(load.Options{Topic: "secure", Partitions: 3})
	for _, tt := range []struct{ name, properties string }{
		{"JKS to PKCS12", base + jks + p12},
		{"wrong store types", base + swapped},
		{"PEM in the properties", base + inside},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := p.in(t)
			check(t, w.Write(t.Context(), 1000))
			file := filepath.Join(p.dir, "mm2.properties")
			check(t, os.WriteFile(file, []byte(tt.properties), 0o600))
			if code, out := runMilena(t, "check", "-c", file); code != 0 {
				t.Errorf("check: exit code %d\n%s", code, out)
			}
			code, text := runMilena(t, "convert", file)
			if code != 0 {
				t.Fatalf("convert: exit code %d\n%s", code, text)
			}
			config := daemon.Map{}
			check(t, yaml.Unmarshal([]byte(text), &config))
			m := p.startMilena(config)
			p.waitAndVerify(m, 30*time.Second, w.Acked(), "secure")
			m.stop()
			for _, secret := range []string{storePassword, keyPassword, "PRIVATE KEY"} {
				if strings.Contains(m.Output(), secret) {
					t.Errorf("the log contains %q", secret)
				}
			}
		})
	}
	t.Run("run reads the mm2.properties", func(t *testing.T) {
		p := p.in(t)
		check(t, w.Write(t.Context(), 1000))
		file := filepath.Join(p.dir, "mm2.properties")
		check(t, os.WriteFile(file, []byte(base+jks+p12), 0o600))
		m := p.newMilenaFromFile("milena", file)
		m.start()
		m.waitReady(30 * time.Second)
		p.waitAndVerify(m, 30*time.Second, w.Acked(), "secure")
		m.stop()
	})
	for _, tt := range []struct{ name, properties, want string }{
		{"no keystore", base + strings.ReplaceAll(jks, ".keystore.", ".unknown.") + p12, `source.*client certificate`},
		{"a wrong password", base + strings.ReplaceAll(jks, storePassword, "Tr0ub4dor&3") + p12, `source\.tls\.ca_file: .*trust\.JKS.*password.*tls\.ca_password`},
		{"the key password is missing", base + strings.ReplaceAll(jks, "ssl.key.password", "ssl.unknown") + p12, `source\.tls\.cert_file: .*client\.JKS.*tls\.key_password`},
		{"a file that does not exist", base + jks + strings.ReplaceAll(p12, "client.PKCS12", "nowhere"), `target\.tls\.cert_file: .*nowhere: no such file`},
	} {
		t.Run(tt.name+" is reported", func(t *testing.T) {
			file := filepath.Join(dir(t), "mm2.properties")
			check(t, os.WriteFile(file, []byte(tt.properties), 0o600))
			code, out := runMilena(t, "check", "-c", file)
			if code != 1 {
				t.Errorf("check: exit code %d, want 1", code)
			}
			matchLine(t, out, tt.want)
			for _, secret := range []string{storePassword, keyPassword, "Tr0ub4dor&3"} {
				if strings.Contains(out, secret) {
					t.Errorf("the output contains %q", secret)
				}
			}
		})
	}
}

// runMilena runs a verb of milena to its end and returns its exit code and output.
func runMilena(t *testing.T, args ...string) (int, string) {
	t.Helper()
	bin, err := buildMilena()
	check(t, err)
	cmd := exec.CommandContext(within(t, time.Minute, args[0]+" ends"), bin, args...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}
