package versions

import (
	"context"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/verify"
)

// scene is two clusters and the topics that are copied between them.
type scene struct {
	t                          *testing.T
	source, target             *kafka.Cluster
	sourceClient, targetClient *kgo.Client
	milena                     *daemon.Daemon
	topics                     []string
}

// The topics of a scene. Topic old exists if the source knows record format v1.
const (
	plain        = "plain"
	compacted    = "compacted"
	transactions = "transactions"
	old          = "old"
)

func newScene(t *testing.T, o Options, source, target kafka.Options) *scene {
	t.Helper()
	s := &scene{t: t}
	source.Name, target.Name = "source", "target"
	source.Dir, target.Dir = o.Dir, o.Dir
	began := time.Now()
	clusters, err := kafka.StartAll(t.Context(), o.Jars, source, target)
	s.check(err)
	t.Logf("both clusters started in %.1f s", time.Since(began).Seconds())
	s.source, s.target = clusters[0], clusters[1]
	s.sourceClient, s.targetClient = s.client(s.source), s.client(s.target)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("source brokers:\n%s\ntarget brokers:\n%s", s.source.Tail(15), s.target.Tail(15))
		}
	})
	return s
}

func remote(topic string) string { return "source." + topic }

func (s *scene) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) within(d time.Duration, what string) context.Context {
	s.t.Helper()
	ctx, cancel := context.WithTimeoutCause(s.t.Context(), d, fmt.Errorf("not within %v: %s", d, what))
	s.t.Cleanup(cancel)
	return ctx
}

// until calls done every 50 ms until it returns true. The state that done returned last is part of the failure.
func (s *scene) until(d time.Duration, what string, done func() (bool, string)) {
	s.t.Helper()
	ctx := s.within(d, what)
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
			s.t.Fatalf("%v; last state: %s", context.Cause(ctx), state)
		}
	}
}

func (s *scene) client(c *kafka.Cluster, opts ...kgo.Opt) *kgo.Client {
	s.t.Helper()
	cl, err := c.Client(opts...)
	s.check(err)
	s.t.Cleanup(cl.Close)
	return cl
}

func (s *scene) createTopic(name string, partitions int, replicas int16, configs ...string) {
	s.t.Helper()
	s.check(kafka.CreateTopic(s.t.Context(), kadm.NewClient(s.sourceClient), name, partitions, replicas, configs...))
	s.topics = append(s.topics, name)
}

func (s *scene) writer(o load.Options) *load.Writer {
	s.t.Helper()
	w, err := load.New(s.source, o)
	s.check(err)
	s.t.Cleanup(w.Close)
	return w
}

// newMilena prepares a milena that copies all topics of the scene, with more settings of the flow.
func (s *scene) newMilena(o Options, settings daemon.Map) {
	s.t.Helper()
	s.newMilenaOf(o, s.source.Addrs(), settings)
}

// newMilenaOf is newMilena with the addresses of another source.
func (s *scene) newMilenaOf(o Options, source []string, settings daemon.Map) {
	s.t.Helper()
	flow := daemon.Map{"source": "source", "target": "target", "topics": s.topics, "groups_interval": "200ms"}
	maps.Copy(flow, settings)
	var err error
	s.milena, err = daemon.New(s.t.Context(), o.Binary, filepath.Join(o.Dir, "milena"), daemon.Map{
		"clusters": daemon.Map{"source": daemon.Map{"brokers": source}, "target": daemon.Map{"brokers": s.target.Addrs()}},
		"flows":    []daemon.Map{flow},
	})
	s.check(err)
	s.t.Cleanup(func() {
		out := s.milena.Output()
		if i := regexp.MustCompile(`(?m)^(panic:|fatal error:|goroutine \d+ \[|WARNING: DATA RACE)`).FindStringIndex(out); i != nil {
			s.t.Errorf("milena ended with a stack trace:\n%.4000s", out[i[0]:])
		}
		if s.t.Failed() {
			s.t.Logf("milena:\n%s", s.milena.Tail(40))
		}
	})
}

func (s *scene) startMilena() {
	s.t.Helper()
	s.check(s.milena.Start(s.t.Context()))
	s.waitReady()
}

func (s *scene) waitReady() {
	s.t.Helper()
	s.check(s.milena.WaitReady(s.within(time.Minute, "milena is ready")))
}

// stopMilena ends milena as a service manager does.
func (s *scene) stopMilena() {
	s.t.Helper()
	if code, err := s.milena.Stop(s.within(time.Minute, "milena stops")); err != nil || code != 0 {
		s.t.Errorf("after SIGTERM: exit code %d, %v\n%s", code, err, s.milena.Tail(20))
	}
}

// verb runs a verb of milena and returns its exit code and output.
func (s *scene) verb(name string, args ...string) (code int, output string) {
	s.t.Helper()
	cmd := exec.CommandContext(s.within(time.Minute, name+" ends"), s.milena.Binary(), append([]string{name}, args...)...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		s.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// wantText fails the test unless output has all of these texts, and rejectText if it has one of them.
func (s *scene) wantText(where, output string, texts ...string) {
	s.t.Helper()
	for _, text := range texts {
		if !strings.Contains(output, text) {
			s.t.Errorf("%s does not say %q:\n%s", where, text, output)
		}
	}
}

func (s *scene) rejectText(where, output string, texts ...string) {
	s.t.Helper()
	for _, text := range texts {
		if strings.Contains(output, text) {
			s.t.Errorf("%s says %q:\n%s", where, text, output)
		}
	}
}

// waitMetric waits until a metric is at least least.
func (s *scene) waitMetric(least float64, name string, labels ...string) {
	s.t.Helper()
	s.check(s.milena.Until(s.within(time.Minute, fmt.Sprintf("%s%v is at least %v", name, labels, least)), 50*time.Millisecond, func() (bool, string) {
		v, err := s.milena.Metric(s.t.Context(), name, labels...)
		return err == nil && v >= least, fmt.Sprintf("%v, %v", v, err)
	}))
}

// waitProgress waits until every partition of topic plain has acknowledged more than now.
func (s *scene) waitProgress() {
	s.t.Helper()
	ends := s.ends(plain)
	s.check(s.milena.Until(s.within(time.Minute, "each partition progresses"), 50*time.Millisecond, func() (bool, string) { return s.isBeyond(map[string]verify.Ends{plain: ends}) }))
}

func (s *scene) ends(topic string) verify.Ends {
	s.t.Helper()
	e, err := verify.ReadEnds(s.t.Context(), s.sourceClient, topic)
	s.check(err)
	return e
}

// waitCopied waits until everything that the source holds now is copied.
func (s *scene) waitCopied() {
	s.t.Helper()
	ends := make(map[string]verify.Ends)
	for _, topic := range s.topics {
		ends[topic] = s.ends(topic)
	}
	s.check(s.milena.Until(s.within(time.Minute, "everything is copied"), 50*time.Millisecond, func() (bool, string) { return s.isBeyond(ends) }))
}

// isBeyond reports whether the copies have reached the ends of these topics.
func (s *scene) isBeyond(ends map[string]verify.Ends) (bool, string) {
	all, err := s.milena.Partitions(s.t.Context())
	if err != nil {
		return false, err.Error()
	}
	missing := 0
	for _, e := range ends {
		missing += len(e.End)
	}
	var state string
	for _, p := range all {
		end, ok := ends[p.Topic].End[p.Partition]
		switch {
		case !ok:
		case p.Acked >= end:
			missing--
		default:
			state = fmt.Sprintf("%s[%d] is %s at %d of %d, waits for %+v, anomaly %+v", p.Topic, p.Partition, p.State, p.Acked, end, p.Wait, p.Anomaly)
		}
	}
	return missing == 0, fmt.Sprintf("%d partitions are behind, for example %s", missing, state)
}

// verify compares all topics with their copies: nothing is missing, nothing is there twice, and milena has nothing to report.
func (s *scene) verify(atLeast int64) int64 {
	s.t.Helper()
	s.waitCopied()
	report, err := verify.Run(s.within(2*time.Minute, "the verifier ends"), s.sourceClient, s.targetClient, verify.Options{Topics: s.topics, Name: remote})
	s.check(err)
	for _, d := range report.Differences {
		s.t.Error(d)
	}
	if report.Records < atLeast {
		s.t.Errorf("%d records are equal, want at least %d", report.Records, atLeast)
	}
	all, err := s.milena.Partitions(s.t.Context())
	s.check(err)
	for _, p := range all {
		if p.State != "replicating" || len(p.Gaps) > 0 {
			s.t.Errorf("%s[%d] is %s: %+v, %+v, gaps %+v", p.Topic, p.Partition, p.State, p.Anomaly, p.Wait, p.Gaps)
		}
	}
	if n, err := s.milena.Metric(s.t.Context(), "milena_anomalies_total"); err == nil && n > 0 {
		s.t.Errorf("%v anomalies", n)
	}
	return report.Records
}
