package config

import (
	"slices"
	"strings"
)

// The kinds of store that milena reads. Java has more: PKCS11 and the system's are not files, JCEKS and BCFKS are rare.
const (
	storeTypeJKS    = "JKS"
	storeTypePKCS12 = "PKCS12"
	storeTypePEM    = "PEM"
)

// lookup finds a connection setting of one cluster.
type lookup func(field, key string) *property

// tls reads the stores of one cluster: files of any type, or PEM inside the properties (KIP-651).
func (m *mm2) tls(alias string, get lookup) *TLS {
	t := new(TLS)
	m.truststore(t, alias, get)
	m.keystore(t, alias, get)
	if p := get("", "ssl.endpoint.identification.algorithm"); p != nil && strings.TrimSpace(p.value) == "" {
		m.noteOnce(p, "the brokers' certificates are always checked for the host's name; tls.server_name in milena.yaml expects another one")
	}
	if p := get("", "ssl.engine.factory.class"); p != nil {
		m.bad(p, "is Java code that milena can't run; name the certificates with ssl.truststore.location and ssl.keystore.location")
	}
	return t
}

func (m *mm2) truststore(t *TLS, alias string, get lookup) {
	certificates, location := get("tls.ca", "ssl.truststore.certificates"), get("tls.ca_file", "ssl.truststore.location")
	is := m.storeType(get, "truststore")
	switch {
	case certificates != nil && location != nil:
		m.bad(certificates, "is PEM inside the properties, and %s names a file; keep one", location.key)
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
		m.bad(chain, "is PEM inside the properties, and %s names a file; keep one", location.key)
	case key != nil && chain == nil:
		m.bad(key, "is a key without its certificate; write %s.ssl.keystore.certificate.chain as well", alias)
	case chain != nil && key == nil:
		m.bad(chain, "is a certificate without its key; write %s.ssl.keystore.key as well", alias)
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

// storeType is what the file says about a store; Kafka's default is JKS. The content decides later between JKS and PKCS12, as in Java.
func (m *mm2) storeType(get lookup, kind string) string {
	p := get("", "ssl."+kind+".type")
	if p == nil {
		return storeTypeJKS
	}
	value, ok := m.value(p)
	is := strings.ToUpper(strings.TrimSpace(value))
	known := []string{storeTypeJKS, storeTypePKCS12, storeTypePEM}
	if ok && !slices.Contains(known, is) {
		m.bad(p, "is a kind of store that milena can't read; use %s: keytool -importkeystore -deststoretype PKCS12 makes such a file of others",
			choice(known))
	}
	return is
}

// storePassword leaves out the password of a PEM store, which has none: ssl.key.password is that of its key.
func (m *mm2) storePassword(get lookup, field, kind, is string) *property {
	if is == storeTypePEM {
		return nil
	}
	return get(field, "ssl."+kind+".password")
}

// inline refuses PEM in the properties beside a type that says otherwise, as Kafka does: the type would be a leftover, or the PEM.
func (m *mm2) inline(p *property, kind, is string) {
	if is != storeTypePEM {
		m.bad(p, "is PEM, and the store's type is %s; write ssl.%s.type = PEM beside it", is, kind)
	}
}

// certificates are PEM inside the properties, or the file of a DirectoryConfigProvider, which may change later.
func (m *mm2) certificates(p *property) (written, file string) {
	found := onlyReference.FindStringSubmatch(strings.TrimSpace(p.value))
	value, ok := m.value(p)
	if ok && found != nil && m.classes[found[1]] == directoryProvider {
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
