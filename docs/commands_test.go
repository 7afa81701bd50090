package docs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// patience bounds a command that ends without a signal, and the start of milena until it is ready.
const patience = 30 * time.Second

// bin is the folder of the binary; TestMain creates and deletes it.
var bin string

func TestMain(m *testing.M) {
	var err error
	if bin, err = os.MkdirTemp("", "milena-docs"); err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(bin)
	os.Exit(code)
}

// build builds the binary, as README does.
var build = sync.OnceValue(func() error {
	build := exec.CommandContext(context.Background(), "go", "build", "-o", filepath.Join(bin, "milena"), "./cmd/milena")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
})

// binary is the path of the built program.
func binary(t *testing.T) string {
	t.Helper()
	if err := build(); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(bin, "milena")
}

// Every sh block of every page runs against two clusters in this process. No command may fail; a comparison may find differences.
func TestCommandsRun(t *testing.T) {
	t.Parallel()
	all := blocks(t, "sh")
	if len(all) < 10 {
		t.Fatalf("%d blocks with commands", len(all))
	}
	for _, b := range all {
		t.Run(b.where, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			if strings.Contains(b.text, "milena translate") || strings.Contains(b.text, "milena rollback") || strings.Contains(b.text, "milena verify") {
				file := "milena.yaml"
				if strings.Contains(b.text, "mm2.properties") {
					file = "mm2.properties"
				}
				l.copyAll(file)
			}
			for line := range strings.Lines(b.text) {
				command, _, _ := strings.Cut(line, "#")
				if command = strings.TrimSpace(command); command != "" {
					l.run(command)
				}
			}
			l.stop()
		})
	}
}

// lab is what a user has: a folder with configs, two clusters, and at most one milena that runs in another terminal.
type lab struct {
	t       *testing.T
	dir     string
	listen  string
	running *process
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, dir: t.TempDir(), listen: freeAddress(t)}
	source, target := cluster(t, "primary"), cluster(t, "dr")
	seed(t, source)
	l.write("milena.yaml", fmt.Sprintf(`
clusters:
  primary: {brokers: [%q]}
  dr: {brokers: [%q]}
flows:
  - {source: primary, target: dr, shards: 4, groups_interval: 500ms}
`, source, target))
	l.write("mm2.properties", fmt.Sprintf(`
clusters = primary, dr
primary.bootstrap.servers = %s
dr.bootstrap.servers = %s
primary->dr.enabled = true
replication.factor = 1
sync.topic.acls.enabled = false
sync.group.offsets.enabled = true
sync.group.offsets.interval.seconds = 1
`, source, target))
	if err := os.Symlink(binary(t), filepath.Join(l.dir, "milena")); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *lab) write(name, text string) {
	l.t.Helper()
	if err := os.WriteFile(filepath.Join(l.dir, name), []byte(text), 0o600); err != nil {
		l.t.Fatal(err)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// cluster gives the address of a cluster of one broker.
func cluster(t *testing.T, id string) string {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.ClusterID("docs-"+id))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c.ListenAddrs()[0]
}

// seed creates what the pages mention: topic orders with records, and a group billing with committed offsets in it.
func seed(t *testing.T, address string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	if _, err := admin.CreateTopic(t.Context(), 4, 1, nil, "orders"); err != nil {
		t.Fatal(err)
	}
	var records []*kgo.Record
	var offsets kadm.Offsets = make(map[string]map[int32]kadm.Offset)
	for partition := range int32(4) {
		for i := range 1100 {
			records = append(records, &kgo.Record{Topic: "orders", Partition: partition, Value: fmt.Appendf(nil, "order %d", i)})
		}
		offsets.AddOffset("orders", partition, 1000, -1)
	}
	if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := admin.CommitAllOffsets(t.Context(), "billing", offsets); err != nil {
		t.Fatal(err)
	}
}

// copyAll runs milena until everything is copied, and stops it.
func (l *lab) copyAll(file string) {
	l.t.Helper()
	l.run("milena run -c " + file)
	l.until("everything is copied", func() bool {
		var flows []struct {
			Ready      bool
			LagRecords int64 `json:"lag_records"`
			Records    int64
			Groups     struct{ Positions int }
		}
		body, err := l.get("/status")
		return err == nil && json.Unmarshal(body, &flows) == nil && len(flows) == 1 && flows[0].Ready && flows[0].LagRecords == 0 &&
			flows[0].Records >= 4400 && flows[0].Groups.Positions == 4
	})
	l.stop()
}

// run runs a command of a page with the addresses of this lab, and for a shorter time.
func (l *lab) run(command string) {
	l.t.Helper()
	typed := command
	command = strings.ReplaceAll(command, "go run ./cmd/milena", "milena")
	for _, address := range []string{"127.0.0.1:9644", "127.0.0.1:9645"} {
		command = strings.ReplaceAll(command, address, l.listen)
	}
	command = regexp.MustCompile(`--for \S+`).ReplaceAllString(command, "--for 1s")
	words := strings.Fields(strings.ReplaceAll(command, "./milena", "milena"))
	switch {
	case command == "go build -o milena ./cmd/milena": // as build does
	case words[0] == "go" || strings.Contains(words[0], "="):
		l.goTool(words)
	case words[0] != "milena":
		l.t.Errorf("%s: no test knows how to run it; use another fence than sh", typed)
	case words[1] == "status" && slices.Contains(words, "-c"):
		l.finish(typed, l.start(command), 0)
	case words[1] == "status":
		l.finish(typed, l.start(command+" --url http://"+l.listen), 0)
	case words[1] == "demo":
		l.stop()
		l.demo(typed, command)
	case words[1] == "run" && slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(w, "--compare") }):
		l.stop()
		p := l.start(command)
		if !strings.Contains(command, "--for") {
			p.signalAfter(time.Second, syscall.SIGINT)
		}
		l.finish(typed, p, 0, 1)
		if strings.TrimSpace(p.stderr.String()) != "" && !strings.Contains(p.stderr.String(), "compare: ") {
			l.t.Errorf("%s: %s", typed, p.stderr.String())
		}
	case words[1] == "run":
		l.stop()
		if !strings.Contains(command, "--listen") {
			command += " --listen " + l.listen
		}
		l.running = l.start(command)
		l.until(typed+": ready", func() bool {
			_, err := l.get("/readyz")
			return err == nil
		})
	default:
		l.finish(typed, l.start(command), 0)
	}
}

// goTool checks a command of the go tool without running it: its packages and flags exist.
func (l *lab) goTool(words []string) {
	l.t.Helper()
	for strings.Contains(words[0], "=") {
		words = words[1:]
	}
	packages := slices.DeleteFunc(slices.Clone(words[2:]), func(w string) bool { return !strings.HasPrefix(w, "./") })
	list := exec.CommandContext(l.t.Context(), "go", append([]string{"list"}, packages...)...)
	list.Dir = ".."
	if out, err := list.CombinedOutput(); err != nil || len(packages) == 0 {
		l.t.Errorf("%s: %v\n%s", strings.Join(words, " "), err, out)
	}
	switch words[1] {
	case "test":
	case "run": // -h comes after the flags: they are read first
		help := exec.CommandContext(l.t.Context(), "go", append(words[1:], "-h")...)
		help.Dir = ".."
		if out, _ := help.CombinedOutput(); !strings.Contains(string(out), "Usage of") || strings.Contains(string(out), "not defined") || strings.Contains(string(out), "invalid value") {
			l.t.Errorf("%s: %s", strings.Join(words, " "), out)
		}
	default:
		l.t.Errorf("%s: no test knows how to check it", strings.Join(words, " "))
	}
}

// demo runs the demo and ends it as Ctrl-C does, unless --for ends it.
func (l *lab) demo(typed, command string) {
	l.t.Helper()
	p := l.start(command)
	if !strings.Contains(command, "--for") {
		l.until(typed+": an address", func() bool { return strings.Contains(p.stdout.String(), "http://") })
		p.signalAfter(time.Second, syscall.SIGINT)
	}
	l.finish(typed, p, 0)
	if !regexp.MustCompile(`(?i)verified \d+ records`).MatchString(p.stdout.String()) {
		l.t.Errorf("%s: nothing was verified:\n%s", typed, p.stdout.String())
	}
}

// process is a command that runs.
type process struct {
	command        *exec.Cmd
	stdout, stderr lockedBuffer
	ended          chan struct{}
}

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

func (l *lab) start(command string) *process {
	l.t.Helper()
	p := &process{command: exec.Command("sh", "-c", "exec "+command), ended: make(chan struct{})}
	p.command.Dir = l.dir
	p.command.Env = append(os.Environ(), "PATH="+l.dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	p.command.Stdout, p.command.Stderr = &p.stdout, &p.stderr
	if err := p.command.Start(); err != nil {
		l.t.Fatal(err)
	}
	go func() {
		_ = p.command.Wait()
		close(p.ended)
	}()
	l.t.Cleanup(func() {
		_ = p.command.Process.Kill()
		<-p.ended
	})
	return p
}

func (p *process) signalAfter(d time.Duration, s syscall.Signal) {
	time.AfterFunc(d, func() { _ = p.command.Process.Signal(s) })
}

// finish waits for the end of a command and checks its exit code.
func (l *lab) finish(typed string, p *process, want ...int) {
	l.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		l.t.Fatalf("%s: still runs\n%s\n%s", typed, p.stdout.String(), p.stderr.String())
	}
	if code := p.command.ProcessState.ExitCode(); !slices.Contains(want, code) {
		l.t.Errorf("%s: exit code %d\n%s\n%s", typed, code, p.stdout.String(), p.stderr.String())
	}
}

// stop ends the milena that runs, as Ctrl-C does.
func (l *lab) stop() {
	l.t.Helper()
	if l.running != nil {
		l.running.signalAfter(0, syscall.SIGINT)
		l.finish("milena run", l.running, 0)
		l.running = nil
	}
}

func (l *lab) get(path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(l.t.Context(), time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.listen+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	var body bytes.Buffer
	if _, err := body.ReadFrom(response.Body); err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, errors.New(response.Status)
	}
	return body.Bytes(), nil
}

func (l *lab) until(what string, done func() bool) {
	l.t.Helper()
	for began := time.Now(); !done(); time.Sleep(20 * time.Millisecond) {
		if l.running != nil {
			select {
			case <-l.running.ended:
				l.t.Fatalf("%s: milena ended\n%s\n%s", what, l.running.stdout.String(), l.running.stderr.String())
			default:
			}
		}
		if time.Since(began) > patience {
			text := ""
			if l.running != nil {
				text = l.running.stderr.String()
			}
			l.t.Fatalf("%s: not after %v\n%s", what, patience, text)
		}
	}
}

// The table of commands in operations.md lists every command with all of its flags.
func TestCommandsTableIsComplete(t *testing.T) {
	t.Parallel()
	help := func(args ...string) string {
		out, err := exec.CommandContext(t.Context(), binary(t), args...).Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	flag := regexp.MustCompile(`--[a-z][a-z-]*`)
	flags := func(text string) []string {
		found := flag.FindAllString(text, -1)
		slices.Sort(found)
		return slices.DeleteFunc(slices.Compact(found), func(f string) bool { return f == "--config" })
	}
	defined := regexp.MustCompile(`(?m)^ +(?:-., )?--[a-z-]+`)
	rows := make(map[string]string)
	for _, row := range regexp.MustCompile("(?m)^\\| `milena ([a-z]+(?:-[a-z]+)*).*$").FindAllStringSubmatch(read(t, "operations.md"), -1) {
		rows[row[1]] = row[0]
	}
	for _, verb := range regexp.MustCompile(`(?m)^  milena ([a-z]+(?:-[a-z]+)*)`).FindAllStringSubmatch(help("help"), -1) {
		if verb[1] != "help" && rows[verb[1]] == "" {
			t.Errorf("operations.md has no row for milena %s", verb[1])
		}
	}
	for verb, row := range rows {
		has := flags(strings.Join(defined.FindAllString(help(verb, "--help"), -1), " "))
		if got := flags(row); !slices.Equal(got, has) {
			t.Errorf("operations.md: milena %s has flags %v, the program has %v", verb, got, has)
		}
	}
}

// Commands in code spans have verbs and flags that exist.
func TestCommandsInTextExist(t *testing.T) {
	t.Parallel()
	line := regexp.MustCompile("(?m)^[^#\n].*$") // headings may be messages
	command := regexp.MustCompile("`(?:\\./)?milena ([a-z]+(?:-[a-z]+)*)([^`]*)`")
	for _, page := range pages(t) {
		if page == "../CHANGELOG.md" {
			continue // it names commands that no longer exist
		}
		prose := strings.Join(line.FindAllString(read(t, page), -1), "\n")
		for _, m := range command.FindAllStringSubmatch(prose, -1) {
			out, err := exec.CommandContext(t.Context(), binary(t), m[1], "--help").CombinedOutput()
			if err != nil {
				t.Errorf("%s: %s: %v\n%s", page, m[0], err, out)
			}
			for _, flag := range regexp.MustCompile(`--[a-z][a-z-]*`).FindAllString(m[2], -1) {
				if !strings.Contains(string(out), flag) {
					t.Errorf("%s: %s: milena %s has no flag %s", page, m[0], m[1], flag)
				}
			}
		}
	}
	for _, page := range pages(t) {
		for _, m := range regexp.MustCompile("go test \\./e2e[^`\n]* -run (Test[A-Za-z]+)").FindAllStringSubmatch(read(t, page), -1) {
			files, err := filepath.Glob("../e2e/*_test.go")
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(files, func(file string) bool { return strings.Contains(read(t, file), "func "+m[1]+"(") }) {
				t.Errorf("%s: there is no test %s", page, m[1])
			}
		}
	}
}
