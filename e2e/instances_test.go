package e2e_test

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/instances"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/verify"
)

// Three processes share a flow of 200 partitions, under random faults for a minute. The package e2e/long does that for longer.
func TestInstancesShareAFlow(t *testing.T) {
	jars := requireKafka(t)
	bin, err := buildMilena()
	check(t, err)
	report, err := instances.Run(t.Context(), instances.Options{
		Seed: seed(t), Instances: 3, Lasts: time.Minute, Binary: bin, Jars: jars, Dir: dir(t), Logf: t.Logf,
	})
	t.Logf("standstills:\n%s", report.Standstills)
	check(t, err)
	t.Logf("%d records after %v, %.0f s: none lost, none twice, none out of order", report.Records, report.Faults, report.Took.Seconds())
}

// shared is a flow of one topic that instances share. The timestamps of the copy are those at which the target appended.
type shared struct {
	*pair
	topic      string
	partitions int
	list       []*milena
	stream     *load.Stream
	settings   func() daemon.Map // of its flow; nil: those of the pair
}

const defaultShards = 64

// delayedGroups is a target that holds back the first join of an empty group, as brokers do by default.
func delayedGroups() kafka.Options {
	return kafka.Options{Properties: map[string]string{"group.initial.rebalance.delay.ms": "3000"}}
}

// share creates a topic and writes to it, five records a second to each partition.
func (p *pair) share(topic string, partitions int) *shared {
	p.t.Helper()
	p.createTopic(topic, partitions, 1, "message.timestamp.type=LogAppendTime")
	w := p.writer(load.Options{Topic: topic, Partitions: partitions, Shapes: []load.Shape{instances.Stamped(200)}})
	return &shared{pair: p, topic: topic, partitions: partitions, stream: w.Stream(p.t.Context(), 5*partitions)}
}

func (s *shared) flowConfig() daemon.Map {
	config := s.config(s.topic)
	if s.settings != nil {
		config = s.settings()
	}
	config["flows"].([]daemon.Map)[0]["configs_exclude"] = instances.ConfigsExclude()
	return config
}

// instance is a process of the flow, not started yet. Its directory is called name; its instance id is id.
func (s *shared) instance(name, id string) *milena {
	s.t.Helper()
	config := s.flowConfig()
	config["instance"] = id
	return s.newMilena(name, config)
}

// oneInstance is a process of the flow with instances: one, not started yet.
func (s *shared) oneInstance(name string) *milena {
	s.t.Helper()
	return s.newMilena(name, alone(s.flowConfig()))
}

// startInstances starts n instances and waits until they share the flow.
func (s *shared) startInstances(n int) {
	s.t.Helper()
	for i := range n {
		id := fmt.Sprintf("instance-%d", i)
		m := s.instance(id, id)
		m.start()
		s.list = append(s.list, m)
	}
	s.waitHeldOnce(time.Minute, s.list...)
}

// waitHeldOnce waits until these instances hold every shard once and are ready, and returns how long that took.
func (s *shared) waitHeldOnce(d time.Duration, list ...*milena) time.Duration {
	s.t.Helper()
	began := time.Now()
	check(s.t, instances.HeldOnce(within(s.t, d, "these instances hold all shards"), daemons(list), defaultShards))
	return time.Since(began)
}

// waitMember waits until an instance is a member of the group, which it is before the group has assigned shards to it.
func (s *shared) waitMember(d time.Duration, id string) {
	s.t.Helper()
	ctx := within(s.t, d, id+" joins the group")
	const group = "milena.source-target"
	for {
		described, err := kadm.NewClient(s.targetClient).DescribeGroups(ctx, group)
		check(s.t, err)
		if slices.ContainsFunc(described[group].Members, func(m kadm.DescribedGroupMember) bool { return m.InstanceID != nil && *m.InstanceID == id }) {
			return
		}
		check(s.t, context.Cause(ctx))
	}
}

func daemons(list []*milena) []*daemon.Daemon {
	var ds []*daemon.Daemon
	for _, m := range list {
		ds = append(ds, m.Daemon)
	}
	return ds
}

// verifyShared waits until these instances have copied what the source holds now, and verifies that. No process may have written to a partition after
// its successor.
func (s *shared) verifyShared(list ...*milena) {
	s.t.Helper()
	ctx := within(s.t, 2*time.Minute, "everything is copied")
	ends, err := verify.ReadEnds(ctx, s.sourceClient, s.topic)
	check(s.t, err)
	check(s.t, instances.Copied(ctx, s.sourceClient, daemons(list), s.topic))
	if n := s.runVerifier(verify.Options{Topics: []string{s.topic}, Name: remoteTopic, Until: map[string]verify.Ends{s.topic: ends}}); n == 0 {
		s.t.Error("no records are equal")
	}
	late, err := instances.Late(ctx, s.targetClient, remoteTopic(s.topic), s.partitions)
	check(s.t, err)
	for _, what := range late {
		s.t.Error(what)
	}
}

// longestStandstill is the longest one of all partitions that began since an instant.
func (s *shared) longestStandstill(since time.Time) instances.Standstill {
	s.t.Helper()
	all, err := instances.Standstills(s.t.Context(), s.targetClient, remoteTopic(s.topic), s.partitions, 0)
	check(s.t, err)
	return instances.Longest(all, since.Add(-200*time.Millisecond), time.Now())
}

func TestThreeInstances(t *testing.T) {
	outer := startPair(t, kafka.Options{}, delayedGroups())
	s := outer.share("shared", 200)
	s.startInstances(3)
	s.verifyShared(s.list...)          // the brokers have created what a flow needs
	in := func(t *testing.T) *shared { // failures belong to the sub-test, the instances do not
		sub := *s
		sub.pair = s.in(t)
		return &sub
	}

	t.Run("a planned restart of one after the other hardly delays a partition", func(t *testing.T) {
		s := in(t)
		for i, m := range s.list {
			began := time.Now()
			m.stop()
			rest := append(append([]*milena{}, s.list[:i]...), s.list[i+1:]...)
			left := s.waitHeldOnce(time.Minute, rest...)
			s.verifyShared(rest...)
			stop := s.longestStandstill(began)
			began = time.Now()
			m.start()
			back := s.waitHeldOnce(time.Minute, s.list...)
			s.verifyShared(s.list...)
			start := s.longestStandstill(began)
			t.Logf("instance %d: the others had its shards %.2f s after it had ended, it was back %.2f s after its start; longest standstills %.2f s and %.2f s",
				i, left.Seconds(), back.Seconds(), stop.Took().Seconds(), start.Took().Seconds())
			if longest := max(stop.Took(), start.Took()); longest > 5*time.Second {
				t.Errorf("a planned restart delayed a partition by %v", longest)
			}
		}
	})
	t.Run("one that is stopped while it joins hardly delays a partition", func(t *testing.T) {
		s := in(t)
		for i := range 3 {
			began := time.Now()
			id := fmt.Sprintf("late-%d", i)
			late := s.instance(id, id)
			late.start()
			s.waitMember(time.Minute, id)
			late.stop()
			s.waitHeldOnce(time.Minute, s.list...)
			s.verifyShared(s.list...)
			longest := s.longestStandstill(began)
			joined := strings.Contains(late.Output(), "the group has assigned shards to this instance")
			t.Logf("longest standstill %.2f s, of partition %d; the join was complete: %v", longest.Took().Seconds(), longest.Partition, joined)
			if longest.Took() > 5*time.Second {
				t.Errorf("it delayed a partition by %v", longest.Took())
			}
		}
	})
	t.Run("kill -9 of one delays its partitions by little more than the session", func(t *testing.T) {
		s := in(t)
		began := time.Now()
		s.list[1].Kill()
		rest := []*milena{s.list[0], s.list[2]}
		moved := s.waitHeldOnce(time.Minute, rest...)
		s.verifyShared(rest...)
		longest := s.longestStandstill(began)
		t.Logf("the others had its shards %.2f s after kill -9; longest standstill %.2f s, of partition %d", moved.Seconds(), longest.Took().Seconds(), longest.Partition)
		if longest.Took() > 8*time.Second {
			t.Errorf("kill -9 delayed a partition by %v", longest.Took())
		}
		s.list[1].start()
		s.waitHeldOnce(time.Minute, s.list...)
	})
	t.Run("a frozen one that wakes after the session writes nothing and joins again", func(t *testing.T) {
		s := in(t)
		began := time.Now()
		check(t, s.list[2].Pause())
		rest := []*milena{s.list[0], s.list[1]}
		s.waitHeldOnce(time.Minute, rest...)
		s.verifyShared(rest...) // its successors copy
		check(t, s.list[2].Resume())
		back := s.waitHeldOnce(time.Minute, s.list...)
		s.verifyShared(s.list...)
		t.Logf("back %.2f s after it woke; longest standstill %.2f s", back.Seconds(), s.longestStandstill(began).Took().Seconds())
	})

	_, err := s.stream.Stop(t.Context())
	check(t, err)
	s.verifyShared(s.list...)
	s.verify(remoteTopic, s.topic)
	for _, m := range s.list {
		m.stop()
	}
}

func TestInstanceRules(t *testing.T) {
	p := startPair(t, kafka.Options{}, delayedGroups())

	for _, topic := range []string{"fresh", "warm"} { // a fresh cluster creates its coordinators
		t.Run("alone on a "+topic+" cluster it copies at once", func(t *testing.T) {
			s := p.in(t).share(topic, 6)
			m := s.instance(topic, "only")
			m.start()
			s.waitHeldOnce(time.Minute, m)
			s.verifyShared(m)
			assigned := regexp.MustCompile(`the group has assigned shards to this instance.* shards=\d+ new=(\d+)`)
			eventually(t, time.Minute, "the group assigns shards", func() (bool, string) { return assigned.MatchString(m.Output()), m.Tail(3) })
			if waited := assigned.FindStringSubmatch(m.Output())[1]; waited != "0" {
				t.Errorf("it waited for the group with %s shards", waited)
			}
			m.stop()
		})
	}
	t.Run("of two with the same id the newer one goes on", func(t *testing.T) {
		s := p.in(t).share("twins", 20)
		first, second := s.instance("first", "twin"), s.instance("second", "twin")
		first.start()
		s.waitHeldOnce(time.Minute, first)
		second.start()
		first.waitExit(time.Minute, 1)
		s.waitHeldOnce(time.Minute, second)
		if !regexp.MustCompile(`another process.* has joined group .* with the instance id .*twin`).MatchString(first.Tail(1)) {
			t.Errorf("the first does not say last why it ends:\n%s", first.Tail(5))
		}
		s.verifyShared(second)
		t.Logf("the first said: %s", first.Tail(1))
		second.stop()
	})
	t.Run("one with instances: one does not start next to a group", func(t *testing.T) {
		s := p.in(t).share("refused", 20)
		m, one := s.instance("member", "member"), s.oneInstance("one")
		m.start()
		s.waitHeldOnce(time.Minute, m)
		one.start()
		one.waitExit(time.Minute, 1)
		if !regexp.MustCompile(`instances: one.*group milena\.`).MatchString(one.Tail(1)) {
			t.Errorf("it does not say why it ends:\n%s", one.Tail(5))
		}
		t.Logf("it said: %s", one.Tail(1))
		s.verifyShared(m)
		m.stop()
	})
	t.Run("a group takes over from one with instances: one", func(t *testing.T) {
		s := p.in(t).share("upgraded", 20)
		one, m := s.oneInstance("one"), s.instance("member", "member")
		one.start()
		one.waitReady(20 * time.Second)
		check(t, instances.Copied(within(t, time.Minute, "it copies"), s.sourceClient, daemons([]*milena{one}), s.topic))
		m.start()
		one.waitExit(time.Minute, 1)
		s.waitHeldOnce(time.Minute, m)
		if !takenOver.MatchString(one.Output()) {
			t.Errorf("it does not say that it was taken over:\n%s", one.Tail(5))
		}
		t.Logf("it said: %s", one.Tail(1))
		s.verifyShared(m)
		m.stop()
	})
}
