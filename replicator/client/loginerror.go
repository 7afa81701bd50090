package client

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/oauth2"

	"github.com/milena-kafka/milena/config"
)

// ErrLoginRefused is what gives out tokens or tickets refusing the configured identity: trying again is pointless.
var ErrLoginRefused = errors.New("the login was refused")

// loginError says in one sentence why there is nothing to log in to a broker with. It wraps nothing but ErrLoginRefused, because [Explain] would take
// what a token endpoint does for what a broker does.
type loginError struct {
	text    string
	refused bool
}

func (e *loginError) Error() string { return e.text }

func (e *loginError) Is(target error) bool { return e.refused && target == ErrLoginRefused }

// endpointError says what a token endpoint did instead of giving a token.
func (t *tokens) endpointError(err error) error {
	where := "sasl.oauth.token_endpoint: " + t.config.TokenEndpoint
	if answer, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		return refusedToken(answer, t.config, where)
	}
	if failed, ok := errors.AsType[*url.Error](err); ok {
		return &loginError{text: where + " " + t.unreachable(failed.Err)}
	}
	return &loginError{text: fmt.Sprintf("%s gives an answer that is no token (%s); check the URL", where, strings.TrimPrefix(err.Error(), "oauth2: "))}
}

// isInvalidClient reports whether an endpoint does not know the client, or does not find its secret.
func isInvalidClient(err error) bool {
	answer, ok := errors.AsType[*oauth2.RetrieveError](err)
	return ok && (answer.ErrorCode == "invalid_client" || answer.ErrorCode == "invalid_request" || answer.ErrorCode == "" && answer.Response.StatusCode == http.StatusUnauthorized)
}

// unreachable says why an HTTP request has no answer.
func (t *tokens) unreachable(err error) string {
	if timeout, ok := errors.AsType[net.Error](err); errors.Is(err, context.DeadlineExceeded) || ok && timeout.Timeout() {
		return fmt.Sprintf("gives no answer within %v; check the network to it, and the proxy if the environment variable HTTPS_PROXY names one", t.timeout)
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return fmt.Sprintf("cannot be trusted: %v; set sasl.oauth.ca_file to the CA that signed its certificate", err)
	}
	return fmt.Sprintf("cannot be reached: %v; check the URL, and that the endpoint runs", err)
}

// refusedToken quotes the error of an endpoint (RFC 6749 section 5.2).
func refusedToken(answer *oauth2.RetrieveError, c config.OAuth, where string) error {
	who := fmt.Sprintf("client %q", c.ClientID)
	if c.ClientID == "" {
		who = "the assertion in " + c.AssertionFile
	}
	reason, todo := answer.ErrorCode, "see the log of the endpoint"
	if answer.ErrorDescription != "" {
		reason += ": " + answer.ErrorDescription
	}
	switch answer.ErrorCode {
	case "":
		status := answer.Response.StatusCode
		text := fmt.Sprintf("%s answers %d %s", where, status, http.StatusText(status))
		if status >= http.StatusInternalServerError || status == http.StatusTooManyRequests {
			return &loginError{text: text + "; see the log of the endpoint"}
		}
		return &loginError{text: text + ", which is no answer of a token endpoint; check the URL"}
	case "invalid_client", "unauthorized_client":
		todo = "check sasl.oauth.client_id, and its secret or assertion"
	case "invalid_scope":
		todo = fmt.Sprintf("check sasl.oauth.scope, which is %q", c.Scope)
	case "invalid_grant":
		todo = "check that the assertion has not expired and that the endpoint trusts its issuer"
	}
	// An assertion is renewed, and a server that has trouble gets over it.
	permanent := answer.ErrorCode != "invalid_grant" && answer.ErrorCode != "temporarily_unavailable" && answer.Response.StatusCode < http.StatusInternalServerError &&
		answer.Response.StatusCode != http.StatusTooManyRequests && c.AssertionFile == ""
	return &loginError{text: fmt.Sprintf("%s refuses %s (%s); %s", where, who, oneLine(reason), todo), refused: permanent}
}

// oneLine makes a sentence of what somebody else wrote.
func oneLine(text string) string {
	const enough = 600
	if text = strings.Join(strings.Fields(text), " "); len(text) > enough {
		text = text[:enough] + "..."
	}
	return text
}
