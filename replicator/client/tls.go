package client

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/youmark/pkcs8"

	"github.com/milena-kafka/milena/config"
)

// tlsConfig reads CA certificates and client certificates, from PEM or Java stores. The server name stays empty unless it is set: kgo then
// uses the host of each broker.
func tlsConfig(c config.TLS) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
	if c.CA != "" || c.CAFile != "" {
		var err error
		if conf.RootCAs, err = certPool(c); err != nil {
			return nil, err
		}
	}
	if c.Cert == "" && c.CertFile == "" {
		if c.Key != "" || c.KeyFile != "" {
			return nil, errors.New("tls.cert_file: missing, but tls.key_file is set; a client certificate needs both")
		}
		return conf, nil
	}
	if _, err := clientCertificates(c); err != nil {
		return nil, err
	}
	// Read at each handshake: certificates are rotated in place, often daily, and a process runs for months.
	conf.GetClientCertificate = func(request *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		own, err := clientCertificates(c)
		if err != nil {
			return nil, err
		}
		// As in Java: the first key that the broker supports. If there is none, the broker's own error is the best one.
		for i := range own {
			if request.SupportsCertificate(&own[i]) == nil {
				return &own[i], nil
			}
		}
		return &own[0], nil
	}
	return conf, nil
}

// material is the certificates or keys that a config key holds or names as a file, and the prefix of errors about them.
type material struct {
	data []byte
	name string
}

// readMaterial returns the inline text, or the content of file. The config key of the file is key with _file appended.
func readMaterial(key, inline, file string) (material, error) {
	if file == "" {
		return material{data: []byte(inline), name: key}, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return material{}, fmt.Errorf("%s_file: %w", key, err)
	}
	return material{data: data, name: fmt.Sprintf("%s_file: %s", key, file)}, nil
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
	case bytes.HasPrefix(m.data, []byte{0xFE, 0xED, 0xFE, 0xED}):
		return formatJKS
	case bytes.HasPrefix(m.data, []byte{0xCE, 0xCE, 0xCE, 0xCE}):
		return formatJCEKS
	case bytes.HasPrefix(m.data, []byte{0x30}): // a DER SEQUENCE; PEM never begins with the character 0
		return formatPKCS12
	default:
		return formatPEM
	}
}

const noJCEKS = "is a JCEKS store, which milena does not read; convert it with keytool -importkeystore -deststoretype PKCS12"

// certPool returns the CA certificates that the config trusts.
func certPool(c config.TLS) (*x509.CertPool, error) {
	m, err := readMaterial("tls.ca", c.CA, c.CAFile)
	if err != nil {
		return nil, err
	}
	password, err := c.CASecret()
	if err != nil {
		return nil, fmt.Errorf("tls.ca_password_file: %w", err)
	}
	pool := x509.NewCertPool()
	var certificates []*x509.Certificate
	switch m.format() {
	case formatJKS:
		certificates, err = m.trustedFromJKS(password)
	case formatPKCS12:
		certificates, err = m.trustedFromPKCS12(password)
	case formatJCEKS:
		return nil, m.errorf(noJCEKS)
	case formatPEM:
		if !pool.AppendCertsFromPEM(separateLines(m.data)) {
			return nil, m.errorf("holds no certificate; it must be PEM, JKS or PKCS12")
		}
		return pool, nil
	}
	if err != nil {
		return nil, err
	}
	if len(certificates) == 0 {
		return nil, m.errorf("holds no trusted certificate; import the CA with keytool -importcert -alias ca -file ca.pem -keystore FILE")
	}
	for _, certificate := range certificates {
		pool.AddCert(certificate)
	}
	return pool, nil
}

// clientCertificates returns the certificates with a private key, at least one. A store may hold several.
func clientCertificates(c config.TLS) ([]tls.Certificate, error) {
	m, err := readMaterial("tls.cert", c.Cert, c.CertFile)
	if err != nil {
		return nil, err
	}
	password, err := c.CertSecret()
	if err != nil {
		return nil, fmt.Errorf("tls.cert_password_file: %w", err)
	}
	keyPassword, err := c.KeySecret()
	if err != nil {
		return nil, fmt.Errorf("tls.key_password_file: %w", err)
	}
	format := m.format()
	separate := c.Key != "" || c.KeyFile != "" && c.KeyFile != c.CertFile
	if separate && format != formatPEM {
		return nil, m.errorf("is a store, which holds its own keys; remove tls.key_file")
	}
	switch format {
	case formatJKS:
		return m.clientCertsFromJKS(password, keyPassword)
	case formatPKCS12:
		return m.clientCertsFromPKCS12(password)
	case formatJCEKS:
		return nil, m.errorf(noJCEKS)
	case formatPEM:
	}
	key := m
	if separate {
		if key, err = readMaterial("tls.key", c.Key.Reveal(), c.KeyFile); err != nil {
			return nil, err
		}
	}
	pair, err := keyPairFromPEM(m, key, keyPassword)
	if err != nil {
		return nil, err
	}
	return []tls.Certificate{pair}, nil
}

var pemLine = regexp.MustCompile(`\s*(-----(?:BEGIN|END) [A-Z0-9 ]+-----)\s*`)

// separateLines puts the BEGIN and END of each PEM block on a line of its own. Java accepts any white space there, and a value that spans
// several lines of a properties file has only spaces (KIP-651).
func separateLines(text []byte) []byte { return pemLine.ReplaceAll(text, []byte("\n$1\n")) }

func keyPairFromPEM(chain, key material, password string) (tls.Certificate, error) {
	certificates := separateLines(chain.data)
	if !bytes.Contains(certificates, []byte("-----BEGIN CERTIFICATE-----")) {
		return tls.Certificate{}, chain.errorf("holds no certificate; it must be PEM, JKS or PKCS12")
	}
	block, err := key.privateKeyFromPEM(password)
	if err != nil {
		return tls.Certificate{}, err
	}
	pair, err := tls.X509KeyPair(certificates, pem.EncodeToMemory(block))
	if err != nil && chain.name != key.name {
		return pair, chain.errorf("with %s: %w", key.name, err)
	}
	if err != nil {
		return pair, chain.errorf("cannot be used: %w", err)
	}
	return pair, nil
}

// privateKeyFromPEM returns the first private key, decrypted.
func (m material) privateKeyFromPEM(password string) (*pem.Block, error) {
	for rest := separateLines(m.data); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, m.errorf("holds no private key; set tls.key_file, or add the key to the file")
		}
		switch {
		case block.Type == "ENCRYPTED PRIVATE KEY":
			return m.decrypted(block, password)
		case !strings.HasSuffix(block.Type, "PRIVATE KEY"):
		case block.Headers["DEK-Info"] != "":
			return nil, m.errorf("has a key in OpenSSL's legacy encryption, which Java does not read either; " +
				"convert it with openssl pkcs8 -topk8")
		default:
			return block, nil
		}
	}
}

func (m material) decrypted(block *pem.Block, password string) (*pem.Block, error) {
	if password == "" {
		return nil, m.errorf("has an encrypted key; set tls.key_password or tls.key_password_file")
	}
	key, err := pkcs8.ParsePKCS8PrivateKey(block.Bytes, []byte(password))
	if err != nil {
		return nil, m.errorf("has a key that cannot be decrypted; check tls.key_password: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, m.errorf("has a key that cannot be used: %w", err)
	}
	return &pem.Block{Type: "PRIVATE KEY", Bytes: der}, nil
}
