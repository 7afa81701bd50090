package main

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/milena-kafka/milena/cmd/milena/page"
	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
)

// openPage opens the stream of a page, and returns a function that returns the next view, nil at the end of the stream.
func openPage(t *testing.T, a *admin) (next func() *page.View) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{}}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+a.address()+"/api/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close(); client.CloseIdleConnections() })
	if response.StatusCode != http.StatusOK {
		t.Fatalf("the stream of a page: %s", response.Status)
	}
	lines := bufio.NewReader(response.Body)
	return func() *page.View {
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return nil
			}
			if data, ok := strings.CutPrefix(line, "data: "); ok {
				var v page.View
				if err := json.Unmarshal([]byte(data), &v); err != nil {
					t.Errorf("%v: %s", err, data)
				}
				return &v
			}
		}
	}
}

// The page is told what the commands say, while the process starts, works and stops. Its stream ends with the process.
func TestPageFollowsTheProcess(t *testing.T) {
	a := listening(t)
	next := openPage(t, a)
	if v := next(); v == nil || len(v.Flows) != 0 || len(v.NotReady) != 1 || !strings.HasPrefix(v.NotReady[0], "starting") {
		t.Fatalf("before the flows exist: %+v", v)
	}
	a.serveStatuses(func() []replicator.Status { return []replicator.Status{sample()} })
	v := next()
	for v != nil && len(v.Flows) == 0 {
		v = next()
	}
	if v == nil {
		t.Fatal("the stream ends when the flows exist")
	}
	f := v.Flows[0]
	o := newOverview(sample())
	if f.State != page.StateHalted || f.TopicsTotal != o.TopicCount || f.Partitions.Total != o.PartitionCount || f.Partitions.Attention != o.AttentionCount || f.AllIsWell != o.AllIsWell {
		t.Errorf("the page and milena status differ: %+v\n%+v", f, o)
	}
	causes := make(map[string]bool)
	for _, row := range f.Attention {
		causes[row.Cause] = true
	}
	for _, e := range o.Attention {
		if why := strings.TrimSuffix(strings.TrimPrefix(e.Why, "truncated: "), ". Skip them."); !causes[why] {
			t.Errorf("milena status says %q, and the page does not: %v", why, causes)
		}
	}
	a.stopping()
	for v != nil && len(v.NotReady) == 0 {
		v = next()
	}
	if v == nil || v.NotReady[0] != reasonStopping || v.Flows[0].State != page.StateStopping {
		t.Errorf("while it stops: %+v", v)
	}
	a.close(t.Context())
	for v != nil { // until the stream ends
		v = next()
	}
}

// However many pages are open, and keep connections between requests as browsers do, probes and metrics are answered.
func TestPagesLeaveRoomForProbes(t *testing.T) {
	a := listening(t)
	a.serveStatuses(func() []replicator.Status { return []replicator.Status{sample()} })
	for range page.MaxStreams {
		if next := openPage(t, a); next() == nil {
			t.Fatal("a page gets no view")
		}
	}
	for range maxConnections { // each from a browser that keeps its connection for the next request
		if code := healthz(t, dial(t, a), "localhost"); code != http.StatusOK {
			t.Fatal(code)
		}
	}
	within(t, "connections beyond those that may be kept are closed", func() bool { return a.bound.open() <= page.MaxStreams+keptConnections+1 })
	if code := healthz(t, dial(t, a), "localhost"); code != http.StatusOK {
		t.Errorf("a probe beside %d pages: %d", page.MaxStreams, code)
	}
	one := dial(t, a)
	if _, err := one.Write([]byte("GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(one), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("one page more than may be open: %s", response.Status)
	}
}

// A stream has no end that a deadline brings: each write has one of its own, and reading has none.
func TestStreamsOutliveTheDeadlinesOfRequests(t *testing.T) {
	a := newAdmin(newRegistry(), config.HTTP{})
	ctx, cancel := context.WithCancel(t.Context())
	w := &deadlines{ResponseRecorder: httptest.NewRecorder(), read: time.Now()}
	began, done := time.Now(), make(chan struct{})
	go func() {
		defer close(done)
		a.server.Handler.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/api/v1/events", nil))
	}()
	within(t, "the stream begins", func() bool { return a.page.Streams() == 1 })
	cancel()
	<-done
	if !w.read.IsZero() || w.write.Before(began) || w.Header().Get("Content-Type") != "text/event-stream" {
		t.Errorf("reading ends at %v, writing at %v, %v", w.read, w.write, w.Header())
	}
}

// The files of the page hold no data, are not loaded again while they are the same, and may load nothing from elsewhere.
func TestPageFiles(t *testing.T) {
	a := newAdmin(newRegistry(), config.HTTP{})
	w := httptest.NewRecorder()
	a.server.Handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	tag := w.Header().Get("ETag")
	if policy := w.Header().Get("Content-Security-Policy"); w.Code != http.StatusOK || tag == "" || !strings.HasPrefix(policy, "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';") {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	again := httptest.NewRequest(http.MethodGet, "/", nil)
	again.Header.Set("If-None-Match", tag)
	w = httptest.NewRecorder()
	if a.server.Handler.ServeHTTP(w, again); w.Code != http.StatusNotModified || w.Body.Len() != 0 {
		t.Errorf("%d, %d bytes although the browser has it", w.Code, w.Body.Len())
	}
}
