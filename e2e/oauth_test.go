package e2e_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/proc"
	"github.com/milena-kafka/milena/e2e/proxy"
)

const (
	tokenIssuer, tokenAudience = "https://login.test", "kafka"
	// Short, so that a test sees many tokens, and longer than the seconds that a session needs.
	tokenLife = 8 * time.Second

	firstSecret, secondSecret = "Tr0ub4dor&3", "correct horse battery"
)

// issuer is a token endpoint (RFC 6749 section 4.4) behind a proxy, and the key that it signs with.
type issuer struct {
	URL    string
	proxy  *proxy.Proxy
	jwks   string // a file with the public key
	signer jose.Signer

	mu      sync.Mutex
	secret  string // the only one that is accepted
	issued  int
	refused int
	expires time.Time // of the last token
}

func newIssuer(t *testing.T, dir string) *issuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	check(t, err)
	i := &issuer{secret: firstSecret, jwks: filepath.Join(dir, "jwks.json")}
	i.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: "one"}}, nil)
	check(t, err)
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "one", Algorithm: "RS256", Use: "sig"}}})
	check(t, err)
	check(t, os.WriteFile(i.jwks, set, 0o600))
	ports, err := proc.FreePorts(t.Context(), 2)
	check(t, err)
	before, behind := fmt.Sprintf("127.0.0.1:%d", ports[0]), fmt.Sprintf("127.0.0.1:%d", ports[1])
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", behind)
	check(t, err)
	server := &http.Server{Handler: i, ReadHeaderTimeout: time.Second}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	i.proxy, err = proxy.Start(t.Context(), before, behind)
	check(t, err)
	i.URL = "http://" + before + "/token"
	return i
}

// token signs a token.
func (i *issuer) token(audience string) (string, error) {
	now := time.Now()
	return jwt.Signed(i.signer).Claims(jwt.Claims{
		Issuer: tokenIssuer, Subject: "milena", Audience: jwt.Audience{audience}, IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(tokenLife)),
	}).Claims(map[string]any{"scope": "kafka"}).Serialize()
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	id, encoded, _ := r.BasicAuth()
	if secret, err := url.QueryUnescape(encoded); id != "milena" || err != nil || secret != i.secret { // RFC 6749 section 2.3.1
		i.refused++
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte(`{"error":"invalid_client","error_description":"the secret was changed"}`))
		return
	}
	token, err := i.token(tokenAudience)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	i.issued, i.expires = i.issued+1, time.Now().Add(tokenLife)
	_ = json.NewEncoder(w).Encode(map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": int(tokenLife.Seconds())})
}

// accept makes this the only secret.
func (i *issuer) accept(secret string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.secret = secret
}

// tokens returns how many were given and refused, and how long the last one is good for.
func (i *issuer) tokens() (issued, refused int, left time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.issued, i.refused, time.Until(i.expires)
}

// bearers is a pair of clusters with TLS and OAUTHBEARER, checked by Kafka's own validator.
type bearers struct {
	*pair
	issuer             *issuer
	caFile, secretFile string
}

func TestOAuthBearer(t *testing.T) {
	t.Parallel()
	b := startBearers(t)
	b.createTopic("tokens", 3, 1)
	w := b.writer(load.Options{Topic: "tokens", Partitions: 3})
	t.Run("every record is copied once while tokens expire", func(t *testing.T) { b.copiesWhileTokensExpire(t, w) })
	t.Run("an mm2.properties with Kafka's login handler and Strimzi's", func(t *testing.T) { b.copiesWithMM2File(t, w) })
	t.Run("a token that the broker rejects is one sentence", b.rejectedToken)
	t.Run("a secret that the endpoint refuses ends run with exit code 1", b.refusedSecret)
}

func startBearers(t *testing.T) *bearers {
	t.Helper()
	requireKafka(t)
	ca, err := kafka.NewAuthority("the right authority")
	check(t, err)
	files := t.TempDir()
	b := &bearers{issuer: newIssuer(t, files), caFile: filepath.Join(files, "ca.pem"), secretFile: filepath.Join(files, "secret")}
	check(t, os.WriteFile(b.caFile, ca.PEM, 0o600))
	security := kafka.Options{Security: &kafka.Security{CA: ca, OAuth: &kafka.OAuth{
		JWKS: b.issuer.jwks, Issuer: tokenIssuer, Audience: tokenAudience, Reauthenticate: 4 * time.Second,
	}}}
	b.pair = startPair(t, security, security)
	b.writeSecret(t, firstSecret)
	return b
}

// writeSecret replaces the file as a secret manager does: at once.
func (b *bearers) writeSecret(t *testing.T, secret string) {
	t.Helper()
	check(t, os.WriteFile(b.secretFile+".new", []byte(secret+"\n"), 0o600))
	check(t, os.Rename(b.secretFile+".new", b.secretFile))
}

// configOf is one flow whose clusters log in with this.
func (b *bearers) configOf(login daemon.Map) daemon.Map {
	config := b.config("tokens")
	cluster := func(c *kafka.Cluster) daemon.Map {
		return daemon.Map{"brokers": c.SecureAddrs(), "tls": daemon.Map{"ca_file": b.caFile}, "sasl": daemon.Map{"mechanism": "OAUTHBEARER", "oauth": login}}
	}
	config["clusters"] = daemon.Map{"source": cluster(b.source), "target": cluster(b.target)}
	return config
}

func (b *bearers) endpoint() daemon.Map {
	return daemon.Map{"token_endpoint": b.issuer.URL, "client_id": "milena", "client_secret_file": b.secretFile, "scope": "kafka"}
}

// copiesWhileTokensExpire lets tokens of a few seconds expire under a steady load, takes the endpoint away until they all have, and changes the
// secret there before the file has it.
func (b *bearers) copiesWhileTokensExpire(t *testing.T, w *load.Writer) {
	p := b.in(t)
	m := p.startMilena(b.configOf(b.endpoint()))
	stream := w.Stream(t.Context(), 500)
	eventually(t, time.Minute, "several tokens have expired", func() (bool, string) {
		issued, refused, _ := b.issuer.tokens()
		return issued >= 8, fmt.Sprintf("%d issued, %d refused", issued, refused)
	})
	p.verifyWhileWriting(m, 20*time.Second, "tokens")
	if strings.Contains(m.Output(), "sasl.oauth") {
		t.Errorf("a token that is renewed in time is in the log:\n%s", m.Tail(20))
	}

	check(t, b.issuer.proxy.Set(t.Context(), proxy.Refuse))
	waitLine(t, m, 2*time.Minute, `sasl\.oauth\.token_endpoint: \S+ cannot be reached: .*connection refused; check the URL, and that the endpoint runs`)
	eventually(t, 2*tokenLife, "the last token expired two seconds ago", func() (bool, string) {
		_, _, left := b.issuer.tokens()
		return left < -2*time.Second, left.String()
	})
	check(t, b.issuer.proxy.Set(t.Context(), proxy.Pass))
	p.verifyWhileWriting(m, time.Minute, "tokens")

	b.issuer.accept(secondSecret)
	waitLine(t, m, 2*time.Minute, `refuses client \\?"milena\\?" \(invalid_client: the secret was changed\); check sasl.oauth.client_id`)
	b.writeSecret(t, secondSecret)
	p.verifyWhileWriting(m, time.Minute, "tokens")

	_, err := stream.Stop(t.Context())
	check(t, err)
	p.waitAndVerify(m, time.Minute, w.Acked(), "tokens")
	m.stop()
	issued, _, _ := b.issuer.tokens()
	t.Logf("%d tokens of %v", issued, tokenLife)
	if out := m.Output(); strings.Contains(out, "eyJ") || strings.Contains(out, firstSecret) || strings.Contains(out, secondSecret) {
		t.Error("the log contains a token or a secret")
	}
}

// copiesWithMM2File goes on with the logins of MirrorMaker 2: the handler of Kafka on the source, that of Strimzi on the target.
func (b *bearers) copiesWithMM2File(t *testing.T, w *load.Writer) {
	p := b.in(t)
	check(t, w.Write(t.Context(), 300))
	const module = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required "
	file := p.mm2File("tokens",
		"source.bootstrap.servers = "+strings.Join(b.source.SecureAddrs(), ","),
		"target.bootstrap.servers = "+strings.Join(b.target.SecureAddrs(), ","),
		"topics = tokens", "security.protocol = SASL_SSL", "ssl.truststore.type = PEM", "ssl.truststore.location = "+b.caFile, "sasl.mechanism = OAUTHBEARER",
		"source.sasl.login.callback.handler.class = org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler",
		"source.sasl.oauthbearer.token.endpoint.url = "+b.issuer.URL,
		fmt.Sprintf("source.sasl.jaas.config = %sclientId=\"milena\" clientSecret=%q scope=\"kafka\";", module, secondSecret),
		"target.sasl.login.callback.handler.class = io.strimzi.kafka.oauth.client.JaasClientOauthLoginCallbackHandler",
		fmt.Sprintf("target.sasl.jaas.config = %soauth.client.id=\"milena\" oauth.client.secret=%q oauth.token.endpoint.uri=%q;", module, secondSecret, b.issuer.URL),
	)
	m := p.newMilenaFromFile("milena", file)
	m.start()
	m.waitReady(30 * time.Second)
	p.waitAndVerify(m, 30*time.Second, w.Acked(), "tokens")
	m.stop()
	if strings.Contains(m.Output(), secondSecret) {
		t.Error("the log contains the secret")
	}
}

// waitLine waits until the output has a line that matches.
func waitLine(t *testing.T, m *milena, d time.Duration, pattern string) {
	t.Helper()
	check(t, m.Until(within(t, d, "the log says "+pattern), 100*time.Millisecond, func() (bool, string) {
		return regexp.MustCompile(pattern).MatchString(m.Output()), m.Tail(5)
	}))
}

// rejectedToken logs in with a token for another audience.
func (b *bearers) rejectedToken(t *testing.T) {
	token, err := b.issuer.token("another audience")
	check(t, err)
	path := filepath.Join(t.TempDir(), "token")
	check(t, os.WriteFile(path, []byte(token), 0o600))
	config := b.configOf(daemon.Map{"token_file": path})
	want := `(?i)source.*the broker rejected the token in \S+ \(.*invalid_token.*\); see the broker's log, and compare issuer, audience, scope and expiry`
	code, out := b.in(t).runVerb(t, "check", config)
	if code != 1 {
		t.Errorf("check: exit code %d, want 1", code)
	}
	matchLine(t, out, want)
	m := b.in(t).newMilena("milena", config)
	m.start()
	m.waitExit(30*time.Second, 1)
	matchLine(t, m.Output(), want)
	if strings.Contains(out+m.Output(), token) {
		t.Error("the output contains the token")
	}
}

// refusedSecret starts with a secret that was never right.
func (b *bearers) refusedSecret(t *testing.T) {
	login := b.endpoint()
	delete(login, "client_secret_file")
	login["client_secret"] = "hunter2"
	m := b.in(t).newMilena("milena", b.configOf(login))
	m.start()
	m.waitExit(30*time.Second, 1)
	matchLine(t, m.Output(), `(?i)source.*refuses client .*invalid_client`)
	if strings.Contains(m.Output(), "hunter2") {
		t.Error("the log contains the secret")
	}
}
