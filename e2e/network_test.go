package e2e_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/proxy"
)

// Each fault hits new records and records from 2023 at the same time. The target forgets the producers of the old ones within a second, so a
// blind resend would duplicate them.
func TestNetworkFaults(t *testing.T) {
	target := forgetful()
	target.Proxied = true
	p := startPair(t, kafka.Options{Proxied: true}, target)
	ctx := t.Context()
	const partitions = 4
	topics := []string{"fresh", "old"}
	froms := []time.Time{{}, in2023}
	var streams []*load.Stream
	for i, topic := range topics {
		p.createTopic(topic, partitions, 1, "retention.ms=-1")
		streams = append(streams, p.writer(load.Options{Topic: topic, Partitions: partitions, From: froms[i]}).Stream(ctx, 800))
	}
	config := p.config(topics...)
	config["clusters"] = daemon.Map{
		"source": daemon.Map{"brokers": p.source.ProxyAddrs()},
		"target": daemon.Map{"brokers": p.target.ProxyAddrs()},
	}
	m := p.startMilena(config)
	pid := m.Process().Pid()
	for _, topic := range topics {
		eventually(t, 30*time.Second, "all partitions are copied", func() (bool, string) { return allAckedBeyond(m, topic, partitions, 100) })
	}
	for _, fault := range []struct {
		cluster *kafka.Cluster
		mode    proxy.Mode
		lasts   time.Duration
	}{
		{p.target, proxy.BlackHole, 20 * time.Second}, // longer than any request may take
		{p.target, proxy.Refuse, 12 * time.Second},
		{p.target, proxy.HalfOpen, 12 * time.Second},
		{p.target, proxy.DropResponses, 3 * time.Second},
		{p.target, proxy.DropResponses, 15 * time.Second},
		{p.target, proxy.Cut, 12 * time.Second},
		{p.target, proxy.Slow, 12 * time.Second},
		{p.source, proxy.BlackHole, 12 * time.Second},
		{p.source, proxy.HalfOpen, 12 * time.Second},
		{p.source, proxy.DropResponses, 12 * time.Second},
	} {
		t.Run(fmt.Sprintf("%s: %s for %v", fault.cluster.Name(), fault.mode, fault.lasts), func(t *testing.T) {
			connections := breakNetwork(t, fault.cluster, fault.mode, fault.lasts)
			goal := m.ackedOffsets()
			if len(goal) != len(topics)*partitions {
				t.Fatalf("/status lists %d partitions", len(goal))
			}
			took := m.waitProgress(t, goal, len(goal))
			t.Logf("resumed after %.2f s; %.1f new connections per second during the fault", took.Seconds(), connections)
			if took > resumeWithin {
				t.Errorf("resumed %.1f s after the network recovered, want %v", took.Seconds(), resumeWithin)
			}
			if connections > 10 {
				t.Errorf("%.1f new connections per second during the fault: a reconnect storm", connections)
			}
			if m.Process().Pid() != pid || !m.Process().Running() {
				t.Error("milena has ended")
			}
			p.in(t).verifyWhileWriting(m, time.Minute, topics...)
		})
	}
	var acked int64
	for _, s := range streams {
		n, err := s.Stop(ctx)
		check(t, err)
		acked += n
	}
	p.waitAndVerify(m, time.Minute, acked, topics...)
	m.stop()
}

// breakNetwork puts the proxies of a cluster into a mode for a while. It returns how many connections per second milena opened meanwhile.
func breakNetwork(t *testing.T, c *kafka.Cluster, mode proxy.Mode, d time.Duration) (perSecond float64) {
	t.Helper()
	before := c.Accepted()
	check(t, c.Network(t.Context(), mode))
	pause(t, d)
	perSecond = float64(c.Accepted()-before) / d.Seconds()
	check(t, c.Network(t.Context(), proxy.Pass))
	return perSecond
}
