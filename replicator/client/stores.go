package client

import (
	"bytes"
	"crypto"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pavlo-v-chernykh/keystore-go/v4"
	"software.sslmate.com/src/go-pkcs12"
)

// The stores of Java. Java lists no key whose password is wrong and fails instead, and so does this.

// What passwords of stores are called, in a milena.yaml and where they are from for those who come from MirrorMaker 2.
const (
	caPassword   = "tls.ca_password (ssl.truststore.password in an mm2.properties)"
	certPassword = "tls.cert_password (ssl.keystore.password in an mm2.properties)"
)

// loadJKS opens a store, with its aliases in order. The sum at its end is looked at first: the library takes lengths in the file for granted
// and would ask for gigabytes where a bit has flipped.
func (m material) loadJKS(password, option string) (keystore.KeyStore, error) {
	store := keystore.New(keystore.WithOrderedAliases(), keystore.WithCaseExactAliases())
	end := max(len(m.data)-sha1.Size, 0)
	if password != "" && !bytes.Equal(sumOfJKS(password, m.data[:end]), m.data[end:]) {
		return store, m.errorf("is a JKS store that the password does not open, or it is damaged; check %s", option)
	}
	// Without a password Java reads the certificates and leaves the sum unchecked. The library does not, and gets one that fits.
	data := slices.Concat(m.data[:end], sumOfJKS(password, m.data[:end]))
	if err := store.Load(bytes.NewReader(data), characters(password)); err != nil {
		return store, m.errorf("is a JKS store that can't be read: %w", err)
	}
	return store, nil
}

func sumOfJKS(password string, data []byte) []byte {
	sum := sha1.New()
	for _, c := range characters(password) {
		sum.Write([]byte{0, c})
	}
	sum.Write([]byte("Mighty Aphrodite")) // of the format
	sum.Write(data)
	return sum.Sum(nil)
}

// characters is a password as the library takes it, one byte for each. Java's are of 16 bits; those above 255 can't be expressed.
func characters(password string) []byte {
	out := make([]byte, 0, len(password))
	for _, r := range password {
		if r > 0xFF {
			return []byte(password)
		}
		out = append(out, byte(r))
	}
	return out
}

// trustedOfJKS are the certificates that Java trusts: the entries of authorities, and the own certificate of each key.
func (m material) trustedOfJKS(password string) ([]*x509.Certificate, error) {
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
		for _, one := range found {
			certificate, err := x509.ParseCertificate(one.Content)
			if err != nil {
				return nil, m.errorf("has an entry %q that is no certificate: %w", alias, err)
			}
			trusted = append(trusted, certificate)
		}
	}
	return trusted, nil
}

func (m material) ownOfJKS(password, keyPassword string) ([]tls.Certificate, error) {
	if password == "" { // Java demands it as well
		return nil, m.errorf("is a JKS store; write its password as tls.cert_password or tls.cert_password_file")
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
		entry, err := store.GetPrivateKeyEntry(alias, characters(keyPassword))
		if err != nil {
			return nil, m.errorf("has a key %q that the password does not open; write its own as tls.key_password", alias)
		}
		key, err := x509.ParsePKCS8PrivateKey(entry.PrivateKey)
		if err != nil {
			return nil, m.errorf("has a key %q that can't be used: %w", alias, err)
		}
		var chain []*x509.Certificate
		for _, one := range entry.CertificateChain {
			certificate, err := x509.ParseCertificate(one.Content)
			if err != nil {
				return nil, m.errorf("has a key %q with a certificate that can't be read: %w", alias, err)
			}
			chain = append(chain, certificate)
		}
		pair, err := pairOf(key, chain)
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

// trustedOfPKCS12 takes what Java has marked as trusted, or, in a store that holds keys as well, all certificates.
func (m material) trustedOfPKCS12(password string) ([]*x509.Certificate, error) {
	certificates, err := withOrWithout(password, func(password string) ([]*x509.Certificate, error) {
		return pkcs12.DecodeTrustStore(m.data, password)
	})
	switch {
	case err == nil:
		return certificates, nil
	case errors.Is(err, pkcs12.ErrIncorrectPassword):
		return nil, m.errorf("is a PKCS12 store that the password does not open; check %s", caPassword)
	case strings.Contains(err.Error(), "not marked as trusted"):
		return nil, m.errorf("is a PKCS12 store that marks no certificate as trusted, so that Java trusts none of it either; " +
			"make it with keytool -importcert or openssl pkcs12 -jdktrust anyExtendedKeyUsage, or write a PEM file")
	}
	found, inner := m.contentsOfPKCS12(password)
	if inner != nil {
		return nil, m.errorf("is neither PEM, JKS nor a PKCS12 truststore: %w", err)
	}
	return found.certificates, nil
}

func (m material) ownOfPKCS12(password string) ([]tls.Certificate, error) {
	found, err := m.contentsOfPKCS12(password)
	switch {
	case errors.Is(err, pkcs12.ErrIncorrectPassword):
		return nil, m.errorf("is a PKCS12 store that the password does not open; check %s", certPassword)
	case err != nil && strings.Contains(err.Error(), "private key missing"), err == nil && len(found.keys) == 0:
		return nil, m.errorf("holds no private key; is it the truststore?")
	case err != nil:
		return nil, m.errorf("is neither PEM, JKS nor PKCS12: %w", err)
	}
	var own []tls.Certificate
	for _, key := range found.keys {
		pair, err := pairOf(key, found.certificates)
		if err != nil {
			return nil, m.errorf("has a key that %w", err)
		}
		own = append(own, pair)
	}
	return own, nil
}

// contents are the keys of a PKCS12 store in its order, and its certificates.
type contents struct {
	keys         []any
	certificates []*x509.Certificate
}

func (m material) contentsOfPKCS12(password string) (contents, error) {
	return withOrWithout(password, func(password string) (contents, error) {
		key, own, others, err := pkcs12.DecodeChain(m.data, password)
		if err == nil {
			return contents{keys: []any{key}, certificates: append([]*x509.Certificate{own}, others...)}, nil
		}
		if !strings.Contains(err.Error(), "exactly one key") {
			return contents{}, err
		}
		return severalKeys(m.data, password)
	})
}

// severalKeys reads a store of several keys, which the library does only in its old way.
func severalKeys(data []byte, password string) (contents, error) {
	blocks, err := pkcs12.ToPEM(data, password) //nolint:staticcheck // what is wrong with its PEM is the kind of key, which is tried out below
	if err != nil {
		return contents{}, err
	}
	var found contents
	for _, block := range blocks {
		if block.Type == "CERTIFICATE" {
			certificate, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return contents{}, err
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

// withOrWithout tries a store that has no sum to check the password with, once more without one: Java does not look at the password then.
func withOrWithout[T any](password string, decode func(string) (T, error)) (T, error) {
	found, err := decode(password)
	if err != nil && strings.Contains(err.Error(), "no MAC in data") {
		return decode("")
	}
	return found, err
}

// pairOf puts a key and the certificates that lead from it to an authority together: stores keep them in any order.
func pairOf(key any, certificates []*x509.Certificate) (tls.Certificate, error) {
	signer, ok := key.(crypto.Signer)
	if !ok {
		return tls.Certificate{}, fmt.Errorf("is of a kind that can't sign: %T", key)
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

// issuer is the certificate that signed another one, or nil at the root.
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
