package main

import (
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/milena-kafka/milena/cmd/milena/guard"
	"github.com/milena-kafka/milena/config"
)

const bobPassword = "correct horse"

// bobHash is the hash of bob's password, of a cost that makes tests fast.
func bobHash(t *testing.T) config.Secret {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(bobPassword), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return config.Secret(hash)
}

// boundAt is a server that listens at an address, without a network.
func boundAt(t *testing.T, c config.HTTP, ip string) *admin {
	t.Helper()
	c.Listen = net.JoinHostPort(ip, "9644")
	a := newAdmin(newRegistry(), c)
	if err := a.access.Bind(&net.TCPAddr{IP: net.ParseIP(ip), Port: 9644}); err != nil {
		t.Fatal(err)
	}
	return a
}

// clients are the addresses that requests come from: each has its own, so that none has too many wrong passwords.
type clients int

// send sends a request from the next address.
func (c *clients) send(a *admin, r *http.Request) *httptest.ResponseRecorder {
	*c++
	r.RemoteAddr = net.JoinHostPort("10.0."+strconv.Itoa(int(*c)/256)+"."+strconv.Itoa(int(*c)%256), "40000")
	w := httptest.NewRecorder()
	a.server.Handler.ServeHTTP(w, r)
	return w
}

// cookieOf logs alice in.
func (c *clients) cookieOf(t *testing.T, a *admin) *http.Cookie {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost:9644"+guard.SessionPath, strings.NewReader(`{"token":"`+aliceToken+`"}`))
	r.Header.Set("Content-Type", "application/json")
	w := c.send(a, r)
	cookies := w.Result().Cookies()
	if w.Code != http.StatusOK || len(cookies) != 1 {
		t.Fatalf("the login answers %d %s", w.Code, w.Body)
	}
	return cookies[0]
}

// credentials are what a request may carry. Those that are good log in.
func credentials(cookie *http.Cookie) (good, bad map[string]func(*http.Request)) {
	header := func(value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", value) }
	}
	forged := *cookie
	forged.Value = strings.Replace(cookie.Value, ".", "x.", 1)
	other := *cookie
	other.Value += "x"
	good = map[string]func(*http.Request){
		"token":    header("Bearer " + aliceToken),
		"password": func(r *http.Request) { r.SetBasicAuth("bob", bobPassword) },
		"cookie":   func(r *http.Request) { r.AddCookie(cookie); r.Header.Set("Sec-Fetch-Site", "same-origin") },
	}
	bad = map[string]func(*http.Request){
		"nothing":                 func(*http.Request) {},
		"another token":           header("Bearer x" + aliceToken),
		"an empty token":          header("Bearer "),
		"a token as password":     func(r *http.Request) { r.SetBasicAuth("alice", aliceToken) },
		"a wrong password":        func(r *http.Request) { r.SetBasicAuth("bob", "wrong horse") },
		"a hash as password":      func(r *http.Request) { r.SetBasicAuth("bob", "$2a$10$") },
		"another user":            func(r *http.Request) { r.SetBasicAuth("eve", bobPassword) },
		"a password that goes on": func(r *http.Request) { r.SetBasicAuth("bob", bobPassword+strings.Repeat("x", 100)) },
		"another scheme":          header("Digest username=bob"),
		"a forged cookie":         func(r *http.Request) { r.AddCookie(&forged); r.Header.Set("Sec-Fetch-Site", "same-origin") },
		"a cookie that goes on":   func(r *http.Request) { r.AddCookie(&other); r.Header.Set("Sec-Fetch-Site", "same-origin") },
		"no cookie at all":        func(r *http.Request) { r.AddCookie(&http.Cookie{Name: cookie.Name, Value: "."}) },
		"a wrong header and a cookie": func(r *http.Request) {
			r.AddCookie(cookie)
			r.Header.Set("Sec-Fetch-Site", "same-origin")
			r.Header.Set("Authorization", "Bearer wrong")
		},
	}
	return good, bad
}

// Every path answers whoever may use it, and nobody else.
func TestEveryPathWithEveryCredential(t *testing.T) {
	parts := map[string][]string{ // each path by its part; those that change something have their method
		"public":    {"/", "/healthz", "/assets/app.js", guard.SessionPath},
		"probes":    {"/readyz"},
		"metrics":   {"/metrics"},
		"status":    {"/status", "/overview", "/nowhere", "/api/v1/history?flow=a-b", "/api/v1/flows/a-b/partitions", "/assets", "/healthz/", "/metrics/x"},
		"log":       {"/api/v1/flows/a-b/log"},
		"profiles":  {"/debug/pprof/", "/debug/pprof/cmdline", "/debug/vars"},
		"decisions": {"DELETE /api/v1/flows/a-b/pause", "PUT /status", "POST /", "POST /metrics", "POST /healthz", "POST /debug/pprof/symbol", "POST /api/v1/flows/a-b/drill", "PATCH /assets/app.js"},
	}
	for _, path := range apiPaths() {
		parts["decisions"] = append(parts["decisions"], "POST /api/v1/flows/a-b/"+path)
	}
	logins := config.HTTP{PProf: true, Tokens: map[string]config.Secret{"alice": aliceToken}, Users: map[string]config.Secret{"bob": bobHash(t)}}
	with := func(c config.HTTP, open ...string) config.HTTP { c.Open = open; return c }
	for name, server := range map[string]struct {
		config config.HTTP
		ip     string
		open   []string
	}{
		"on loopback":               {logins, "127.0.0.1", []string{"public", "probes", "metrics", "status", "profiles"}},
		"on loopback, only probes":  {with(logins, "probes"), "::1", []string{"public", "probes"}},
		"without logins":            {config.HTTP{PProf: true}, "127.0.0.1", []string{"public", "probes", "metrics", "status", "log", "profiles"}},
		"on the network":            {logins, "192.0.2.1", []string{"public"}},
		"with metrics and probes":   {with(logins, "metrics", "probes"), "0.0.0.0", []string{"public", "probes", "metrics"}},
		"with all open":             {with(logins, "metrics", "probes", "status"), "::", []string{"public", "probes", "metrics", "status"}},
		"open without logins":       {with(config.HTTP{PProf: true}, "metrics", "probes"), "192.0.2.1", []string{"public", "probes", "metrics"}},
		"status without any logins": {with(config.HTTP{PProf: true}, "status"), "192.0.2.1", []string{"public", "status", "log"}},
	} {
		t.Run(name, func(t *testing.T) {
			a := boundAt(t, server.config, server.ip)
			var from clients
			cookie, closed := &http.Cookie{Name: "milena_9644", Value: "a.b.c.d"}, http.StatusForbidden
			if server.config.HasLogin() {
				cookie, closed = from.cookieOf(t, a), http.StatusUnauthorized
			}
			good, bad := credentials(cookie)
			if !server.config.HasLogin() {
				maps.Copy(bad, good)
				good = nil
			}
			for part, list := range parts {
				for _, path := range list {
					method, target, ok := strings.Cut(path, " ")
					if !ok {
						method, target = http.MethodGet, path
					}
					send := func(change func(*http.Request)) int {
						r := httptest.NewRequestWithContext(t.Context(), method, "http://localhost:9644"+target, nil)
						change(r)
						return from.send(a, r).Code
					}
					isOpen := slices.Contains(server.open, part)
					for credential, change := range bad {
						if code := send(change); isOpen && (code == http.StatusUnauthorized || code == http.StatusForbidden) || !isOpen && code != closed {
							t.Errorf("%s with %s: %d", path, credential, code)
						}
					}
					for credential, change := range good {
						if code := send(change); code == http.StatusUnauthorized || code == http.StatusForbidden {
							t.Errorf("%s with %s: %d", path, credential, code)
						}
					}
				}
			}
		})
	}
}

// A browser is told with every answer that no other site may use it.
func TestEveryAnswerHasTheHeaders(t *testing.T) {
	a := boundAt(t, config.HTTP{Tokens: map[string]config.Secret{"alice": aliceToken}}, "192.0.2.1")
	for path, want := range map[string]int{"/": http.StatusOK, "/healthz": http.StatusOK, "/status": http.StatusUnauthorized, "/assets/nothing": http.StatusNotFound} {
		w := httptest.NewRecorder()
		a.server.Handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://milena:9644"+path, nil))
		h := w.Header()
		policy := h.Get("Content-Security-Policy")
		if w.Code != want || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "no-referrer" || h.Get("Strict-Transport-Security") != "" ||
			!strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") {
			t.Errorf("%s: %d %v", path, w.Code, h)
		}
	}
}

// Who listens on the network may say by which names: a page whose name resolves to the server gets nothing then.
func TestNamesOfAServerOnTheNetwork(t *testing.T) {
	open := config.HTTP{Open: []string{config.OpenStatus}}
	named := open
	named.Hosts = []string{"milena.example"}
	for host, want := range map[string][2]int{ // without http.hosts, and with them
		"milena.example:9644": {http.StatusOK, http.StatusOK},
		"MILENA.EXAMPLE.":     {http.StatusOK, http.StatusOK},
		"192.0.2.1:9644":      {http.StatusOK, http.StatusOK},
		"[2001:db8::1]:9644":  {http.StatusOK, http.StatusOK},
		"localhost:9644":      {http.StatusOK, http.StatusOK},
		"evil.example:9644":   {http.StatusOK, http.StatusMisdirectedRequest},
		"x.milena.example":    {http.StatusOK, http.StatusMisdirectedRequest},
	} {
		for i, c := range []config.HTTP{open, named} {
			a := boundAt(t, c, "192.0.2.1")
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost/status", nil)
			r.Host = host
			w := httptest.NewRecorder()
			if a.server.Handler.ServeHTTP(w, r); w.Code != want[i] {
				t.Errorf("Host %s, http.hosts %q: %d, want %d", host, c.Hosts, w.Code, want[i])
			}
		}
	}
}

// A server that the network reaches is not started unless its config says who may use it.
func TestServerOnTheNetworkNeedsALogin(t *testing.T) {
	address := startClusters(t)
	path := func(http string) string {
		return file(t, "clusters: {a: {brokers: ["+address[0]+"]}, b: {brokers: ["+address[1]+"]}}\nflows: [{source: a, target: b, shards: 1}]\n"+http)
	}
	const why = `http.listen: ":0" is reached from other machines, and the config does not say who may use it: add users with http.tokens or http.users; or set http.open: [metrics, probes]`
	for name, args := range map[string][]string{
		"run":       {"run", "-c", path(`http: {listen: ":0"}`)},
		"by a flag": {"run", "--listen", ":0", "-c", path("")},
		"check":     {"check", "-c", path(`http: {listen: ":0"}`)},
	} {
		if code, _, stderr := milena(t, args...); code != exitUsage || !strings.Contains(stderr, why) {
			t.Errorf("%s: exit %d: %s", name, code, stderr)
		}
	}
	for _, http := range []string{`http: {listen: ":0", open: [metrics, probes]}`, `http: {listen: ":0", tokens: {alice: ` + aliceToken + `}}`, `http: {listen: "localhost:0"}`} {
		if code, _, stderr := milena(t, "check", "-c", path(http)); code != exitClean {
			t.Errorf("%s: exit %d: %s", http, code, stderr)
		}
		s := serve(t, path(http))
		s.cancel()
		s.exit(t)
	}
}
