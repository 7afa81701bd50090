package e2e_test

import (
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/proxy"
)

// unknownWithin is how soon milena says that it does not know the lag of partitions whose source does not answer, on a machine that has other work.
const unknownWithin = 90 * time.Second

// signals is what a user sees of a milena at one moment. All of them must agree.
type signals struct {
	readyz     int
	statusCode int    // exit code of milena status
	status     string // its output
	flow       daemon.Status
}

// signals asks for everything that a user may look at.
func (m *milena) signals() (s signals, err error) {
	m.t.Helper()
	ctx := m.t.Context()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.URL()+"/readyz", nil)
	check(m.t, err)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return s, err
	}
	s.readyz = resp.StatusCode
	check(m.t, resp.Body.Close())
	cmd := exec.CommandContext(ctx, m.Binary(), "status", "--url", m.URL())
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		m.t.Fatal(err)
	}
	s.status, s.statusCode = string(out), cmd.ProcessState.ExitCode()
	flows, err := m.Status(ctx)
	if err == nil && len(flows) == 1 {
		s.flow = flows[0]
	}
	return s, err
}

// waitSignals waits until ok accepts the signals, and returns them.
func (m *milena) waitSignals(d time.Duration, what string, ok func(signals) bool) (s signals) {
	m.t.Helper()
	check(m.t, m.Until(within(m.t, d, what), 200*time.Millisecond, func() (bool, string) {
		var err error
		s, err = m.signals()
		return err == nil && ok(s), fmt.Sprintf("/readyz %d, not ready: %q, status exits %d:\n%.2000s", s.readyz, s.flow.NotReady, s.statusCode, s.status)
	}))
	return s
}

// isBad reports whether readiness and the exit code of milena status say that something is wrong.
func (s signals) isBad() bool {
	return s.readyz == http.StatusServiceUnavailable && s.statusCode == 1 && !s.flow.Ready
}

// isGood reports whether they say that all is well.
func (s signals) isGood() bool { return s.readyz == http.StatusOK && s.statusCode == 0 && s.flow.Ready }

// in is the daemon in a part of its test.
func (m *milena) in(t *testing.T) *milena { return &milena{m.Daemon, t} }

// metric is the value of a metric, 0 if it has no series.
func (m *milena) metric(name string, labels ...string) float64 {
	m.t.Helper()
	v, err := m.Metric(m.t.Context(), name, labels...)
	if err != nil {
		return 0
	}
	return v
}

// Whatever keeps a part of the source from being copied, check, run, /readyz, milena status and the metrics say so, and agree.
func TestNothingWantedIsInvisible(t *testing.T) {
	p := startPair(t, kafka.Options{Brokers: 2, Proxied: true}, kafka.Options{})
	p.createTopic("orders", 4, 1)
	w := p.writer(load.Options{Topic: "orders", Partitions: 4})
	check(t, w.Write(t.Context(), 400))
	config := p.config("orders", "long-.*")
	config["clusters"].(daemon.Map)["source"] = daemon.Map{"brokers": p.source.ProxyAddrs()[:1]}
	unreachable := p.partitionsOf(t, "orders", 2)
	if len(unreachable) == 0 || len(unreachable) == 4 {
		t.Fatalf("broker 2 leads %d of 4 partitions", len(unreachable))
	}

	check(t, p.source.Broker(2).Proxy().Set(t.Context(), proxy.Refuse))
	code, out := p.runVerb(t, "check", config)
	if code != 0 {
		t.Errorf("check: exit code %d\n%s", code, out)
	}
	matchLine(t, out, `warning: broker 2 \(127\.0\.0\.1:\d+\) of the source, cluster source, cannot be reached from here`)
	m := p.newMilena("milena", config)
	m.start()
	t.Run("a source broker that cannot be reached at the start", func(t *testing.T) { p.in(t).seesUnreachableBroker(m.in(t), unreachable) })
	check(t, p.source.Broker(2).Proxy().Set(t.Context(), proxy.Pass))
	m.waitSignals(time.Minute, "all is well when the broker can be reached", signals.isGood)
	p.waitAndVerify(m, time.Minute, w.Acked(), "orders")

	t.Run("a topic that must not be copied", func(t *testing.T) { p.in(t).seesTopicNotCopied(m.in(t), config) })
	t.Run("a source that dies", func(t *testing.T) { p.in(t).seesDeadSource(m.in(t), w) })
	t.Run("a source that is down at the start", func(t *testing.T) { p.in(t).followsLateCluster(m.in(t), w, p.source, 10*time.Second) })
	t.Run("a target that is down at the start", func(t *testing.T) { p.in(t).followsLateCluster(m.in(t), w, p.target, 5*time.Second) })
	m.stop()
}

// partitionsOf are the partitions of a source topic that a broker leads.
func (p *pair) partitionsOf(t *testing.T, topic string, broker int32) (led []int32) {
	t.Helper()
	topics, err := p.sourceAdmin.ListTopics(t.Context(), topic)
	check(t, err)
	for _, partition := range topics[topic].Partitions.Sorted() {
		if partition.Leader == broker {
			led = append(led, partition.Partition)
		}
	}
	return led
}

func (p *pair) seesUnreachableBroker(m *milena, unreachable []int32) {
	line := regexp.MustCompile(`orders +[\d-]+ +waiting +source broker 2 \(127\.0\.0\.1:\d+\) leads the partition and cannot be reached from here`)
	m.waitSignals(time.Minute, "the partitions of the broker wait and say why, and the others are copied", func(s signals) bool {
		waiting, copied := 0, 0
		for _, part := range s.flow.Partitions {
			switch {
			case part.Topic != "orders":
			case slices.Contains(unreachable, part.Partition):
				if part.State == "waiting" && part.LagRecords == nil {
					waiting++
				}
			case part.State == "replicating" && part.Acked > 0 && part.LagRecords != nil && *part.LagRecords == 0:
				copied++
			}
		}
		return waiting == len(unreachable) && copied == 4-len(unreachable) &&
			s.isBad() && line.MatchString(s.status) && !strings.Contains(s.status, "no partition needs attention")
	})
	eventually(p.t, time.Minute, "the metrics agree", func() (bool, string) {
		waiting := m.metric("milena_partition_waiting", `topic="orders"`, `reason="source_unreachable"`)
		ready, unknown := m.metric("milena_ready"), m.metric("milena_lag_unknown_partitions")
		return waiting == float64(len(unreachable)) && ready == 0 && unknown >= float64(len(unreachable)),
			fmt.Sprintf("milena_partition_waiting counts %v of %d, milena_ready is %v, milena_lag_unknown_partitions %v", waiting, len(unreachable), ready, unknown)
	})
}

// seesTopicNotCopied creates a topic whose name is too long for its copy. That is no reason not to be ready, and not to be overlooked.
func (p *pair) seesTopicNotCopied(m *milena, config daemon.Map) {
	long := "long-" + strings.Repeat("x", 240)
	p.createTopic(long, 2, 1)
	m.waitSignals(time.Minute, "the topic is shown, and milena is ready", func(s signals) bool {
		return strings.Contains(s.status, long) && s.readyz == http.StatusOK && s.statusCode == 1 && !strings.Contains(s.status, "no partition needs attention")
	})
	eventually(p.t, time.Minute, "milena_topics_not_copied is 1", func() (bool, string) {
		n := m.metric("milena_topics_not_copied")
		return n == 1, fmt.Sprint(n)
	})
	if code, out := p.runVerb(p.t, "check", config); code != 1 || !strings.Contains(out, "refused: topic "+long) {
		p.t.Errorf("check: exit code %d\n%s", code, out)
	}
	_, err := p.sourceAdmin.DeleteTopic(p.t.Context(), long)
	check(p.t, err)
	m.waitSignals(time.Minute, "all is well without the topic", signals.isGood)
}

func (p *pair) seesDeadSource(m *milena, w *load.Writer) {
	for _, b := range p.source.Brokers() {
		b.Kill()
	}
	killed := time.Now()
	known := func(part daemon.Partition) bool { return part.LagRecords != nil }
	s := m.waitSignals(unknownWithin, "not ready, and no lag is known", func(s signals) bool {
		return s.isBad() && strings.Contains(s.status, "lag unknown") && len(s.flow.Partitions) >= 4 && !slices.ContainsFunc(s.flow.Partitions, known)
	})
	p.t.Logf("not ready %.1f s after the source died: %.300q", time.Since(killed).Seconds(), s.flow.NotReady)
	eventually(p.t, time.Minute, "the metrics agree", func() (bool, string) {
		_, err := m.Metric(p.t.Context(), "milena_lag_records")
		ready, unknown := m.metric("milena_ready"), m.metric("milena_lag_unknown_partitions")
		return err != nil && ready == 0 && unknown >= 4,
			fmt.Sprintf("milena_ready is %v, milena_lag_unknown_partitions %v, milena_lag_records has a series: %v", ready, unknown, err == nil)
	})
	for _, b := range p.source.Brokers() {
		check(p.t, b.Restart(p.owner.Context()))
	}
	check(p.t, p.source.WaitBrokers(p.t.Context(), len(p.source.Brokers())))
	check(p.t, w.Write(p.t.Context(), 100))
	p.waitAndVerify(m, time.Minute, w.Acked(), "orders")
	m.waitSignals(time.Minute, "all is well again", signals.isGood)
}

// followsLateCluster starts milena while a cluster is down. When it comes back, records are copied within seconds.
func (p *pair) followsLateCluster(m *milena, w *load.Writer, late *kafka.Cluster, after time.Duration) {
	m.stop()
	check(p.t, w.Write(p.t.Context(), 100))
	for _, b := range late.Brokers() {
		b.Kill()
	}
	ctx := p.owner.Context() // processes outlive this part of the test
	m.in(p.owner).start()
	pause(p.t, after)
	m.waitSignals(time.Minute, "a cluster is down, and milena says so", signals.isBad)
	for _, b := range late.Brokers() {
		check(p.t, b.Restart(ctx))
	}
	check(p.t, late.WaitBrokers(ctx, len(late.Brokers())))
	back := time.Now()
	m.waitMetric(30*time.Second, 1, "milena_records_total", `topic="orders"`) // seconds, not minutes
	p.t.Logf("the first records are copied %.1f s after the cluster answers", time.Since(back).Seconds())
	p.waitAndVerify(m, time.Minute, w.Acked(), "orders")
}

// A login that is changed on the source while milena runs is noticed when the connections end, and heals without a restart.
func TestLoginIsChangedWhileMilenaRuns(t *testing.T) {
	s := startSecured(t)
	s.createTopic("secure", 2, 1)
	s.w = s.writer(load.Options{Topic: "secure", Partitions: 2})
	check(t, s.w.Write(t.Context(), 200))
	m := s.startMilena(s.configOf(s.cluster(s.source, "SCRAM-SHA-512", nil), s.cluster(s.target, "PLAIN", nil)))
	s.waitAndVerify(m, 30*time.Second, s.w.Acked(), "secure")
	s.setPassword(t, "another password")
	s.source.Broker(1).Kill()
	check(t, s.source.Broker(1).Restart(t.Context()))
	check(t, s.source.WaitBrokers(t.Context(), 1))
	check(t, s.w.Write(t.Context(), 50))
	state := m.waitSignals(unknownWithin, "not ready, and the reason is the login", func(s signals) bool {
		return s.isBad() && strings.Contains(s.status, "lag unknown") && strings.Contains(s.status, `rejected user "milena"`)
	})
	t.Logf("%.500s", state.status)
	m.waitMetric(time.Minute, 2, "milena_lag_unknown_partitions")
	s.setPassword(t, saslPassword)
	m.waitSignals(time.Minute, "all is well with the old password", signals.isGood)
	s.waitAndVerify(m, time.Minute, s.w.Acked(), "secure")
	m.stop()
}

// setPassword changes the SCRAM password of milena's user on the source.
func (s *secured) setPassword(t *testing.T, password string) {
	t.Helper()
	done, err := s.sourceAdmin.AlterUserSCRAMs(t.Context(), nil, []kadm.UpsertSCRAM{{
		User: "milena", Mechanism: kadm.ScramSha512, Iterations: 4096, Password: password,
	}})
	check(t, err)
	check(t, done.Error())
}
