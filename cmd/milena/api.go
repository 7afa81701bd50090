package main

import (
	"context"
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

	"github.com/milena-kafka/milena/cmd/milena/guard"
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
	mux.HandleFunc("POST /api/v1/flows/{flow}/drill", a.serveDrill)
	mux.HandleFunc("GET /api/v1/flows/{flow}/log", a.serveHistory)
	a.access.AddSession(mux)
}

func refuse(w http.ResponseWriter, code int, format string, args ...any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(apiError{fmt.Sprintf(format, args...)}) // an error means that the client has disconnected
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

// readBody reads the JSON object of a request, or answers why it does not. The type of the content keeps forms of web pages out, which need no permission to
// send others.
func readBody(w http.ResponseWriter, r *http.Request, into any) bool {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		refuse(w, http.StatusUnsupportedMediaType, "the request needs Content-Type: application/json")
		return false
	}
	body := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxOrder))
	body.DisallowUnknownFields()
	if err := body.Decode(into); err != nil {
		refuse(w, http.StatusBadRequest, "the body is not the JSON object of a request: %v", err)
		return false
	}
	if _, err := body.Token(); !errors.Is(err, io.EOF) {
		refuse(w, http.StatusBadRequest, "the body has more than one JSON object")
		return false
	}
	return true
}

// serveOrder carries out an order.
func (a *admin) serveOrder(w http.ResponseWriter, r *http.Request, verb control.Verb) {
	var o order
	if !readBody(w, r, &o) {
		return
	}
	c, done, ok := a.begin(w, r)
	if !ok {
		return
	}
	defer done()
	ctx, cancel := context.WithTimeout(r.Context(), apiTimeout)
	defer cancel()
	made, err := o.plan(ctx, verb, guard.User(ctx), c)
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

// serveHistory answers what milena log --json prints.
func (a *admin) serveHistory(w http.ResponseWriter, r *http.Request) {
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
