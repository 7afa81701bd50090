package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/milena-kafka/milena/config"
)

// Explain adds to an error of a client which cluster it concerns and, if the cluster cannot be reached, what is wrong, and at its end what to
// do. It wraps err. It returns nil and context.Canceled unchanged.
func Explain(err error, alias string, c config.Cluster) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	where := fmt.Sprintf("cluster %s (%s)", alias, strings.Join(c.Brokers, ", "))
	if _, ok := errors.AsType[*loginError](err); ok {
		return fmt.Errorf("%s: %w", where, err)
	}
	if sentence := cmp.Or(saslSentence(err, c), tlsSentence(err, c), networkSentence(err)); sentence != "" {
		what, todo, found := strings.Cut(sentence, "; ")
		if found {
			return fmt.Errorf("%s: %s (%w); %s", where, what, err, todo)
		}
		return fmt.Errorf("%s: %s (%w)", where, what, err)
	}
	return fmt.Errorf("%s: %w", where, err)
}

func saslSentence(err error, c config.Cluster) string {
	login := config.SASL{}
	if c.SASL != nil {
		login = *c.SASL
	}
	switch {
	case errors.Is(err, kerr.SaslAuthenticationFailed):
		return rejectedSentence(login)
	case errors.Is(err, kerr.UnsupportedSaslMechanism):
		return fmt.Sprintf("the broker does not offer %s; set sasl.mechanism to one that this listener supports", login.Mechanism)
	case errors.Is(err, kerr.IllegalSaslState):
		return "this listener does not use SASL; remove the sasl section or use the port of a SASL listener"
	case strings.Contains(err.Error(), "is SASL missing?"):
		return "the broker closed the connection at the first request, as a SASL listener does with clients that do not authenticate; add a sasl section or check the port"
	}
	return ""
}

// rejectedSentence explains SASL_AUTHENTICATION_FAILED.
func rejectedSentence(c config.SASL) string {
	switch {
	case c.Mechanism == config.MechanismOAuthBearer && c.OAuth != nil && c.OAuth.TokenFile != "":
		return fmt.Sprintf("the broker rejected the token in %s; "+tokenAdvice, c.OAuth.TokenFile)
	case c.Mechanism == config.MechanismOAuthBearer && c.OAuth != nil:
		return fmt.Sprintf("the broker rejected the token of %s; "+tokenAdvice, cmp.Or(c.OAuth.ClientID, c.OAuth.AssertionFile))
	case c.Mechanism == config.MechanismGSSAPI && c.Kerberos != nil:
		return fmt.Sprintf("the broker rejected the ticket of %s; see the broker's log, and check that its keytab has the key of %s/HOST that the KDC has",
			cmp.Or(c.Kerberos.Principal, c.Kerberos.TicketCache), c.Kerberos.ServiceName)
	case c.Mechanism == config.MechanismMSKIAM:
		return "the broker rejected the credentials of AWS; check that their policy allows kafka-cluster:Connect on this cluster, and the clock"
	default:
		return fmt.Sprintf("the broker rejected user %q; check sasl.username and the password, and that the user exists for %s", c.Username, c.Mechanism)
	}
}

// Brokers give away little about why they reject a token; their log has the claim.
const tokenAdvice = "see the broker's log, and compare issuer, audience, scope and expiry of the token with what the broker expects"

func tlsSentence(err error, c config.Cluster) string {
	text := err.Error()
	// A broker without TLS reads the first bytes of the handshake as a request of 369 MB and closes the connection, with or without a reset.
	reset := c.TLS != nil && errors.Is(err, syscall.ECONNRESET) && strings.Contains(text, "unable to dial")
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok || reset || strings.Contains(text, "is TLS misconfigured") {
		return "the broker does not speak TLS on this port; remove the tls section or use the port of a TLS listener"
	}
	if strings.Contains(text, "is TLS missing?") || strings.Contains(text, "speaking to a tls endpoint?") {
		return "the broker most likely requires TLS on this port; add a tls section (`tls: {}` trusts the system's CAs) or check the port"
	}
	if unverified, ok := errors.AsType[*unverifiedError](err); ok && c.TLS != nil {
		return unverified.sentence(*c.TLS, time.Now())
	}
	return clientCertificateSentence(text, c.TLS, time.Now())
}

func networkSentence(err error) string {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return fmt.Sprintf("cannot resolve host name %s; check the addresses in brokers and advertised.listeners", dns.Name)
	}
	switch timeout, ok := errors.AsType[net.Error](err); {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused; check that the broker runs, and check the addresses in brokers and advertised.listeners"
	case errors.Is(err, context.DeadlineExceeded), ok && timeout.Timeout():
		return "no answer in time; check the network to the brokers (firewall, routes), that a tls section is set if and only if this port uses TLS, and that the brokers are not overloaded"
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return "the broker closed the connection; see the log of the broker"
	}
	return ""
}
