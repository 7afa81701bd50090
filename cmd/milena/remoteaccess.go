package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/pflag"
)

// The environment variables about a milena that a command asks by HTTP. Secrets have no flag, because everybody on a host sees the command lines of all.
const (
	tokenVariable    = "MILENA_TOKEN"
	userVariable     = "MILENA_USER"
	passwordVariable = "MILENA_PASSWORD"
	caVariable       = "MILENA_CA_FILE"
	certVariable     = "MILENA_CERT_FILE"
	keyVariable      = "MILENA_KEY_FILE"
)

// loginHint says how a command logs in.
const loginHint = "set " + tokenVariable + ", or " + userVariable + " and " + passwordVariable

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 20

// remote is a milena that a command asks by HTTP. Add its flags, then open it.
type remote struct {
	url    string
	caFile string
	user   string

	token, password string
	client          *http.Client
}

// addAccess adds the flags that say how to reach it, besides the URL.
func (r *remote) addAccess(f *pflag.FlagSet) {
	f.StringVar(&r.caFile, "ca-file", "", "`FILE` with the authorities that sign the certificate of an https URL, instead of the system's; default: "+caVariable)
	f.StringVar(&r.user, "user", "", "`NAME` in http.users, with the password in "+passwordVariable+", instead of the token in "+tokenVariable+"; default: "+userVariable)
}

// open checks the URL, and reads what the environment says of the login.
func (r *remote) open(f *pflag.FlagSet, env func(string) (string, bool)) error {
	if u, err := url.Parse(r.url); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return wrong(f, "--url %q is not a URL such as http://127.0.0.1:9644", r.url)
	}
	get := func(name string) string {
		if value, ok := env(name); ok {
			return value
		}
		return ""
	}
	r.token, r.password = get(tokenVariable), get(passwordVariable)
	switch {
	case r.user != "":
		r.token = ""
	case r.token == "":
		r.user = get(userVariable)
	}
	if r.caFile == "" {
		r.caFile = get(caVariable)
	}
	secure, err := clientTLS(r.caFile, get(certVariable), get(keyVariable))
	if err != nil {
		return wrong(f, "%v", err)
	}
	r.client = newClient(secure)
	return nil
}

// newClient is a client that follows no redirect, because a token goes where it was sent, and keeps no connection: milena has few, and a command that watches asks
// once a second.
func newClient(secure *tls.Config) *http.Client {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: secure, DisableKeepAlives: true}
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// clientTLS is the TLS of a client, with files that may be empty.
func clientTLS(caFile, certFile, keyFile string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile != "" {
		text, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("--ca-file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("--ca-file: %s has no certificate in PEM", caFile)
		}
	}
	if certFile != "" || keyFile != "" {
		pair, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			return nil, fmt.Errorf("%s and %s: %w", certVariable, keyVariable, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// reply is the answer to a request.
type reply struct {
	code   int
	status string // such as 404 Not Found
	body   []byte
}

// send sends a request and reads the answer.
func (r *remote) send(ctx context.Context, method, path string, body io.Reader) (reply, error) {
	request, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(r.url, "/")+path, body)
	if err != nil {
		return reply{}, err
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	switch {
	case r.token != "":
		request.Header.Set("Authorization", "Bearer "+r.token)
	case r.user != "":
		request.SetBasicAuth(r.user, r.password)
	}
	response, err := r.client.Do(request)
	if err != nil {
		return reply{}, unanswered(r.url, err)
	}
	defer func() { _ = response.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	return reply{response.StatusCode, response.Status, data}, err
}

// failure is the error of an answer that is one, with what it says of the cause.
func (r *remote) failure(of reply) error {
	var failed apiError
	if json.Unmarshal(of.body, &failed) != nil || failed.Error == "" {
		failed.Error = strings.TrimSpace(fmt.Sprintf("%s answers %s: %.200s", r.url, of.status, of.body))
	}
	switch of.code {
	case http.StatusBadRequest:
		return wrongOrder("%s", failed.Error)
	case http.StatusUnauthorized:
		return fmt.Errorf("%s; %s", failed.Error, loginHint)
	}
	return errors.New(failed.Error)
}

// unanswered is the error of a request that got no answer, without the method and the path, which the user did not write.
func unanswered(address string, err error) error {
	if failed, ok := errors.AsType[*url.Error](err); ok {
		err = failed.Err
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return fmt.Errorf("%s is not trusted: %w; name the authority of its certificate with --ca-file", address, err)
	}
	return fmt.Errorf("%s does not answer: %w", address, err)
}
