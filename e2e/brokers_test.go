package e2e_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/verify"
)

// resumeWithin is how long milena may take to replicate again once the cluster works.
const resumeWithin = 5 * time.Second

func TestBrokerFailures(t *testing.T) {
	p := startPair(t, kafka.Options{Brokers: 3}, kafka.Options{Brokers: 3})
	ctx := t.Context()
	const partitions = 6
	p.createTopic("t", partitions, 3)
	// Eight JVMs share the machine. The linger makes larger batches, so that acknowledgements by three replicas keep up.
	s := p.writer(load.Options{Topic: "t", Partitions: partitions, Client: []kgo.Opt{kgo.ProducerLinger(100 * time.Millisecond)}}).Stream(ctx, 1200)
	m := p.startMilena(p.config("t"))
	eventually(t, 30*time.Second, "all partitions are being copied", func() (bool, string) { return allAckedBeyond(m, "t", partitions, 100) })

	type side struct {
		name    string
		cluster *kafka.Cluster
		admin   *kadm.Client
		topic   string
	}
	for _, side := range []side{{"source", p.source, p.sourceAdmin, "t"}, {"target", p.target, p.targetAdmin, remoteTopic("t")}} {
		c := side.cluster
		works := func() (bool, string) { return replicated(ctx, side.admin, side.topic, 2) }
		whole := func(t *testing.T) {
			t.Helper()
			check(t, c.WaitBrokers(within(t, time.Minute, "all brokers are back"), 3))
			eventually(t, time.Minute, "every partition has three replicas in sync", func() (bool, string) { return replicated(ctx, side.admin, side.topic, 3) })
		}
		t.Run("a "+side.name+" leader is killed", func(t *testing.T) {
			b := c.Broker(int(leader(t, side.admin, side.topic, 0)))
			b.Kill()
			eventually(t, time.Minute, "other brokers lead its partitions", func() (bool, string) { return ledByOthers(ctx, side.admin, side.topic, b.ID()) })
			resumes(t, p, m, works)
			check(t, b.Restart(ctx))
			whole(t)
			resumes(t, p, m, works)
		})
		t.Run("a "+side.name+" broker is stopped and leadership moves", func(t *testing.T) {
			b := c.Broker(int(leader(t, side.admin, side.topic, 1)))
			check(t, b.Stop(within(t, 30*time.Second, "a broker stops")))
			resumes(t, p, m, works)
			check(t, b.Restart(ctx))
			whole(t)
			check(t, electPreferred(ctx, side.admin))
			resumes(t, p, m, works)
		})
		t.Run("two "+side.name+" brokers are down and come back", func(t *testing.T) {
			c.Broker(1).Kill()
			c.Broker(2).Kill()
			check(t, c.WaitBrokers(within(t, time.Minute, "one broker is left"), 1))
			pause(t, 3*time.Second)
			check(t, c.Broker(1).Restart(ctx))
			check(t, c.Broker(2).Restart(ctx))
			whole(t)
			resumes(t, p, m, works)
		})
	}
	acked, err := s.Stop(ctx)
	check(t, err)
	p.waitAndVerify(m, time.Minute, acked, "t")
	m.stop()
}

// resumes waits until works returns true and the source has new records in every partition. From then on it measures how long milena takes to
// acknowledge more records in every partition, which must be at most resumeWithin. How long it takes to catch up is only logged.
func resumes(t *testing.T, p *pair, m *milena, works func() (bool, string)) {
	t.Helper()
	eventually(t, time.Minute, "the cluster works again", works)
	ends := func() (map[int32]int64, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		e, err := verify.ReadEnds(ctx, p.sourceClient, "t")
		return e.End, err
	}
	var before map[int32]int64
	eventually(t, time.Minute, "the source grows", func() (bool, string) {
		now, err := ends()
		if err != nil {
			return false, err.Error()
		}
		if before == nil {
			before = now
		}
		for partition, end := range now {
			if end <= before[partition] {
				return false, fmt.Sprintf("partition %d stays at %d", partition, end)
			}
		}
		return true, ""
	})
	start := time.Now()
	sourceEnds := map[string]int64{}
	for partition, end := range before {
		sourceEnds[partitionName("t", partition)] = end
	}
	took := m.waitProgress(t, m.ackedOffsets(), len(before))
	check(t, m.Until(within(t, 2*time.Minute, "milena catches up"), 20*time.Millisecond, func() (bool, string) { return m.ackedBeyond(sourceEnds, len(before)) }))
	t.Logf("resumed after %.2f s, caught up after %.2f s", took.Seconds(), time.Since(start).Seconds())
	if took > resumeWithin {
		t.Errorf("resumed %.1f s after the cluster worked again, want %v", took.Seconds(), resumeWithin)
	}
}

// partitionName is the key of a partition in ackedOffsets.
func partitionName(topic string, partition int32) string {
	return fmt.Sprintf("%s-%d", topic, partition)
}

// ackedOffsets are the acknowledged offsets of all partitions.
func (m *milena) ackedOffsets() map[string]int64 {
	m.t.Helper()
	acked := map[string]int64{}
	for _, part := range m.partitions() {
		acked[partitionName(part.Topic, part.Partition)] = part.Acked
	}
	return acked
}

// ackedBeyond reports whether n partitions have acknowledged more than goal, which is 0 for partitions that are not in it.
func (m *milena) ackedBeyond(goal map[string]int64, n int) (bool, string) {
	m.t.Helper()
	behind, beyond := "", 0
	for _, part := range m.partitions() {
		if offset := goal[partitionName(part.Topic, part.Partition)]; part.Acked > offset {
			beyond++
		} else {
			behind += fmt.Sprintf(" %s[%d] %s at %d, not beyond %d;", part.Topic, part.Partition, part.State, part.Acked, offset)
		}
	}
	return beyond == n, behind
}

// waitProgress waits until n partitions have acknowledged more than goal, and returns how long that took. If it is more than resumeWithin,
// it logs what milena is doing then.
func (m *milena) waitProgress(t *testing.T, goal map[string]int64, n int) time.Duration {
	t.Helper()
	start, diagnosed := time.Now(), false
	check(t, m.Until(within(t, 2*time.Minute, "milena resumes"), 20*time.Millisecond, func() (bool, string) {
		done, behind := m.ackedBeyond(goal, n)
		if !done && !diagnosed && time.Since(start) > resumeWithin {
			diagnosed = true
			t.Logf("late: %s", behind)
			m.diagnose()
		}
		return done, behind
	}))
	return time.Since(start)
}

// partitionsOf describes a topic, within two seconds.
func partitionsOf(ctx context.Context, admin *kadm.Client, topic string) (kadm.PartitionDetails, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	topics, err := admin.ListTopics(ctx, topic)
	if err != nil {
		return nil, err
	}
	return topics[topic].Partitions, topics[topic].Err
}

// replicated reports whether every partition of a cluster has a leader and n replicas in sync. That includes milena's journal and Kafka's
// internal topics, without which milena cannot fence.
func replicated(ctx context.Context, admin *kadm.Client, topic string, n int) (bool, string) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	topics, err := admin.ListTopicsWithInternal(ctx)
	if err != nil {
		return false, err.Error()
	}
	for _, detail := range topics {
		for _, part := range detail.Partitions {
			if part.Err != nil || part.Leader < 0 || len(part.ISR) < min(n, len(part.Replicas)) {
				return false, fmt.Sprintf("%s[%d] leader %d, in sync %v, %v", detail.Topic, part.Partition, part.Leader, part.ISR, part.Err)
			}
		}
	}
	return len(topics[topic].Partitions) > 0, "no partitions"
}

// ledByOthers reports whether all partitions of a topic have leaders other than this broker.
func ledByOthers(ctx context.Context, admin *kadm.Client, topic string, broker int32) (bool, string) {
	partitions, err := partitionsOf(ctx, admin, topic)
	if err != nil {
		return false, err.Error()
	}
	for _, part := range partitions {
		if part.Leader < 0 || part.Leader == broker {
			return false, fmt.Sprintf("[%d] leader %d", part.Partition, part.Leader)
		}
	}
	return true, ""
}

func leader(t *testing.T, admin *kadm.Client, topic string, partition int32) int32 {
	t.Helper()
	partitions, err := partitionsOf(t.Context(), admin, topic)
	check(t, err)
	return partitions[partition].Leader
}

// electPreferred makes the first replica of every partition its leader.
func electPreferred(ctx context.Context, admin *kadm.Client) error {
	_, err := admin.ElectLeaders(ctx, kadm.ElectPreferredReplica, nil)
	return err
}
