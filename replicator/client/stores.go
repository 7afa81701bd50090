package client

import (
	"bytes"
	"crypto"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/pavlo-v-chernykh/keystore-go/v4"
	"software.sslmate.com/src/go-pkcs12"
)

// Stores are read as Java reads them: a wrong password of one key is an error, the key is not left out.

// The config keys of store passwords, in a milena.yaml and in the mm2.properties of MirrorMaker 2.
const (
	caPassword   = "tls.ca_password (ssl.truststore.password in an mm2.properties)"
	certPassword = "tls.cert_password (ssl.keystore.password in an mm2.properties)"
)

// loadJKS opens a store, with its aliases in order. It verifies the digest at the end of the file first: the library trusts the lengths in
// the file and would allocate gigabytes for a flipped bit.
func (m material) loadJKS(password, option string) (keystore.KeyStore, error) {
	store := keystore.New(keystore.WithOrderedAliases(), keystore.WithCaseExactAliases())
	content := []byte(m.data)
	end := max(len(content)-sha1.Size, 0)
	if password != "" && !bytes.Equal(digestJKS(password, content[:end]), content[end:]) {
		return store, m.errorf("is a JKS store that the password does not open, or it is damaged; check %s", option)
	}
	// Without a password Java reads the certificates and skips the digest. The library always checks it, so it gets one that matches.
	data := slices.Concat(content[:end], digestJKS(password, content[:end]))
	if err := store.Load(bytes.NewReader(data), latin1(password)); err != nil {
		return store, m.errorf("is a JKS store that cannot be read: %w", err)
	}
	return store, nil
}

// digestJKS returns the digest that ends a JKS file: SHA-1 of the password in UTF-16, a constant and the data.
func digestJKS(password string, data []byte) []byte {
	sum := sha1.New()
	for _, c := range latin1(password) {
		sum.Write([]byte{0, c})
	}
	sum.Write([]byte("Mighty Aphrodite")) // a constant of the format
	sum.Write(data)
	return sum.Sum(nil)
}

// latin1 encodes a password as the library expects it, one byte per character. Java uses 16 bits per character; characters above 255
// cannot be represented.
func latin1(password string) []byte {
	out := make([]byte, 0, len(password))
	for _, r := range password {
		if r > 0xFF {
			return []byte(password)
		}
		out = append(out, byte(r))
	}
	return out
}

// trustedFromJKS returns the certificates that Java trusts: the trusted entries, and the first certificate of each key entry.
func (m material) trustedFromJKS(password string) ([]*x509.Certificate, error) {
	store, err := m.loadJKS(password, caPassword)
	if err != nil {
		return nil, err
	}
	var trusted []*x509.Certificate
	for _, alias := range store.Aliases() {
		var found []keystore.Certificate
		if entry, err := store.GetTrustedCertificateEntry(alias); err == nil {
			found = append(found, entry.Certificate)
		} else if chain, err := store.GetPrivateKeyEntryCertificateChain(alias); err == nil && len(chain) > 0 {
			found = append(found, chain[0])
		}
		parsed, err := parseCertificates(found)
		if err != nil {
			return nil, m.errorf("has an entry %q that is not a certificate: %w", alias, err)
		}
		trusted = append(trusted, parsed...)
	}
	return trusted, nil
}

func parseCertificates(entries []keystore.Certificate) ([]*x509.Certificate, error) {
	var parsed []*x509.Certificate
	for _, entry := range entries {
		certificate, err := x509.ParseCertificate(entry.Content)
		if err != nil {
			return nil, err
		}
		parsed = append(parsed, certificate)
	}
	return parsed, nil
}

func (m material) clientCertsFromJKS(password, keyPassword string) ([]tls.Certificate, error) {
	if password == "" { // Java requires it as well
		return nil, m.errorf("is a JKS store; set its password with tls.cert_password or tls.cert_password_file")
	}
	store, err := m.loadJKS(password, certPassword)
	if err != nil {
		return nil, err
	}
	var own []tls.Certificate
	for _, alias := range store.Aliases() {
		if !store.IsPrivateKeyEntry(alias) {
			continue
		}
		entry, err := store.GetPrivateKeyEntry(alias, latin1(keyPassword))
		if err != nil {
			return nil, m.errorf("has a key %q that the password does not open; set the password of the key with tls.key_password", alias)
		}
		key, err := x509.ParsePKCS8PrivateKey(entry.PrivateKey)
		if err != nil {
			return nil, m.errorf("has a key %q that cannot be used: %w", alias, err)
		}
		chain, err := parseCertificates(entry.CertificateChain)
		if err != nil {
			return nil, m.errorf("has a key %q with a certificate that cannot be read: %w", alias, err)
		}
		pair, err := newKeyPair(key, chain)
		if err != nil {
			return nil, m.errorf("has a key %q that %w", alias, err)
		}
		own = append(own, pair)
	}
	if len(own) == 0 {
		return nil, m.errorf("holds no private key; is it the truststore?")
	}
	return own, nil
}

// trustedFromPKCS12 returns the certificates that are marked as trusted or, if the store also holds keys, all certificates.
func (m material) trustedFromPKCS12(password string) ([]*x509.Certificate, error) {
	certificates, err := retryWithoutPassword(password, func(password string) ([]*x509.Certificate, error) {
		return pkcs12.DecodeTrustStore([]byte(m.data), password)
	})
	switch {
	case err == nil:
		return certificates, nil
	case errors.Is(err, pkcs12.ErrIncorrectPassword):
		return nil, m.errorf("is a PKCS12 store that the password does not open; check %s", caPassword)
	case strings.Contains(err.Error(), "not marked as trusted"):
		return nil, m.errorf("is a PKCS12 store that marks no certificate as trusted, so Java would trust none of them either; " +
			"create it with keytool -importcert or openssl pkcs12 -jdktrust anyExtendedKeyUsage, or use a PEM file")
	}
	found, inner := m.readPKCS12(password)
	if id := unsupportedAlgorithm(inner); id != "" {
		return nil, m.errorf("is a PKCS12 store that is encrypted with %s, which milena does not decrypt; convert it with %s", algorithmName(id), convertTrust)
	}
	if inner != nil {
		return nil, m.errorf("is neither PEM, JKS nor a PKCS12 truststore: %w", err)
	}
	return found.certificates, nil
}

func (m material) clientCertsFromPKCS12(password string) ([]tls.Certificate, error) {
	found, err := m.readPKCS12(password)
	switch {
	case errors.Is(err, pkcs12.ErrIncorrectPassword):
		return nil, m.errorf("is a PKCS12 store that the password does not open; check %s", certPassword)
	case err != nil && strings.Contains(err.Error(), "private key missing"), err == nil && len(found.keys) == 0:
		return nil, m.errorf("holds no private key; is it the truststore?")
	case unsupportedAlgorithm(err) != "":
		return nil, m.errorf("is a PKCS12 store that is encrypted with %s, which milena does not decrypt; convert it with %s",
			algorithmName(unsupportedAlgorithm(err)), convertStore)
	case err != nil:
		return nil, m.errorf("is neither PEM, JKS nor PKCS12: %w", err)
	}
	var own []tls.Certificate
	for _, key := range found.keys {
		pair, err := newKeyPair(key, found.certificates)
		if err != nil {
			return nil, m.errorf("has a key that %w", err)
		}
		own = append(own, pair)
	}
	return own, nil
}

// notSupported matches how the library reports an encryption that it lacks. It decrypts PBES2 and, of the older ones, those with SHA-1 and 3DES of
// three keys or RC2, with which Java wrote stores before 17.
var notSupported = regexp.MustCompile(`algorithm ([0-9.]+) is not supported`)

// unsupportedAlgorithm returns the id of the encryption that an error of the library is about, or "".
func unsupportedAlgorithm(err error) string {
	if err == nil {
		return ""
	}
	if found := notSupported.FindStringSubmatch(err.Error()); found != nil {
		return found[1]
	}
	return ""
}

// storeContents are the keys of a PKCS12 store, in order, and its certificates.
type storeContents struct {
	keys         []any
	certificates []*x509.Certificate
}

func (m material) readPKCS12(password string) (storeContents, error) {
	return retryWithoutPassword(password, func(password string) (storeContents, error) {
		key, own, others, err := pkcs12.DecodeChain([]byte(m.data), password)
		if err == nil {
			return storeContents{keys: []any{key}, certificates: append([]*x509.Certificate{own}, others...)}, nil
		}
		if !strings.Contains(err.Error(), "exactly one key") {
			return storeContents{}, err
		}
		return readMultiKeyPKCS12([]byte(m.data), password)
	})
}

// readMultiKeyPKCS12 reads a store with several keys, which only a deprecated function of the library supports.
func readMultiKeyPKCS12(data []byte, password string) (storeContents, error) {
	blocks, err := pkcs12.ToPEM(data, password) //nolint:staticcheck // it is deprecated because its PEM does not show the type of a key; both types are tried below
	if err != nil {
		return storeContents{}, err
	}
	var found storeContents
	for _, block := range blocks {
		if block.Type == "CERTIFICATE" {
			certificate, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return storeContents{}, err
			}
			found.certificates = append(found.certificates, certificate)
			continue
		}
		if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
			found.keys = append(found.keys, key)
		} else if key, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
			found.keys = append(found.keys, key)
		}
	}
	return found, nil
}

// retryWithoutPassword decodes a store. A store without a MAC is decoded again without the password: Java ignores the password of such a store.
func retryWithoutPassword[T any](password string, decode func(string) (T, error)) (T, error) {
	found, err := decode(password)
	if err != nil && strings.Contains(err.Error(), "no MAC in data") {
		return decode("")
	}
	return found, err
}

// newKeyPair combines a key with its certificate chain, leaf first. Stores keep certificates in any order.
func newKeyPair(key any, certificates []*x509.Certificate) (tls.Certificate, error) {
	signer, ok := key.(crypto.Signer)
	if !ok {
		return tls.Certificate{}, fmt.Errorf("is of a type that cannot sign: %T", key)
	}
	public, _ := signer.Public().(interface {
		Equal(other crypto.PublicKey) bool
	})
	pair := tls.Certificate{PrivateKey: signer}
	for _, certificate := range certificates {
		if public != nil && public.Equal(certificate.PublicKey) {
			pair.Leaf = certificate
			break
		}
	}
	if pair.Leaf == nil {
		return tls.Certificate{}, errors.New("has no certificate")
	}
	for next := pair.Leaf; next != nil && len(pair.Certificate) <= len(certificates); next = issuer(next, certificates) {
		pair.Certificate = append(pair.Certificate, next.Raw)
	}
	return pair, nil
}

// issuer returns the certificate that signed another one, nil at the root.
func issuer(of *x509.Certificate, certificates []*x509.Certificate) *x509.Certificate {
	if bytes.Equal(of.RawIssuer, of.RawSubject) {
		return nil
	}
	for _, candidate := range certificates {
		if bytes.Equal(candidate.RawSubject, of.RawIssuer) && of.CheckSignatureFrom(candidate) == nil {
			return candidate
		}
	}
	return nil
}
