package main

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
)

// serverFiles are the certificate of 127.0.0.1, which is its own authority, and its key.
func serverFiles(t *testing.T) (cert, key string) {
	t.Helper()
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	pair := s.TLS.Certificates[0]
	secret, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// freeAddress is an address on which nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// as runs a command with environment variables.
func as(t *testing.T, env map[string]string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs, func(name string) (string, bool) { value, ok := env[name]; return value, ok })
	return code, out.String(), errs.String()
}

// The commands reach a milena by https, with an authority of their own, and log in with a password or a token.
func TestCommandsByHTTPS(t *testing.T) {
	brokers, listen := startClusters(t), freeAddress(t)
	cert, key := serverFiles(t)
	hash, err := bcrypt.GenerateFromPassword([]byte(bobPassword), 10)
	if err != nil {
		t.Fatal(err)
	}
	path := file(t, fmt.Sprintf(`
clusters: {a: {brokers: [%q]}, b: {brokers: [%q]}}
flows: [{source: a, target: b, shards: 1}]
http:
  listen: %s
  open: [metrics]
  tls: {cert_file: %s, key_file: %s}
  tokens: {alice: %s}
  users: {bob: %s}
`, brokers[0], brokers[1], listen, cert, key, aliceToken, hash))
	s := serve(t, path)
	t.Cleanup(func() { s.cancel(); s.exit(t) })
	within(t, "it is ready", func() bool { code, _, _ := milena(t, "health", "-c", path, "--ready"); return code == exitClean })
	url := "https://" + listen
	bob := map[string]string{userVariable: "bob", passwordVariable: bobPassword, caVariable: cert}
	for name, test := range map[string]struct {
		env  map[string]string
		args string
		code int
		want string
	}{
		"no authority":          {nil, "status --url " + url, exitFailed, "is not trusted: "},
		"no login":              {nil, "status --ca-file " + cert + " --url " + url, exitFailed, "needs a login, and the request has none"},
		"plain HTTP":            {bob, "status --url http://" + listen, exitFailed, "HTTP request to an HTTPS server"},
		"a password":            {bob, "status --url " + url, exitClean, "flow a-b: a -> b, ready"},
		"a wrong password":      {map[string]string{userVariable: "bob", passwordVariable: "x", caVariable: cert}, "status --url " + url, exitFailed, "the user or the password is wrong"},
		"a user by flag":        {map[string]string{tokenVariable: "x", passwordVariable: bobPassword}, "status --user bob --ca-file " + cert + " --url " + url, exitClean, "ready"},
		"a token":               {map[string]string{tokenVariable: aliceToken, caVariable: cert}, "status --url " + url, exitClean, "ready"},
		"an order":              {bob, "pause --topic orders --reason x --flow a-b --url " + url, exitClean, "pause topic orders: x"},
		"the history":           {bob, "log --flow a-b --url " + url, exitClean, "start"},
		"the authority is none": {nil, "status --url " + url + " --ca-file " + key, exitUsage, "no certificate in PEM"},
		"it lives":              {nil, "health --url " + url + " --ca-file " + cert, exitClean, "alive"},
		"it lives, by its file": {map[string]string{userVariable: "nobody"}, "health -c " + path, exitClean, "alive"},
		"it is ready":           {nil, "health --ready -c " + path, exitClean, "ready"},
		"it may be":             {nil, "health --ready --url " + url + " --ca-file " + cert, exitFailed, "needs a login"},
		"nobody is there":       {nil, "health --url http://127.0.0.1:1", exitFailed, "does not answer"},
		"one is enough":         {nil, "health --url http://127.0.0.1:1 -c " + path, exitUsage, "cannot be combined"},
	} {
		if code, stdout, stderr := as(t, test.env, strings.Fields(test.args)...); code != test.code || !strings.Contains(stdout+stderr, test.want) {
			t.Errorf("%s: exit %d\n%s%s", name, code, stdout, stderr)
		}
	}
}

// Where a milena of this host is asked.
func TestURLOfAListener(t *testing.T) {
	for listen, want := range map[string]string{
		":9644": "http://127.0.0.1:9644", "0.0.0.0:9644": "http://127.0.0.1:9644", "[::]:9644": "http://[::1]:9644", "127.0.0.1:9644": "http://127.0.0.1:9644",
		"10.0.0.1:9644": "http://10.0.0.1:9644", "milena.example:9644": "http://milena.example:9644",
	} {
		if got := ownURL(config.HTTP{Listen: listen}); got != want {
			t.Errorf("%s: %s, want %s", listen, got, want)
		}
	}
	if got := ownURL(config.HTTP{Listen: ":9644", TLS: &config.HTTPTLS{}}); got != "https://127.0.0.1:9644" {
		t.Error(got)
	}
}

// A health check of a milena without HTTP says why it fails, and one that is not ready is alive.
func TestHealth(t *testing.T) {
	path := twoClusters(t)
	off := file(t, "clusters: {a: {brokers: [\"a:1\"]}, b: {brokers: [\"b:1\"]}}\nflows: [{source: a, target: b}]\nhttp: {listen: \"\"}\n")
	if code, _, stderr := milena(t, "health", "-c", off); code != exitFailed || !strings.Contains(stderr, "HTTP is off") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if code, _, stderr := milena(t, "health", "-c", path+".none"); code != exitUsage || !strings.Contains(stderr, "no such file") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	server := httptest.NewServer(newAdmin(newRegistry(), config.HTTP{}).server.Handler) // no flows yet
	defer server.Close()
	if code, stdout, _ := milena(t, "health", "--url", server.URL); code != exitClean || stdout != "alive\n" {
		t.Errorf("exit %d: %s", code, stdout)
	}
	if code, _, stderr := milena(t, "health", "--ready", "--url", server.URL); code != exitFailed || !strings.Contains(stderr, "not ready: starting: no flows yet") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

// A drill that somebody begins by HTTP is in the status by its id, outlives the request, and says who began it.
func TestDrillByHTTP(t *testing.T) {
	_, s := controlled(t)
	url := s.url + "/api/v1/flows/a-b/drill"
	for body, want := range map[string]string{
		`{"freeze":"hammer"}`:          "must be acl, quota or none",
		`{"positions":0}`:              "must be at least 1",
		`{"report_dir":"/etc"}`:        "unknown field",
		`{"reason":"x"}{"reason":"x"}`: "more than one",
	} {
		if code, text := request(t, url, body, nil); code != http.StatusBadRequest || !strings.Contains(text, want) {
			t.Errorf("%s: %d %s", body, code, text)
		}
	}
	if code, _ := request(t, url, `{}`, func(r *http.Request) { r.Header.Del("Authorization") }); code != http.StatusUnauthorized {
		t.Errorf("without a login: %d", code)
	}
	code, text := request(t, url, `{"dry_run":true,"freeze":"none","no_reverse":true}`, nil)
	var dry struct {
		Verb string `json:"verb"`
		Plan []any  `json:"plan"`
	}
	if err := json.Unmarshal([]byte(text), &dry); err != nil || code != http.StatusOK || len(dry.Plan) == 0 {
		t.Errorf("a dry run: %d %s", code, text)
	}
	code, text = request(t, url, `{"reason":"ticket 17","freeze":"none","no_reverse":true,"positions":10}`, nil)
	var begun struct{ ID string }
	if err := json.Unmarshal([]byte(text), &begun); err != nil || code != http.StatusAccepted || begun.ID == "" {
		t.Fatalf("%d %s", code, text)
	}
	if code, text := request(t, url, `{"freeze":"none","no_reverse":true}`, nil); code != http.StatusConflict || !strings.Contains(text, "alice carries out a drill of flow a-b") {
		t.Errorf("a second one: %d %s", code, text)
	}
	within(t, "the drill has ended", func() bool {
		_, stdout, stderr := milena(t, "status", "--json", "--url", s.url)
		var list []replicator.Status
		if err := json.Unmarshal([]byte(stdout), &list); err != nil || len(list) != 1 {
			t.Fatalf("%v: %s%s", err, stdout, stderr)
		}
		d := list[0].Control.Drill
		return d != nil && d.ID == begun.ID && d.Who == "alice"
	})
}
