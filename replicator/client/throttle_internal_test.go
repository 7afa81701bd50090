package client

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A quota that lasts for ten minutes, on two connections that wait at the same time.
func TestThrottleIsLoggedWhenItBeginsAndWhenItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		throttles := NewThrottles(slog.New(slog.NewTextHandler(&log, nil)))
		seconds := prometheus.NewCounter(prometheus.CounterOpts{Name: "waited_seconds_total", Help: "Time."})
		hook := throttleHook{throttles, seconds, "target", "dr"}
		broker := kgo.BrokerMetadata{NodeID: 1}
		lines := func() int { return strings.Count(log.String(), "\n") }

		hook.OnBrokerThrottle(broker, 5*time.Millisecond, true)
		time.Sleep(2 * throttleMemory)
		throttles.sync(time.Now())
		if lines() != 0 || throttles.Status(time.Now()) != nil {
			t.Errorf("a short wait is logged: %s, %+v", log.String(), throttles.Status(time.Now()))
		}

		const step, rounds = 2 * time.Second, 300
		for range rounds {
			hook.OnBrokerThrottle(broker, time.Second, true)
			hook.OnBrokerThrottle(broker, time.Second, true)
			if left := throttles.Left("target", 1); left != time.Second || throttles.Left("target", 2) != 0 || throttles.Left("source", 1) != 0 {
				t.Fatalf("Left is %s", left)
			}
			if !throttles.Active("target") || throttles.Active("source") {
				t.Fatal("want the target active and the source not")
			}
			time.Sleep(step)
			throttles.sync(time.Now())
		}
		if throttles.Active("target") {
			t.Error("the target is active between two waits")
		}
		status := throttles.Status(time.Now())
		if len(status) != 1 || status[0].LastMinute != 30 || status[0].Text != "throttled by target broker 1: 30.0 s in the last minute" {
			t.Errorf("status is %+v", status)
		}
		if lines() != 1 || !strings.Contains(log.String(), "a quota throttles the flow") {
			t.Errorf("the log while it lasts:\n%s", log.String())
		}

		time.Sleep(throttleMemory)
		throttles.sync(time.Now())
		throttles.sync(time.Now())
		if lines() != 2 || !strings.Contains(log.String(), `quota throttling has ended" side=target cluster=dr broker=1 waited=5m0s`) {
			t.Errorf("the log after it has ended:\n%s", log.String())
		}
		if status := throttles.Status(time.Now()); status != nil {
			t.Errorf("status is %+v", status)
		}
		var counted dto.Metric
		if err := seconds.Write(&counted); err != nil || int(counted.GetCounter().GetValue()) != 2*rounds { // each connection counts
			t.Errorf("the counter is %v, error %v", &counted, err)
		}
	})
}

func TestThrottleStatusShowsTheTimeLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		throttles := NewThrottles(slog.New(slog.DiscardHandler))
		throttles.begin(throttledBy{"source", "primary", 3}, time.Now(), time.Now().Add(time.Hour))
		time.Sleep(30 * time.Minute)
		throttles.sync(time.Now())
		status := throttles.Status(time.Now())
		if len(status) != 1 || status[0].Text != "throttled by source broker 3: 60.0 s in the last minute, 1800 s to go" {
			t.Errorf("status is %+v", status)
		}
	})
}

func TestRequestsAreSmallWhileABrokerThrottles(t *testing.T) {
	const most = 64 << 10
	var p Pace
	if got := p.Of(most); got != most {
		t.Errorf("without a quota: %d bytes", got)
	}
	for range 3 {
		p.Answered(3000)
	}
	if got := p.Of(most); got != most/8 {
		t.Errorf("after three long waits: %d bytes", got)
	}
	p.Answered(500)
	if got := p.Of(most); got != most/8 {
		t.Errorf("after an acceptable wait: %d bytes", got)
	}
	for range 20 {
		p.Answered(60_000)
	}
	if got := p.Of(most); got != most/64 {
		t.Errorf("with a tiny quota: %d bytes", got)
	}
	p.Answered(0)
	if got := p.Of(most); got != most/32 {
		t.Errorf("after an answer without a wait: %d bytes", got)
	}
	for range 100 {
		p.Answered(0)
	}
	if got := p.Of(most); got != most {
		t.Errorf("after the quota was removed: %d bytes", got)
	}
}
