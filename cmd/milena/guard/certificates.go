package guard

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/milena-kafka/milena/config"
)

// lookEvery is how often the files are read again at most, while clients connect.
const lookEvery = time.Second

// certificates is the TLS of a server. Its files are read again when a client connects.
type certificates struct {
	files config.HTTPTLS
	warn  func(err error)

	mu     sync.Mutex
	looked time.Time
	read   [sha256.Size]byte // what was read last, whatever came of it
	config *tls.Config       // the last one that worked
}

// TLSConfig returns the TLS of the server, nil if it has none. It is an error if the files cannot be used. Later, what was read last and can be used counts: a
// file may be half written, or not go with its key yet.
func (g *Guard) TLSConfig() (*tls.Config, error) {
	if g.config.TLS == nil {
		return nil, nil //nolint:nilnil // none is no error
	}
	c := &certificates{files: *g.config.TLS, warn: func(err error) {
		g.Log.Warn("the files of http.tls have changed and cannot be used; those before stay", "err", err)
	}}
	if err := c.look(time.Now()); err != nil {
		return nil, err
	}
	base := c.config.Clone()
	base.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.current(), nil }
	return base, nil
}

// current is what the files say now.
func (c *certificates) current() *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.looked) >= lookEvery {
		if err := c.look(now); err != nil {
			c.warn(err)
		}
	}
	return c.config
}

// look reads the files, and uses them if they are new. It reports an error once. The caller holds the lock, or is the only one who knows c.
func (c *certificates) look(now time.Time) error {
	c.looked = now
	hash := sha256.New()
	var content [3][]byte
	var failed error
	for i, path := range []string{c.files.CertFile, c.files.KeyFile, c.files.ClientCAFile} {
		var err error
		if path != "" {
			content[i], err = os.ReadFile(path)
		}
		if err != nil && failed == nil {
			failed = fmt.Errorf("http.tls: %w", err)
		}
		_, _ = fmt.Fprintf(hash, "%d %v %s", len(content[i]), err, content[i])
	}
	var sum [sha256.Size]byte
	if hash.Sum(sum[:0]); sum == c.read {
		return nil
	}
	c.read = sum
	if failed != nil {
		return failed
	}
	next, err := c.parse(content[0], content[1], content[2])
	if err == nil {
		c.config = next
	}
	return err
}

func (c *certificates) parse(cert, key, authorities []byte) (*tls.Config, error) {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("http.tls: cert_file %s with key_file %s: %w; both must be PEM, the key without a password", c.files.CertFile, c.files.KeyFile, err)
	}
	made := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"}}
	if c.files.ClientCAFile == "" {
		return made, nil
	}
	made.ClientCAs = x509.NewCertPool()
	if !made.ClientCAs.AppendCertsFromPEM(authorities) {
		return nil, fmt.Errorf("http.tls: client_ca_file %s has no certificate in PEM", c.files.ClientCAFile)
	}
	// Who has none may still read what is open, and log in otherwise. A session that is resumed would not ask the authorities of now.
	made.ClientAuth, made.SessionTicketsDisabled = tls.VerifyClientCertIfGiven, true
	return made, nil
}
