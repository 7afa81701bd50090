package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/milena-kafka/milena/config"
)

// material is the certificates or keys that a config key holds or names as a file, and the prefix of errors about them.
type material struct {
	data string
	name string
}

// readMaterial returns the inline text, or the content of file. The config key of the file is key with _file appended.
func readMaterial(key, inline, file string) (material, error) {
	if file == "" {
		return material{data: inline, name: key}, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return material{}, fmt.Errorf("%s_file: %w", key, err)
	}
	return material{data: string(data), name: fmt.Sprintf("%s_file: %s", key, file)}, nil
}

func (m material) errorf(format string, args ...any) error {
	return fmt.Errorf(m.name+" "+format, args...)
}

// format is detected from the content, not from the file name.
type format int

const (
	formatPEM format = iota
	formatJKS
	formatPKCS12
	formatJCEKS
)

func (m material) format() format {
	switch {
	case strings.HasPrefix(m.data, "\xFE\xED\xFE\xED"):
		return formatJKS
	case strings.HasPrefix(m.data, "\xCE\xCE\xCE\xCE"):
		return formatJCEKS
	case strings.HasPrefix(m.data, "0"): // 0x30, a DER SEQUENCE; PEM never begins with the character 0
		return formatPKCS12
	default:
		return formatPEM
	}
}

const noJCEKS = "is a JCEKS store, which milena does not read; convert it with keytool -importkeystore -deststoretype PKCS12"

// trustFiles is what the config says about CAs, with the content of its files. It is zero if the CAs of the system are trusted.
type trustFiles struct {
	store    material
	password string
}

// readTrust reads the files, without an attempt to understand them.
func readTrust(c config.TLS) (f trustFiles, err error) {
	if c.CA == "" && c.CAFile == "" {
		return f, nil
	}
	if f.store, err = readMaterial("tls.ca", c.CA, c.CAFile); err != nil {
		return f, err
	}
	if f.password, err = c.CASecret(); err != nil {
		return f, fmt.Errorf("tls.ca_password_file: %w", err)
	}
	return f, nil
}

// parse returns the CA certificates, nil for those of the system.
func (f trustFiles) parse() (*x509.CertPool, error) {
	if f == (trustFiles{}) {
		return nil, nil
	}
	var certificates []*x509.Certificate
	var err error
	switch f.store.format() {
	case formatJKS:
		certificates, err = f.store.trustedFromJKS(f.password)
	case formatPKCS12:
		certificates, err = f.store.trustedFromPKCS12(f.password)
	case formatJCEKS:
		return nil, f.store.errorf(noJCEKS)
	case formatPEM:
		return f.store.trustedFromPEM()
	}
	if err != nil {
		return nil, err
	}
	if len(certificates) == 0 {
		return nil, f.store.errorf("holds no trusted certificate; import the CA with keytool -importcert -alias ca -file ca.pem -keystore FILE")
	}
	pool := x509.NewCertPool()
	for _, certificate := range certificates {
		pool.AddCert(certificate)
	}
	return pool, nil
}

// ownFiles is what the config says about the client's certificate, with the content of its files. It is zero if there is none.
type ownFiles struct {
	chain, key            material // key is chain if the config names none of its own
	password, keyPassword string
}

// readOwn reads the files, without an attempt to understand them.
func readOwn(c config.TLS) (f ownFiles, err error) {
	if c.Cert == "" && c.CertFile == "" {
		if c.Key != "" || c.KeyFile != "" {
			return f, errors.New("tls.cert_file: missing, but tls.key_file is set; a client certificate needs both")
		}
		return f, nil
	}
	if f.chain, err = readMaterial("tls.cert", c.Cert, c.CertFile); err != nil {
		return f, err
	}
	f.key = f.chain
	if c.Key != "" || c.KeyFile != "" && c.KeyFile != c.CertFile {
		if f.key, err = readMaterial("tls.key", c.Key.Reveal(), c.KeyFile); err != nil {
			return f, err
		}
	}
	if f.password, err = c.CertSecret(); err != nil {
		return f, fmt.Errorf("tls.cert_password_file: %w", err)
	}
	if f.keyPassword, err = c.KeySecret(); err != nil {
		return f, fmt.Errorf("tls.key_password_file: %w", err)
	}
	return f, nil
}

// parse returns the certificates with a private key: none if the config has none, else at least one. A store may hold several.
func (f ownFiles) parse() ([]tls.Certificate, error) {
	if f == (ownFiles{}) {
		return nil, nil
	}
	format := f.chain.format()
	if f.key != f.chain && format != formatPEM {
		return nil, f.chain.errorf("is a store, which holds its own keys; remove tls.key_file")
	}
	switch format {
	case formatJKS:
		return f.chain.clientCertsFromJKS(f.password, f.keyPassword)
	case formatPKCS12:
		return f.chain.clientCertsFromPKCS12(f.password)
	case formatJCEKS:
		return nil, f.chain.errorf(noJCEKS)
	case formatPEM:
	}
	pair, err := keyPairFromPEM(f.chain, f.key, f.keyPassword)
	if err != nil {
		return nil, err
	}
	return []tls.Certificate{pair}, nil
}
