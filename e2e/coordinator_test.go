package e2e_test

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/milena-kafka/milena/e2e/instances"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
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

// A cluster that never had a group is healthy: check has nothing to say about it. Where brokers can never create the topic of their groups, check
// and run name the broker's config, records are copied, and status does not say that all is well.
func TestTargetWithoutGroups(t *testing.T) {
	t.Parallel()
	const key = "set offsets.topic.replication.factor to at most 1"
	for _, tt := range []struct {
		name   string
		target kafka.Options
		broken bool
	}{
		{"none yet", kafka.Options{}, false},
		{"none ever", kafka.Options{Properties: map[string]string{"offsets.topic.replication.factor": "3"}}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := startPair(t, kafka.Options{}, tt.target)
			p.createTopic("orders", 1, 1)
			check(t, p.writer(load.Options{Topic: "orders", Partitions: 1}).Write(t.Context(), 100))
			code, output := p.runVerb(t, "check", p.config("orders"))
			if code != 0 || strings.Contains(output, "warning: ") != tt.broken || strings.Contains(output, key) != tt.broken {
				t.Errorf("check: exit code %d\n%s", code, output)
			}
			m := p.startMilena(p.config("orders"))
			p.waitAndVerify(m, 30*time.Second, 100, "orders")
			if tt.broken {
				s := m.waitSignals(30*time.Second, "status names the broker's config", func(s signals) bool { return strings.Contains(s.status, key) })
				if s.statusCode != 1 || strings.Contains(s.status, "no partition needs attention") || !strings.Contains(m.Output(), key) {
					t.Errorf("status: exit code %d\n%s", s.statusCode, s.status)
				}
			} else {
				m.waitSignals(30*time.Second, "all is well", func(s signals) bool { return s.isGood() && s.flow.Instance.State == "assigned" })
			}
			m.stop()
		})
	}
}
