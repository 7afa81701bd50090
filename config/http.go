package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/crypto/bcrypt"
)

// The parts of the HTTP server that anyone may read, if HTTP.Open names them.
const (
	// OpenProbes is /readyz. /healthz says nothing but that the process lives, and is open in any case.
	OpenProbes = "probes"
	// OpenMetrics is /metrics.
	OpenMetrics = "metrics"
	// OpenStatus is everything else that can be read: the status, and what the page shows.
	OpenStatus = "status"
)

// HTTP is the address of the HTTP server, and who may use it. An empty Listen turns HTTP off.
type HTTP struct {
	Listen string `koanf:"listen"`
	// Hosts are more names by which clients may call the server. A server on a loopback address answers only requests for a loopback name or
	// address and for these, so that no web page can read it through a name of its own that resolves to loopback (DNS rebinding). On another
	// address it answers every name if there are none, else these and addresses.
	Hosts []string `koanf:"hosts"`
	// PProf serves /debug/pprof/.
	PProf bool `koanf:"pprof"`
	// Open are the parts that anyone may read: probes, metrics and status. Empty opens all of them on a loopback address, and none on another one.
	Open []string `koanf:"open"`
	// Tokens are the secrets of users, by the name of the user.
	Tokens map[string]Secret `koanf:"tokens"`
	// Users are the bcrypt hashes of passwords, by the name of the user.
	Users map[string]Secret `koanf:"users"`
	// TLS is nil for plain HTTP.
	TLS *HTTPTLS `koanf:"tls"`
}

// HTTPTLS is the certificate of the HTTP server. The files are PEM, and are read again when they change.
type HTTPTLS struct {
	// CertFile is the certificate of the server and the intermediate certificates.
	CertFile string `koanf:"cert_file"`
	// KeyFile is its key.
	KeyFile string `koanf:"key_file"`
	// ClientCAFile are the authorities whose certificates log in: the common name is the user. If empty, no certificate does.
	ClientCAFile string `koanf:"client_ca_file"`
}

// HasLogin reports whether somebody can log in.
func (h *HTTP) HasLogin() bool {
	return len(h.Tokens) > 0 || len(h.Users) > 0 || h.TLS != nil && h.TLS.ClientCAFile != ""
}

const (
	// MinToken is the shortest token of a user, in bytes: what a person types is guessed.
	minToken = 16
	// A hash of less than minCost is broken soon once somebody has it. With more than maxCost, a login would take seconds.
	minCost, maxCost = 10, 15
)

func (h *HTTP) validate(found *problemList) {
	if h.Listen != "" {
		if why := checkAddress(h.Listen, 0); why != "" {
			found.add("http.listen", "%q %s; use host:port such as 127.0.0.1:9644, or \"\" to turn HTTP off", h.Listen, why)
		}
	}
	for i, part := range h.Open {
		found.oneOf(fmt.Sprintf("http.open[%d]", i), part, OpenProbes, OpenMetrics, OpenStatus)
	}
	h.validateTokens(found)
	h.validateUsers(found)
	if h.TLS != nil && (h.TLS.CertFile == "" || h.TLS.KeyFile == "") {
		found.add("http.tls", "needs both cert_file and key_file; set them to the server's certificate and its key, or remove the section")
	}
}

func (h *HTTP) validateTokens(found *problemList) {
	users := make(map[Secret]string)
	for _, user := range slices.Sorted(maps.Keys(h.Tokens)) {
		path, token := "http.tokens."+user, h.Tokens[user]
		checkUser(path, user, found)
		if len(token) < minToken {
			found.add(path, "the token has %d bytes; use at least %d random ones, such as the output of openssl rand -hex 32", len(token), minToken)
		}
		if other, ok := users[token]; ok {
			found.add(path, "%s has the same token; give each user another one", other)
		}
		users[token] = user
	}
}

func (h *HTTP) validateUsers(found *problemList) {
	for _, user := range slices.Sorted(maps.Keys(h.Users)) {
		path := "http.users." + user
		checkUser(path, user, found)
		if strings.Contains(user, ":") {
			found.add(path, "the name of the user has a colon, which HTTP puts between the name and the password")
		}
		const example = "such as the output of htpasswd -nBC 12 " // and the user
		switch cost, err := bcrypt.Cost([]byte(h.Users[user].Reveal())); {
		case err != nil:
			found.add(path, "this is no bcrypt hash of a password; use one %s%s", example, user)
		case cost < minCost || cost > maxCost:
			found.add(path, "the bcrypt hash has cost %d; use one of %d to %d, %s%s", cost, minCost, maxCost, example, user)
		}
	}
}

func checkUser(path, user string, found *problemList) {
	if user == "" || len(user) > maxTopicName || strings.ContainsFunc(user, func(r rune) bool { return !unicode.IsGraphic(r) }) {
		found.add(path, "the name of the user is empty, too long or cannot be printed")
	}
}
