package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/topics"
)

func noEnv(string) (string, bool) { return "", false }

// milena runs the program and gives the exit code and what it wrote.
func milena(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs, noEnv)
	return code, out.String(), errs.String()
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "milena.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExitCodes(t *testing.T) {
	unreachable := file(t, `
clusters: {a: {brokers: ["127.0.0.1:1"]}, b: {brokers: ["127.0.0.1:2"]}}
flows: [{source: a, target: b}]
http: {listen: ""}
`)
	mirrored := file(t, "clusters = a, b\na.bootstrap.servers = 127.0.0.1:1\nb.bootstrap.servers = 127.0.0.1:2\na->b.enabled = true\n")
	for _, c := range []struct {
		args           string
		code           int
		stdout, stderr string
	}{
		{"", exitUsage, "", "milena run -c FILE"},
		{"help", exitClean, "milena run -c FILE", ""},
		{"--help", exitClean, "milena run -c FILE", ""},
		{"fly", exitUsage, "", `there is no verb "fly"`},
		{"version", exitClean, "milena ", ""},
		{"version now", exitUsage, "", `was given "now"`},
		{"run", exitUsage, "", "name the config with -c FILE"},
		{"run --help", exitClean, "--config file", ""},
		{"run -c nowhere.yaml", exitUsage, "", "open nowhere.yaml: no such file or directory; name the config"},
		{"run --colour", exitUsage, "", "run: unknown flag: --colour; see milena run --help"},
		{"run --help", exitClean, "--compare how", ""},
		{"run --compare=some -c x", exitUsage, "", "--compare=some is neither new nor all"},
		{"run --compare= -c x", exitUsage, "", "--compare= is neither new nor all"},
		{"run --for 3s -c x", exitUsage, "", "--for and --json are for --compare"},
		{"run --json -c x", exitUsage, "", "--for and --json are for --compare"},
		{"run --compare --for -3s -c x", exitUsage, "", "--for can't be negative"},
		{"run --compare --rebuild-map -c x", exitUsage, "", "--rebuild-map is for copying"},
		{"run --compare", exitUsage, "", "name the config with -c FILE"},
		{"run --compare --for 1s -c " + unreachable, exitFailed, "", "compare: cluster a"},
		{"convert", exitUsage, "", "name the config with -c FILE"},
		{"convert one two", exitUsage, "", `was given "one"`},
		{"convert nowhere.properties", exitUsage, "", "no such file"},
		{"convert --help", exitClean, "--config file", ""},
		{"check", exitUsage, "", "name the config with -c FILE"},
		{"check -c x --timeout soon", exitUsage, "", "invalid argument"},
		{"check -c x --timeout 0s", exitUsage, "", "--timeout"},
		{"check --timeout 300ms -c " + unreachable, exitFailed, "cannot be planned", "1 of 1 flow cannot work"},
		{"status --url http://127.0.0.1:1", exitFailed, "", "is milena running"},
		{"handback -c " + unreachable, exitFailed, "", "name the topic of MirrorMaker 2's positions as take_over"},
		{"handback --timeout 2s -c " + mirrored, exitFailed, "", "cluster b (127.0.0.1:2): nothing listens there; check brokers"},
		{"demo --for -1s", exitUsage, "", "--for can't be negative"},
		{"demo --rate 0", exitUsage, "", "--rate"},
		{"demo --listen nonsense", exitUsage, "", "is not host:port"},
	} {
		t.Run(c.args, func(t *testing.T) {
			code, stdout, stderr := milena(t, strings.Fields(c.args)...)
			if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.Contains(stderr, c.stderr) {
				t.Errorf("exit %d, want %d\nstdout: %s\nstderr: %s", code, c.code, stdout, stderr)
			}
			if c.stdout != "" && strings.Count(stdout, c.stdout) > 1 {
				t.Errorf("said more than once:\n%s", stdout)
			}
		})
	}
}

// A log line has no number without its unit, whoever collects it.
func TestDurationsAreLoggedWithTheirUnit(t *testing.T) {
	for format, want := range map[string]string{"json": `"took":"2ms"`, "text": "took=2ms"} {
		var out bytes.Buffer
		p := &program{stderr: &out}
		p.logger(config.Log{Level: "info", Format: format}).Info("stopped", "took", 2*time.Millisecond)
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s: %s", format, &out)
		}
	}
}

func TestBadConfigIsPrintedWithAllProblems(t *testing.T) {
	path := file(t, "clusters:\n  a: {brokers: [a]}\nflows:\n  - {source: a, target: b, topcis: []}\n")
	for _, verb := range []string{"run", "check"} {
		code, _, stderr := milena(t, verb, "-c", path)
		want := path + `:2: clusters.a.brokers[0]: "a" is not an address: missing port in address; use host:port such as kafka-1:9092
` + path + `:4: flows[0].target: no cluster has the alias "b"; use a
` + path + `:4: flows[0].topcis: unknown key; did you mean "topics"?
`
		if code != exitUsage || stderr != want {
			t.Errorf("%s: exit %d, stderr:\n%s", verb, code, stderr)
		}
	}
}

// Each broken file of MirrorMaker 2 ends every verb that reads it with 2, and with all that is wrong: key, value and line.
func TestBadMirrorMakerFilesExitWithTwo(t *testing.T) {
	t.Chdir("../../config") // the files name others
	paths, err := filepath.Glob("testdata/mm2/*.bad.properties")
	if err != nil || len(paths) < 20 {
		t.Fatalf("%d files, %v", len(paths), err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var want strings.Builder
		for line := range strings.Lines(string(data)) {
			if text, ok := strings.CutPrefix(line, "# want "); ok {
				want.WriteString(path + ":" + text)
			}
		}
		for _, verb := range []string{"run", "check", "convert"} {
			began := time.Now()
			code, stdout, stderr := milena(t, verb, "-c", path)
			if code != exitUsage || stdout != "" || stderr != want.String() {
				t.Errorf("%s %s: exit %d, stdout %q, stderr:\n%s", verb, path, code, stdout, stderr)
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("%s %s took %v", verb, path, took)
			}
		}
	}
}

// The plan of a MirrorMaker 2 file and that of what convert makes of it are the same, and its notes are told.
func TestMirrorMakerFileAndItsConversionGiveTheSamePlan(t *testing.T) {
	var address []string
	for _, id := range []string{"one", "two"} {
		c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.ClusterID(id), kfake.SeedTopics(2, "seed-"+id))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		address = append(address, c.ListenAddrs()[0])
	}
	properties := file(t, fmt.Sprintf("clusters = a, b\na.bootstrap.servers = %s\nb.bootstrap.servers = %s\na->b.enabled = true\n"+
		"topics = seed.*\nreplication.factor = 1\ntasks.max = 4\n", address[0], address[1]))
	code, converted, stderr := milena(t, "convert", properties)
	if code != exitClean || !strings.Contains(converted, "MirrorMaker 2's default; milena's default is read_committed") {
		t.Fatalf("convert: exit %d, %s\n%s", code, stderr, converted)
	}
	yaml := file(t, converted)
	_, notes, _ := milena(t, "check", "-c", properties)
	if !strings.Contains(notes, "note: tasks.max (line 7): milena has no connectors") {
		t.Errorf("check prints no notes:\n%s", notes)
	}
	var plans []string
	for _, path := range []string{properties, yaml} {
		code, plan, stderr := milena(t, "check", "--json", "-c", path)
		if code != exitClean || !strings.Contains(plan, "a.seed-one") {
			t.Fatalf("check: exit %d, %s\n%s", code, stderr, plan)
		}
		plans = append(plans, plan)
	}
	if plans[0] != plans[1] {
		t.Errorf("two plans:\n%s\n%s", plans[0], plans[1])
	}
	code, same, stderr := milena(t, "convert", "-c", yaml)
	if code != exitClean || same != converted || !strings.Contains(stderr, "is a milena.yaml already") {
		t.Errorf("convert of YAML: exit %d, %s\n%s", code, stderr, same)
	}
}

func TestBusyPortIsSaidAndFails(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	path := file(t, fmt.Sprintf(`
clusters: {a: {brokers: ["127.0.0.1:1"]}, b: {brokers: ["127.0.0.1:2"]}}
flows: [{source: a, target: b}]
http: {listen: %q}
`, l.Addr()))
	code, _, stderr := milena(t, "run", "-c", path)
	if code != exitFailed || !strings.Contains(stderr, "the address is in use") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

// lockedBuffer may be read while the program writes.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// twoClusters gives a config of a flow between two clusters in this process.
func twoClusters(t *testing.T) string {
	t.Helper()
	var address []string
	for _, id := range []string{"one", "two"} {
		c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.ClusterID(id), kfake.SeedTopics(2, "seed-"+id))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		address = append(address, c.ListenAddrs()[0])
	}
	return file(t, fmt.Sprintf(`
clusters: {a: {brokers: [%q]}, b: {brokers: [%q]}}
flows: [{source: a, target: b, shards: 4}]
http: {listen: "127.0.0.1:0"}
`, address[0], address[1]))
}

func TestRunServesUntilItIsStopped(t *testing.T) {
	path := twoClusters(t)
	ctx, cancel := context.WithCancel(t.Context())
	var stderr lockedBuffer
	done := make(chan int, 1)
	go func() { done <- run(ctx, []string{"run", "-c", path}, io.Discard, &stderr, noEnv) }()
	url := ""
	within(t, "it tells where it listens", func() bool {
		var line struct{ Msg, Address string }
		for text := range strings.Lines(stderr.String()) {
			if json.Unmarshal([]byte(text), &line) == nil && line.Msg == "listening" {
				url = "http://" + line.Address
				return true
			}
		}
		return false
	})
	within(t, "it is ready", func() bool { return get(t, url+"/readyz") == http.StatusOK })
	within(t, "it found the topic", func() bool {
		_, stdout, _ := milena(t, "status", "--url", url)
		return strings.Contains(stdout, "flow a-b: a -> b, ready") && strings.Contains(stdout, "2 partitions in 1 topic")
	})
	cancel()
	select {
	case code := <-done:
		if code != exitClean {
			t.Errorf("exit %d: %s", code, stderr.String())
		}
	case <-time.After(10 * time.Second):
		t.Fatal("does not stop")
	}
}

func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestCheckPrintsThePlan(t *testing.T) {
	path := twoClusters(t)
	code, stdout, stderr := milena(t, "check", "-c", path)
	if code != exitClean && !strings.Contains(stdout, "refused:") {
		t.Errorf("exit %d, stderr %s", code, stderr)
	}
	for _, want := range []string{"source cluster one, target cluster two", "seed-one", "a.seed-one", "create", "1 topic to copy"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
	_, stdout, _ = milena(t, "check", "--json", "-c", path)
	var got []checked
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || len(got) != 1 || len(got[0].Plan.Topics) != 1 {
		t.Errorf("%v in %s", err, stdout)
	}
}

func TestRefusedPlansFail(t *testing.T) {
	good, bad := checked{Plan: &replicator.Plan{}}, checked{Plan: &replicator.Plan{Refused: []string{"no"}}}
	if err := verdict([]checked{good}); err != nil {
		t.Error(err)
	}
	if err := verdict([]checked{good, bad, {Error: "unreachable"}}); err == nil || !strings.Contains(err.Error(), "2 of 3 flows") {
		t.Error(err)
	}
}

// fails returns an error at once, or waits for its context.
type fails struct {
	err   error
	cause chan error
}

func (f fails) Run(ctx context.Context) error {
	if f.err != nil {
		return f.err
	}
	<-ctx.Done()
	f.cause <- context.Cause(ctx)
	return nil
}

func TestOneFatalFlowStopsTheOthersCleanly(t *testing.T) {
	fenced := &replicator.FencedError{Flow: "a-b"}
	healthy := fails{cause: make(chan error, 1)}
	stopping := make(chan struct{})
	err := runAll(t.Context(), []fails{{err: fenced}, healthy}, func() { close(stopping) })
	if !errors.Is(err, fenced) {
		t.Errorf("error is %v", err)
	}
	if cause := <-healthy.cause; !errors.Is(cause, context.Canceled) {
		t.Errorf("the healthy flow is stopped with %v", cause)
	}
	<-stopping
}

func TestDemoVerifiesWhatItCopied(t *testing.T) {
	code, stdout, stderr := milena(t, "demo", "--for", "1500ms", "--rate", "5000", "--listen", "127.0.0.1:0")
	if code != exitClean || !strings.Contains(stdout, "in 18 partitions: same bytes, same order, nothing missing, nothing twice") {
		t.Errorf("exit %d\n%s\n%s", code, stdout, stderr)
	}
}

func TestDemoTakesAnotherPortIfItsOwnIsBusy(t *testing.T) {
	var out bytes.Buffer
	p := &program{stdout: &out, stderr: io.Discard, env: noEnv}
	first, err := p.listenSomewhere(t.Context(), newRegistry(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer first.close(t.Context())
	second, err := p.listenSomewhere(t.Context(), newRegistry(), first.address())
	if err != nil {
		t.Fatal(err)
	}
	defer second.close(t.Context())
	if second.address() == first.address() || !strings.Contains(out.String(), first.address()+" is in use") {
		t.Errorf("%s and %s: %s", first.address(), second.address(), out.String())
	}
}

// get gives the status code of an answer.
func get(t *testing.T, url string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// ask gives the answer of one page without a network.
func ask(a *admin, path string) (code int, body string) {
	w := httptest.NewRecorder()
	a.server.Handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

func ptr[T any](v T) *T { return &v }

// sample is a flow with a partition of every sort.
func sample() replicator.Status {
	return replicator.Status{
		Flow: "a-b", Source: "a", Target: "b", Ready: true, Shards: map[string]int{"owned": 4}, Records: 12, Bytes: 3456, LagRecords: 7,
		Throttled: []client.ThrottleStatus{{Side: "target", Cluster: "b", Broker: 1, LastMinute: 41, Text: "throttled by target broker 1: 41.0 s in the last minute"}},
		Partitions: []replicator.PartitionStatus{
			{Topic: "orders", TargetTopic: "a.orders", State: "replicating", Acked: 5, LagRecords: ptr(int64(3)), LagSeconds: ptr(0.5)},
			{Topic: "orders", TargetTopic: "a.orders", Partition: 1, State: "replicating", LagRecords: ptr(int64(4)), LagSeconds: ptr(90.0)},
			{
				Topic: "orders", TargetTopic: "a.orders", Partition: 2, State: "halted",
				Anomaly: &replicator.AnomalyState{Kind: "truncated", Detail: "lost 3 records", Hint: "skip them"},
			},
			{Topic: "clicks", TargetTopic: "a.clicks", State: "recovering"},
			{Topic: "clicks", TargetTopic: "a.clicks", Partition: 1, State: "waiting"},
		},
	}
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
		"/overview": `"attention_count":4`,
	} {
		if code, body := ask(a, path); code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	for _, path := range []string{"/debug/pprof/", "/nowhere"} {
		if code, _ := ask(a, path); code != http.StatusNotFound {
			t.Errorf("%s: %d", path, code)
		}
	}
	if code, _ := ask(newAdmin(newRegistry(), config.HTTP{PProf: true}), "/debug/pprof/"); code != http.StatusOK {
		t.Errorf("pprof that is asked for: %d", code)
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

func TestStatusTableShowsWhatNeedsAttention(t *testing.T) {
	a := newAdmin(newRegistry(), config.HTTP{})
	flow := sample()
	a.serveStatuses(func() []replicator.Status { return []replicator.Status{flow} })
	server := httptest.NewServer(a.server.Handler)
	defer server.Close()
	code, stdout, stderr := milena(t, "status", "--url", server.URL)
	want := `flow a-b: a -> b, ready
  5 partitions in 2 topics, lag 7 records; copied since the start: 12 records, 3.5 kB
  throttled by target broker 1: 41.0 s in the last minute

  TOPIC   PARTITION  STATE        WHY
  orders  2          halted       truncated: lost 3 records; skip them
  orders  1          replicating  is 1m30s behind
  clicks  0          recovering   is recovering
  clicks  1          waiting      waits until its shard is taken over

`
	if code != exitClean || stdout != want {
		t.Errorf("exit %d %s\n%s", code, stderr, stdout)
	}
	flow.Groups = &replicator.GroupsStatus{}
	if _, stdout, _ := milena(t, "status", "--url", server.URL); !strings.Contains(stdout, "\n  no look at consumer groups so far\n") {
		t.Errorf("before the first look at groups:\n%s", stdout)
	}
	flow.Groups = &replicator.GroupsStatus{Groups: 1, Positions: 2, LastPass: time.Unix(1, 0)}
	if _, stdout, _ := milena(t, "status", "--url", server.URL); !strings.Contains(stdout, "\n  1 consumer group at 2 positions\n") {
		t.Errorf("after the first look at groups:\n%s", stdout)
	}
	flow.ACLs = &topics.ACLsStatus{LastPass: time.Unix(1, 0), Problems: []string{"ACLs are not copied: cluster a has no authorizer"}}
	if _, stdout, _ := milena(t, "status", "--url", server.URL); !strings.Contains(stdout, "no authorizer") || strings.Contains(stdout, "0 ACLs") {
		t.Errorf("without an authorizer:\n%s", stdout)
	}
	flow.ACLs = &topics.ACLsStatus{LastPass: time.Unix(1, 0), InStep: 3}
	if _, stdout, _ := milena(t, "status", "--url", server.URL); !strings.Contains(stdout, "\n  3 ACLs as on the source; in the last look 0 created") {
		t.Errorf("with ACLs:\n%s", stdout)
	}
	code, stdout, _ = milena(t, "status", "--json", "--url", server.URL+"/")
	var got []replicator.Status
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != exitClean || len(got) != 1 || len(got[0].Partitions) != 5 {
		t.Errorf("exit %d, %v: %s", code, err, stdout)
	}
}

func TestVerifyFindsWhatDiffers(t *testing.T) {
	one, two := demoPair(t)
	same := func(topic string) string { return topic }
	fill(t, one, "x", "a", "b")
	fill(t, two, "x", "a", "b")
	if got, err := verifyCopy(t.Context(), one, two, same); err != nil || got.records != 2 || got.partitions != 1 {
		t.Errorf("equal: %+v, %v", got, err)
	}
	for topic, values := range map[string][]string{"swapped": {"b", "a"}, "short": {"a"}, "double": {"a", "b", "b"}} {
		fill(t, one, topic, "a", "b")
		fill(t, two, topic, values...)
	}
	fill(t, one, "absent", "a")
	_, err := verifyCopy(t.Context(), one, two, same)
	for _, want := range []string{
		"swapped-0 and its copy have 2 records each", "short-0 has 2 records, its copy has 1", "double-0 has 2 records, its copy has 3",
		"absent-0 was not copied",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}

func TestTranslateRefusesQuestionsThatAreNone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "milena.yaml")
	text := "clusters:\n  a: {brokers: [\"127.0.0.1:1\"]}\n  b: {brokers: [\"127.0.0.1:2\"]}\nflows:\n  - {source: a, target: b}\n  - {source: b, target: a}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"nothing", nil, exitUsage, "name a --group, or a --topic"},
		{"both", []string{"--group", "g", "--topic", "t"}, exitUsage, "--group translates all of a group"},
		{"half a place", []string{"--topic", "t", "--partition", "0"}, exitUsage, "--topic needs --partition and --offset, or --at"},
		{"a strange moment", []string{"--topic", "t", "--at", "yesterday"}, exitUsage, `--at "yesterday" is not a time`},
		{"a moment back", []string{"--topic", "t", "--at", "1", "--reverse"}, exitUsage, "a moment is the same on both sides"},
		{"commit of an offset", []string{"--topic", "t", "--partition", "0", "--offset", "1", "--commit"}, exitUsage, "need a --group"},
		{"no flow named", []string{"-c", file, "--group", "g"}, exitUsage, "name one with --flow: a-b, b-a"},
		{"an unknown flow", []string{"-c", file, "--group", "g", "--flow", "x"}, exitUsage, `there is no flow "x"; there is a-b, b-a`},
		{"no cluster there", []string{"-c", file, "--group", "g", "--flow", "a-b", "--timeout", "3s"}, exitFailed, "cluster b (127.0.0.1:2)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, _, stderr := milena(t, append([]string{"translate"}, c.args...)...)
			if code != c.code || !strings.Contains(stderr, c.want) {
				t.Errorf("exit %d, %s", code, stderr)
			}
		})
	}
}
