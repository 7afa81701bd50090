package config

import (
	"slices"
	"strings"
)

// The store types that milena reads. Of Java's other types, PKCS11 and the system stores are not files, and JCEKS and BCFKS are rare.
const (
	storeTypeJKS    = "JKS"
	storeTypePKCS12 = "PKCS12"
	storeTypePEM    = "PEM"
)

// lookup returns a connection setting of one cluster, or nil, and records it as the origin of a field of Cluster
// unless field is empty.
type lookup func(field, key string) *property

// tls reads the stores of one cluster: files of any type, or PEM inline in the properties (KIP-651).
func (m *mm2) tls(alias string, get lookup) *TLS {
	t := DefaultTLS()
	m.truststore(&t, alias, get)
	m.keystore(&t, alias, get)
	if p := get("tls.verify", "ssl.endpoint.identification.algorithm"); p != nil && strings.TrimSpace(p.value) == "" {
		t.Verify = VerifyChain
	}
	m.versions(get)
	if p := get("", "ssl.engine.factory.class"); p != nil {
		m.bad(p, "is Java code, which milena cannot run; set ssl.truststore.location and ssl.keystore.location")
	}
	return &t
}

// versions notes TLS versions that are not spoken. TLS is any version.
func (m *mm2) versions(get lookup) {
	for _, key := range []string{"ssl.enabled.protocols", "ssl.protocol"} {
		p := get("", key)
		if p == nil {
			continue
		}
		value, _ := m.value(p)
		others := slices.DeleteFunc(splitList(value), func(version string) bool {
			return slices.Contains([]string{"TLSv1.2", "TLSv1.3", "TLS"}, version)
		})
		if len(others) > 0 {
			m.noteOnce(p, "milena speaks TLS 1.2 and 1.3, not "+strings.Join(others, ", "))
		}
	}
}

func (m *mm2) truststore(t *TLS, alias string, get lookup) {
	certificates, location := get("tls.ca", "ssl.truststore.certificates"), get("tls.ca_file", "ssl.truststore.location")
	is := m.storeType(get, "truststore")
	switch {
	case certificates != nil && location != nil:
		m.bad(certificates, "is inline PEM, and %s is a file; keep one", location.key)
	case certificates != nil:
		m.inline(certificates, "truststore", is)
		t.CA, t.CAFile = m.certificates(certificates)
	case location != nil:
		t.CAFile, _ = m.value(location)
		if p := m.storePassword(get, "tls.ca_password", "truststore", is); p != nil {
			t.CAPassword, t.CAPasswordFile = m.secretOf(alias, "tls.ca_password", p)
		}
	}
}

func (m *mm2) keystore(t *TLS, alias string, get lookup) {
	chain, key := get("tls.cert", "ssl.keystore.certificate.chain"), get("tls.key", "ssl.keystore.key")
	location := get("tls.cert_file", "ssl.keystore.location")
	is := m.storeType(get, "keystore")
	switch {
	case chain == nil && key == nil && location == nil:
		return
	case chain != nil && location != nil:
		m.bad(chain, "is inline PEM, and %s is a file; keep one", location.key)
	case key != nil && chain == nil:
		m.bad(key, "is a key without its certificate; also set %s.ssl.keystore.certificate.chain", alias)
	case chain != nil && key == nil:
		m.bad(chain, "is a certificate without its key; also set %s.ssl.keystore.key", alias)
	case chain != nil:
		m.inline(chain, "keystore", is)
		t.Cert, t.CertFile = m.certificates(chain)
		t.Key, t.KeyFile = m.secretOf(alias, "tls.key", key)
	default:
		t.CertFile, _ = m.value(location)
		if p := m.storePassword(get, "tls.cert_password", "keystore", is); p != nil {
			t.CertPassword, t.CertPasswordFile = m.secretOf(alias, "tls.cert_password", p)
		}
	}
	if p := get("tls.key_password", "ssl.key.password"); p != nil {
		t.KeyPassword, t.KeyPasswordFile = m.secretOf(alias, "tls.key_password", p)
	}
}

// storeType returns the type of a store. Kafka's default is JKS. JKS and PKCS12 are told apart later by content, as
// in Java.
func (m *mm2) storeType(get lookup, kind string) string {
	p := get("", "ssl."+kind+".type")
	if p == nil {
		return storeTypeJKS
	}
	value, ok := m.value(p)
	is := strings.ToUpper(strings.TrimSpace(value))
	known := []string{storeTypeJKS, storeTypePKCS12, storeTypePEM}
	if ok && !slices.Contains(known, is) {
		m.bad(p, "is a store type that milena does not support; use %s: keytool -importkeystore -deststoretype PKCS12 converts other types",
			choice(known))
	}
	return is
}

// storePassword returns the password of a store, or nil. A PEM store has none: ssl.key.password is that of its key.
func (m *mm2) storePassword(get lookup, field, kind, is string) *property {
	if is == storeTypePEM {
		return nil
	}
	return get(field, "ssl."+kind+".password")
}

// inline refuses inline PEM whose store type is not PEM, as Kafka does: either the type or the PEM is a leftover.
func (m *mm2) inline(p *property, kind, is string) {
	if is != storeTypePEM {
		m.bad(p, "is PEM, and the store's type is %s; set ssl.%s.type = PEM as well", is, kind)
	}
}

// certificates returns inline PEM, or the file of a DirectoryConfigProvider, which may change later.
func (m *mm2) certificates(p *property) (written, file string) {
	found := onlyReference.FindStringSubmatch(strings.TrimSpace(p.value))
	value, ok := m.value(p)
	if ok && found != nil && m.isFile(found[1]) {
		return "", strings.TrimRight(found[3], "/") + "/" + found[4]
	}
	return value, ""
}

func (m *mm2) secretOf(alias, key string, p *property) (value Secret, file string) {
	return m.secret(alias, key, p.value, func(text string) string {
		value, _ := m.resolve(p, text)
		return value
	})
}
