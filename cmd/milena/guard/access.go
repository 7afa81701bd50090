package guard

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/milena-kafka/milena/config"
)

// part is a part of the server for which there is one rule of who may use it.
type part int

const (
	public   part = iota // holds no data, or logs in
	probes               // http.open may open these
	metrics              //
	status               //
	log                  // status that costs connections to clusters
	profiles             // http.open never opens these
	orders               // whatever may change something
)

// SessionPath is where a page logs in.
const SessionPath = "/api/v1/session"

// partOf is the part that a request is for.
func partOf(r *http.Request) part {
	path := r.URL.Path
	switch {
	case path == SessionPath:
		return public
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		return orders
	case path == "/" || path == "/healthz" || strings.HasPrefix(path, "/assets/"):
		return public
	case path == "/readyz":
		return probes
	case path == "/metrics":
		return metrics
	case strings.HasPrefix(path, "/debug/"):
		return profiles
	case strings.HasPrefix(path, "/api/v1/flows/") && strings.HasSuffix(path, "/log"):
		return log
	default:
		return status
	}
}

// isOfPage reports whether the page asks for a path.
func isOfPage(path string) bool { return strings.HasPrefix(path, "/api/") }

// isOpen reports whether anyone may use a part.
func (g *Guard) isOpen(p part) bool {
	name := ""
	switch p {
	case public:
		return true
	case orders:
		return false
	case profiles:
		return g.local && len(g.config.Open) == 0
	case probes:
		name = config.OpenProbes
	case metrics:
		name = config.OpenMetrics
	case log:
		if g.config.HasLogin() { // strangers would hold up users: few requests are carried out at a time
			return false
		}
		name = config.OpenStatus
	case status:
		name = config.OpenStatus
	}
	if len(g.config.Open) == 0 {
		return g.local
	}
	return slices.Contains(g.config.Open, name)
}

// admit returns who sends a request, empty if anyone may, or why it is not answered.
func (g *Guard) admit(r *http.Request) (user string, why *refusal) {
	p := partOf(r)
	if g.isOpen(p) {
		return "", nil
	}
	if !g.config.HasLogin() {
		return "", noLogin(p)
	}
	user, by, why := g.identify(r)
	switch {
	case why != nil:
		return "", why
	case user == "":
		return "", refused(http.StatusUnauthorized, "this needs a login, and the request has none: send a token of http.tokens as the header Authorization: Bearer TOKEN, or a user of http.users with the password")
	case p == orders:
		return user, checkOrigin(r, by)
	}
	return user, nil
}

// noLogin is the refusal of a server on which nobody can log in.
func noLogin(p part) *refusal {
	if p == orders {
		return refused(http.StatusForbidden, "this milena takes no orders by HTTP: give each user a token in http.tokens of its config, such as http: {tokens: {alice: \"${ALICE_TOKEN}\"}}, or a password in http.users, and restart it; the commands with -c FILE need no token")
	}
	return refused(http.StatusForbidden, "nobody can log in to this milena, and http.open of its config does not let anyone read this: give each user a token in http.tokens or a password in http.users, or add status to http.open, and restart it; the commands with -c FILE ask the clusters instead")
}

// checkOrigin returns why an order may come from a page of another site, nil if it does not. Browsers say where a request comes from, and other
// programs do not. Those have no cookie and no certificate of a browser.
func checkOrigin(r *http.Request, by login) *refusal {
	other := refused(http.StatusForbidden, "the request comes from a page of another site; a proxy in front of milena must pass on the header Host")
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" {
		if site != "same-origin" {
			return other
		}
		return nil
	}
	switch origin := r.Header.Get("Origin"); {
	case origin != "":
		if u, err := url.Parse(origin); err != nil || !strings.EqualFold(u.Host, r.Host) {
			return other
		}
	case by == byCookie || by == byCertificate:
		return refused(http.StatusForbidden, "a request with a cookie or a certificate needs the header Sec-Fetch-Site or Origin, as browsers send it; programs send a token as the header Authorization: Bearer TOKEN")
	}
	return nil
}
