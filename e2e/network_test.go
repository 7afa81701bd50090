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
	for _, topic := range topics {
		eventually(t, 30*time.Second, "all partitions are copied", func() (bool, string) { return allAckedBeyond(m, topic, partitions, 100) })
	}
	for _, fault := range []struct {
		cluster *kafka.Cluster
		mode    proxy.Mode
		lasts   time.Duration
	}{
		{p.target, proxy.BlackHole, 60 * time.Second},
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
			before, pid := fault.cluster.Accepted(), m.Process().Pid()
			check(t, fault.cluster.Network(ctx, fault.mode))
			pause(t, fault.lasts)
			connections := fault.cluster.Accepted() - before
			check(t, fault.cluster.Network(ctx, proxy.Pass))
			recovered, diagnosed := time.Now(), false
			goal := map[string]int64{}
			for _, part := range m.partitions() {
				goal[fmt.Sprint(part.Topic, part.Partition)] = part.Acked
			}
			if len(goal) != len(topics)*partitions {
				t.Fatalf("/status lists %d partitions", len(goal))
			}
			check(t, m.Until(within(t, 90*time.Second, "milena resumes"), 20*time.Millisecond, func() (bool, string) {
				n, behind := 0, ""
				for _, part := range m.partitions() {
					if part.Acked > goal[fmt.Sprint(part.Topic, part.Partition)] {
						n++
					} else {
						behind += fmt.Sprintf(" %s[%d] %s at %d;", part.Topic, part.Partition, part.State, part.Acked)
					}
				}
				if done := n == len(goal); done || diagnosed || time.Since(recovered) < resumeWithin {
					return done, behind
				}
				diagnosed = true
				t.Logf("late: %s", behind)
				m.diagnose()
				return false, behind
			}))
			took := time.Since(recovered)
			perSecond := float64(connections) / fault.lasts.Seconds()
			t.Logf("resumed after %.2f s; %d connections during the fault, %.1f per second", took.Seconds(), connections, perSecond)
			if took > resumeWithin {
				t.Errorf("resumed %.1f s after the network recovered, want %v", took.Seconds(), resumeWithin)
			}
			if perSecond > 10 {
				t.Errorf("%.1f connections per second during the fault: a reconnect storm", perSecond)
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
