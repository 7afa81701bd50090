package e2e_test

import (
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/verify"
)

func TestTwentyKills(t *testing.T) {
	t.Parallel()
	testTwentyKills(t, kafka.Options{}, time.Time{})
}

// The target forgets the producers of old records within seconds, so a blind resend would duplicate a batch.
func TestTwentyKillsWithOldRecords(t *testing.T) {
	long(t)
	t.Parallel()
	testTwentyKills(t, forgetful(), in2023)
}

// forgetful brokers forget a producer when its last record is older than 3 s, at the next check, which runs every second.
func forgetful() kafka.Options {
	return kafka.Options{Properties: map[string]string{"producer.id.expiration.ms": "3000", "producer.id.expiration.check.interval.ms": "1000"}}
}

func testTwentyKills(t *testing.T, target kafka.Options, from time.Time) {
	p := startPair(t, kafka.Options{}, target)
	ctx := t.Context()
	random := seeded(t)
	p.createTopic("steady", 4, 1, "retention.ms=-1")
	p.createTopic("bursts", 8, 1, "retention.ms=-1")
	steady := p.writer(load.Options{Topic: "steady", Partitions: 4, From: from, Shapes: []load.Shape{load.Sized(1 << 10), load.Headers, load.Tombstone}})
	bursts := p.writer(load.Options{Topic: "bursts", Partitions: 8, From: from})
	s := steady.Stream(ctx, 2000)

	m := p.newMilena("milena", p.config("steady", "bursts"))
	m.start()
	m.waitReady(30 * time.Second) // the topics are created before the first kill
	var slowest time.Duration
	var burst errgroup.Group
	for kill := range 20 {
		if kill%3 == 0 { // 24 MB at full speed, while milena is killed
			check(t, burst.Wait())
			burst.Go(func() error { return bursts.Write(ctx, 3000) })
		}
		// Most kills hit a running milena. Every fourth one hits it while it starts, when it fences shards and reads log tails.
		moment := 300*time.Millisecond + time.Duration(random.Int64N(int64(2500*time.Millisecond)))
		if kill%4 == 3 {
			moment = time.Duration(random.Int64N(int64(250 * time.Millisecond)))
		}
		pause(t, moment)
		if !m.Process().Running() {
			t.Fatalf("milena exited before kill %d\n%s", kill+1, m.Tail(30))
		}
		m.Kill()
		m.start()
		if kill%4 == 1 { // recovery is measured in between
			slowest = max(slowest, m.waitReady(30*time.Second))
		}
	}
	check(t, burst.Wait())
	m.waitReady(30 * time.Second)
	t.Logf("slowest measured recovery: %.2f s", slowest.Seconds())
	acked, err := s.Stop(ctx)
	check(t, err)
	p.waitAndVerify(m, time.Minute, acked+bursts.Acked(), "steady", "bursts")
	m.stop()

	t.Run("a clean restart duplicates nothing", func(t *testing.T) {
		before, err := verify.Contents(ctx, p.targetClient, remoteTopic("bursts"))
		check(t, err)
		m.start()
		m.waitReady(30 * time.Second)
		check(t, bursts.Write(ctx, 10))
		p.waitAndVerify(m, time.Minute, acked+bursts.Acked(), "steady", "bursts")
		after, err := verify.Contents(ctx, p.targetClient, remoteTopic("bursts"))
		check(t, err)
		for partition := range before {
			if after[partition].Records != before[partition].Records+10 {
				t.Errorf("partition %d had %d records and has %d", partition, before[partition].Records, after[partition].Records)
			}
		}
		m.stop()
	})
}
