package e2e_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/verify"
)

// The source loses or rewrites records that are already copied. The affected partitions halt with an anomaly, their copies do not change, and
// all other partitions keep replicating.
func TestSourceAnomalies(t *testing.T) {
	// Two brokers with unclean elections: the one that is back first leads, even if it lacks records.
	p := startPair(t, kafka.Options{Brokers: 2, Properties: map[string]string{
		"unclean.leader.election.enable": "true", "unclean.leader.election.interval.ms": "500",
	}}, kafka.Options{})
	ctx := t.Context()
	s := &anomalyTest{pair: p, stale: 1, leader: 2}
	// The bystander is on the broker that always comes back.
	s.assign("bystander", []int32{s.stale}, []int32{s.stale})
	bystander := p.writer(load.Options{Topic: "bystander", Partitions: 2})
	m := p.newMilena("milena", p.config(".*"))
	m.start()
	m.waitReady(30 * time.Second)

	t.Run("a topic is recreated while milena runs", func(t *testing.T) {
		s := s.in(t)
		s.fill("recreated", 500)
		was := s.copyAndRead(m, "recreated")
		s.recreate("recreated", 700)
		s.waitHalted(m, "recreated", "recreated", 0, 1)
		s.verifyUnchanged("recreated", was)
		s.stillReplicates(m, bystander)
	})
	t.Run("a topic is recreated while milena is down", func(t *testing.T) {
		s := s.in(t)
		s.fill("recreated-while-down", 500)
		was := s.copyAndRead(m, "recreated-while-down")
		m.stop()
		s.recreate("recreated-while-down", 700) // more than were copied: by offsets alone it would look like the same topic
		m.start()
		s.waitHalted(m, "recreated-while-down", "recreated", 0, 1)
		s.verifyUnchanged("recreated-while-down", was)
		s.stillReplicates(m, bystander)
	})
	t.Run("records are deleted before milena has read them", func(t *testing.T) {
		s := s.in(t)
		s.fill("overtaken", 500)
		was := s.copyAndRead(m, "overtaken")
		m.stop()
		w := s.writer(load.Options{Topic: "overtaken", Partitions: 2})
		check(t, w.Write(ctx, 300))
		gone := kadm.Offsets{}
		gone.Add(kadm.Offset{Topic: "overtaken", Partition: 0, At: 600})
		done, err := s.sourceAdmin.DeleteRecords(ctx, gone)
		check(t, err)
		check(t, done.Error())
		m.start()
		a := s.waitHalted(m, "overtaken", "retention_gap", 0)[0]
		if a.From != 500 || a.To != 600 {
			t.Errorf("the gap is reported as [%d, %d), want [500, 600)", a.From, a.To)
		}
		now, err := verify.Contents(ctx, s.targetClient, remoteTopic("overtaken"))
		check(t, err)
		if now[0] != was[0] {
			t.Errorf("partition 0 held %+v and holds %+v", was[0], now[0])
		}
		eventually(t, 20*time.Second, "the partition that lost nothing keeps replicating", func() (bool, string) {
			now, err := verify.Contents(ctx, s.targetClient, remoteTopic("overtaken"))
			return err == nil && now[1].Records == 800, fmt.Sprint(now, err)
		})
		s.stillReplicates(m, bystander)
	})
	t.Run("an unclean election truncates logs while milena runs", func(t *testing.T) {
		s := s.in(t)
		was := s.uncleanElection(m, "truncated-topic", func() {}, func() {})
		s.waitHalted(m, "truncated-topic", "truncated", 0, 1)
		s.verifyUnchanged("truncated-topic", was)
		s.stillReplicates(m, bystander)
		s.restartLeader()
	})
	t.Run("an unclean election truncates logs while milena is down", func(t *testing.T) {
		s := s.in(t)
		was := s.uncleanElection(m, "truncated-while-down", m.stop, func() { m.start() })
		s.waitHalted(m, "truncated-while-down", "truncated", 0, 1)
		s.verifyUnchanged("truncated-while-down", was)
		s.stillReplicates(m, bystander)
		s.restartLeader()
	})
	t.Run("a truncated log grows beyond what was copied while milena is frozen", func(t *testing.T) {
		s := s.in(t)
		was := s.uncleanElection(m, "regrown", func() { check(t, m.Pause()) }, func() {
			w := s.writer(load.Options{Topic: "regrown", Partitions: 2, Shapes: []load.Shape{load.Sized(200)}})
			check(t, w.Write(ctx, 1000))
			check(t, m.Resume())
		})
		s.waitHalted(m, "regrown", "truncated", 0, 1)
		s.verifyUnchanged("regrown", was)
		s.stillReplicates(m, bystander)
	})
	m.stop()
}

// anomalyTest is a pair with two source brokers. In an unclean election the stale broker replaces the leader.
type anomalyTest struct {
	*pair
	stale, leader int32
}

func (s *anomalyTest) in(t *testing.T) *anomalyTest {
	return &anomalyTest{s.pair.in(t), s.stale, s.leader}
}

// assign creates a topic with the given replicas, one list per partition.
func (s *anomalyTest) assign(topic string, replicas ...[]int32) {
	s.t.Helper()
	check(s.t, kafka.AssignTopic(s.t.Context(), s.sourceClient, topic, replicas))
}

// fill creates a topic of two partitions and writes n records to each.
func (s *anomalyTest) fill(topic string, n int) {
	s.t.Helper()
	s.assign(topic, []int32{s.stale}, []int32{s.stale})
	check(s.t, s.writer(load.Options{Topic: topic, Partitions: 2}).Write(s.t.Context(), n))
}

// recreate deletes a topic and creates it again with other records.
func (s *anomalyTest) recreate(topic string, n int) {
	s.t.Helper()
	_, err := s.sourceAdmin.DeleteTopic(s.t.Context(), topic)
	check(s.t, err)
	eventually(s.t, 30*time.Second, "the topic is deleted", func() (bool, string) {
		topics, err := s.sourceAdmin.ListTopics(s.t.Context(), topic)
		return err == nil && !topics.Has(topic), fmt.Sprint(err)
	})
	s.assign(topic, []int32{s.stale}, []int32{s.stale})
	check(s.t, s.writer(load.Options{Topic: topic, Partitions: 2, Codec: "zstd", Shapes: []load.Shape{load.Sized(300)}}).Write(s.t.Context(), n))
}

// copyAndRead waits until a topic is copied, verifies it, and returns what the target holds.
func (s *anomalyTest) copyAndRead(m *milena, topic string) map[int32]verify.Content {
	s.t.Helper()
	s.waitAndVerify(m, 30*time.Second, 1, topic)
	return s.contents(topic)
}

func (s *anomalyTest) contents(topic string) map[int32]verify.Content {
	s.t.Helper()
	c, err := verify.Contents(s.t.Context(), s.targetClient, remoteTopic(topic))
	check(s.t, err)
	return c
}

func (s *anomalyTest) verifyUnchanged(topic string, was map[int32]verify.Content) {
	s.t.Helper()
	for partition, now := range s.contents(topic) {
		if now != was[partition] {
			s.t.Errorf("the target's %s[%d] held %+v and holds %+v", topic, partition, was[partition], now)
		}
	}
}

// waitHalted waits until these partitions are halted with this kind of anomaly, in /status and in the metrics, and returns the anomalies.
func (s *anomalyTest) waitHalted(m *milena, topic, kind string, partitions ...int32) []daemon.Anomaly {
	s.t.Helper()
	var found []daemon.Anomaly
	start := time.Now()
	check(s.t, m.Until(within(s.t, 30*time.Second, topic+" is halted"), 50*time.Millisecond, func() (bool, string) {
		found = nil
		state := ""
		all := m.partitions()
		for _, want := range partitions {
			for _, part := range all {
				if part.Topic != topic || part.Partition != want {
					continue
				}
				state += fmt.Sprintf(" [%d] %s at %d %+v;", want, part.State, part.Acked, part.Anomaly)
				if part.State == "halted" && part.Anomaly != nil && part.Anomaly.Kind == kind {
					found = append(found, *part.Anomaly)
				}
			}
		}
		return len(found) == len(partitions), state
	}))
	s.t.Logf("halted after %.1f s: %s; %s", time.Since(start).Seconds(), found[0].Detail, found[0].Hint)
	if found[0].Detail == "" || found[0].Hint == "" {
		s.t.Error("the anomaly has no detail or no hint")
	}
	m.waitMetric(5*time.Second, float64(len(partitions)), "milena_anomalies_total", fmt.Sprintf("kind=%q", kind))
	return found
}

// stillReplicates writes to the bystander and verifies its copy.
func (s *anomalyTest) stillReplicates(m *milena, bystander *load.Writer) {
	s.t.Helper()
	check(s.t, bystander.Write(s.t.Context(), 100))
	s.waitAndVerify(m, 30*time.Second, bystander.Acked(), "bystander")
}

// uncleanElection lets milena copy records that only the leader holds, kills the leader, and restarts the stale broker, which then leads
// without these records. It calls before and after, before and after the election, and returns what the target held before it.
func (s *anomalyTest) uncleanElection(m *milena, topic string, before, after func()) map[int32]verify.Content {
	s.t.Helper()
	ctx := s.t.Context()
	s.assign(topic, []int32{s.leader, s.stale}, []int32{s.leader, s.stale})
	w := s.writer(load.Options{Topic: topic, Partitions: 2})
	check(s.t, w.Write(ctx, 200))
	s.source.Broker(int(s.stale)).Kill()
	check(s.t, s.source.WaitBrokers(within(s.t, 30*time.Second, "the stale broker is down"), 1))
	check(s.t, w.Write(ctx, 300))
	was := s.copyAndRead(m, topic)
	before()
	s.source.Broker(int(s.leader)).Kill()
	check(s.t, s.source.Broker(int(s.stale)).Restart(s.owner.Context()))
	eventually(s.t, time.Minute, "the stale broker leads", func() (bool, string) {
		ok, state := ledByOthers(ctx, s.sourceAdmin, topic, s.leader)
		if !ok {
			return false, state
		}
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		e, err := verify.ReadEnds(short, s.sourceClient, topic)
		return err == nil && e.End[0] == 200 && e.End[1] == 200, fmt.Sprint(e, err)
	})
	after()
	return was
}

// restartLeader restarts the broker that led before the unclean election.
func (s *anomalyTest) restartLeader() {
	s.t.Helper()
	check(s.t, s.source.Broker(int(s.leader)).Restart(s.owner.Context()))
	check(s.t, s.source.WaitBrokers(within(s.t, time.Minute, "both brokers are back"), 2))
}
