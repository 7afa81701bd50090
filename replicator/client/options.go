package client

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/plugin/kslog"

	"github.com/milena-kafka/milena/config"
)

// Options turns a cluster's config into the options of a kgo client. Every client is created from them, so a new mechanism or timeout
// applies everywhere. Options reads certificates and passwords but does not connect. Errors begin with the key inside the cluster's
// section; the caller prefixes the path of the section. The log should already identify the client.
func Options(c config.Cluster, dials *Dials, log *slog.Logger, hooks ...kgo.Hook) ([]kgo.Opt, error) {
	n, err := NewNetwork(c, dials)
	if err != nil {
		return nil, err
	}
	opts := []kgo.Opt{
		kgo.SeedBrokers(c.Brokers...),
		kgo.ClientID(n.ClientID),
		kgo.WithLogger(errorLogger{kslog.New(log)}),
		kgo.WithHooks(hooks...),
		// Every copy and every journal write must survive the loss of a broker.
		kgo.RequiredAcks(kgo.AllISRAcks()),
		// KIP-714: brokers may ask for a client's metrics. Ours are served over HTTP, and the pushes would cost requests.
		kgo.DisableClientMetrics(),
		// How long a request may take beyond its own timeout. A broker that hangs stalls every request to it for this long (a dead
		// broker is an error at once), and canceling a context does not interrupt connection setup (ApiVersions, SASL). kgo's
		// default of 10 s is most of the default lease.
		kgo.RequestTimeoutOverhead(2500 * time.Millisecond),
		// Retries inside the client only bridge short interruptions: the loops that use it log, count and retry with fresh metadata.
		// The timeout also ends the wait for a chosen broker that has left the cluster.
		kgo.RetryTimeout(retryTimeout(len(c.Brokers))),
		kgo.RequestRetries(20),
		kgo.RetryBackoffFn(Backoff),
		// After an error, a metadata request finds the new leader. It must not wait for kgo's default of 5 s.
		kgo.MetadataMinAge(100 * time.Millisecond),
		kgo.MetadataMaxAge(time.Minute),
		// Longer than the usual pauses of a quiet topic, so that its next record need not wait for a new connection with TLS and SASL.
		// kgo closes a connection after one to two times this, below the brokers' connections.max.idle.ms of 10 min.
		kgo.ConnIdleTimeout(4 * time.Minute),
		// A fetch response holds at least one whole batch, whatever the limits of the request (KIP-74).
		kgo.BrokerMaxReadBytes(100 << 20),
		kgo.Dialer(n.dialer.dialGuarded),
	}
	if n.SASL != nil {
		opts = append(opts, kgo.SASL(n.SASL))
	}
	return opts, nil
}

// retryTimeout is for how long a request is retried, with this many addresses to begin with. A broker that hangs costs it twice the overhead above, and when
// the line to a site is cut, half of the brokers hang.
func retryTimeout(addresses int) time.Duration {
	return time.Duration(min(max(addresses, 2), 6)) * 5 * time.Second
}

// Network is how the brokers of a cluster are connected to, for a client other than kgo. Its connections are not guarded.
type Network struct {
	ClientID string
	SASL     sasl.Mechanism // nil for listeners without
	dialer   *dialer
}

// NewNetwork reads certificates and passwords but does not connect. Errors are as those of [Options].
func NewNetwork(c config.Cluster, dials *Dials) (Network, error) {
	n := Network{ClientID: cmp.Or(c.ClientID, "milena"), dialer: &dialer{dials: dials}}
	var err error
	if c.TLS != nil {
		if n.dialer.tls, err = dials.credentialsOf(*c.TLS); err != nil {
			return n, err
		}
	}
	if c.SASL != nil {
		n.SASL, err = dials.login(*c.SASL)
	}
	return n, err
}

// Dial opens a connection to host:port, with TLS if the cluster has it. It waits while too many were opened lately.
func (n Network) Dial(ctx context.Context, address string) (net.Conn, error) {
	return n.dialer.dial(ctx, "tcp", address)
}

// errorLogger keeps everything but errors of kgo out of the log. The client warns per request and per attempt; a lasting problem is logged
// once by the caller of the request.
type errorLogger struct{ kgo.Logger }

// Log implements kgo.Logger. A login that fails is the error of a request.
func (l errorLogger) Log(level kgo.LogLevel, message string, keysAndValues ...any) {
	if message != "unable to initialize sasl" {
		l.Logger.Log(level, message, keysAndValues...)
	}
}

// Level implements kgo.Logger.
func (l errorLogger) Level() kgo.LogLevel { return min(l.Logger.Level(), kgo.LogLevelError) }
