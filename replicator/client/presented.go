package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"time"

	"github.com/milena-kafka/milena/config"
)

// Presented is what a broker presented in a TLS handshake.
type Presented struct {
	// Chain has the broker's certificate first. It is nil if there was no handshake.
	Chain []*x509.Certificate
	// Invalid is why its certificate cannot be verified, and behind a semicolon what to do; nil if it was, or if there was no handshake.
	Invalid error
}

// Certificates connects to host:port and returns the certificates of the broker, verified as for any other connection.
func (n Network) Certificates(ctx context.Context, address string, c config.TLS) Presented {
	connection, err := n.Dial(ctx, address)
	if unverified, ok := errors.AsType[*unverifiedError](err); ok {
		return Presented{unverified.UnverifiedCertificates, errors.New(unverified.sentence(c, time.Now()))}
	}
	if err != nil {
		return Presented{}
	}
	defer func() { _ = connection.Close() }()
	if secure, ok := connection.(*tls.Conn); ok {
		return Presented{Chain: secure.ConnectionState().PeerCertificates}
	}
	return Presented{}
}
