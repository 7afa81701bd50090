package e2e_test

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/milena-kafka/milena/e2e/instances"
	"github.com/milena-kafka/milena/e2e/kafka"
)

// The broker that coordinates the group of the instances is killed. What the others lead should hardly notice.
func TestCoordinatorsBrokerIsKilled(t *testing.T) {
	target := delayedGroups()
	target.Brokers = 3
	p := startPair(t, kafka.Options{}, target)
	s := p.share("led", 60)
	s.startInstances(2)

	check(t, kafka.WaitWhole(t.Context(), p.targetAdmin, "target"))
	_, err := p.targetAdmin.ElectLeaders(t.Context(), kadm.ElectPreferredReplica, nil) // a slow start may have left all of them to one broker
	check(t, err)
	const group = "milena.source-target"
	found := p.targetAdmin.FindGroupCoordinators(t.Context(), group)
	check(t, found.Error())
	coordinator := found[group].NodeID
	topics, err := p.targetAdmin.ListTopics(t.Context(), remoteTopic(s.topic))
	check(t, err)
	began := time.Now()
	p.target.Broker(int(coordinator)).Kill()
	s.waitHeldOnce(2*time.Minute, s.list...)
	s.verifyShared(s.list...)
	var others, its instances.Standstill
	all, err := instances.Standstills(t.Context(), p.targetClient, remoteTopic(s.topic), s.partitions, 0)
	check(t, err)
	for _, one := range all {
		leader := topics[remoteTopic(s.topic)].Partitions[one.Partition].Leader
		longest := &others
		if leader == coordinator {
			longest = &its
		}
		if one.From.After(began.Add(-200*time.Millisecond)) && one.Took() > longest.Took() {
			*longest = one
		}
	}
	t.Logf("longest standstills: %.2f s of what it led, %.2f s, %.2f s after it was killed, of what others lead",
		its.Took().Seconds(), others.Took().Seconds(), others.From.Sub(began).Seconds())
	if others.Took() == 0 {
		t.Error("the other brokers led nothing")
	}
	if others.Took() > 20*time.Second {
		t.Errorf("the loss of the coordinator's broker delayed partition %d, which another broker leads, by %v", others.Partition, others.Took())
	}
	_, err = s.stream.Stop(t.Context())
	check(t, err)
	s.verifyShared(s.list...)
	for _, m := range s.list {
		m.stop()
	}
}
