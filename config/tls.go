package config

import (
	"fmt"
	"os"
	"strings"
)

// TLS says whom to trust and who we are. An empty section trusts the system's authorities and shows no certificate.
//
// Each file is PEM, a JKS key store or a PKCS12 one; its content tells, as it does to Java since version 9. PEM may be written out instead
// of a file. A password is needed by a store, or by a PEM key that is encrypted.
type TLS struct {
	// CA or CAFile holds the authorities that may sign the brokers' certificates; none of them trusts the system's.
	CA             string `koanf:"ca"`
	CAFile         string `koanf:"ca_file"`
	CAPassword     Secret `koanf:"ca_password"`
	CAPasswordFile string `koanf:"ca_password_file"`
	// Cert or CertFile holds the client's own certificate, with those between it and the authority.
	Cert             string `koanf:"cert"`
	CertFile         string `koanf:"cert_file"`
	CertPassword     Secret `koanf:"cert_password"`
	CertPasswordFile string `koanf:"cert_password_file"`
	// Key or KeyFile holds the key of that certificate; none of them looks for it in CertFile.
	Key     Secret `koanf:"key"`
	KeyFile string `koanf:"key_file"`
	// KeyPassword or KeyPasswordFile is the key's own password; none of them is as CertPassword.
	KeyPassword     Secret `koanf:"key_password"`
	KeyPasswordFile string `koanf:"key_password_file"`
	// ServerName is expected in the brokers' certificates instead of the host that was dialled.
	ServerName string `koanf:"server_name"`
}

// Format prints the fields without secrets, for the reason of SASL.Format.
func (t TLS) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "{%s %s %s %s %s %s %s %s}",
		t.CAFile, t.CAPasswordFile, t.CertFile, t.CertPasswordFile, t.KeyFile, t.KeyPasswordFile, t.ServerName, hidden)
}

// CASecret is the password of the authorities' store, or "". A file is read at each call, as by SASL.Secret.
func (t TLS) CASecret() (string, error) { return readSecret(t.CAPassword, t.CAPasswordFile) }

// CertSecret is the password of the store that holds the client's certificate, or "".
func (t TLS) CertSecret() (string, error) { return readSecret(t.CertPassword, t.CertPasswordFile) }

// KeySecret is the password of the key, which is that of the store where it has none of its own, or "".
func (t TLS) KeySecret() (string, error) {
	if t.KeyPassword == "" && t.KeyPasswordFile == "" {
		return t.CertSecret()
	}
	return readSecret(t.KeyPassword, t.KeyPasswordFile)
}

// readSecret is a secret wherever it is written. One newline at the end of a file is not part of it, as editors put it there.
func readSecret(written Secret, file string) (string, error) {
	if file == "" {
		return written.Reveal(), nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", err // *os.PathError already says what was done to which file.
	}
	text := strings.TrimSuffix(string(b), "\n")
	return strings.TrimSuffix(text, "\r"), nil
}

func (t *TLS) validate(path string, found *complaints) {
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
			found.add(path, "%s and %s_file are both written; keep one", either.key, either.key)
		}
	}
	certificate, key := t.Cert != "" || t.CertFile != "", t.Key != "" || t.KeyFile != ""
	switch {
	case key && !certificate:
		found.add(path, "a key without its certificate; write cert_file, or remove the key")
	case t.Cert != "" && !key:
		found.add(path, "cert without its key; write key: ${NAME} or key_file: PATH")
	}
	if t.CAFile == "" && (t.CAPassword != "" || t.CAPasswordFile != "") {
		found.add(path, "ca_password without ca_file has nothing to open; remove it, or write the store's path")
	}
	if t.CertFile == "" && (t.CertPassword != "" || t.CertPasswordFile != "") {
		found.add(path, "cert_password without cert_file has nothing to open; remove it, or write the store's path")
	}
	if !certificate && (t.KeyPassword != "" || t.KeyPasswordFile != "") {
		found.add(path, "key_password without a certificate has nothing to open; remove it, or write cert_file")
	}
}
