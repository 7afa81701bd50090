package long_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/proc"
)

// thinClusters are the clusters of command thin.
type thinClusters struct {
	Source  []string `json:"source"`
	Target  []string `json:"target"`
	Control string   `json:"control"`
}

// startThin starts the two clusters of command thin, with that many partitions on the source.
func startThin(t *testing.T, partitions int64) thinClusters {
	t.Helper()
	const perTopic = 50
	dir := t.TempDir()
	bin := filepath.Join(dir, "thin")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "github.com/milena-kafka/milena/e2e/thin").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p, err := proc.Start(t.Context(), "thin", filepath.Join(dir, "log"), []string{
		bin, "-topics", fmt.Sprint(partitions / perTopic), "-partitions", fmt.Sprint(perTopic), "-dir", dir,
	})
	must(t, err)
	t.Cleanup(p.Kill)
	var clusters thinClusters
	for clusters.Control == "" {
		text, err := os.ReadFile(filepath.Join(dir, "addresses"))
		switch {
		case errors.Is(err, os.ErrNotExist) && p.Running():
			pause(t, 20*time.Millisecond)
		case err != nil:
			t.Fatalf("%v\n%s", err, p.Output())
		default:
			must(t, json.Unmarshal(text, &clusters))
		}
	}
	return clusters
}

// What a daemon costs with many partitions of which none moves: the bars for 100,000 on a machine that does nothing else. The brokers run on the
// same machine, so the bars that are times are measured as CPU time where that is possible.
func TestManyPartitions(t *testing.T) {
	if os.Getenv("MILENA_LONG") == "" {
		t.Skip("runs for minutes; run it with: MILENA_LONG=1 go test ./e2e/long -v -timeout 4h -run TestManyPartitions")
	}
	partitions := number(t, "MILENA_PARTITIONS", 100_000)
	clusters := startThin(t, partitions)
	bin, err := daemon.Build(t.Context(), t.TempDir())
	must(t, err)
	d, err := daemon.New(t.Context(), bin, t.TempDir(), daemon.Map{
		"clusters": daemon.Map{"a": daemon.Map{"brokers": clusters.Source}, "b": daemon.Map{"brokers": clusters.Target}},
		"flows":    []daemon.Map{{"source": "a", "target": "b", "topics": []string{"many-.*"}}},
		"metrics":  daemon.Map{"partitions": "lagging"},
	})
	must(t, err)
	for _, start := range []string{"the first start", "a restart after kill -9"} {
		began := time.Now()
		must(t, d.Start(t.Context()))
		ctx, cancel := context.WithTimeoutCause(t.Context(), 3*time.Minute, errors.New("the flow is not ready"))
		must(t, d.WaitReady(ctx))
		cancel()
		took := time.Since(began)
		u, err := d.Process().Usage()
		must(t, err)
		t.Logf("%s: ready after %.1f s and %.1f s of CPU, with at most %d MiB resident", start, took.Seconds(), u.CPU.Seconds(), u.PeakRSS>>20)
		if took > 15*time.Second {
			t.Errorf("%s: ready after %.1f s, more than 15 s", start, took.Seconds())
		}
		pause(t, 12*time.Second) // the first syncs of configs and groups are over
		t.Run("idle after "+start, func(t *testing.T) { checkIdle(t, d) })
		if start == "the first start" {
			d.Kill()
		}
	}
	for _, path := range []string{"/readyz", "/metrics", "/status"} {
		before, err := d.Process().Usage()
		must(t, err)
		began := time.Now()
		bytes := get(t, d.URL()+path)
		after, err := d.Process().Usage()
		must(t, err)
		t.Logf("%s: %d KiB in %d ms, %d ms of CPU", path, bytes>>10, time.Since(began).Milliseconds(), (after.CPU - before.CPU).Milliseconds())
	}
}

// checkIdle checks what an idle daemon uses.
func checkIdle(t *testing.T, d *daemon.Daemon) {
	t.Helper()
	before, err := d.Process().Usage()
	must(t, err)
	const span = 20 * time.Second
	pause(t, span)
	after, err := d.Process().Usage()
	must(t, err)
	share := 100 * (after.CPU - before.CPU).Seconds() / span.Seconds()
	t.Logf("%.1f %% of a core, %d MiB resident, at most %d MiB", share, after.RSS>>20, after.PeakRSS>>20)
	if share > 10 {
		t.Errorf("idle milena uses %.1f %% of a core, more than 10 %%", share)
	}
	if after.RSS > 400<<20 {
		t.Errorf("%d MiB are resident, more than 400", after.RSS>>20)
	}
}

// pause lets time pass.
func pause(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

func get(t *testing.T, url string) (bytes int) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	must(t, err)
	response, err := http.DefaultClient.Do(request)
	must(t, err)
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	must(t, err)
	if response.StatusCode != http.StatusOK {
		t.Errorf("%s answers %s: %.300s", url, response.Status, strings.TrimSpace(string(text)))
	}
	return len(text)
}
