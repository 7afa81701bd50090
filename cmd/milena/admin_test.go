package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
)

// ask requests one path without a network.
func ask(a *admin, path string) (code int, body string) {
	w := httptest.NewRecorder()
	a.server.Handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

func TestAdminPages(t *testing.T) {
	a := newAdmin(newRegistry(), config.HTTP{})
	if code, body := ask(a, "/readyz"); code != http.StatusServiceUnavailable || !strings.HasPrefix(body, "starting") {
		t.Errorf("before the flows exist: %d %s", code, body)
	}
	if code, body := ask(a, "/status"); code != http.StatusOK || strings.TrimSpace(body) != "[]" {
		t.Errorf("before the flows exist: %d %s", code, body)
	}
	s := sample()
	a.serveStatuses(func() []replicator.Status { return []replicator.Status{s} })
	for path, want := range map[string]string{
		"/": "<title>milena</title>", "/healthz": "alive", "/readyz": "ready", "/metrics": "go_goroutines", "/status": `"lag_records":7`,
		"/api/v1/flows/a-b/partitions": `"total":5`, "/api/v1/flows/a-b/topics": `"total":2`, "/api/v1/flows/a-b/groups": `"total":0`,
	} {
		if code, body := ask(a, path); code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	for _, path := range []string{"/debug/pprof/", "/nowhere", "/overview", "/assets/nothing.js", "/api/v1/flows/other/topics", "/api/v1/history?flow=other"} {
		if code, _ := ask(a, path); code != http.StatusNotFound {
			t.Errorf("%s: %d", path, code)
		}
	}
	if code, _ := ask(newAdmin(newRegistry(), config.HTTP{PProf: true}), "/debug/pprof/"); code != http.StatusOK {
		t.Errorf("pprof is turned on: %d", code)
	}
	s.Ready, s.NotReady = false, []string{"shard 3 is being recovered"}
	a.stopping()
	if code, body := ask(a, "/readyz"); code != http.StatusServiceUnavailable || body != "stopping\na-b: shard 3 is being recovered\n" {
		t.Errorf("stopping: %d %q", code, body)
	}
	if code, _ := ask(a, "/healthz"); code != http.StatusOK {
		t.Errorf("alive while stopping: %d", code)
	}
}
