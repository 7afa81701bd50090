package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/fleet"
)

const aliceToken = "0123456789abcdef-of-alice"

// controlled is a flow of a process that alice may control by HTTP.
func controlled(t *testing.T) (path string, s *process) {
	t.Helper()
	address := startClusters(t)
	path = file(t, fmt.Sprintf(`
clusters: {a: {brokers: [%q]}, b: {brokers: [%q]}}
flows: [{source: a, target: b, shards: 4}]
http: {listen: "127.0.0.1:0", tokens: {alice: %s}}
`, address[0], address[1], aliceToken))
	s = serve(t, path)
	t.Cleanup(func() { s.cancel(); s.exit(t) })
	within(t, "it is ready", func() bool { return get(t, s.url+"/readyz") == http.StatusOK })
	return path, s
}

// request sends a request of alice, changed, and returns the answer.
func request(t *testing.T, url, body string, change func(*http.Request)) (code int, text string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+aliceToken)
	r.Header.Set("Content-Type", "application/json")
	if change != nil {
		change(r)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(data)
}

// What is wrong with a request is refused before anything is decided.
func TestRequestsThatAreRefused(t *testing.T) {
	path, s := controlled(t)
	const good = `{"reason":"x"}`
	api := s.url + "/api/v1/flows/a-b/"
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	for name, test := range map[string]struct {
		url, body string
		change    func(*http.Request)
		code      int
		want      string
	}{
		"no token":            {api + "pause", good, func(r *http.Request) { r.Header.Del("Authorization") }, http.StatusUnauthorized, "needs a login"},
		"another token":       {api + "pause", good, header("Authorization", "Bearer x"+aliceToken), http.StatusUnauthorized, "no token"},
		"an empty token":      {api + "pause", good, header("Authorization", "Bearer "), http.StatusUnauthorized, "no token"},
		"another scheme":      {api + "pause", good, header("Authorization", "Basic "+aliceToken), http.StatusUnauthorized, "neither Bearer TOKEN"},
		"a form of a page":    {api + "pause", good, header("Content-Type", "text/plain"), http.StatusUnsupportedMediaType, "application/json"},
		"another host":        {api + "pause", good, func(r *http.Request) { r.Host = "evil.example" }, http.StatusMisdirectedRequest, "not called"},
		"another flow":        {s.url + "/api/v1/flows/x/pause", good, nil, http.StatusNotFound, `no flow \"x\"; its flows are a-b"`},
		"another verb":        {api + "explode", good, nil, http.StatusNotFound, ""},
		"a GET":               {api + "pause", "", func(r *http.Request) { r.Method = http.MethodGet }, http.StatusMethodNotAllowed, ""},
		"no reason":           {api + "pause", `{}`, nil, http.StatusBadRequest, "needs --reason"},
		"an unknown field":    {api + "pause", `{"reason":"x","topic":"orders"}`, nil, http.StatusBadRequest, "unknown field"},
		"a field of others":   {api + "pause", `{"reason":"x","rate":"5MiB"}`, nil, http.StatusBadRequest, "pause has no rate"},
		"two objects":         {api + "pause", good + good, nil, http.StatusBadRequest, "more than one"},
		"a body without end":  {api + "pause", `{"reason":"` + strings.Repeat("x", maxOrder) + `"}`, nil, http.StatusBadRequest, "too large"},
		"a wrong name":        {api + "pause", `{"reason":"x","topics":["a/b"]}`, nil, http.StatusBadRequest, "not the name of a topic"},
		"nothing to skip":     {api + "skip", `{"reason":"x","partitions":["nothing-0"]}`, nil, http.StatusConflict, "does not copy"},
		"a wrong last":        {api + "log?last=x", "", func(r *http.Request) { r.Method = http.MethodGet }, http.StatusBadRequest, "not a number"},
		"a log without token": {api + "log", "", func(r *http.Request) { r.Method = http.MethodGet; r.Header.Del("Authorization") }, http.StatusUnauthorized, "needs a login"},
	} {
		if code, text := request(t, test.url, test.body, test.change); code != test.code || !strings.Contains(text, test.want) {
			t.Errorf("%s: %d %s", name, code, text)
		}
	}
	if code, stdout, _ := milena(t, "log", "-c", path, "--kind", "decision"); code != exitClean || !strings.Contains(stdout, "nothing has happened") {
		t.Errorf("something was decided:\n%s", stdout)
	}
}

// Without tokens nobody controls a flow by HTTP, and the answer says how to change that.
func TestNoOrdersWithoutTokens(t *testing.T) {
	s := serve(t, twoClusters(t))
	within(t, "it is ready", func() bool { return get(t, s.url+"/readyz") == http.StatusOK })
	if code, text := request(t, s.url+"/api/v1/flows/a-b/pause", `{"reason":"x"}`, nil); code != http.StatusForbidden || !strings.Contains(text, "give each user a token in http.tokens") {
		t.Errorf("%d %s", code, text)
	}
	if code := get(t, s.url+"/api/v1/flows/a-b/log"); code != http.StatusOK {
		t.Errorf("the log answers %d", code)
	}
}

// A command with --url says and does what it does with -c, as the user of the token.
func TestCommandsByURL(t *testing.T) {
	path, s := controlled(t)
	ask := func(token string, args ...string) (code int, stdout, stderr string) {
		t.Helper()
		var out, errs bytes.Buffer
		env := func(name string) (string, bool) { return token, name == tokenVariable }
		code = run(t.Context(), append(args, "--url", s.url, "--flow", "a-b"), &out, &errs, env)
		return code, out.String(), errs.String()
	}
	code, stdout, stderr := ask(aliceToken, "pause", "--topic", "orders", "--reason", "ticket 17")
	if code != exitClean || !strings.Contains(stdout, "pause topic orders: ticket 17\n") || !strings.Contains(stdout, ": done: ") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	code, stdout, _ = ask(aliceToken, "resume", "--topic", "bills")
	_, same, _ := milena(t, "resume", "--topic", "bills", "-c", path)
	if code != exitClean || stdout != same || !strings.HasPrefix(stdout, "topic bills is not paused\nstill paused: topic orders, by alice since ") {
		t.Errorf("exit %d\n%s\nand with -c\n%s", code, stdout, same)
	}
	code, stdout, stderr = ask(aliceToken, "retry", "--partition", "nothing-7")
	if code != exitFailed || !strings.Contains(stdout, "refused: the flow does not copy partition nothing-7") || !strings.Contains(stderr, "retry: 1 answer of 1 not done") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	code, stdout, _ = ask(aliceToken, "resume", "--all", "--json")
	var a answer
	if err := json.Unmarshal([]byte(stdout), &a); err != nil || code != exitClean || len(a.Outcomes) != 1 || a.Decisions[0].Who != "alice" || a.Decisions[0].What != control.Resume {
		t.Errorf("exit %d, %v\n%s", code, err, stdout)
	}
	if code, _, stderr := ask(aliceToken, "pause", "--partition", "orders", "--reason", "x"); code != exitUsage || !strings.Contains(stderr, "not a partition such as orders-3") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if code, _, stderr := ask("", "pause", "--reason", "x"); code != exitFailed || !strings.Contains(stderr, "set MILENA_TOKEN") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	code, stdout, _ = ask(aliceToken, "log", "--kind", "decision", "--json")
	var list []fleet.HistoryEntry
	if err := json.Unmarshal([]byte(stdout), &list); err != nil || code != exitClean || len(list) != 3 || list[0].Decision.Who != "alice" {
		t.Errorf("exit %d, %v\n%s", code, err, stdout)
	}
	if code, _, stderr := milena(t, "log", "--flow", "a-b", "--url", "http://127.0.0.1:1"); code != exitFailed || !strings.HasPrefix(stderr, "milena: log: flow a-b: http://127.0.0.1:1 does not answer: ") || !strings.Contains(stderr, "; check that milena is running and that --url is the address of its http.listen") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	for line, want := range map[string]string{"pause --reason x --url nowhere --flow a-b": "is not a URL", "pause --reason x --url http://x": "needs --flow"} {
		if code, _, stderr := milena(t, strings.Fields(line)...); code != exitUsage || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit %d: %s", line, code, stderr)
		}
	}
}
