package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"golang.org/x/sys/unix"
)

// manager listens where the service manager does.
type manager struct{ socket *net.UnixConn }

// listenFor listens on a socket of this name, and lets milena know it.
func listenFor(t *testing.T, name string) manager {
	t.Helper()
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	t.Setenv("NOTIFY_SOCKET", name)
	return manager{socket}
}

// next returns the fields of the next message.
func (m manager) next(t *testing.T) map[string]string {
	t.Helper()
	if err := m.socket.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64<<10)
	n, err := m.socket.Read(b)
	if err != nil {
		t.Fatalf("no message: %v", err)
	}
	fields := make(map[string]string)
	for line := range strings.Lines(string(b[:n])) {
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if _, twice := fields[name]; !ok || twice {
			t.Fatalf("the message is %q", b[:n])
		}
		fields[name] = value
	}
	return fields
}

// has returns the next message with these fields, whatever their values, and no other one but STATUS. It passes over messages that have only a status and
// over those that feed the watchdog.
func (m manager) has(t *testing.T, want ...string) map[string]string {
	t.Helper()
	for {
		fields := m.next(t)
		got := slices.Sorted(maps.Keys(fields))
		got = slices.DeleteFunc(got, func(name string) bool { return name == "STATUS" && !slices.Contains(want, name) })
		if slices.Equal(got, slices.Sorted(slices.Values(want))) {
			return fields
		}
		if len(got) > 0 && !slices.Equal(got, []string{"WATCHDOG"}) {
			t.Fatalf("the next message is %v, not one with %v", fields, want)
		}
	}
}

// monotonic is the time of the clock by which the service manager measures.
func monotonic(t *testing.T) int64 {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	return now.Nano() / 1000
}

// deadClusters is the config of a flow whose clusters are down.
func deadClusters() string {
	return `
clusters: {a: {brokers: ["127.0.0.1:1"]}, b: {brokers: ["127.0.0.1:2"]}}
flows: [{source: a, target: b}]
http: {listen: "127.0.0.1:0"}
shutdown_timeout: 2m
`
}

// A service is up when its flows run, whether or not their clusters do. The socket has an abstract name, as in a container.
func TestTheServiceManagerIsToldOfStartReloadAndStop(t *testing.T) {
	m := listenFor(t, "@milena-"+strconv.Itoa(syscall.Getpid()))
	path := file(t, deadClusters())
	s := serve(t, path)
	if ready := m.has(t, "READY", "STATUS"); ready["READY"] != "1" {
		t.Errorf("it says %v", ready)
	}
	hangUp := func() map[string]string {
		t.Helper()
		before := monotonic(t)
		if err := syscall.Kill(syscall.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		reloading := m.has(t, "RELOADING", "MONOTONIC_USEC")
		at, err := strconv.ParseInt(reloading["MONOTONIC_USEC"], 10, 64)
		if err != nil || reloading["RELOADING"] != "1" || at < before || at > monotonic(t) {
			t.Errorf("at %d it says %v", before, reloading)
		}
		return m.has(t, "READY", "STATUS")
	}
	isRefused := func(fields map[string]string) bool {
		return strings.HasPrefix(fields["STATUS"], "config file refused: ")
	}
	ready := hangUp()
	if ready["READY"] != "1" || isRefused(ready) {
		t.Errorf("after a reload it says %v", ready)
	}
	rewrite(t, path, "flows: 3\n")
	for ready = hangUp(); !isRefused(ready); { // the file may be read for its change too
		ready = m.next(t)
	}
	rewrite(t, path, strings.Replace(deadClusters(), "2m", "3m", 1))
	for ready["READY"] != "1" || isRefused(ready) {
		ready = m.next(t)
	}
	s.cancel()
	var stopping map[string]string
	for stopping["STOPPING"] == "" {
		stopping = m.next(t)
	}
	if limit := strconv.FormatInt((3*time.Minute + stopMargin).Microseconds(), 10); stopping["STOPPING"] != "1" || stopping["EXTEND_TIMEOUT_USEC"] != limit {
		t.Errorf("it says %v, want that it stops within %s microseconds", stopping, limit)
	}
	if code := s.exit(t); code != exitClean {
		t.Errorf("exit %d: %s", code, s.stderr)
	}
	if err := m.socket.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if n, err := m.socket.Read(make([]byte, 1)); err == nil {
		t.Errorf("it sends %d bytes more after it has said that it stops", n)
	}
}

// The watchdog is fed while a cluster is down: a restart would not bring it back.
func TestADeadClusterDoesNotStarveTheWatchdog(t *testing.T) {
	m := listenFor(t, filepath.Join(t.TempDir(), "notify"))
	t.Setenv("WATCHDOG_USEC", "400000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(syscall.Getpid()))
	s := serve(t, file(t, deadClusters()))
	m.has(t, "READY", "STATUS")
	for range 5 {
		if fed := m.has(t, "WATCHDOG", "STATUS"); fed["WATCHDOG"] != "1" {
			t.Errorf("it says %v", fed)
		}
	}
	within(t, "the status says what it waits for", func() bool { return strings.HasPrefix(m.next(t)["STATUS"], "a-b not ready: ") })
	if code := get(t, s.url+"/healthz"); code != 200 {
		t.Errorf("/healthz answers %d while the clusters are down", code)
	}
	s.cancel()
	_ = s.exit(t)
}

// clogged is a log that takes nothing while it is clogged, like a pipe that nobody reads.
type clogged struct {
	lockedBuffer
	gate chan struct{} // closed: open
	shut chan struct{} // closed: clogged
}

func (c *clogged) Write(b []byte) (int, error) {
	select {
	case <-c.shut:
		<-c.gate
	default:
	}
	return c.lockedBuffer.Write(b)
}

// A process whose loops do not go on, here because they wait for a log that nobody reads, does not feed the watchdog, and says why.
func TestStuckLoopsStarveTheWatchdog(t *testing.T) {
	m := listenFor(t, filepath.Join(t.TempDir(), "notify"))
	t.Setenv("WATCHDOG_USEC", "2000000")
	clusters := make([]*kfake.Cluster, 2)
	for i := range clusters {
		c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.ClusterID(strconv.Itoa(i)), kfake.SeedTopics(2, "orders"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		clusters[i] = c
	}
	path := file(t, fmt.Sprintf(`
clusters: {a: {brokers: [%q]}, b: {brokers: [%q]}}
flows: [{source: a, target: b, shards: 4}]
http: {listen: ""}
`, clusters[0].ListenAddrs()[0], clusters[1].ListenAddrs()[0]))
	log := &clogged{gate: make(chan struct{}), shut: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int, 1)
	go func() { done <- run(ctx, []string{"run", "-c", path}, io.Discard, log, noEnv) }()
	m.has(t, "READY", "STATUS")
	within(t, "it is ready", func() bool { return strings.HasPrefix(m.has(t, "WATCHDOG", "STATUS")["STATUS"], "a-b ready, lag ") })

	close(log.shut)
	clusters[0].Close() // the loop that fetches from it says so in the log
	status := ""
	within(t, "it is stuck", func() bool {
		status = m.next(t)["STATUS"]
		return strings.HasPrefix(status, "stalled: flow a-b: the loop that ")
	})
	for range 3 {
		if fields := m.next(t); fields["WATCHDOG"] != "" || !strings.HasPrefix(fields["STATUS"], "stalled: ") {
			t.Errorf("after %q it says %v", status, fields)
		}
	}
	close(log.gate)
	within(t, "the loops go on", func() bool { return m.next(t)["WATCHDOG"] == "1" })
	cancel()
	if code := <-done; code != exitClean {
		t.Errorf("exit %d: %s", code, log.String())
	}
}
