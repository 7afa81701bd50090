package client

import (
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/plugin/kslog"

	"github.com/milena-kafka/milena/config"
)

// Options turns a cluster's config into options of a client: the one place that does, so that a new mechanism or
// timeout reaches every client. Errors begin with the key inside the cluster's section; the caller puts the path to the
// section in front. The log should say already which client it belongs to.
func Options(c config.Cluster, limits *DialLimits, log *slog.Logger, hooks ...kgo.Hook) ([]kgo.Opt, error) {
	clientID := c.ClientID
	if clientID == "" {
		clientID = "milena"
	}
	opts := []kgo.Opt{
		kgo.SeedBrokers(c.Brokers...),
		kgo.ClientID(clientID),
		kgo.WithLogger(warnLogger{kslog.New(log)}),
		kgo.WithHooks(hooks...),
		// Every copy and every journal write must survive the loss of a broker.
		kgo.RequiredAcks(kgo.AllISRAcks()),
		// KIP-714: brokers may ask for a client's metrics. Ours are served over HTTP, and the pushes would cost requests.
		kgo.DisableClientMetrics(),
		// What a request may take beyond its own timeout. A broker that hangs (not one that is dead: that is an error at
		// once) stalls every request to it for this long, and a context does not cut the set-up of a connection (ApiVersions,
		// SASL) short; kgo's 10 s is longer than we may be silent.
		kgo.RequestTimeoutOverhead(2500 * time.Millisecond),
		// Retries inside the client only bridge a moment: the loops above log, count and retry with fresh metadata. This
		// bound also ends the wait of a broker that was chosen and went away.
		kgo.RetryTimeout(10 * time.Second),
		kgo.RequestRetries(20),
		kgo.RetryBackoffFn(Backoff),
		// New leaders are found by an error's metadata request, which must not wait for kgo's 5 s.
		kgo.MetadataMinAge(100 * time.Millisecond),
		kgo.MetadataMaxAge(time.Minute),
		// Above the pauses of a quiet topic, so that its next record does not pay for a new connection with TLS and SASL. kgo
		// closes after one to two times this, below the brokers' connections.max.idle.ms of 10 min.
		kgo.ConnIdleTimeout(4 * time.Minute),
		// A fetch answer is as large as its largest batch at least, whatever the request's limit (KIP-74).
		kgo.BrokerMaxReadBytes(100 << 20),
	}
	d := &dialer{limits: limits}
	if c.TLS != nil {
		conf, err := tlsConfig(*c.TLS)
		if err != nil {
			return nil, err
		}
		d.tls = conf
	}
	opts = append(opts, kgo.Dialer(d.dial))
	if c.SASL != nil {
		mechanism, err := saslMechanism(*c.SASL)
		if err != nil {
			return nil, err
		}
		opts = append(opts, kgo.SASL(mechanism))
	}
	return opts, nil
}

// warnLogger keeps all but errors of a client out of our log: it warns per request and per try, and what lasts is said once by who asked.
type warnLogger struct{ kgo.Logger }

// Level is for kgo.Logger.
func (l warnLogger) Level() kgo.LogLevel { return min(l.Logger.Level(), kgo.LogLevelError) }
