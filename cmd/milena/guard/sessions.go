package guard

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	cookiePrefix = "milena_"
	// SessionFor is how long a page is logged in: a day's work.
	sessionFor = 12 * time.Hour
	// MaxLogin bounds the body of a login, in bytes.
	maxLogin = 4 << 10
)

// sessions makes and reads cookies. Each is signed with a key of this process, so a restart ends all, and nothing is kept but which were ended.
type sessions struct {
	key [32]byte

	mu    sync.Mutex
	ended map[string]time.Time // by id: when the cookie would have ended by itself
}

func newSessions() *sessions {
	s := &sessions{ended: make(map[string]time.Time)}
	_, _ = rand.Read(s.key[:]) // never fails
	return s
}

// begin returns the cookie of a new session. Its fields are the user, when it ends, an id, and the signature of these.
func (s *sessions) begin(user string, end time.Time) string {
	text := base64.RawURLEncoding.EncodeToString([]byte(user)) + "." + strconv.FormatInt(end.Unix(), 10) + "." + rand.Text()
	return text + "." + s.sign(text)
}

func (s *sessions) sign(text string) string {
	mac := hmac.New(sha256.New, s.key[:])
	_, _ = mac.Write([]byte(text))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// read returns what a cookie says if this process has signed it.
func (s *sessions) read(cookie string) (user, id string, end time.Time, ok bool) {
	i := strings.LastIndexByte(cookie, '.')
	if i < 0 || !hmac.Equal([]byte(cookie[i+1:]), []byte(s.sign(cookie[:i]))) {
		return "", "", end, false
	}
	fields := strings.Split(cookie[:i], ".") // of our own making
	name, _ := base64.RawURLEncoding.DecodeString(fields[0])
	seconds, _ := strconv.ParseInt(fields[1], 10, 64)
	return string(name), fields[2], time.Unix(seconds, 0), true
}

// user returns whose session a cookie is.
func (s *sessions) user(cookie string) (name string, ok bool) {
	name, id, end, ok := s.read(cookie)
	if !ok || !time.Now().Before(end) {
		return "", false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ended := s.ended[id]
	return name, !ended
}

// end ends the session of a cookie, for whoever else has it too.
func (s *sessions) end(cookie string) {
	_, id, end, ok := s.read(cookie)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for other, until := range s.ended {
		if !now.Before(until) {
			delete(s.ended, other)
		}
	}
	if now.Before(end) {
		s.ended[id] = end
	}
}

// session is what a page is told about its login.
type session struct {
	User          string `json:"user"` // empty: nobody is logged in
	LoginRequired bool   `json:"login_required_to_read"`
	Orders        bool   `json:"orders"` // somebody who logs in may give them
	HTTPS         bool   `json:"https"`
}

// AddSession adds the paths by which a page logs in and out.
func (g *Guard) AddSession(mux *http.ServeMux) {
	mux.HandleFunc("GET "+SessionPath, func(w http.ResponseWriter, r *http.Request) {
		user, _, _ := g.identify(r)
		g.answerSession(w, r, user)
	})
	mux.HandleFunc("POST "+SessionPath, g.logIn)
	mux.HandleFunc("DELETE "+SessionPath, g.logOut)
}

func (g *Guard) answerSession(w http.ResponseWriter, r *http.Request, user string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(session{user, !g.isOpen(status), g.config.HasLogin(), isSecure(r)}) // an error means that the client has disconnected
}

// isSecure reports whether a browser has sent a request by https. What a proxy says of it can only make a cookie stricter.
func isSecure(r *http.Request) bool {
	return r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}

// logIn begins a session for a user with a password, or for a token.
func (g *Guard) logIn(w http.ResponseWriter, r *http.Request) {
	user, why := g.readLogin(w, r)
	if why != nil {
		g.refuse(w, r, why)
		return
	}
	end := time.Now().Add(sessionFor)
	g.setCookie(w, r, g.sessions.begin(user, end), int(sessionFor.Seconds()))
	g.answerSession(w, r, user)
}

func (g *Guard) readLogin(w http.ResponseWriter, r *http.Request) (user string, why *refusal) {
	if why := checkOrigin(r, byNothing); why != nil {
		return "", why
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return "", refused(http.StatusUnsupportedMediaType, "the request needs Content-Type: application/json")
	}
	var sent struct{ User, Password, Token string }
	body := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxLogin))
	body.DisallowUnknownFields()
	if err := body.Decode(&sent); err != nil {
		return "", refused(http.StatusBadRequest, "the body is not a JSON object with user and password, or token") // the error could quote what was sent
	}
	if !g.config.HasLogin() {
		return "", noLogin(status)
	}
	if sent.Token != "" {
		return g.ofToken(sent.Token)
	}
	return sent.User, g.passwords.check(r.Context(), r.RemoteAddr, sent.User, sent.Password, g.Log)
}

// logOut ends the session of a page.
func (g *Guard) logOut(w http.ResponseWriter, r *http.Request) {
	if why := checkOrigin(r, byNothing); why != nil {
		g.refuse(w, r, why)
		return
	}
	if cookie, err := r.Cookie(g.cookie); err == nil {
		g.sessions.end(cookie.Value)
	}
	g.setCookie(w, r, "", -1)
	g.answerSession(w, r, "")
}

func (g *Guard) setCookie(w http.ResponseWriter, r *http.Request, value string, seconds int) {
	http.SetCookie(w, &http.Cookie{
		Name: g.cookie, Value: value, Path: "/", MaxAge: seconds, HttpOnly: true, Secure: isSecure(r), SameSite: http.SameSiteStrictMode,
	})
}
