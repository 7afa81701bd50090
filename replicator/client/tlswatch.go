package client

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/milena-kafka/milena/config"
)

const (
	watchEvery  = 10 * time.Second    // how often files are looked at, besides for each connection
	expiresSoon = 14 * 24 * time.Hour // at most how long before its end a certificate is worth a warning
	warnAgain   = 24 * time.Hour      // when it is worth another one in the log
)

// told is what the log says about credentials.
type told struct {
	changes  int
	problems []string
	expiring time.Time
}

// credentialsOf returns the credentials of a TLS section, which all clients that share the dials have in common. It reads the files if it is the
// first to ask, and then all of them must be usable.
func (l *Dials) credentialsOf(c config.TLS) (*credentials, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if known := l.credentials[c]; known != nil {
		return known, nil
	}
	fresh, err := newCredentials(c)
	if err != nil {
		return nil, err
	}
	if l.credentials == nil {
		l.credentials = make(map[config.TLS]*credentials)
	}
	l.credentials[c] = fresh
	return fresh, nil
}

func (l *Dials) allCredentials() []*credentials {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Values(l.credentials))
}

// WatchFiles looks at the TLS files until ctx ends. It logs when they change, when they cannot be used and can be again, and once a day that the
// client's certificate expires soon. It blocks, and runs once.
func (l *Dials) WatchFiles(ctx context.Context, log *slog.Logger) {
	look := func(now time.Time) {
		for _, c := range l.allCredentials() {
			c.tell(c.refresh(), now, log)
		}
	}
	look(time.Now())
	Every(ctx, watchEvery, look)
}

// tell logs what has changed since the last time.
func (c *credentials) tell(current *usable, now time.Time, log *slog.Logger) {
	var problems []string
	for _, problem := range current.problems {
		problems = append(problems, problem.Error())
		if !slices.Contains(c.told.problems, problem.Error()) {
			log.Warn("certificates cannot be read; new connections use those that were read before", "err", problem)
		}
	}
	switch {
	case len(problems) > 0:
	case len(c.told.problems) > 0:
		log.Info("certificates can be read again")
	case current.changes != c.told.changes:
		log.Info("certificates have changed; new connections use them")
	}
	c.told.problems, c.told.changes = problems, current.changes
	if found := expiring(current.own, c.config, now); len(found) > 0 && now.Sub(c.told.expiring) >= warnAgain {
		c.told.expiring = now
		for _, text := range found {
			log.Warn("a client certificate expires", "why", text)
		}
	}
}

// Certificates returns a sentence about each file of the TLS section that cannot be used now, and about each certificate of the client that
// expires soon. It reads no file.
func (l *Dials) Certificates(now time.Time) (sentences []string) {
	for _, c := range l.allCredentials() {
		current := c.last.Load()
		for _, problem := range current.problems {
			sentences = append(sentences, problem.Error()+"; until that is mended, new connections use what was read before")
		}
		sentences = append(sentences, expiring(current.own, c.config, now)...)
	}
	return sentences
}

// Expiring returns a sentence about each certificate of the client that expires soon. It reads the files, and returns nil if they cannot be used,
// which connecting reports.
func Expiring(c config.Cluster, now time.Time) []string {
	if c.TLS == nil {
		return nil
	}
	own, err := ownCertificates(*c.TLS)
	if err != nil {
		return nil
	}
	return expiring(own, *c.TLS, now)
}

// expiring warns two weeks before the end of a certificate, or in the last quarter of its life if that is shorter: what renews the certificates
// of a day does so after two thirds of it.
func expiring(own []tls.Certificate, c config.TLS, now time.Time) (sentences []string) {
	for _, pair := range own {
		soon := min(expiresSoon, pair.Leaf.NotAfter.Sub(pair.Leaf.NotBefore)/4)
		if now.Add(soon).Before(pair.Leaf.NotAfter) {
			continue
		}
		verb := "expires"
		if now.After(pair.Leaf.NotAfter) {
			verb = "expired"
		}
		sentences = append(sentences, fmt.Sprintf("the client certificate %s in %s %s on %s; replace it, without a restart: new connections read it again",
			subjectOf(pair.Leaf), ownName(c), verb, date(pair.Leaf.NotAfter)))
	}
	return sentences
}

// ownCertificates reads the client's certificates.
func ownCertificates(c config.TLS) ([]tls.Certificate, error) {
	files, err := readOwn(c)
	if err != nil {
		return nil, err
	}
	return files.parse()
}
