package config

import (
	"fmt"
	"os"
	"strings"
)

// What is verified of the brokers' certificates.
const (
	// VerifyFull verifies that a CA has signed the certificate, and that it has the name of the broker.
	VerifyFull = "full"
	// VerifyChain verifies all but the name, as Java does with an empty ssl.endpoint.identification.algorithm.
	VerifyChain = "chain"
)

// TLS configures which certificates are trusted and which one the client presents. An empty section trusts the
// system's CAs and presents no certificate.
//
// Each file is PEM, a JKS key store or a PKCS12 key store. The type is detected from the content, as Java does since
// version 9. PEM can be set inline instead of in a file. A password is needed for a store, or for an encrypted PEM
// key.
type TLS struct {
	// CA or CAFile holds the CAs that may sign the brokers' certificates. If both are empty, the system's CAs are
	// trusted.
	CA             string `koanf:"ca"`
	CAFile         string `koanf:"ca_file"`
	CAPassword     Secret `koanf:"ca_password"`
	CAPasswordFile string `koanf:"ca_password_file"`
	// Cert or CertFile holds the client's certificate and the intermediate certificates.
	Cert             string `koanf:"cert"`
	CertFile         string `koanf:"cert_file"`
	CertPassword     Secret `koanf:"cert_password"`
	CertPasswordFile string `koanf:"cert_password_file"`
	// Key or KeyFile holds the key of that certificate. If both are empty, the key is in CertFile.
	Key     Secret `koanf:"key"`
	KeyFile string `koanf:"key_file"`
	// KeyPassword or KeyPasswordFile is the password of the key. If both are empty, that of the store is used.
	KeyPassword     Secret `koanf:"key_password"`
	KeyPasswordFile string `koanf:"key_password_file"`
	// ServerName is the name that is expected in the brokers' certificates, instead of the host that was dialed.
	ServerName string `koanf:"server_name"`
	// Verify is full or chain: what is verified of the brokers' certificates.
	Verify string `koanf:"verify"`
}

// Format prints the fields without secrets, for the same reason as SASL.Format.
func (t TLS) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "{%s %s %s %s %s %s %s %s %s}",
		t.CAFile, t.CAPasswordFile, t.CertFile, t.CertPasswordFile, t.KeyFile, t.KeyPasswordFile, t.ServerName, t.Verify, hidden)
}

// CASecret returns the password of the CA store, or "". A file is read on each call, as in SASL.Secret.
func (t TLS) CASecret() (string, error) { return readSecret(t.CAPassword, t.CAPasswordFile) }

// CertSecret returns the password of the store with the client's certificate, or "".
func (t TLS) CertSecret() (string, error) { return readSecret(t.CertPassword, t.CertPasswordFile) }

// KeySecret returns the password of the key, or that of the store if the key has none of its own, or "".
func (t TLS) KeySecret() (string, error) {
	if t.KeyPassword == "" && t.KeyPasswordFile == "" {
		return t.CertSecret()
	}
	return readSecret(t.KeyPassword, t.KeyPasswordFile)
}

// readSecret returns a secret from the config or from a file. One trailing newline in a file, which editors add, is
// removed.
func readSecret(written Secret, file string) (string, error) {
	if file == "" {
		return written.Reveal(), nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", err // *os.PathError names the operation and the file.
	}
	text := strings.TrimSuffix(string(b), "\n")
	return strings.TrimSuffix(text, "\r"), nil
}

func (t *TLS) validate(path string, found *problemList) {
	found.oneOf(path+".verify", t.Verify, VerifyFull, VerifyChain)
	for _, either := range []struct {
		key           string
		written, file string
	}{
		{"ca", t.CA, t.CAFile},
		{"ca_password", t.CAPassword.Reveal(), t.CAPasswordFile},
		{"cert", t.Cert, t.CertFile},
		{"cert_password", t.CertPassword.Reveal(), t.CertPasswordFile},
		{"key", t.Key.Reveal(), t.KeyFile},
		{"key_password", t.KeyPassword.Reveal(), t.KeyPasswordFile},
	} {
		if either.written != "" && either.file != "" {
			found.add(path, "%s and %s_file are both set; keep one", either.key, either.key)
		}
	}
	certificate, key := t.Cert != "" || t.CertFile != "", t.Key != "" || t.KeyFile != ""
	switch {
	case key && !certificate:
		found.add(path, "key is set without a certificate; set cert_file, or remove the key")
	case t.Cert != "" && !key:
		found.add(path, "cert is set without its key; set key: ${NAME} or key_file: PATH")
	}
	if t.CAFile == "" && (t.CAPassword != "" || t.CAPasswordFile != "") {
		found.add(path, "ca_password is set without ca_file; remove it, or set ca_file to the path of the store")
	}
	if t.CertFile == "" && (t.CertPassword != "" || t.CertPasswordFile != "") {
		found.add(path, "cert_password is set without cert_file; remove it, or set cert_file to the path of the store")
	}
	if !certificate && (t.KeyPassword != "" || t.KeyPasswordFile != "") {
		found.add(path, "key_password is set without a certificate; remove it, or set cert_file")
	}
}
