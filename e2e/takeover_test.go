package e2e_test

import (
	"regexp"
	"testing"
	"time"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/verify"
)

var takenOver = regexp.MustCompile(`(?i)another instance|has taken over|the instance .* has taken`)

func TestSecondInstanceTakesOver(t *testing.T) {
	p := startPair(t, kafka.Options{}, forgetful())
	ctx := t.Context()

	t.Run("the first instance logs why it stops, with exit code 1", func(t *testing.T) {
		p := p.in(t)
		p.createTopic("handover", 6, 1)
		s := p.writer(load.Options{Topic: "handover", Partitions: 6}).Stream(ctx, 2000)
		config := alone(p.config("handover"))
		first, second := p.newMilena("first", config), p.newMilena("second", config)
		first.start()
		first.waitReady(30 * time.Second)
		eventually(t, 20*time.Second, "the first instance copies", func() (bool, string) { return allAckedBeyond(first, "handover", 6, 0) })
		second.start()
		took := second.waitReady(30 * time.Second)
		first.waitExit(30*time.Second, 1)
		if !takenOver.MatchString(first.Output()) {
			t.Errorf("the first instance does not log that it was taken over:\n%s", first.Tail(10))
		}
		acked, err := s.Stop(ctx)
		check(t, err)
		p.waitAndVerify(second, time.Minute, acked, "handover")
		t.Logf("the second was ready after %.2f s; the first logged: %s", took.Seconds(), first.Tail(1))
		second.stop()
	})

	for _, tt := range []struct {
		name, topic string
		from        time.Time
		asleep      time.Duration
	}{
		{"a frozen first instance that wakes at once writes nothing", "nap", time.Time{}, 0},
		// Longer than the lease (15 s), and longer than the target remembers the producers of old records.
		{"a frozen first instance that wakes later writes nothing", "sleep", time.Time{}, 17 * time.Second},
		{"a frozen first instance that wakes later writes no old records", "oldsleep", in2023, 17 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := p.in(t)
			p.createTopic(tt.topic, 6, 1, "retention.ms=-1")
			s := p.writer(load.Options{Topic: tt.topic, Partitions: 6, From: tt.from}).Stream(ctx, 5000)
			config := alone(p.config(tt.topic))
			first, second := p.newMilena("first", config), p.newMilena("second", config)
			first.start()
			first.waitReady(30 * time.Second)
			eventually(t, 20*time.Second, "the first instance copies", func() (bool, string) { return allAckedBeyond(first, tt.topic, 6, 100) })
			check(t, first.Pause())
			asleep := time.Now()
			second.start()
			second.waitReady(30 * time.Second)
			pause(t, tt.asleep-time.Since(asleep))
			check(t, first.Resume()) // while the second is writing
			first.waitExit(30*time.Second, 1)
			acked, err := s.Stop(ctx)
			check(t, err)
			p.waitAndVerify(second, time.Minute, acked, tt.topic)
			before, err := verify.Contents(ctx, p.targetClient, remoteTopic(tt.topic))
			check(t, err)
			second.stop()
			after, err := verify.Contents(ctx, p.targetClient, remoteTopic(tt.topic))
			check(t, err)
			for partition := range before {
				if before[partition] != after[partition] {
					t.Errorf("partition %d held %+v and holds %+v", partition, before[partition], after[partition])
				}
			}
			t.Logf("the first logged: %s", first.Tail(1))
		})
	}
}

// allAckedBeyond reports whether n partitions of a topic have acknowledged more than offset.
func allAckedBeyond(m *milena, topic string, n int, offset int64) (bool, string) {
	var beyond int
	for _, part := range m.partitions() {
		if part.Topic == topic && part.Acked > offset {
			beyond++
		}
	}
	return beyond == n, "copying in " + itoa(beyond) + " partitions"
}

// alone lets the flow of a config run without a group.
func alone(config daemon.Map) daemon.Map {
	config["flows"].([]daemon.Map)[0]["instances"] = "one"
	return config
}
