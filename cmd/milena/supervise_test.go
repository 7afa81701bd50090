package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// process is a running milena.
type process struct {
	url    string
	cancel context.CancelFunc
	done   chan int
	stderr *lockedBuffer
}

// serve runs milena with a config file until it listens, or ends.
func serve(t *testing.T, path string) *process {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s := &process{cancel: cancel, done: make(chan int, 1), stderr: &lockedBuffer{}}
	go func() { s.done <- run(ctx, []string{"run", "-c", path}, io.Discard, s.stderr, noEnv) }()
	within(t, "it logs where it listens", func() bool {
		var line struct{ Msg, Address string }
		for text := range strings.Lines(s.stderr.String()) {
			if json.Unmarshal([]byte(text), &line) == nil && line.Msg == "listening" {
				s.url = "http://" + line.Address
				return true
			}
		}
		return len(s.done) > 0
	})
	return s
}

// exit waits for the end and returns the exit code.
func (s *process) exit(t *testing.T) int {
	t.Helper()
	select {
	case code := <-s.done:
		return code
	case <-time.After(patience):
		t.Fatalf("run does not end: %s", s.stderr)
		return 0
	}
}

// status is what milena status prints.
func (s *process) status(t *testing.T) string {
	t.Helper()
	_, stdout, _ := milena(t, "status", "--url", s.url)
	return stdout
}

// secured starts a cluster with SASL and returns its address.
func secured(t *testing.T) string {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.ClusterID("secured"), kfake.EnableSASL(), kfake.Superuser("PLAIN", "milena", "right"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	c.ControlKey(int16(kmsg.SASLAuthenticate), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		response := r.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		response.ErrorCode = kerr.SaslAuthenticationFailed.Code
		return response, nil, bytes.Contains(r.(*kmsg.SASLAuthenticateRequest).SASLAuthBytes, []byte("wrong"))
	})
	return c.ListenAddrs()[0]
}

// The login of one of two sources is refused. The other source is copied, and the refused one too once the password is mended.
func TestAFlowThatCannotLogInDoesNotStopTheOthers(t *testing.T) {
	address := startClusters(t)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("wrong"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := serve(t, file(t, fmt.Sprintf(`
clusters:
  a: {brokers: [%q]}
  b: {brokers: [%q]}
  spoke: {brokers: [%q], sasl: {mechanism: PLAIN, username: milena, password_file: %q}}
flows: [{source: a, target: b, shards: 2}, {source: spoke, target: b, shards: 2}]
http: {listen: "127.0.0.1:0"}
`, address[0], address[1], secured(t), password)))
	within(t, "one flow is ready and the other says why it is not", func() bool {
		text := s.status(t)
		return strings.Contains(text, "flow a-b: a -> b, ready") && strings.Contains(text, "SASL_AUTHENTICATION_FAILED")
	})
	if code := get(t, s.url+"/readyz"); code != http.StatusServiceUnavailable {
		t.Errorf("/readyz answers %d", code)
	}
	if !strings.Contains(s.stderr.String(), "the flow cannot begin, trying again") {
		t.Errorf("the log does not say so: %s", s.stderr)
	}
	if err := os.WriteFile(password, []byte("right"), 0o600); err != nil {
		t.Fatal(err)
	}
	within(t, "both flows are ready", func() bool { return get(t, s.url+"/readyz") == http.StatusOK })
	s.cancel()
	if code := s.exit(t); code != exitClean {
		t.Errorf("exit %d: %s", code, s.stderr)
	}
}

// No flow can work, each for a reason of its own. Milena ends and says both.
func TestMilenaEndsWhenNoFlowCanWork(t *testing.T) {
	address := startClusters(t)
	s := serve(t, file(t, fmt.Sprintf(`
clusters:
  a: {brokers: [%q]}
  b: {brokers: [%q]}
  same: {brokers: [%q]}
  spoke: {brokers: [%q], sasl: {mechanism: PLAIN, username: milena, password: wrong}}
flows: [{source: same, target: b}, {source: spoke, target: b}]
http: {listen: "127.0.0.1:0"}
`, address[0], address[1], strings.Replace(address[1], "127.0.0.1", "localhost", 1), secured(t))))
	if code := s.exit(t); code != exitFailed {
		t.Errorf("exit %d", code)
	}
	for _, want := range []string{"same and b are the same cluster", "SASL_AUTHENTICATION_FAILED"} {
		if !strings.Contains(s.stderr.String(), want) {
			t.Errorf("%q is missing: %s", want, s.stderr)
		}
	}
}

// fakeFlow is a flow that ends with an error once it is released.
type fakeFlow struct {
	name     string
	released chan struct{}
	err      error
}

func (f fakeFlow) Name() string { return f.name }

func (f fakeFlow) Run(context.Context) error {
	<-f.released
	return f.err
}

// A flow that ends stops no other one; the last one that ends ends milena.
func TestTheLastFlowThatEndsEndsMilena(t *testing.T) {
	a := fakeFlow{"a", make(chan struct{}), errors.New("first")}
	b := fakeFlow{"b", make(chan struct{}), errors.New("last")}
	var stderr lockedBuffer
	s := newSupervisor(slog.New(slog.NewTextHandler(&stderr, nil)), 2)
	ended := make(chan error, 1)
	go func() { ended <- runApart(t.Context(), s, []fakeFlow{a, b}, func() {}, func(context.Context) {}) }()
	close(a.released)
	within(t, "the end of the first is logged", func() bool { return strings.Contains(stderr.String(), "the flow has ended and the others go on") })
	select {
	case err := <-ended:
		t.Fatalf("the first one has ended milena: %v", err)
	default:
	}
	close(b.released)
	if err := <-ended; !errors.Is(err, a.err) || !errors.Is(err, b.err) {
		t.Errorf("it ended with %v", err)
	}
}
