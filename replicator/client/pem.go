package client

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"regexp"
	"strings"

	"github.com/youmark/pkcs8"
)

var pemLine = regexp.MustCompile(`\s*(-----(?:BEGIN|END) [A-Z0-9 ]+-----)\s*`)

// separateLines puts the BEGIN and END of each PEM block on a line of its own. Java accepts any white space there, and a value that spans
// several lines of a properties file has only spaces (KIP-651).
func separateLines(text string) []byte { return []byte(pemLine.ReplaceAllString(text, "\n$1\n")) }

// certificatesInPEM returns the text, which holds at least one certificate. A block without an end is an error: the file is being written, and
// crypto/x509 and crypto/tls would do without the rest of it.
func (m material) certificatesInPEM() ([]byte, error) {
	text := separateLines(m.data)
	switch begun := bytes.Count(text, []byte("-----BEGIN ")); {
	case begun > bytes.Count(text, []byte("-----END ")):
		return nil, m.errorf("ends in the middle of a PEM block; write it again, to another file that is then renamed")
	case !bytes.Contains(text, []byte("-----BEGIN CERTIFICATE-----")):
		return nil, m.errorf("holds no certificate; it must be PEM, JKS or PKCS12")
	}
	return text, nil
}

// trustedFromPEM returns all certificates of the text.
func (m material) trustedFromPEM() (*x509.CertPool, error) {
	text, err := m.certificatesInPEM()
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, m.errorf("holds no certificate that can be read; it must be PEM, JKS or PKCS12")
	}
	return pool, nil
}

func keyPairFromPEM(chain, key material, password string) (tls.Certificate, error) {
	certificates, err := chain.certificatesInPEM()
	if err != nil {
		return tls.Certificate{}, err
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
			return nil, m.errorf("has a key in OpenSSL's legacy encryption, which Java does not read either; convert it with " + convertKey)
		default:
			return block, nil
		}
	}
}

// The commands that convert what milena does not read. Most old algorithms are in OpenSSL's legacy provider; OpenSSL before 3 has neither
// providers nor these options.
const (
	convertKey       = "openssl pkcs8 -topk8 -v2 aes-256-cbc -in OLD -out NEW"
	convertLegacyKey = "openssl pkcs8 -topk8 -v2 aes-256-cbc -provider default -provider legacy -in OLD -out NEW (without the -provider options before OpenSSL 3)"
	convertStore     = "openssl pkcs12 -legacy -aes256 -in OLD -out NEW (without -legacy before OpenSSL 3), which makes a PEM file"
	convertTrust     = "openssl pkcs12 -legacy -nokeys -in OLD -out NEW (without -legacy before OpenSSL 3), which makes a PEM file"
)

func (m material) decrypted(block *pem.Block, password string) (*pem.Block, error) {
	if password == "" {
		return nil, m.errorf("has an encrypted key; set tls.key_password or tls.key_password_file")
	}
	var encrypted struct {
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
	if _, err := asn1.Unmarshal(block.Bytes, &encrypted); err == nil && !encrypted.Algorithm.Algorithm.Equal(pbes2) {
		return nil, m.errorf("has a key that is encrypted with %s, which milena does not decrypt; convert it with %s",
			algorithmName(encrypted.Algorithm.Algorithm.String()), convertLegacyKey)
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

// pbes2 is the encryption of keys since PKCS #5 2.0. The ones before are DES, 3DES or RC2 with one password, and no maintained library decrypts
// them in a PEM file.
var pbes2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13} //nolint:gochecknoglobals // a constant

// algorithmName returns the name of an encryption, which Java, OpenSSL and the RFCs write in different ways. That of RFC 8018 and RFC 7292 is
// nearest to all of them.
func algorithmName(id string) string {
	switch id {
	case "1.2.840.113549.1.5.1":
		return "pbeWithMD2AndDES-CBC"
	case "1.2.840.113549.1.5.3":
		return "pbeWithMD5AndDES-CBC"
	case "1.2.840.113549.1.5.4":
		return "pbeWithMD2AndRC2-CBC"
	case "1.2.840.113549.1.5.6":
		return "pbeWithMD5AndRC2-CBC"
	case "1.2.840.113549.1.5.10":
		return "pbeWithSHA1AndDES-CBC"
	case "1.2.840.113549.1.5.11":
		return "pbeWithSHA1AndRC2-CBC"
	case "1.2.840.113549.1.12.1.1":
		return "pbeWithSHAAnd128BitRC4"
	case "1.2.840.113549.1.12.1.2":
		return "pbeWithSHAAnd40BitRC4"
	case "1.2.840.113549.1.12.1.3":
		return "pbeWithSHAAnd3-KeyTripleDES-CBC"
	case "1.2.840.113549.1.12.1.4":
		return "pbeWithSHAAnd2-KeyTripleDES-CBC"
	case "1.2.840.113549.1.12.1.5":
		return "pbeWithSHAAnd128BitRC2-CBC"
	case "1.2.840.113549.1.12.1.6":
		return "pbeWithSHAAnd40BitRC2-CBC"
	default:
		return "algorithm " + id
	}
}
