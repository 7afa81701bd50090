package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/verify"
)

// scratch holds what outlives a single test: the built binary.
var scratch string

func TestMain(m *testing.M) {
	var err error
	if scratch, err = os.MkdirTemp("", "milena-e2e-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(scratch)
	os.Exit(code)
}

var resolveJars = sync.OnceValues(func() (kafka.Jars, error) {
	return kafka.Resolve(context.Background())
})

// requireKafka skips the test unless MILENA_E2E is set and Java and Maven are installed.
func requireKafka(t *testing.T) kafka.Jars {
	t.Helper()
	mode := os.Getenv("MILENA_E2E")
	if mode == "" {
		t.Skip("needs real Kafka brokers; run it with: MILENA_E2E=1 go test ./e2e -timeout 40m")
	}
	jars, err := resolveJars()
	if errors.Is(err, kafka.ErrMissing) && mode != "require" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return jars
}

var buildMilena = sync.OnceValues(func() (string, error) { return daemon.Build(context.Background(), scratch) })

// dir is a directory for the data and logs of a test's processes: temporary, or kept if MILENA_E2E_KEEP is set.
func dir(t *testing.T) string {
	t.Helper()
	keep := os.Getenv("MILENA_E2E_KEEP")
	if keep == "" {
		return t.TempDir()
	}
	d := filepath.Join(keep, strings.ReplaceAll(t.Name(), "/", "_"))
	check(t, os.RemoveAll(d))
	check(t, os.MkdirAll(d, 0o755))
	return d
}

// keptDir is like dir, but is kept if the test fails: for a failure that may not come again.
func keptDir(t *testing.T) string {
	t.Helper()
	if os.Getenv("MILENA_E2E_KEEP") != "" {
		return dir(t)
	}
	d, err := os.MkdirTemp("", "milena-failed-") //nolint:usetesting // it outlives a test that fails
	check(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("data and logs are in %s", d)
			return
		}
		_ = os.RemoveAll(d)
	})
	return d
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// long skips what takes a minute or more and is much like another test, unless MILENA_LONG is set.
func long(t *testing.T) {
	t.Helper()
	if os.Getenv("MILENA_LONG") == "" {
		t.Skip("takes longer; run it with MILENA_LONG=1")
	}
}

// seeded is a random source whose seed is logged, so that a run can be repeated.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	return rand.New(rand.NewPCG(seed(t), 0))
}

// seed is the seed of a run, which is logged.
func seed(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano() % 1_000_000)
	if s := os.Getenv("MILENA_E2E_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("random seed: MILENA_E2E_SEED=%d", seed)
	return seed
}

// patience is how many times longer than on a quiet machine an event may take. Tests that are about a duration measure it themselves.
const patience = 3

// within is the test's context with a deadline: patience times d, which is what a quiet machine needs at most. The text what describes the event that is
// late when the deadline passes.
func within(t *testing.T, d time.Duration, what string) context.Context {
	t.Helper()
	d *= patience
	ctx, cancel := context.WithTimeoutCause(t.Context(), d, fmt.Errorf("not within %v: %s", d, what))
	t.Cleanup(cancel)
	return ctx
}

// eventually calls done every 50 ms until it returns true. The state that done returned last is part of the failure.
func eventually(t *testing.T, d time.Duration, what string, done func() (bool, string)) {
	t.Helper()
	ctx := within(t, d, what)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, state := done()
		if ok {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%v; last state: %s", context.Cause(ctx), state)
		}
	}
}

// pause waits while the load runs.
func pause(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

// pair is a source and a target cluster.
type pair struct {
	t              *testing.T
	owner          *testing.T // the clusters end with it
	dir            string
	source, target *kafka.Cluster
	// Clients of the test itself; they bypass the proxies.
	sourceClient, targetClient *kgo.Client
	sourceAdmin, targetAdmin   *kadm.Client
}

// startPair starts a source and a target cluster. Both end with the test.
func startPair(t *testing.T, source, target kafka.Options) *pair {
	t.Helper()
	jars := requireKafka(t)
	p := &pair{t: t, owner: t, dir: dir(t)}
	source.Name, target.Name = "source", "target"
	source.Dir, target.Dir = p.dir, p.dir
	start := time.Now()
	clusters, err := kafka.StartAll(t.Context(), jars, source, target)
	check(t, err)
	p.source, p.target = clusters[0], clusters[1]
	t.Logf("both clusters started in %.1f s", time.Since(start).Seconds())
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("source brokers:\n%s\ntarget brokers:\n%s", p.source.Tail(15), p.target.Tail(15))
		}
	})
	p.sourceClient, p.targetClient = client(t, p.source), client(t, p.target)
	p.sourceAdmin, p.targetAdmin = kadm.NewClient(p.sourceClient), kadm.NewClient(p.targetClient)
	return p
}

func client(t *testing.T, c *kafka.Cluster) *kgo.Client {
	t.Helper()
	cl, err := c.Client()
	check(t, err)
	t.Cleanup(cl.Close)
	return cl
}

// createTopic creates a topic on the source.
func (p *pair) createTopic(name string, partitions int, replicationFactor int16, configs ...string) {
	p.t.Helper()
	check(p.t, kafka.CreateTopic(p.t.Context(), p.sourceAdmin, name, partitions, replicationFactor, configs...))
}

// writer opens a writer to a topic of the source.
func (p *pair) writer(o load.Options) *load.Writer {
	p.t.Helper()
	w, err := load.New(p.source, o)
	check(p.t, err)
	p.t.Cleanup(w.Close)
	return w
}

// remoteTopic is the name of a source topic's copy on the target.
func remoteTopic(topic string) string { return "source." + topic }

// config is a configuration with one flow from source to target. The topics are regular expressions.
func (p *pair) config(topics ...string) daemon.Map {
	return daemon.Map{
		"clusters": daemon.Map{
			"source": daemon.Map{"brokers": p.source.Addrs()},
			"target": daemon.Map{"brokers": p.target.Addrs()},
		},
		"flows": []daemon.Map{{"source": "source", "target": "target", "topics": topics}},
	}
}

// milena is a daemon under test.
type milena struct {
	*daemon.Daemon
	t *testing.T
}

// newMilena is a daemon with this configuration, not started yet. Its directory is called name, which must differ between
// daemons of a test.
func (p *pair) newMilena(name string, config daemon.Map) *milena {
	p.t.Helper()
	bin, err := buildMilena()
	check(p.t, err)
	d, err := daemon.New(p.t.Context(), bin, filepath.Join(p.dir, name), config)
	check(p.t, err)
	return p.failOnCrash(name, d)
}

// newMilenaFromFile is a daemon with a configuration file of the caller's, such as an mm2.properties.
func (p *pair) newMilenaFromFile(name, file string, args ...string) *milena {
	p.t.Helper()
	bin, err := buildMilena()
	check(p.t, err)
	d, err := daemon.NewFromFile(p.t.Context(), bin, filepath.Join(p.dir, name), file, args...)
	check(p.t, err)
	return p.failOnCrash(name, d)
}

// failOnCrash makes the test fail at its end if the daemon has printed a data race or a stack trace.
func (p *pair) failOnCrash(name string, d *daemon.Daemon) *milena {
	m := &milena{d, p.t}
	p.t.Cleanup(func() {
		out := m.Output()
		if strings.Contains(out, "DATA RACE") {
			p.t.Errorf("%s: the race detector has found a data race", name)
		}
		if i := regexp.MustCompile(`(?m)^(panic:|fatal error:|goroutine \d+ \[)`).FindStringIndex(out); i != nil {
			p.t.Errorf("%s ended with a stack trace:\n%.4000s", name, out[i[0]:])
		}
		if p.t.Failed() {
			p.t.Logf("%s:\n%s", name, m.Tail(60))
		}
	})
	return m
}

// startMilena starts a daemon and waits until it is ready.
func (p *pair) startMilena(config daemon.Map) *milena {
	p.t.Helper()
	m := p.newMilena("milena", config)
	m.start()
	m.waitReady(30 * time.Second)
	return m
}

func (m *milena) start() {
	m.t.Helper()
	check(m.t, m.Start(m.t.Context()))
}

func (m *milena) waitReady(d time.Duration) time.Duration {
	m.t.Helper()
	start := time.Now()
	if err := m.WaitReady(within(m.t, d, "milena is ready")); err != nil {
		m.diagnose()
		m.t.Fatal(err)
	}
	return time.Since(start)
}

// diagnose logs why milena is not ready and writes its goroutine stacks to a file beside its log, for tests that fail because something is slow.
func (m *milena) diagnose() {
	m.t.Helper()
	notReady, stacks := m.Diagnose(context.WithoutCancel(m.t.Context()))
	file := filepath.Join(filepath.Dir(m.Config()), fmt.Sprintf("stacks-%s.txt", time.Now().Format("150405")))
	if err := os.WriteFile(file, []byte(stacks), 0o644); err != nil {
		m.t.Error(err)
	}
	m.t.Logf("/readyz: %.1000s\nstacks: %s", notReady, file)
}

// stop ends the daemon with SIGTERM, as a service manager does. Its exit code must be 0.
func (m *milena) stop() {
	m.t.Helper()
	start := time.Now()
	code, err := m.Stop(within(m.t, 40*time.Second, "milena stops"))
	check(m.t, err)
	m.t.Logf("stopped cleanly in %.2f s", time.Since(start).Seconds())
	if code != 0 {
		m.t.Errorf("exit code %d after SIGTERM\n%s", code, m.Tail(20))
	}
}

// waitExit waits until the daemon exits without a signal, with exit code want.
func (m *milena) waitExit(d time.Duration, want int) {
	m.t.Helper()
	code, err := m.Process().Wait(within(m.t, d, "milena exits"))
	check(m.t, err)
	if code != want {
		m.t.Errorf("exit code %d, want %d\n%s", code, want, m.Tail(20))
	}
}

// partitions are the partitions in /status, without those of heartbeats. There are none if /status cannot be read.
func (m *milena) partitions() []daemon.Partition {
	m.t.Helper()
	all, err := m.Partitions(m.t.Context())
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(all, func(p daemon.Partition) bool { return strings.HasSuffix(p.Topic, "heartbeats") })
}

// waitMetric waits until a metric is at least least. The labels are as for daemon.Metric.
func (m *milena) waitMetric(d time.Duration, least float64, name string, labels ...string) {
	m.t.Helper()
	check(m.t, m.Until(within(m.t, d, fmt.Sprintf("%s%v is at least %v", name, labels, least)), 50*time.Millisecond, func() (bool, string) {
		v, err := m.Metric(m.t.Context(), name, labels...)
		return err == nil && v >= least, fmt.Sprintf("%v, %v", v, err)
	}))
}

// waitCopied reads the ends of the topics on the source and waits until milena has acknowledged everything below them. It returns the ends.
func (p *pair) waitCopied(m *milena, d time.Duration, topics ...string) map[string]verify.Ends {
	p.t.Helper()
	ends := map[string]verify.Ends{}
	for _, topic := range topics {
		e, err := verify.ReadEnds(p.t.Context(), p.sourceClient, topic)
		check(p.t, err)
		ends[topic] = e
	}
	check(p.t, m.Until(within(p.t, d, "everything is copied"), 50*time.Millisecond, func() (bool, string) {
		all, err := m.Partitions(p.t.Context())
		if err != nil {
			return false, err.Error()
		}
		acked := map[string]map[int32]daemon.Partition{}
		for _, part := range all {
			if acked[part.Topic] == nil {
				acked[part.Topic] = map[int32]daemon.Partition{}
			}
			acked[part.Topic][part.Partition] = part
		}
		var behind int
		var example string
		for topic, e := range ends {
			for partition, end := range e.End {
				part, ok := acked[topic][partition]
				switch {
				case !ok && end > e.Start[partition]:
					behind++
					example = fmt.Sprintf("%s[%d] is not in /status", topic, partition)
				case part.Acked < end && end > e.Start[partition]:
					behind++
					example = fmt.Sprintf("%s[%d] is at %d of %d, %s", topic, partition, part.Acked, end, part.State)
					if part.Anomaly != nil {
						example += fmt.Sprintf(", anomaly %+v", *part.Anomaly)
					}
				}
			}
		}
		return behind == 0, fmt.Sprintf("%d partitions are behind, for example %s", behind, example)
	}))
	return ends
}

// verify compares topics with their copies and fails the test with the first differences. It returns how many records are equal.
func (p *pair) verify(name func(string) string, topics ...string) int64 {
	p.t.Helper()
	return p.runVerifier(verify.Options{Topics: topics, Name: name})
}

// verifyWhileWriting waits until the records that the source holds now are copied, and verifies those, while producers keep writing.
func (p *pair) verifyWhileWriting(m *milena, d time.Duration, topics ...string) {
	p.t.Helper()
	p.runVerifier(verify.Options{Topics: topics, Name: remoteTopic, Until: p.waitCopied(m, d, topics...)})
}

func (p *pair) runVerifier(o verify.Options) int64 {
	p.t.Helper()
	report, err := verify.Run(within(p.t, 5*time.Minute, "the verifier ends"), p.sourceClient, p.targetClient, o)
	check(p.t, err)
	p.t.Logf("verified: %d partitions, %d records, %d MB equal, in %.1f s", report.Partitions, report.Records, report.Bytes/1e6, report.Took.Seconds())
	if n := len(report.Differences); n > 0 {
		p.t.Errorf("%d partitions differ:\n%s", n, strings.Join(report.Differences[:min(n, 5)], "\n"))
	}
	return report.Records
}

// waitAndVerify waits until everything is copied, verifies it, and checks that at least atLeast records are equal.
func (p *pair) waitAndVerify(m *milena, d time.Duration, atLeast int64, topics ...string) {
	p.t.Helper()
	p.waitCopied(m, d, topics...)
	if n := p.verify(remoteTopic, topics...); n < atLeast {
		p.t.Errorf("%d records are equal, want at least %d", n, atLeast)
	}
}

// in is the same pair for a sub-test: daemons, writers and failures belong to the sub-test, the clusters do not.
func (p *pair) in(t *testing.T) *pair {
	sub := *p
	sub.t, sub.dir = t, dir(t)
	return &sub
}

func itoa(n int) string { return strconv.Itoa(n) }

// askJava prints what Kafka's MirrorClient finds on a cluster about a source, and the translated offsets of groups.
func askJava(t *testing.T, c *kafka.Cluster, source string, groups ...string) string {
	t.Helper()
	args := append([]string{strings.Join(c.Addrs(), ","), source}, groups...)
	out, err := c.Jars().Tool(within(t, time.Minute, "the Java program ends"), filepath.Join("testdata", "Mirror.java"), args...)
	check(t, err)
	return string(out)
}
