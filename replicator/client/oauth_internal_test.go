package client

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator/kafkatest"
)

// answers is a token endpoint that gives the tokens 1, 2, 3 and so on, with a lifetime in seconds, unless it is told to answer something else.
type answers struct {
	*httptest.Server
	asked    atomic.Int64
	lifetime int

	mu     sync.Mutex
	status int
	body   string
	forms  []url.Values
	users  []string
}

func newAnswers(t *testing.T, lifetime int) *answers {
	t.Helper()
	a := &answers{lifetime: lifetime}
	a.Server = httptest.NewServer(a)
	t.Cleanup(a.Close)
	return a
}

// say makes the endpoint answer with this from now on.
func (a *answers) say(status int, body string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.status, a.body = status, body
}

func (a *answers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := a.asked.Add(1)
	_ = r.ParseForm()
	id, secret, _ := r.BasicAuth()
	a.forms, a.users = append(a.forms, r.PostForm), append(a.users, id+":"+secret)
	w.Header().Set("Content-Type", "application/json")
	if a.status != 0 {
		w.WriteHeader(a.status)
		_, _ = w.Write([]byte(a.body))
		return
	}
	answer := map[string]any{"access_token": fmt.Sprint(n), "token_type": "Bearer"}
	if a.lifetime > 0 {
		answer["expires_in"] = a.lifetime
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// client is a login with a secret at this endpoint.
func (a *answers) client() config.OAuth {
	return config.OAuth{TokenEndpoint: a.URL, ClientID: "milena", ClientSecret: "s3cr3t"}
}

func wantToken(t *testing.T, tokens *tokens, want string) {
	t.Helper()
	if got, err := tokens.get(t.Context()); got != want || err != nil {
		t.Errorf("token %q, %v; want %q", got, err, want)
	}
}

func TestTokens_areKeptUntilShortlyBeforeTheyExpire(t *testing.T) {
	a := newAnswers(t, 3600)
	tokens := newTokens(a.client())
	began := time.Now()
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() { wantToken(t, tokens, "1") })
	}
	all.Wait()
	if asked := a.asked.Load(); asked != 1 {
		t.Errorf("%d requests for one token", asked)
	}
	if early := tokens.expires.Sub(tokens.renew).Round(time.Minute); early != 12*time.Minute || tokens.expires.Before(began.Add(3599*time.Second)) {
		t.Errorf("renewed %v before the end, %v", early, tokens.expires)
	}
	tokens.renew = time.Now()
	wantToken(t, tokens, "2")
	// The brokers do not take this one. It is replaced, but not more often than once per pause.
	tokens.discard()
	wantToken(t, tokens, "2")
	tokens.retry = time.Time{}
	wantToken(t, tokens, "3")
}

// A token with a short life is renewed while it still lasts for a session; one that says nothing is not kept.
func TestTokens_knowHowLongTheyLast(t *testing.T) {
	key, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: []byte("0123456789abcdef0123456789abcdef")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := jwt.Signed(key).Claims(jwt.Claims{Expiry: jwt.NewNumericDate(time.Now().Add(time.Hour))}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		body  string
		lasts time.Duration // 0: not kept
		early time.Duration
	}{
		"eight seconds":           {`{"access_token":"x","expires_in":8}`, 8 * time.Second, 3 * time.Second},
		"three seconds":           {`{"access_token":"x","expires_in":3}`, 3 * time.Second, 1500 * time.Millisecond},
		"nothing":                 {`{"access_token":"x"}`, 0, 0},
		"only the JWT says it":    {`{"access_token":"` + signed + `"}`, time.Hour, 12 * time.Minute},
		"the JWT ends before":     {`{"access_token":"` + signed + `","expires_in":86400}`, time.Hour, 12 * time.Minute},
		"not quite a JWT":         {`{"access_token":"a.b.c"}`, 0, 0},
		"a JWT without an expiry": {`{"access_token":"e30.e30.x"}`, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAnswers(t, 0)
			a.say(http.StatusOK, test.body)
			tokens := newTokens(a.client())
			if _, err := tokens.get(t.Context()); err != nil {
				t.Fatal(err)
			}
			if test.lasts == 0 {
				_, err := tokens.get(t.Context())
				if asked := a.asked.Load(); asked != 2 || err != nil {
					t.Errorf("%d requests for two tokens, %v", asked, err)
				}
				return
			}
			lasts, early := time.Until(tokens.expires), tokens.expires.Sub(tokens.renew)
			if lasts > test.lasts || lasts < test.lasts-2*time.Second || early > test.early || early < test.early-time.Second {
				t.Errorf("lasts %v, renewed %v early; want %v, %v", lasts, early, test.lasts, test.early)
			}
		})
	}
}

func TestTokens_outliveAnEndpointThatIsDown(t *testing.T) {
	a := newAnswers(t, 3600)
	tokens := newTokens(a.client())
	wantToken(t, tokens, "1")
	a.say(http.StatusServiceUnavailable, "")
	tokens.renew = time.Now()
	wantToken(t, tokens, "1")
	asked := a.asked.Load()
	wantToken(t, tokens, "1")
	if again := a.asked.Load(); again != asked {
		t.Errorf("the endpoint is asked %d times within a pause", again-asked)
	}
	tokens.expires = time.Now().Add(shortestSession)
	if _, err := tokens.get(t.Context()); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("a token that is about to expire is used: %v", err)
	}
	a.say(0, "")
	tokens.retry = time.Now()
	wantToken(t, tokens, fmt.Sprint(a.asked.Load()+1))
}

// What the endpoint is asked, with each proof of who the client is. Files are read again each time.
func TestTokens_askWithTheProofOfTheClient(t *testing.T) {
	dir := t.TempDir()
	secret, assertion := filepath.Join(dir, "secret"), filepath.Join(dir, "assertion")
	for name, test := range map[string]struct {
		login config.OAuth
		write string
		user  string
		form  url.Values
	}{
		"secret": {
			config.OAuth{ClientID: "me", ClientSecretFile: secret, Scope: "a b"},
			secret, "me:%s",
			url.Values{"grant_type": {"client_credentials"}, "scope": {"a b"}},
		},
		"client assertion": {
			config.OAuth{ClientID: "me", AssertionFile: assertion},
			assertion, ":",
			url.Values{
				"grant_type": {"client_credentials"}, "client_id": {"me"}, "client_assertion": {"%s"},
				"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
			},
		},
		"JWT bearer": {
			config.OAuth{AssertionFile: assertion},
			assertion, ":",
			url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {"%s"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAnswers(t, 0)
			test.login.TokenEndpoint = a.URL
			tokens := newTokens(test.login)
			for i, proof := range []string{"first", "second"} {
				writeFile(t, test.write, proof+"\n")
				if _, err := tokens.get(t.Context()); err != nil {
					t.Fatal(err)
				}
				form := url.Values{}
				for key, values := range test.form {
					form.Set(key, strings.ReplaceAll(values[0], "%s", proof))
				}
				if diff := cmp.Diff(form, a.forms[i]); diff != "" {
					t.Errorf("form: -want +got\n%s", diff)
				}
				if want := strings.ReplaceAll(test.user, "%s", proof); a.users[i] != want {
					t.Errorf("user %q, want %q", a.users[i], want)
				}
			}
		})
	}
}

// An endpoint that reads the secret from the form only gets it there, also after a failure that says nothing about it.
func TestTokens_sendTheSecretWhereTheEndpointReadsIt(t *testing.T) {
	var broken, asked atomic.Int64
	broken.Store(1)
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.Header().Set("Content-Type", "application/json")
		switch {
		case broken.Add(-1) >= 0:
			w.WriteHeader(http.StatusInternalServerError)
		case r.PostFormValue("client_secret") != "s3cr3t":
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(`{"error":"invalid_client"}`))
		default:
			_, _ = w.Write([]byte(`{"access_token":"x"}`))
		}
	}))
	t.Cleanup(endpoint.Close)
	tokens := newTokens(config.OAuth{TokenEndpoint: endpoint.URL, ClientID: "milena", ClientSecret: "s3cr3t"})
	if _, err := tokens.get(t.Context()); err == nil || !strings.Contains(err.Error(), "500 Internal Server Error") {
		t.Errorf("err = %v", err)
	}
	for _, want := range []int64{3, 4} { // 1 that fails, 1 without the secret in the form, and then 1 per token
		tokens.retry = time.Time{}
		wantToken(t, tokens, "x")
		if got := asked.Load(); got != want {
			t.Errorf("%d requests, want %d", got, want)
		}
	}
}

func TestTokens_sayWhatIsWrong(t *testing.T) {
	a := newAnswers(t, 0)
	secure := httptest.NewUnstartedServer(a)
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // of the client that does not trust it
	secure.StartTLS()
	t.Cleanup(secure.Close)
	dir := t.TempDir()
	empty, ca := filepath.Join(dir, "empty"), filepath.Join(dir, "ca.pem")
	writeFile(t, empty, "\n")
	writeFile(t, ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})))
	with := func(change func(*config.OAuth)) config.OAuth {
		c := a.client()
		change(&c)
		return c
	}
	for name, test := range map[string]struct {
		login     config.OAuth
		status    int
		body      string
		want      string
		permanent bool
	}{
		"wrong secret": {
			a.client(), http.StatusUnauthorized, `{"error":"invalid_client","error_description":"Bad\nsecret"}`,
			`refuses client "milena" (invalid_client: Bad secret); check sasl.oauth.client_id, and its secret or assertion`, true,
		},
		"wrong scope": {
			with(func(c *config.OAuth) { c.Scope = "x" }),
			http.StatusBadRequest, `{"error":"invalid_scope"}`, `refuses client "milena" (invalid_scope); check sasl.oauth.scope, which is "x"`, true,
		},
		"assertion that has expired": {
			config.OAuth{TokenEndpoint: a.URL, AssertionFile: ca},
			http.StatusBadRequest, `{"error":"invalid_grant"}`,
			"refuses the assertion in " + ca + " (invalid_grant); check that the assertion has not expired", false,
		},
		"trouble":          {a.client(), http.StatusBadGateway, `{"error":"server_error"}`, `(server_error); see the log of the endpoint`, false},
		"page":             {a.client(), http.StatusNotFound, `<html>`, "answers 404 Not Found, which is no answer of a token endpoint; check the URL", false},
		"overloaded":       {a.client(), http.StatusServiceUnavailable, ``, "answers 503 Service Unavailable; see the log of the endpoint", false},
		"redirect":         {a.client(), http.StatusFound, ``, "answers 302 Found, which is no answer of a token endpoint; check the URL", false},
		"another answer":   {a.client(), http.StatusOK, `{}`, "gives an answer that is no token (server response missing access_token); check the URL", false},
		"nothing listens":  {with(func(c *config.OAuth) { c.TokenEndpoint = "http://127.0.0.1:1/token" }), 0, "", "sasl.oauth.token_endpoint: http://127.0.0.1:1/token cannot be reached: dial tcp 127.0.0.1:1: connect: connection refused; check the URL, and that the endpoint runs", false},
		"unknown CA":       {with(func(c *config.OAuth) { c.TokenEndpoint = secure.URL }), 0, "", "; set sasl.oauth.ca_file to the CA that signed its certificate", false},
		"no CA file":       {with(func(c *config.OAuth) { c.CAFile = "nowhere" }), 0, "", "sasl.oauth.ca_file: open nowhere: no such file or directory", false},
		"no token file":    {config.OAuth{TokenFile: "nowhere"}, 0, "", "sasl.oauth.token_file: open nowhere: no such file or directory", false},
		"empty token file": {config.OAuth{TokenFile: empty}, 0, "", "sasl.oauth.token_file: " + empty + " is empty; whatever renews it has written no token", false},
		"no secret file":   {config.OAuth{TokenEndpoint: a.URL, ClientID: "x", ClientSecretFile: "nowhere"}, 0, "", "sasl.oauth.client_secret_file: open nowhere: no such file", false},
		"empty secret":     {config.OAuth{TokenEndpoint: a.URL, ClientID: "x", ClientSecretFile: empty}, 0, "", "sasl.oauth.client_secret_file: " + empty + " is empty", false},
		"no assertion":     {config.OAuth{TokenEndpoint: a.URL, AssertionFile: "nowhere"}, 0, "", "sasl.oauth.assertion_file: open nowhere: no such file", false},
	} {
		t.Run(name, func(t *testing.T) {
			a.say(test.status, test.body)
			c := config.Cluster{Brokers: bearerBroker(t, nil).ListenAddrs(), SASL: &config.SASL{Mechanism: config.MechanismOAuthBearer, OAuth: &test.login}}
			err := reach(t, c)
			if err == nil || !strings.Contains(err.Error(), "cluster dr ("+c.Brokers[0]+"): sasl.oauth.") || !strings.Contains(err.Error(), test.want) ||
				strings.Contains(err.Error(), "broker") || strings.Contains(err.Error(), "s3cr3t") {
				t.Fatalf("err = %v\nwant %s", err, test.want)
			}
			if errors.Is(err, ErrLoginRefused) != test.permanent {
				t.Errorf("permanent is %v", !test.permanent)
			}
		})
	}
	t.Run("trusted CA", func(t *testing.T) {
		a.say(0, "")
		if _, err := newTokens(with(func(c *config.OAuth) { c.TokenEndpoint, c.CAFile = secure.URL, ca })).get(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// An endpoint that accepts connections and never answers costs no more than the timeout, once for all who wait.
func TestTokens_doNotWaitForAnEndpointThatHangs(t *testing.T) {
	var open []net.Conn
	var mu sync.Mutex
	address := listenRaw(t, func(c net.Conn) {
		mu.Lock()
		defer mu.Unlock()
		open = append(open, c)
	})
	tokens := newTokens(config.OAuth{TokenEndpoint: "http://" + address, ClientID: "x", ClientSecret: "y"})
	tokens.timeout = 100 * time.Millisecond
	began := time.Now()
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			if _, err := tokens.get(t.Context()); err == nil || !strings.Contains(err.Error(), "gives no answer within 100ms; check the network") {
				t.Errorf("err = %v", err)
			}
		})
	}
	all.Wait()
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
}

// bearerBroker offers OAUTHBEARER. It refuses tokens as Kafka does: with a challenge first and, once that is answered, with an error code. The function
// refuse gets the first message; nil accepts all.
func bearerBroker(t *testing.T, refuse func(message string) bool) *kfake.Cluster {
	t.Helper()
	cluster := kafkatest.New(t)
	cluster.ControlKey(int16(kmsg.SASLHandshake), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		return request.ResponseKind(), nil, true
	})
	cluster.ControlKey(int16(kmsg.SASLAuthenticate), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		response := request.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		switch message := string(request.(*kmsg.SASLAuthenticateRequest).SASLAuthBytes); {
		case message == "\x01":
			response.ErrorCode, response.ErrorMessage = kerr.SaslAuthenticationFailed.Code, kmsg.StringPtr(`{"status":"invalid_token"}`)
		case refuse != nil && refuse(message):
			response.SASLAuthBytes = []byte(`{"status":"invalid_token"}`)
		}
		return response, nil, true
	})
	return cluster
}

func TestBearer_sendsTheTokenAndSaysWhyABrokerRefusesIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	writeFile(t, path, "right\n")
	broker := bearerBroker(t, func(message string) bool {
		return message != "n,,\x01auth=Bearer right\x01logicalCluster=lkc-1\x01\x01"
	})
	c := config.Cluster{Brokers: broker.ListenAddrs(), SASL: &config.SASL{
		Mechanism: config.MechanismOAuthBearer, OAuth: &config.OAuth{TokenFile: path, Extensions: map[string]string{"logicalCluster": "lkc-1"}},
	}}
	if err := reach(t, c); err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, "w5ong")
	err := reach(t, c)
	if !errors.Is(err, kerr.SaslAuthenticationFailed) || strings.Contains(err.Error(), "w5ong") ||
		!strings.Contains(err.Error(), "the broker rejected the token in "+path+` (SASL_AUTHENTICATION_FAILED`) ||
		!strings.Contains(err.Error(), `{"status":"invalid_token"}`) || !strings.HasSuffix(err.Error(), "; "+tokenAdvice) {
		t.Errorf("err = %v", err)
	}
}

// All clients of one side of a flow share a token. One that a broker refuses is not used for long.
func TestBearer_isSharedAndReplacesATokenThatIsRefused(t *testing.T) {
	a := newAnswers(t, 3600)
	login := a.client()
	c := config.Cluster{SASL: &config.SASL{Mechanism: config.MechanismOAuthBearer, OAuth: &login}}
	dials := &Dials{}
	first, err := NewNetwork(c, dials)
	if err != nil {
		t.Fatal(err)
	}
	second, err := NewNetwork(c, dials)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []Network{first, second} {
		session, message, err := n.SASL.Authenticate(t.Context(), "broker:9092")
		if err != nil || !strings.Contains(string(message), "Bearer 1\x01") {
			t.Fatalf("%q, %v", message, err)
		}
		if done, _, err := session.Challenge(nil); !done || err != nil {
			t.Errorf("done is %v, %v", done, err)
		}
	}
	session, _, err := first.SASL.Authenticate(t.Context(), "broker:9092")
	if err != nil {
		t.Fatal(err)
	}
	if done, answer, err := session.Challenge([]byte(`{"status":"invalid_token"}`)); done || string(answer) != "\x01" || err != nil {
		t.Errorf("a refusal is answered with %q, %v, %v", answer, done, err)
	}
	if _, _, err := session.Challenge([]byte("again")); err == nil {
		t.Error("a broker that refuses twice is believed")
	}
	shared := first.SASL.(bearer).tokens
	shared.retry = time.Time{}
	if _, message, err := second.SASL.Authenticate(t.Context(), "broker:9092"); err != nil || !strings.Contains(string(message), "Bearer 2\x01") {
		t.Errorf("%q, %v", message, err)
	}
}
