package guard

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/milena-kafka/milena/config"
)

// Guard keeps strangers out of a server. Create it with New, and tell it with Bind where the server listens before it serves.
type Guard struct {
	// Log gets what an operator should know. New sets one that discards.
	Log *slog.Logger

	config    config.HTTP
	bound     bool
	local     bool   // only this machine reaches the server
	cookie    string // the name of the cookie
	passwords *passwords
	sessions  *sessions
}

// New creates the guard of a server. It does no I/O.
func New(c config.HTTP) *Guard {
	return &Guard{
		Log: slog.New(slog.DiscardHandler), config: c, local: c.Listen == "", cookie: cookiePrefix,
		passwords: newPasswords(c.Users), sessions: newSessions(),
	}
}

// Bind tells where the server listens. It is an error if others reach it there, and the config says nothing of who may.
func (g *Guard) Bind(addr net.Addr) error {
	tcp, ok := addr.(*net.TCPAddr)
	g.bound, g.local = true, ok && tcp.IP.IsLoopback()
	if ok {
		g.cookie = cookiePrefix + strconv.Itoa(tcp.Port) // cookies of a host are those of all its ports
	}
	if g.local {
		return nil
	}
	return Exposed(g.config)
}

// ExposedError means that others than this machine reach a server, and that its config does not say who may use it.
type ExposedError struct{ Listen string }

func (e *ExposedError) Error() string {
	return fmt.Sprintf("%q is reached from other machines, and the config does not say who may use it: add users with http.tokens or http.users; "+
		"or set http.open: [metrics, probes] for what anyone may read, with status for what the page shows; or listen on 127.0.0.1", e.Listen)
}

// Exposed is an [ExposedError] for a server that others than this machine reach, nil if its config says who may use it.
func Exposed(c config.HTTP) error {
	if c.HasLogin() || len(c.Open) > 0 {
		return nil
	}
	return &ExposedError{c.Listen}
}

type userKey struct{}

// User is who sent the request of a context, empty if anyone may have.
func User(ctx context.Context) string {
	name, _ := ctx.Value(userKey{}).(string)
	return name
}

// Handler passes on the requests that may be answered, with their user in the context.
func (g *Guard) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setHeaders(w.Header())
		if !g.isCalled(r.Host) {
			http.Error(w, fmt.Sprintf("this server is not called %q; use localhost, or add the name to http.hosts", r.Host), http.StatusMisdirectedRequest)
			return
		}
		user, why := g.admit(r)
		if why != nil {
			g.refuse(w, r, why)
			return
		}
		if user != "" {
			r = r.WithContext(context.WithValue(r.Context(), userKey{}, user))
		}
		next.ServeHTTP(w, r)
	})
}

// setHeaders sets what a browser must know about every answer.
//
// Strict-Transport-Security is not among them: it would hold for all ports of the host, and so break plain HTTP of whatever else runs there.
func setHeaders(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'") // the page has its own
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}

// refusal is why a request is not answered.
type refusal struct {
	code  int
	text  string
	retry time.Duration // when to try again; 0: when something has changed
}

func refused(code int, format string, args ...any) *refusal {
	return &refusal{code: code, text: fmt.Sprintf(format, args...)}
}

// refuse answers a request that may not be answered otherwise.
func (g *Guard) refuse(w http.ResponseWriter, r *http.Request, why *refusal) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	if why.retry > 0 {
		h.Set("Retry-After", strconv.Itoa(int(why.retry.Seconds()+1)))
	}
	if why.code == http.StatusUnauthorized {
		h.Add("WWW-Authenticate", `Bearer realm="milena"`)
		if len(g.config.Users) > 0 && !isOfPage(r.URL.Path) { // a browser asks by itself for a password, and the page has its own form
			h.Add("WWW-Authenticate", `Basic realm="milena", charset="UTF-8"`)
		}
	}
	w.WriteHeader(why.code)
	_ = json.NewEncoder(w).Encode(struct { // an error means that the client has disconnected
		Error string `json:"error"`
	}{why.text})
}
