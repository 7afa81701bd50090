package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/proc"
)

// shards is how many shards a flow has by default.
const shards = 64

// patience bounds whatever a world waits for.
const patience = 2 * time.Minute

func build(ctx context.Context, bin, pkg string) error {
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", bin, pkg).CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	return nil
}

// world is a pair of synthetic clusters and the instances that copy one to the other.
type world struct {
	*bench
	dir       string
	thin      *proc.Process
	quota     *quota // of thin
	at        addresses
	instances []*instance
	topics    int
	per       int // partitions of a topic
	// partitions is how many the flow copies, besides that of heartbeats.
	partitions int
}

// addresses are those of the clusters, as command thin writes them.
type addresses struct {
	Source  []string `json:"source"`
	Target  []string `json:"target"`
	Control string   `json:"control"`
}

// instance is a milena process.
type instance struct {
	*daemon.Daemon
	id      string
	quota   *quota
	running bool
}

// newWorld starts the clusters, with this many topics of that many partitions on the source.
func (b *bench) newWorld(ctx context.Context, topics, per int, args ...string) (*world, error) {
	b.worlds++
	w := &world{bench: b, dir: filepath.Join(b.dir, fmt.Sprint(b.worlds)), topics: topics, per: per, partitions: topics * per}
	if err := os.MkdirAll(w.dir, 0o755); err != nil {
		return nil, err
	}
	var err error
	argv := append([]string{b.thin, "-topics", fmt.Sprint(topics), "-partitions", fmt.Sprint(per), "-dir", w.dir}, args...)
	if w.thin, err = proc.Start(ctx, "thin", filepath.Join(w.dir, "thin.log"), argv); err != nil {
		return nil, err
	}
	for {
		text, err := os.ReadFile(filepath.Join(w.dir, "addresses"))
		switch {
		case err == nil:
			w.quota, err = newQuota(fmt.Sprintf("milena-scale-%d", w.thin.Pid()), w.thin.Pid(), 0)
			return w, errors.Join(err, json.Unmarshal(text, &w.at))
		case !w.thin.Running():
			return nil, errors.New("thin ended: " + w.thin.Output())
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// close ends all processes.
func (w *world) close() {
	for _, i := range w.instances {
		if i.running {
			i.Kill()
		}
		i.quota.remove()
	}
	w.thin.Kill()
	w.quota.remove()
}

// add adds an instance, and does not start it. Without flows it has one for all topics.
func (w *world) add(ctx context.Context, flows ...daemon.Map) (*instance, error) {
	i := &instance{id: fmt.Sprintf("instance-%d", len(w.instances))}
	if flows == nil {
		flows = []daemon.Map{{"name": "flow", "source": "a", "target": "b", "topics": []string{"many-.*"}}}
	}
	var err error
	i.Daemon, err = daemon.New(ctx, w.milena, filepath.Join(w.dir, i.id), daemon.Map{
		"clusters": daemon.Map{"a": daemon.Map{"brokers": w.at.Source}, "b": daemon.Map{"brokers": w.at.Target}},
		"flows":    flows, "instance": i.id, "metrics": daemon.Map{"partitions": "lagging"},
	})
	w.instances = append(w.instances, i)
	return i, err
}

// start starts instances at the same time.
func (w *world) start(ctx context.Context, list ...*instance) error {
	for _, i := range list {
		if err := i.Start(ctx); err != nil {
			return err
		}
		i.running = true
		if err := w.limit(i, 0); err != nil {
			return err
		}
	}
	return nil
}

// overview is what /status says of the first flow, as far as it is needed.
type overview struct {
	Records    int64      `json:"records"`
	Partitions []struct{} `json:"partitions"`
	Instance   struct {
		State     string `json:"state"`
		Held      int    `json:"held"`
		Instances []struct {
			ID     string  `json:"id"`
			Shards []int32 `json:"shards"`
		} `json:"instances"`
	} `json:"instance"`
}

func (i *instance) overview(ctx context.Context) (o overview, err error) {
	var flows []overview
	if err := call(ctx, http.MethodGet, i.URL()+"/status", nil, &flows); err != nil {
		return o, err
	}
	if len(flows) == 0 {
		return o, errors.New("no flow")
	}
	return flows[0], nil
}

// call sends a request, and reads the JSON of the answer into a value, if that is not nil.
func call(ctx context.Context, method, url string, body, into any) error {
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		reader = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, url, reader)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s: %.300s", url, response.Status, text)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(text, into)
}

// settled waits until the running instances are ready and share all shards by assignment, and returns how long that took from an instant on.
func (w *world) settled(ctx context.Context, since time.Time) (time.Duration, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("the instances are not ready"))
	defer cancel()
	for {
		state, ok := w.state(ctx)
		if ok {
			return time.Since(since), nil
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return 0, fmt.Errorf("%w: %s", context.Cause(ctx), state)
		}
	}
}

// state returns what the instances say, and whether all is assigned and ready.
func (w *world) state(ctx context.Context) (text string, ok bool) {
	for _, i := range w.instances {
		if !i.running {
			continue
		}
		if err := call(ctx, http.MethodGet, i.URL()+"/readyz", nil, nil); err != nil {
			return i.id + ": " + err.Error(), false
		}
	}
	held, partitions := 0, 0
	for _, i := range w.instances {
		if !i.running {
			continue
		}
		o, err := i.overview(ctx)
		if err != nil {
			return i.id + ": " + err.Error(), false
		}
		text += fmt.Sprintf("%s is %s and holds %d; ", i.id, o.Instance.State, o.Instance.Held)
		if o.Instance.State != "assigned" {
			return text, false
		}
		held, partitions = held+o.Instance.Held, partitions+len(o.Partitions)
	}
	return fmt.Sprintf("%s%d partitions", text, partitions), held == shards && partitions >= w.partitions
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
