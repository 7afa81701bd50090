package client

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/sasl"
	"golang.org/x/time/rate"

	"github.com/milena-kafka/milena/config"
)

// dialer opens connections no faster than the limits allow, and guards them.
type dialer struct {
	tls   *credentials // nil for plaintext
	dials *Dials
}

// Dials is how connections are opened. It limits the rate of new connections per address: without a limit, every pending request would
// reconnect at once to a broker that closes each connection. It also has the certificates that connections use. All clients of one side of a
// flow share it, and so the login. The zero value is ready to use, and it is safe for concurrent use.
type Dials struct {
	Guard Guard // of every connection, nil if there is none

	mu          sync.Mutex
	byAddress   map[string]*rate.Limiter
	credentials map[config.TLS]*credentials
	mechanism   sasl.Mechanism // nil before the first client, and without SASL
}

// The clients of one side need about ten connections to a broker; the burst lets all of them connect at once, twice.
const (
	dialsPerSecond = 6
	dialBurst      = 20
)

// dialGuarded opens a connection whose writes the guard permits.
func (d *dialer) dialGuarded(ctx context.Context, network, address string) (net.Conn, error) {
	connection, err := d.dial(ctx, network, address)
	if err != nil || d.dials.Guard == nil {
		return connection, err
	}
	return &guardedConn{Conn: connection, guard: d.dials.Guard}, nil
}

// dial opens a connection when the limit of its address allows.
func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if err := d.dials.of(address).Wait(ctx); err != nil {
		return nil, err
	}
	plain := &net.Dialer{Timeout: 3 * time.Second}
	if d.tls == nil {
		return plain.DialContext(ctx, network, address)
	}
	connection, err := (&tls.Dialer{NetDialer: plain, Config: d.tls.connection()}).DialContext(ctx, network, address)
	if unverified, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return nil, &unverifiedError{address: address, CertificateVerificationError: unverified}
	}
	return connection, err
}

func (l *Dials) of(address string) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byAddress == nil {
		l.byAddress = make(map[string]*rate.Limiter)
	}
	if l.byAddress[address] == nil {
		l.byAddress[address] = rate.NewLimiter(dialsPerSecond, dialBurst)
	}
	return l.byAddress[address]
}
