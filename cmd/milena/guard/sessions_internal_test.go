package guard

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/milena-kafka/milena/config"
)

const token = "0123456789abcdef-of-alice"

// guarded is a server on the network on which alice has a token. It answers who sends a request.
func guarded(t *testing.T) (g *Guard, handler http.Handler) {
	t.Helper()
	g = New(config.HTTP{Listen: "192.0.2.1:9644", Tokens: map[string]config.Secret{"alice": token}})
	g.bound, g.cookie = true, cookiePrefix+"9644"
	mux := http.NewServeMux()
	g.AddSession(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(User(r.Context()))) })
	return g, g.Handler(mux)
}

func ask(t *testing.T, h http.Handler, method, path, body string, change func(*http.Request)) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "http://milena.example:9644"+path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// logIn logs alice in as a page does.
func logIn(t *testing.T, h http.Handler, change func(*http.Request)) *http.Cookie {
	t.Helper()
	w := ask(t, h, http.MethodPost, SessionPath, `{"token":"`+token+`"}`, change)
	cookies := w.Result().Cookies()
	if w.Code != http.StatusOK || len(cookies) != 1 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return cookies[0]
}

func with(cookie *http.Cookie, headers ...string) func(*http.Request) {
	return func(r *http.Request) {
		r.AddCookie(cookie)
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
	}
}

// A page logs in, reads, gives orders and logs out. Then its cookie is worth nothing, also for who has a copy.
func TestSessionOfAPage(t *testing.T) {
	_, h := guarded(t)
	if w := ask(t, h, http.MethodGet, "/status", "", nil); w.Code != http.StatusUnauthorized {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if w := ask(t, h, http.MethodGet, SessionPath, "", nil); w.Body.String() != `{"user":"","login_required_to_read":true,"orders":true,"https":false}`+"\n" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	cookie := logIn(t, h, nil)
	if !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode || cookie.Secure || cookie.Path != "/" || cookie.MaxAge != int(sessionFor.Seconds()) || cookie.Name != "milena_9644" || strings.Contains(cookie.Value, token) {
		t.Errorf("the cookie is %+v", cookie)
	}
	if w := ask(t, h, http.MethodGet, "/status", "", with(cookie)); w.Code != http.StatusOK || w.Body.String() != "alice" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := ask(t, h, http.MethodPost, "/api/v1/flows/a-b/pause", "{}", with(cookie, "Sec-Fetch-Site", "same-origin")); w.Code != http.StatusOK || w.Body.String() != "alice" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	var s session
	if w := ask(t, h, http.MethodGet, SessionPath, "", with(cookie)); json.Unmarshal(w.Body.Bytes(), &s) != nil || s.User != "alice" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	out := ask(t, h, http.MethodDelete, SessionPath, "", with(cookie))
	if cookies := out.Result().Cookies(); out.Code != http.StatusOK || len(cookies) != 1 || cookies[0].MaxAge >= 0 {
		t.Errorf("%d %v", out.Code, cookies)
	}
	if w := ask(t, h, http.MethodGet, "/status", "", with(cookie)); w.Code != http.StatusUnauthorized || !strings.Contains(w.Body.String(), "the session has ended") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := ask(t, h, http.MethodGet, "/status", "", with(logIn(t, h, nil))); w.Code != http.StatusOK {
		t.Errorf("alice cannot log in again: %d %s", w.Code, w.Body)
	}
}

// By https the cookie stays with https, also behind a proxy that says so.
func TestCookieIsSecureUnderTLS(t *testing.T) {
	_, h := guarded(t)
	if cookie := logIn(t, h, func(r *http.Request) { r.Header.Set("X-Forwarded-Proto", "https") }); !cookie.Secure {
		t.Errorf("the cookie is %+v", cookie)
	}
}

// A session ends by itself, and with the process that began it.
func TestSessionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, h := guarded(t)
		cookie := logIn(t, h, nil)
		time.Sleep(sessionFor - time.Second)
		if w := ask(t, h, http.MethodGet, "/status", "", with(cookie)); w.Code != http.StatusOK {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		g.sessions.end(cookie.Value)
		time.Sleep(time.Second)
		other := logIn(t, h, nil)
		g.sessions.end(other.Value)
		if n := len(g.sessions.ended); n != 1 {
			t.Errorf("%d ended sessions are remembered, and one could still be used", n)
		}
		if w := ask(t, h, http.MethodGet, "/status", "", with(cookie)); w.Code != http.StatusUnauthorized {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		_, restarted := guarded(t)
		if w := ask(t, restarted, http.MethodGet, "/status", "", with(logIn(t, h, nil))); w.Code != http.StatusUnauthorized {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}

// No page of another site gives orders with the cookie, the certificate or the password that a browser sends by itself.
func TestOrdersOfOtherSites(t *testing.T) {
	_, h := guarded(t)
	cookie := logIn(t, h, nil)
	bearer := func(headers ...string) func(*http.Request) {
		return with(&http.Cookie{Name: "x"}, append(headers, "Authorization", "Bearer "+token)...)
	}
	const own, subdomain = "http://milena.example:9644", "http://evil.milena.example:9644"
	for name, test := range map[string]struct {
		change func(*http.Request)
		code   int
	}{
		"its own":                         {with(cookie, "Sec-Fetch-Site", "same-origin", "Origin", own), http.StatusOK},
		"its own, by plain HTTP":          {with(cookie, "Origin", own), http.StatusOK},
		"another site":                    {with(cookie, "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"), http.StatusForbidden},
		"another site, by plain HTTP":     {with(cookie, "Origin", "http://evil.example"), http.StatusForbidden},
		"a site that says nothing":        {with(cookie, "Origin", "null"), http.StatusForbidden},
		"another port of the host":        {with(cookie, "Origin", "http://milena.example:8080"), http.StatusForbidden},
		"a subdomain":                     {with(cookie, "Sec-Fetch-Site", "same-site", "Origin", subdomain), http.StatusForbidden},
		"typed into the browser":          {with(cookie, "Sec-Fetch-Site", "none"), http.StatusForbidden},
		"nobody says":                     {with(cookie), http.StatusForbidden},
		"a program":                       {bearer(), http.StatusOK},
		"another site with a login by it": {bearer("Origin", "https://evil.example"), http.StatusForbidden},
	} {
		if w := ask(t, h, http.MethodPost, "/api/v1/flows/a-b/pause", "{}", test.change); w.Code != test.code {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	for _, method := range []string{http.MethodPost, http.MethodDelete} {
		if w := ask(t, h, method, SessionPath, `{"token":"`+token+`"}`, with(cookie, "Sec-Fetch-Site", "cross-site")); w.Code != http.StatusForbidden {
			t.Errorf("another site can %s the session: %d", method, w.Code)
		}
	}
	if w := ask(t, h, http.MethodPost, SessionPath, "token="+token, func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }); w.Code != http.StatusUnsupportedMediaType {
		t.Errorf("a form logs in: %d", w.Code)
	}
}

// What is no login is refused, and the answer does not repeat it.
func TestLoginsThatAreRefused(t *testing.T) {
	_, h := guarded(t)
	for body, code := range map[string]int{
		`{"token":"secret-x"}`:                   http.StatusUnauthorized,
		`{"user":"alice","password":"secret-x"}`: http.StatusUnauthorized,
		`{}`:                                     http.StatusUnauthorized,
		`{"token":`:                              http.StatusBadRequest,
		`{"secret-x":1}`:                         http.StatusBadRequest,
		`["secret-x"]`:                           http.StatusBadRequest,
		`{"token":"` + strings.Repeat("x", 5000): http.StatusBadRequest,
	} {
		w := ask(t, h, http.MethodPost, SessionPath, body, nil)
		if w.Code != code || len(w.Result().Cookies()) != 0 || strings.Contains(w.Body.String(), "secret-x") {
			t.Errorf("%.40s: %d %s", body, w.Code, w.Body)
		}
	}
}
