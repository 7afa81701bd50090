package e2e_test

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
)

// before28 are the options of a cluster of a version whose brokers offer requests with topic ids, but whose topics have none.
func before28(version string) kafka.Options {
	return kafka.Options{Version: version, Properties: map[string]string{"inter.broker.protocol.version": "2.7"}}
}

// Both clusters run with ZooKeeper and an old inter.broker.protocol.version, then that is raised, as in an ordinary upgrade.
func TestTopicIDsAppear(t *testing.T) {
	testTopicIDsAppear(t, "3.9.1")
}

func testTopicIDsAppear(t *testing.T, version string) {
	p := startPair(t, before28(version), before28(version))
	ctx := t.Context()
	p.createTopic("orders", 4, 1)
	p.createTopic("oldformat", 2, 1, "message.format.version=0.10.2")
	orders := p.writer(load.Options{Topic: "orders", Partitions: 4})
	old, written := p.oldFormat("oldformat", 2), int64(0)
	s := orders.Stream(ctx, 1000)
	config := p.config("orders", "oldformat")
	flow := config["flows"].([]daemon.Map)[0]
	flow["configs_exclude"] = []string{`message\.format\.version`}
	m := p.startMilena(config)

	for range 3 { // a copy that stops after its first batch is caught up by the next start
		written += old(50)
		p.waitCopied(m, 20*time.Second, "oldformat")
	}
	for range 3 {
		progress(t, m, "orders", 4)
		m.Kill()
		m.start()
		m.waitReady(30 * time.Second)
	}
	for _, c := range []*kafka.Cluster{p.target, p.source} {
		progress(t, m, "orders", 4)
		b := c.Broker(1)
		check(t, b.Stop(within(t, 30*time.Second, "the broker stops")))
		check(t, b.SetProperty("inter.broker.protocol.version", version[:3]))
		check(t, b.Restart(ctx))
		check(t, c.WaitBrokers(ctx, 1))
		m.waitReady(45 * time.Second)
		progress(t, m, "orders", 4)
	}
	written += old(50)
	acked, err := s.Stop(ctx)
	check(t, err)
	p.waitAndVerify(m, time.Minute, acked+written, "orders", "oldformat")
	if topics, err := p.sourceAdmin.ListTopics(ctx, "orders"); err != nil || topics["orders"].ID == [16]byte{} {
		t.Errorf("the source topic has no id after the upgrade: %v", err)
	}
	for _, part := range m.partitions() {
		if part.State != "replicating" {
			t.Errorf("%s-%d is %s", part.Topic, part.Partition, part.State)
		}
	}
	m.stop()
}

// progress waits until each of n partitions of a topic has acknowledged more than now.
func progress(t *testing.T, m *milena, topic string, n int) {
	t.Helper()
	before := make(map[int32]int64)
	for _, part := range m.partitions() {
		if part.Topic == topic {
			before[part.Partition] = part.Acked
		}
	}
	eventually(t, 30*time.Second, "each partition of "+topic+" progresses", func() (bool, string) {
		beyond := 0
		for _, part := range m.partitions() {
			if part.Topic == topic && part.Acked > before[part.Partition] {
				beyond++
			}
		}
		return beyond == n, itoa(beyond) + " have"
	})
}

// oldFormat writes records to a topic of the source whose message format knows neither headers nor idempotent producers. The returned function
// writes n records to each partition and returns how many that are.
func (p *pair) oldFormat(topic string, partitions int) func(n int) int64 {
	p.t.Helper()
	cl, err := p.source.Client(kgo.DisableIdempotentWrite(), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	check(p.t, err)
	p.t.Cleanup(cl.Close)
	return func(n int) int64 {
		p.t.Helper()
		var records []*kgo.Record
		for i := range n * partitions {
			records = append(records, &kgo.Record{Topic: topic, Partition: int32(i % partitions), Key: []byte(itoa(i)), Value: []byte("old " + itoa(i))})
		}
		check(p.t, cl.ProduceSync(p.t.Context(), records...).FirstErr())
		return int64(len(records))
	}
}
