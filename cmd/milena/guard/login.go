package guard

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"net/http"
	"strings"
	"unicode"
)

// login is how somebody logs in.
type login int

const (
	byNothing login = iota
	byToken
	byPassword
	byCookie
	byCertificate
)

// identify returns who sends a request, empty if it does not say, or why what it says is not believed. A header counts before a cookie, and a
// cookie before a certificate.
func (g *Guard) identify(r *http.Request) (user string, by login, why *refusal) {
	if header := r.Header.Get("Authorization"); header != "" {
		scheme, value, _ := strings.Cut(header, " ")
		switch name, password, ok := r.BasicAuth(); {
		case strings.EqualFold(scheme, "Bearer"):
			user, why = g.ofToken(strings.TrimSpace(value))
			return user, byToken, why
		case ok:
			why = g.passwords.check(r.Context(), r.RemoteAddr, name, password, g.Log)
			return name, byPassword, why
		default:
			return "", byNothing, refused(http.StatusUnauthorized, "the header Authorization is neither Bearer TOKEN nor that of a user with a password")
		}
	}
	if cookie, err := r.Cookie(g.cookie); err == nil {
		if user, ok := g.sessions.user(cookie.Value); ok {
			return user, byCookie, nil
		}
		if name := g.ofCertificate(r); name == "" {
			return "", byNothing, refused(http.StatusUnauthorized, "the session has ended; log in again")
		}
	}
	return g.ofCertificate(r), byCertificate, nil
}

// ofToken returns whose a token is.
func (g *Guard) ofToken(token string) (user string, why *refusal) {
	sent := sha256.Sum256([]byte(token))
	for name, secret := range g.config.Tokens { // all of them, so that the time says nothing
		if known := sha256.Sum256([]byte(secret.Reveal())); subtle.ConstantTimeCompare(sent[:], known[:]) == 1 && secret != "" {
			user = name
		}
	}
	if user == "" {
		return "", refused(http.StatusUnauthorized, "the request has no token of http.tokens; send it as the header Authorization: Bearer TOKEN")
	}
	return user, nil
}

// ofCertificate is the common name of the certificate of a client, empty if it has none that a client CA has signed.
func (*Guard) ofCertificate(r *http.Request) string {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return ""
	}
	return nameOf(r.TLS.VerifiedChains[0][0])
}

const maxName = 249 // as for the users of the config

// nameOf is the user of a certificate, empty if it has no name that can be shown.
func nameOf(c *x509.Certificate) string {
	name := c.Subject.CommonName
	if name == "" && len(c.DNSNames) > 0 {
		name = c.DNSNames[0]
	}
	if len(name) > maxName || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsGraphic(r) }) {
		return ""
	}
	return name
}
