package main

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/fleet"
)

const (
	// ApiTimeout bounds carrying out a request, and apiMargin is what its answer may take longer.
	apiTimeout, apiMargin = 50 * time.Second, 5 * time.Second
	// MaxOrder bounds the body of a request, in bytes.
	maxOrder = 256 << 10
	// MaxCalls is how many requests are carried out at a time: each has connections of its own.
	maxCalls = 4
)

// apiError is the body of an answer that is a failure.
type apiError struct {
	Error string `json:"error"`
}

// addAPI adds the paths that control flows. They do what the commands do.
func (a *admin) addAPI(mux *http.ServeMux) {
	for verb, path := range apiPaths() {
		mux.HandleFunc("POST /api/v1/flows/{flow}/"+path, func(w http.ResponseWriter, r *http.Request) { a.serveOrder(w, r, verb) })
	}
	mux.HandleFunc("GET /api/v1/flows/{flow}/log", a.serveHistory)
}

func refuse(w http.ResponseWriter, code int, format string, args ...any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(apiError{fmt.Sprintf(format, args...)}) // an error means that the client has disconnected
}

// authenticate returns the name of whoever sends a request, by its token. It answers a request without a valid one.
func (a *admin) authenticate(w http.ResponseWriter, r *http.Request) (name string, ok bool) {
	if len(a.config.Tokens) == 0 {
		refuse(w, http.StatusForbidden, "this milena takes no orders by HTTP: give each user a token in http.tokens of its config, such as http: {tokens: {alice: \"${ALICE_TOKEN}\"}}, and restart it; the commands with -c FILE need no token")
		return "", false
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	sent := sha256.Sum256([]byte(strings.TrimSpace(token)))
	for user, secret := range a.config.Tokens { // all of them, so that the time says nothing
		if known := sha256.Sum256([]byte(secret.Reveal())); subtle.ConstantTimeCompare(sent[:], known[:]) == 1 && secret != "" {
			name = user
		}
	}
	if name == "" || !strings.EqualFold(scheme, "Bearer") {
		w.Header().Set("WWW-Authenticate", "Bearer")
		refuse(w, http.StatusUnauthorized, "the request has no token of http.tokens; send it as the header Authorization: Bearer TOKEN")
		return "", false
	}
	return name, true
}

// begin finds the flow of a request, and lets it be carried out unless too many are. The caller calls the function that it returns when it is done.
func (a *admin) begin(w http.ResponseWriter, r *http.Request) (c client.Clusters, done func(), ok bool) {
	name := r.PathValue("flow")
	flows := a.flows.Load()
	if flows == nil || flows.clusters == nil {
		w.Header().Set("Retry-After", "5")
		refuse(w, http.StatusServiceUnavailable, "this milena is starting, and its flows are not known yet; try again")
		return c, nil, false
	}
	if c, ok = flows.clusters(name); !ok {
		refuse(w, http.StatusNotFound, "this milena has no flow %q; its flows are %s", name, strings.Join(flows.names, ", "))
		return c, nil, false
	}
	select {
	case a.calls <- struct{}{}:
		connection := http.NewResponseController(w)                            // not every writer has deadlines
		_ = connection.SetReadDeadline(time.Now().Add(apiTimeout + apiMargin)) // a read that times out in the background would end the request
		_ = connection.SetWriteDeadline(time.Now().Add(apiTimeout + apiMargin))
		return c, func() { <-a.calls }, true
	default:
		w.Header().Set("Retry-After", "5")
		refuse(w, http.StatusServiceUnavailable, "%d requests are being carried out; try again", maxCalls)
		return c, nil, false
	}
}

// serveOrder carries out an order. The type of its content keeps forms of web pages out, which need no permission to send others.
func (a *admin) serveOrder(w http.ResponseWriter, r *http.Request, verb control.Verb) {
	who, ok := a.authenticate(w, r)
	if !ok {
		return
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		refuse(w, http.StatusUnsupportedMediaType, "the request needs Content-Type: application/json")
		return
	}
	var o order
	body := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxOrder))
	body.DisallowUnknownFields()
	if err := body.Decode(&o); err != nil {
		refuse(w, http.StatusBadRequest, "the body is not the JSON object of a request: %v", err)
		return
	}
	if _, err := body.Token(); !errors.Is(err, io.EOF) {
		refuse(w, http.StatusBadRequest, "the body has more than one JSON object")
		return
	}
	c, done, ok := a.begin(w, r)
	if !ok {
		return
	}
	defer done()
	ctx, cancel := context.WithTimeout(r.Context(), apiTimeout)
	defer cancel()
	made, err := o.plan(ctx, verb, who, c)
	if err != nil {
		refuse(w, codeOf(err), "%v", err)
		return
	}
	said, err := made.carryOut(ctx, c, o.DryRun)
	if err != nil {
		refuse(w, codeOf(err), "%v", err)
		return
	}
	writeJSON(w, said)
}

// codeOf is the status code of a failure.
func codeOf(err error) int {
	o, ok := errors.AsType[*orderError](err)
	switch {
	case ok && o.wrong:
		return http.StatusBadRequest
	case ok:
		return http.StatusConflict
	}
	return http.StatusBadGateway
}

// serveHistory answers what milena log --json prints. If there are tokens, it needs one: it costs more than the status.
func (a *admin) serveHistory(w http.ResponseWriter, r *http.Request) {
	if len(a.config.Tokens) > 0 {
		if _, ok := a.authenticate(w, r); !ok {
			return
		}
	}
	filter, err := readFilter(r)
	if err != nil {
		refuse(w, http.StatusBadRequest, "%v", err)
		return
	}
	c, done, ok := a.begin(w, r)
	if !ok {
		return
	}
	defer done()
	ctx, cancel := context.WithTimeout(r.Context(), apiTimeout)
	defer cancel()
	h, err := fleet.ReadHistory(ctx, c, filter)
	switch {
	case err != nil:
		refuse(w, http.StatusBadGateway, "%v", err)
	case len(h.Problems) > 0:
		refuse(w, http.StatusBadGateway, "it is not all: %s", strings.Join(h.Problems, "; "))
	case h.Entries == nil:
		writeJSON(w, []fleet.HistoryEntry{})
	default:
		writeJSON(w, h.Entries)
	}
}

// readFilter reads the query of a request for the history: since, topic, kind and last, as the flags of milena log.
func readFilter(r *http.Request) (f fleet.HistoryFilter, err error) {
	q := r.URL.Query()
	for name := range q {
		if !slices.Contains([]string{"since", "topic", "kind", "last"}, name) {
			return f, fmt.Errorf("there is no parameter %q; there are since, topic, kind and last", name)
		}
	}
	f.Topic, f.Last = q.Get("topic"), defaultLast
	if f.Since, err = parseSince(q.Get("since"), time.Now()); err != nil {
		return f, fmt.Errorf("since %w", err)
	}
	for _, list := range q["kind"] {
		f.Kinds = append(f.Kinds, strings.Split(list, ",")...)
	}
	if err := checkKinds(f.Kinds); err != nil {
		return f, fmt.Errorf("kind %w", err)
	}
	if text := q.Get("last"); text != "" {
		if f.Last, err = strconv.Atoi(text); err != nil || f.Last < 0 {
			return f, fmt.Errorf("last %q is not a number", text)
		}
	}
	return f, nil
}
