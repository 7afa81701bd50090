package e2e_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/verify"
)

// The source loses or rewrites what it had. Never silence, never a wrong copy: the partitions concerned halt, the others go on.
func TestSourceAnomalies(t *testing.T) {
	// Two brokers; whoever comes back first may lead, whatever it has missed.
	p := startPair(t, kafka.Options{Brokers: 2, Properties: map[string]string{
		"unclean.leader.election.enable": "true", "unclean.leader.election.interval.ms": "500",
	}}, kafka.Options{})
	ctx := t.Context()
	s := &anomalyTest{pair: p, stale: 1, leading: 2}
	// The bystander lives on the broker that is never lost for good.
	s.assign("bystander", []int32{s.stale}, []int32{s.stale})
	bystander := p.writer(load.Options{Topic: "bystander", Partitions: 2})
	m := p.newMilena("milena", p.config(".*"))
	m.start()
	m.waitReady(30 * time.Second)

	t.Run("a topic is deleted and created again while milena runs", func(t *testing.T) {
		s := s.in(t)
		s.fill("reborn", 500)
		was := s.copyAndRead(m, "reborn")
		s.recreate("reborn", 700)
		s.waitHalted(m, "reborn", "recreated", 0, 1)
		s.verifyUnchanged("reborn", was)
		s.stillReplicates(m, bystander)
	})
	t.Run("a topic is deleted and created again while milena is down", func(t *testing.T) {
		s := s.in(t)
		s.fill("reborn-unseen", 500)
		was := s.copyAndRead(m, "reborn-unseen")
		m.stop()
		s.recreate("reborn-unseen", 700) // longer than what was copied: by offsets alone it would look like a continuation
		m.start()
		s.waitHalted(m, "reborn-unseen", "recreated", 0, 1)
		s.verifyUnchanged("reborn-unseen", was)
		s.stillReplicates(m, bystander)
	})
	t.Run("records are deleted ahead of milena", func(t *testing.T) {
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
			t.Errorf("the gap is said to be [%d, %d), want [500, 600)", a.From, a.To)
		}
		now, err := verify.Contents(ctx, s.targetClient, remoteTopic("overtaken"))
		check(t, err)
		if now[0] != was[0] {
			t.Errorf("partition 0 held %+v and holds %+v", was[0], now[0])
		}
		eventually(t, 20*time.Second, "the partition that lost nothing goes on", func() (bool, string) {
			now, err := verify.Contents(ctx, s.targetClient, remoteTopic("overtaken"))
			return err == nil && now[1].Records == 800, fmt.Sprint(now, err)
		})
		s.stillReplicates(m, bystander)
	})
	t.Run("an unclean election shortens logs while milena runs", func(t *testing.T) {
		s := s.in(t)
		was := s.uncleanElection(m, "cut", func() {}, func() {})
		s.waitHalted(m, "cut", "truncated", 0, 1)
		s.verifyUnchanged("cut", was)
		s.stillReplicates(m, bystander)
		s.restartLeader()
	})
	t.Run("an unclean election shortens logs while milena is down", func(t *testing.T) {
		s := s.in(t)
		was := s.uncleanElection(m, "cut-unseen", m.stop, func() { m.start() })
		s.waitHalted(m, "cut-unseen", "truncated", 0, 1)
		s.verifyUnchanged("cut-unseen", was)
		s.stillReplicates(m, bystander)
		s.restartLeader()
	})
	t.Run("a log that was cut grows past what was copied while milena sleeps", func(t *testing.T) {
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

// anomalyTest holds what the anomalies have in common. In an unclean election the stale broker takes the leading one's place.
type anomalyTest struct {
	*pair
	stale, leading int32
}

func (s *anomalyTest) in(t *testing.T) *anomalyTest {
	return &anomalyTest{s.pair.in(t), s.stale, s.leading}
}

// assign creates a topic with these replicas per partition.
func (s *anomalyTest) assign(topic string, replicas ...[]int32) {
	s.t.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	create := kmsg.NewCreateTopicsRequestTopic()
	create.Topic, create.NumPartitions, create.ReplicationFactor = topic, -1, -1
	for i, r := range replicas {
		a := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
		a.Partition, a.Replicas = int32(i), r
		create.ReplicaAssignment = append(create.ReplicaAssignment, a)
	}
	req.Topics = append(req.Topics, create)
	resp, err := req.RequestWith(s.t.Context(), s.sourceClient)
	if err != nil {
		s.t.Fatalf("create %s: %v", topic, err)
	}
	check(s.t, kerr.ErrorForCode(resp.Topics[0].ErrorCode))
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

// copied waits until a topic is copied, verifies it, and returns what the target holds.
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

// waitHalted waits until these partitions are halted with this kind of anomaly, in /status and in the metrics.
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

// stillReplicates says that other partitions are still copied.
func (s *anomalyTest) stillReplicates(m *milena, bystander *load.Writer) {
	s.t.Helper()
	check(s.t, bystander.Write(s.t.Context(), 100))
	s.waitAndVerify(m, 30*time.Second, bystander.Acked(), "bystander")
}

// uncleanElection has milena copy records that only the leading broker holds, which then dies; the stale one comes back and leads without them.
// The functions are called before that election and after it.
func (s *anomalyTest) uncleanElection(m *milena, topic string, before, after func()) map[int32]verify.Content {
	s.t.Helper()
	ctx := s.t.Context()
	s.assign(topic, []int32{s.leading, s.stale}, []int32{s.leading, s.stale})
	w := s.writer(load.Options{Topic: topic, Partitions: 2})
	check(s.t, w.Write(ctx, 200))
	s.source.Broker(int(s.stale)).Kill()
	check(s.t, s.source.WaitBrokers(within(s.t, 30*time.Second, "the stale broker is gone"), 1))
	check(s.t, w.Write(ctx, 300))
	was := s.copyAndRead(m, topic)
	before()
	s.source.Broker(int(s.leading)).Kill()
	check(s.t, s.source.Broker(int(s.stale)).Restart(s.owner.Context()))
	eventually(s.t, time.Minute, "the stale broker leads", func() (bool, string) {
		ok, state := ledByOthers(ctx, s.sourceAdmin, topic, s.leading)
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

// restartLeader brings the leading broker back.
func (s *anomalyTest) restartLeader() {
	s.t.Helper()
	check(s.t, s.source.Broker(int(s.leading)).Restart(s.owner.Context()))
	check(s.t, s.source.WaitBrokers(within(s.t, time.Minute, "both brokers are back"), 2))
}
