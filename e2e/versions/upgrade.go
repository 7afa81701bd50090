package versions

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
)

// Upgrade raises the inter.broker.protocol.version of both clusters over 2.8 while milena copies, one broker after the other, as in an ordinary
// upgrade: topics get ids. That is no anomaly and needs no restart, and a milena that is killed before and after knows its copies.
func Upgrade(t *testing.T, o Options, brokers int) (r Result) {
	t.Helper()
	began := time.Now()
	s := newScene(t, o, before28(brokers), before28(brokers))
	ctx := t.Context()
	s.createTopic(plain, 4, int16(brokers))
	s.createTopic(transactions, 2, int16(brokers))
	s.createTopic(old, 2, int16(brokers), "message.format.version=0.10.2")
	writeOld := s.oldFormat(2)
	written := writeOld(50)
	w := s.writer(load.Options{Topic: plain, Partitions: 4, Shapes: []load.Shape{load.Sized(200)}})
	s.check(w.Write(ctx, 50))
	transact := func() {
		committed, err := load.Transactions(ctx, s.source, load.Options{Topic: transactions, Partitions: 2}, 3, 20)
		s.check(err)
		written += committed
	}
	transact()
	s.newMilena(o, nil)
	stream := w.Stream(ctx, 500)
	s.startMilena()
	s.waitProgress()
	s.milena.Kill()
	s.startMilena()
	for _, c := range []*kafka.Cluster{s.target, s.source} {
		s.waitProgress()
		s.restartBrokers(c, func(b *kafka.Broker) error { return b.SetProperty(protocolVersion, "3.9") })
		s.waitReady()
		s.waitProgress()
		written += writeOld(50)
		transact()
	}
	s.waitIDs(s.sourceClient, plain)
	s.waitIDs(s.targetClient, remote(plain))
	s.milena.Kill()
	s.startMilena()
	s.waitProgress()
	acked, err := stream.Stop(ctx)
	s.check(err)
	r.Records = s.verify(acked + written)
	r.Positions = s.checkGroups()
	s.stopMilena()
	r.Took = time.Since(began)
	t.Logf("upgrade of %d brokers on each side: %d records and %d positions of groups are right, %.0f s", brokers, r.Records, r.Positions, r.Took.Seconds())
	return r
}

// restartBrokers restarts one broker after the other, and calls change, if it is not nil, while a broker is down.
func (s *scene) restartBrokers(c *kafka.Cluster, change func(*kafka.Broker) error) {
	s.t.Helper()
	ctx := s.t.Context()
	for _, b := range c.Brokers() {
		s.check(b.Stop(s.within(time.Minute, "the broker stops")))
		if change != nil {
			s.check(change(b))
		}
		s.check(b.Restart(ctx))
		s.check(c.WaitBrokers(ctx, len(c.Brokers())))
		s.check(c.Admin(func(admin *kadm.Client) error { return kafka.WaitWhole(ctx, admin, c.Name()) }))
	}
}

// waitIDs waits until a topic has an id.
func (s *scene) waitIDs(cl *kgo.Client, topic string) {
	s.t.Helper()
	s.until(30*time.Second, topic+" has an id", func() (bool, string) {
		topics, err := kadm.NewClient(cl).ListTopics(s.t.Context(), topic)
		return err == nil && topics[topic].ID != [16]byte{}, fmt.Sprint(topics[topic].ID, err)
	})
}
