package e2e_test

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
)

// setQuota sets a quota for milena's default client id; 0 removes it.
func setQuota(t *testing.T, admin *kadm.Client, key string, value float64) {
	t.Helper()
	id := "milena"
	altered, err := admin.AlterClientQuotas(t.Context(), []kadm.AlterClientQuotaEntry{{
		Entity: kadm.ClientQuotaEntity{{Type: "client-id", Name: &id}},
		Ops:    []kadm.AlterClientQuotaOp{{Key: key, Value: value, Remove: value == 0}},
	}})
	check(t, err)
	for _, a := range altered {
		check(t, a.Err)
	}
}

// throttledBy is how /status describes the throttling by one side, or nil.
func throttledBy(t *testing.T, m *milena, side string) *daemon.Throttle {
	t.Helper()
	all, err := m.Status(t.Context())
	check(t, err)
	for _, s := range all {
		for i := range s.Throttled {
			if s.Throttled[i].Side == side {
				return &s.Throttled[i]
			}
		}
	}
	return nil
}

// noFaults fails the test if milena has treated throttling as a fault.
func noFaults(t *testing.T, m *milena, takeovers float64) {
	t.Helper()
	for _, name := range []string{"milena_doubts_total", "milena_anomalies_total", "milena_retries_total", "milena_request_errors_total", "milena_produce_errors_total"} {
		if n, err := m.Metric(t.Context(), name); err == nil && n > 0 {
			t.Errorf("%s is %v", name, n)
		}
	}
	if n, err := m.Metric(t.Context(), "milena_takeovers_total"); err != nil || n != takeovers {
		t.Errorf("%v takeovers, %v; want only the %v of the start", n, err, takeovers)
	}
	for line := range strings.Lines(m.Output()) {
		if strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR") {
			t.Errorf("logged: %s", line)
		}
	}
}

// milena copies at the rate of the quota and reports the throttling, and nothing else happens: brokers delay throttled clients, they refuse
// nothing (KIP-13, KIP-219).
func TestQuotasAreRespected(t *testing.T) {
	const (
		quota      = 1 << 20 // bytes a second
		partitions = 64      // one per shard, so that each journal write is many records
		perStep    = 3 << 7  // records of 1 KiB in each partition: 24 MiB
		bytes      = perStep * partitions << 10
	)
	p := startPair(t, kafka.Options{}, kafka.Options{})
	ctx := t.Context()
	p.createTopic("orders", partitions, 1)
	w := p.writer(load.Options{Topic: "orders", Partitions: partitions, Codec: "none"})
	m := p.startMilena(p.config("orders"))
	check(t, w.Write(ctx, 1))
	p.waitCopied(m, 30*time.Second, "orders")
	eventually(t, 30*time.Second, "heartbeats are copied; they start last", func() (bool, string) {
		all, err := m.Partitions(ctx)
		check(t, err)
		return slices.ContainsFunc(all, func(p daemon.Partition) bool { return p.Topic == "heartbeats" && p.Acked > 0 }), fmt.Sprint(all)
	})
	takeovers, err := m.Metric(ctx, "milena_takeovers_total")
	check(t, err)

	ready := func() bool {
		all, err := m.Status(ctx)
		check(t, err)
		if !all[0].Ready {
			t.Errorf("not ready: %v", all[0].NotReady)
		}
		return all[0].Ready
	}
	copiedBytes := func() float64 {
		n, err := m.Metric(ctx, "milena_bytes_total", `topic="orders"`)
		check(t, err)
		return n
	}
	for _, side := range []struct {
		name, key string
		admin     *kadm.Client
	}{{"target", "producer_byte_rate", p.targetAdmin}, {"source", "consumer_byte_rate", p.sourceAdmin}} {
		t.Run(side.name, func(t *testing.T) {
			setQuota(t, side.admin, side.key, quota)
			before := copiedBytes()
			check(t, w.Write(ctx, perStep))
			m.waitMetric(time.Minute, 1, "milena_throttled_seconds_total", fmt.Sprintf("cluster=%q", side.name))
			// Brokers average over ten seconds, so the quota of ten seconds may have been used up by now.
			began, from := time.Now(), copiedBytes()
			shown := ""
			eventually(t, 2*time.Minute, "everything is copied", func() (bool, string) {
				if s := throttledBy(t, m, side.name); s != nil && s.LastMinute > 1 {
					shown = s.Text
				}
				n := copiedBytes()
				return !ready() || n-before >= bytes, fmt.Sprintf("%.1f MB of %.1f", (n-before)/1e6, float64(bytes)/1e6)
			})
			took := time.Since(began).Seconds()
			rate := (copiedBytes() - from) / took
			t.Logf("%s: %.2f MB/s over %.1f s with a quota of %.2f MB/s; status: %s", side.name, rate/1e6, took, quota/1e6, shown)
			if rate > 2*quota || rate < quota/4 {
				t.Errorf("%.2f MB/s is far from the quota", rate/1e6)
			}
			if !strings.HasPrefix(shown, "throttled by "+side.name+" broker 1: ") {
				t.Errorf("status: %q", shown)
			}
			out, err := exec.CommandContext(ctx, m.Binary(), "status", "--url", m.URL()).Output()
			check(t, err)
			if !strings.Contains(string(out), "throttled by "+side.name+" broker 1: ") {
				t.Errorf("milena status prints\n%s", out)
			}
			if n := strings.Count(m.Output(), "a quota throttles the flow\" flow=source-target side="+side.name); n != 1 {
				t.Errorf("the throttling is logged %d times\n%s", n, m.Tail(10))
			}
			noFaults(t, m, takeovers)
			setQuota(t, side.admin, side.key, 0)
		})
	}
	t.Run("request_percentage", func(t *testing.T) {
		before, err := m.Metric(ctx, "milena_throttled_seconds_total", `cluster="target"`)
		check(t, err)
		setQuota(t, p.targetAdmin, "request_percentage", 0.5) // of one thread
		check(t, w.Write(ctx, perStep))
		p.waitCopied(m, 2*time.Minute, "orders")
		m.waitMetric(time.Minute, before+0.1, "milena_throttled_seconds_total", `cluster="target"`)
		ready()
		noFaults(t, m, takeovers)
		setQuota(t, p.targetAdmin, "request_percentage", 0)
	})
	t.Run("without quotas", func(t *testing.T) {
		eventually(t, 2*time.Minute, "the end of both throttlings is logged", func() (bool, string) {
			return strings.Count(m.Output(), "no quota throttles the flow any more") == 2, m.Tail(5)
		})
		if target, source := throttledBy(t, m, "target"), throttledBy(t, m, "source"); target != nil || source != nil {
			t.Errorf("the status still has %+v, %+v", target, source)
		}
		began := time.Now()
		check(t, w.Write(ctx, perStep))
		p.waitCopied(m, time.Minute, "orders")
		took := time.Since(began).Seconds()
		t.Logf("%.1f MB/s, including the write", bytes/1e6/took)
		if took > bytes/quota/2 {
			t.Errorf("took %.1f s, as if the quota were still set", took)
		}
		noFaults(t, m, takeovers)
	})
	p.verify(remoteTopic, "orders")
	m.stop()
}
