package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/milena-kafka/milena/config"
)

const healthHelp = `milena health asks a running milena whether it lives, and exits with 0 if it does, else with 1. With --ready it
asks whether every flow is ready, and prints why not. With -c FILE it asks the milena of that file on this host.

Examples:
  milena health -c milena.yaml
  milena health --url https://milena-1:9644 --ca-file ca.pem --ready
`

// health is for the health check of a container, whose image has no other program that could ask.
func (p *program) health(ctx context.Context, args []string) error {
	f := p.flags("health", healthHelp)
	path := configFlag(f)
	var r remote
	f.StringVar(&r.url, "url", "http://127.0.0.1:9644", "`URL` of the running milena: its http.listen")
	r.addAccess(f)
	ready := f.Bool("ready", false, "ask whether every flow is ready; a restart does not mend that")
	timeout := f.Duration("timeout", 5*time.Second, "time limit, as a `DURATION` such as 10s")
	if err := parse(f, args); err != nil {
		return err
	}
	if f.Changed("config") && f.Changed("url") {
		return wrong(f, "--url and -c cannot be combined")
	}
	var own config.HTTP
	if f.Changed("config") {
		file, err := p.readConfig(*path)
		if err != nil {
			return err
		}
		if own = file.Config.HTTP; own.Listen == "" {
			return errors.New("health: http.listen is empty, so HTTP is off and nothing can be asked")
		}
		r.url = ownURL(own)
	}
	if err := r.open(f, p.env); err != nil {
		return err
	}
	if err := r.ofThisHost(own, *ready); err != nil {
		return fmt.Errorf("health: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	return p.askHealth(ctx, &r, *ready)
}

// askHealth asks once.
func (p *program) askHealth(ctx context.Context, r *remote, ready bool) error { //nolint:revive // the flag of the command line
	path := "/healthz"
	if ready {
		path = "/readyz"
	}
	answered, err := r.send(ctx, http.MethodGet, path, nil)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("health: %s has not answered in time", r.url)
	case err != nil:
		return fmt.Errorf("health: %w", err)
	case answered.code == http.StatusOK:
		p.printf("%s", answered.body)
		return nil
	case answered.code == http.StatusServiceUnavailable:
		return fmt.Errorf("health: not ready: %s", strings.TrimSpace(string(answered.body)))
	}
	return fmt.Errorf("health: %w", r.failure(answered))
}

// ownURL is where a milena of this host listens.
func ownURL(h config.HTTP) string {
	host, port, _ := net.SplitHostPort(h.Listen) // config has checked it
	switch ip, err := netip.ParseAddr(host); {
	case host == "" || err == nil && ip.Is4() && ip.IsUnspecified():
		host = "127.0.0.1"
	case err == nil && ip.IsUnspecified():
		host = "::1"
	}
	scheme := "http"
	if h.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// ofThisHost lets a milena of this host be asked, whose certificate need not have the names of loopback. Whether it lives is no secret and needs no login, and must not
// depend on certificates. To ask whether it is ready, there is the token that its config has, unless the environment has a login.
func (r *remote) ofThisHost(h config.HTTP, ready bool) error { //nolint:revive // the flag of the command line
	secure := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true}
	if !ready {
		r.token, r.user = "", ""
	} else if users := slices.Sorted(maps.Keys(h.Tokens)); r.token == "" && r.user == "" && len(users) > 0 {
		r.token = h.Tokens[users[0]].Reveal()
	}
	if h.TLS == nil {
		return nil
	}
	if ready {
		text, err := os.ReadFile(h.TLS.CertFile)
		if err != nil {
			return fmt.Errorf("http.tls: %w", err)
		}
		leaf, _ := pem.Decode(text)
		secure.VerifyConnection = func(c tls.ConnectionState) error { // also of a connection that is resumed
			if leaf == nil || !bytes.Equal(c.PeerCertificates[0].Raw, leaf.Bytes) {
				return fmt.Errorf("the certificate is not the first one of http.tls.cert_file %s: another process listens there", h.TLS.CertFile)
			}
			return nil
		}
	}
	r.client = newClient(secure)
	return nil
}
