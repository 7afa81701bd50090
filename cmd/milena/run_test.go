package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
)

// startClusters starts two clusters in this process, each with a topic of two partitions, and returns their addresses.
func startClusters(t *testing.T) []string {
	t.Helper()
	var addresses []string
	for _, id := range []string{"one", "two"} {
		c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.ClusterID(id), kfake.SeedTopics(2, "seed-"+id))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		addresses = append(addresses, c.ListenAddrs()[0])
	}
	return addresses
}

// twoClusters writes the config of a flow between two clusters in this process.
func twoClusters(t *testing.T) string {
	t.Helper()
	address := startClusters(t)
	return file(t, fmt.Sprintf(`
clusters: {a: {brokers: [%q]}, b: {brokers: [%q]}}
flows: [{source: a, target: b, shards: 4}]
http: {listen: "127.0.0.1:0"}
`, address[0], address[1]))
}

func TestRunServesUntilStopped(t *testing.T) {
	s := serve(t, twoClusters(t))
	within(t, "it is ready", func() bool { return get(t, s.url+"/readyz") == http.StatusOK })
	within(t, "it found the topic", func() bool {
		text := s.status(t)
		return strings.Contains(text, "flow a-b: a -> b, ready") && strings.Contains(text, "2 partitions in 1 topic")
	})
	s.cancel()
	if code := s.exit(t); code != exitClean {
		t.Errorf("exit %d: %s", code, s.stderr)
	}
}

// get returns the status code of a GET request.
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

func TestRunFailsIfThePortIsInUse(t *testing.T) {
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
	if code != exitFailed || !strings.Contains(stderr, "address already in use; stop the process that uses it") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	for line := range strings.Lines(stderr) { // the log is JSON, and so is the reason of the end
		if !json.Valid([]byte(line)) {
			t.Errorf("a line is not JSON: %s", line)
		}
	}
}

// fakeRunner fails at once, or waits for its context and reports its cause.
type fakeRunner struct {
	err   error
	cause chan error
}

func (f fakeRunner) Run(ctx context.Context) error {
	if f.err != nil {
		return f.err
	}
	<-ctx.Done()
	f.cause <- context.Cause(ctx)
	return nil
}

func TestAFailedFlowStopsTheOthersCleanly(t *testing.T) {
	fenced := &replicator.FencedError{Flow: "a-b"}
	healthy := fakeRunner{cause: make(chan error, 1)}
	stopping := make(chan struct{})
	err := runAll(t.Context(), []fakeRunner{{err: fenced}, healthy}, func() { close(stopping) })
	if !errors.Is(err, fenced) {
		t.Errorf("error is %v", err)
	}
	if cause := <-healthy.cause; !errors.Is(cause, context.Canceled) {
		t.Errorf("the healthy flow was stopped with %v", cause)
	}
	<-stopping
}

// --clusters runs the flows to the named clusters, as connect-mirror-maker.sh does: separated by commas or blanks.
func TestRunTakesClustersOfMirrorMaker(t *testing.T) {
	c := &config.Config{Flows: []config.Flow{{Name: "a-b", Target: "b"}, {Name: "b-a", Target: "a"}, {Name: "a-c", Target: "c"}}}
	for args, want := range map[string]string{
		"":               "a-b b-a a-c",
		"--clusters b":   "a-b",
		"--clusters=c,a": "b-a a-c",
		"--clusters b c": "a-b a-c",
		"--clusters d":   `run: --clusters: no flow of the config has the target "d"; the targets are a, b, c; see milena run --help`,
	} {
		f := pflag.NewFlagSet("run", pflag.ContinueOnError)
		clusters := f.StringSlice("clusters", nil, "")
		if err := f.Parse(strings.Fields(args)); err != nil {
			t.Fatal(err)
		}
		flows, err := flowsTo(f, c, append(*clusters, f.Args()...))
		var got []string
		for _, flow := range flows {
			got = append(got, flow.Name)
		}
		if err != nil {
			got = []string{err.Error()}
		}
		if text := strings.Join(got, " "); text != want {
			t.Errorf("%q: got %s, want %s", args, text, want)
		}
	}
	if code, _, stderr := milena(t, "run", "-c", "milena.yaml", "other"); code != exitUsage || !strings.Contains(stderr, `unexpected argument "other"`) {
		t.Errorf("exit %d: %s", code, stderr)
	}
}
