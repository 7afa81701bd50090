// Package daemon runs the built milena binary and reads its log, status and metrics, as a user would.
package daemon

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/milena-kafka/milena/e2e/proc"
)

// Map is a section of the configuration file.
type Map = map[string]any

// Daemon is a milena process.
type Daemon struct {
	dir, bin, config string
	args             []string // of run, besides the configuration
	url              string
	runs             int
	process          *proc.Process
}

// Build builds milena into a directory and returns the path of the program. MILENA_E2E_BIN names a program to use instead, and MILENA_E2E_RACE
// builds it with the race detector.
func Build(ctx context.Context, dir string) (string, error) {
	if bin := os.Getenv("MILENA_E2E_BIN"); bin != "" {
		return bin, nil
	}
	bin := filepath.Join(dir, "milena")
	args := []string{"build", "-o", bin}
	if os.Getenv("MILENA_E2E_RACE") != "" {
		args = append(args, "-race")
	}
	if out, err := exec.CommandContext(ctx, "go", append(args, "github.com/milena-kafka/milena/cmd/milena")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build milena: %w\n%s", err, out)
	}
	return bin, nil
}

// New writes a configuration file to dir, with a free HTTP address unless config has its own. It does not start the process.
func New(ctx context.Context, bin, dir string, config Map) (*Daemon, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	ports, err := proc.FreePorts(ctx, 1)
	if err != nil {
		return nil, err
	}
	addr := fmt.Sprintf("127.0.0.1:%d", ports[0])
	all := Map{"http": Map{"listen": addr, "pprof": true}, "log": Map{"format": "text"}}
	for k, v := range config {
		all[k] = v
	}
	text, err := yaml.Marshal(all)
	if err != nil {
		return nil, err
	}
	d := &Daemon{dir: dir, bin: bin, config: filepath.Join(dir, "milena.yaml"), url: "http://" + addr}
	return d, os.WriteFile(d.config, text, 0o600)
}

// NewFromFile uses an existing configuration file, such as an mm2.properties. The args are added to the command line of run.
func NewFromFile(ctx context.Context, bin, dir, file string, args ...string) (*Daemon, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	ports, err := proc.FreePorts(ctx, 1)
	if err != nil {
		return nil, err
	}
	addr := fmt.Sprintf("127.0.0.1:%d", ports[0])
	return &Daemon{dir: dir, bin: bin, config: file, args: append(args, "--listen", addr), url: "http://" + addr}, nil
}

// Start starts the process. Its output is appended to the log of earlier runs. The process ends with ctx.
func (d *Daemon) Start(ctx context.Context) error {
	d.runs++
	var err error
	// With the race detector, GORACE makes a data race visible in the exit code.
	argv := append([]string{d.bin, "run", "-c", d.config}, d.args...)
	d.process, err = proc.Start(ctx, fmt.Sprintf("milena %s (run %d)", filepath.Base(d.dir), d.runs), d.log(), argv, "GORACE=exitcode=66")
	return err
}

func (d *Daemon) log() string { return filepath.Join(d.dir, "milena.log") }

// URL is where the process serves HTTP.
func (d *Daemon) URL() string { return d.url }

// Binary is the path of the program.
func (d *Daemon) Binary() string { return d.bin }

// Config is the path of the configuration file.
func (d *Daemon) Config() string { return d.config }

// Process is the process that was started last.
func (d *Daemon) Process() *proc.Process { return d.process }

// Output is the output of all runs.
func (d *Daemon) Output() string {
	b, err := os.ReadFile(d.log())
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Tail is the last lines of the output.
func (d *Daemon) Tail(lines int) string {
	all := strings.Split(strings.TrimRight(d.Output(), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// Kill ends the process with SIGKILL.
func (d *Daemon) Kill() { d.process.Kill() }

// Stop ends the process with SIGTERM and returns its exit code.
func (d *Daemon) Stop(ctx context.Context) (int, error) {
	if err := d.process.Signal(syscall.SIGTERM); err != nil {
		return 0, err
	}
	return d.process.Wait(ctx)
}

// Pause freezes the process with SIGSTOP.
func (d *Daemon) Pause() error { return d.process.Signal(syscall.SIGSTOP) }

// Resume continues a paused process.
func (d *Daemon) Resume() error { return d.process.Signal(syscall.SIGCONT) }

// WaitReady waits until /readyz answers 200. It returns at once if the process ends.
func (d *Daemon) WaitReady(ctx context.Context) error {
	return d.Until(ctx, 20*time.Millisecond, func() (bool, string) {
		code, body, err := d.get(ctx, "/readyz")
		if err != nil {
			return false, err.Error()
		}
		return code == http.StatusOK, fmt.Sprintf("/readyz answers %d: %.500s", code, body)
	})
}

// Until calls done every interval until it returns true, the process ends, or ctx ends. The error of the latter two has the state that done
// returned last.
func (d *Daemon) Until(ctx context.Context, interval time.Duration, done func() (bool, string)) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var state string
	for {
		ok, now := done()
		if ok {
			return nil
		}
		if ctx.Err() == nil { // otherwise the state is only that ctx has ended
			state = now
		}
		select {
		case <-tick.C:
		case <-d.process.Done():
			return fmt.Errorf("%s ended: %s", d.process.Name(), state)
		case <-ctx.Done():
			return fmt.Errorf("%w: %s", context.Cause(ctx), state)
		}
	}
}

// Ready returns the answer of /readyz.
func (d *Daemon) Ready(ctx context.Context) (code int, body string, err error) {
	code, text, err := d.get(ctx, "/readyz")
	return code, string(text), err
}

// Diagnose returns why the process is not ready and the stacks of its goroutines.
func (d *Daemon) Diagnose(ctx context.Context) (notReady, stacks string) {
	_, body, err := d.get(ctx, "/readyz")
	if err != nil {
		return err.Error(), ""
	}
	_, profile, err := d.get(ctx, "/debug/pprof/goroutine?debug=2")
	if err != nil {
		return string(body), err.Error()
	}
	return string(body), string(profile)
}

func (d *Daemon) get(ctx context.Context, path string) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url+path, nil)
	if err != nil {
		return 0, nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, body, errors.Join(err, resp.Body.Close())
}

// Status is the JSON of one flow in /status, as far as tests use it.
type Status struct {
	Flow            string         `json:"flow"`
	SourceClusterID string         `json:"source_cluster_id"`
	TargetClusterID string         `json:"target_cluster_id"`
	Ready           bool           `json:"ready"`
	NotReady        []string       `json:"not_ready"`
	Shards          map[string]int `json:"shards"`
	Records         int64          `json:"records"`
	LagRecords      int64          `json:"lag_records"`
	Partitions      []Partition    `json:"partitions"`
	Groups          Groups         `json:"groups"`
	Throttled       []Throttle     `json:"throttled"`
	Certificates    []string       `json:"certificates"`
	Instance        Instance       `json:"instance"`
	Control         Control        `json:"control"`
	RPO             RPO            `json:"rpo"`
	Configs         *Configs       `json:"configs"`
	ACLs            *ACLs          `json:"acls"`
}

// RPO is the JSON of what a failover would lose.
type RPO struct {
	CompleteUpTo   time.Time `json:"complete_up_to"`
	MissingRecords int64     `json:"missing_records"`
	SeenAt         time.Time `json:"seen_at"`
	Unknown        int       `json:"unknown_partitions"`
}

// Instance is the JSON of a process among those that share a flow.
type Instance struct {
	ID        string   `json:"id"`
	State     string   `json:"state"` // alone, joining, claimed, assigned, standby
	Held      int      `json:"held"`  // shards
	Instances []Member `json:"instances"`
}

// Member is the JSON of an instance in the group of a flow.
type Member struct {
	ID string `json:"id"`
}

// Configs is the JSON of the last sync of topic configs.
type Configs struct {
	Problems []string  `json:"problems"`
	LastPass time.Time `json:"last_pass"`
}

// ACLs is the JSON of the last sync of ACLs.
type ACLs struct {
	InStep   int       `json:"in_step"`
	Created  int       `json:"created"`
	Deleted  int       `json:"deleted"`
	Refused  int       `json:"refused"`
	Problems []string  `json:"problems"`
	LastPass time.Time `json:"last_pass"`
}

// Throttle is the JSON of a broker's quota that throttles a flow.
type Throttle struct {
	Side       string  `json:"side"`
	Cluster    string  `json:"cluster"`
	Broker     int32   `json:"broker"`
	LastMinute float64 `json:"last_minute_seconds"`
	Left       float64 `json:"left_seconds"`
	Text       string  `json:"text"`
}

// Groups is the JSON of the last sync of consumer groups.
type Groups struct {
	Groups    int       `json:"groups"`
	Positions int       `json:"positions"`
	Refused   int       `json:"refused"`
	Refusals  []Refusal `json:"refusals"`
	Problems  []string  `json:"problems"`
}

// Refusal is the JSON of a group whose offsets are not committed on the target, with the reason.
type Refusal struct {
	Group  string `json:"group"`
	Reason string `json:"reason"`
	Detail string `json:"detail"`
}

// Partition is the JSON of one source partition.
type Partition struct {
	Topic       string   `json:"topic"`
	TargetTopic string   `json:"target_topic"`
	Partition   int32    `json:"partition"`
	State       string   `json:"state"`
	SourceEnd   *int64   `json:"source_end"`
	Next        int64    `json:"next"`
	Acked       int64    `json:"acked"`
	Journaled   int64    `json:"journaled"`
	LagRecords  *int64   `json:"lag_records"`
	Anomaly     *Anomaly `json:"anomaly"`
	Paused      *Paused  `json:"paused"`
	Wait        *Wait    `json:"wait"`
	Gaps        []Gap    `json:"gaps"`
}

// Paused is the JSON of the decision that pauses a partition.
type Paused struct {
	Who string `json:"who"`
	Why string `json:"why"`
}

// Control is the JSON of what people decided.
type Control struct {
	Problem     string `json:"problem"`
	Ignored     int    `json:"ignored"`
	LastIgnored []struct {
		Offset int64  `json:"offset"`
		Why    string `json:"why"`
	} `json:"last_ignored"`
}

// Wait is the JSON of what a partition waits for.
type Wait struct {
	Reason string `json:"reason"`
	Detail string `json:"detail"`
}

// Gap is the JSON of an entry in the gap ledger.
type Gap struct {
	Kind   string `json:"kind"`
	Action string `json:"action"`
	From   int64  `json:"from"`
	To     int64  `json:"to"`
	Detail string `json:"detail"`
}

// Anomaly is the JSON of why a partition is halted.
type Anomaly struct {
	Kind   string `json:"kind"`
	Detail string `json:"detail"`
	Hint   string `json:"hint"`
	From   int64  `json:"from"`
	To     int64  `json:"to"`
}

// Status reads /status: one element per flow.
func (d *Daemon) Status(ctx context.Context) ([]Status, error) {
	code, body, err := d.get(ctx, "/status")
	if err != nil {
		return nil, err
	}
	if code != http.StatusOK {
		return nil, fmt.Errorf("/status answers %d: %.300s", code, body)
	}
	var s []Status
	if err := json.Unmarshal(body, &s); err != nil {
		return nil, fmt.Errorf("/status: %w", err)
	}
	return s, nil
}

// Partitions are those of all flows.
func (d *Daemon) Partitions(ctx context.Context) ([]Partition, error) {
	flows, err := d.Status(ctx)
	var all []Partition
	for _, f := range flows {
		all = append(all, f.Partitions...)
	}
	return all, err
}

// Metric sums the series of a metric whose labels contain all of these texts, such as `kind="recreated"`. It is an error if there are none.
func (d *Daemon) Metric(ctx context.Context, name string, labels ...string) (float64, error) {
	code, body, err := d.get(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	if code != http.StatusOK {
		return 0, fmt.Errorf("/metrics answers %d: %.300s", code, body)
	}
	var sum float64
	found := false
	lines := bufio.NewScanner(strings.NewReader(string(body)))
	lines.Buffer(nil, 1<<20)
series:
	for lines.Scan() {
		line := lines.Text()
		series, value, ok := cutLast(line, " ")
		if !ok || strings.HasPrefix(line, "#") || series != name && !strings.HasPrefix(series, name+"{") {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(series, l) {
				continue series
			}
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, fmt.Errorf("metric %s: %w", series, err)
		}
		sum += v
		found = true
	}
	if !found {
		return 0, errors.New("no series " + name + " with " + strings.Join(labels, ", "))
	}
	return sum, lines.Err()
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
