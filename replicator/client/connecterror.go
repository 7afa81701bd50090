package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/milena-kafka/milena/config"
)

// Explain turns what a client says about a cluster that it cannot reach into a sentence: which cluster, what is
// wrong, what to do. The original error stays wrapped. Errors that are not about the connection keep their own words.
func Explain(err error, alias string, c config.Cluster) error {
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
