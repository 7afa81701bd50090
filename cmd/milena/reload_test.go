package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/pflag"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
)

// metrics returns the samples of a metric that have all of these parts in their line.
func (s *process) metrics(t *testing.T, parts ...string) (lines []string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
lines:
	for line := range strings.Lines(string(body)) {
		for _, part := range parts {
			if !strings.Contains(line, part) {
				continue lines
			}
		}
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// lastLog returns the field of the last line of the log with this message, empty if there is none.
func (s *process) lastLog(message, field string) string {
	found := ""
	for text := range strings.Lines(s.stderr.String()) {
		var line map[string]any
		if json.Unmarshal([]byte(text), &line) == nil && line["msg"] == message {
			found, _ = line[field].(string)
		}
	}
	return found
}

// rewrite replaces the file as an editor does, by renaming.
func rewrite(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// reloadable starts three clusters and returns a config with a flow from the first to the second, and the text that a test may replace.
func reloadable(t *testing.T) (text string) {
	t.Helper()
	one, two := startClusters(t), startClusters(t)
	return fmt.Sprintf(`clusters:
  a: {brokers: [%q]}
  b: {brokers: [%q]}
  c: {brokers: [%q]}
flows:
  - {source: a, target: b, shards: 2}
http: {listen: "127.0.0.1:0"}
`, one[0], one[1], two[1])
}

const more = "shards: 2}\n  - {source: a, target: c, shards: 2}"

// The file changes: a flow is added and removed again, and the other one does not notice.
func TestAReloadAddsAndRemovesFlows(t *testing.T) {
	text := reloadable(t)
	path := file(t, text)
	s := serve(t, path)
	within(t, "it is ready", func() bool { return get(t, s.url+"/readyz") == http.StatusOK })
	within(t, "its own heartbeats are copied, which takes a takeover", func() bool { return len(s.metrics(t, "milena_acked_offset", `flow="a-b"`, "heartbeats")) > 0 })
	before := s.metrics(t, "milena_takeovers_total", `flow="a-b"`)

	rewrite(t, path, strings.Replace(text, "shards: 2}", more, 1))
	within(t, "both flows are ready", func() bool {
		return strings.Contains(s.status(t), "flow a-c: a -> c, ready") && get(t, s.url+"/readyz") == http.StatusOK
	})
	if changes := s.lastLog("config reloaded", "changes"); changes != "flow a-c added" {
		t.Errorf("the log names the changes %q", changes)
	}
	rewrite(t, path, text)
	within(t, "the series of the removed flow are gone", func() bool { return len(s.metrics(t, `flow="a-c"`)) == 0 })
	within(t, "the log says so", func() bool { return s.lastLog("config reloaded", "changes") == "flow a-c removed" })
	if status := s.status(t); strings.Contains(status, "a-c") || !strings.Contains(status, "flow a-b: a -> b, ready") {
		t.Errorf("the status is %s", status)
	}
	if after := s.metrics(t, "milena_takeovers_total", `flow="a-b"`); fmt.Sprint(before) != fmt.Sprint(after) {
		t.Errorf("the other flow had %v, and now %v", before, after)
	}
	rewrite(t, path, strings.Replace(text, "shards: 2}", more, 1)) // and again, with the same name
	within(t, "it is back", func() bool { return strings.Contains(s.status(t), "flow a-c: a -> c, ready") })
	s.cancel()
	if code := s.exit(t); code != exitClean {
		t.Errorf("exit %d: %s", code, s.stderr)
	}
}

// What cannot change and what is wrong is refused with its lines, by log, metrics and status, until the file is good again.
func TestARefusedReloadChangesNothing(t *testing.T) {
	text := reloadable(t)
	path := file(t, text)
	s := serve(t, path)
	within(t, "it is ready", func() bool { return get(t, s.url+"/readyz") == http.StatusOK })
	const refused = "config not reloaded; the one in force stays"
	for _, c := range []struct{ name, old, new, want string }{
		{"not YAML", "flows:", "flows: [", path + ":"},
		{"an unknown key", "shards: 2", "shrads: 2", path + `:6: flows[0].shrads: unknown key; did you mean "shards"?`},
		{"live and not live", "shards: 2}", "shards: 4, topics: [one]}\n  - {source: a, target: c}", path + ":6: flows[0].shards: cannot change while milena runs"},
		{"no flow", "  - {source: a, target: b, shards: 2}", "  []", path + ":5: flows: no flows"},
	} {
		rewrite(t, path, strings.Replace(text, c.old, c.new, 1))
		within(t, c.name+": the log says why", func() bool { return strings.Contains(s.lastLog(refused, "err"), c.want) })
		within(t, c.name+": the status says why", func() bool { return strings.Contains(s.status(t), c.want) })
		if status := s.status(t); strings.Contains(status, "a-c") || !strings.Contains(status, "flow a-b: a -> b, ready") {
			t.Errorf("%s: the status is %s", c.name, status)
		}
		if code, _, _ := milena(t, "status", "--url", s.url); code != exitFailed {
			t.Errorf("%s: milena status exits with %d", c.name, code)
		}
		if got := s.metrics(t, "milena_config_last_reload_successful"); len(got) != 1 || !strings.HasSuffix(got[0], " 0") {
			t.Errorf("%s: %v", c.name, got)
		}
		if code, _, stderr := milena(t, "check", "-c", path); c.name != "live and not live" && (code != exitUsage || strings.TrimSpace(stderr) != s.lastLog(refused, "err")) {
			t.Errorf("%s: milena check says %s", c.name, stderr)
		}
	}
	before := s.metrics(t, "milena_config_last_reload_success_timestamp_seconds")
	rewrite(t, path, text)
	within(t, "the refusal is over", func() bool { return len(s.metrics(t, "milena_config_last_reload_successful 1")) == 1 })
	if after := s.metrics(t, "milena_config_last_reload_success_timestamp_seconds"); len(before) != 1 || len(after) != 1 || before[0] == after[0] {
		t.Errorf("the time of the last reload was %v and is %v", before, after)
	}
	if code, stdout, _ := milena(t, "status", "--url", s.url); code != exitClean || strings.Contains(stdout, "refused") {
		t.Errorf("milena status exits with %d: %s", code, stdout)
	}
}

// A ConfigMap is a symbolic link to a directory that is replaced. SIGHUP reads the file at once, also if nothing has changed.
func TestAReloadFollowsLinksAndSIGHUP(t *testing.T) {
	text := reloadable(t)
	dir := t.TempDir()
	for name, content := range map[string]string{"one": text, "two": text + "log: {level: debug}\n"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "milena.yaml"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := func(to string) {
		if err := os.Symlink(to, filepath.Join(dir, "..tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	link("one")
	path := filepath.Join(dir, "milena.yaml")
	if err := os.Symlink(filepath.Join("..data", "milena.yaml"), path); err != nil {
		t.Fatal(err)
	}
	s := serve(t, path)
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	within(t, "a reload without a change", func() bool { return s.lastLog("config reloaded", "changes") == "none" })
	link("two")
	within(t, "the log level changes", func() bool { return s.lastLog("config reloaded", "changes") == "log.level" })
}

// The level of a logger that is in use changes.
func TestTheLogLevelChanges(t *testing.T) {
	var stderr lockedBuffer
	p := newProgram(io.Discard, &stderr, noEnv)
	log := p.logger(config.Log{Level: "info", Format: "json"}).With("flow", "a-b")
	log.Debug("one")
	p.setLevel(config.Log{Level: "debug"})
	log.Debug("two")
	if text := stderr.String(); strings.Contains(text, "one") || !strings.Contains(text, "two") {
		t.Errorf("it logs %s", text)
	}
}

// All flows of a process are replaced by one other flow.
func TestAReloadMayReplaceAllFlows(t *testing.T) {
	text := reloadable(t)
	path := file(t, text)
	s := serve(t, path)
	within(t, "it is ready", func() bool { return get(t, s.url+"/readyz") == http.StatusOK })
	rewrite(t, path, strings.Replace(text, "target: b,", "target: c,", 1))
	within(t, "the other flow is ready", func() bool {
		status := s.status(t)
		return strings.Contains(status, "flow a-c: a -> c, ready") && !strings.Contains(status, "a-b")
	})
	s.cancel()
	if code := s.exit(t); code != exitClean {
		t.Errorf("exit %d: %s", code, s.stderr)
	}
}

// With --clusters, a file without a flow to them is refused. What is no regular file is read once, and never waited for again.
func TestAReloadNeedsAFlowAndAFile(t *testing.T) {
	text := reloadable(t)
	path := file(t, text)
	f := pflag.NewFlagSet("run", pflag.ContinueOnError)
	clusters := f.StringSlice("clusters", nil, "")
	if err := f.Parse([]string{"--clusters", "b"}); err != nil {
		t.Fatal(err)
	}
	s := &configSource{program: newProgram(io.Discard, io.Discard, noEnv), path: path, flags: f, clusters: *clusters}
	if _, err := s.readAgain(); err != nil {
		t.Fatal(err)
	}
	if s.hasChanged() {
		t.Error("a file that was just read has changed")
	}
	rewrite(t, path, strings.Replace(text, "target: b,", "target: c,", 1))
	if first, second := s.hasChanged(), s.hasChanged(); first || !second {
		t.Errorf("a change shows at the first look: %v, at the second: %v", first, second)
	}
	if _, err := s.readAgain(); err == nil || !strings.Contains(err.Error(), "no flow left for --clusters b") {
		t.Errorf("the error is %v", err)
	}
	s.path = filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(s.path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.readAgain(); err == nil || !strings.Contains(err.Error(), "is no regular file") {
		t.Errorf("the error is %v", err)
	}
	s.hasChanged() // does not block
}

// What is read is what two looks have seen, also if the file is written again in between: half a file may be a config with fewer flows.
func TestAFileThatIsWrittenAgainIsNotReadHalf(t *testing.T) {
	text := strings.Replace(reloadable(t), "shards: 2}", more, 1)
	path := file(t, text)
	f := pflag.NewFlagSet("run", pflag.ContinueOnError)
	s := &configSource{program: newProgram(io.Discard, io.Discard, noEnv), path: path, flags: f}
	if _, err := s.readAgain(); err != nil {
		t.Fatal(err)
	}
	whole := text + "\nbuffer: 64MiB\n"
	rewrite(t, path, whole)
	if s.hasChanged(); !s.hasChanged() {
		t.Fatal("the change is not noticed")
	}
	s.settled = true
	half, _, _ := strings.Cut(whole, "  - {source: a, target: c")
	rewrite(t, path, half)
	if r, err := s.readAgain(); !errors.Is(err, errUnsettled) {
		t.Errorf("half of the file was read: %+v, %v", r, err)
	}
	rewrite(t, path, whole)
	if s.hasChanged(); !s.hasChanged() {
		t.Fatal("the change is not noticed")
	}
	if r, err := s.readAgain(); err != nil || len(r.flows) != 2 {
		t.Errorf("the whole file: %+v, %v", r, err)
	}
}

// A flow that was created for a reload that is refused leaves nothing behind.
func TestARefusedReloadLeavesNoClients(t *testing.T) {
	text := reloadable(t)
	path := file(t, text)
	p := newProgram(io.Discard, io.Discard, noEnv)
	s := &configSource{program: p, path: path, flags: pflag.NewFlagSet("run", pflag.ContinueOnError)}
	r, err := s.read()
	if err != nil {
		t.Fatal(err)
	}
	d := newDaemon(p, r, slog.New(slog.DiscardHandler), func(*replicator.Options) {})
	bad := strings.Replace(text, "shards: 2}", more+"\n  - {source: b, target: d, shards: 2}", 1)
	rewrite(t, path, strings.Replace(bad, "flows:", "  d: {brokers: [\"127.0.0.1:1\"], tls: {ca_file: /none}}\nflows:", 1))
	before := runtime.NumGoroutine()
	for range 3 {
		if _, _, _, err := d.prepare(s); err == nil || !strings.Contains(err.Error(), "/none") {
			t.Fatal(err)
		}
	}
	within(t, "what the first new flow has begun has ended", func() bool { return runtime.NumGoroutine() <= before })
}
