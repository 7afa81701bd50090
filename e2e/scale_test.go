package e2e_test

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
)

func TestThousandPartitions(t *testing.T) {
	roomy := kafka.Options{JVM: []string{"-Xms1g", "-Xmx1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"}}
	p := startPair(t, roomy, roomy)
	ctx := t.Context()
	const count, partitions, records = 100, 10, 50
	var topics []string
	for i := range count {
		topics = append(topics, fmt.Sprintf("many-%02d", i))
	}
	responses, err := p.sourceAdmin.CreateTopics(ctx, partitions, 1, nil, topics...)
	check(t, err)
	check(t, responses.Error())
	var g errgroup.Group
	g.SetLimit(4)
	for _, topic := range topics {
		g.Go(func() error {
			w, err := load.New(p.source, load.Options{Topic: topic, Partitions: partitions, Shapes: []load.Shape{load.Sized(4000)}})
			if err != nil {
				return err
			}
			defer w.Close()
			return w.Write(ctx, records)
		})
	}
	check(t, g.Wait())

	m := p.newMilena("milena", p.config("many-.*"))
	start := time.Now()
	m.start()
	ready := m.waitReady(time.Minute)
	p.waitCopied(m, 2*time.Minute, topics...)
	took := time.Since(start)
	t.Logf("ready after %.1f s; %d MB in 1000 partitions copied %.1f s after the start", ready.Seconds(), count*partitions*records*4000/1_000_000, took.Seconds())
	if n := p.verify(remoteTopic, topics...); n != count*partitions*records {
		t.Errorf("%d records are equal, want %d", n, count*partitions*records)
	}

	t.Run("when idle it uses less than 3 % of a core", func(t *testing.T) {
		before, err := m.Process().Usage()
		check(t, err)
		const span = 20 * time.Second
		pause(t, span)
		after, err := m.Process().Usage()
		check(t, err)
		share := 100 * (after.CPU - before.CPU).Seconds() / span.Seconds()
		t.Logf("idle: %.2f %% of a core; resident %d MiB, at most %d MiB", share, after.RSS>>20, after.PeakRSS>>20)
		if share >= 3 {
			t.Errorf("idle milena uses %.2f %% of a core", share)
		}
	})
	t.Run("a restart recovers all partitions", func(t *testing.T) {
		m.Kill()
		start := time.Now()
		m.start()
		m.waitReady(time.Minute)
		t.Logf("ready %.1f s after kill -9", time.Since(start).Seconds())
		w := p.writer(load.Options{Topic: topics[7], Partitions: partitions, Shapes: []load.Shape{load.Sized(100)}})
		check(t, w.Write(ctx, 10))
		p.waitAndVerify(m, time.Minute, count*partitions*records, topics...)
	})
	m.stop()
}
