package client

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/milena-kafka/milena/config"
)

// unverifiedError is the error of a broker whose certificate cannot be verified. It has the address of the broker, which the errors of crypto/tls
// lack, so that a sentence can name it.
type unverifiedError struct {
	address string
	*tls.CertificateVerificationError
}

// sentence says what is wrong with the broker's certificate, and after a semicolon what to do.
func (e *unverifiedError) sentence(c config.TLS, now time.Time) string {
	host, _, err := net.SplitHostPort(e.address)
	if err != nil {
		host = e.address
	}
	leaf := e.UnverifiedCertificates[0]
	of := "the certificate of broker " + e.address
	if _, ok := errors.AsType[x509.UnknownAuthorityError](e.Err); ok {
		return fmt.Sprintf("%s, %s, is not signed by %s; add the CA that signed it, %s, to tls.ca_file, which new connections read again",
			of, subjectOf(leaf), trustedCAs(c), quoted(leaf.Issuer.String(), "which has no name"))
	}
	if _, ok := errors.AsType[x509.HostnameError](e.Err); ok {
		return of + nameSentence(leaf, host, c)
	}
	invalid, ok := errors.AsType[x509.CertificateInvalidError](e.Err)
	switch {
	case ok && invalid.Reason == x509.Expired:
		return e.dateSentence(invalid.Cert, now)
	case ok && invalid.Reason == x509.IncompatibleUsage:
		return of + " is not one for servers; issue one whose extended key usage has serverAuth"
	}
	return of + " is not valid; issue another one"
}

const (
	chainIgnoresNames = "or set tls.verify: chain, which trusts every certificate of the CA whatever its name"
	shownNames        = 5
)

// nameSentence says which names a certificate has instead of that of its broker.
func nameSentence(leaf *x509.Certificate, host string, c config.TLS) string {
	var names []string
	for _, name := range leaf.DNSNames {
		names = append(names, fmt.Sprintf("%q", name))
	}
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 { // Java accepts the common name then, RFC 6125 only tolerated it, and crypto/x509 has stopped to
		kind := "dns"
		if net.ParseIP(host) != nil {
			kind = "ip"
		}
		return fmt.Sprintf(" has no subject alternative name, only the common name %q, which Java takes for a host name and milena does not; "+
			"issue a certificate with one (keytool -ext san=%s:%s), %s", leaf.Subject.CommonName, kind, host, chainIgnoresNames)
	}
	if more := len(names) - shownNames; more > 0 {
		names = append(names[:shownNames], fmt.Sprintf("%d more", more))
	}
	expected := fmt.Sprintf("%q", host)
	if c.ServerName != "" {
		expected = fmt.Sprintf("%q, which tls.server_name expects", c.ServerName)
	}
	return fmt.Sprintf(" is for %s and not for %s; use one of its names in brokers and advertised.listeners, or issue a certificate for %s, %s. "+
		"tls.server_name helps only if the certificates of all brokers have one name in common",
		strings.Join(names, ", "), expected, host, chainIgnoresNames)
}

// dateSentence says which certificate of the chain is not valid now. It need not be the broker's own.
func (e *unverifiedError) dateSentence(wrong *x509.Certificate, now time.Time) string {
	which, todo := "the certificate of broker "+e.address, "renew it on the broker"
	switch {
	case wrong.Equal(e.UnverifiedCertificates[0]):
	case slices.ContainsFunc(e.UnverifiedCertificates[1:], wrong.Equal) && !bytes.Equal(wrong.RawSubject, wrong.RawIssuer):
		which = "an intermediate certificate of broker " + e.address
		todo = "renew it, and put it into the broker's key store"
	default:
		which = "the CA certificate above that of broker " + e.address
		todo = "put the new certificate of the CA into tls.ca_file, which new connections read again"
	}
	return fmt.Sprintf("%s, %s, %s; %s, or correct the clock of this host, where it is %s", which, subjectOf(wrong), validity(wrong, now), todo, date(now))
}

// validity says when a certificate is valid, and that it is not now if so.
func validity(c *x509.Certificate, now time.Time) string {
	switch {
	case now.After(c.NotAfter):
		return fmt.Sprintf("expired on %s (it was valid from %s)", date(c.NotAfter), date(c.NotBefore))
	case now.Before(c.NotBefore):
		return fmt.Sprintf("is not valid before %s (until %s)", date(c.NotBefore), date(c.NotAfter))
	default:
		return fmt.Sprintf("is valid from %s to %s", date(c.NotBefore), date(c.NotAfter))
	}
}

// trustedCAs names the CAs that the config trusts. If their file cannot be used now, it is an older content that is trusted.
func trustedCAs(c config.TLS) string {
	files, err := readTrust(c)
	if err == nil {
		_, err = files.parse()
	}
	switch {
	case err != nil:
		return fmt.Sprintf("a CA that was read before %s", inClause(err))
	case c.CAFile != "":
		return "a CA in " + c.CAFile
	case c.CA != "":
		return "a CA in tls.ca"
	}
	return "a CA that the system trusts"
}

// clientCertificateSentence explains the TLS alerts that a broker sends about the client's certificate.
func clientCertificateSentence(text string, c *config.TLS, now time.Time) string {
	alerts := []string{
		"tls: bad certificate", "tls: certificate required", "tls: unknown certificate", "tls: expired certificate", "tls: unsupported certificate",
		"tls: revoked certificate",
	}
	if !slices.ContainsFunc(alerts, func(alert string) bool { return strings.Contains(text, alert) }) {
		return ""
	}
	if c == nil || c.Cert == "" && c.CertFile == "" {
		return "the broker requires a client certificate; set tls.cert_file and tls.key_file"
	}
	rejected := "the broker rejected the client certificate " + ownName(*c)
	own, err := ownCertificates(*c)
	if err != nil {
		return fmt.Sprintf("%s, as it was read before %s; mend the file, new connections read it again", rejected, inClause(err))
	}
	leaf := own[0].Leaf
	rejected += ", " + subjectOf(leaf) + ", which " + validity(leaf, now)
	if now.After(leaf.NotAfter) {
		return rejected + "; replace it, new connections read it again"
	}
	return fmt.Sprintf("%s; check that the broker trusts the CA that signed it, %s, and the clocks of both", rejected, quoted(leaf.Issuer.String(), "which has no name"))
}

// ownName names where the client's certificate comes from.
func ownName(c config.TLS) string { return cmp.Or(c.CertFile, "tls.cert") }

// subjectOf names a certificate.
func subjectOf(c *x509.Certificate) string {
	return quoted(c.Subject.String(), fmt.Sprintf("serial number %d", c.SerialNumber))
}

// quoted returns a name from a certificate, which anybody may have written, or what stands for an empty one.
func quoted(name, empty string) string {
	if name == "" {
		return empty
	}
	return fmt.Sprintf("%q", name)
}

// inClause returns the text of an error about a file without the semicolon in it, which would end the clause.
func inClause(err error) string { return strings.ReplaceAll(err.Error(), "; ", ", ") }

func date(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }
