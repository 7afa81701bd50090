package client

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
	"golang.org/x/sync/singleflight"

	"github.com/milena-kafka/milena/config"
)

// bearer is OAUTHBEARER with an end that brokers and clients agree on when a token is refused.
type bearer struct {
	sasl.Mechanism
	tokens *tokens
}

func newBearer(c config.OAuth) bearer {
	t := newTokens(c)
	return bearer{tokens: t, Mechanism: oauth.Oauth(func(ctx context.Context) (oauth.Auth, error) {
		token, err := t.get(ctx)
		return oauth.Auth{Token: token, Extensions: c.Extensions}, err
	})}
}

// Authenticate implements sasl.Mechanism.
func (b bearer) Authenticate(ctx context.Context, address string) (sasl.Session, []byte, error) {
	session, message, err := b.Mechanism.Authenticate(ctx, address)
	return &bearerSession{Session: session, tokens: b.tokens}, message, err
}

type bearerSession struct {
	sasl.Session
	tokens  *tokens
	refused bool
}

// Challenge answers a broker that refuses the token with the byte of RFC 7628 section 3.2.3. Only then does the broker say so with an error
// code, which tells a refusal from a broken connection, and with its reason.
func (s *bearerSession) Challenge(response []byte) (bool, []byte, error) {
	if len(response) > 0 && !s.refused {
		s.refused = true
		s.tokens.discard()
		return false, []byte{1}, nil
	}
	return s.Session.Challenge(response)
}

const (
	// The timeout of one fetch of a token. It is well below the lease, because a client that authenticates confirms nothing meanwhile.
	tokenTimeout = 5 * time.Second
	// After a fetch that failed, none is tried for so long: a dozen connections per broker ask for a token.
	tokenPause = time.Second
	// A token that is renewed before its end has to last for a session that is worth it: brokers refuse to authenticate a connection twice within a
	// second (KIP-368).
	shortestSession = 3 * time.Second
)

// tokens gives the tokens of one login: those of a file, or those of a token endpoint, which are kept until shortly before they expire. It is safe
// for concurrent use.
type tokens struct {
	config   config.OAuth
	endpoint *clientcredentials.Config // used by the fetch alone
	known    bool                      // that the endpoint takes the secret as it is sent; used by the fetch alone
	fetches  singleflight.Group
	timeout  time.Duration // of one fetch

	mu      sync.Mutex
	token   string
	renew   time.Time // when the token should be replaced
	expires time.Time // when the token is of no use any more
	retry   time.Time // when the endpoint may be asked again after a failure
	failure error     // of the last fetch, nil if it succeeded
}

func newTokens(c config.OAuth) *tokens {
	return &tokens{config: c, timeout: tokenTimeout, endpoint: &clientcredentials.Config{
		ClientID: c.ClientID, TokenURL: c.TokenEndpoint, Scopes: strings.Fields(c.Scope), AuthStyle: oauth2.AuthStyleInHeader,
	}}
}

// get returns a token to log in with. It blocks for at most the timeout. The error is a *loginError or that of ctx.
func (t *tokens) get(ctx context.Context) (string, error) {
	if t.config.TokenFile != "" {
		return readLoginFile("sasl.oauth.token_file", t.config.TokenFile)
	}
	if token, done, err := t.kept(time.Now()); done {
		return token, err
	}
	// The fetch serves all who wait for a token, so it does not end with the first of them.
	fetched := t.fetches.DoChan("", func() (any, error) {
		if _, done, _ := t.kept(time.Now()); done {
			return nil, nil // by a fetch that ended just before this one began
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.timeout)
		defer cancel()
		return nil, t.fetch(ctx)
	})
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case <-fetched:
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.current(time.Now())
}

// kept returns the result of the last fetch, as long as no other fetch is due.
func (t *tokens) kept(now time.Time) (token string, ok bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Before(t.renew) || now.Before(t.retry) {
		token, err = t.current(now)
		return token, true, err
	}
	return "", false, nil
}

// current returns the last token, also one that should be replaced by now but could not be: an endpoint that is down for a while delays nothing. The
// caller holds the lock.
func (t *tokens) current(now time.Time) (string, error) {
	if t.failure == nil || t.expires.Sub(now) > shortestSession {
		return t.token, nil
	}
	return "", t.failure
}

// discard makes the next login fetch a token, because a broker has refused this one: an issuer that changes its keys makes its tokens useless.
func (t *tokens) discard() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.renew, t.retry = time.Time{}, time.Now().Add(tokenPause)
}

// fetch asks the endpoint for a token and keeps it. Files are read again each time, so that a rotated secret or CA is used.
func (t *tokens) fetch(ctx context.Context) error {
	token, err := t.request(ctx)
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failure = err; err != nil {
		t.retry = now.Add(tokenPause)
		return err
	}
	t.token, t.expires = token.AccessToken, token.Expiry
	if end := expiryOf(token.AccessToken); t.expires.IsZero() || !end.IsZero() && end.Before(t.expires) {
		t.expires = end // zero if the token does not say; then it is not kept
	}
	// A fifth of the time is left, as Java's clients leave it (sasl.login.refresh.window.factor).
	left := t.expires.Sub(now)
	t.renew = t.expires.Add(-max(left/5, min(left/2, shortestSession)))
	return nil
}

// request asks the endpoint for a token.
func (t *tokens) request(ctx context.Context) (*oauth2.Token, error) {
	ctx, err := t.withClient(ctx)
	if err != nil {
		return nil, err
	}
	if t.config.AssertionFile == "" {
		secret, err := t.config.Secret()
		switch {
		case err != nil:
			return nil, &loginError{text: fmt.Sprintf("sasl.oauth.client_secret_file: %v", err)}
		case secret == "":
			return nil, &loginError{text: fmt.Sprintf("sasl.oauth.client_secret_file: %s is empty; write the client secret into it", t.config.ClientSecretFile)}
		}
		t.endpoint.ClientSecret = secret
	} else {
		assertion, err := readLoginFile("sasl.oauth.assertion_file", t.config.AssertionFile)
		if err != nil {
			return nil, err
		}
		t.endpoint.AuthStyle, t.endpoint.EndpointParams = oauth2.AuthStyleInParams, assertionParams(t.config.ClientID, assertion)
	}
	token, err := t.endpoint.Token(ctx)
	if err != nil && t.config.AssertionFile == "" && !t.known && isInvalidClient(err) {
		// RFC 6749 section 2.3.1 asks endpoints to read the secret from the header; some read it from the form only.
		t.endpoint.AuthStyle = oauth2.AuthStyleInParams
		if again, formErr := t.endpoint.Token(ctx); formErr == nil {
			token, err = again, nil
		} else {
			t.endpoint.AuthStyle = oauth2.AuthStyleInHeader
		}
	}
	if err != nil {
		return nil, t.endpointError(err)
	}
	t.known = true
	return token, nil
}

// assertionParams are the parameters of RFC 7523: of a client that proves with an assertion who it is (section 2.2), or, without a client id, of an
// assertion that is exchanged for a token (section 2.1).
func assertionParams(clientID, assertion string) url.Values {
	const kind = "urn:ietf:params:oauth:"
	if clientID == "" {
		return url.Values{"grant_type": {kind + "grant-type:jwt-bearer"}, "assertion": {assertion}}
	}
	return url.Values{"client_assertion_type": {kind + "client-assertion-type:jwt-bearer"}, "client_assertion": {assertion}}
}

// withClient returns a context with the HTTP client of one request. Tokens are fetched so rarely that no connection is kept.
func (t *tokens) withClient(ctx context.Context) (context.Context, error) {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, TLSClientConfig: &tls.Config{}}
	if t.config.CAFile != "" {
		trusted, err := readTrust(config.TLS{CAFile: t.config.CAFile})
		if err != nil {
			return nil, &loginError{text: "sasl.oauth." + strings.TrimPrefix(err.Error(), "tls.")}
		}
		pool, err := trusted.parse()
		if err != nil {
			return nil, &loginError{text: "sasl.oauth." + strings.TrimPrefix(err.Error(), "tls.")}
		}
		transport.TLSClientConfig.RootCAs = pool
	}
	return context.WithValue(ctx, oauth2.HTTPClient, &http.Client{
		Transport: transport,
		// A redirected POST would lose its body or carry the secret elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}), nil
}

// expiryOf returns when a token expires that is a JWT, or zero. An endpoint need not say it.
func expiryOf(token string) time.Time {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return time.Time{}
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct {
		Expiry float64 `json:"exp"`
	}
	if err != nil || json.Unmarshal(payload, &claims) != nil || claims.Expiry <= 0 {
		return time.Time{}
	}
	return time.Unix(int64(claims.Expiry), 0)
}

// readLoginFile returns the content of a file without white space around it, which editors and scripts add.
func readLoginFile(key, path string) (string, error) {
	data, err := os.ReadFile(path)
	text := strings.TrimSpace(string(data))
	switch {
	case err != nil:
		return "", &loginError{text: fmt.Sprintf("%s: %v", key, err)}
	case text == "":
		return "", &loginError{text: fmt.Sprintf("%s: %s is empty; whatever renews it has written no token", key, path)}
	}
	return text, nil
}
