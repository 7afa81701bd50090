package page_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/milena-kafka/milena/cmd/milena/page"
	"github.com/milena-kafka/milena/replicator"
)

// server is the page's own server in front of a story. Sessions, orders and the log, which other packages serve, are played here.
type server struct {
	t       *testing.T
	address string
	began   time.Time

	mu     sync.Mutex
	story  story
	user   string // who is signed in
	locked bool   // reading needs a login
	orders []string
	http   *http.Server
	done   context.CancelFunc
}

// serve starts a server, which ends with the test.
func serve(t *testing.T, s story) *server {
	t.Helper()
	srv := &server{t: t, address: "127.0.0.1:0", story: s, began: time.Now().Add(-time.Hour)}
	srv.start()
	t.Cleanup(srv.stop)
	return srv
}

func (s *server) url() string { return "http://" + s.address + "/" }

// start listens, the second time on the same address.
func (s *server) start() {
	s.t.Helper()
	l, err := net.Listen("tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.address = l.Addr().String()
	p := page.New(page.Options{
		Version: "v0.9.0", Instance: func() string { return "milena-0" }, Statuses: s.statuses,
		NotReady: func([]replicator.Status) []string { return nil }, Stopping: func() bool { return false },
	})
	ctx, cancel := context.WithCancel(context.Background())
	go p.Run(ctx)
	mux := http.NewServeMux()
	p.AddTo(mux)
	mux.HandleFunc("/api/v1/session", s.serveSession)
	mux.HandleFunc("POST /api/v1/flows/{flow}/{verb}", s.serveOrder)
	mux.HandleFunc("GET /api/v1/flows/{flow}/log", serveLog)
	s.http, s.done = &http.Server{Handler: s.guard(mux)}, cancel
	go func(h *http.Server) { _ = h.Serve(l) }(s.http)
}

// stop breaks all connections, as the end of a process does.
func (s *server) stop() {
	s.done()
	_ = s.http.Close()
}

func (s *server) tell(other story) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.story = other
}

func (s *server) signIn(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.user = user
}

func (s *server) lock() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.locked = true
}

func (s *server) given() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.orders...)
}

func (s *server) statuses() []replicator.Status {
	s.mu.Lock()
	story := s.story
	s.mu.Unlock()
	now := time.Now()
	return []replicator.Status{story.at(now, now.Sub(s.began).Seconds())}
}

// guard keeps whoever is not signed in from reading, and plays an hour of history: the process is younger than that.
func (s *server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		refused, name := s.locked && s.user == "", s.story.name
		s.mu.Unlock()
		switch path := r.URL.Path; {
		case refused && strings.HasPrefix(path, "/api/") && path != "/api/v1/session":
			say(w, http.StatusUnauthorized, map[string]string{"error": "sign in first"})
		case path == "/api/v1/history":
			say(w, http.StatusOK, hour(name))
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func (s *server) serveSession(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch r.Method {
	case http.MethodPost:
		var login struct{ User, Password, Token string }
		_ = json.NewDecoder(r.Body).Decode(&login)
		if login.User != "alice" || login.Password != "correct horse" {
			say(w, http.StatusUnauthorized, map[string]string{"error": "the user or the password is wrong"})
			return
		}
		s.user = login.User
	case http.MethodDelete:
		s.user = ""
	}
	say(w, http.StatusOK, map[string]any{"user": s.user, "login_required_to_read": s.locked, "orders": true, "https": false})
}

func (s *server) serveOrder(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	if s.user == "" {
		say(w, http.StatusUnauthorized, map[string]string{"error": "sign in first"})
		return
	}
	verb := r.PathValue("verb")
	s.orders = append(s.orders, fmt.Sprintf("%s: %s/%s %s", s.user, r.PathValue("flow"), verb, body))
	say(w, http.StatusOK, map[string]any{"decisions": []any{}, "missing": []string{}, "outcomes": []map[string]string{
		{"instance": "milena-0", "result": "done", "detail": map[string]string{"pause": "paused"}[verb]},
	}})
}

func serveLog(w http.ResponseWriter, _ *http.Request) {
	at := func(ago time.Duration) string { return time.Now().Add(-ago).UTC().Format(time.RFC3339) }
	say(w, http.StatusOK, []map[string]any{
		{"when": at(26 * time.Hour), "kind": "recovery", "recovery": map[string]any{"what": "drill", "who": "bea", "state": "done", "step": "report", "drilled": map[string]any{"passed": true}}},
		{"when": at(3 * time.Hour), "kind": "start", "event": map[string]any{"what": "start", "instance": "milena-0", "count": 1, "detail": "v0.9.0"}},
		{
			"when": at(2 * time.Hour), "kind": "decision",
			"decision": map[string]any{"what": "pause", "who": "alice", "why": "maintenance of dr", "scope": map[string]any{"kind": "topic", "topic": "orders"}},
			"outcomes": []map[string]any{{"instance": "milena-0", "result": "done", "detail": "4 partitions are paused"}},
		},
		{"when": at(14 * time.Minute), "kind": "anomaly", "anomaly": map[string]any{"topic": "orders", "partition": 0, "kind": "truncated", "action": "halt", "from": 812_400, "to": 819_900, "detail": "the source deleted records", "halted": true}},
	})
}

func say(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v)
}

// hour is the history of a story: the source did not answer for three minutes of it, and in a dark story it does not any more.
func hour(name string) map[string]any {
	const step, length = 5, 720
	end := time.Now().Unix() / step * step
	h := map[string][]any{}
	for i := range length {
		x := float64(i)
		noise := math.Sin(x/9)*math.Sin(x/2.3) + math.Sin(x*1.7)/3
		dark := i > 340 && i < 376 || name == "source-dark" && i > 683 || name == "failed-over" && i > 600
		add := func(column string, v float64) {
			if dark {
				h[column] = append(h[column], nil)
			} else {
				h[column] = append(h[column], v)
			}
		}
		h["t"] = append(h["t"], end-int64(length-1-i)*step)
		add("bytes", 2.06e6+1.6e5*noise)
		add("records", 19_900+1_500*noise)
		behind := 0.0
		if name == "halted" && i > 552 {
			behind = float64(i-552) * 300
		}
		add("lag_records", 260+90*noise+behind)
		add("lag_seconds", 0.3+0.1*noise+behind/60)
		add("latency_p50", 0.011+0.002*noise)
		add("latency_p99", 0.14+0.03*noise)
		add("rpo_seconds", 1.2+0.3*noise+behind/60)
	}
	all := map[string]any{"step": step}
	for column, values := range h {
		all[column] = values
	}
	return all
}

// withGroup is a healthy flow with one more consumer group.
func withGroup(name string) story {
	s := storyOf("healthy")
	s.change = func(status *replicator.Status, _ time.Time) { status.Groups.LagRecords[name] = 7 }
	return s
}
