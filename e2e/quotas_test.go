package e2e_test

import (
	"context"
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
	altered, err := admin.AlterClientQuotas(context.WithoutCancel(t.Context()), []kadm.AlterClientQuotaEntry{{
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

const (
	quota           = 1 << 20 // bytes per second
	quotaPartitions = 64      // one per shard, so that each journal write is many records
	quotaRecords    = 3 << 7  // of 1 KiB, per partition and step
	quotaBytes      = quotaRecords * quotaPartitions << 10
)

// quotas is a flow whose clusters throttle milena in turn.
type quotas struct {
	*pair
	m         *milena
	w         *load.Writer
	takeovers float64 // of the start
}

// With a quota, milena copies at the rate of the quota and reports the throttling, and nothing else happens: brokers delay throttled clients,
// they refuse nothing (KIP-13, KIP-219).
func TestQuotasAreRespected(t *testing.T) {
	q := &quotas{pair: startPair(t, kafka.Options{}, kafka.Options{})}
	q.createTopic("orders", quotaPartitions, 1)
	q.w = q.writer(load.Options{Topic: "orders", Partitions: quotaPartitions, Codec: "none"})
	config := q.config("orders")
	config["flows"].([]daemon.Map)[0]["lease"] = "10s" // a quota mutes connections for longer
	q.m = q.startMilena(config)
	q.waitStarted()
	t.Run("request_percentage", func(t *testing.T) { long(t); q.requestPercentage(t) })
	t.Run("target", func(t *testing.T) { q.byteRate(t, "target", "producer_byte_rate", q.targetAdmin) })
	t.Run("source", func(t *testing.T) { long(t); q.byteRate(t, "source", "consumer_byte_rate", q.sourceAdmin) })
	t.Run("without quotas", func(t *testing.T) { long(t); q.withoutQuotas(t) })
	q.waitCopied(q.m, time.Minute, "orders") // what was throttled last may still be on its way
	q.verify(remoteTopic, "orders")
	q.m.stop()
}

// waitStarted waits until all parts of the flow work, heartbeats last.
func (q *quotas) waitStarted() {
	q.t.Helper()
	check(q.t, q.w.Write(q.t.Context(), 1))
	q.waitCopied(q.m, 30*time.Second, "orders")
	eventually(q.t, 30*time.Second, "heartbeats are copied", func() (bool, string) {
		all, err := q.m.Partitions(q.t.Context())
		check(q.t, err)
		return slices.ContainsFunc(all, func(p daemon.Partition) bool { return p.Topic == "heartbeats" && p.Acked > 0 }), fmt.Sprint(all)
	})
	var err error
	q.takeovers, err = q.m.Metric(q.t.Context(), "milena_takeovers_total")
	check(q.t, err)
}

// ready fails the test if the flow is not ready.
func (q *quotas) ready(t *testing.T) bool {
	t.Helper()
	all, err := q.m.Status(t.Context())
	check(t, err)
	if !all[0].Ready {
		t.Errorf("not ready: %v", all[0].NotReady)
	}
	return all[0].Ready
}

func (q *quotas) copiedBytes(t *testing.T) float64 {
	t.Helper()
	n, err := q.m.Metric(t.Context(), "milena_bytes_total", `topic="orders"`)
	check(t, err)
	return n
}

// byteRate sets a byte rate on one side, far below the rate of the last seconds, and measures the rate at which milena copies. A broker delays
// the next answers until the average of its window is below the quota again, here for longer than the lease.
func (q *quotas) byteRate(t *testing.T, side, key string, admin *kadm.Client) {
	setQuota(t, admin, key, quota<<10) // brokers measure nothing before the first quota
	check(t, q.w.Write(t.Context(), quotaRecords))
	q.waitCopied(q.m, time.Minute, "orders")
	setQuota(t, admin, key, quota)
	t.Cleanup(func() { setQuota(t, admin, key, 0) }) // with it, the next ones would fail too
	before := q.copiedBytes(t)
	check(t, q.w.Write(t.Context(), quotaRecords))
	q.m.waitMetric(time.Minute, 1, "milena_throttled_seconds_total", fmt.Sprintf("cluster=%q", side))
	// Brokers average over ten seconds, so the quota of ten seconds may have been used up by now.
	start, from := time.Now(), q.copiedBytes(t)
	status := ""
	eventually(t, 2*time.Minute, "everything is copied", func() (bool, string) {
		if s := throttledBy(t, q.m, side); s != nil && s.LastMinute > 1 {
			status = s.Text
		}
		n := q.copiedBytes(t) - before
		return !q.ready(t) || n >= quotaBytes, fmt.Sprintf("%.1f MB of %.1f", n/1e6, float64(quotaBytes)/1e6)
	})
	took := time.Since(start).Seconds()
	rate := (q.copiedBytes(t) - from) / took
	t.Logf("%s: %.2f MB/s over %.1f s with a quota of %.2f MB/s; status: %s", side, rate/1e6, took, quota/1e6, status)
	if rate > 2*quota || rate < quota/4 {
		t.Errorf("%.2f MB/s is far from the quota", rate/1e6)
	}
	q.reportsThrottling(t, side, status)
	noFaults(t, q.m, q.takeovers)
}

// reportsThrottling checks /status, milena status and the log.
func (q *quotas) reportsThrottling(t *testing.T, side, status string) {
	t.Helper()
	want := "throttled by " + side + " broker 1: "
	if !strings.HasPrefix(status, want) {
		t.Errorf("status: %q", status)
	}
	out, err := exec.CommandContext(t.Context(), q.m.Binary(), "status", "--url", q.m.URL()).Output()
	check(t, err)
	if !strings.Contains(string(out), want) {
		t.Errorf("milena status prints\n%s", out)
	}
	if n := strings.Count(q.m.Output(), "a quota throttles the flow\" flow=source-target side="+side); n != 1 {
		t.Errorf("the throttling is logged %d times\n%s", n, q.m.Tail(10))
	}
}

func (q *quotas) requestPercentage(t *testing.T) {
	before, err := q.m.Metric(t.Context(), "milena_throttled_seconds_total", `cluster="target"`)
	check(t, err)
	setQuota(t, q.targetAdmin, "request_percentage", 0.5) // of one thread
	t.Cleanup(func() { setQuota(t, q.targetAdmin, "request_percentage", 0) })
	check(t, q.w.Write(t.Context(), quotaRecords))
	q.waitCopied(q.m, 2*time.Minute, "orders")
	q.m.waitMetric(time.Minute, before+0.1, "milena_throttled_seconds_total", `cluster="target"`)
	q.ready(t)
	noFaults(t, q.m, q.takeovers)
}

func (q *quotas) withoutQuotas(t *testing.T) {
	eventually(t, 2*time.Minute, "the end of the first throttling is logged", func() (bool, string) {
		return strings.Contains(q.m.Output(), "quota throttling has ended\" flow=source-target side=target"), q.m.Tail(5)
	})
	if target := throttledBy(t, q.m, "target"); target != nil {
		t.Errorf("the status still has %+v", target)
	}
	start := time.Now()
	check(t, q.w.Write(t.Context(), quotaRecords))
	q.waitCopied(q.m, time.Minute, "orders")
	took := time.Since(start).Seconds()
	t.Logf("%.1f MB/s, including the write", quotaBytes/1e6/took)
	if took > quotaBytes/quota/2 {
		t.Errorf("took %.1f s, as if the quota were still set", took)
	}
	noFaults(t, q.m, q.takeovers)
}
