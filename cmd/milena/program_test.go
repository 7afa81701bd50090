package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/milena-kafka/milena/config"
)

func noEnv(string) (string, bool) { return "", false }

// milena runs the program to its end and returns the exit code and its output.
func milena(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs, noEnv)
	return code, out.String(), errs.String()
}

// file writes a config file and returns its path.
func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "milena.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// patience is how long a test waits for an event before it fails.
const patience = 2 * time.Minute

// within polls until ok is true.
func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not after %v: %s", patience, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// lockedBuffer can be read while the program writes to it.
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
		{"help status", exitClean, "milena status --url", ""},
		{"help help", exitClean, "milena run -c FILE", ""},
		{"help groups adopt", exitClean, "milena groups adopt lets", ""},
		{"help fly", exitUsage, "", `unknown command "fly"; milena help lists`},
		{"help run now", exitUsage, "", `unexpected argument "now"`},
		{"fly", exitUsage, "", `unknown command "fly"; milena help lists`},
		{"version", exitClean, "milena ", ""},
		{"version now", exitUsage, "", `unexpected argument "now"`},
		{"run", exitUsage, "", "no config file given; name it with -c FILE"},
		{"run --help", exitClean, "--config FILE", ""},
		{"run -c nowhere.yaml", exitUsage, "", "open nowhere.yaml: no such file or directory; name a readable config file with -c FILE"},
		{"run --colour", exitUsage, "", "run: unknown flag: --colour; see milena run --help"},
		{"run --help", exitClean, "--compare MODE", ""},
		{"run --compare=some -c x", exitUsage, "", "--compare=some must be new or all"},
		{"run --compare= -c x", exitUsage, "", "--compare= must be new or all"},
		{"run --for 3s -c x", exitUsage, "", "--for and --json need --compare"},
		{"run --json -c x", exitUsage, "", "--for and --json need --compare"},
		{"run --compare --for -3s -c x", exitUsage, "", "--for must not be negative"},
		{"run --compare --rebuild-map -c x", exitUsage, "", "--rebuild-map has no effect with --compare"},
		{"run --rebuild-map -c " + unreachable, exitUsage, "", "--rebuild-map has no effect: no flow of the config has migrate_from"},
		{"run --beside-mirrormaker -c " + unreachable, exitUsage, "", "--beside-mirrormaker has no effect"},
		{"rollback -c " + unreachable, exitUsage, "", "flow a-b has no migrate_from; set it to the topic with MirrorMaker 2's connector offsets, mm2-offsets.a.internal"},
		{"run --compare", exitUsage, "", "no config file given"},
		{"run --compare --for 1s -c " + unreachable, exitFailed, "", "compare: cluster a"},
		{"convert", exitUsage, "", "no config file given"},
		{"convert one two", exitUsage, "", `unexpected argument "two"`},
		{"convert nowhere.properties", exitUsage, "", "no such file"},
		{"convert -c one two", exitUsage, "", "the file is given twice, as -c one and as two"},
		{"convert --help", exitClean, "--config FILE", ""},
		{"check", exitUsage, "", "no config file given"},
		{"check -c x --timeout soon", exitUsage, "", "invalid argument"},
		{"check -c x --timeout 0s", exitUsage, "", "--timeout"},
		{"check --timeout 300ms -c " + unreachable, exitFailed, "  error: cluster a (127.0.0.1:1)", "1 of 1 flow cannot run"},
		{"status --url http://127.0.0.1:1", exitFailed, "", "check that milena is running"},
		{"status --url nonsense", exitUsage, "", `--url "nonsense" is not a URL`},
		{"status -c x --url http://127.0.0.1:1", exitUsage, "", "status: --url asks one milena and -c the clusters of all; they cannot be combined"},
		{"status --flow a-b", exitUsage, "", "--flow and --timeout need -c FILE"},
		{"status --timeout 3s", exitUsage, "", "--flow and --timeout need -c FILE"},
		{"status --timeout 0s -c x", exitUsage, "", "--timeout must be longer than 0s"},
		{"status -c nowhere.yaml", exitUsage, "", "open nowhere.yaml: no such file or directory"},
		{"status --flow b-a -c " + unreachable, exitUsage, "", `unknown flow "b-a"; the config has a-b`},
		{"status --timeout 300ms -c " + unreachable, exitFailed, "  error: the journal of flow a-b cannot be read: cluster b (127.0.0.1:2)", "1 of 1 flow needs attention"},
		{"status --timeout 300ms --json -c " + unreachable, exitFailed, `"error": "the journal of flow a-b cannot be read`, "1 of 1 flow needs attention"},
		{"rollback --help", exitClean, "--timeout DURATION", ""},
		{"rollback --timeout 0s", exitUsage, "", "--timeout must be longer than 0s"},
		{"translate --timeout 0s --group g", exitUsage, "", "--timeout must be longer than 0s"},
		{"run milena.yaml", exitUsage, "", "unexpected argument \"milena.yaml\"; name the config with -c FILE"},
		{"rollback", exitUsage, "", "no config file given"},
		{"rollback --timeout 2s -c " + mirrored, exitFailed, "", "connection refused); check that the broker runs"},
		{"handback", exitUsage, "", "milena: handback is now called rollback\nmilena: no config file given"},
		{"demo --for -1s", exitUsage, "", "--for must not be negative"},
		{"demo --rate 0", exitUsage, "", "--rate"},
		{"demo --listen nonsense", exitUsage, "", "is not host:port"},
	} {
		t.Run(c.args, func(t *testing.T) {
			code, stdout, stderr := milena(t, strings.Fields(c.args)...)
			if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.Contains(stderr, c.stderr) {
				t.Errorf("exit %d, want %d\nstdout: %s\nstderr: %s", code, c.code, stdout, stderr)
			}
			if c.stdout != "" && strings.Count(stdout, c.stdout) > 1 {
				t.Errorf("printed more than once:\n%s", stdout)
			}
		})
	}
}

func TestAllConfigErrorsArePrinted(t *testing.T) {
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

// Durations have their unit in both log formats.
func TestLoggedDurationsHaveAUnit(t *testing.T) {
	for format, want := range map[string]string{"json": `"took":"2ms"`, "text": "took=2ms"} {
		var out bytes.Buffer
		p := newProgram(io.Discard, &out, noEnv)
		p.logger(config.Log{Level: "info", Format: format}).Info("stopped", "took", 2*time.Millisecond)
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s: %s", format, &out)
		}
	}
}
