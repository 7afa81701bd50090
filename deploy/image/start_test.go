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
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// patience bounds waits for what a container does.
const patience = 60 * time.Second

// memoryLimit is what a container may use.
const memoryLimit = 256 << 20

// built is the image of this machine, which all tests start.
var built = sync.OnceValues(func() (v1.Image, error) { return buildImage(context.Background(), source, thisMachine) })

// container is a container of the image that runc can run.
type container struct {
	dir, id string
	config  v1.Config
}

// newContainer unpacks the image. What the container does besides is what a careful user asks for: a root that cannot be written, no capabilities, a limit
// for the memory, and the network of the host. Without runc there is no test, unless MILENA_IMAGE is "require".
func newContainer(t *testing.T, args []string, mounts ...specs.Mount) *container {
	t.Helper()
	if _, err := exec.LookPath("runc"); err != nil || os.Geteuid() != 0 {
		if os.Getenv("MILENA_IMAGE") == "require" {
			t.Fatalf("runc needs root, and is %v", err)
		}
		t.Skip("this test needs root and runc (apt-get install runc)")
	}
	image, err := built()
	if err != nil {
		t.Fatal(err)
	}
	made, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c := &container{dir: t.TempDir(), id: fmt.Sprintf("milena-%d-%s", os.Getpid(), regexp.MustCompile(`\W`).ReplaceAllString(t.Name(), "-")), config: made.Config}
	for name, f := range contents(t, image) {
		path := filepath.Join(c.dir, "rootfs", name)
		if f.content == nil {
			err = os.MkdirAll(path, os.FileMode(f.mode))
		} else if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
			err = os.WriteFile(path, f.content, os.FileMode(f.mode))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if args == nil {
		args = c.config.Cmd
	}
	c.writeSpec(t, slices.Concat(c.config.Entrypoint, args), mounts)
	t.Cleanup(func() { _ = exec.Command("runc", "delete", "--force", c.id).Run() })
	return c
}

// writeSpec changes the config that runc suggests to what the image says.
func (c *container) writeSpec(t *testing.T, args []string, mounts []specs.Mount) {
	t.Helper()
	suggest := exec.CommandContext(t.Context(), "runc", "spec", "--bundle", c.dir)
	if said, err := suggest.CombinedOutput(); err != nil {
		t.Fatalf("runc spec: %v\n%s", err, said)
	}
	path := filepath.Join(c.dir, "config.json")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var spec specs.Spec
	if err := json.Unmarshal(text, &spec); err != nil {
		t.Fatal(err)
	}
	user, group, _ := strings.Cut(c.config.User, ":")
	uid, err1 := strconv.ParseUint(user, 10, 32)
	gid, err2 := strconv.ParseUint(group, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	limit := int64(memoryLimit)
	spec.Process.Terminal = false
	spec.Process.Args, spec.Process.Env, spec.Process.Cwd = args, c.config.Env, c.config.WorkingDir
	spec.Process.User = specs.User{UID: uint32(uid), GID: uint32(gid)}
	spec.Process.Capabilities = &specs.LinuxCapabilities{}
	spec.Process.NoNewPrivileges = true
	spec.Root.Readonly = true
	spec.Mounts = append(spec.Mounts, mounts...)
	spec.Linux.Namespaces = slices.DeleteFunc(spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.NetworkNamespace })
	spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit}
	if text, err = json.Marshal(spec); err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// run runs the container until it ends, and returns what it printed.
func (c *container) run(t *testing.T) string {
	t.Helper()
	said, err := exec.CommandContext(t.Context(), "runc", "run", "--bundle", c.dir, c.id).CombinedOutput()
	if err != nil {
		t.Fatalf("the container: %v\n%s", err, said)
	}
	return string(said)
}

func TestContainerPrintsItsVersion(t *testing.T) {
	if said := newContainer(t, []string{"version"}).run(t); !strings.HasPrefix(said, "milena ") || !strings.Contains(said, "go1.") {
		t.Errorf("it printed %q", said)
	}
}

func TestContainerRunsTheDemo(t *testing.T) {
	said := newContainer(t, []string{"demo", "--for", "3s", "--listen", "127.0.0.1:0", "--rate", "2000"}).run(t)
	if !strings.Contains(said, "same bytes, same order, none missing, none duplicated") {
		t.Errorf("it printed %q", said)
	}
}

// freeAddress is an address on loopback that nothing listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// The image as it is used: it runs the mounted config, copies, answers the health check, keeps Go within the memory of the container, and stops cleanly
// at the image's stop signal.
func TestContainerCopies(t *testing.T) {
	var brokers [2]string
	for i, topics := range [][]string{{"orders"}, nil} {
		fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.ClusterID("cluster-"+strconv.Itoa(i)), kfake.SeedTopics(2, topics...))
		if err != nil {
			t.Fatal(err)
		}
		defer fake.Close()
		brokers[i] = fake.ListenAddrs()[0]
	}
	const records = 1000
	produce(t, brokers[0], records)
	address := freeAddress(t)
	path := filepath.Join(t.TempDir(), "milena.yaml")
	text := fmt.Sprintf("clusters:\n  primary: {brokers: [%q]}\n  dr: {brokers: [%q]}\nflows: [{source: primary, target: dr}]\nhttp: {listen: %q}\n", brokers[0], brokers[1], address)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	c := newContainer(t, nil, specs.Mount{Destination: configFile, Type: "bind", Source: path, Options: []string{"bind", "ro"}})
	running := exec.CommandContext(t.Context(), "runc", "run", "--bundle", c.dir, c.id)
	var said bytes.Buffer
	running.Stdout, running.Stderr = &said, &said
	if err := running.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- running.Wait() }()
	ready := func() bool {
		status, _ := get(t, "http://"+address+"/readyz")
		return status == http.StatusOK
	}
	waitFor(t, "the container is ready", ended, &said, ready)
	consume(t, brokers[1], "primary.orders", records)

	check := append([]string{"exec", c.id}, c.config.Healthcheck.Test[1:]...)
	if said, err := exec.CommandContext(t.Context(), "runc", check...).CombinedOutput(); err != nil {
		t.Errorf("the health check: %v\n%s", err, said)
	}
	_, metrics := get(t, "http://"+address+"/metrics")
	limit := regexp.MustCompile(`(?m)^go_gc_gomemlimit_bytes (\S+)$`).FindStringSubmatch(metrics)
	if limit == nil {
		t.Fatal("the metrics have no go_gc_gomemlimit_bytes")
	}
	if bytes, err := strconv.ParseFloat(limit[1], 64); err != nil || bytes > memoryLimit*9/10+1 {
		t.Errorf("Go may use %s bytes, and the container %d", limit[1], memoryLimit)
	}

	if out, err := exec.CommandContext(t.Context(), "runc", "kill", c.id, strings.TrimPrefix(c.config.StopSignal, "SIG")).CombinedOutput(); err != nil {
		t.Fatalf("runc kill: %v\n%s", err, out)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the container ended with %v\n%s", err, said.String())
		}
	case <-time.After(patience):
		t.Errorf("the container does not stop\n")
	}
}

// waitFor asks until something is true, and fails if the container ends or takes too long.
func waitFor(t *testing.T, what string, ended <-chan error, said *bytes.Buffer, is func() bool) {
	t.Helper()
	late := time.After(patience)
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		if is() {
			return
		}
		select {
		case err := <-ended:
			t.Fatalf("%s: it ended with %v\n%s", what, err, said.String())
		case <-late:
			t.Fatalf("not in %s: %s", patience, what)
		case <-tick.C:
		}
	}
}

// get returns status and body of an address, or 0 if it does not answer.
func get(t *testing.T, url string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, ""
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, ""
	}
	return response.StatusCode, string(body)
}

func produce(t *testing.T, broker string, records int) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.DefaultProduceTopic("orders"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var all []*kgo.Record
	for i := range records {
		all = append(all, kgo.KeyStringRecord(strconv.Itoa(i), "order "+strconv.Itoa(i)))
	}
	if err := client.ProduceSync(t.Context(), all...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// consume reads until it has seen all records, each once.
func consume(t *testing.T, broker, topic string, records int) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	seen := map[string]bool{}
	for len(seen) < records {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%d of %d records are in %s", len(seen), records, topic)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if key := string(r.Key); seen[key] || string(r.Value) != "order "+key {
				t.Errorf("record %s is %q, seen before: %t", key, r.Value, seen[key])
			}
			seen[string(r.Key)] = true
		})
	}
}
