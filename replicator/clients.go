package replicator

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
	"github.com/twmb/franz-go/plugin/kslog"
	"golang.org/x/time/rate"

	"github.com/milena-kafka/milena/config"
)

// clientOptions turns a cluster's config into options of a client: the one place that does, so that a new mechanism or
// timeout reaches every client. Errors begin with the key inside the cluster's section; the caller puts the path to the
// section in front. The log should say already which client it belongs to.
func clientOptions(c config.Cluster, limits *dialLimits, log *slog.Logger, hooks ...kgo.Hook) ([]kgo.Opt, error) {
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
		kgo.RetryBackoffFn(backoff),
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

// dialer opens connections, as fast as the limits allow.
type dialer struct {
	tls    *tls.Config // nil for plaintext
	limits *dialLimits
}

// dialLimits lets not more than a few connections a second be opened to one address: who closes each connection at once must not be stormed
// by everything that waits for an answer. All clients of one side of a flow share them. The zero value is ready.
type dialLimits struct {
	mu        sync.Mutex
	byAddress map[string]*rate.Limiter
}

// The clients of one side need some ten connections to a broker; the burst lets them all come at once, twice.
const (
	dialsPerSecond = 6
	dialBurst      = 20
)

func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if err := d.limits.of(address).Wait(ctx); err != nil {
		return nil, err
	}
	plain := &net.Dialer{Timeout: 3 * time.Second}
	if d.tls == nil {
		return plain.DialContext(ctx, network, address)
	}
	return (&tls.Dialer{NetDialer: plain, Config: d.tls}).DialContext(ctx, network, address)
}

func (l *dialLimits) of(address string) *rate.Limiter {
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

// warnLogger keeps all but errors of a client out of our log: it warns per request and per try, and what lasts is said once by who asked.
type warnLogger struct{ kgo.Logger }

// Level is for kgo.Logger.
func (l warnLogger) Level() kgo.LogLevel { return min(l.Logger.Level(), kgo.LogLevelError) }

// saslMechanism asks for the password at each authentication, so that a rotated secret file is used by the next
// connection and by a re-authentication (KIP-368).
func saslMechanism(c config.SASL) (sasl.Mechanism, error) {
	if _, err := saslPassword(c); err != nil {
		return nil, err
	}
	scramAuth := func(context.Context) (scram.Auth, error) {
		password, err := saslPassword(c)
		return scram.Auth{User: c.Username, Pass: password}, err
	}
	switch c.Mechanism {
	case config.MechanismPlain:
		return plain.Plain(func(context.Context) (plain.Auth, error) {
			password, err := saslPassword(c)
			return plain.Auth{User: c.Username, Pass: password}, err
		}), nil
	case config.MechanismScramSHA256:
		return scram.Sha256(scramAuth), nil
	case config.MechanismScramSHA512:
		return scram.Sha512(scramAuth), nil
	default:
		return nil, fmt.Errorf("sasl.mechanism: %q is not PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", c.Mechanism)
	}
}

// saslPassword refuses an empty file here, where its name is known: kgo would only say that a password is missing.
func saslPassword(c config.SASL) (string, error) {
	password, err := c.Secret()
	switch {
	case err != nil:
		return "", fmt.Errorf("sasl.password_file: %w", err)
	case password == "" && c.PasswordFile != "":
		return "", fmt.Errorf("sasl.password_file: %s is empty", c.PasswordFile)
	}
	return password, nil
}

// connectError turns what a client says about a cluster that it cannot reach into a sentence: which cluster, what is
// wrong, what to do. The original error stays wrapped. Errors that are not about the connection keep their own words.
func connectError(err error, alias string, c config.Cluster) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	where := fmt.Sprintf("cluster %s (%s)", alias, strings.Join(c.Brokers, ", "))
	sentence := saslSentence(err, c)
	if sentence == "" {
		sentence = tlsSentence(err, c)
	}
	if sentence == "" {
		sentence = networkSentence(err)
	}
	if sentence == "" {
		return fmt.Errorf("%s: %w", where, err)
	}
	return fmt.Errorf("%s: %s: %w", where, sentence, err)
}

func saslSentence(err error, c config.Cluster) string {
	username, mechanism := "", ""
	if c.SASL != nil {
		username, mechanism = c.SASL.Username, c.SASL.Mechanism
	}
	switch {
	case errors.Is(err, kerr.SaslAuthenticationFailed):
		return fmt.Sprintf("the broker refused user %q; check sasl.username and the password, and that the user exists for %s", username, mechanism)
	case errors.Is(err, kerr.UnsupportedSaslMechanism):
		return fmt.Sprintf("the broker does not offer %s; set sasl.mechanism to one that this listener has", mechanism)
	case errors.Is(err, kerr.IllegalSaslState):
		return "this listener does not authenticate; remove the sasl section or use the port of a SASL listener"
	case strings.Contains(err.Error(), "is SASL missing?"):
		return "the broker closed the connection at the first request, as a SASL listener does to who does not authenticate; add a sasl section or check the port"
	}
	return ""
}

func tlsSentence(err error, c config.Cluster) string {
	text := err.Error()
	caFile := "the system's authorities"
	switch {
	case c.TLS == nil:
	case c.TLS.CAFile != "":
		caFile = c.TLS.CAFile
	case c.TLS.CA != "":
		caFile = "tls.ca"
	}
	// A broker reads the handshake's first bytes as a request of 369 MB and closes, with or without a reset.
	reset := c.TLS != nil && errors.Is(err, syscall.ECONNRESET) && strings.Contains(text, "unable to dial")
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok || reset || strings.Contains(text, "is TLS misconfigured") {
		return "the broker does not speak TLS on this port; remove the tls section or use the port of a TLS listener"
	}
	if strings.Contains(text, "is TLS missing?") || strings.Contains(text, "speaking to a tls endpoint?") {
		return "the broker most likely wants TLS on this port; add a tls section (`tls: {}` trusts the system's authorities) or check the port"
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return fmt.Sprintf("the broker's certificate is not signed by %s; set tls.ca_file to the authority that signed it", caFile)
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "the broker's certificate is for another name; connect by a name that it holds or set tls.server_name to one"
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		if invalid.Reason == x509.Expired {
			return "the broker's certificate has expired or is not valid yet; renew it, or check the clocks"
		}
		return "the broker's certificate is not valid"
	}
	for _, alert := range []string{"tls: bad certificate", "tls: certificate required", "tls: unknown certificate", "tls: expired certificate"} {
		if strings.Contains(text, alert) {
			if c.TLS == nil || c.TLS.Cert == "" && c.TLS.CertFile == "" {
				return "the broker wants a client certificate; set tls.cert_file and tls.key_file"
			}
			return fmt.Sprintf("the broker refused the client certificate %s; check that an authority signed it that the broker trusts, and its dates",
				cmp.Or(c.TLS.CertFile, "tls.cert"))
		}
	}
	return ""
}

func networkSentence(err error) string {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return fmt.Sprintf("the host name %s is not known; check brokers, or what the broker advertises (advertised.listeners)", dns.Name)
	}
	switch timeout, ok := errors.AsType[net.Error](err); {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens there; check brokers, what the broker advertises (advertised.listeners), and that it runs"
	case errors.Is(err, context.DeadlineExceeded), ok && timeout.Timeout():
		return "no answer in time; check the network between here and the brokers (firewall, routes), that this port speaks TLS if and only if a tls section is set, and that they are not overloaded"
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return "the broker closed the connection; its log says why"
	}
	return ""
}
