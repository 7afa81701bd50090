package client

import (
	"crypto/tls"
	"crypto/x509"
	"sync"
	"sync/atomic"

	"github.com/milena-kafka/milena/config"
)

// credentials are what the TLS section of a cluster names: the CAs that are trusted, and the client's certificates.
//
// Their files are replaced while milena runs, often daily, so each new connection reads all of them. Reading takes a fraction of a handshake, but
// parsing may take several, a PKCS12 store by design, so what was read is parsed only if its content is another one than the last time.
// Size, time and inode would not do: all three can be as before, where a copy keeps the time of its original or the clock of the file system is
// coarse. By content it does not matter how a file is replaced: in place, renamed, or behind a symbolic link, as Kubernetes does it.
//
// Files change one by one. A connection that begins between a certificate and its key, between a store and its password, or while a file is half
// written, uses what could last be used: both the old and the new are good at that time, or nobody could rotate without an outage.
type credentials struct {
	config config.TLS
	last   atomic.Pointer[usable] // what was read last
	told   told                   // of WatchFiles alone

	mu      sync.Mutex // held while files are read
	trusted latest[trustFiles, *x509.CertPool]
	own     latest[ownFiles, []tls.Certificate]
}

// usable is what the next connection uses.
type usable struct {
	trusted  *x509.CertPool // nil for the CAs of the system
	own      []tls.Certificate
	changes  int     // how often files that could be used were replaced
	problems []error // why files cannot be used now, so that an older content is
}

// latest is what files hold, or held when they could last be used.
type latest[F files[T], T any] struct {
	good     T
	changes  int   // how often good was set
	problem  error // why the files cannot be used now, nil if good is what they hold
	parsed   F     // what was parsed last
	unusable error // what came of it
}

// files are the contents of files that belong together.
type files[T any] interface {
	comparable
	parse() (T, error)
}

// update takes what was read, or why it could not be.
func (l *latest[F, T]) update(read F, err error) {
	if err != nil {
		l.problem = err
		return
	}
	if l.changes == 0 || read != l.parsed {
		var value T
		if value, l.unusable = read.parse(); l.unusable == nil {
			l.good = value
			l.changes++
		}
		l.parsed = read
	}
	l.problem = l.unusable
}

// newCredentials reads the files for the first time, when all of them must be usable.
func newCredentials(c config.TLS) (*credentials, error) {
	fresh := &credentials{config: c}
	if now := fresh.refresh(); len(now.problems) > 0 {
		return nil, now.problems[0]
	}
	fresh.told.changes = fresh.last.Load().changes
	return fresh, nil
}

// refresh reads the files again. It is one at a time, so that no older content replaces a newer one.
func (c *credentials) refresh() *usable {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trusted.update(readTrust(c.config))
	c.own.update(readOwn(c.config))
	now := &usable{trusted: c.trusted.good, own: c.own.good, changes: c.trusted.changes + c.own.changes}
	for _, problem := range []error{c.trusted.problem, c.own.problem} {
		if problem != nil {
			now.problems = append(now.problems, problem)
		}
	}
	c.last.Store(now)
	return now
}

// connection returns the TLS config of a new connection. The server name stays empty unless it is set: crypto/tls then uses the host that is
// dialed. Versions and ciphers are those of crypto/tls.
func (c *credentials) connection() *tls.Config {
	now := c.refresh()
	conf := &tls.Config{ServerName: c.config.ServerName, RootCAs: now.trusted}
	if c.config.Verify == config.VerifyChain {
		conf.InsecureSkipVerify = true // crypto/tls verifies chain and name only together
		conf.VerifyConnection = func(state tls.ConnectionState) error { return verifyChain(state.PeerCertificates, now.trusted) }
	}
	if len(now.own) == 0 {
		return conf
	}
	conf.GetClientCertificate = func(request *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		// As in Java: the first key that the broker supports. If there is none, the broker's own error is the best one.
		for i := range now.own {
			if request.SupportsCertificate(&now.own[i]) == nil {
				return &now.own[i], nil
			}
		}
		return &now.own[0], nil
	}
	return conf
}

// verifyChain verifies everything that crypto/tls does but the name: signatures, dates, and that the certificate is one of a server. The first
// certificate is the broker's. A server always presents one.
func verifyChain(presented []*x509.Certificate, trusted *x509.CertPool) error {
	o := x509.VerifyOptions{Roots: trusted, Intermediates: x509.NewCertPool()}
	for _, c := range presented[1:] {
		o.Intermediates.AddCert(c)
	}
	if _, err := presented[0].Verify(o); err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: presented, Err: err}
	}
	return nil
}
